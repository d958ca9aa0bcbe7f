//! Secrets that are replaced while people use the site.

use std::collections::BTreeSet;
use std::time::Duration;

use flotilla_host::command::Command;
use flotilla_targets::local::ports::{Book, DATABASE};
use flotilla_testkit::exchange::{failed, tally};
use flotilla_testkit::fleet::{Fleet, Settings};
use flotilla_testkit::load::{Load, Plan};
use flotilla_testkit::orders;
use flotilla_testkit::parts::Part;
use flotilla_testkit::wait::until;
use reqwest::StatusCode;

const LIMIT: Duration = Duration::from_secs(90);

#[tokio::test]
async fn secrets_are_replaced_and_no_request_fails() {
    let settings = Settings::new("secrets").instances(3);
    let fleet = Fleet::start(settings).await.unwrap();
    assert_eq!(configurations(&fleet).await.len(), 1, "instances differ in wp-config.php");
    nothing_is_shown_by_accident(&fleet).await;

    let load = Load::start(&fleet, "rotation", &Plan::default()).unwrap();
    load.more(20).await.unwrap();
    the_database_password_is_replaced(&fleet).await;
    load.more(20).await.unwrap();
    salts_are_replaced_by_one_cutover(&fleet).await;
    load.more(20).await.unwrap();
    tokens_are_replaced_and_agents_join_anew(&fleet).await;
    load.more(20).await.unwrap();
    a_rotation_goes_on_after_kills(&fleet, &load).await;
    load.more(20).await.unwrap();
    let exchanges = load.end().await;
    println!("{:?}", tally(&exchanges));
    let failed = failed(&exchanges);
    assert!(failed.is_empty(), "{} requests failed, such as {:?}", failed.len(), failed.first());
    orders::check(&fleet, &exchanges).await.unwrap();
}

/// Returns the different wp-config.php of the slots in service.
async fn configurations(fleet: &Fleet) -> BTreeSet<Vec<u8>> {
    let status = fleet.whole(3).await.unwrap();
    let directory = |name: &flotilla_core::id::InstanceName| fleet.layout().instance(name);
    let file = |name| directory(name).join(status.serving.as_str()).join("wp-config.php");
    status.instances.iter().map(|one| std::fs::read(file(&one.name)).unwrap()).collect()
}

async fn nothing_is_shown_by_accident(fleet: &Fleet) {
    let secrets = fleet.secrets().unwrap();
    let all: Vec<String> =
        secrets.named().iter().map(|(_, _, secret)| secret.reveal().to_owned()).collect();
    for command in [&["secrets", "list"][..], &["secrets", "list", "--json"], &["config"]] {
        let ran = fleet.run(command).await.unwrap().ok().unwrap();
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(all.iter().all(|secret| !said.contains(secret)), "{command:?}: {said}");
    }
    let shown = fleet.run(&["secrets", "show", "nonce_salt"]).await.unwrap().ok().unwrap();
    assert_eq!(shown.stdout.trim(), secrets.salts[7].reveal());
    let ran = fleet.run(&["secrets", "rotate", "salts"]).await.unwrap();
    assert_eq!(ran.code, Some(4), "it asks first: {}", ran.stderr);
    assert_eq!(fleet.secrets().unwrap(), secrets);
    let file = std::fs::read_to_string(fleet.layout().secrets()).unwrap();
    assert!(all.iter().all(|secret| !file.contains(secret)));
    assert!(!fleet.layout().secrets_in_clear().exists());
}

/// Speaks to the database as WordPress does.
async fn can_log_in(fleet: &Fleet, password: &str) -> bool {
    let port = Book::read(fleet.layout()).unwrap().unwrap().port(DATABASE).unwrap();
    let asked = Command::new("mariadb")
        .args(["--no-defaults", "--host=127.0.0.1", "--user=wordpress", "--execute=SELECT 1"])
        .arg(format!("--port={port}"))
        .env("MYSQL_PWD", password)
        .run()
        .await;
    asked.is_ok()
}

async fn the_database_password_is_replaced(fleet: &Fleet) {
    let before = fleet.secrets().unwrap().database_password;
    fleet.run(&["secrets", "rotate", "database"]).await.unwrap().ok().unwrap();
    let after = fleet.secrets().unwrap().database_password;
    assert_ne!(before, after);
    assert!(can_log_in(fleet, after.reveal()).await);
    assert!(!can_log_in(fleet, before.reveal()).await, "the password of before is void");
    for file in configurations(fleet).await {
        assert!(String::from_utf8(file).unwrap().contains(after.reveal()));
    }
    // It asks WordPress in the workshop.
    fleet.run(&["cron"]).await.unwrap().ok().unwrap();
    scheduled_work_has(fleet, after.reveal()).await;
}

/// Waits until a runner of scheduled work was started with the password.
async fn scheduled_work_has(fleet: &Fleet, password: &str) {
    let directory = fleet.layout().foreman().join("cron");
    until("a runner with the new password", LIMIT, async || {
        let places = std::fs::read_dir(&directory).map_err(|error| error.to_string())?;
        let mut files = places.flatten().map(|place| place.path().join("wp-config.php"));
        let has_it = |file| std::fs::read_to_string(file).is_ok_and(|text| text.contains(password));
        if files.any(has_it) { Ok(()) } else { Err("none has it".to_owned()) }
    })
    .await
    .unwrap();
}

async fn salts_are_replaced_by_one_cutover(fleet: &Fleet) {
    let before = configurations(fleet).await;
    fleet.run(&["secrets", "rotate", "salts", "--yes"]).await.unwrap().ok().unwrap();
    let after = configurations(fleet).await;
    assert_eq!(after.len(), 1);
    assert!(before.is_disjoint(&after));
    let releases = fleet.run(&["releases", "--json"]).await.unwrap().json().unwrap();
    assert_eq!(releases.as_array().unwrap().len(), 3, "one deploy for each: {releases}");
}

async fn tokens_are_replaced_and_agents_join_anew(fleet: &Fleet) {
    let before = fleet.operator_token().unwrap();
    let agents: Vec<_> = fleet.layout().instances_made();
    let token = |name| std::fs::read(fleet.layout().token(name)).ok();
    let old: Vec<_> = agents.iter().map(token).collect();
    fleet.run(&["secrets", "rotate", "tokens"]).await.unwrap().ok().unwrap();
    let client = flotilla_host::http::client_builder().no_proxy().build().unwrap();
    let url = format!("http://{}{}", fleet.foreman().unwrap(), flotilla_core::api::STATUS_PATH);
    let refused = client.get(url).bearer_auth(&before).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    until("new tokens of all agents", LIMIT, async || {
        let new: Vec<_> = agents.iter().map(token).collect();
        let is_new = new.iter().zip(&old).all(|(new, old)| new.is_some() && new != old);
        if is_new { Ok(()) } else { Err("an agent has none".to_owned()) }
    })
    .await
    .unwrap();
    fleet.whole(3).await.unwrap();
}

/// The foreman is killed again and again while it goes from step to step.
async fn a_rotation_goes_on_after_kills(fleet: &Fleet, load: &Load) {
    let before = fleet.secrets().unwrap();
    let rotating = fleet.run(&["secrets", "rotate", "database", "salts", "--yes"]);
    let killing = async {
        for _ in 0..4 {
            load.more(20).await.unwrap();
            until("a foreman to kill", LIMIT, async || {
                // While it starts, it cannot be asked; that is a good moment too.
                fleet.kill(Part::Foreman).map_err(|error| format!("{error:#}"))
            })
            .await
            .unwrap();
        }
        fleet.kill(Part::Supervisor).unwrap();
        fleet.up().await.unwrap();
    };
    let (rotated, ()) = tokio::join!(rotating, killing);
    drop(rotated);
    until("the end of the rotation", LIMIT, async || {
        let secrets = fleet.secrets().unwrap();
        if secrets.open() == flotilla_core::rotation::Open::default() {
            Ok(())
        } else {
            Err(format!("{:?}", secrets.open()))
        }
    })
    .await
    .unwrap();
    let after = fleet.secrets().unwrap();
    if after.salts == before.salts {
        // It was killed before it had noted the wish.
        return;
    }
    assert!(can_log_in(fleet, after.database_password.reveal()).await);
    assert!(!can_log_in(fleet, before.database_password.reveal()).await);
    fleet.whole(3).await.unwrap();
}
