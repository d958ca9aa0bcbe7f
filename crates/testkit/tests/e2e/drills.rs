//! Kill drills under load: what visitors may notice is bounded and stated, and the fleet comes back
//! by itself to what is wanted.

use std::time::Duration;

use flotilla_core::api::{DeployRecord, Status};
use flotilla_core::deploy::Outcome;
use flotilla_testkit::code::Clone;
use flotilla_testkit::exchange::{Exchange, Kind, failed, failed_outside, tally};
use flotilla_testkit::fleet::{Fleet, Settings, record};
use flotilla_testkit::load::{Load, Plan};
use flotilla_testkit::orders;
use flotilla_testkit::parts::Part;
use flotilla_testkit::wait::until;
use nix::sys::signal::Signal;
use reqwest::Method;

const INSTANCES: usize = 3;
const BACK_LIMIT: Duration = Duration::from_secs(30);
const DEPLOY_LIMIT: Duration = Duration::from_secs(90);

async fn begin(fleet: &Fleet, name: &str) -> Load {
    let load = Load::start(fleet, name, &Plan::default()).unwrap();
    load.more(20).await.unwrap();
    load
}

/// Waits until the fleet is whole again and lets visitors come for a while; returns all requests.
async fn end(fleet: &Fleet, load: Load, drill: &str) -> Vec<Exchange> {
    fleet.whole(INSTANCES).await.unwrap();
    load.more(20).await.unwrap();
    let exchanges = load.end().await;
    println!("{drill}: {:?}", tally(&exchanges));
    orders::check(fleet, &exchanges).await.unwrap();
    exchanges
}

async fn back(fleet: &Fleet, part: Part, killed: i32) -> i32 {
    until(part, BACK_LIMIT, async || match fleet.pid(part) {
        Ok(Some(pid)) if pid != killed => Ok(pid),
        other => Err(format!("{other:?}")),
    })
    .await
    .unwrap()
}

fn assert_nobody_noticed(exchanges: &[Exchange]) {
    assert_eq!(failed(exchanges), Vec::<&Exchange>::new(), "visitors noticed");
}

#[tokio::test]
async fn what_is_killed_comes_back_and_visitors_miss_no_more_than_is_stated() {
    let fleet = Fleet::start(Settings::new("drill").instances(3)).await.unwrap();
    for part in [Part::PhpFpm, Part::Nginx, Part::Slot] {
        let part = part(1, fleet.colour().await.unwrap());
        let load = begin(&fleet, &format!("{part:?}").replace(['(', ')', ',', ' '], "-")).await;
        let killed = fleet.kill(part).unwrap();
        back(&fleet, part, killed).await;
        let exchanges = end(&fleet, load, &format!("{part:?}")).await;
        let failed = failed(&exchanges);
        let (orders, pages): (Vec<_>, Vec<_>) =
            failed.into_iter().partition(|one| one.kind == Kind::Order);
        let Plan { viewers, buyers, .. } = Plan::default();
        let is_cut = pages.iter().all(|page| page.broke_off) && pages.len() <= viewers;
        assert!(is_cut, "only pages that had begun to arrive may break off: {pages:#?}");
        assert!(orders.len() <= buyers, "only orders in flight may be in doubt: {orders:#?}");
    }

    let load = begin(&fleet, "agent").await;
    let part = Part::Agent(2);
    let slot = fleet.pid(Part::Slot(2, fleet.colour().await.unwrap())).unwrap();
    let killed = fleet.kill(part).unwrap();
    back(&fleet, part, killed).await;
    let exchanges = end(&fleet, load, "agent").await;
    assert_nobody_noticed(&exchanges);
    assert_eq!(fleet.pid(Part::Slot(2, fleet.colour().await.unwrap())).unwrap(), slot);

    the_fleet_lives_without_its_supervisor(&fleet).await;
    a_killed_part_of_all_is_away_for_a_moment(&fleet, Part::Balancer).await;
    a_killed_part_of_all_is_away_for_a_moment(&fleet, Part::Database).await;
    the_session_store_is_missed_by_no_page(&fleet).await;
    a_fleet_that_was_killed_as_a_whole_comes_up_with_all_its_orders(&fleet).await;
    the_loss_of_the_foremans_store_is_noticed_by_nobody(&fleet).await;
}

async fn the_fleet_lives_without_its_supervisor(fleet: &Fleet) {
    let load = begin(fleet, "supervisor").await;
    let others =
        [Part::Database, Part::SessionNode(1), Part::Foreman, Part::Balancer, Part::Agent(1)];
    let pids = || others.map(|part| fleet.pid(part).unwrap());
    let before = pids();
    fleet.kill(Part::Supervisor).unwrap();
    load.more(30).await.unwrap();
    assert_eq!(fleet.pid(Part::Supervisor).unwrap(), None);
    fleet.up().await.unwrap();
    assert!(fleet.pid(Part::Supervisor).unwrap().is_some());
    let exchanges = end(fleet, load, "supervisor").await;
    assert_nobody_noticed(&exchanges);
    assert_eq!(pids(), before, "a supervisor that starts anew leaves alone what runs");
}

/// Requests fail only while the part is away, and what was acknowledged before stays.
async fn a_killed_part_of_all_is_away_for_a_moment(fleet: &Fleet, part: Part) {
    let load = begin(fleet, &format!("{part:?}")).await;
    let from = load.now();
    let killed = fleet.kill(part).unwrap();
    back(fleet, part, killed).await;
    let address = fleet.address().unwrap();
    until("an answer", BACK_LIMIT, async || {
        match fleet.visit(address, Method::GET, "/").unwrap().send().await {
            Ok(response) if response.status().is_success() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
    let to = load.now();
    println!("{part:?} was away for at most {:?}", to - from);
    let exchanges = end(fleet, load, &format!("{part:?}")).await;
    let outside = failed_outside(&exchanges, from, to);
    assert_eq!(outside, Vec::<&Exchange>::new(), "requests failed while {part:?} was there");
}

async fn the_session_store_is_missed_by_no_page(fleet: &Fleet) {
    let load = begin(fleet, "sessions").await;
    let killed = fleet.kill(Part::SessionNode(1)).unwrap();
    back(fleet, Part::SessionNode(1), killed).await;
    let exchanges = end(fleet, load, "sessions").await;
    assert_nobody_noticed(&exchanges);
}

async fn the_loss_of_the_foremans_store_is_noticed_by_nobody(fleet: &Fleet) {
    let code = fleet.clone_code().await.unwrap();
    let load = begin(fleet, "store").await;
    let before = fleet.status().await.unwrap();
    // So that nobody starts it again before its store is gone.
    fleet.signal(Part::Supervisor, Signal::SIGSTOP).unwrap();
    let killed = fleet.kill(Part::Foreman).unwrap();
    for end in ["", "-wal", "-shm"] {
        std::fs::remove_file(fleet.path().join(format!(".flotilla/foreman/foreman.db{end}")))
            .unwrap();
    }
    fleet.signal(Part::Supervisor, Signal::SIGCONT).unwrap();
    back(fleet, Part::Foreman, killed).await;
    let after = fleet.whole(INSTANCES).await.unwrap();
    assert_eq!(after.release.unwrap().revision, before.release.unwrap().revision);
    assert!(after.table_version >= before.table_version);
    let revision = code.publish_version("after the loss").await.unwrap();
    fleet.deploy_well(&revision).await.unwrap();
    load.sees("after the loss").await.unwrap();
    assert_nobody_noticed(&end(fleet, load, "store").await);
}

async fn a_fleet_that_was_killed_as_a_whole_comes_up_with_all_its_orders(fleet: &Fleet) {
    let load = begin(fleet, "everything").await;
    let from = load.now();
    let killed = fleet.kill_everything().unwrap();
    assert!(killed > 20, "only {killed} processes were killed");
    fleet.up().await.unwrap();
    let to = load.now();
    println!("the fleet was away for at most {:?}", to - from);
    let exchanges = end(fleet, load, "everything").await;
    let outside = failed_outside(&exchanges, from, to);
    assert_eq!(outside, Vec::<&Exchange>::new(), "requests failed while the fleet was there");
}

#[tokio::test]
async fn a_deploy_whose_foreman_or_agent_is_killed_settles_and_the_next_one_works() {
    let fleet = Fleet::start(Settings::new("foreman").instances(3)).await.unwrap();
    let code = fleet.clone_code().await.unwrap();
    let load = begin(&fleet, "foreman").await;
    let drills = [
        (Part::Foreman, "draining"),
        (Part::Foreman, "preparing"),
        (Part::Foreman, "cutting over"),
        (Part::Foreman, "verifying"),
        (Part::Agent(3), "preparing"),
    ];
    for (number, (part, phase)) in drills.into_iter().enumerate() {
        let version = format!("drill-{number}");
        let ended = deploy_and_kill(&fleet, &code, &version, part, phase).await;
        // The phase may be over before the kill; then the next one is drilled.
        println!("{part:?} killed in {phase}: {:?}", ended.outcome);
        let is_settled = ended.outcome.as_ref().is_some_and(Outcome::is_settled);
        assert!(is_settled, "{part:?} killed in {phase}: {:?}", ended.outcome);
        load.sees(&version).await.unwrap();
        fleet.whole(INSTANCES).await.unwrap();
    }
    a_command_that_follows_a_deploy_outlives_its_foreman(&fleet, &code).await;
    load.sees("followed").await.unwrap();
    let last = code.publish_version("last").await.unwrap();
    let ended = fleet.deploy_well(&last).await.unwrap();
    assert_eq!(
        ended.outcome,
        Some(Outcome::Settled { instances: INSTANCES, left_out: Vec::new() })
    );
    load.sees("last").await.unwrap();
    let exchanges = end(&fleet, load, "foreman").await;
    let mut versions = vec!["1".to_owned()];
    versions.extend((0..drills.len()).map(|number| format!("drill-{number}")));
    versions.extend(["followed".to_owned(), "last".to_owned()]);
    crate::assert_unnoticed(&exchanges, &versions);
}

async fn a_command_that_follows_a_deploy_outlives_its_foreman(fleet: &Fleet, code: &Clone) {
    let revision = code.publish_version("followed").await.unwrap();
    let follow = async { fleet.run(&["deploy", "--json", &revision]).await.unwrap() };
    let kill = async {
        let is_under_way = |status: &Status| status.deploy.is_some();
        fleet.status_when("a deploy", DEPLOY_LIMIT, is_under_way).await.unwrap();
        let killed = fleet.kill(Part::Foreman).unwrap();
        back(fleet, Part::Foreman, killed).await;
    };
    let (ran, ()) = tokio::join!(follow, kill);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let is_settled = record(&ran).unwrap().outcome.is_some_and(|outcome| outcome.is_settled());
    assert!(is_settled, "{}", ran.stderr);
    fleet.whole(INSTANCES).await.unwrap();
}

async fn deploy_and_kill(
    fleet: &Fleet,
    code: &Clone,
    version: &str,
    part: Part,
    phase: &str,
) -> DeployRecord {
    let revision = code.publish_version(version).await.unwrap();
    let reply = fleet.run(&["deploy", "--json", "--detach", &revision]).await.unwrap();
    let id = reply.ok().unwrap().json().unwrap()["id"].as_u64().unwrap();
    let order = ["draining", "preparing", "cutting over", "verifying"];
    let wanted = order.iter().position(|one| *one == phase).unwrap();
    fleet
        .status_when(phase, DEPLOY_LIMIT, |status| {
            let Some(deploy) = &status.deploy else { return true };
            order.iter().position(|one| *one == deploy.phase.as_str()) >= Some(wanted)
        })
        .await
        .unwrap();
    let killed = fleet.kill(part).unwrap();
    back(fleet, part, killed).await;
    let path = format!("{}/{id}", flotilla_core::api::DEPLOYS_PATH);
    until("the end of the deploy", DEPLOY_LIMIT, async || {
        let request = fleet.ask_foreman(Method::GET, &path).unwrap();
        let response = request.send().await.map_err(|error| format!("{error:?}"))?;
        let record: DeployRecord = response.json().await.map_err(|error| format!("{error:?}"))?;
        if record.outcome.is_some() { Ok(record) } else { Err(format!("{record:?}")) }
    })
    .await
    .unwrap()
}
