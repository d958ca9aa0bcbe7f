//! Deploys under load: no visitor sees that there was one, but for the change itself.

use flotilla_core::api::DeployRecord;
use flotilla_core::deploy::Outcome;
use flotilla_testkit::exchange::{Exchange, Kind, between, failed, tally};
use flotilla_testkit::fleet::{Fleet, Settings, record};
use flotilla_testkit::load::{Load, Plan};
use flotilla_testkit::orders;
use flotilla_testkit::wordpress::write;
use reqwest::Method;

use crate::assert_unnoticed;

const DEPLOYS: usize = 20;

/// Fails at the page that only probers ask for.
const FAILS_PROBES: &str = "<?php
if (isset($_GET['probe'])) { http_response_code(500); exit; }
";
/// Fails at a page that nobody but flotilla asks for, and only when asked through the balancer.
const FAILS_BEHIND_BALANCER: &str = "<?php
if (isset($_GET['smoke']) && isset($_SERVER['HTTP_X_REQUEST_ID'])) { http_response_code(500); exit; }
";
/// Cannot be compiled.
const FATAL: &str = "<?php
this is no PHP;
";

fn swapped_back(record: &DeployRecord) -> &str {
    match &record.outcome {
        Some(Outcome::SwappedBack { reason }) => reason,
        other => panic!("the deploy ended with {other:?}"),
    }
}

#[tokio::test]
async fn deploys_under_load_are_seen_by_nobody() {
    let settings = Settings::new("deploys")
        .instances(3)
        .set("deploy", "smoke", "['/', '/?smoke=1']")
        .set("deploy", "verify_window", "'1500ms'");
    let fleet = Fleet::start(settings).await.unwrap();
    let code = fleet.clone_code().await.unwrap();

    // Twenty changes, each visible in every page.
    let load = Load::start(&fleet, "twenty", &Plan::default()).unwrap();
    load.more(40).await.unwrap();
    let mut versions = vec!["1".to_owned()];
    let mut last = String::new();
    for number in 1..=DEPLOYS {
        let version = format!("deploy-{number}");
        last = code.publish_version(&version).await.unwrap();
        let record = fleet.deploy_well(&last).await.unwrap();
        assert_eq!(record.outcome, Some(Outcome::Settled { instances: 3, left_out: Vec::new() }));
        load.sees(&version).await.unwrap();
        versions.push(version);
    }
    let exchanges = load.end().await;
    println!("{:?}", tally(&exchanges));
    assert_unnoticed(&exchanges, &versions);
    assert!(orders::check(&fleet, &exchanges).await.unwrap() > 2 * DEPLOYS);

    rollback_is_seen_by_nobody(&fleet, &versions).await;
    fleet.deploy_well(&last).await.unwrap();
    broken_releases_take_themselves_back(&fleet, &last).await;
}

async fn rollback_is_seen_by_nobody(fleet: &Fleet, versions: &[String]) {
    let load = Load::start(fleet, "rollback", &Plan::default()).unwrap();
    load.more(20).await.unwrap();
    let record = record(&fleet.run(&["rollback", "--json"]).await.unwrap()).unwrap();
    assert_eq!(record.outcome, Some(Outcome::Settled { instances: 3, left_out: Vec::new() }));
    let [.., before, last] = versions else { panic!("too few versions") };
    load.sees(before).await.unwrap();
    let exchanges = load.end().await;
    assert_unnoticed(&exchanges, &[last.clone(), before.clone()]);
    orders::check(fleet, &exchanges).await.unwrap();
}

async fn broken_releases_take_themselves_back(fleet: &Fleet, good: &str) {
    let code = fleet.clone_code().await.unwrap();
    let publish = async |version: &str, php: &str| {
        code.reset(good).await.unwrap();
        let change = |code: &flotilla_testkit::code::Clone| {
            code.set_version(version)?;
            code.set_plugin("broken", php)
        };
        code.publish(version, change).await.unwrap()
    };
    let plan = Plan { probers: 2, ..Plan::default() };
    let load = Load::start(fleet, "broken", &plan).unwrap();
    load.more(40).await.unwrap();

    let fatal = publish("fatal", FATAL).await;
    let record = fleet.deploy(&fatal).await.unwrap();
    let Some(Outcome::Failed { reason }) = &record.outcome else { panic!("{record:?}") };
    assert!(reason.contains("could not prepare it") && reason.contains("answered 500"), "{reason}");

    let erring = publish("erring", FAILS_PROBES).await;
    let record = fleet.deploy(&erring).await.unwrap();
    assert!(swapped_back(&record).contains("requests failed"), "{record:?}");

    let smoking = publish("smoking", FAILS_BEHIND_BALANCER).await;
    let record = fleet.deploy(&smoking).await.unwrap();
    assert!(swapped_back(&record).contains("`/?smoke=1` answered 500"), "{record:?}");
    load.more(40).await.unwrap();
    let status = fleet.whole(3).await.unwrap();
    assert_eq!(status.release.unwrap().revision.as_str(), good);

    let exchanges = load.end().await;
    println!("{:?}", tally(&exchanges));
    let (probes, visits): (Vec<_>, Vec<_>) =
        exchanges.iter().cloned().partition(|one| one.kind == Kind::Probe);
    assert_eq!(failed(&visits), Vec::<&Exchange>::new(), "a visitor met a failure");
    assert!(!failed(&probes).is_empty(), "nobody met the broken release");
    assert!(visits.iter().all(|one| one.version.as_deref() != Some("fatal")));
    for version in ["erring", "smoking"] {
        assert_eq!(between(&visits, version), Vec::<&Exchange>::new(), "{version} was mixed");
    }
    orders::check(fleet, &exchanges).await.unwrap();
}

/// Names a file by a path that has more than one meaning, and one by a link.
const ASKS_WHERE: &str = "<?php
header('X-Where: ' . (include 'flotilla-part.php') . ' ' . (include __DIR__ . '/turn/part.php'));
";

fn write_parts(code: &flotilla_testkit::code::Clone, target: &str) -> anyhow::Result<()> {
    let must_use = code.directory().join("wp-content/mu-plugins");
    write(&must_use.join("where/show.php"), ASKS_WHERE)?;
    write(&must_use.join("where/flotilla-part.php"), "<?php return 'beside';")?;
    for name in ["one", "two"] {
        write(
            &must_use.join("where").join(name).join("part.php"),
            &format!("<?php return '{name}';"),
        )?;
    }
    code.set_plugin("where", "<?php require __DIR__ . '/where/show.php';")?;
    let link = must_use.join("where/turn");
    drop(std::fs::remove_file(&link));
    std::os::unix::fs::symlink(target, link)?;
    Ok(())
}

#[tokio::test]
async fn paths_lead_where_the_release_says() {
    let settings = Settings::new("paths").instances(1).set("deploy", "verify_window", "'500ms'");
    let fleet = Fleet::start(settings).await.unwrap();
    let code = fleet.clone_code().await.unwrap();
    // PHP finds it before the one beside the script that asks.
    let first = code.directory().join("flotilla-part.php");
    let address = fleet.address().unwrap();
    // Both slots know the paths of one release before either gets the next.
    for (number, expected) in [
        "beside one",
        "beside one",
        "first one",
        "first one",
        "first two",
        "beside two",
        "beside one",
    ]
    .into_iter()
    .enumerate()
    {
        let (part, target) = expected.split_once(' ').unwrap();
        drop(std::fs::remove_file(&first));
        if part == "first" {
            write(&first, "<?php return 'first';").unwrap();
        }
        let version = format!("step-{number}");
        let change = |code: &flotilla_testkit::code::Clone| {
            write_parts(code, target)?;
            code.set_version(&version)
        };
        let revision = code.publish(&version, change).await.unwrap();
        fleet.deploy_well(&revision).await.unwrap();
        for _ in 0..8 {
            let page = fleet.visit(address, Method::GET, "/").unwrap().send().await.unwrap();
            let found = page.headers().get("x-where").unwrap().to_str().unwrap();
            assert_eq!(found, expected, "at step {number}");
        }
    }
}
