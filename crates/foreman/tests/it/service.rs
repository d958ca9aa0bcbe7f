//! A whole foreman with its interface, store and repository, beside a balancer that only tells.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use flotilla_core::api::{
    BUNDLES_PATH, DEPLOYS_PATH, DeployRecord, JOIN_TOKENS_PATH, JoinReply, JoinTokenRequest,
    SETTINGS_PATH, STATUS_PATH, Status,
};
use flotilla_core::config::{CaptureMode, Config, DatabaseTls, Source as Origin};
use flotilla_core::deploy::{Outcome, Policy};
use flotilla_core::id::{InstanceName, Revision, Token};
use flotilla_core::slot::SlotName;
use flotilla_core::table::{
    BalancerStatus, STATUS_PATH as BALANCER_STATUS_PATH, TABLE_PATH, Table, Upstream,
};
use flotilla_foreman::repository::Repository;
use flotilla_foreman::secrets::{Secrets, Vault};
use flotilla_foreman::service::{Options, run};
use flotilla_foreman::settings::{DatabaseLogin, Place, Stores, slot_settings};
use flotilla_foreman::{cron, maintenance, place, provision, workshop};
use flotilla_host::media::Media;
use flotilla_host::tasks::Tasks;
use reqwest::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::support::{write, write_wordpress};

const OPERATOR: &str = "operator-token";
const LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// A foreman whose balancer follows `table`; `None` while it does not answer.
struct Site {
    directory: tempfile::TempDir,
    repository: Repository,
    table: Arc<Mutex<Option<Table>>>,
    foreman: SocketAddr,
    client: reqwest::Client,
    tasks: Tasks,
}

type Shared = Arc<Mutex<Option<Table>>>;

fn status_of(table: &Shared) -> Result<Json<BalancerStatus>, StatusCode> {
    let table = table.lock().unwrap().clone().ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(Json(BalancerStatus { version: table.version, ..BalancerStatus::default() }))
}

async fn serve_balancer(table: Shared, tasks: &Tasks) -> SocketAddr {
    let take = |State(table): State<Shared>, Json(new): Json<Table>| async move {
        {
            let mut held = table.lock().unwrap();
            if held.as_ref().is_some_and(|held| new.version > held.version) {
                *held = Some(new);
            }
        }
        status_of(&table)
    };
    let show = |State(table): State<Shared>| async move {
        table.lock().unwrap().clone().map(Json).ok_or(StatusCode::SERVICE_UNAVAILABLE)
    };
    let app = Router::new()
        .route(
            BALANCER_STATUS_PATH,
            get(|State(table): State<Shared>| async move { status_of(&table) }),
        )
        .route(TABLE_PATH, get(show).put(take))
        .with_state(table);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stopping = tasks.stopping();
    tasks.spawn("balancer", async move {
        let stop = async move { stopping.cancelled().await };
        axum::serve(listener, app).with_graceful_shutdown(stop).await.unwrap();
    });
    address
}

fn vault(directory: &Path) -> (Vault, Secrets) {
    let vault = Vault {
        sealed: directory.join("secrets.sealed"),
        key: directory.join("secrets.key"),
        plain: directory.join("secrets.json"),
    };
    let mut secrets = vault.load_or_make().unwrap();
    secrets.operator_token = Token::new(OPERATOR.to_owned());
    vault.store(&secrets).unwrap();
    (vault, secrets)
}

fn login() -> DatabaseLogin {
    DatabaseLogin {
        host: "127.0.0.1".to_owned(),
        port: 1,
        name: "site".to_owned(),
        user: "site".to_owned(),
        password: Token::new("secret".to_owned()),
        tls: DatabaseTls::Off,
        certificates: String::new(),
    }
}

fn site_options(directory: &Path, own: &Path, url: &str) -> provision::Options {
    provision::Options {
        source: Origin::Directory(directory.join("wordpress")).into(),
        plugins: Vec::new(),
        scratch: own.join("source"),
        install: maintenance::Install {
            title: "Shop".to_owned(),
            user: "admin".to_owned(),
            email: "admin@example.com".to_owned(),
            password: "secret".to_owned(),
            url: url.to_owned(),
            locale: "en_US".to_owned(),
            timezone: "UTC".to_owned(),
            plugins: Vec::new(),
        },
        directory: own.to_owned(),
        table_prefix: "wp_".to_owned(),
        stopping: tokio_util::sync::CancellationToken::new(),
    }
}

fn options(directory: &Path, foreman: SocketAddr, balancer: SocketAddr) -> Options {
    let config = Config::default();
    let (vault, secrets) = vault(directory);
    let url = "http://localhost".to_owned();
    let settings = slot_settings(
        &config,
        &url,
        &login(),
        &secrets,
        &flotilla_core::constants::Constants::new(),
        Place { stores: &Stores::default(), php_user: "nobody" },
    )
    .unwrap();
    let own = directory.join("foreman");
    let place = place::Place {
        directory: own.join("maintenance"),
        media: Media::Directory(directory.join("media")),
        php: "/usr/bin/php".into(),
        php_user: None,
        is_writable: false,
    };
    // No PHP runs in these tests: what would start it ends well and does nothing.
    let own_program = Path::new("/bin/true").to_owned();
    let maintenance = maintenance::Options {
        place: place.clone(),
        git_dir: own.join("site.git"),
        own_program,
        wp_config: settings.wp_config.clone(),
        certificates: String::new(),
    };
    Options {
        listen: foreman,
        secrets,
        vault,
        database_account: None,
        balancer_control: balancer,
        balancer,
        branch: "main".to_owned(),
        deploys_pushes: true,
        policy: Policy::default(),
        instances: 1,
        upgrade_timeout: Duration::from_secs(5),
        cron: cron::Options {
            work: maintenance::Options {
                place: place::Place { directory: own.join("cron"), ..place.clone() },
                ..maintenance.clone()
            },
            log: directory.join("cron.log"),
            interval: Duration::from_secs(3_600),
            runners_max: 1,
            run_limit: Duration::from_secs(5),
        },
        maintenance,
        workshop: workshop::Options {
            place: place::Place { directory: own.join("workshop"), ..place },
            git_dir: own.join("site.git"),
            address: balancer,
            trusted: Vec::new(),
            own_program: "/bin/true".into(),
            nginx: "/bin/true".into(),
            php_fpm: "/bin/true".into(),
            php_user: "nobody".to_owned(),
            php_group: "nogroup".to_owned(),
            mode: CaptureMode::Off,
            settle: Duration::from_secs(1),
        },
        site: site_options(directory, &own, &url),
        directory: own,
        settings,
        site_url: url,
    }
}

impl Site {
    /// Starts a foreman whose store is new and whose repository has a site already.
    async fn start(table: Option<Table>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let wordpress = directory.path().join("wordpress");
        write_wordpress(&wordpress, "6.1.9");
        std::fs::create_dir_all(directory.path().join("foreman")).unwrap();
        let repository = Repository::open(directory.path().join("foreman/site.git")).await.unwrap();
        repository.import(&wordpress, "main", "Import").await.unwrap();
        let table = Arc::new(Mutex::new(table));
        let tasks = Tasks::new();
        let balancer = serve_balancer(Arc::clone(&table), &tasks).await;
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let foreman = port.local_addr().unwrap();
        drop(port);
        let options = options(directory.path(), foreman, balancer);
        let owner = tasks.clone();
        tasks.spawn("foreman", async move { run(options, &owner).await.unwrap() });
        let client = flotilla_host::http::client_builder().no_proxy().build().unwrap();
        Self { directory, repository, table, foreman, client, tasks }
    }

    async fn get(&self, path: &str, token: &str) -> reqwest::Result<reqwest::Response> {
        let url = format!("http://{}{path}", self.foreman);
        self.client.get(url).bearer_auth(token).send().await
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        self.get(path, OPERATOR).await.ok()?.json().await.ok()
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, token: &str, body: &impl Serialize) -> T {
        let url = format!("http://{}{path}", self.foreman);
        let request = self.client.post(url).bearer_auth(token).json(body);
        request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
    }

    /// Waits for something that the foreman tells.
    async fn when<T: DeserializeOwned>(&self, path: &str, is_it: impl Fn(&T) -> bool) -> T {
        let asked = tokio::time::timeout(LIMIT, async {
            loop {
                match self.read::<T>(path).await {
                    Some(told) if is_it(&told) => return told,
                    _ => tokio::time::sleep(POLL).await,
                }
            }
        });
        asked.await.unwrap()
    }

    async fn stop(self) {
        assert!(self.tasks.shut_down(LIMIT).await);
    }
}

fn table(revision: &Revision) -> Table {
    let upstream = Upstream {
        instance: InstanceName::numbered(1),
        slot: SlotName::Green,
        address: ([127, 0, 0, 1], 1).into(),
        workers_max: 1,
    };
    Table { version: 7, revision: Some(revision.clone()), upstreams: vec![upstream], hold: None }
}

#[tokio::test]
async fn a_join_token_reads_no_code() {
    let site = Site::start(Some(Table::default())).await;
    site.when(STATUS_PATH, |_: &Status| true).await;
    let tip = site.repository.resolve("main").await.unwrap();
    let instance = InstanceName::numbered(1);
    let request = JoinTokenRequest { instance };
    let reply: JoinReply = site.post(JOIN_TOKENS_PATH, OPERATOR, &request).await;
    let joiner = reply.token.reveal();
    let bundle = format!("{BUNDLES_PATH}/{tip}");
    let git = "/git/site.git/info/refs?service=git-upload-pack".to_owned();
    for path in [&bundle, &git, STATUS_PATH, DEPLOYS_PATH, SETTINGS_PATH] {
        let status = site.get(path, joiner).await.unwrap().status();
        assert!(
            status == StatusCode::CONFLICT || status == StatusCode::FORBIDDEN,
            "{path}: {status}"
        );
    }
    assert_eq!(site.get(&bundle, OPERATOR).await.unwrap().status(), StatusCode::OK);
    site.stop().await;
}

#[tokio::test]
async fn a_foreman_that_has_lost_its_store_deploys_nothing_unasked() {
    let site = Site::start(None).await;
    let serving = site.repository.resolve("main").await.unwrap();
    let code = site.directory.path().join("wordpress");
    write(&code, "index.php", "<?php // pushed, not deployed yet\n");
    let tip = site.repository.import(&code, "main", "Not yet").await.unwrap();
    site.when(STATUS_PATH, |_: &Status| true).await;
    *site.table.lock().unwrap() = Some(table(&serving));
    let made = |status: &Status| status.site == flotilla_core::api::SiteState::Made;
    let status = site.when(STATUS_PATH, made).await;
    assert_eq!(status.release.map(|release| release.revision), Some(serving));
    assert_eq!(status.deploy, None, "{tip} is not deployed");
    let deploys: Vec<DeployRecord> = site.read(DEPLOYS_PATH).await.unwrap();
    assert_eq!(deploys, []);

    write(&code, "index.php", "<?php // pushed after the loss\n");
    let pushed = site.repository.import(&code, "main", "After").await.unwrap();
    let begun = |deploys: &Vec<DeployRecord>| !deploys.is_empty();
    let deploys = site.when(DEPLOYS_PATH, begun).await;
    assert_eq!(deploys[0].release.revision, pushed, "later pushes are deployed");
    site.stop().await;
}

#[tokio::test]
async fn a_push_that_is_refused_is_in_the_history_with_the_reason() {
    let site = Site::start(None).await;
    let serving = site.repository.resolve("main").await.unwrap();
    *site.table.lock().unwrap() = Some(table(&serving));
    let made = |status: &Status| status.site == flotilla_core::api::SiteState::Made;
    site.when(STATUS_PATH, made).await;
    let poem = site.directory.path().join("poem");
    write(&poem, "poem.txt", "no WordPress\n");
    let pushed = site.repository.import(&poem, "main", "A poem").await.unwrap();
    let ended = |deploys: &Vec<DeployRecord>| deploys.iter().any(|one| one.outcome.is_some());
    let deploys = site.when(DEPLOYS_PATH, ended).await;
    let [record] = deploys.as_slice() else { panic!("{deploys:?}") };
    assert_eq!((&record.release.revision, record.subject.as_str()), (&pushed, "A poem"));
    let Some(Outcome::Failed { reason }) = &record.outcome else { panic!("{record:?}") };
    assert!(reason.contains("is no WordPress"), "{reason}");
    site.stop().await;
}
