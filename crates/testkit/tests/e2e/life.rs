//! The life of a site: made from nothing, stopped, started, kept apart from others, removed.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use flotilla_testkit::admin::Admin;
use flotilla_testkit::fleet::{Fleet, Settings};
use flotilla_testkit::load::{Load, Plan};
use flotilla_testkit::orders;
use flotilla_testkit::program::Shell;
use flotilla_testkit::wordpress::{Version, keep};
use nix::unistd::{Uid, User};
use serde_json::Value;

use crate::assert_unnoticed;

const ORDINARY: &str = "nobody";

/// Returns whether WordPress lets somebody in.
async fn lets_in(fleet: &Fleet, user: &Value, password: &Value) -> bool {
    Admin::log_in(fleet, user, password).await.unwrap().is_some()
}

#[tokio::test]
async fn a_site_made_from_nothing_lives_until_it_is_destroyed() {
    let settings = Settings::new("life").instances(1).source("debian");
    let fleet = Fleet::prepare(settings).await.unwrap();
    let login = fleet.up().await.unwrap();
    let subject = fleet.status().await.unwrap().subject.unwrap();
    assert!(subject.starts_with("Import WordPress ") && subject.contains("Debian"), "{subject}");
    keep(&fleet.layout().foreman().join("source/unpacked"), Version::Stable).unwrap();
    assert!(lets_in(&fleet, &login["admin_user"], &login["admin_password"]).await);
    assert!(!lets_in(&fleet, &login["admin_user"], &Value::from("guess")).await);

    // Another fleet of the machine, with visitors of its own.
    let other = Fleet::start(Settings::new("beside").instances(2)).await.unwrap();
    assert_ne!(fleet.address().unwrap(), other.address().unwrap());
    let load = Load::start(&other, "beside", &Plan::default()).unwrap();
    load.more(20).await.unwrap();

    fleet.run(&["down"]).await.unwrap().ok().unwrap();
    assert_eq!(fleet.processes(), [], "`flotilla down` left processes");
    let again = fleet.up().await.unwrap();
    assert_eq!(again, login, "`flotilla up` brought another site");
    assert!(lets_in(&fleet, &login["admin_user"], &login["admin_password"]).await);
    destroy_asks_first(&fleet).await;

    load.more(20).await.unwrap();
    let exchanges = load.end().await;
    assert_unnoticed(&exchanges, &["1".to_owned()]);
    other.run(&["down"]).await.unwrap().ok().unwrap();
    other.up().await.unwrap();
    assert!(orders::check(&other, &exchanges).await.unwrap() > 0);
}

async fn destroy_asks_first(fleet: &Fleet) {
    let ran = fleet.run(&["destroy"]).await.unwrap();
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("nothing was removed") && ran.stderr.contains("--yes"),
        "{}",
        ran.stderr
    );
    fleet.whole(1).await.unwrap();
    fleet.run(&["destroy", "--yes"]).await.unwrap().ok().unwrap();
    assert!(!fleet.layout().data_dir().exists());
    assert_eq!(fleet.processes(), [], "`flotilla destroy` left processes");
    assert!(fleet.path().join("flotilla.toml").exists(), "what the person wrote stays");
}

#[tokio::test]
async fn an_ordinary_user_runs_a_fleet() {
    if !Uid::effective().is_root() {
        // Then all other tests of this program show it.
        return;
    }
    let unshare =
        Shell { program: "unshare".into(), directory: "/".into(), user: Some(ORDINARY.to_owned()) };
    let limit = Duration::from_secs(10);
    let is_allowed =
        unshare.run(limit, &["--user", "--map-root-user", "--mount", "--pid", "--fork", "true"]);
    if is_allowed.await.unwrap().code != Some(0) {
        println!("this kernel lets no ordinary user make namespaces");
        return;
    }
    let fleet = Fleet::start(Settings::new("ordinary").instances(2).user(ORDINARY)).await.unwrap();
    let load = Load::start(&fleet, "ordinary", &Plan::default()).unwrap();
    let code = fleet.clone_code().await.unwrap();
    let revision = code.publish_version("ordinary").await.unwrap();
    fleet.deploy_well(&revision).await.unwrap();
    load.sees("ordinary").await.unwrap();
    let exchanges = load.end().await;
    assert_unnoticed(&exchanges, &["1".to_owned(), "ordinary".to_owned()]);
    orders::check(&fleet, &exchanges).await.unwrap();
    let nobody = User::from_name(ORDINARY).unwrap().unwrap().uid.as_raw();
    let processes = fleet.processes();
    assert!(processes.len() > 8, "{processes:#?}");
    for process in processes {
        // It may have ended in the meantime.
        if let Ok(entry) = std::fs::metadata(format!("/proc/{}", process.pid)) {
            assert_eq!(entry.uid(), nobody, "{process:?}");
        }
    }
}
