//! Promises of check-outs, on real repositories.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::Duration;

use super::*;
use crate::command::Command;

/// Paths to mode and bytes: what a revision holds.
type Files = BTreeMap<Vec<u8>, (u32, Vec<u8>)>;

const VICTIM: &str = "FLOTILLA_TEST_VICTIM";

struct Place {
    directory: tempfile::TempDir,
    git: Git,
}

impl Place {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let git = Git::new(directory.path().join("site.git"));
        git.init_bare().await.unwrap();
        Self { directory, git }
    }

    fn worktree(&self, name: &str) -> Worktree {
        Worktree::new(self.git.clone(), name, self.directory.path().join("trees").join(name))
    }

    async fn commit(&self, files: &Files, parent: Option<&Revision>, time: i64) -> Revision {
        let mut stream = b"commit refs/heads/main\nmark :1\n".to_vec();
        stream.extend(format!("committer A <a@example.org> {time} +0000\ndata 1\nx\n").bytes());
        if let Some(parent) = parent {
            stream.extend(format!("from {parent}\n").bytes());
        }
        stream.extend(b"deleteall\n");
        for (path, (mode, bytes)) in files {
            stream.extend(format!("M {mode:o} inline \"").bytes());
            for byte in path {
                stream.extend(format!("\\{byte:03o}").bytes());
            }
            stream.extend(format!("\"\ndata {}\n", bytes.len()).bytes());
            stream.extend(bytes);
            stream.push(b'\n');
        }
        stream.extend(b"get-mark :1\n");
        let import = self.git.command("fast-import").args(["--quiet", "--force"]).stdin(stream);
        let output = import.run().await.unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }
}

fn files(list: &[(&[u8], u32, &[u8])]) -> Files {
    list.iter().map(|(path, mode, bytes)| (path.to_vec(), (*mode, bytes.to_vec()))).collect()
}

/// Every trap that git has for a site's files.
fn odd_files() -> Files {
    files(&[
        (b"index.php", 0o100_644, b"<?php\n"),
        (b".gitattributes", 0o100_644, b"* text=auto eol=crlf ident export-ignore\n"),
        (b"plugin/.gitignore", 0o100_644, b"*\n"),
        (b"plugin/.gitattributes", 0o100_644, b"*.php filter=lfs working-tree-encoding=UTF-16\n"),
        (b"plugin/crlf.php", 0o100_644, b"a\r\nb\nc\r\n"),
        (b"plugin/ident.php", 0o100_644, b"$Id$ \r\n"),
        (b"plugin/tests/t", 0o100_644, b""),
        (b"plugin/run.sh", 0o100_755, b"#!/bin/sh\n"),
        (b"link", 0o120_000, b"plugin/run.sh"),
        (b"outside", 0o120_000, b"/etc/passwd"),
        (b"latin-\xe9.txt", 0o100_644, b"\xe9"),
        (b"new\nline \"quoted\" \\ \ttab", 0o100_644, b"odd"),
        (b" leading and trailing ", 0o100_644, b"space"),
        (b"-dash", 0o100_644, b"dash"),
        (b"Case", 0o100_644, b"upper"),
        (b"was-file", 0o100_644, b"file"),
        (b"was-directory/inside/deep", 0o100_644, b"deep"),
        (b"was-link", 0o120_000, b"plugin"),
    ])
}

/// Reads a tree with the standard library, to check the worktree by other means than its own.
fn on_disk(root: &Path) -> Files {
    let mut all = Files::new();
    let mut queue = vec![root.to_owned()];
    while let Some(directory) = queue.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            if metadata.is_dir() {
                assert_eq!(metadata.mode() & 0o7777, 0o755, "{}", path.display());
                queue.push(path);
            } else if metadata.is_symlink() {
                let target = std::fs::read_link(&path).unwrap();
                all.insert(name, (0o120_000, target.as_os_str().as_bytes().to_vec()));
            } else {
                all.insert(name, (metadata.mode(), std::fs::read(&path).unwrap()));
            }
        }
    }
    all
}

fn times(root: &Path, files: &Files) -> BTreeMap<Vec<u8>, i64> {
    let time =
        |path: &Vec<u8>| root.join(OsStr::from_bytes(path)).symlink_metadata().unwrap().mtime();
    files.keys().map(|path| (path.clone(), time(path))).collect()
}

#[tokio::test]
async fn every_byte_mode_and_name_arrives_and_leaves_again() {
    let place = Place::new().await;
    let first = odd_files();
    let mut second = first.clone();
    second.remove(&b"was-file"[..]);
    second.insert(b"was-file/now/directory".to_vec(), (0o100_644, b"1".to_vec()));
    second.remove(&b"was-directory/inside/deep"[..]);
    second.insert(b"was-directory".to_vec(), (0o100_644, b"2".to_vec()));
    second.insert(b"was-link".to_vec(), (0o100_644, b"3".to_vec()));
    second.remove(&b"Case"[..]);
    second.insert(b"case".to_vec(), (0o100_644, b"lower".to_vec()));
    second.insert(b"plugin/run.sh".to_vec(), (0o100_644, b"#!/bin/sh\n".to_vec()));
    second.insert(b"link".to_vec(), (0o120_000, b"nowhere".to_vec()));
    let a = place.commit(&first, None, 1_000).await;
    let b = place.commit(&second, Some(&a), 2_000).await;

    let tree = place.worktree("blue");
    let keep = Keep::default();
    for (revision, expected) in [(&a, &first), (&b, &second), (&a, &first)] {
        tree.checkout(revision, &keep).await.unwrap();
        assert_eq!(&on_disk(tree.tree()), expected);
        assert_eq!(tree.checked_out().await.as_ref(), Some(revision));
        for depth in [Depth::Quick, Depth::Full] {
            assert_eq!(tree.verify(revision, &keep, depth).await.unwrap(), []);
        }
    }
    let again = tree.checkout(&a, &keep).await.unwrap();
    assert_eq!(again, CheckedOut::default(), "a second checkout has nothing to do");
}

#[tokio::test]
async fn a_checkout_says_whether_paths_came_went_or_turned() {
    let place = Place::new().await;
    let start = files(&[(b"a.php", 0o100_644, b"1"), (b"turn", 0o120_000, b"a.php")]);
    let first = place.commit(&start, None, 1_000).await;
    let tree = place.worktree("blue");
    assert!(tree.checkout(&first, &Keep::default()).await.unwrap().has_other_paths);
    for (what, path, mode, bytes, expected) in [
        ("other bytes", "a.php", 0o100_644, "2", false),
        ("other permissions", "a.php", 0o100_755, "1", false),
        ("a new file", "b.php", 0o100_644, "1", true),
        ("a link that turned", "turn", 0o120_000, "b.php", true),
        ("a link for a file", "a.php", 0o120_000, "turn", true),
        ("a file for a link", "turn", 0o100_644, "1", true),
    ] {
        let mut other = start.clone();
        other.insert(path.as_bytes().to_vec(), (mode, bytes.as_bytes().to_vec()));
        let second = place.commit(&other, Some(&first), 2_000).await;
        for revision in [&second, &first] {
            let done = tree.checkout(revision, &Keep::default()).await.unwrap();
            assert_eq!(done.has_other_paths, expected, "{what}");
        }
    }
}

#[tokio::test]
async fn times_depend_on_the_revision_alone() {
    let place = Place::new().await;
    let mut held = odd_files();
    let mut revisions = vec![place.commit(&held, None, 1_000).await];
    for (number, path) in [(2, "index.php"), (3, "plugin/run.sh"), (4, "index.php")] {
        held.insert(path.into(), (0o100_644, vec![b'x'; number]));
        let time = i64::try_from(number).unwrap() * 1_000;
        revisions.push(place.commit(&held, revisions.last(), time).await);
    }
    let (step, leap) = (place.worktree("step"), place.worktree("leap"));
    let keep = Keep::default();
    for revision in &revisions {
        step.checkout(revision, &keep).await.unwrap();
    }
    leap.checkout(&revisions[3], &keep).await.unwrap();
    let seen = times(step.tree(), &held);
    assert_eq!(seen, times(leap.tree(), &held));
    assert_eq!(seen[&b"index.php"[..]], 4_000);
    assert_eq!(seen[&b"plugin/run.sh"[..]], 3_000);
    assert_eq!(seen[&b"-dash"[..]], 1_000);

    let back = &revisions[1];
    step.checkout(back, &keep).await.unwrap();
    let fresh = place.worktree("fresh");
    fresh.checkout(back, &keep).await.unwrap();
    assert_eq!(times(step.tree(), &held), times(fresh.tree(), &held));
}

#[tokio::test]
async fn changes_on_the_disk_are_found_and_healed() {
    let place = Place::new().await;
    let held = odd_files();
    let revision = place.commit(&held, None, 1_000).await;
    let tree = place.worktree("blue");
    let keep = Keep::default();
    tree.checkout(&revision, &keep).await.unwrap();

    let outside = place.directory.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("run.sh"), "mine").unwrap();
    let root = tree.tree();
    std::fs::write(root.join("index.php"), "<?PHP\n").unwrap();
    let file = File::options().write(true).open(root.join("index.php")).unwrap();
    let time = std::time::UNIX_EPOCH + Duration::from_secs(1_000);
    file.set_modified(time).unwrap();
    std::fs::remove_dir_all(root.join("plugin")).unwrap();
    symlink(&outside, root.join("plugin")).unwrap();
    std::fs::write(root.join("stray.php"), "bad").unwrap();
    std::fs::create_dir_all(root.join("stray/deep")).unwrap();
    std::fs::write(root.join("stray/deep/x"), "bad").unwrap();
    std::fs::set_permissions(root.join("Case"), std::fs::Permissions::from_mode(0o666)).unwrap();
    std::fs::remove_file(root.join("-dash")).unwrap();

    let found = tree.verify(&revision, &keep, Depth::Quick).await.unwrap();
    let has = |path: &str, kind| {
        let wanted = Difference { path: path.into(), kind };
        assert!(found.contains(&wanted), "{wanted:?} in {found:?}");
    };
    has("index.php", DifferenceKind::Changed);
    has("Case", DifferenceKind::Changed);
    has("plugin", DifferenceKind::Changed);
    has("plugin/run.sh", DifferenceKind::Missing);
    has("-dash", DifferenceKind::Missing);
    has("stray.php", DifferenceKind::Extra);
    has("stray/deep/x", DifferenceKind::Extra);

    let done = tree.checkout(&revision, &keep).await.unwrap();
    assert!(done.written.contains(&PathBuf::from("index.php")));
    assert_eq!(on_disk(root), held);
    assert_eq!(std::fs::read(outside.join("run.sh")).unwrap(), b"mine");
    assert_eq!(tree.verify(&revision, &keep, Depth::Full).await.unwrap(), []);
}

#[tokio::test]
async fn what_is_kept_is_left_alone_and_empty_directories_are_made() {
    let place = Place::new().await;
    let mut held = files(&[
        (b"wp-content/index.php", 0o100_644, b"x"),
        (b"wp-content/uploads/pushed.jpg", 0o100_644, b"by a person"),
    ]);
    let empty: [&[u8]; 2] = [b"wp-content/languages/plugins", b"odd\nname"];
    let list = directories::encode(empty);
    held.insert(directories::FILE_NAME.into(), (0o100_644, list));
    let revision = place.commit(&held, None, 1_000).await;
    let tree = place.worktree("blue");
    let keep = Keep::directories(["wp-content/uploads"])
        .and_matching(|path| path.starts_with(b"wp-content/plugins/cached/c"));
    let root = tree.tree().to_owned();
    std::fs::create_dir_all(root.join("wp-content/uploads")).unwrap();
    std::fs::write(root.join("wp-content/uploads/photo.jpg"), "1").unwrap();
    std::fs::create_dir_all(root.join("wp-content/plugins/cached")).unwrap();
    std::fs::write(root.join("wp-content/plugins/cached/c"), "2").unwrap();
    tree.checkout(&revision, &keep).await.unwrap();
    assert_eq!(tree.verify(&revision, &keep, Depth::Full).await.unwrap(), []);

    let seen = on_disk(&root);
    let paths: Vec<_> = seen.keys().map(|path| String::from_utf8_lossy(path)).collect();
    let expected =
        ["wp-content/index.php", "wp-content/plugins/cached/c", "wp-content/uploads/photo.jpg"];
    assert_eq!(paths, expected);
    assert!(root.join("wp-content/languages/plugins").is_dir());
    assert!(root.join("odd\nname").is_dir());

    let fresh = place.worktree("green");
    fresh.checkout(&revision, &keep).await.unwrap();
    assert!(fresh.tree().join("wp-content/uploads").is_dir(), "a mount point is made");
}

#[tokio::test]
async fn a_person_who_looks_sees_a_clean_detached_head() {
    let place = Place::new().await;
    let mut held = odd_files();
    held.insert(directories::FILE_NAME.into(), (0o100_644, directories::encode([&b"e"[..]])));
    let revision = place.commit(&held, None, 1_000).await;
    let tree = place.worktree("blue");
    tree.checkout(&revision, &Keep::default()).await.unwrap();
    let git = |arguments: &[&str]| {
        Command::new("git")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .arg("-c")
            .arg("safe.directory=*")
            .arg(format!("--git-dir={}", tree.private_directory().display()))
            .arg(format!("--work-tree={}", tree.tree().display()))
            .args(arguments)
    };
    let status = git(&["status", "--porcelain=v2", "--branch"]).run().await.unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    assert_eq!(status, format!("# branch.oid {revision}\n# branch.head (detached)\n"));
    git(&["diff-files", "--quiet"]).run().await.unwrap();
    assert!(!tree.tree().join(".git").exists());
}

#[tokio::test]
async fn a_bundle_carries_a_revision_to_another_repository() {
    let place = Place::new().await;
    let mut held = odd_files();
    let a = place.commit(&held, None, 1_000).await;
    held.insert(b"more".to_vec(), (0o100_644, b"more".to_vec()));
    let b = place.commit(&held, Some(&a), 2_000).await;
    for revision in [&a, &b] {
        place.git.pin(revision).await.unwrap();
    }
    let bundle = |name: &str| place.directory.path().join(name);
    let create = |name: &str, revision: &Revision| {
        place
            .git
            .command("bundle")
            .args(["create", "-q"])
            .arg(bundle(name))
            .arg(super::super::release_reference(revision))
    };
    create("full", &a).run().await.unwrap();
    create("delta", &b).arg(format!("^{a}")).run().await.unwrap();

    let other = Git::new(place.directory.path().join("other.git"));
    other.init_bare().await.unwrap();
    assert!(other.fetch_bundle(&bundle("delta"), &b).await.is_err(), "its base is missing");
    assert!(!other.has_commit(&b).await.unwrap());
    other.fetch_bundle(&bundle("full"), &a).await.unwrap();
    other.fetch_bundle(&bundle("delta"), &b).await.unwrap();
    assert!(other.fetch_bundle(&bundle("full"), &b).await.is_err());
    assert!(other.is_complete(&b).await.unwrap());
    let changes = other.changes(&a, &b).await.unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].path, Path::new("more"));

    other.unpin(&a).await.unwrap();
    other.tidy().await.unwrap();
    assert_eq!(other.pinned().await.unwrap(), std::slice::from_ref(&b));
    let tree = Worktree::new(other, "blue", place.directory.path().join("tree"));
    tree.checkout(&b, &Keep::default()).await.unwrap();
    assert_eq!(on_disk(tree.tree()), held);
}

#[tokio::test]
async fn a_path_that_would_leave_the_tree_is_refused() {
    let place = Place::new().await;
    // `git mktree` checks no names.
    let blob = place.git.command("hash-object").args(["-w", "--stdin"]).stdin("x").run().await;
    let blob = String::from_utf8(blob.unwrap().stdout).unwrap();
    let line = format!("100644 blob {}\t..\n", blob.trim());
    let tree = place.git.command("mktree").stdin(line).run().await.unwrap();
    let tree = String::from_utf8(tree.stdout).unwrap();
    let commit = place
        .git
        .command("commit-tree")
        .args(["-m", "x", tree.trim()])
        .env("GIT_AUTHOR_NAME", "a")
        .env("GIT_AUTHOR_EMAIL", "a@example.org")
        .env("GIT_COMMITTER_NAME", "a")
        .env("GIT_COMMITTER_EMAIL", "a@example.org")
        .run()
        .await
        .unwrap();
    let revision = String::from_utf8(commit.stdout).unwrap().trim().parse().unwrap();
    let error = place.worktree("blue").checkout(&revision, &Keep::default()).await.unwrap_err();
    assert!(matches!(error, GitError::UnsafePath { .. }), "{error}");
}

/// Not a test of its own: the process that the next test kills.
#[tokio::test]
#[ignore = "runs only as the victim of `a_checkout_that_is_killed_is_made_right_by_the_next_one`"]
async fn victim() {
    let Ok(text) = std::env::var(VICTIM) else { return };
    let [repository, tree, revision]: [&str; 3] =
        text.split('|').collect::<Vec<_>>().try_into().unwrap();
    let tree = Worktree::new(Git::new(repository), "blue", tree);
    tree.checkout(&revision.parse().unwrap(), &Keep::default()).await.unwrap();
}

#[tokio::test]
#[expect(
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a random test tells its seed; the numbers are small"
)]
async fn a_checkout_that_is_killed_is_made_right_by_the_next_one() {
    const ROUNDS: u32 = 16;
    let seed = u64::from(std::process::id());
    let mut state = seed | 1;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let place = Place::new().await;
    let mut sets = [Files::new(), Files::new()];
    for number in 0..400_u32 {
        let bytes: Vec<u8> =
            (0..random(4_000)).map(|_| b"<?php echo 'x';\n"[random(16) as usize]).collect();
        let path = format!("d{}/f{number}.php", number % 17).into_bytes();
        if number % 5 != 0 {
            sets[0].insert(path.clone(), (0o100_644, bytes.clone()));
        }
        if number % 7 != 0 {
            let other = if number % 3 == 0 { b"changed".to_vec() } else { bytes };
            sets[1].insert(path, (0o100_644, other));
        }
    }
    let a = place.commit(&sets[0], None, 1_000).await;
    let b = place.commit(&sets[1], Some(&a), 2_000).await;
    let tree = place.worktree("blue");
    let keep = Keep::default();
    let mut midway = 0;
    let victim = |revision: &Revision| {
        let (repository, tree) = (place.git.directory().display(), tree.tree().display());
        Command::new("sh")
            .args(["-c", "umask 077; exec \"$0\" --exact git::worktree::tests::victim --ignored"])
            .arg(std::env::current_exe().unwrap())
            .env(VICTIM, format!("{repository}|{tree}|{revision}"))
    };
    // How long one takes that is left alone says when the others are to die.
    let started = tokio::time::Instant::now();
    victim(&a).run().await.unwrap();
    let whole_millis = u64::try_from(started.elapsed().as_millis()).unwrap();
    for round in 0..ROUNDS {
        let (revision, set) = if random(2) == 0 { (&a, &sets[0]) } else { (&b, &sets[1]) };
        let victim = victim(revision).time_limit(Duration::from_millis(random(whole_millis)));
        // Most likely it is killed; what a killed one left is what this is about.
        drop(victim.run_unchecked().await);
        midway += u32::from(tree.checked_out().await.is_none());
        if round % 3 == 0 {
            // Another victim on top of what the first one left.
            continue;
        }
        tree.checkout(revision, &keep).await.unwrap();
        assert_eq!(&on_disk(tree.tree()), set, "seed {seed} round {round}");
        assert_eq!(tree.verify(revision, &keep, Depth::Full).await.unwrap(), []);
        let fresh = place.worktree("fresh");
        fresh.checkout(revision, &keep).await.unwrap();
        assert_eq!(times(tree.tree(), set), times(fresh.tree(), set), "seed {seed}");
    }
    println!("seed {seed}: {midway} of {ROUNDS} were killed while they changed the tree");
}
