//! The first requests after a cutover, against steady state; a cold opcache beside them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

use super::clock::Moment;
use super::commit::Clone;
use super::cpu::{Root, pids, precise_nanos};
use super::fleet::{Fleet, Shape};
use super::http::Visitor;
use super::peer::{Peer, Plan, copy_site};
use super::statistics::{mean, percentile, spread, table};
use super::visitors::{Site, ask, load};
use super::{address, directory, machine};

const ROUNDS: u32 = 6;
const WORKERS: u16 = 2;
const INSTANCES: u16 = 2;
const SAMPLE: usize = 50;
const WARM_UP_REQUESTS: usize = 80;
const CUTOVER_LIMIT: Duration = Duration::from_secs(180);
const TARGET_RATIO: f64 = 1.3;
const PATHS: [&str; 10] = [
    "/",
    "/hello-world/",
    "/sample-page/",
    "/?s=hello",
    "/category/uncategorized/",
    "/author/admin/",
    "/feed/",
    "/comments/feed/",
    "/wp-json/wp/v2/posts",
    "/wp-login.php",
];
const SHAPE: Shape = Shape {
    name: "cutover",
    instances: INSTANCES,
    workers: WORKERS,
    more: "[deploy]\nverify_window = \"2s\"\n",
};

/// Fifty requests, one after the other.
#[derive(Default)]
struct Sample {
    wall_millis: Vec<f64>,
    cpu_millis: Vec<f64>,
}

impl Sample {
    fn append(&mut self, mut other: Self) {
        self.wall_millis.append(&mut other.wall_millis);
        self.cpu_millis.append(&mut other.cpu_millis);
    }
}

#[derive(Default)]
struct Samples(Vec<Sample>);

impl Samples {
    fn pooled(&self, of: fn(&Sample) -> &[f64]) -> Vec<f64> {
        self.0.iter().flat_map(|sample| of(sample).iter().copied()).collect()
    }

    /// The ratio of two p99 in each round.
    fn ratios(&self, to: &Self, of: fn(&Sample) -> &[f64]) -> Vec<f64> {
        let pairs = self.0.iter().zip(&to.0);
        pairs.map(|(one, other)| percentile(of(one), 99.0) / percentile(of(other), 99.0)).collect()
    }
}

/// Measures and prints.
pub(crate) fn run(program: &Path, rounds: Option<u32>) -> anyhow::Result<()> {
    let fleet = Fleet::start(program, &SHAPE)?;
    let mut clone = Clone::of(&fleet.repository(), directory().join("cutover-clone"))?;
    let slot = fleet.slot("web-1")?;
    let peer_directory = directory().join("cutover-peer");
    copy_site(&slot, &peer_directory)?;
    let plan = Plan {
        directory: peer_directory,
        address: address::free(1)?.pop().context("there is no free port")?,
        slot: &slot,
        workers: WORKERS * INSTANCES,
        nginx_workers: "auto",
    };
    let mut peer = Peer::start(&plan)?;
    let is_asked = |(part, _): &Root| ["slots", "balancer", "database"].contains(&part.as_str());
    let (mut steady, mut fresh) = (Samples::default(), Samples::default());
    let (mut plain_steady, mut plain_cold) = (Samples::default(), Samples::default());
    for number in 0..rounds.unwrap_or(ROUNDS) {
        let site = Site { address: fleet.address, host: &fleet.host, paths: &PATHS };
        let roots = || Ok(fleet.roots()?.into_iter().filter(is_asked).collect::<Vec<_>>());
        load(&site, usize::from(WORKERS * INSTANCES), WARM_UP_REQUESTS)?;
        steady.0.push(sample(&site, &roots()?)?);
        clone.push_ten_files()?;
        fresh.0.push(sample_after_cutover(&fleet, &site, &roots)?);
        // On both sides of what is compared with it: others use the machine too.
        if let Some(sample) = steady.0.last_mut() {
            sample.append(self::sample(&site, &roots()?)?);
        }

        let site = Site { address: peer.address, host: &fleet.host, paths: &PATHS };
        let database = roots()?.into_iter().filter(|(part, _)| part == "database");
        let database: Vec<Root> = database.collect();
        load(&site, usize::from(WORKERS * INSTANCES), WARM_UP_REQUESTS)?;
        plain_steady.0.push(sample(&site, &[peer.roots(), database.clone()].concat())?);
        peer.restart_php()?;
        plain_cold.0.push(sample(&site, &[peer.roots(), database].concat())?);
        eprintln!("cutover: round {} is done, load average {}", number + 1, machine::busy());
    }
    print(&[
        ("flotilla, steady", &steady),
        ("flotilla, after a cutover", &fresh),
        ("plain, steady", &plain_steady),
        ("plain, php-fpm restarted", &plain_cold),
    ]);
    conclude(&fresh, &steady, "first 50 after a cutover to steady state");
    conclude(&plain_cold, &plain_steady, "first 50 with a cold opcache to steady state");
    let verdict = |of| {
        let ratio = p99(&fresh, of) / p99(&steady, of);
        if ratio <= TARGET_RATIO { "met" } else { "missed" }
    };
    println!(
        "The target of {TARGET_RATIO} for p99 after a cutover is {}; of CPU time, which does not \
         count who else used the machine, it is {}\n",
        verdict(wall),
        verdict(cpu)
    );
    drop(peer);
    fleet.destroy()
}

fn sample(site: &Site<'_>, roots: &[Root]) -> anyhow::Result<Sample> {
    let pids = pids(roots);
    let mut visitor = Visitor::new(site.address, site.host);
    let mut sample = Sample::default();
    for number in 0..SAMPLE {
        take(&mut sample, &pids, || Ok(ask(&mut visitor, site, number)?.took()))?;
    }
    Ok(sample)
}

/// Asks all the time; the sample begins with the first page of the new release.
fn sample_after_cutover(
    fleet: &Fleet,
    site: &Site<'_>,
    roots: &dyn Fn() -> anyhow::Result<Vec<Root>>,
) -> anyhow::Result<Sample> {
    let mut visitor = Visitor::new(site.address, site.host);
    let before = ask(&mut visitor, site, 0)?.revision.context("a page names no release")?;
    // Both slots of each instance run, so these are also the processes after the cutover.
    let mut pids = pids(&roots()?);
    std::thread::scope(|scope| {
        let deploy = scope.spawn(|| fleet.deploy());
        let started_at = Moment::now();
        let mut listed_at = Moment::now();
        let mut sample = Sample::default();
        let mut number = 0;
        while sample.wall_millis.len() < SAMPLE {
            let mut one = Sample::default();
            let mut revision = None;
            take(&mut one, &pids, || {
                let answer = ask(&mut visitor, site, number)?;
                revision.clone_from(&answer.revision);
                Ok(answer.took())
            })?;
            number += 1;
            let is_new = revision.is_some_and(|revision| revision != before);
            if is_new || !sample.wall_millis.is_empty() {
                sample.append(one);
            } else if listed_at.elapsed() > Duration::from_millis(200) {
                // The first deploy starts the processes of the second slot.
                pids = super::cpu::pids(&roots()?);
                listed_at = Moment::now();
            }
            if started_at.elapsed() > CUTOVER_LIMIT {
                bail!("no page of the new release came within {} s", CUTOVER_LIMIT.as_secs());
            }
        }
        match deploy.join() {
            Ok(outcome) => outcome.map(|_| sample),
            Err(_) => bail!("the deploy panicked"),
        }
    })
}

fn take(
    sample: &mut Sample,
    pids: &[i32],
    request: impl FnOnce() -> anyhow::Result<Duration>,
) -> anyhow::Result<()> {
    let before = precise_nanos(pids);
    let took = request()?;
    let nanos = precise_nanos(pids).saturating_sub(before);
    sample.wall_millis.push(took.as_secs_f64() * 1e3);
    sample.cpu_millis.push(Duration::from_nanos(nanos).as_secs_f64() * 1e3);
    Ok(())
}

fn wall(sample: &Sample) -> &[f64] {
    &sample.wall_millis
}

fn cpu(sample: &Sample) -> &[f64] {
    &sample.cpu_millis
}

fn p99(samples: &Samples, of: fn(&Sample) -> &[f64]) -> f64 {
    percentile(&samples.pooled(of), 99.0)
}

fn print(all: &[(&str, &Samples)]) {
    println!(
        "### Cutover: {INSTANCES} instances of {WORKERS} PHP workers, {SAMPLE} requests one after \
         the other over {} addresses, a commit of ten files\n",
        PATHS.len()
    );
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|(name, samples)| {
            let (wall, cpu) = (samples.pooled(wall), samples.pooled(cpu));
            let show = |values: &[f64], percent| format!("{:.0}", percentile(values, percent));
            vec![
                (*name).to_owned(),
                show(&wall, 50.0),
                show(&wall, 99.0),
                show(&wall, 100.0),
                show(&cpu, 50.0),
                show(&cpu, 99.0),
                format!("{:.0}", mean(&cpu)),
            ]
        })
        .collect();
    let header = ["", "p50 ms", "p99 ms", "max ms", "CPU p50 ms", "CPU p99 ms", "CPU mean ms"];
    println!("{}", table(&header, &rows));
}

fn conclude(fresh: &Samples, steady: &Samples, what: &str) {
    let mean = |samples: &Samples| mean(&samples.pooled(cpu));
    println!(
        "Ratio of the {what}: p99 **{:.2}** (each round: {}), CPU p99 {:.2} (each round: {}), CPU \
         mean {:.2}\n",
        p99(fresh, wall) / p99(steady, wall),
        spread(&fresh.ratios(steady, wall), 2),
        p99(fresh, cpu) / p99(steady, cpu),
        spread(&fresh.ratios(steady, cpu), 2),
        mean(fresh) / mean(steady),
    );
}
