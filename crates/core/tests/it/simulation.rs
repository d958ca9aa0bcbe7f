//! The whole deploy protocol in virtual time, one seed at a time.
//!
//! A foreman, agents, a balancer, a database and visitors run against the real planner on a network
//! that loses, doubles, delays and reorders; every process may die at any step. No real time, no
//! threads inside a run: a seed always gives the same run. `FLOTILLA_SEED` runs one seed,
//! `FLOTILLA_SEEDS` sets how many each test runs.

mod agent;
mod balancer;
mod checker;
mod foreman;
mod promises;
mod random;
mod script;
mod site;
mod world;

use std::collections::BTreeMap;

use flotilla_core::deploy::{Cause, Outcome};

use self::site::{Quality, quality};
use self::world::{Weather, World};

const SEEDS: u64 = 300;

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("FLOTILLA_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("FLOTILLA_SEEDS").unwrap_or(SEEDS),
    }
}

/// Runs a seed; a failing one runs again to tell what happened last.
fn run(seed: u64, weather: Weather) -> World {
    let mut world = World::new(seed, weather, false);
    if world.run().is_err() {
        let broken =
            World::new(seed, weather, true).run().expect_err("a seed always does the same");
        panic!("FLOTILLA_SEED={seed} ({weather:?}): {broken}");
    }
    world
}

fn total(counts: &mut BTreeMap<&'static str, u64>, world: &World) {
    for (what, count) in &world.checker.counts {
        *counts.entry(what).or_default() += count;
    }
}

#[test]
fn no_fault_breaks_a_promise() {
    let mut counts = BTreeMap::new();
    for seed in seeds() {
        total(&mut counts, &run(seed, Weather::Storm));
    }
    if std::env::var("FLOTILLA_SEED").is_err() {
        for what in
            ["settled", "failed", "swapped back", "superseded", "called off", "upgrade", "served"]
        {
            assert!(counts.contains_key(what), "no run had `{what}`: {counts:?}");
        }
    }
}

#[test]
fn without_faults_every_deploy_ends_as_its_release_deserves() {
    for seed in seeds() {
        let world = run(seed, Weather::Calm);
        for (id, (request, outcome)) in &world.foreman.store.outcomes {
            let reason = match outcome {
                Outcome::Failed { reason } | Outcome::SwappedBack { reason } => reason.as_str(),
                _ => "",
            };
            let is_refused = ["already serving", "the database was upgraded", "called off"]
                .iter()
                .any(|why| reason.contains(why));
            let is_deserved = match quality(&request.release.revision) {
                Quality::Good | Quality::Flaky => outcome.is_settled(),
                Quality::Broken => matches!(outcome, Outcome::SwappedBack { .. }),
                Quality::Unpreparable => matches!(outcome, Outcome::Failed { .. }),
            };
            assert!(
                is_deserved || is_refused || matches!(outcome, Outcome::Superseded { .. }),
                "FLOTILLA_SEED={seed}: deploy {id} of {request:?} ended with {outcome:?}"
            );
        }
        let is_installed = world
            .foreman
            .store
            .outcomes
            .values()
            .any(|(request, _)| request.cause == Cause::Install);
        assert!(is_installed, "FLOTILLA_SEED={seed}: nothing was installed");
    }
}
