//! The planner's promises, one by one.

mod bench;

use std::time::Duration;

use flotilla_core::deploy::{HoldMode, Phase};
use flotilla_core::fleet::{Accepted, Fleet, Member, Release};
use flotilla_core::id::{DeployId, InstanceName, Millis};
use flotilla_core::plan::{Effect, Event, REQUESTS_TO_JUDGE_MIN, UPGRADE_END_LIMIT, plan};
use flotilla_core::report::SlotReport;
use flotilla_core::slot::SlotName;
use flotilla_core::table::BalancerStatus;

use self::bench::{Bench, NEW, OLD, busy, failing, ready, release, revision, seconds};

#[test]
fn a_good_release_moves_the_whole_fleet_in_one_table() {
    let mut bench = Bench::new(3);
    let id = bench.deploy(release(NEW, 1));
    assert_eq!(bench.phase(), "preparing");
    bench.reports(1, SlotName::Green, ready(NEW));
    bench.reports(2, SlotName::Green, ready(NEW));
    bench.settle();
    assert_eq!(bench.served_from(), ["web-1 blue", "web-2 blue", "web-3 blue"]);
    bench.reports(3, SlotName::Green, ready(NEW));
    bench.settle();
    assert_eq!(bench.served_from(), ["web-1 green", "web-2 green", "web-3 green"]);
    bench.balancer_follows();
    bench.smoke(id, Ok(()));
    assert_eq!(bench.phase(), "verifying", "the window is not over");
    bench.wait(bench.policy.verify_window, &[1, 2, 3]);
    assert_eq!(bench.outcomes(), ["1 settled"]);
}

#[test]
fn an_instance_that_fails_to_prepare_is_left_out() {
    let mut bench = Bench::new(4);
    bench.deploy(release(NEW, 1));
    bench.all_report(SlotName::Green, &ready(NEW));
    bench.reports(2, SlotName::Green, failing(NEW));
    bench.settle();
    assert_eq!(bench.phase(), "cutting over");
    assert_eq!(bench.served_from(), ["web-1 green", "web-3 green", "web-4 green"]);
    bench.reports(2, SlotName::Green, ready(NEW));
    bench.settle();
    assert_eq!(bench.served_from().len(), 4, "it joins when it is ready after all");
}

#[test]
fn at_the_default_one_bad_instance_of_a_small_fleet_is_left_out() {
    for (instances, served) in [(2, 1), (3, 2)] {
        for is_slow in [false, true] {
            let mut bench = Bench::new(instances);
            bench.deploy(release(NEW, 1));
            bench.all_report(SlotName::Green, &ready(NEW));
            let bad = if is_slow { SlotReport::default() } else { failing(NEW) };
            bench.reports(1, SlotName::Green, bad);
            let all: Vec<u16> = (1..=instances).collect();
            bench.wait(bench.policy.prepare_timeout + seconds(1), &all);
            assert_eq!(bench.phase(), "cutting over", "{instances} instances, slow: {is_slow}");
            assert_eq!(bench.served_from().len(), served);
        }
    }
}

#[test]
fn a_release_that_no_instance_can_prepare_fails_at_once() {
    for instances in 1..=3 {
        let mut bench = Bench::new(instances);
        bench.deploy(release(NEW, 1));
        bench.all_report(SlotName::Green, &failing(NEW));
        bench.settle();
        let told = format!(
            "1 failed: {instances} of {instances} instances could not prepare it; `web-1`: the \
             disk is full"
        );
        assert_eq!(bench.outcomes(), [told]);
    }
}

#[test]
fn the_part_that_must_be_ready_is_rounded_down() {
    for (min_ready, may_fail) in [(1.0, 0), (0.9, 1), (0.7, 3), (0.3, 7), (0.0, 9)] {
        let mut bench = Bench::new(10);
        bench.policy.min_ready = min_ready;
        bench.deploy(release(NEW, 1));
        bench.all_report(SlotName::Green, &ready(NEW));
        for number in 1..=may_fail {
            bench.reports(number, SlotName::Green, failing(NEW));
        }
        bench.settle();
        assert_eq!(bench.phase(), "cutting over", "{may_fail} of 10 at {min_ready}");
    }
}

#[test]
fn too_few_ready_instances_fail_the_deploy_and_give_the_slot_back() {
    let mut bench = Bench::new(4);
    let before = bench.fleet.releases.clone();
    bench.deploy(release(NEW, 1));
    let during = bench.fleet.generation;
    bench.reports(1, SlotName::Green, failing(NEW));
    bench.reports(2, SlotName::Green, failing(NEW));
    bench.settle();
    assert_eq!(bench.phase(), "preparing", "two of four may be enough");
    bench.reports(3, SlotName::Green, failing(NEW));
    bench.settle();
    assert_eq!(
        bench.outcomes(),
        ["1 failed: 3 of 4 instances could not prepare it; `web-1`: the disk is full"]
    );
    assert_eq!(bench.fleet.releases, before);
    assert!(bench.fleet.generation > during, "agents take the slot back as news");
    assert_eq!(bench.served_from().len(), 4);
}

#[test]
fn a_late_instance_waits_no_longer_than_the_timeout() {
    let mut bench = Bench::new(4);
    bench.deploy(release(NEW, 1));
    for number in 1..=3 {
        bench.reports(number, SlotName::Green, ready(NEW));
    }
    bench.wait(bench.policy.prepare_timeout, &[1, 2, 3, 4]);
    assert_eq!(bench.phase(), "preparing");
    bench.wait(Duration::from_millis(1), &[1, 2, 3, 4]);
    assert_eq!(bench.served_from(), ["web-1 green", "web-2 green", "web-3 green"]);
}

#[test]
fn a_silent_instance_is_waited_for_one_lease_only() {
    let mut bench = Bench::new(3);
    bench.deploy(release(NEW, 1));
    bench.reports(1, SlotName::Green, ready(NEW));
    bench.reports(2, SlotName::Green, ready(NEW));
    bench.wait(bench.policy.lease, &[1, 2]);
    assert_eq!(bench.phase(), "preparing");
    bench.wait(Duration::from_millis(1), &[1, 2]);
    assert_eq!(bench.served_from(), ["web-1 green", "web-2 green"]);
}

#[test]
fn a_deploy_that_nobody_hears_of_fails() {
    let mut bench = Bench::new(2);
    bench.deploy(release(NEW, 1));
    bench.wait(bench.policy.prepare_timeout + seconds(1), &[]);
    assert_eq!(bench.outcomes(), ["1 failed: 0 of 0 instances were ready in time"]);
    assert_eq!(bench.served_from().len(), 2, "the old release goes on serving");
}

#[test]
fn a_rollback_to_a_warm_slot_skips_preparing() {
    let (mut bench, id) = Bench::verifying(2);
    bench.smoke(id, Ok(()));
    bench.wait(bench.policy.verify_window, &[1, 2]);
    let generation = bench.fleet.generation;
    bench.in_flight(1, SlotName::Blue, 1);
    bench.deploy(release(OLD, 1));
    assert_eq!(bench.phase(), "cutting over", "neither a drain nor a preparation");
    assert_eq!(bench.served_from(), ["web-1 blue", "web-2 blue"]);
    assert_eq!(bench.fleet.generation, generation.next());
}

#[test]
fn a_slot_is_not_changed_while_a_request_runs_in_it() {
    let mut bench = Bench::new(1);
    bench.fleet.releases.green = Some(release(0xc, 1));
    bench.in_flight(1, SlotName::Green, 1);
    let generation = bench.fleet.generation;
    bench.deploy(release(NEW, 1));
    bench.wait(bench.policy.drain_timeout, &[1]);
    assert_eq!((bench.phase(), bench.fleet.generation), ("draining", generation));
    bench.in_flight(1, SlotName::Green, 0);
    assert_eq!((bench.phase(), bench.fleet.generation), ("preparing", generation.next()));
}

#[test]
fn a_request_that_never_ends_holds_a_deploy_up_no_longer_than_the_drain_timeout() {
    let mut bench = Bench::new(1);
    bench.in_flight(1, SlotName::Green, 1);
    bench.deploy(release(NEW, 1));
    bench.wait(bench.policy.drain_timeout + Duration::from_millis(1), &[1]);
    assert_eq!(bench.phase(), "preparing");
}

#[test]
fn a_slot_is_not_changed_before_the_balancer_confirms_the_table_without_it() {
    let mut bench = Bench::new(1);
    bench.observed.balancer = None;
    let generation = bench.fleet.generation;
    bench.deploy(release(NEW, 1));
    bench.wait(bench.policy.prepare_timeout, &[1]);
    assert_eq!((bench.phase(), bench.fleet.generation), ("draining", generation));
    bench.wait(seconds(1), &[1]);
    assert_eq!(bench.outcomes(), ["1 failed: the balancer does not confirm its upstream table"]);
    assert_eq!(bench.fleet.generation, generation);
}

#[test]
fn a_report_of_before_the_slot_was_changed_does_not_count_as_ready() {
    let mut bench = Bench::new(2);
    bench.deploy(release(NEW, 1));
    bench.all_report(SlotName::Green, &ready(NEW));
    let stale = bench.observed.reports[&InstanceName::numbered(1)].clone();
    // The deploy fails and its slot is given back; the agent may be changing it by now.
    bench.observed.reports.clear();
    bench.all_report(SlotName::Green, &failing(NEW));
    bench.settle();
    bench.deploy(release(NEW, 1));
    bench.observed.reports.insert(InstanceName::numbered(1), stale);
    bench.reports(2, SlotName::Green, ready(NEW));
    bench.settle();
    assert_eq!(bench.phase(), "preparing");
    bench.reports(1, SlotName::Green, ready(NEW));
    bench.settle();
    assert_eq!(bench.phase(), "cutting over");
}

#[test]
fn a_silent_balancer_never_loses_its_table() {
    let mut bench = Bench::new(2);
    let table = bench.fleet.table.clone();
    bench.observed.balancer = None;
    bench.observed.reports.clear();
    bench.wait(seconds(3_600), &[]);
    assert_eq!(bench.fleet.table, table);
    assert_eq!(bench.effects, [Effect::PushTable]);
}

#[test]
fn a_store_that_was_lost_or_put_back_goes_on_from_what_serves() {
    let (mut bench, _) = Bench::verifying(2);
    let table = bench.fleet.table.clone();
    let generation = bench.fleet.generation;
    let lost = Fleet::default();
    let put_back = Bench::new(2).fleet;
    assert!(put_back.table.version < table.version);
    for mut fleet in [lost, put_back] {
        fleet.resize(2, bench.observed.now);
        bench.fleet = fleet.clone();
        bench.settle();
        assert_eq!((&bench.fleet, &*bench.effects), (&fleet, &[Effect::AdoptTable][..]));
        bench.fleet.adopt(&table, generation);
        bench.settle();
        assert_eq!(bench.served_from(), ["web-1 green", "web-2 green"]);
        assert_eq!(bench.fleet.serving_release().unwrap().revision, revision(NEW));
        assert_eq!(bench.fleet.deploy, None);
        assert!(bench.fleet.generation > generation, "agents refuse what is older");
        bench.balancer_follows();
        bench.deploy(release(7, 1));
        bench.all_report(SlotName::Blue, &ready(7));
        bench.settle();
        assert_eq!(bench.phase(), "holding", "who has lost the database's version upgrades it");
        bench.fleet.table = table.clone();
        bench.status().version = table.version;
    }
}

#[test]
fn a_table_that_is_not_newer_is_not_taken_over() {
    let (mut bench, _) = Bench::verifying(2);
    let before = bench.fleet.clone();
    let table = before.table.clone();
    assert_eq!(bench.fleet.adopt(&table, before.generation), None);
    assert_eq!(bench.fleet, before);
}

#[test]
fn the_table_is_not_emptied_when_no_instance_is_ready() {
    let mut bench = Bench::new(2);
    bench.all_report(SlotName::Blue, &SlotReport::default());
    bench.settle();
    assert_eq!(bench.served_from(), ["web-1 blue", "web-2 blue"]);
    bench.reports(2, SlotName::Blue, ready(OLD));
    bench.settle();
    assert_eq!(bench.served_from(), ["web-2 blue"]);
}

#[test]
fn the_last_instance_that_serves_leaves_only_when_another_serves() {
    let mut bench = Bench::new(1);
    bench.fleet.resize(0, bench.observed.now);
    bench.fleet.resize(1, bench.observed.now);
    bench.wait(seconds(300), &[1]);
    bench.balancer_follows();
    assert_eq!(bench.served_from(), ["web-1 blue"], "web-2 has not come up yet");
    assert_eq!(bench.fleet.instances.len(), 2);
    bench.reports(2, SlotName::Blue, ready(OLD));
    bench.settle();
    assert_eq!(bench.served_from(), ["web-2 blue"]);
    bench.balancer_follows();
    assert_eq!(bench.fleet.instances.keys().next(), Some(&InstanceName::numbered(2)));
}

#[test]
fn an_instance_leaves_after_its_last_request() {
    let mut bench = Bench::new(2);
    bench.in_flight(2, SlotName::Blue, 1);
    bench.fleet.resize(1, bench.observed.now);
    bench.settle();
    assert_eq!(bench.served_from(), ["web-1 blue"]);
    assert_eq!(bench.fleet.instances.len(), 2, "the balancer has not confirmed");
    bench.balancer_follows();
    assert_eq!(bench.fleet.instances.len(), 2, "a request runs");
    bench.in_flight(2, SlotName::Blue, 0);
    assert_eq!(bench.events.last(), Some(&Event::Left(InstanceName::numbered(2))));
}

#[test]
fn the_drain_of_a_leaving_instance_begins_when_the_balancer_can_know_of_it() {
    let mut bench = Bench::new(2);
    bench.in_flight(2, SlotName::Blue, 1);
    bench.fleet.resize(1, bench.observed.now);
    bench.wait(bench.policy.drain_timeout * 10, &[1, 2]);
    bench.balancer_follows();
    assert_eq!(bench.fleet.instances.len(), 2);
    bench.wait(bench.policy.drain_timeout + seconds(1), &[1, 2]);
    assert_eq!(bench.fleet.instances.len(), 1, "but it does not last for ever");
}

#[test]
fn the_error_ratio_swaps_back() {
    let (mut bench, id) = Bench::verifying(2);
    bench.smoke(id, Ok(()));
    bench.counts(REQUESTS_TO_JUDGE_MIN - 1, 10);
    assert_eq!(bench.phase(), "verifying", "too few to judge");
    bench.counts(100, 10);
    assert_eq!(bench.phase(), "swapping back");
    assert_eq!(bench.served_from(), ["web-1 blue", "web-2 blue"]);
    assert_eq!(bench.outcomes().len(), 0, "not before the balancer has confirmed");
    bench.balancer_follows();
    assert_eq!(
        bench.outcomes(),
        ["1 swapped back: 10 of 100 requests failed (10.0 %; before: 0.0 %)"]
    );
}

#[test]
fn a_release_that_answers_nobody_swaps_back() {
    let (mut bench, id) = Bench::verifying(2);
    bench.smoke(id, Ok(()));
    bench.counts(REQUESTS_TO_JUDGE_MIN, REQUESTS_TO_JUDGE_MIN);
    bench.balancer_follows();
    assert_eq!(
        bench.outcomes(),
        ["1 swapped back: 20 of 20 requests failed (100.0 %; before: 0.0 %)"]
    );
}

#[test]
fn errors_that_the_old_release_had_too_do_not_swap_back() {
    let mut bench = Bench::new(1);
    bench.counts(1_000, 95);
    let id = bench.deploy(release(NEW, 1));
    bench.reports(1, SlotName::Green, ready(NEW));
    bench.settle();
    bench.balancer_follows();
    bench.counts(100, 10);
    bench.smoke(id, Ok(()));
    bench.wait(bench.policy.verify_window, &[1]);
    assert_eq!(bench.outcomes(), ["1 settled"]);
}

#[test]
fn a_release_that_is_deployed_once_more_is_measured_by_its_former_run() {
    let mut bench = Bench::new(1);
    bench.counts(1_000, 30);
    let id = bench.ask_forced(release(OLD, 1));
    bench.reports(1, SlotName::Green, ready(OLD));
    bench.settle();
    bench.balancer_follows();
    assert_eq!(bench.phase(), "verifying");
    bench.counts(100, 4);
    bench.smoke(id, Ok(()));
    bench.wait(bench.policy.verify_window, &[1]);
    assert_eq!(bench.outcomes(), ["1 settled"]);
}

#[test]
fn a_deploy_names_the_instances_that_it_left_out() {
    let mut bench = Bench::new(4);
    let id = bench.deploy(release(NEW, 1));
    bench.reports(1, SlotName::Green, ready(NEW));
    bench.reports(2, SlotName::Green, failing(NEW));
    bench.reports(4, SlotName::Green, ready(NEW));
    bench.wait(bench.policy.prepare_timeout + seconds(1), &[1, 2, 4]);
    bench.balancer_follows();
    bench.smoke(id, Ok(()));
    bench.wait(bench.policy.verify_window, &[1, 2, 4]);
    assert_eq!(
        bench.outcomes(),
        ["1 settled: `web-2` was left out: the disk is full; `web-3` was left out: it has not \
          reported for 131 s"]
    );
}

#[test]
fn a_failed_smoke_request_swaps_back() {
    let (mut bench, id) = Bench::verifying(1);
    bench.smoke(id, Err("`/shop` was answered 500"));
    bench.balancer_follows();
    assert_eq!(bench.outcomes(), ["1 swapped back: `/shop` was answered 500"]);
}

#[test]
fn a_deploy_that_is_called_off_is_given_up_or_swapped_back() {
    let mut bench = Bench::new(2);
    let before = bench.fleet.releases.clone();
    bench.deploy(release(NEW, 1));
    assert!(bench.fleet.call_off("maria", false).unwrap().is_some());
    bench.settle();
    assert_eq!(bench.outcomes(), ["1 failed: called off by maria"]);
    assert_eq!(bench.fleet.releases, before);
    assert_eq!(bench.fleet.call_off("maria", false).unwrap(), None);

    let (mut bench, _) = Bench::verifying(2);
    let (next, _) = bench.ask(release(0xc, 1)).unwrap();
    let called_off = bench.fleet.call_off("maria", false).unwrap().unwrap();
    assert_eq!(called_off.waiting.map(|request| request.id), Some(next));
    assert_eq!(bench.fleet.queued, None, "who goes back does not want the next release");
    bench.settle();
    assert_eq!(bench.served_from(), ["web-1 blue", "web-2 blue"]);
    bench.balancer_follows();
    assert_eq!(bench.outcomes(), ["1 swapped back: called off by maria"]);
}

#[test]
fn calling_off_does_not_bring_old_code_to_a_newer_database_unless_forced() {
    let mut bench = Bench::new(1);
    bench.policy.hold = HoldMode::Never;
    bench.deploy(release(NEW, 2));
    bench.reports(1, SlotName::Green, ready(NEW));
    bench.settle();
    assert_eq!(bench.phase(), "upgrading");
    let refused = bench.fleet.call_off("maria", false).unwrap_err();
    assert!(refused.message.contains("the database was upgraded to 2"), "{}", refused.message);
    assert!(bench.fleet.call_off("maria", true).unwrap().is_some());
}

#[test]
fn the_smoke_requests_of_another_deploy_say_nothing() {
    let (mut bench, id) = Bench::verifying(1);
    assert_eq!(bench.effects, [Effect::RunSmoke(id)]);
    bench.smoke(DeployId(id.0 + 1), Err("`/shop` was answered 500"));
    bench.wait(seconds(60), &[1]);
    assert_eq!(bench.phase(), "verifying");
    assert_eq!(bench.effects, [Effect::RunSmoke(id)]);
}

#[test]
fn the_first_release_has_nothing_to_swap_back_to() {
    let mut bench = Bench::new(0);
    bench.fleet = Fleet::default();
    bench.observed.balancer = Some(BalancerStatus::default());
    bench.fleet.resize(1, Millis(0));
    let id = bench.deploy(release(NEW, 1));
    bench.reports(1, SlotName::Green, ready(NEW));
    bench.settle();
    bench.balancer_follows();
    bench.smoke(id, Err("the front page was answered 500"));
    assert_eq!(bench.outcomes(), ["1 failed: the front page was answered 500"]);
    assert_eq!(bench.served_from(), ["web-1 green"]);
}

#[test]
fn a_rollback_over_a_database_upgrade_is_refused() {
    let mut bench = Bench::new(1);
    bench.fleet.releases.blue = Some(release(OLD, 2));
    let failure = bench.ask(release(NEW, 1)).expect_err("refused");
    assert!(failure.message.contains("the database was upgraded to 2"), "{failure}");
    bench.fleet.releases.blue =
        Some(Release { revision: revision(OLD), db_version: None, settings: String::new() });
    bench.fleet.db_version = Some(2);
    bench.ask(release(NEW, 1)).expect_err("a release of unknown version forgets nothing");
}

#[test]
fn a_database_upgrade_runs_while_requests_are_held() {
    let (mut bench, id) = Bench::holding(2);
    assert!(bench.fleet.table.hold.is_some());
    assert_eq!(bench.effects, [Effect::PushTable], "the balancer does not hold yet");
    bench.balancer_follows();
    let until = Millis(bench.observed.now.0 + 20_000);
    assert_eq!(bench.effects, [Effect::UpgradeDatabase(id, revision(NEW), until)]);
    assert!(bench.fleet.table.hold.is_some());
    bench.upgraded(id, Ok(()), Some(2));
    assert_eq!((bench.phase(), bench.fleet.table.hold), ("cutting over", None));
    assert_eq!(bench.served_from(), ["web-1 green", "web-2 green"]);
}

#[test]
fn an_upgrade_does_not_begin_while_a_request_runs() {
    for slot in SlotName::ALL {
        let (mut bench, _) = Bench::holding(2);
        bench.in_flight(1, slot, 1);
        bench.balancer_follows();
        assert_eq!(bench.phase(), "holding", "{slot}");
        bench.in_flight(1, slot, 0);
        assert_eq!(bench.phase(), "upgrading", "{slot}");
    }
}

#[test]
fn a_slow_download_does_not_hold_an_upgrade_up_once_php_is_known_to_be_idle() {
    let (mut bench, _) = Bench::holding(2);
    bench.in_flight(1, SlotName::Blue, 1);
    bench.balancer_follows();
    bench.wait(seconds(3), &[1, 2]);
    assert_eq!(bench.phase(), "holding", "the report may be older than the hold");
    bench.reports(1, SlotName::Blue, busy(OLD));
    bench.settle();
    assert_eq!(bench.phase(), "holding");
    bench.reports(1, SlotName::Blue, ready(OLD));
    bench.settle();
    assert_eq!(bench.phase(), "upgrading");
}

#[test]
fn a_foreman_that_has_just_started_does_not_take_silence_for_idle_php() {
    let (mut bench, _) = Bench::holding(2);
    bench.in_flight(1, SlotName::Blue, 1);
    bench.balancer_follows();
    let status = bench.observed.balancer.clone();
    bench.restart_foreman();
    bench.observed.balancer = status;
    bench.wait(seconds(5), &[]);
    assert_eq!(bench.phase(), "holding");
}

#[test]
fn a_hold_gives_up_by_not_deploying() {
    let (mut bench, _) = Bench::holding(1);
    bench.in_flight(1, SlotName::Blue, 1);
    bench.balancer_follows();
    bench.wait(bench.policy.hold_limit, &[1]);
    assert_eq!(
        bench.outcomes(),
        ["1 failed: requests in flight did not end within half of the hold limit"]
    );
    assert_eq!(bench.fleet.table.hold, None);
    assert_eq!(bench.served_from(), ["web-1 blue"]);
}

#[test]
fn an_upgrade_that_fails_or_takes_too_long_fails_the_deploy() {
    let (mut bench, id) = Bench::holding(1);
    bench.balancer_follows();
    bench.upgraded(id, Err("out of disk"), Some(1));
    assert_eq!(bench.outcomes(), ["1 failed: the database upgrade failed: out of disk"]);

    let (mut bench, _) = Bench::holding(1);
    bench.balancer_follows();
    bench.wait(bench.policy.hold_limit + UPGRADE_END_LIMIT, &[1]);
    assert_eq!(bench.phase(), "upgrading", "the shell ends it and looks what came of it");
    bench.wait(Duration::from_millis(1), &[1]);
    assert_eq!(
        bench.outcomes(),
        ["1 failed: the database upgrade did not end; the database may be upgraded"]
    );
    assert_eq!(bench.fleet.table.hold, None);
}

#[test]
fn an_upgrade_that_was_ended_after_its_work_goes_forward() {
    let (mut bench, id) = Bench::holding(1);
    bench.balancer_follows();
    bench.wait(bench.policy.hold_limit + seconds(1), &[1]);
    bench.upgraded(id, Err("it took too long"), Some(2));
    assert_eq!((bench.phase(), bench.fleet.table.hold), ("cutting over", None));
    assert_eq!(bench.served_from(), ["web-1 green"], "old code would meet a newer database");
}

#[test]
fn a_failed_upgrade_of_which_nothing_can_be_read_says_so() {
    let (mut bench, id) = Bench::holding(1);
    bench.balancer_follows();
    bench.upgraded(id, Err("the database went away"), None);
    assert_eq!(
        bench.outcomes(),
        ["1 failed: the database upgrade failed: the database went away; whether the database is \
          upgraded is not known"]
    );
}

#[test]
fn a_foreman_that_restarts_late_in_an_upgrade_has_the_time_to_look_at_the_database() {
    let (mut bench, id) = Bench::holding(1);
    bench.balancer_follows();
    let until = Millis(bench.observed.now.0 + 20_000);
    bench.observed.now.0 += 600_000;
    bench.restart_foreman();
    assert_eq!(bench.effects.last(), Some(&Effect::UpgradeDatabase(id, revision(NEW), until)));
    bench.all_report(SlotName::Green, &ready(NEW));
    bench.upgraded(id, Err("its time was up"), Some(2));
    assert_eq!(bench.served_from(), ["web-1 green"]);
}

#[test]
fn calling_off_an_upgrade_ends_it_first_and_remembers_what_it_did() {
    for (database, told) in [
        (1, "1 failed: called off by maria"),
        (2, "1 failed: called off by maria; the database is upgraded"),
    ] {
        let (mut bench, id) = Bench::holding(1);
        bench.balancer_follows();
        bench.fleet.call_off("maria", true).unwrap();
        bench.settle();
        assert_eq!(bench.phase(), "upgrading", "it may still run");
        let now = bench.observed.now;
        let ends =
            matches!(&bench.effects[..], [Effect::UpgradeDatabase(_, _, until)] if *until <= now);
        assert!(ends, "{:?}", bench.effects);
        bench.upgraded(id, Err("its time was up"), Some(database));
        assert_eq!(bench.outcomes(), [told]);
        assert_eq!(bench.served_from(), ["web-1 blue"]);
        assert_eq!(bench.ask(release(0xc, 1)).is_err(), database == 2);
    }
}

#[test]
fn a_foreman_that_restarts_hears_of_the_instances_before_it_cuts_over() {
    let (mut bench, id) = Bench::holding(2);
    bench.balancer_follows();
    bench.restart_foreman();
    bench.upgraded(id, Ok(()), Some(2));
    assert_eq!(bench.phase(), "upgrading");
    assert!(bench.fleet.table.hold.is_some());
    assert_eq!(bench.served_from(), ["web-1 blue", "web-2 blue"]);
    bench.all_report(SlotName::Green, &ready(NEW));
    bench.settle();
    assert_eq!(bench.served_from(), ["web-1 green", "web-2 green"]);
}

#[test]
fn a_foreman_that_restarts_hears_of_the_instances_before_it_swaps_back() {
    let (mut bench, id) = Bench::verifying(2);
    bench.restart_foreman();
    bench.smoke(id, Err("the front page was answered 500"));
    assert_eq!(bench.served_from(), ["web-1 green", "web-2 green"]);
    bench.all_report(SlotName::Blue, &ready(OLD));
    bench.settle();
    assert_eq!(bench.served_from(), ["web-1 blue", "web-2 blue"]);
}

#[test]
fn a_hold_can_be_asked_for_or_forbidden() {
    for (hold, db_version, expected) in [
        (HoldMode::Auto, 1, "cutting over"),
        (HoldMode::Auto, 2, "holding"),
        (HoldMode::Always, 1, "holding"),
        (HoldMode::Never, 2, "upgrading"),
    ] {
        let mut bench = Bench::new(1);
        bench.policy.hold = hold;
        bench.deploy(release(NEW, db_version));
        bench.reports(1, SlotName::Green, ready(NEW));
        bench.settle();
        assert_eq!(bench.phase(), expected, "{hold:?} to database version {db_version}");
    }
}

#[test]
fn a_push_during_a_deploy_waits_and_only_the_newest_starts() {
    let (mut bench, id) = Bench::verifying(1);
    let (second, accepted) = bench.ask(release(0xc, 1)).expect("accepted");
    assert_eq!(accepted, Accepted::Queued { behind: id, superseded: None });
    let (third, accepted) = bench.ask(release(0xd, 1)).expect("accepted");
    let Accepted::Queued { superseded: Some(former), .. } = accepted else {
        panic!("{accepted:?}");
    };
    assert_eq!(former.id, second);
    bench.smoke(id, Ok(()));
    bench.wait(bench.policy.verify_window, &[1]);
    let deploy = bench.fleet.deploy.as_ref().expect("the next deploy");
    assert_eq!((deploy.request.id, &bench.fleet.queued), (third, &None));
    assert_eq!(deploy.phase, Phase::Preparing);
}

#[test]
fn a_queued_request_that_has_become_pointless_is_ended_with_the_reason() {
    let (mut bench, id) = Bench::verifying(1);
    bench.ask(release(NEW, 1)).expect("accepted");
    bench.smoke(id, Ok(()));
    bench.wait(bench.policy.verify_window, &[1]);
    assert_eq!(bench.outcomes(), ["1 settled", "2 failed: revision `0000000` is already serving"]);
}

#[test]
fn a_new_instance_is_served_from_when_it_holds_the_serving_revision() {
    let mut bench = Bench::new(1);
    bench.fleet.resize(2, bench.observed.now);
    assert_eq!(bench.fleet.instances[&InstanceName::numbered(2)], Member::Active);
    bench.reports(2, SlotName::Blue, SlotReport { is_ready: false, ..ready(OLD) });
    bench.settle();
    assert_eq!(bench.served_from(), ["web-1 blue"], "it is not warm yet");
    bench.reports(2, SlotName::Blue, ready(NEW));
    bench.settle();
    assert_eq!(bench.served_from(), ["web-1 blue"], "it holds another revision");
    bench.reports(2, SlotName::Blue, ready(OLD));
    bench.settle();
    assert_eq!(bench.served_from(), ["web-1 blue", "web-2 blue"]);
}

#[test]
fn planning_again_changes_nothing() {
    let (bench, _) = Bench::verifying(3);
    let again = plan(&bench.fleet, &bench.observed, &bench.policy);
    assert_eq!((again.next, again.events), (None, Vec::new()));
    assert_eq!(again.effects, bench.effects);
}

#[test]
fn the_same_revision_with_other_settings_is_prepared_anew() {
    let mut bench = Bench::new(2);
    bench.fleet.releases.green = Some(release(OLD, 1));
    bench.all_report(SlotName::Green, &ready(OLD));
    let before = bench.fleet.generation;
    let again = Release { settings: "new".to_owned(), ..release(OLD, 1) };
    bench.deploy(again);
    // The idle slots hold the revision, but what they reported is older than the order.
    assert!(bench.fleet.generation > before, "agents take it as news");
    assert_eq!(bench.phase(), "preparing");
    assert_eq!(bench.fleet.desired().settings.get(SlotName::Green), "new");
    bench.all_report(SlotName::Green, &ready(OLD));
    bench.settle();
    assert_eq!(bench.served_from(), ["web-1 green", "web-2 green"]);
}
