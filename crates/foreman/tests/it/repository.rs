//! A directory becomes a commit and a directory again, byte by byte.

use std::ffi::OsStr;
use std::path::PathBuf;

use flotilla_core::id::{Millis, Revision};
use flotilla_foreman::repository::captured::stays_out;
use flotilla_foreman::repository::{Author, NewCommit, Repository, RepositoryError};
use flotilla_foreman::tidy;
use flotilla_host::git::worktree::Depth;
use flotilla_host::git::{ChangeKind, Keep, Worktree};

use crate::support::{held, write, write_traps, write_wordpress};

struct Place {
    directory: tempfile::TempDir,
    repository: Repository,
}

impl Place {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let repository = Repository::open(directory.path().join("site.git")).await.unwrap();
        let place = Self { directory, repository };
        write_wordpress(&place.site(), "6.1.9");
        place
    }

    fn site(&self) -> PathBuf {
        self.directory.path().join("site")
    }

    async fn import(&self) -> Revision {
        self.repository.import(&self.site(), "main", "Import\n\nMore.").await.unwrap()
    }

    /// Makes a commit with a file of its own on another branch.
    async fn import_beside(&self, branch: &str, text: &str) -> Revision {
        let site = self.directory.path().join(branch);
        write_wordpress(&site, "6.1.9");
        write(&site, "text.php", text);
        self.repository.import(&site, branch, text).await.unwrap()
    }

    async fn check_out(&self, revision: &Revision, name: &str) -> PathBuf {
        let tree = self.directory.path().join(name);
        let worktree = Worktree::new(self.repository.git().clone(), name, &tree);
        worktree.checkout(revision, &Keep::default()).await.unwrap();
        assert_eq!(worktree.verify(revision, &Keep::default(), Depth::Full).await.unwrap(), []);
        tree
    }
}

#[tokio::test]
async fn a_directory_with_every_trap_of_git_comes_back_byte_by_byte() {
    let place = Place::new().await;
    write_traps(&place.site());
    let expected = held(&place.site());
    // Git's own directory of a plugin is all that is left out.
    write(&place.site(), "wp-content/plugins/cloned/.git/HEAD", "ref: refs/heads/main\n");
    write(&place.site(), "wp-content/plugins/shop/.git", "gitdir: elsewhere\n");
    let revision = place.import().await;
    let tree = place.check_out(&revision, "blue").await;
    assert_eq!(held(&tree), expected);
}

#[tokio::test]
async fn files_may_become_directories_and_names_may_change_their_case() {
    let place = Place::new().await;
    let site = place.site();
    write(&site, "thing", "file");
    write(&site, "other/inside", "directory");
    write(&site, "Readme.txt", "upper");
    let before = held(&site);
    let first = place.import().await;
    std::fs::remove_file(site.join("thing")).unwrap();
    write(&site, "thing/inside", "now a directory");
    std::fs::remove_dir_all(site.join("other")).unwrap();
    write(&site, "other", "now a file");
    std::fs::rename(site.join("Readme.txt"), site.join("readme.txt")).unwrap();
    let after = held(&site);
    let second = place.import().await;
    let tree = place.check_out(&first, "blue").await;
    assert_eq!(held(&tree), before);
    assert_eq!(held(&place.check_out(&second, "blue").await), after);
    assert_eq!(held(&place.check_out(&first, "blue").await), before);

    let mut changes = place.repository.git().changes(&first, &second).await.unwrap();
    changes.sort_by(|one, other| one.path.cmp(&other.path));
    let changes: Vec<_> =
        changes.iter().map(|one| (one.path.to_str().unwrap(), one.kind)).collect();
    let expected = [
        ("Readme.txt", ChangeKind::Removed),
        ("other", ChangeKind::Added),
        ("other/inside", ChangeKind::Removed),
        ("readme.txt", ChangeKind::Added),
        ("thing", ChangeKind::Removed),
        ("thing/inside", ChangeKind::Added),
    ];
    assert_eq!(changes, expected);
}

#[tokio::test]
async fn secrets_and_what_is_made_while_running_stay_out() {
    let place = Place::new().await;
    let site = place.site();
    let expected = held(&site);
    for path in [
        "wp-config.php",
        ".maintenance",
        "dump.sql",
        "wp-content/uploads/2024/photo.jpg",
        "wp-content/cache/page.html",
        "wp-content/upgrade/x/y.php",
        "wp-content/debug.log",
    ] {
        write(&site, path, "secret");
    }
    let revision = place.import().await;
    let tree = place.directory.path().join("site-again");
    let keep = Keep::directories(["wp-content/uploads"]).and_matching(stays_out);
    let worktree = Worktree::new(place.repository.git().clone(), "blue", &tree);
    worktree.checkout(&revision, &keep).await.unwrap();
    std::fs::remove_dir(tree.join("wp-content/uploads")).unwrap();
    std::fs::remove_dir(tree.join("wp-content")).unwrap();
    assert_eq!(held(&tree), expected);
}

#[tokio::test]
async fn an_import_says_who_when_and_what() {
    let place = Place::new().await;
    let commit = NewCommit {
        message: "Update plugin akismet 5.1 → 5.2\n\nBy hand.".to_owned(),
        author: Author {
            name: "Maria <x>\nÄrger".to_owned(),
            email: "maria@example.org".to_owned(),
        },
        time: Millis(1_700_000_000_999),
        parent: None,
    };
    let revision = place.repository.commit_directory(&place.site(), &commit).await.unwrap();
    let seen = place.repository.commit(&revision).await.unwrap();
    assert_eq!(seen.subject, "Update plugin akismet 5.1 → 5.2");
    assert_eq!(seen.body, "By hand.");
    assert_eq!(seen.author_name, "Maria  x  Ärger");
    assert_eq!(seen.time_seconds, 1_700_000_000);
    assert!(place.repository.resolve("main").await.is_err(), "no branch was moved");
    let versions = place.repository.versions(&revision).await.unwrap();
    assert_eq!((versions.wordpress.as_str(), versions.db_version), ("6.1.9", Some(53_496)));
}

#[tokio::test]
async fn an_unchanged_directory_makes_no_commit() {
    let place = Place::new().await;
    write_traps(&place.site());
    let first = place.import().await;
    assert_eq!(place.import().await, first);
    write(&place.site(), "index.php", "<?php // changed\n");
    let second = place.import().await;
    let commits = place.repository.commits(&second, 10).await.unwrap();
    let line: Vec<_> = commits.into_iter().map(|commit| commit.revision).collect();
    assert_eq!(line, [second, first]);
}

#[tokio::test]
async fn a_branch_that_somebody_else_moved_is_not_moved() {
    let place = Place::new().await;
    let first = place.import().await;
    write(&place.site(), "index.php", "<?php // 2\n");
    let second = place.import().await;
    let moved = place.repository.move_branch("main", Some(&first), &first).await;
    assert!(matches!(moved, Err(RepositoryError::Moved { .. })), "{moved:?}");
    assert_eq!(place.repository.resolve("main").await.unwrap(), second);
}

#[tokio::test]
async fn names_that_mean_nothing_are_told() {
    let place = Place::new().await;
    let revision = place.import().await;
    for good in ["main", "HEAD", revision.short(), revision.as_str()] {
        assert_eq!(place.repository.resolve(good).await.unwrap(), revision, "{good}");
    }
    for bad in ["", "nothing", "--help", "main:index.php", "0000000", "a b\n"] {
        let error = place.repository.resolve(bad).await.unwrap_err().to_string();
        assert_eq!(error, format!("there is no revision `{bad}`"));
    }
    let empty = place.directory.path().join("empty");
    std::fs::create_dir_all(empty.join("wp-content/uploads")).unwrap();
    let error = place.repository.import(&empty, "other", "x").await.unwrap_err();
    assert!(matches!(error, RepositoryError::Empty(_)), "{error}");
    write(&empty, "readme", "no wordpress");
    let other = place.repository.import(&empty, "other", "x").await.unwrap();
    let error = place.repository.versions(&other).await.unwrap_err().to_string();
    assert!(error.contains("is no WordPress: `wp-includes/version.php` is missing"), "{error}");
}

#[tokio::test]
async fn tidying_packs_what_piled_up_and_loses_no_release() {
    let place = Place::new().await;
    let git = place.repository.git();
    let first = place.import().await;
    assert!(!tidy::activate(git).await.unwrap(), "nothing has piled up");
    // A release that no branch leads to any more, and what a push has just brought.
    let released = place.import_beside("released", "released").await;
    git.pin(&released).await.unwrap();
    let arriving = place.import_beside("arriving", "arriving").await;
    for branch in ["released", "arriving"] {
        let name = format!("refs/heads/{branch}");
        git.command("update-ref").args(["-d", &name]).run().await.unwrap();
    }
    let mut last = first;
    for number in 0..21 {
        write(&place.site(), "index.php", format!("<?php // {number}\n"));
        last = place.import().await;
        git.command("repack").arg("-q").run().await.unwrap();
    }
    assert!(tidy::activate(git).await.unwrap());
    let packs = std::fs::read_dir(git.directory().join("objects/pack")).unwrap();
    let is_pack = |entry: &std::fs::DirEntry| entry.path().extension() == Some(OsStr::new("pack"));
    assert_eq!(packs.filter(|entry| is_pack(entry.as_ref().unwrap())).count(), 1);
    for revision in [&last, &released, &arriving] {
        assert!(git.is_complete(revision).await.unwrap(), "{revision}");
    }
}
