//! From the last write of a change in the workshop until every visitor gets it.

use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use serde_json::Value;

use super::clock::sleep;
use super::commit::{Clone, PROBE_PATH};
use super::fleet::{Fleet, Shape};
use super::probe::watch;
use super::statistics::{spread, table};
use super::{directory, machine, write};

const ROUNDS: u32 = 5;
const FILES: [usize; 3] = [1, 10, 1000];
const SHAPE: Shape = Shape {
    name: "capture",
    instances: 1,
    workers: 1,
    more: "[deploy]\nverify_window = \"1s\"\nprepare_timeout = \"5m\"\n\
           [database]\nmax_connections = 400\n",
};
/// Says which change is there.
const PROBE: &str = "<?php\n@include __DIR__ . '/wp-content/plugins/bench/mark.php';\n";
const POLL_INTERVAL: Duration = Duration::from_millis(250);
const POLLS_MAX: u32 = 1200;

/// Measures and prints.
pub(crate) fn run(program: &Path, rounds: Option<u32>, sizes: &[u16]) -> anyhow::Result<()> {
    let fleet = Fleet::start(program, &SHAPE)?;
    // A program that appears beside WordPress' own would be an alarm.
    let clone = Clone::of(&fleet.repository(), directory().join("capture-clone"))?;
    clone.push_files(&[(PROBE_PATH.trim_start_matches('/'), PROBE)])?;
    fleet.deploy()?;
    let mut sizes = sizes.to_vec();
    sizes.sort_unstable();
    sizes.dedup();
    println!(
        "### Capture: s from the last write to the last visitor, 1 PHP worker for each slot\n"
    );
    let mut rows = Vec::new();
    let mut number = 0;
    for size in sizes {
        fleet.scale(size)?;
        // The first ones start the processes of the second slots; they are not counted.
        for _ in 0..2 {
            number += 1;
            change(&fleet, number, 1)?;
        }
        let mut row = vec![size.to_string()];
        for files in FILES {
            let mut seconds = Vec::new();
            for _ in 0..rounds.unwrap_or(ROUNDS) {
                number += 1;
                seconds.push(change(&fleet, number, files)?);
            }
            eprintln!("capture: {size} instances, {files} files, load {}", machine::busy());
            row.push(spread(&seconds, 1));
        }
        rows.push(row);
    }
    let head = ["instances", "1 file", "10 files", "1,000 files"];
    println!("{}", table(&head, &rows));
    fleet.destroy()
}

/// Writes files as somebody does over SFTP, and waits until they are in service.
fn change(fleet: &Fleet, number: u32, files: usize) -> anyhow::Result<f64> {
    let mark = format!("change {number}");
    let site = fleet.workshop();
    for file in 1..files {
        let path = site.join(format!("wp-content/plugins/bench/{file}.php"));
        write(&path, &format!("<?php\n// {mark}\nreturn {file};\n"))?;
    }
    let last = site.join("wp-content/plugins/bench/mark.php");
    write(&last, &format!("<?php\necho '{mark}';\n"))?;
    let captures = usize::try_from(number)?;
    let wait = || wait_deployed(fleet, captures);
    let (sight, deployed) = watch(&[fleet.address], &fleet.host, &mark, wait);
    deployed?;
    let Some(seconds) = sight.until_all_new else { bail!("no visitor saw {mark}") };
    if sight.failed > 0 || sight.stale > 0 {
        bail!("{} requests failed and {} were stale", sight.failed, sight.stale);
    }
    Ok(seconds.as_secs_f64())
}

fn wait_deployed(fleet: &Fleet, count: usize) -> anyhow::Result<()> {
    for _ in 0..POLLS_MAX {
        let captures: Value = serde_json::from_str(&fleet.captures()?)?;
        let all = captures.as_array().map(Vec::as_slice).unwrap_or_default();
        let newest = all.first().and_then(|one| one.get("state")).and_then(Value::as_str);
        if all.len() >= count && newest == Some("deployed") {
            return Ok(());
        }
        sleep(POLL_INTERVAL);
    }
    bail!("the change was not deployed")
}
