//! Bundles are built once, lead where they say, and do not pile up.

use std::path::Path;

use flotilla_core::id::Revision;
use flotilla_foreman::bundle::{BundleError, Bundles, Limits};
use flotilla_foreman::repository::Repository;
use flotilla_host::git::Git;

use crate::support::{write, write_wordpress};

async fn history(root: &Path, count: u32) -> (Repository, Vec<Revision>) {
    let repository = Repository::open(root.join("site.git")).await.unwrap();
    let site = root.join("site");
    write_wordpress(&site, "6.1.9");
    let mut revisions = Vec::new();
    for number in 0..count {
        write(&site, "index.php", format!("<?php // {number}\n"));
        revisions.push(repository.import(&site, "main", "x").await.unwrap());
    }
    (repository, revisions)
}

#[tokio::test]
async fn an_instance_follows_bundles_from_nothing_to_the_newest() {
    let root = tempfile::tempdir().unwrap();
    let (repository, revisions) = history(root.path(), 2).await;
    let bundles = Bundles::new(repository.git().directory(), &root.path().join("bundles"));
    let full = bundles.bundle(None, &revisions[0]).await.unwrap();
    let delta = bundles.bundle(Some(&revisions[0]), &revisions[1]).await.unwrap();
    let sum = bundles.sha256(&full).await.unwrap();
    assert_eq!(sum.len(), 64);
    let instance = Git::new(root.path().join("instance.git"));
    instance.init_bare().await.unwrap();
    instance.fetch_bundle(&full, &revisions[0]).await.unwrap();
    instance.fetch_bundle(&delta, &revisions[1]).await.unwrap();
    assert!(instance.is_complete(&revisions[1]).await.unwrap());
}

#[tokio::test]
async fn a_start_that_does_not_lead_there_gives_a_full_bundle() {
    let root = tempfile::tempdir().unwrap();
    let (repository, revisions) = history(root.path(), 2).await;
    let bundles = Bundles::new(repository.git().directory(), &root.path().join("bundles"));
    let unknown: Revision = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
    let full = bundles.bundle(None, &revisions[0]).await.unwrap();
    for from in [&unknown, &revisions[0], &revisions[1]] {
        assert_eq!(bundles.bundle(Some(from), &revisions[0]).await.unwrap(), full);
    }
    let error = bundles.bundle(None, &unknown).await.unwrap_err();
    assert!(matches!(error, BundleError::NoSuchRevision(_)), "{error}");
}

#[tokio::test]
async fn many_who_ask_at_once_get_one_file() {
    let root = tempfile::tempdir().unwrap();
    let (repository, revisions) = history(root.path(), 1).await;
    let bundles = Bundles::new(repository.git().directory(), &root.path().join("bundles"));
    let (a, b, c) = tokio::join!(
        bundles.bundle(None, &revisions[0]),
        bundles.bundle(None, &revisions[0]),
        bundles.bundle(None, &revisions[0]),
    );
    assert_eq!(a.unwrap(), b.unwrap());
    let path = c.unwrap();
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&path).unwrap());
    let before = inode();
    bundles.bundle(None, &revisions[0]).await.unwrap();
    assert_eq!(inode(), before, "it was not built again");
}

#[tokio::test]
async fn old_bundles_make_room_for_new_ones() {
    let root = tempfile::tempdir().unwrap();
    let (repository, revisions) = history(root.path(), 4).await;
    let directory = root.path().join("bundles");
    let limits = Limits { count_max: 2, bytes_max: u64::MAX };
    let bundles = Bundles::new(repository.git().directory(), &directory).with_limits(limits);
    let mut last = None;
    for revision in &revisions {
        last = Some(bundles.bundle(None, revision).await.unwrap());
    }
    let names: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(names.len(), 4, "two bundles with their sums: {names:?}");
    assert!(last.unwrap().exists());
}

#[tokio::test]
async fn a_bundle_that_was_damaged_before_this_start_is_built_anew() {
    let root = tempfile::tempdir().unwrap();
    let (repository, revisions) = history(root.path(), 1).await;
    let directory = root.path().join("bundles");
    let open = || Bundles::new(repository.git().directory(), &directory);
    let path = open().bundle(None, &revisions[0]).await.unwrap();
    let whole = std::fs::read(&path).unwrap();
    let sum = path.with_extension("sha256");
    for damage in ["short", "no sum", "another sum"] {
        match damage {
            "short" => std::fs::write(&path, &whole[..whole.len() / 2]).unwrap(),
            "no sum" => std::fs::remove_file(&sum).unwrap(),
            _ => std::fs::write(&sum, "0".repeat(64)).unwrap(),
        }
        let bundles = open();
        assert_eq!(bundles.bundle(None, &revisions[0]).await.unwrap(), path);
        let instance = Git::new(root.path().join(format!("{damage}.git")));
        instance.init_bare().await.unwrap();
        instance.fetch_bundle(&path, &revisions[0]).await.unwrap();
        assert_eq!(bundles.sha256(&path).await.unwrap().len(), 64, "{damage}");
        assert_ne!(std::fs::read_to_string(&sum).unwrap(), "0".repeat(64));
    }
}
