//! What operators ask for, in the wrong order, at the same time, or without being allowed to.

use std::time::Duration;

use flotilla_core::deploy::Outcome;
use flotilla_testkit::code::Clone;
use flotilla_testkit::exchange::tally;
use flotilla_testkit::fleet::{Fleet, Settings, record};
use flotilla_testkit::load::{Load, Plan};
use flotilla_testkit::parts::Part;
use nix::sys::signal::Signal;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::assert_unnoticed;

const LEASE_SECONDS: u64 = 3;
const PREPARE_SECONDS: u64 = 40;
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn operators_get_what_they_may_have_or_a_clear_word() {
    let settings = Settings::new("operators")
        .instances(3)
        .set("foreman", "deploy_on_push", true)
        .set("deploy", "agent_lease", format!("'{LEASE_SECONDS}s'"))
        .set("deploy", "prepare_timeout", format!("'{PREPARE_SECONDS}s'"));
    let fleet = Fleet::start(settings).await.unwrap();
    let code = fleet.clone_code().await.unwrap();

    what_is_read_as_json_has_its_documented_keys(&fleet).await;
    a_stranger_gets_nothing(&fleet).await;
    what_cannot_be_deployed_is_refused_with_a_word(&fleet, &code).await;
    changed_settings_come_with_a_deploy_of_what_serves(&fleet).await;
    a_push_over_http_is_a_deploy_for_the_operator_alone(&fleet).await;
    let code = fleet.clone_code().await.unwrap();
    deploys_at_once_wait_give_way_or_are_refused(&fleet, &code).await;
    a_silent_instance_is_left_out_and_joins_later(&fleet, &code).await;
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

async fn what_is_read_as_json_has_its_documented_keys(fleet: &Fleet) {
    let read =
        async |command: &[&str]| fleet.run(command).await.unwrap().ok().unwrap().json().unwrap();
    let status = read(&["status", "--json"]).await;
    let expected = [
        "balancer",
        "deploy",
        "instances",
        "release",
        "serving",
        "site",
        "subject",
        "table_version",
        "url",
    ];
    assert_eq!(keys(&status), expected);
    let instance = ["is_in_service", "member", "name", "report", "silent_millis"];
    assert_eq!(keys(&status["instances"][0]), instance);
    let releases = read(&["releases", "--json"]).await;
    let expected = [
        "author",
        "cause",
        "ended_at",
        "id",
        "outcome",
        "release",
        "requested_at",
        "subject",
        "took_millis",
    ];
    assert_eq!(keys(&releases[0]), expected);
    assert_eq!((&releases[0]["id"], &releases[0]["cause"]), (&1.into(), &"install".into()));
    let up = read(&["up", "--json"]).await;
    let expected =
        ["admin_password", "admin_url", "admin_user", "instances", "release", "repository", "url"];
    assert_eq!(keys(&up), expected);
}

async fn a_stranger_gets_nothing(fleet: &Fleet) {
    use flotilla_core::api as paths;
    let foreman = fleet.foreman().unwrap();
    let client = flotilla_host::http::client_builder().no_proxy().build().unwrap();
    let git = format!("{}/info/refs?service=git-upload-pack", paths::GIT_PATH);
    let bundle = format!("{}/{}", paths::BUNDLES_PATH, "0".repeat(40));
    let deploy = format!("{}/1", paths::DEPLOYS_PATH);
    let all = [
        paths::JOIN_PATH,
        paths::SYNC_PATH,
        paths::SETTINGS_PATH,
        paths::STATUS_PATH,
        paths::DEPLOYS_PATH,
        paths::ROLLBACK_PATH,
        paths::SIZE_PATH,
        paths::INVENTORY_PATH,
        paths::JOIN_TOKENS_PATH,
        paths::ROTATIONS_PATH,
        &git,
        &bundle,
        &deploy,
        "/",
        "/v1/there-is-no-such-thing",
    ];
    for path in all {
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
            for token in [None, Some("guess"), Some("")] {
                let request = client.request(method.clone(), format!("http://{foreman}{path}"));
                let request = match token {
                    Some(token) => request.bearer_auth(token),
                    None => request,
                };
                let response = request.send().await.unwrap();
                let status = response.status();
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path} with {token:?}");
                assert_eq!(response.text().await.unwrap(), "", "{method} {path} tells something");
            }
        }
    }
}

async fn what_cannot_be_deployed_is_refused_with_a_word(fleet: &Fleet, code: &Clone) {
    let ran = fleet.run(&["deploy", "--json", "no-such-branch"]).await.unwrap();
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("no-such-branch") && ran.stderr.contains("hint:"),
        "{}",
        ran.stderr
    );

    let serving = fleet.status().await.unwrap().release.unwrap().revision;
    let ran = fleet.run(&["deploy", "--json", serving.as_str()]).await.unwrap();
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    assert!(ran.stderr.contains("is already serving"), "{}", ran.stderr);

    code.git(&["checkout", "-q", "--orphan", "poem"]).await.unwrap().ok().unwrap();
    code.git(&["rm", "-rqf", "."]).await.unwrap().ok().unwrap();
    let change = |code: &Clone| Ok(std::fs::write(code.directory().join("poem.txt"), "roses\n")?);
    let poem = code.publish("No WordPress", change).await.unwrap();
    let ran = fleet.run(&["deploy", "--json", &poem]).await.unwrap();
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    assert!(ran.stderr.contains("must hold a whole WordPress"), "{}", ran.stderr);
    assert_eq!(fleet.status().await.unwrap().release.unwrap().revision, serving);
}

async fn changed_settings_come_with_a_deploy_of_what_serves(fleet: &Fleet) {
    let file = fleet.path().join("flotilla.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        format!("{text}\n[log]\nkeep = 1\n").replace("[php]\n", "[php]\nmemory_limit = '200MiB'\n"),
    )
    .unwrap();
    fleet.up().await.unwrap();
    let serving = fleet.status().await.unwrap().release.unwrap().revision;
    let ran = fleet.run(&["deploy", "--force", "--json", serving.as_str()]).await.unwrap();
    let record = record(&ran).unwrap();
    assert_eq!(record.outcome, Some(Outcome::Settled { instances: 3, left_out: Vec::new() }));
    let colour = fleet.colour().await.unwrap();
    let ini = format!(".flotilla/instances/web-1/{colour}/etc/php.ini");
    let ini = std::fs::read_to_string(fleet.path().join(ini)).unwrap();
    assert!(ini.contains("memory_limit = 209715200\n"), "{ini}");
}

async fn a_push_over_http_is_a_deploy_for_the_operator_alone(fleet: &Fleet) {
    let remote = |token: &str| {
        let path = flotilla_core::api::GIT_PATH;
        format!("http://operator:{token}@{}{path}", fleet.foreman().unwrap())
    };
    let place = fleet.path().join("over-http");
    std::fs::create_dir(&place).unwrap();
    let refused = Clone::of(&remote("guess"), &place, None).await;
    assert!(refused.is_err(), "a stranger may not even read");
    let code = Clone::of(&remote(&fleet.operator_token().unwrap()), &place, None).await.unwrap();
    code.set_version("pushed").unwrap();
    let revision = code.commit("Pushed").await.unwrap();

    code.git(&["remote", "add", "stranger", &remote("guess")]).await.unwrap().ok().unwrap();
    let ran = code.git(&["push", "-q", "stranger", "HEAD:refs/heads/main"]).await.unwrap();
    assert_ne!(ran.code, Some(0));
    code.push("main").await.unwrap();
    let is_served = |status: &flotilla_core::api::Status| {
        status.release.as_ref().is_some_and(|one| one.revision.as_str() == revision)
    };
    fleet.status_when("the pushed release", LIMIT, is_served).await.unwrap();
    fleet.whole(3).await.unwrap();
    let releases = fleet.run(&["releases", "--json"]).await.unwrap().json().unwrap();
    assert_eq!(releases[0]["cause"], "push");
    assert_eq!(releases[0]["subject"], "Pushed");
    assert!(releases[0]["author"].as_str().unwrap().contains("Dev"), "{}", releases[0]);
}

async fn deploys_at_once_wait_give_way_or_are_refused(fleet: &Fleet, code: &Clone) {
    let mut revisions = Vec::new();
    for version in ["first", "second", "third"] {
        revisions.push(code.publish_version(version).await.unwrap());
    }
    let [first, second, third] = revisions.as_slice() else { panic!("three") };
    let detach = async |revision: &str| {
        let ran = fleet.run(&["deploy", "--json", "--detach", revision]).await.unwrap();
        ran.ok().unwrap().json().unwrap()
    };
    let one = detach(first).await;
    let ran = fleet.run(&["deploy", "--json", "--no-wait", second]).await.unwrap();
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    assert!(ran.stderr.contains("is under way"), "{}", ran.stderr);
    let two = detach(second).await;
    assert_eq!(two["behind"], one["id"]);
    let ended = record(&fleet.run(&["deploy", "--json", third]).await.unwrap()).unwrap();
    assert_eq!(ended.outcome, Some(Outcome::Settled { instances: 3, left_out: Vec::new() }));

    let releases = fleet.run(&["releases", "--json", "-n", "3"]).await.unwrap().json().unwrap();
    let outcomes: Vec<_> = (0..3).map(|row| releases[row]["outcome"]["name"].clone()).collect();
    assert_eq!(outcomes, ["settled", "superseded", "settled"]);
    assert_eq!(keys(&one), ["behind", "id", "is_called_off", "revision"]);

    let four = detach(first).await;
    let ran = fleet.run(&["rollback", "--json"]).await.unwrap();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("Called off"), "{}", ran.stderr);
    assert_eq!(ran.json().unwrap()["id"], four["id"]);
    let releases = fleet.run(&["releases", "--json", "-n", "1"]).await.unwrap().json().unwrap();
    assert_ne!(releases[0]["outcome"]["name"], "settled");
    let status = fleet.run(&["status", "--json"]).await.unwrap().json().unwrap();
    assert_eq!(status["release"]["revision"], third.as_str(), "{status}");
}

async fn a_silent_instance_is_left_out_and_joins_later(fleet: &Fleet, code: &Clone) {
    let load = Load::start(fleet, "silent", &Plan::default()).unwrap();
    load.more(20).await.unwrap();
    let revision = code.publish_version("without-2").await.unwrap();
    fleet.signal(Part::Agent(2), Signal::SIGSTOP).unwrap();
    let ended = fleet.deploy_well(&revision).await.unwrap();
    let Some(Outcome::Settled { instances: 2, left_out }) = &ended.outcome else {
        panic!("{:?}", ended.outcome)
    };
    assert_eq!(left_out[0].instance.as_str(), "web-2", "{left_out:?}");
    assert!(left_out[0].reason.starts_with("it has not reported for "), "{left_out:?}");
    let took = ended.took_millis.unwrap() / 1000;
    assert!(took < PREPARE_SECONDS, "{took} s: all waited for the instance that was silent");
    load.sees("without-2").await.unwrap();
    let slots = fleet.slots_in_service().await.unwrap();
    assert!(!slots.contains_key("web-2") && slots.len() == 2, "{slots:?}");

    fleet.signal(Part::Agent(2), Signal::SIGCONT).unwrap();
    fleet.whole(3).await.unwrap();
    load.served_by(&["web-1", "web-2", "web-3"]).await.unwrap();
    let exchanges = load.end().await;
    println!("{:?}", tally(&exchanges));
    assert_unnoticed(&exchanges, &["third".to_owned(), "without-2".to_owned()]);
}
