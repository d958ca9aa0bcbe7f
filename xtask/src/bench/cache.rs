//! Pages with the object cache, without one, and with a drop-in of somebody else's.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::clock::sleep;
use super::commit::Clone;
use super::cpu::{Root, Usage, difference, usage};
use super::fleet::{Fleet, Shape};
use super::page::PATHS;
use super::statistics::{median, spread, table};
use super::visitors::{Site, load};
use super::{directory, machine};

const ROUNDS: u32 = 9;
const WORKERS: u16 = 2;
/// All are asked in turn for short slices, because others use the machine too.
const SLICES: usize = 6;
const SLICE_REQUESTS: usize = 30;
const REQUESTS: usize = SLICES * SLICE_REQUESTS;
/// Compiles every script and fills the caches.
const WARM_UP_REQUESTS: usize = 60;
/// For what WordPress does in the background at first, and for a page's list of values to be due.
const SETTLE_TIME: Duration = Duration::from_secs(35);
const OFF: &str = "[cache]\nobject = \"off\"\n";
const PARTS: [&str; 4] = ["php", "database", "cache", "nginx"];

/// One of those that are compared.
struct Contender {
    name: &'static str,
    fleet: Fleet,
    roots: Vec<Root>,
    rounds: Vec<Usage>,
    questions: Vec<f64>,
}

/// Measures and prints. `drop_in` is a file for `wp-content/object-cache.php`, for the comparison
/// only; what it needs of PHP must be installed.
pub(crate) fn run(
    program: &Path,
    rounds: Option<u32>,
    drop_in: Option<&Path>,
) -> anyhow::Result<()> {
    let shape = |name, more| Shape { name, instances: 1, workers: WORKERS, more };
    let mut contenders = vec![
        contender("no object cache", Fleet::start(program, &shape("cache-off", OFF))?)?,
        contender("flotilla's", Fleet::start(program, &shape("cache-on", ""))?)?,
    ];
    if let Some(drop_in) = drop_in {
        let fleet = Fleet::start(program, &shape("cache-peer", ""))?;
        deploy_drop_in(&fleet, drop_in)?;
        contenders.push(contender("drop-in of the site", fleet)?);
    }
    for _ in 0..2 {
        for contender in &contenders {
            load(&contender.site(), usize::from(WORKERS), WARM_UP_REQUESTS)?;
        }
        sleep(SETTLE_TIME);
    }
    for number in 0..rounds.unwrap_or(ROUNDS) {
        run_round(&mut contenders)?;
        eprintln!("cache: round {} is done, load average {}", number + 1, machine::busy());
    }
    print(&contenders);
    contenders.into_iter().try_for_each(|contender| contender.fleet.destroy())
}

fn contender(name: &'static str, fleet: Fleet) -> anyhow::Result<Contender> {
    let roots = fleet.roots()?;
    Ok(Contender { name, fleet, roots, rounds: Vec::new(), questions: Vec::new() })
}

impl Contender {
    fn site(&self) -> Site<'_> {
        Site { address: self.fleet.address, host: &self.fleet.host, paths: &PATHS }
    }
}

fn deploy_drop_in(fleet: &Fleet, drop_in: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(drop_in)
        .with_context(|| format!("cannot read `{}`", drop_in.display()))?;
    let servers = format!(
        "<?php\n$GLOBALS['memcached_servers'] = array( 'default' => array( '127.0.0.1:{}' ) );\n\
         require __DIR__ . '/object-cache-of-the-site.php';\n",
        fleet.port("cache")?
    );
    let clone = Clone::of(&fleet.repository(), directory().join("cache-peer-clone"))?;
    clone.push_files(&[
        ("wp-content/object-cache.php", &servers),
        ("wp-content/object-cache-of-the-site.php", &text),
    ])?;
    fleet.deploy()
}

fn run_round(contenders: &mut [Contender]) -> anyhow::Result<()> {
    let mut usages = vec![Usage::new(); contenders.len()];
    let mut questions = vec![0; contenders.len()];
    for slice in 0..SLICES {
        let count = contenders.len();
        // Who goes first changes, so that none always follows the same other.
        for place in 0..count {
            let index = (place + slice) % count;
            let (Some(contender), Some(used), Some(asked)) =
                (contenders.get(index), usages.get_mut(index), questions.get_mut(index))
            else {
                continue;
            };
            let before = (usage(&contender.roots), contender.fleet.questions()?);
            load(&contender.site(), usize::from(WORKERS), SLICE_REQUESTS)?;
            *asked += contender.fleet.questions()?.saturating_sub(before.1);
            for (part, seconds) in difference(&before.0, &usage(&contender.roots)) {
                *used.entry(part).or_default() += seconds;
            }
        }
    }
    for ((contender, used), asked) in contenders.iter_mut().zip(usages).zip(questions) {
        contender.rounds.push(used);
        #[expect(clippy::cast_precision_loss, reason = "a few thousand questions")]
        contender.questions.push(asked as f64 / REQUESTS as f64);
    }
    Ok(())
}

/// CPU milliseconds of a part for each request, by round.
fn millis(contender: &Contender, part: &str) -> Vec<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a few hundred requests")]
    let of_round =
        |used: &Usage| used.get(part).copied().unwrap_or_default() * 1e3 / REQUESTS as f64;
    contender.rounds.iter().map(of_round).collect()
}

fn print(contenders: &[Contender]) {
    println!("### Object cache: {WORKERS} PHP workers, {REQUESTS} requests a round\n");
    println!("CPU ms for each page, and what the database is asked for it, connecting included:\n");
    let rows: Vec<Vec<String>> = contenders.iter().map(row).collect();
    println!("{}", table(&["", "PHP", "database", "memcached", "nginx", "questions"], &rows));
    let Some((plain, others)) = contenders.split_first() else { return };
    for other in others {
        let ratios: Vec<f64> = millis(other, "php")
            .iter()
            .zip(millis(plain, "php"))
            .map(|(with, without)| with / without)
            .collect();
        println!(
            "PHP's CPU with {}, to that without a cache, in the same round: **{}**\n",
            other.name,
            spread(&ratios, 3)
        );
    }
}

fn row(contender: &Contender) -> Vec<String> {
    let mut cells = vec![contender.name.to_owned()];
    cells.extend(PARTS.map(|part| spread(&millis(contender, part), 2)));
    cells.push(format!("{:.1}", median(&contender.questions)));
    cells
}
