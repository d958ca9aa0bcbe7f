//! Scheduled work: each event runs once, whoever is killed while it is due.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flotilla_testkit::code::Clone;
use flotilla_testkit::fleet::{Fleet, Settings};
use flotilla_testkit::parts::Part;
use flotilla_testkit::wait::until;
use reqwest::Method;
use serde_json::Value;
use tokio::time::Instant;

/// One each second, for five minutes.
const EVENTS: usize = 300;
/// How long the drill leaves everybody alone after a kill, in seconds.
const PAUSES: std::ops::Range<u64> = 2..9;
/// How long the last events may take after the last was due.
const LIMIT: Duration = Duration::from_secs(90);

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
    let kills = kill_at_random(&fleet, &code).await;
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
    println!("{EVENTS} events, {kills} kills, {interrupted} events were interrupted");
    // An event takes milliseconds; a kill that hits one is rare.
    assert!(interrupted <= kills / 4, "{interrupted} of {kills}");
}

/// Kills who runs the events until the last is due, and deploys once; returns how often it killed.
async fn kill_at_random(fleet: &Fleet, code: &Clone) -> usize {
    let seed = u64::from(std::process::id());
    println!("the drill's seed is {seed}");
    let mut random = seed;
    let mut draw = |below: u64| {
        // Knuth's constants for a linear congruence.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % below
    };
    let end = Instant::now() + Duration::from_secs(u64::try_from(EVENTS).unwrap());
    let mut kills = 0;
    let mut has_deployed = false;
    while Instant::now() < end {
        let pause = PAUSES.start + draw(PAUSES.end - PAUSES.start);
        tokio::time::sleep(Duration::from_secs(pause)).await;
        let killed = match draw(4) {
            0 => fleet.kill(Part::Foreman),
            // It may have ended in this moment, and the next one has not begun.
            _ => fleet.kill(Part::Runner(1)).or_else(|_| fleet.kill(Part::Runner(2))),
        };
        kills += usize::from(killed.is_ok());
        if kills == 10 && !has_deployed {
            deploy(fleet, code).await;
            has_deployed = true;
        }
    }
    assert!(kills >= 20, "only {kills} kills hit somebody");
    kills
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
