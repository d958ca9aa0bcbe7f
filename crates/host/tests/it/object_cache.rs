//! The object cache of `wordpress/php`, run by PHP's command line against real memcached.
//!
//! What each script promises stands in it; it prints what does not hold.

use std::path::Path;
use std::time::Duration;

use flotilla_host::command::Command;

const TIME_LIMIT: Duration = Duration::from_secs(60);

async fn run(script: &str, args: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wordpress/tests");
    let outcome = Command::new("php")
        .called(script)
        .arg(tests.join(script))
        .arg(directory.path())
        .args(args)
        // What the workers of a slot tell each other is in files there.
        .env("TMPDIR", directory.path())
        .time_limit(TIME_LIMIT)
        .run_unchecked()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&outcome.stdout);
    assert!(outcome.status.success() && said.is_empty(), "{said}{outcome:?}");
}

#[tokio::test]
async fn it_keeps_what_wordpress_keeps_within_a_request_and_beyond() {
    run("semantics.php", &[]).await;
}

#[tokio::test]
async fn a_memcached_that_hangs_dies_or_is_flushed_costs_no_error_and_no_old_value() {
    run("trouble.php", &[]).await;
}

#[tokio::test]
async fn options_that_are_written_at_once_are_neither_lost_nor_old() {
    run("races.php", &["1", "100"]).await;
}

#[tokio::test]
async fn names_of_uploads_are_given_once() {
    run("uploads.php", &[]).await;
}
