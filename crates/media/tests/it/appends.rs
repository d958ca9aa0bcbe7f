//! Lines that were stored although nobody heard so: they are there once.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::libc;

use crate::bench::{Bench, Instance, PATIENCE, eventually};
use crate::fleet::assert_each_line_once;
use crate::proxy::Way;
use crate::server::Kind;

/// Enough that the server copies the beginning, in bytes.
const LONG: usize = 6 * 1024 * 1024;
/// How many others may append before a line is not known any more.
const OTHERS_MAX: usize = 31;

fn open_log(path: &Path) -> File {
    OpenOptions::new().append(true).create(true).open(path).unwrap()
}

fn append(path: &Path, line: &str) {
    open_log(path).write_all(line.as_bytes()).unwrap();
}

/// Two instances, of which one may not hear what became of its lines.
struct Pair {
    bench: Bench,
    instance: Instance,
    other: Instance,
}

impl Pair {
    fn new() -> Self {
        let bench = Bench::new(Kind::Ours);
        let (instance, other) = (bench.instance("web-1"), bench.undisturbed_instance("web-2"));
        Self { bench, instance, other }
    }

    fn assert_both_see(&self, name: &str, before: usize, expected: &str) {
        for root in [self.instance.root(), self.other.root()] {
            let seen = fs::read_to_string(root.join(name)).unwrap();
            assert_eq!(seen[before..], *expected, "{name}");
        }
    }

    /// Loses the answer to a line, lets the other one do something, and looks what is there once the
    /// line was asked to be stored again, and a second one with it.
    fn check(&self, name: &str, before: usize, meanwhile: impl Fn(&Path), between: &str) {
        let stored = self.other.root().join(name);
        fs::write(&stored, vec![b'-'; before]).unwrap();
        let mut log = open_log(&self.instance.root().join(name));
        log.write_all(b"one\n").unwrap();
        self.bench.proxy.set(Way::Cut);
        assert_eq!(log.sync_all().unwrap_err().raw_os_error(), Some(libc::EIO), "{name}");
        let seen = fs::read_to_string(&stored).unwrap();
        assert_eq!(seen[before..], *"one\n", "{name}: it was stored all the same");
        meanwhile(&stored);
        self.bench.proxy.set(Way::Open);
        log.write_all(b"two\n").unwrap();
        eventually("the bucket", PATIENCE, || log.sync_all().ok());
        drop(log);
        self.assert_both_see(name, before, &format!("one\n{between}two\n"));
    }
}

#[test]
fn a_line_whose_answer_was_lost_is_there_once() {
    let pair = Pair::new();
    for before in [0, 9, LONG] {
        pair.check(&format!("log-{before}"), before, |_| {}, "");
    }
}

#[test]
fn a_line_whose_answer_was_lost_is_known_after_as_many_others_as_are_remembered() {
    let append_others = |log: &Path| (0..OTHERS_MAX).for_each(|_| append(log, "other\n"));
    Pair::new().check("log", 9, append_others, &"other\n".repeat(OTHERS_MAX));
}

#[test]
fn a_line_whose_answer_was_lost_is_known_whatever_others_do_with_the_file() {
    let pair = Pair::new();
    pair.check("appended", LONG, |log| append(log, "other\n"), "other\n");
    let describe = |log: &Path| fs::set_permissions(log, Permissions::from_mode(0o600)).unwrap();
    pair.check("described", 9, describe, "");
    let rename = |log: &Path| {
        fs::rename(log, log.with_extension("1")).unwrap();
        fs::rename(log.with_extension("1"), log).unwrap();
        append(log, "other\n");
    };
    pair.check("renamed", 9, rename, "other\n");
    let write_at_the_beginning = |log: &Path| {
        let mut content = OpenOptions::new().write(true).open(log).unwrap();
        content.write_all(b"---").unwrap();
    };
    pair.check("rewritten", 9, write_at_the_beginning, "");
}

#[test]
fn a_line_that_was_stored_right_before_the_daemon_was_killed_is_there_once() {
    let pair = Pair::new();
    for before in [0, 9, LONG] {
        let name = format!("log-{before}");
        let stored = pair.other.root().join(&name);
        fs::write(&stored, vec![b'-'; before]).unwrap();
        let mut log = open_log(&pair.instance.root().join(&name));
        log.write_all(b"one\n").unwrap();
        std::thread::scope(|scope| {
            pair.bench.proxy.set(Way::Mute);
            let syncing = scope.spawn(|| log.sync_all());
            eventually("the line", PATIENCE, || {
                (fs::read(&stored).ok()?.len() == before + 4).then_some(())
            });
            append(&stored, "other\n");
            pair.instance.kill_daemon();
            pair.bench.proxy.set(Way::Open);
            syncing.join().unwrap().unwrap();
        });
        log.write_all(b"two\n").unwrap();
        drop(log);
        pair.assert_both_see(&name, before, "one\nother\ntwo\n");
    }
}

#[test]
fn a_new_file_that_was_stored_right_before_the_daemon_was_killed_is_there_once() {
    let pair = Pair::new();
    let mut photo = File::create(pair.instance.root().join("photo.jpg")).unwrap();
    photo.write_all(b"pixels").unwrap();
    std::thread::scope(|scope| {
        pair.bench.proxy.set(Way::Mute);
        let closing = scope.spawn(|| drop(photo));
        let stored = pair.other.root().join("photo.jpg");
        eventually("the photo", PATIENCE, || fs::read(&stored).ok());
        pair.instance.kill_daemon();
        pair.bench.proxy.set(Way::Open);
        closing.join().unwrap();
    });
    pair.assert_both_see("photo.jpg", 0, "pixels");
}

#[test]
fn no_line_is_lost_or_doubled_while_answers_are_lost() {
    let bench = Bench::new(Kind::Ours);
    let instances = bench.instances(3);
    let lines = 10;
    bench.proxy.set(Way::Lossy);
    std::thread::scope(|scope| {
        for (number, instance) in instances.iter().enumerate() {
            scope.spawn(move || {
                let mut log = open_log(&instance.root().join("log"));
                for line in 0..lines {
                    writeln!(log, "{number} {line}").unwrap();
                    // It fails when all attempts are lost.
                    eventually("the bucket", PATIENCE, || log.sync_all().ok());
                }
            });
        }
    });
    bench.proxy.set(Way::Open);
    let content = fs::read_to_string(instances[0].root().join("log")).unwrap();
    assert_each_line_once(&content, instances.len(), lines);
}
