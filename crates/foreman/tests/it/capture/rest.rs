//! Nothing is captured while it changes.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flotilla_core::capture::Alarm;
use flotilla_core::capture::rest::{Limits, Rest};
use flotilla_foreman::capture::{CaptureError, Look, Request, Restless};

use super::Bench;
use super::bench::NOW;

const SETTLE: Duration = Duration::from_millis(20);

#[tokio::test]
async fn an_update_under_way_is_not_captured_until_it_is_over() {
    let bench = Bench::new().await;
    for path in [
        ".maintenance",
        "wp-content/upgrade/akismet.5.2/akismet/a.php",
        "wp-content/upgrade-temp-backup/plugins/akismet/a.php",
        "wp-content/plugins/akismet/.a.php.Xy12aB",
    ] {
        bench.write(path, "x");
        bench.write("wp-content/plugins/akismet/views/a.php", path);
        let is_unfinished = |look: &Look| match look {
            Look::Waiting { rest: Rest::Unfinished(seen), .. } => seen.path == path.as_bytes(),
            _ => false,
        };
        bench.look_until(is_unfinished).await;
        let error = bench.captures.take(&Request::at(NOW)).await.unwrap_err();
        assert!(matches!(error, CaptureError::Unfinished { .. }), "{error}");
        assert!(error.failure().hint.is_some());
        std::fs::remove_file(bench.workshop().join(path)).unwrap();
        let look = bench.look_until(|look| matches!(look, Look::Ready { .. })).await;
        assert!(matches!(look, Look::Ready { count: 1, .. }), "{look:?}");
        bench.capture().await;
        bench.look_until(|look| *look == Look::Clean).await;
    }
}

#[tokio::test]
async fn what_an_update_left_behind_holds_nothing_up_for_ever() {
    let unfinished = Duration::from_millis(300);
    let bench =
        Bench::with(Limits { settle: SETTLE, unfinished, ..Limits::default() }, |_| ()).await;
    bench.write(".maintenance", "x");
    bench.write("robots.txt", "x");
    bench.look_until(|look| matches!(look, Look::Ready { .. })).await;
    assert_eq!(bench.take().await.subject(), "Add robots.txt");
}

#[tokio::test]
async fn what_never_holds_still_is_told_and_left_out_when_a_person_says_so() {
    let restless = Duration::from_millis(100);
    let fill =
        |site: &std::path::Path| crate::support::write(site, "wp-content/plugins/log/log", "1");
    let bench = Bench::with(Limits { settle: SETTLE, restless, ..Limits::default() }, fill).await;
    bench.write("robots.txt", "x");
    let log = bench.workshop().join("wp-content/plugins/log/log");
    let is_over = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_over);
    let writer = tokio::task::spawn_blocking(move || {
        let mut file = std::fs::File::options().append(true).open(log).unwrap();
        while !asked.load(Ordering::Relaxed) {
            file.write_all(b"line\n").unwrap();
            std::thread::park_timeout(Duration::from_millis(1));
        }
    });
    let is_overdue = |look: &Look| matches!(look, Look::Waiting { rest: Rest::Overdue, .. });
    let look = bench.look_until(is_overdue).await;
    let Look::Waiting { paths, .. } = look else { return };
    assert_eq!(paths, [b"wp-content/plugins/log/log"]);
    let error = bench.captures.take(&Request::at(NOW)).await.unwrap_err();
    assert!(error.to_string().contains("`wp-content/plugins/log/log`"), "{error}");
    let request = Request { restless: Restless::LeaveOut, ..Request::at(NOW) };
    let record = bench.captures.take(&request).await.unwrap().unwrap();
    is_over.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    assert_eq!(record.subject(), "Add robots.txt");
    let paths = vec!["wp-content/plugins/log/log".to_owned()];
    assert_eq!(record.alarms, [Alarm::LeftOut { paths, count: 1 }]);
    let log = bench.take().await;
    assert_eq!(log.subject(), "Edit plugin log: log");
}

#[tokio::test]
async fn a_check_out_refuses_to_undo_what_nobody_captured() {
    let bench = Bench::new().await;
    bench.write("robots.txt", "x");
    let error = bench.captures.check_out(&bench.first).await.unwrap_err();
    assert!(matches!(error, CaptureError::Uncaptured { count: 1, .. }), "{error}");
    assert!(bench.workshop().join("robots.txt").exists());
    let record = bench.capture().await;
    bench.captures.check_out(&bench.first).await.unwrap();
    assert!(!bench.workshop().join("robots.txt").exists());
    // Going back is no change that is captured.
    assert!(bench.captures.take(&Request::at(NOW)).await.unwrap().is_none());
    assert_eq!(bench.tip().await, record.revision);
}

#[tokio::test]
async fn a_workshop_that_is_being_checked_out_is_busy() {
    let bench = Bench::new().await;
    let held = bench.worktree().try_hold().await.unwrap().unwrap();
    let error = bench.captures.look().await.unwrap_err();
    assert!(matches!(error, CaptureError::Busy(_)), "{error}");
    drop(held);
    bench.look_until(|look| *look == Look::Clean).await;
}
