//! Pages through the whole stack, against plain nginx and php-fpm.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::clock::sleep;
use super::cpu::{Root, Usage, difference, usage};
use super::fleet::{Fleet, Shape};
use super::peer::{Peer, Plan, copy_site};
use super::statistics::{median, millis, percentile, spread, table};
use super::visitors::{Site, load};
use super::{address, directory, machine};

const ROUNDS: u32 = 9;
const WORKERS: u16 = 4;
/// Both are asked in turn for short slices, because others use the machine too.
const SLICES: usize = 6;
const SLICE_REQUESTS: usize = 30;
const REQUESTS: usize = SLICES * SLICE_REQUESTS;
/// Compiles every script, opens every connection.
const WARM_UP_REQUESTS: usize = 60;
/// The first pages of a site make WordPress do what was due in the background.
const SETTLE_TIME: Duration = Duration::from_secs(3);
const TARGET_RATIO: f64 = 0.95;
/// Whole pages of a new WordPress.
pub(crate) const PATHS: [&str; 5] =
    ["/", "/hello-world/", "/sample-page/", "/?s=hello", "/category/uncategorized/"];
const SHAPE: Shape = Shape { name: "page", instances: 1, workers: WORKERS, more: "" };

/// One of the two that are compared.
struct Contender<'a> {
    name: &'a str,
    site: Site<'a>,
    roots: Vec<Root>,
    rounds: Vec<Round>,
}

#[derive(Default)]
struct Round {
    usage: Usage,
    seconds: f64,
    millis: Vec<f64>,
    bytes: usize,
}

#[expect(clippy::cast_precision_loss, reason = "a few hundred requests")]
impl Round {
    fn cpu(&self) -> f64 {
        self.usage.values().sum()
    }

    fn requests_per_cpu_second(&self) -> f64 {
        REQUESTS as f64 / self.cpu()
    }

    fn requests_per_second(&self) -> f64 {
        REQUESTS as f64 / self.seconds
    }

    fn bytes_each(&self) -> f64 {
        self.bytes as f64 / REQUESTS as f64
    }
}

/// Measures and prints.
pub(crate) fn run(program: &Path, rounds: Option<u32>) -> anyhow::Result<()> {
    let fleet = Fleet::start(program, &SHAPE)?;
    let slot = fleet.slot("web-1")?;
    let peer_directory = directory().join("page-peer");
    copy_site(&slot, &peer_directory)?;
    let address = address::free(1)?.pop().context("there is no free port")?;
    let plan = Plan {
        directory: peer_directory,
        address,
        slot: &slot,
        workers: WORKERS,
        nginx_workers: "auto",
    };
    let peer = Peer::start(&plan)?;
    let fleet_roots = fleet.roots()?;
    // One database serves both: what it uses counts for whoever is asked.
    let database = fleet_roots.iter().filter(|(part, _)| part == "database").cloned();
    let peer_roots = peer.roots().into_iter().chain(database).collect();
    let site = |address| Site { address, host: &fleet.host, paths: &PATHS };
    let mut contenders = [
        contender("flotilla", site(fleet.address), fleet_roots),
        contender("plain nginx + php-fpm", site(peer.address), peer_roots),
    ];
    for contender in &contenders {
        load(&contender.site, usize::from(WORKERS), WARM_UP_REQUESTS)?;
    }
    sleep(SETTLE_TIME);
    for number in 0..rounds.unwrap_or(ROUNDS) {
        run_round(&mut contenders)?;
        eprintln!("page: round {} is done, load average {}", number + 1, machine::busy());
    }
    print(&contenders);
    drop(peer);
    fleet.destroy()
}

fn contender<'a>(name: &'a str, site: Site<'a>, roots: Vec<Root>) -> Contender<'a> {
    Contender { name, site, roots, rounds: Vec::new() }
}

fn run_round(contenders: &mut [Contender<'_>; 2]) -> anyhow::Result<()> {
    let mut rounds = [Round::default(), Round::default()];
    for slice in 0..SLICES {
        // Who goes first changes, so that neither always follows the other.
        for number in if slice % 2 == 0 { [0, 1] } else { [1, 0] } {
            if let (Some(contender), Some(round)) = (contenders.get(number), rounds.get_mut(number))
            {
                add_slice(contender, round)?;
            }
        }
    }
    for (contender, round) in contenders.iter_mut().zip(rounds) {
        contender.rounds.push(round);
    }
    Ok(())
}

fn add_slice(contender: &Contender<'_>, round: &mut Round) -> anyhow::Result<()> {
    let before = usage(&contender.roots);
    let load = load(&contender.site, usize::from(WORKERS), SLICE_REQUESTS)?;
    for (part, seconds) in difference(&before, &usage(&contender.roots)) {
        *round.usage.entry(part).or_default() += seconds;
    }
    round.seconds += load.took.as_secs_f64();
    round.millis.extend(millis(&load.times));
    round.bytes += load.bytes;
    Ok(())
}

fn print([fleet, plain]: &[Contender<'_>; 2]) {
    let ratios: Vec<f64> = fleet
        .rounds
        .iter()
        .zip(&plain.rounds)
        .map(|(ours, theirs)| ours.requests_per_cpu_second() / theirs.requests_per_cpu_second())
        .collect();
    println!(
        "### Pages: {WORKERS} PHP workers, {WORKERS} connections, {REQUESTS} requests a round\n"
    );
    let rows: Vec<Vec<String>> = [fleet, plain].into_iter().map(row).collect();
    let header = ["", "requests per CPU-s", "requests/s", "p50 ms", "p99 ms", "bytes"];
    println!("{}", table(&header, &rows));
    println!("CPU ms for each request, by part (medians):\n");
    let rows: Vec<Vec<String>> = [fleet, plain].into_iter().map(parts_row).collect();
    println!("{}", table(&["", "PHP", "nginx", "balancer", "database", "other"], &rows));
    let is_met = if median(&ratios) >= TARGET_RATIO { "met" } else { "missed" };
    println!(
        "Ratio of requests per CPU-second in the same round: **{}**; the target of {TARGET_RATIO} \
         is {is_met}\n",
        spread(&ratios, 3)
    );
}

fn row(contender: &Contender<'_>) -> Vec<String> {
    let show = |value: fn(&Round) -> f64, digits| {
        spread(&contender.rounds.iter().map(value).collect::<Vec<_>>(), digits)
    };
    vec![
        contender.name.to_owned(),
        show(Round::requests_per_cpu_second, 1),
        show(Round::requests_per_second, 1),
        show(|round| percentile(&round.millis, 50.0), 0),
        show(|round| percentile(&round.millis, 99.0), 0),
        show(Round::bytes_each, 0),
    ]
}

fn parts_row(contender: &Contender<'_>) -> Vec<String> {
    const NAMED: [&str; 4] = ["php", "nginx", "balancer", "database"];
    let cost = |belongs: &dyn Fn(&str) -> bool| {
        let of_round = |round: &Round| {
            let parts = round.usage.iter().filter(|(part, _)| belongs(part));
            #[expect(clippy::cast_precision_loss, reason = "a few hundred requests")]
            let millis = parts.map(|(_, seconds)| seconds * 1e3).sum::<f64>() / REQUESTS as f64;
            millis
        };
        format!("{:.2}", median(&contender.rounds.iter().map(of_round).collect::<Vec<_>>()))
    };
    let mut cells = vec![contender.name.to_owned()];
    cells.extend(NAMED.iter().map(|name| cost(&|part| part == *name)));
    cells.push(cost(&|part| !NAMED.contains(&part)));
    cells
}
