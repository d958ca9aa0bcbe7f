//! What goes wrong around a mount, and the one clear message for each.

use std::fs::{self, File, OpenOptions};
use std::io::Write;

use nix::libc;

use crate::bench::{Bench, Instance, PATIENCE, eventually};
use crate::proxy::Way;
use crate::server::Kind;

fn closes_with(mut file: File, content: &[u8]) -> Option<i32> {
    file.write_all(content).unwrap();
    // Like the errors of `close`, which Rust does not show.
    file.sync_all().err().and_then(|error| error.raw_os_error())
}

#[test]
fn e2e_cached_files_are_read_and_nothing_is_written_while_the_bucket_is_away() {
    let bench = Bench::new(Kind::Ours);
    let instance = bench.instance("web-1");
    let root = instance.root();
    fs::create_dir_all(root.join("2026/11")).unwrap();
    fs::write(root.join("2026/11/known"), "known").unwrap();
    assert_eq!(fs::read_to_string(root.join("2026/11/known")).unwrap(), "known");
    for way in [Way::Down, Way::Hung] {
        bench.proxy.set(way);
        assert_eq!(fs::read_to_string(root.join("2026/11/known")).unwrap(), "known", "{way:?}");
        let unknown = fs::read(root.join("2026/11/unknown")).unwrap_err();
        assert_eq!(unknown.raw_os_error(), Some(libc::EIO), "{way:?}");
        let append = OpenOptions::new().append(true).open(root.join("2026/11/known")).unwrap();
        assert_eq!(closes_with(append, b" and more"), Some(libc::EIO), "{way:?}");
        let exclusive =
            OpenOptions::new().write(true).create_new(true).open(root.join("2026/11/new"));
        assert_eq!(exclusive.unwrap_err().raw_os_error(), Some(libc::EIO), "{way:?}");
        // Another daemon knows what is cached, too.
        instance.kill_daemon();
        assert_eq!(fs::read_to_string(root.join("2026/11/known")).unwrap(), "known", "{way:?}");
        bench.proxy.set(Way::Open);
        eventually("the bucket", PATIENCE, || fs::write(root.join("back"), "back").ok());
        assert_eq!(fs::read_to_string(root.join("2026/11/known")).unwrap(), "known", "{way:?}");
        assert!(fs::metadata(root.join("2026/11/new")).is_err(), "{way:?}");
    }
    let log = instance.log();
    assert!(log.contains("The media bucket is down; cached files are still served"), "{log}");
    assert!(log.contains("The media bucket answers again"), "{log}");
    assert!(log.contains("could not be stored and is given up path=2026/11/known"), "{log}");
}

#[test]
fn a_bucket_that_cannot_be_used_is_told_once_and_clearly() {
    let bench = Bench::new(Kind::Ours);
    let mut wrong_key = bench.options("wrong-key");
    let mut wrong_secret = bench.options("wrong-secret");
    let mut no_bucket = bench.options("no-bucket");
    if let Some(keys) = &mut wrong_key.store.credentials {
        "another".clone_into(&mut keys.access_key_id);
    }
    if let Some(keys) = &mut wrong_secret.store.credentials {
        "another".clone_into(&mut keys.secret_access_key);
    }
    "absent".clone_into(&mut no_bucket.store.bucket);
    let cases = [
        (wrong_key, "refuses our keys (InvalidAccessKeyId); correct the access key"),
        (wrong_secret, "refuses our keys (SignatureDoesNotMatch); correct the access key"),
        (no_bucket, "there is no bucket `absent`; create it, or correct the bucket's name"),
    ];
    for (options, message) in cases {
        let instance = Instance::start(options);
        eventually(message, PATIENCE, || instance.log().contains(message).then_some(()));
        let error = fs::write(instance.root().join("a"), "a").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO), "{message}");
        let log = instance.log();
        assert_eq!(log.matches(" ERROR ").count(), 1 + log.matches("action=").count(), "{log}");
        assert_eq!(log.matches("The media bucket cannot be used").count(), 1, "{log}");
    }
}

#[test]
fn a_full_disk_stops_writing_and_not_reading() {
    let bench = Bench::new(Kind::Ours);
    let options = bench.options("web-1");
    let small = ["staging", "cache"].map(|name| tmpfs(&options.directory.join(name)));
    let instance = Instance::start(options);
    let root = instance.root();
    fs::write(root.join("small"), "small").unwrap();
    let mut file = File::create(root.join("large")).unwrap();
    let piece = vec![7; 1024 * 1024];
    let error = (0..64).find_map(|_| file.write_all(&piece).err()).unwrap();
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    drop(file);
    assert_eq!(fs::read_to_string(root.join("small")).unwrap(), "small");
    let log = instance.log();
    assert!(log.contains("the disk is full; free some space"), "{log}");
    // What another instance stored is read although it cannot be kept.
    let other = bench.instance("web-2");
    fs::write(other.root().join("big"), vec![9; 24 * 1024 * 1024]).unwrap();
    assert!(fs::read(root.join("big")).unwrap() == vec![9; 24 * 1024 * 1024]);
    drop(instance);
    drop(small);
}

/// A small disk, gone with the test.
struct Tmpfs(std::path::PathBuf);

fn tmpfs(path: &std::path::Path) -> Tmpfs {
    let flags = nix::mount::MsFlags::empty();
    fs::create_dir_all(path).unwrap();
    nix::mount::mount(Some("small"), path, Some("tmpfs"), flags, Some("size=16m")).unwrap();
    Tmpfs(path.to_owned())
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}
