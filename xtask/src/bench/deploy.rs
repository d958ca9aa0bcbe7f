//! A commit of ten files to fleets of several sizes, beside the same done by Ansible.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;

use super::ansible::Hosts;
use super::clock::Moment;
use super::commit::Clone;
use super::cpu::{Root, reaped_seconds, usage};
use super::fleet::{Fleet, Shape};
use super::probe::{Sight, watch};
use super::statistics::{median, spread, table};
use super::visitors::{Site, load};
use super::{directory, machine};

const ROUNDS: u32 = 3;
const SHAPE: Shape = Shape {
    name: "deploy",
    instances: 1,
    workers: 1,
    more: "[deploy]\nverify_window = \"2s\"\nprepare_timeout = \"5m\"\n\
           [database]\nmax_connections = 400\n",
};
/// Pages of each instance, before it is deployed to: a fleet that serves has compiled its scripts.
const WARM_UP_REQUESTS: u16 = 10;

/// One way to deploy.
#[derive(Default)]
struct Deploys {
    name: &'static str,
    /// Until the first visitor saw the new release: nobody noticed anything before.
    prepare_seconds: Vec<f64>,
    seconds: Vec<f64>,
    cpu_seconds: Vec<f64>,
    mixed_millis: Vec<f64>,
    stale: usize,
    failed: usize,
    requests: usize,
}

impl Deploys {
    fn push(&mut self, sight: &Sight, whole: Duration, cpu_seconds: f64) -> anyhow::Result<()> {
        let Some(seconds) = sight.until_all_new else {
            bail!("no visitor saw the new release within {} s", whole.as_secs());
        };
        let prepared = seconds.saturating_sub(sight.mixed_for);
        self.prepare_seconds.push(prepared.as_secs_f64());
        self.seconds.push(seconds.as_secs_f64());
        self.cpu_seconds.push(cpu_seconds);
        self.mixed_millis.push(sight.mixed_for.as_secs_f64() * 1e3);
        self.stale += sight.stale;
        self.failed += sight.failed;
        self.requests += sight.requests;
        Ok(())
    }
}

/// Measures and prints.
pub(crate) fn run(
    program: &Path,
    rounds: Option<u32>,
    sizes: &[u16],
    has_ansible: bool,
) -> anyhow::Result<()> {
    let fleet = Fleet::start(program, &SHAPE)?;
    let mut clone = Clone::of(&fleet.repository(), directory().join("deploy-clone"))?;
    let mut sizes = sizes.to_vec();
    sizes.sort_unstable();
    sizes.dedup();
    println!("### Deploy: a commit of ten files, 1 PHP worker for each slot and host\n");
    for size in sizes {
        let hosts = if has_ansible { Some(Hosts::start(&fleet, size)?) } else { None };
        fleet.scale(size)?;
        let mut ours = Deploys { name: "flotilla", ..Deploys::default() };
        let mut theirs = Deploys { name: "ansible", ..Deploys::default() };
        // The first deploy starts the processes of the second slots; it is not counted.
        clone.push_ten_files()?;
        fleet.deploy()?;
        if let Some(hosts) = &hosts {
            hosts.play()?;
        }
        for number in 0..rounds.unwrap_or(ROUNDS) {
            let mark = clone.push_ten_files()?;
            deploy_to_fleet(&fleet, size, &mark, &mut ours)?;
            if let Some(hosts) = &hosts {
                play_to_hosts(hosts, &fleet.host, &mark, &mut theirs)?;
            }
            eprintln!("deploy: {size}, round {} is done, load {}", number + 1, machine::busy());
        }
        print(size, &ours, hosts.is_some().then_some(&theirs));
    }
    fleet.destroy()
}

fn deploy_to_fleet(
    fleet: &Fleet,
    size: u16,
    mark: &str,
    deploys: &mut Deploys,
) -> anyhow::Result<()> {
    let site = Site { address: fleet.address, host: &fleet.host, paths: &["/", "/hello-world/"] };
    load(&site, 2, usize::from(size * WARM_UP_REQUESTS))?;
    let roots = fleet.roots()?;
    let before = spent(&roots);
    let started_at = Moment::now();
    let (sight, deployed) = watch(&[fleet.address], &fleet.host, mark, || fleet.deploy());
    deployed?;
    deploys.push(&sight, started_at.elapsed(), spent(&roots) - before)
}

fn play_to_hosts(
    hosts: &Hosts,
    host: &str,
    mark: &str,
    deploys: &mut Deploys,
) -> anyhow::Result<()> {
    let addresses: Vec<SocketAddr> = hosts.addresses();
    for address in &addresses {
        let site = Site { address: *address, host, paths: &["/", "/hello-world/"] };
        load(&site, 1, usize::from(WARM_UP_REQUESTS))?;
    }
    let roots = hosts.roots();
    let before = spent(&roots);
    let started_at = Moment::now();
    let (sight, played) = watch(&addresses, host, mark, || hosts.play());
    played?;
    deploys.push(&sight, started_at.elapsed(), spent(&roots) - before)
}

/// CPU seconds of trees and of the commands that were run.
fn spent(roots: &[Root]) -> f64 {
    usage(roots).values().sum::<f64>() + reaped_seconds()
}

fn print(size: u16, ours: &Deploys, theirs: Option<&Deploys>) {
    println!("{size} instances:\n");
    let rows: Vec<Vec<String>> = std::iter::once(ours).chain(theirs).map(row).collect();
    let header = [
        "",
        "s to prepare",
        "s until all see it",
        "CPU-s",
        "mixed for ms",
        "old after new",
        "failed",
        "requests",
    ];
    println!("{}", table(&header, &rows));
    if let Some(theirs) = theirs {
        println!(
            "Ansible takes {:.1} times as long and {:.1} times the CPU\n",
            median(&theirs.seconds) / median(&ours.seconds),
            median(&theirs.cpu_seconds) / median(&ours.cpu_seconds)
        );
    }
}

fn row(deploys: &Deploys) -> Vec<String> {
    vec![
        deploys.name.to_owned(),
        spread(&deploys.prepare_seconds, 1),
        spread(&deploys.seconds, 1),
        spread(&deploys.cpu_seconds, 1),
        spread(&deploys.mixed_millis, 0),
        deploys.stale.to_string(),
        deploys.failed.to_string(),
        deploys.requests.to_string(),
    ]
}
