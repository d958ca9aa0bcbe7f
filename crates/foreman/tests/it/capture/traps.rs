//! Every trap that git has for a plugin.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use flotilla_core::capture::rest::Limits;
use flotilla_foreman::capture::{CaptureError, Look};
use flotilla_host::git::index;

use super::Bench;
use super::bench::plugin;
use crate::support::{Held, held, write, write_traps};

/// Reads a directory without git's own directories, which are never captured.
fn held_without_git(root: &Path) -> Held {
    let mut held = held(root);
    held.retain(|path, _| !path.split(|byte| *byte == b'/').any(|name| name == b".git"));
    held
}

#[tokio::test]
async fn an_installed_plugin_with_every_trap_of_git_is_captured_byte_by_byte() {
    let bench = Bench::new().await;
    write_traps(&bench.workshop());
    bench.write("wp-content/plugins/cloned/.git/HEAD", "ref: refs/heads/main\n");
    bench.write("wp-content/plugins/cloned/.git/index", "DIRC");
    bench.write("wp-content/plugins/shop/.git", "gitdir: elsewhere\n");
    let expected = held_without_git(&bench.workshop());
    let record = bench.capture().await;
    assert_eq!(bench.held_of(&record.revision).await, expected);
    assert!(bench.captures.take(&super::bench::request()).await.unwrap().is_none());
}

#[tokio::test]
async fn every_kind_of_change_to_a_trap_is_captured_byte_by_byte() {
    let limits = Limits { settle: Duration::from_millis(20), ..Limits::default() };
    let bench = Bench::with(limits, write_traps).await;
    let workshop = bench.workshop();
    let shop = workshop.join("wp-content/plugins/shop");
    // Bytes, line endings, modes, kinds, names, empty directories.
    write(&shop, "crlf.php", "a\nb\r\nc\n");
    write(&shop, "tests/test.php", "<?php\n$Id: 1 $\n");
    write(&shop, ".gitattributes", "* text eol=crlf\n");
    write(&shop, "vendor/new.php", "<?php // ignored by the plugin\n");
    std::fs::remove_file(shop.join("vendor/autoload.php")).unwrap();
    let plain = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(workshop.join("tool.sh"), plain).unwrap();
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(workshop.join("index.php"), executable).unwrap();
    std::fs::remove_file(workshop.join("link")).unwrap();
    symlink("elsewhere", workshop.join("link")).unwrap();
    std::fs::remove_file(workshop.join("dangling")).unwrap();
    write(&workshop, "dangling/now-a-directory", "x");
    std::fs::remove_dir_all(workshop.join("odd")).unwrap();
    write(&workshop, "odd", "now a file");
    std::fs::rename(shop.join("notes.log"), shop.join("Notes.log")).unwrap();
    write(&workshop, "wp-content/languages/de_DE.mo", "no longer empty");
    std::fs::remove_dir(shop.join("cache/deep")).unwrap();
    std::fs::create_dir_all(workshop.join("wp-content/fonts/a")).unwrap();
    let expected = held(&workshop);
    let record = bench.capture().await;
    assert_eq!(bench.held_of(&record.revision).await, expected);
    // And all of it undone.
    bench.captures.revert(record.number, &Default::default(), super::bench::NOW).await.unwrap();
    let undone = bench.held_of(&bench.tip().await).await;
    assert_eq!(undone, bench.held_of(&bench.first).await);
}

#[tokio::test]
async fn an_empty_directory_alone_is_a_change() {
    let bench = Bench::new().await;
    std::fs::create_dir_all(bench.workshop().join("wp-content/fonts")).unwrap();
    let expected = held(&bench.workshop());
    let record = bench.take().await;
    assert_eq!(record.subject(), "Change empty directories");
    assert_eq!(bench.held_of(&record.revision).await, expected);
    std::fs::remove_dir(bench.workshop().join("wp-content/fonts")).unwrap();
    let record = bench.take().await;
    assert_eq!(bench.held_of(&record.revision).await, held(&bench.workshop()));
}

#[tokio::test]
async fn what_stays_out_neither_comes_nor_goes_nor_counts() {
    let bench = Bench::new().await;
    // Somebody pushed what a capture would not take, and another repository.
    let tree = bench.directory.path().join("clone");
    let git = bench.repository.git();
    let blob = git.command("hash-object").args(["-w", "--stdin"]).stdin("x").run().await.unwrap();
    let blob = String::from_utf8(blob.stdout).unwrap().trim().to_owned();
    let index = tree.with_extension("index");
    let first = bench.first.to_string();
    let lines = format!("100644 {blob}\tdump.sql\n160000 {first}\twp-content/plugins/other\n");
    for (name, arguments, input) in [
        ("read-tree", vec![first.as_str()], ""),
        ("update-index", vec!["--add", "--index-info"], lines.as_str()),
    ] {
        let command = git.command(name).env("GIT_INDEX_FILE", &index).args(arguments);
        command.stdin(input).run().await.unwrap();
    }
    let command = git.command("write-tree").env("GIT_INDEX_FILE", &index);
    let written = String::from_utf8(command.run().await.unwrap().stdout).unwrap();
    let command = git.command("commit-tree").args([written.trim(), "-p", &first, "-m", "x"]);
    let names =
        ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"];
    let command = names.iter().fold(command, |command, name| command.env(name, "x"));
    let pushed = String::from_utf8(command.run().await.unwrap().stdout).unwrap();
    let pushed = pushed.trim().parse().unwrap();
    bench.captures.check_out(&pushed).await.unwrap();
    // PHP makes what it makes.
    for path in ["wp-content/cache/a/b", "wp-content/uploads/x.jpg", "wp-config.php", ".env"] {
        bench.write(path, "made while running");
    }
    bench.look_until(|look| *look == Look::Clean).await;
    bench.write("robots.txt", "x");
    let record = bench.take().await;
    let changes = git.changes(&pushed, &record.revision).await.unwrap();
    assert_eq!(changes.len(), 1, "{changes:?}");
    // And a check-out leaves it alone.
    bench.captures.check_out(&bench.first).await.unwrap();
    assert!(bench.workshop().join("wp-content/cache/a/b").exists());
    assert!(!bench.workshop().join("robots.txt").exists());
}

#[tokio::test]
async fn a_change_that_keeps_size_and_time_is_seen() {
    let bench = Bench::new().await;
    bench.age().await;
    bench.look_until(|look| *look == Look::Clean).await;
    let path = bench.workshop().join("wp-content/plugins/akismet/views/a.php");
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, "<?php // b\n").unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    let look = bench.look_until(|look| matches!(look, Look::Ready { .. })).await;
    let Look::Ready { count, files_read, .. } = look else { return };
    assert_eq!((count, files_read), (1, 1));
}

#[tokio::test]
async fn touching_files_changes_nothing() {
    let bench = Bench::new().await;
    let path = bench.workshop().join("index.php");
    std::fs::write(&path, std::fs::read(&path).unwrap()).unwrap();
    bench.look_until(|look| *look == Look::Clean).await;
    assert!(bench.try_take(&super::bench::request()).await.unwrap().is_none());
    assert_eq!(bench.tip().await, bench.first);
}

#[tokio::test]
async fn a_lost_or_damaged_memory_costs_reading_and_nothing_else() {
    let mut bench = Bench::new().await;
    bench.age().await;
    bench.look_until(|look| *look == Look::Clean).await;
    let state = bench.directory.path().join("seen");
    assert!(index::read(&std::fs::read(&state).unwrap()).is_some_and(|held| held.len() > 4));
    for damage in [None, Some("rubbish"), Some("")] {
        match damage {
            None => std::fs::remove_file(&state).unwrap(),
            Some(text) => std::fs::write(&state, text).unwrap(),
        }
        bench.reopen().await;
        bench.look_until(|look| *look == Look::Clean).await;
    }
    bench.reopen().await;
    bench.write("robots.txt", "x");
    let look = bench.look_until(|look| matches!(look, Look::Ready { .. })).await;
    assert!(matches!(look, Look::Ready { count: 1, files_read: 1, .. }), "{look:?}");
}

#[tokio::test]
async fn a_file_that_is_no_code_by_its_size_is_refused_with_the_way_out() {
    let bench = Bench::new().await;
    bench.write("wp-content/plugins/akismet/huge.bin", "");
    let path = bench.workshop().join("wp-content/plugins/akismet/huge.bin");
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(256 * 1024 * 1024 + 1).unwrap();
    let error = bench.try_take(&super::bench::request()).await.unwrap_err();
    assert!(matches!(error, CaptureError::TooLarge { .. }), "{error}");
    assert!(error.to_string().contains("huge.bin"), "{error}");
    assert!(error.failure().hint.unwrap().contains("wp-content/uploads"));
}

#[tokio::test]
async fn a_plugin_that_moves_is_not_written_again() {
    let bench = Bench::new().await;
    bench.write("wp-content/plugins/a/a.php", plugin("A", "1").repeat(100));
    bench.capture().await;
    let plugins = bench.workshop().join("wp-content/plugins");
    std::fs::rename(plugins.join("a"), plugins.join("b")).unwrap();
    let expected = held(&bench.workshop());
    let record = bench.capture().await;
    assert_eq!(bench.held_of(&record.revision).await, expected);
    assert_eq!(record.subject(), "Delete plugin a; install plugin b 1");
}
