//! One list of promises, held against each server.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::bench::Bench;
use crate::server::Kind;
use crate::{fleet, model, posix};

/// How many random operations are tried.
const QUICK_OPERATIONS: usize = 60;
const MANY_OPERATIONS: usize = 600;

#[test]
fn what_posix_promises_holds_with_our_server() {
    posix_holds(Kind::Ours, posix::QUICK, &[]);
}

#[test]
fn what_instances_are_promised_of_each_other_holds_with_our_server() {
    fleet_holds(Kind::Ours, fleet::QUICK, &[]);
}

#[test]
fn e2e_what_instances_are_promised_in_a_race_holds_with_our_server() {
    fleet_holds(Kind::Ours, fleet::RACES, &[]);
}

#[test]
fn a_mount_does_what_a_plain_directory_does_with_our_server() {
    model::holds(Kind::Ours, QUICK_OPERATIONS);
}

#[test]
fn e2e_what_posix_promises_of_much_holds_with_our_server() {
    posix_holds(Kind::Ours, posix::LONG, &[]);
}

#[test]
fn e2e_what_posix_promises_holds_with_seaweedfs() {
    let all = [posix::QUICK, posix::LONG].concat();
    posix_holds(Kind::Seaweed, &all, &[posix::DIRECTORY_MODES]);
}

#[test]
fn e2e_what_instances_are_promised_of_each_other_holds_with_seaweedfs() {
    fleet_holds(Kind::Seaweed, &[fleet::QUICK, fleet::RACES].concat(), &fleet::APPENDS);
}

#[test]
fn e2e_a_mount_does_what_a_plain_directory_does_with_our_server_for_long() {
    model::holds(Kind::Ours, MANY_OPERATIONS);
}

#[test]
fn e2e_a_mount_does_what_a_plain_directory_does_with_seaweedfs() {
    model::holds(Kind::Seaweed, QUICK_OPERATIONS);
}

fn posix_holds(kind: Kind, checks: &[(&str, posix::Check)], excepted: &[&str]) {
    let bench = Bench::new(kind);
    let instance = bench.instance("web-1");
    let mut broken = Vec::new();
    for (promise, check) in checks {
        let directory = instance.root().join(promise.replace(' ', "-"));
        std::fs::create_dir(&directory).unwrap();
        let is_kept = catch_unwind(AssertUnwindSafe(|| check(&directory))).is_ok();
        if !is_kept && !excepted.contains(promise) {
            broken.push(*promise);
        }
    }
    assert!(broken.is_empty(), "broken promises: {broken:#?}\n{}", instance.log());
}

fn fleet_holds(kind: Kind, checks: &[(&str, fleet::Check)], excepted: &[&str]) {
    let bench = Bench::new(kind);
    let instances = bench.instances(3);
    let mut broken = Vec::new();
    for (promise, check) in checks {
        let is_kept = catch_unwind(AssertUnwindSafe(|| check(&instances))).is_ok();
        if !is_kept && !excepted.contains(promise) {
            broken.push(*promise);
        }
    }
    let logs: Vec<String> = instances.iter().map(|instance| instance.log()).collect();
    assert!(broken.is_empty(), "broken promises: {broken:#?}\n{logs:#?}");
}
