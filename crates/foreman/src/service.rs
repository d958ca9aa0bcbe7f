//! Runs a foreman: opens what it keeps, starts its tasks, serves its interface.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use flotilla_core::api::{RotationStatus, SiteState, SlotSettings};
use flotilla_core::deploy::Policy;
use flotilla_host::files::{FileError, make_directory};
use flotilla_host::git::Git;
use flotilla_host::tasks::Tasks;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

use crate::api::{self, Api};
use crate::auth::Doorman;
use crate::bundle::Bundles;
use crate::cron::{self, run_cron};
use crate::deploys::Deploys;
use crate::effects::{Balancer, Effects};
use crate::engine::Engine;
use crate::history;
use crate::maintenance::{self, Maintenance};
use crate::provision::{self, provision};
use crate::pushes::follow_branch;
use crate::repository::{Repository, RepositoryError};
use crate::secrets::rotate::{DatabaseAccount, Rotation, rotate_secrets};
use crate::secrets::{Secrets, Vault, routes};
use crate::settings::digest;
use crate::smart_http;
use crate::smoke::Smoke;
use crate::store::{Store, StoreError};
use crate::tidy::tidy_repository;
use crate::workshop;

/// Everything a foreman is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory it may fill.
    pub directory: PathBuf,
    /// Where its interface listens; loopback only, because it speaks without TLS.
    pub listen: SocketAddr,
    /// The secrets that it works with.
    pub secrets: Secrets,
    /// Where they lie.
    pub vault: Vault,
    /// Who sets the database's passwords; `None` when the database is not ours.
    pub database_account: Option<DatabaseAccount>,
    /// Where the balancer is controlled.
    pub balancer_control: SocketAddr,
    /// Where the balancer serves visitors.
    pub balancer: SocketAddr,
    /// The site's URL.
    pub site_url: String,
    /// The branch that is the site.
    pub branch: String,
    /// Whether a push is deployed.
    pub deploys_pushes: bool,
    /// The limits of deploys.
    pub policy: Policy,
    /// How many instances the configuration wants.
    pub instances: u16,
    /// How long a database upgrade may take.
    pub upgrade_timeout: Duration,
    /// What slots need besides the code.
    pub settings: SlotSettings,
    /// Where WordPress is installed and upgraded.
    pub maintenance: maintenance::Options,
    /// The workshop.
    pub workshop: workshop::Options,
    /// What runs scheduled work.
    pub cron: cron::Options,
    /// What a new site is made of.
    pub site: provision::Options,
}

/// Says why a foreman does not run.
#[derive(Debug, thiserror::Error)]
pub enum ForemanError {
    /// Its address would be open to other machines.
    #[error(
        "`foreman.listen` is `{0}`, which other machines can reach, but the interface has no TLS"
    )]
    OpenAddress(SocketAddr),
    /// Its address is taken.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file is in the way.
    #[error(transparent)]
    File(#[from] FileError),
    /// The repository cannot be used.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The HTTP client cannot be made.
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
    /// The interface broke.
    #[error("the interface broke")]
    Serve(#[source] std::io::Error),
}

/// The fact that holds the number of instances that was last taken from the configuration.
const INSTANCES_CONFIGURED: &str = "instances_configured";

/// Runs a foreman until it is told to stop.
///
/// # Errors
/// It cannot start, or its interface broke.
pub async fn run(options: Options, tasks: &Tasks) -> Result<(), ForemanError> {
    let listener = listen(options.listen).await?;
    make_directory(&options.directory)?;
    let store = Store::open(&options.directory.join("foreman.db"))?;
    let git_dir = options.directory.join("site.git");
    let repository = Arc::new(Repository::open(&git_dir).await?);
    let maintenance = Arc::new(Maintenance::open(options.maintenance.clone())?);
    keep_media(&options, tasks)?;
    let effects = effects(&options, &maintenance)?;
    let balancer = effects.balancer.clone();
    let engine = Engine::start(store.clone(), effects, options.policy, tasks).await?;
    take_size(&engine, &store, options.instances).await?;
    let settings_digest = digest(&options.settings);
    let deploys = Deploys {
        repository,
        store: store.clone(),
        engine: engine.clone(),
        branch: options.branch.clone(),
        settings: settings_digest.clone(),
        branch_moves: Arc::default(),
    };
    let (progress, site) = watch::channel(SiteState::Making { what: "Starting".to_owned() });
    let site_options = provision::Options { stopping: tasks.stopping(), ..options.site.clone() };
    let making = provision(site_options, deploys.clone(), maintenance, store.clone(), progress);
    spawn_until_stopped(tasks, "make_site", making);
    let tidying = tidy_repository(Git::new(&git_dir), engine.snapshots());
    spawn_until_stopped(tasks, "tidy_repository", tidying);
    // Nobody has looked yet.
    let (former_runner, has_former_runner) = watch::channel(true);
    let scheduled = run_cron(options.cron.clone(), engine.snapshots(), former_runner);
    spawn_until_stopped(tasks, "run_cron", scheduled);
    let pushed = Arc::new(Notify::new());
    if options.deploys_pushes {
        let following = follow_branch(deploys.clone(), store.clone(), Arc::clone(&pushed));
        spawn_until_stopped(tasks, "follow_branch", following);
    }
    let rotation = Rotation {
        vault: options.vault.clone(),
        at_start: Arc::new(options.secrets.clone()),
        account: options.database_account.clone(),
        deploys: deploys.clone(),
        store: store.clone(),
        balancer,
        drain_timeout: options.policy.drain_timeout,
        has_former_runner,
        nudge: Arc::default(),
        stopping: tasks.stopping(),
    };
    let (rotating, rotation_status) = watch::channel(RotationStatus::default());
    spawn_until_stopped(tasks, "rotate_secrets", rotate_secrets(rotation.clone(), rotating));
    let stopping = tasks.stopping();
    let others = smart_http::router(&git_dir, pushed)
        .merge(routes::router(rotation, rotation_status))
        .merge(keep_workshop(&options, &deploys, tasks))
        .merge(history::router(store.clone(), deploys.clone()));
    let api = Api {
        engine,
        deploys,
        doorman: Doorman::new(&options.secrets.operator_token, store.clone()),
        store,
        bundles: Arc::new(Bundles::new(&git_dir, &options.directory.join("bundles"))),
        settings_digest,
        settings: Arc::new(options.settings),
        site_url: options.site_url,
        site,
    };
    axum::serve(listener, api::router(api, others))
        .with_graceful_shutdown(async move { stopping.cancelled().await })
        .await
        .map_err(ForemanError::Serve)
}

/// Keeps the workshop; returns the routes that tell of what is captured there.
fn keep_workshop(options: &Options, deploys: &Deploys, tasks: &Tasks) -> Router {
    let (handle, wishes) = workshop::handle();
    let store = deploys.store.clone();
    let routes = workshop::routes::router(store.clone(), handle);
    let (own, settings) = (options.workshop.clone(), options.settings.clone());
    let work = workshop::run(own, settings, deploys.clone(), store, wishes, tasks.stopping());
    tasks.spawn("keep_workshop", work);
    routes
}

/// Sees to it that the workshop and scheduled work have the site's media.
fn keep_media(options: &Options, tasks: &Tasks) -> Result<(), FileError> {
    let media = &options.maintenance.place.media;
    media.configure(options.settings.media.as_ref())?;
    tasks.spawn("keep_media", media.clone().keep(tasks.stopping()));
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ForemanError> {
    if !address.ip().is_loopback() {
        return Err(ForemanError::OpenAddress(address));
    }
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| ForemanError::Listen { address, source })?;
    tracing::info!(%address, "The foreman listens");
    Ok(listener)
}

fn effects(options: &Options, maintenance: &Arc<Maintenance>) -> Result<Effects, ForemanError> {
    let client = flotilla_host::http::client_builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(ForemanError::Client)?;
    let settings = &options.settings;
    Ok(Effects {
        balancer: Balancer {
            control: options.balancer_control,
            token: options.secrets.balancer_token.clone(),
            client: client.clone(),
        },
        maintenance: Arc::clone(maintenance),
        smoke: Smoke {
            balancer: options.balancer,
            site_host: settings.site_host.clone(),
            site_scheme: settings.site_scheme.clone(),
            paths: settings.smoke.clone(),
            timeout: Duration::from_millis(settings.smoke_timeout_millis),
            client,
        },
        upgrade_timeout: options.upgrade_timeout,
    })
}

/// Takes the number of instances from the configuration when it was changed there; otherwise what
/// `flotilla scale` set stays.
async fn take_size(engine: &Engine, store: &Store, wanted: u16) -> Result<(), ForemanError> {
    let wanted_text = wanted.to_string();
    if store.fact(INSTANCES_CONFIGURED).await?.as_ref() == Some(&wanted_text) {
        return Ok(());
    }
    if engine.resize(wanted).await.is_ok() {
        store.set_fact(INSTANCES_CONFIGURED, wanted_text).await?;
    }
    Ok(())
}

fn spawn_until_stopped(
    tasks: &Tasks,
    name: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
) {
    let stopping = tasks.stopping();
    tasks.spawn(name, async move {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = work => {}
        }
    });
}
