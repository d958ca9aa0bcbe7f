//! Scheduled work: each event runs once, whoever is killed while it is due.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flotilla_testkit::code::Clone;
use flotilla_testkit::fleet::{Fleet, Settings};
use flotilla_testkit::parts::Part;
use flotilla_testkit::wait::until;
use reqwest::Method;
use serde_json::Value;

/// One each second.
const EVENTS: usize = 40;
const KILLS: usize = 12;
const LIMIT: Duration = Duration::from_secs(150);

/// Schedules events, each of which writes its number down.
const TICKS: &str = r#"<?php
add_action('tick', function ($number) {
    global $wpdb;
    $wpdb->insert($wpdb->prefix . 'ticks', array('number' => $number));
});
add_action('init', function () {
    global $wpdb;
    $table = $wpdb->prefix . 'ticks';
    if (isset($_GET['schedule'])) {
        $wpdb->query("CREATE TABLE $table (number INT NOT NULL)");
        $start = time() + 3;
        for ($number = 0; $number < (int) $_GET['schedule']; $number++) {
            wp_schedule_single_event($start + $number, 'tick', array($number));
        }
        exit((string) $start);
    }
    if (isset($_GET['ticks'])) {
        exit(wp_json_encode(array_map('intval', $wpdb->get_col("SELECT number FROM $table"))));
    }
});
"#;

async fn get(fleet: &Fleet, path: &str) -> Result<Value, String> {
    let address = fleet.address().unwrap();
    let answer = fleet.visit(address, Method::GET, path).unwrap().send().await;
    let answer = answer.and_then(reqwest::Response::error_for_status);
    answer.map_err(|error| error.to_string())?.json().await.map_err(|error| error.to_string())
}

/// Returns how often each event wrote its number.
async fn ticks(fleet: &Fleet) -> Result<BTreeMap<u64, usize>, String> {
    let mut counts = BTreeMap::new();
    for number in get(fleet, "/?ticks=1").await?.as_array().unwrap() {
        *counts.entry(number.as_u64().unwrap()).or_default() += 1;
    }
    Ok(counts)
}

async fn more_than(fleet: &Fleet, count: usize) -> usize {
    until("more events", LIMIT, async || match ticks(fleet).await? {
        ticks if ticks.len() > count => Ok(ticks.len()),
        ticks => Err(format!("{ticks:?}")),
    })
    .await
    .unwrap()
}

/// Returns how the runs of a hook ended, by the time they were due.
async fn runs(fleet: &Fleet, hook: &str) -> BTreeMap<u64, Option<String>> {
    let told = fleet.run(&["cron", "--json", "--hook", hook, "--limit", "1000"]).await.unwrap();
    let told = told.ok().unwrap().json().unwrap();
    let runs = told["runs"].as_array().unwrap().iter();
    runs.map(|run| (run["due"].as_u64().unwrap(), run["outcome"].as_str().map(str::to_owned)))
        .collect()
}

#[tokio::test]
async fn each_event_runs_once_whoever_is_killed() {
    let settings = Settings::new("cron")
        .instances(1)
        .set("deploy", "verify_window", "'500ms'")
        .set("cron", "interval", "'1s'");
    let fleet = Fleet::start(settings).await.unwrap();
    let code = fleet.clone_code().await.unwrap();
    let revision = code.publish("Ticks", |code| code.set_plugin("ticks", TICKS)).await.unwrap();
    fleet.deploy_well(&revision).await.unwrap();
    visits_run_nothing(&fleet).await;

    let start = get(&fleet, &format!("/?schedule={EVENTS}")).await.unwrap().as_u64().unwrap();
    let mut count = 0;
    for number in 0..KILLS {
        count = more_than(&fleet, count).await;
        match number {
            5 => drop(deploy(&fleet, &code).await),
            _ if number % 2 == 0 => drop(fleet.kill(Part::Foreman)),
            // It may have ended in this moment, and the next one has not begun.
            _ => drop(fleet.kill(Part::Runner(1)).or_else(|_| fleet.kill(Part::Runner(2)))),
        }
    }
    let due: BTreeSet<u64> = (start..).take(EVENTS).collect();
    let outcomes = until("the end of all events", LIMIT, async || {
        fleet.whole(1).await.map_err(|error| error.to_string())?;
        let outcomes = runs(&fleet, "tick").await;
        let is_over = outcomes.len() == EVENTS && outcomes.values().all(Option::is_some);
        if is_over { Ok(outcomes) } else { Err(format!("{outcomes:?}")) }
    })
    .await
    .unwrap();
    assert_eq!(outcomes.keys().copied().collect::<BTreeSet<_>>(), due);

    let ticks = ticks(&fleet).await.unwrap();
    let mut interrupted = 0;
    for (number, outcome) in (0_u64..).zip(outcomes.into_values().map(Option::unwrap)) {
        let count = ticks.get(&number).copied().unwrap_or_default();
        // Its runner was killed while it ran, so nobody can know; it is told, and not run again.
        let is_interrupted = outcome == "interrupted";
        interrupted += usize::from(is_interrupted);
        assert!(
            count == 1 || is_interrupted && count == 0,
            "{number} ran {count} times: {outcome}"
        );
    }
    println!("{EVENTS} events, {interrupted} were interrupted");
    assert!(interrupted <= KILLS);
}

/// A visit of `wp-cron.php` would run what the foreman runs too.
async fn visits_run_nothing(fleet: &Fleet) {
    let address = fleet.address().unwrap();
    let answer = fleet.visit(address, Method::GET, "/wp-cron.php").unwrap().send().await.unwrap();
    assert_eq!(answer.status(), 404);
}

async fn deploy(fleet: &Fleet, code: &Clone) -> String {
    fleet.whole(1).await.unwrap();
    let revision = code.publish_version("while events run").await.unwrap();
    fleet.deploy_well(&revision).await.unwrap();
    revision
}
