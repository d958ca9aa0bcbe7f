//! Captures meet commits that were pushed meanwhile, and are undone.

use flotilla_core::capture::{CaptureNumber, CaptureState};
use flotilla_foreman::capture::{BroughtIn, CaptureError};
use flotilla_foreman::repository::Author;
use flotilla_foreman::store::Store;

use super::Bench;
use super::bench::NOW;
use crate::support::held;

#[tokio::test]
async fn a_capture_goes_on_where_the_branch_is() {
    let bench = Bench::new().await;
    bench.write("robots.txt", "x");
    let record = bench.take().await;
    assert_eq!(bench.tip().await, bench.first, "taking moves no branch");
    let brought = bench.captures.bring_in(record.number).await.unwrap();
    assert_eq!(brought, BroughtIn::Forward(record.revision.clone()));
    assert_eq!(bench.tip().await, record.revision);
    let again = bench.captures.bring_in(record.number).await.unwrap();
    assert_eq!(again, BroughtIn::Already(record.revision));
}

#[tokio::test]
async fn a_push_of_other_files_is_merged_byte_by_byte() {
    let bench = Bench::new().await;
    bench.write("wp-content/plugins/akismet/crlf.php", "a\r\nb\n");
    std::fs::remove_file(bench.workshop().join("wp-content/plugins/akismet/views/a.php")).unwrap();
    std::fs::create_dir(bench.workshop().join("wp-content/fonts")).unwrap();
    let record = bench.take().await;
    let clone = bench.directory.path().join("clone");
    std::fs::create_dir_all(clone.join("wp-content/other-empty")).unwrap();
    let pushed = bench.push(&bench.first, "wp-content/themes/simple/new.php", "<?php\r\n").await;
    let brought = bench.captures.bring_in(record.number).await.unwrap();
    assert!(matches!(brought, BroughtIn::Merged(_)), "{brought:?}");
    let merged = bench.repository.commit(&bench.tip().await).await.unwrap();
    assert_eq!(merged.parents, [pushed, record.revision.clone()]);
    let mut expected = held(&bench.workshop());
    let new = bench.held_of(&merged.parents[0]).await;
    let path = b"wp-content/themes/simple/new.php".to_vec();
    expected.insert(path.clone(), new[&path].clone());
    assert_eq!(bench.held_of(&merged.revision).await, expected);
    // The workshop goes on from its own capture, and the next one is merged as well.
    bench.write("robots.txt", "x");
    let next = bench.capture().await;
    assert_eq!(next.parent, record.revision);
    let tip = bench.tip().await;
    assert!(bench.repository.git().is_ancestor(&next.revision, &tip).await.unwrap());
}

#[tokio::test]
async fn a_push_of_the_same_file_is_a_conflict_and_nothing_is_lost() {
    let bench = Bench::new().await;
    let path = "wp-content/themes/simple/functions.php";
    bench.write(path, "<?php // from the workshop\n");
    let record = bench.take().await;
    let pushed = bench.push(&bench.first, path, "<?php // pushed\n").await;
    let error = bench.captures.bring_in(record.number).await.unwrap_err();
    let CaptureError::Conflict { paths, kept, .. } = &error else { panic!("{error}") };
    assert_eq!(paths, &[path.as_bytes()]);
    assert_eq!(bench.tip().await, pushed);
    assert_eq!(bench.repository.resolve(kept).await.unwrap(), record.revision);
    let kept = bench.repository.resolve("refs/flotilla/captures/1").await.unwrap();
    assert_eq!(kept, record.revision);
    assert!(error.failure().hint.unwrap().contains("git merge origin/capture-1"));
    let stored = bench.store.capture(record.number).await.unwrap().unwrap();
    assert_eq!(stored.state, CaptureState::Failed);
    // Somebody merges it by hand.
    let git = bench.repository.git();
    let tree = format!("{}^{{tree}}", record.revision);
    let command = git.command("commit-tree").args([&tree, "-p", pushed.as_str()]);
    let command = command.args(["-p", record.revision.as_str(), "-m", "Merge"]);
    let names =
        ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"];
    let command = names.iter().fold(command, |command, name| command.env(name, "x"));
    let merged = String::from_utf8(command.run().await.unwrap().stdout).unwrap();
    let merged = merged.trim().parse().unwrap();
    bench.repository.move_branch("main", Some(&pushed), &merged).await.unwrap();
    let brought = bench.captures.bring_in(record.number).await.unwrap();
    assert_eq!(brought, BroughtIn::Already(merged));
}

#[tokio::test]
async fn a_deleted_plugin_that_a_push_changed_is_a_conflict() {
    let bench = Bench::new().await;
    std::fs::remove_dir_all(bench.workshop().join("wp-content/plugins/akismet")).unwrap();
    let record = bench.take().await;
    bench.push(&bench.first, "wp-content/plugins/akismet/new.php", "<?php\n").await;
    let error = bench.captures.bring_in(record.number).await.unwrap_err();
    assert!(matches!(error, CaptureError::Conflict { .. }), "{error}");
}

#[tokio::test]
async fn a_capture_is_undone_by_a_commit_that_keeps_what_came_since() {
    let bench = Bench::new().await;
    std::fs::remove_dir_all(bench.workshop().join("wp-content/plugins/akismet")).unwrap();
    bench.write("wp-content/plugins/shop/shop.php", "<?php\n");
    let record = bench.capture().await;
    bench.write("robots.txt", "x");
    let later = bench.capture().await;
    let author = Author { name: "maria".to_owned(), email: "m@example.org".to_owned() };
    let undone = bench.captures.revert(record.number, &author, NOW).await.unwrap();
    assert_eq!(bench.tip().await, undone);
    let commit = bench.repository.commit(&undone).await.unwrap();
    let quoted = format!("Revert \"{}\"", record.subject());
    assert_eq!((commit.subject, commit.author_name), (quoted, "maria".to_owned()));
    assert_eq!(commit.parents, [later.revision]);
    let mut expected = bench.held_of(&bench.first).await;
    let robots = held(&bench.workshop())[&b"robots.txt"[..]].clone();
    expected.insert(b"robots.txt".to_vec(), robots);
    assert_eq!(bench.held_of(&undone).await, expected);
    let stored = bench.store.capture(record.number).await.unwrap().unwrap();
    assert_eq!(stored.state, CaptureState::Reverted);
    // Once more changes nothing.
    assert_eq!(bench.captures.revert(record.number, &author, NOW).await.unwrap(), undone);
}

#[tokio::test]
async fn a_capture_whose_files_changed_since_is_not_undone() {
    let bench = Bench::new().await;
    bench.write("robots.txt", "1");
    let record = bench.capture().await;
    bench.write("robots.txt", "2");
    bench.capture().await;
    let tip = bench.tip().await;
    let author = Author::default();
    let error = bench.captures.revert(record.number, &author, NOW).await.unwrap_err();
    assert_eq!(error.to_string(), "capture 1 cannot be undone: `robots.txt` changed since");
    assert!(error.failure().hint.is_some());
    assert_eq!(bench.tip().await, tip);
    let unknown = bench.captures.revert(CaptureNumber(9), &author, NOW).await.unwrap_err();
    assert_eq!(unknown.to_string(), "there is no capture 9");
    bench.write("robots.txt", "3");
    let waiting = bench.take().await;
    let error = bench.captures.revert(waiting.number, &author, NOW).await.unwrap_err();
    assert_eq!(error.to_string(), "capture 3 is not in branch `main`");
}

#[tokio::test]
async fn the_lock_of_a_git_that_was_killed_stops_nothing() {
    let bench = Bench::new().await;
    let git = bench.repository.git().directory().to_owned();
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    std::fs::create_dir_all(git.join("refs/flotilla/captures")).unwrap();
    for name in ["flotilla/capturing", "flotilla/captures/1", "heads/main"] {
        let lock = std::fs::File::create(git.join(format!("refs/{name}.lock"))).unwrap();
        lock.set_modified(long_ago).unwrap();
    }
    bench.write("robots.txt", "x");
    let record = bench.capture().await;
    assert_eq!(bench.tip().await, record.revision);
}

#[tokio::test]
async fn a_capture_that_was_taken_and_not_stored_is_stored_at_the_next_start() {
    let mut bench = Bench::new().await;
    bench.write("wp-settings.php", "<?php // 1\n");
    let record = bench.take().await;
    // A commit that the workshop never got to.
    let git = bench.repository.git();
    let pushed = bench.push(&bench.first, "x.txt", "x").await;
    let arguments = ["refs/flotilla/captures/2", pushed.as_str()];
    git.command("update-ref").args(arguments).run().await.unwrap();
    bench.store = Store::open(&bench.directory.path().join("lost.db")).unwrap();
    bench.reopen().await;
    assert_eq!(bench.store.captures(10).await.unwrap(), [record]);
    bench.write("wp-settings.php", "<?php // 2\n");
    assert_eq!(bench.take().await.number, CaptureNumber(3));
}
