//! The database goes away and comes back, is somebody else's, is dumped and restored.

use std::path::Path;
use std::time::Duration;

use flotilla_core::id::Token;
use flotilla_host::command::Command;
use flotilla_host::unit::Unit;
use flotilla_targets::local::database::{Account, Database, DatabaseOptions};
use flotilla_targets::local::layout::Layout;
use flotilla_targets::local::packages::Machine;
use flotilla_targets::local::ports::{self, Ports};
use flotilla_targets::local::services::Services;
use flotilla_testkit::exchange::{Kind, failed, tally};
use flotilla_testkit::fleet::{Fleet, Settings};
use flotilla_testkit::load::{Load, Plan};
use flotilla_testkit::orders;
use flotilla_testkit::parts::Part;
use flotilla_testkit::program::program;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(60);
const ORDERS: &str = "/wp-json/flotilla-shop/v1/orders";

#[tokio::test]
async fn pages_wait_while_the_database_restarts_and_dumps_come_back() {
    let settings = Settings::new("database").instances(2).set("database", "retry_timeout", "'25s'");
    let fleet = Fleet::start(settings).await.unwrap();

    let plan = Plan { viewers: 4, buyers: 1, ..Plan::default() };
    let load = Load::start(&fleet, "restart", &plan).unwrap();
    load.more(20).await.unwrap();
    let signals = [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGKILL];
    for signal in signals {
        fleet.signal(Part::Database, signal).unwrap();
        load.more(40).await.unwrap();
    }
    let exchanges = load.end().await;
    println!("{:?}", tally(&exchanges));
    let (orders, pages): (Vec<_>, Vec<_>) =
        exchanges.iter().cloned().partition(|one| one.kind == Kind::Order);
    let failures = failed(&pages);
    assert!(failures.is_empty(), "{} pages failed, such as {:?}", failures.len(), failures.first());
    // An order whose answer the server took with it may have been placed: it is told, not repeated.
    assert!(failed(&orders).len() <= signals.len(), "{:?}", failed(&orders));
    orders::check(&fleet, &exchanges).await.unwrap();

    a_dump_takes_the_site_back_at_one_instant(&fleet).await;
}

async fn order(fleet: &Fleet, reference: &str) {
    let address = fleet.address().unwrap();
    let request = fleet.visit(address, Method::POST, ORDERS).unwrap();
    let order = json!({"reference": reference, "item": "mug", "quantity": 1});
    request.json(&order).send().await.unwrap().error_for_status().unwrap();
}

async fn has_order(fleet: &Fleet, reference: &str) -> bool {
    orders::list(fleet, fleet.address().unwrap()).await.unwrap().contains_key(reference)
}

async fn a_dump_takes_the_site_back_at_one_instant(fleet: &Fleet) {
    order(fleet, "before-the-dump").await;
    let file = fleet.path().join("shop.sql");
    let name = file.to_string_lossy().into_owned();
    fleet.run(&["db", "dump", &name]).await.unwrap().ok().unwrap();
    let piped = fleet.run(&["db", "dump"]).await.unwrap().ok().unwrap();
    assert!(piped.stdout.contains("CREATE TABLE `wp_posts`"), "{}", piped.stderr);
    order(fleet, "after-the-dump").await;

    what_is_no_whole_dump_is_refused(fleet, &file).await;
    assert!(has_order(fleet, "after-the-dump").await, "nothing may have changed");

    let load = Load::start(fleet, "restore", &Plan { buyers: 0, ..Plan::default() }).unwrap();
    load.more(20).await.unwrap();
    let ran = fleet.run(&["db", "restore", &name, "--yes", "--json"]).await.unwrap();
    let restored = ran.ok().unwrap().json().unwrap();
    load.more(20).await.unwrap();
    let exchanges = load.end().await;
    let failures = failed(&exchanges);
    assert!(failures.is_empty(), "{} pages failed, such as {:?}", failures.len(), failures.first());
    assert!(has_order(fleet, "before-the-dump").await);
    assert!(!has_order(fleet, "after-the-dump").await);
    assert!(restored["tables"].as_u64().unwrap() >= 12, "{restored}");
    // Once more, so that what an earlier restore has left is in nobody's way.
    fleet.run(&["db", "restore", &name, "--yes"]).await.unwrap().ok().unwrap();
    assert!(has_order(fleet, "before-the-dump").await);
}

async fn what_is_no_whole_dump_is_refused(fleet: &Fleet, file: &Path) {
    let text = std::fs::read_to_string(file).unwrap();
    let broken = fleet.path().join("broken.sql");
    std::fs::write(&broken, &text[..text.len() / 2]).unwrap();
    let broken = broken.to_string_lossy().into_owned();
    let ran = fleet.run(&["db", "restore", &broken, "--yes"]).await.unwrap();
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    assert!(ran.stderr.contains("broke off"), "{}", ran.stderr);
    let whole = file.to_string_lossy().into_owned();
    let ran = fleet.run(&["db", "restore", &whole]).await.unwrap();
    assert_eq!(ran.code, Some(4), "it asks first: {}", ran.stderr);
}

/// A server that is not the fleet's, and takes encrypted connections only.
struct Server {
    unit: Unit,
    directory: tempfile::TempDir,
    port: u16,
    socket: std::path::PathBuf,
}

impl Server {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(&directory.path().join("server")).unwrap();
        layout.make().unwrap();
        let services = Services {
            layout: layout.clone(),
            own_program: program().unwrap(),
            timezone: "UTC".to_owned(),
            env: Vec::new(),
        };
        let mut claimed = Ports::claim(&layout, false).unwrap();
        let port = claimed.free_port(ports::DATABASE).unwrap();
        let options = DatabaseOptions { port, buffer_pool_bytes: 32 << 20, connections_max: 60 };
        let database = Database::find(&Machine::this(), &services, options).unwrap();
        database.install().await.unwrap();
        certify(&layout.database()).await;
        let unit = database.unit();
        unit.start().await.unwrap();
        database.wait_ready(LIMIT).await.unwrap();
        let account = Account {
            database: "shop".to_owned(),
            user: "shop".to_owned(),
            passwords: vec![Token::new("a%b\"c\\d".to_owned())],
        };
        database.ensure_account(&account).await.unwrap();
        let socket = layout.database().join("data/mariadb.sock");
        Self { unit, directory, port, socket }
    }

    fn authority(&self) -> std::path::PathBuf {
        self.directory.path().join("server/database/authority.pem")
    }

    async fn administer(&self, statement: &str) {
        Command::new("mariadb")
            .args(["--no-defaults", "--socket=mariadb.sock", "--protocol=socket"])
            .arg(format!("--execute={statement}"))
            .directory(self.socket.parent().unwrap())
            .run()
            .await
            .unwrap();
    }
}

/// Makes an authority and a certificate for 127.0.0.1, and lets the server use it.
async fn certify(directory: &Path) {
    let script = "
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority \
            -keyout authority.key -out authority.pem
        openssl req -newkey rsa:2048 -nodes -subj /CN=database -keyout server.key -out server.csr
        echo subjectAltName=IP:127.0.0.1 > extensions
        openssl x509 -req -in server.csr -days 2 -CA authority.pem -CAkey authority.key \
            -CAcreateserial -extfile extensions -out server.pem
        chmod 644 authority.pem server.key server.pem
        printf 'require_secure_transport = ON\\nssl-cert = ../server.pem\\nssl-key = ../server.key\\n' \
            >> mariadb.cnf
    ";
    Command::new("sh").args(["-ec", script]).directory(directory).run().await.unwrap();
}

#[tokio::test]
async fn a_database_of_ones_own_is_reached_through_tls() {
    let server = Server::start().await;
    let url = format!("'mysql://shop:a%25b%22c%5Cd@127.0.0.1:{}/shop'", server.port);
    let ca = server.authority();
    let settings = Settings::new("tls")
        .instances(1)
        .set("php", "workers", 2)
        .set("database", "url", url)
        .set("database", "tls", "'verify'")
        .set("database", "tls_ca", format!("'{}'", ca.display()));
    let fleet = Fleet::start(settings).await.unwrap();
    order(&fleet, "over-tls").await;
    assert!(has_order(&fleet, "over-tls").await);
    let dumped = fleet.run(&["db", "dump"]).await.unwrap().ok().unwrap();
    assert!(dumped.stdout.contains("over-tls"));
    let ran = fleet.run(&["secrets", "rotate", "database"]).await.unwrap();
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    assert!(ran.stderr.contains("not flotilla's to change"), "{}", ran.stderr);

    server.administer("SET GLOBAL max_connections = 15").await;
    let ran = fleet.run(&["scale", "3"]).await.unwrap();
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    assert!(ran.stderr.contains("need") || ran.stderr.contains("gives 15"), "{}", ran.stderr);
    server.administer("SET GLOBAL max_connections = 60").await;

    a_stranger_in_the_servers_place_gets_nothing(&fleet).await;
    drop(fleet);
    server.unit.stop().await.unwrap();
}

/// Another authority than the one that signed: the password must not be sent.
async fn a_stranger_in_the_servers_place_gets_nothing(fleet: &Fleet) {
    let other = fleet.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("mariadb.cnf"), "").unwrap();
    certify(&other).await;
    let file = fleet.path().join("flotilla.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let line = text.lines().find(|line| line.starts_with("tls_ca")).unwrap();
    let wrong = text.replace(line, "tls_ca = './other/authority.pem'");
    std::fs::write(&file, wrong).unwrap();
    let ran = fleet.run(&["db", "dump"]).await.unwrap();
    assert_eq!(ran.code, Some(5), "{}", ran.stderr);
    assert!(ran.stderr.to_lowercase().contains("certificate"), "{}", ran.stderr);
    std::fs::write(&file, text).unwrap();
}
