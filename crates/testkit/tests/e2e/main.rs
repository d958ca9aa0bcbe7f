//! Promises of whole fleets, each shown with real WordPress under the hands of real visitors.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "what is unexpected fails the test, and what was counted is told"
)]

mod cache;
mod cron;
mod database;
mod deploys;
mod drills;
mod instances;
mod life;
mod media;
mod operators;
mod places;
mod secrets;
mod sessions;
mod upgrade;
mod workshop;

use flotilla_testkit::exchange::{Exchange, failed, mixed, stale};

/// No visitor saw that there was a deploy, but for the change itself. `versions` are in the order
/// in which they came into service.
fn assert_unnoticed(exchanges: &[Exchange], versions: &[String]) {
    let failed = failed(exchanges);
    assert!(failed.is_empty(), "{} requests failed, such as {:?}", failed.len(), failed.first());
    let stale = stale(exchanges, versions);
    assert!(stale.is_empty(), "{} requests were served by an old release: {stale:#?}", stale.len());
    assert_eq!(mixed(exchanges), [].into(), "an answer was made of two releases");
}
