//! A deploy with a database upgrade: held, upgraded once, swapped; and no way back by accident.

use std::path::Path;
use std::time::Duration;

use flotilla_core::deploy::Outcome;
use flotilla_core::table::{HELD_HEADER, HOLD_HEADER};
use flotilla_testkit::code::Clone;
use flotilla_testkit::exchange::tally;
use flotilla_testkit::fleet::{Fleet, Settings, record};
use flotilla_testkit::load::{Load, Plan};
use flotilla_testkit::orders;
use flotilla_testkit::wordpress::{Version, copy, wordpress};
use reqwest::Method;

use crate::assert_unnoticed;

/// Tells the database's own version, how often it was upgraded, and who asks.
const TELLER: &str = "<?php
add_action('wp_upgrade', function () { update_option('test_upgrades', 1 + (int) get_option('test_upgrades')); });
add_action('send_headers', function () {
	header('X-Db-Version: ' . get_option('db_version'));
	header('X-Remote-Addr: ' . $_SERVER['REMOTE_ADDR']);
	header('X-Upgrades: ' . (int) get_option('test_upgrades'));
});
";

/// Replaces WordPress itself and keeps the site's themes and plugins.
fn replace_wordpress(code: &Clone, newer: &Path) -> anyhow::Result<()> {
    for name in ["wp-admin", "wp-includes"] {
        std::fs::remove_dir_all(code.directory().join(name))?;
    }
    copy(newer, code.directory())
}

async fn told(fleet: &Fleet) -> (u64, u64) {
    let address = fleet.address().unwrap();
    let response = fleet.visit(address, Method::GET, "/").unwrap().send().await.unwrap();
    let number = |name: &str| response.headers()[name].to_str().unwrap().parse().unwrap();
    (number("x-db-version"), number("x-upgrades"))
}

#[tokio::test]
async fn a_database_upgrade_is_held_done_once_and_not_undone_by_accident() {
    let newer = wordpress(Version::Newer).await.unwrap();
    let settings = Settings::new("upgrade")
        .instances(2)
        .set("deploy", "verify_window", "'2s'")
        .set("balancer", "trusted_proxies", "['127.0.0.0/8']");
    let fleet = Fleet::start(settings).await.unwrap();
    let code = fleet.clone_code().await.unwrap();
    let old = code.publish("Teller", |code| code.set_plugin("teller", TELLER)).await.unwrap();
    fleet.deploy_well(&old).await.unwrap();
    let before = fleet.status().await.unwrap().release.unwrap().db_version.unwrap();
    assert_eq!(told(&fleet).await, (before, 0));
    php_is_told_the_visitor_behind_the_proxies(&fleet).await;
    a_slot_that_is_told_of_a_hold_runs_nothing(&fleet).await;

    let load = Load::start(&fleet, "upgrade", &Plan::default()).unwrap();
    load.more(30).await.unwrap();
    let change = |code: &Clone| {
        code.set_version("newer")?;
        replace_wordpress(code, &newer)
    };
    let revision = code.publish("Newer WordPress", change).await.unwrap();
    let ended = fleet.deploy_well(&revision).await.unwrap();
    assert_eq!(ended.outcome, Some(Outcome::Settled { instances: 2, left_out: Vec::new() }));
    load.sees("newer").await.unwrap();
    load.more(30).await.unwrap();
    let exchanges = load.end().await;
    println!("{:?}", tally(&exchanges));
    assert_unnoticed(&exchanges, &["1".to_owned(), "newer".to_owned()]);
    orders::check(&fleet, &exchanges).await.unwrap();

    let after = ended.release.db_version.unwrap();
    assert!(after > before);
    assert_eq!(told(&fleet).await, (after, 1), "the database was not upgraded exactly once");
    let log = std::fs::read_to_string(fleet.layout().log("foreman")).unwrap();
    assert!(log.contains("phase=\"holding\"") && log.contains("phase=\"upgrading\""), "{log}");

    the_way_back_is_refused(&fleet, &old, before, after).await;
}

async fn php_is_told_the_visitor_behind_the_proxies(fleet: &Fleet) {
    let request = fleet.visit(fleet.address().unwrap(), Method::GET, "/").unwrap();
    let hops = "192.0.2.66, 2001:db8::7, 127.0.0.9";
    let response = request.header("x-forwarded-for", hops).send().await.unwrap();
    assert_eq!(response.headers()["x-remote-addr"], "2001:db8::7");
}

async fn a_slot_that_is_told_of_a_hold_runs_nothing(fleet: &Fleet) {
    let (_, slot) = fleet.slots_in_service().await.unwrap().pop_first().unwrap();
    for (path, is_file) in [
        ("/wp-includes/css/buttons.css", true),
        ("/", false),
        ("/favicon.ico", false),
        ("/missing.png", false),
        ("/missing.zip", false),
        ("/index.php/a.css", false),
    ] {
        let request = fleet.visit(slot, Method::GET, path).unwrap();
        let response = request.header(HOLD_HEADER, "1").send().await.unwrap();
        let is_held = response.status() == 503 && response.headers().contains_key(HELD_HEADER);
        assert_eq!((response.status() == 200, is_held), (is_file, !is_file), "{path}");
        assert!(!response.headers().contains_key("x-upgrades"), "{path} ran");
    }
}

async fn the_way_back_is_refused(fleet: &Fleet, old: &str, before: u64, after: u64) {
    for command in [["rollback", "--json"].as_slice(), &["deploy", "--json", old]] {
        let ran = fleet.run(command).await.unwrap();
        assert_eq!(ran.code, Some(4), "{}", ran.stderr);
        let reason =
            format!("expects database version {before}, but the database was upgraded to {after}");
        assert!(ran.stderr.contains(&reason), "{}", ran.stderr);
        assert_eq!(ran.json().unwrap()["error"]["kind"], "refused");
    }
    let ended = record(&fleet.run(&["rollback", "--force", "--json"]).await.unwrap()).unwrap();
    assert_eq!(ended.outcome, Some(Outcome::Settled { instances: 2, left_out: Vec::new() }));
    let status = fleet.status_when("the old release", Duration::from_secs(5), |status| {
        status.release.as_ref().is_some_and(|release| release.revision.as_str() == old)
    });
    status.await.unwrap();
    assert_eq!(told(fleet).await, (after, 1), "old code wrote its version back");
}
