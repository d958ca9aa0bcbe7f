//! Promises of the database: made once and whole, durable, for the site's account only.

use std::fs;
use std::time::Duration;

use flotilla_core::id::Token;
use flotilla_host::command::Command;
use flotilla_host::unit::Unit;
use flotilla_targets::local::database::{Account, Database, DatabaseOptions};
use flotilla_targets::local::packages::Machine;
use flotilla_targets::local::ports::{self, Ports};
use nix::sys::signal::{Signal, kill};

use crate::bench::{Bench, Owner, eventually};

const LIMIT: Duration = Duration::from_secs(50);

fn database(bench: &Bench, ports: &mut Ports) -> (Database, u16) {
    let port = ports.free_port(ports::DATABASE).unwrap();
    let options =
        DatabaseOptions { port, buffer_pool_bytes: 16 * 1024 * 1024, connections_max: 20 };
    (Database::find(&Machine::this(), &bench.services, options).unwrap(), port)
}

fn account(password: &str) -> Account {
    Account {
        database: "my_site".to_owned(),
        user: "site".to_owned(),
        passwords: vec![Token::new(password.to_owned())],
    }
}

/// Speaks to the server as WordPress does: over the port, with the password.
async fn ask(port: u16, password: &str, statement: &str) -> Result<String, String> {
    Command::new("mariadb")
        .args(["--no-defaults", "--host=127.0.0.1", "--user=site", "--skip-column-names"])
        .arg(format!("--port={port}"))
        .env("MYSQL_PWD", password)
        .arg(format!("--execute={statement}"))
        .run()
        .await
        .map(|output| String::from_utf8(output.stdout).unwrap().trim().to_owned())
        .map_err(|error| error.to_string())
}

async fn kill_it(unit: &Unit) {
    kill(unit.holder().unwrap().unwrap(), Signal::SIGKILL).unwrap();
    eventually("its end", || unit.holder().unwrap().is_none().then_some(())).await;
}

#[tokio::test]
async fn what_was_stored_survives_a_kill_however_long_the_path_is() {
    let long = "a-very-long-name/".repeat(10);
    let bench = Bench::with_data_dir(Owner::Ourselves, &long);
    let mut ports = Ports::claim(&bench.layout, false).unwrap();
    let (database, port) = database(&bench, &mut ports);
    database.install().await.unwrap();
    let unit = database.unit();
    unit.start().await.unwrap();
    database.wait_ready(LIMIT).await.unwrap();
    let awkward = r"it's \ a 'secret'";
    database.ensure_account(&account(awkward)).await.unwrap();
    database.ensure_account(&account(awkward)).await.unwrap();
    let statement = "CREATE TABLE my_site.t (x TEXT); INSERT INTO my_site.t VALUES ('kept')";
    ask(port, awkward, statement).await.unwrap();

    kill_it(&unit).await;
    database.install().await.unwrap();
    unit.start().await.unwrap();
    database.wait_ready(LIMIT).await.unwrap();
    assert_eq!(ask(port, awkward, "SELECT x FROM my_site.t").await.unwrap(), "kept");

    database.ensure_account(&account("another")).await.unwrap();
    assert!(ask(port, awkward, "SELECT 1").await.is_err(), "the old password is void");
    assert_eq!(ask(port, "another", "SELECT @@max_connections").await.unwrap(), "20");
    assert!(ask(port, "another", "SELECT * FROM mysql.user").await.is_err());
    let mut both = account("third");
    both.passwords.push(Token::new("another".to_owned()));
    database.ensure_account(&both).await.unwrap();
    for password in ["third", "another"] {
        ask(port, password, "SELECT 1").await.unwrap();
    }
    database.ensure_account(&account("third")).await.unwrap();
    assert!(ask(port, "another", "SELECT 1").await.is_err(), "the former password is void");
    assert!(unit.stop().await.unwrap());
    let log = fs::read_to_string(&unit.launch.log).unwrap();
    assert!(log.contains("Shutdown complete"), "{log}");
    assert!(!log.contains("[ERROR]"), "{log}");
}

#[tokio::test]
async fn a_making_that_was_killed_is_done_again() {
    let bench = Bench::new(Owner::Ourselves);
    let mut ports = Ports::claim(&bench.layout, false).unwrap();
    let (database, _) = database(&bench, &mut ports);
    let directory = bench.layout.database();
    {
        let mut making = std::pin::pin!(database.install());
        let begun = directory.join("data.unfinished/ibdata1");
        let begun = eventually("files", || begun.exists().then_some(()));
        tokio::select! {
            outcome = &mut making => panic!("made too soon: {outcome:?}"),
            () = begun => {}
        }
        // Whoever waited for it is gone, and so is the installer; the server it started goes on.
    }
    let lock = bench.layout.lock("database-installation");
    let installer = flotilla_host::lock::lock_holder(&lock).unwrap().unwrap();
    kill(nix::unistd::Pid::from_raw(installer), Signal::SIGKILL).unwrap();
    assert!(!directory.join("data").exists());

    database.install().await.unwrap();
    assert!(directory.join("data/mysql").is_dir());
    assert!(!directory.join("data.unfinished").exists());
    database.unit().start().await.unwrap();
    database.wait_ready(LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_database_that_does_not_run_is_not_waited_for_in_vain() {
    let bench = Bench::new(Owner::Ourselves);
    let mut ports = Ports::claim(&bench.layout, false).unwrap();
    let (database, _) = database(&bench, &mut ports);
    let error = database.wait_ready(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error.to_string(), "the database does not answer");
}
