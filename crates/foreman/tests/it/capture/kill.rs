//! kill -9 at any point of a capture loses nothing and captures nothing by halves.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use flotilla_foreman::capture::REFERENCES;
use flotilla_host::git::Git;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Bench;
use crate::support::{held, write};

/// How often the worker is killed.
const KILLS: u64 = 60;
/// How many files one update has.
const FILES: u64 = 12;
/// The worker is killed up to so long after its start.
const LIFE_MILLIS_MAX: u64 = 280;

/// Draws numbers; the same ones for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Updates a plugin as WordPress does it, all its files to the same content.
fn update(workshop: &Path, generation: u64, random: &mut Random) {
    write(workshop, ".maintenance", "<?php $upgrading = 1;");
    let plugin = workshop.join("wp-content/plugins/many");
    let text =
        format!("<?php // generation {generation}\r\n").repeat(1 + random.below(200) as usize);
    let count = 1 + random.below(FILES);
    if plugin.exists() && random.below(4) == 0 {
        std::fs::remove_dir_all(&plugin).unwrap();
    }
    for entry in std::fs::read_dir(&plugin).into_iter().flatten() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    for number in 0..count {
        write(&plugin, &format!("file-{number}.php"), &text);
    }
    std::fs::remove_file(workshop.join(".maintenance")).unwrap();
}

/// Kills a process, in every other case together with what it has started.
fn kill_worker(worker: Pid, with_children: bool) {
    if with_children {
        kill(worker, Signal::SIGSTOP).unwrap();
        let children = children_of(worker);
        kill(worker, Signal::SIGKILL).unwrap();
        for child in children {
            // It may have ended by itself.
            let _: nix::Result<()> = kill(child, Signal::SIGKILL);
        }
    } else {
        kill(worker, Signal::SIGKILL).unwrap();
    }
}

fn children_of(parent: Pid) -> Vec<Pid> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let after_name = stat.rsplit(") ").next().unwrap_or_default();
        let above: Option<i32> =
            after_name.split(' ').nth(1).and_then(|number| number.parse().ok());
        let own: Option<i32> = entry.file_name().to_string_lossy().parse().ok();
        if let (Some(above), Some(own)) = (above, own)
            && above == parent.as_raw()
        {
            children.push(Pid::from_raw(own));
        }
    }
    children
}

async fn is_whole(git: &Git, name: &str) -> bool {
    let revision = git.resolve(name).await.unwrap().unwrap();
    let objects = git.tree(&revision).await.unwrap();
    let plugin = objects.iter().filter(|file| file.path.starts_with(b"wp-content/plugins/many/"));
    let contents: BTreeSet<_> = plugin.map(|file| file.object).collect();
    contents.len() <= 1
}

#[tokio::test]
async fn a_kill_at_any_point_loses_nothing_and_captures_nothing_by_halves() {
    let seed = u64::from(std::process::id());
    let mut random = Random(seed);
    let bench = Bench::new().await;
    let (root, workshop) = (bench.directory.path(), bench.workshop());
    let own = std::env::current_exe().unwrap();
    let worker = own.parent().and_then(Path::parent).unwrap().join("examples/capture_worker");
    let mut generation = 0;
    for round in 0..KILLS {
        let mut child = tokio::process::Command::new(&worker)
            .arg("work")
            .arg(root)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id().unwrap().cast_signed());
        let life = Duration::from_millis(random.below(LIFE_MILLIS_MAX));
        let end = tokio::time::Instant::now() + life;
        while tokio::time::Instant::now() < end {
            generation += 1;
            update(&workshop, generation, &mut random);
            let pause = Duration::from_millis(20 + random.below(150));
            tokio::time::sleep_until(end.min(tokio::time::Instant::now() + pause)).await;
        }
        kill_worker(pid, round % 2 == 0);
        child.wait().await.unwrap();
        let git = bench.repository.git();
        let mark = bench.worktree().checked_out().await.unwrap();
        assert!(git.is_complete(&mark).await.unwrap(), "round {round}, seed {seed}");
        assert!(git.is_complete(&bench.tip().await).await.unwrap(), "round {round}, seed {seed}");
    }
    // A last capture equals the workshop, whatever state the kills have left.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut bench = bench;
    std::fs::write(bench.workshop().join("last.txt"), "last").unwrap();
    bench.reopen().await;
    let last = bench.capture().await;
    let expected = held(&bench.workshop());
    assert_eq!(bench.held_of(&last.revision).await, expected, "seed {seed}");
    let git = bench.repository.git();
    assert!(git.is_ancestor(&last.revision, &bench.tip().await).await.unwrap());
    let names = git.command("for-each-ref").args(["--format=%(refname)", REFERENCES]);
    let names = String::from_utf8(names.run().await.unwrap().stdout).unwrap();
    for name in names.lines() {
        assert!(is_whole(git, name).await, "{name} is half an update, seed {seed}");
    }
    let stored = bench.store.captures(10_000).await.unwrap();
    assert!(stored.len() > 5, "{} captures were made between the kills", stored.len());
    for pair in stored.windows(2) {
        assert_eq!(pair[0].parent, pair[1].revision, "each continues the one before, seed {seed}");
    }
    git.command("fsck").args(["--connectivity-only", "--no-dangling"]).run().await.unwrap();
}
