//! A daemon that is killed: nothing is torn, nothing is lost that was closed, and programs notice
//! nothing but a pause.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::bench::{Bench, PATIENCE, eventually};
use crate::server::Kind;

#[test]
fn programs_go_on_with_their_open_files_when_the_daemon_is_killed() {
    let bench = Bench::new(Kind::Ours);
    let instances = bench.instances(2);
    let root = instances[0].root();
    fs::create_dir_all(root.join("2026/11")).unwrap();
    fs::write(root.join("2026/11/old"), "old content").unwrap();
    let reader = File::open(root.join("2026/11/old")).unwrap();
    let mut whole = File::create(root.join("2026/11/whole")).unwrap();
    let mut log = OpenOptions::new().append(true).create(true).open(root.join("log")).unwrap();
    for round in 0..3 {
        writeln!(whole, "whole {round}").unwrap();
        writeln!(log, "log {round}").unwrap();
        instances[0].kill_daemon();
        let mut seen = [0; 3];
        reader.read_exact_at(&mut seen, 0).unwrap();
        assert_eq!(&seen, b"old");
        assert_eq!(reader.metadata().unwrap().len(), 11);
    }
    drop((whole, log));
    for instance in &instances {
        let read = |name| fs::read_to_string(instance.root().join(name)).unwrap();
        assert_eq!(read("2026/11/whole"), "whole 0\nwhole 1\nwhole 2\n");
        assert_eq!(read("log"), "log 0\nlog 1\nlog 2\n");
    }
}

#[test]
fn no_line_is_lost_or_doubled_while_daemons_are_killed() {
    let bench = Bench::new(Kind::Ours);
    let instance = bench.instance("web-1");
    let lines = 200;
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut log = OpenOptions::new()
                .append(true)
                .create(true)
                .open(instance.root().join("log"))
                .unwrap();
            for line in 0..lines {
                writeln!(log, "{line}").unwrap();
                if line % 10 == 0 {
                    log.sync_data().unwrap();
                }
                done.store(line, Ordering::SeqCst);
            }
        });
        for line in [20, 60, 110, 150] {
            // Not at once: each daemon is to get somewhere.
            eventually("lines", PATIENCE, || (done.load(Ordering::SeqCst) >= line).then_some(()));
            instance.kill_daemon();
        }
    });
    let seen = fs::read_to_string(instance.root().join("log")).unwrap();
    let expected: String = (0..lines).map(|line| format!("{line}\n")).collect();
    assert_eq!(seen, expected);
}

#[test]
fn e2e_no_torn_object_is_ever_seen_while_daemons_are_killed() {
    let bench = Bench::new(Kind::Ours);
    let instances = bench.instances(2);
    let rounds = 6_u8;
    // More than one request, so that a daemon is killed between parts too.
    let content = |round: u8| vec![round; 18 * 1024 * 1024];
    fs::write(instances[0].root().join("photo"), content(0)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=rounds {
                fs::write(instances[0].root().join("photo"), content(round)).unwrap();
            }
        });
        let mut last = 0;
        while last < rounds {
            // What is replaced before all of it was fetched cannot be read on; never is it mixed.
            let seen = eventually("a version", PATIENCE, || {
                match fs::read(instances[1].root().join("photo")) {
                    Err(error) if error.raw_os_error() == Some(nix::libc::ESTALE) => None,
                    outcome => Some(outcome.unwrap()),
                }
            });
            let round = seen[0];
            assert!(round >= last && seen == content(round), "torn: begins with {round}");
            if round > last {
                instances[0].kill_daemon();
            }
            last = round;
        }
    });
    assert_eq!(fs::read(instances[1].root().join("photo")).unwrap(), content(rounds));
}

#[test]
fn emptying_what_was_appended_to_is_not_undone_by_a_kill() {
    let bench = Bench::new(Kind::Ours);
    let instance = bench.instance("web-1");
    let path = instance.root().join("log");
    fs::write(&path, "old\n").unwrap();
    let mut log = OpenOptions::new().append(true).open(&path).unwrap();
    log.write_all(b"more\n").unwrap();
    log.set_len(0).unwrap();
    log.write_all(b"new\n").unwrap();
    instance.kill_daemon();
    drop(log);
    assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
}

#[test]
fn an_instance_that_is_gone_leaves_nothing_half_written() {
    let bench = Bench::new(Kind::Ours);
    let other = bench.instance("web-2");
    let instance = bench.instance("web-1");
    fs::write(instance.root().join("kept"), "old").unwrap();
    let mut file = File::create(instance.root().join("kept")).unwrap();
    file.write_all(b"half").unwrap();
    let mut new = File::create(instance.root().join("new")).unwrap();
    new.write_all(b"half").unwrap();
    drop(instance);
    drop((file, new));
    assert_eq!(fs::read_to_string(other.root().join("kept")).unwrap(), "old");
    assert!(fs::metadata(other.root().join("new")).is_err());
    // And it comes back with nothing of that.
    let instance = bench.instance("web-1");
    assert_eq!(fs::read_to_string(instance.root().join("kept")).unwrap(), "old");
    assert!(fs::metadata(instance.root().join("new")).is_err());
    assert_eq!(fs::read_dir(instance.own().join("staging")).unwrap().count(), 0);
}

#[test]
fn a_keeper_ends_when_somebody_else_unmounts() {
    let bench = Bench::new(Kind::Ours);
    let mut instance = bench.instance("web-1");
    let (_, text) = instance.shell("cd / && umount --lazy \"$OLDPWD\"");
    assert_eq!(text, "");
    assert!(!instance.ended().success());
    assert!(instance.log().contains("was unmounted by somebody else"), "{}", instance.log());
}
