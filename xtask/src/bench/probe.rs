//! What visitors see while a release changes: who still got the old one after another got the new.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::clock::{Moment, sleep};
use super::commit::PROBE_PATH;
use super::http::Visitor;

/// Leaves the cores to what is measured.
const PAUSE: Duration = Duration::from_millis(4);
const THREADS_MAX: usize = 4;

/// What the visitors saw.
pub(crate) struct Sight {
    /// From the start of the watch until no visitor got anything old any more.
    pub(crate) until_all_new: Option<Duration>,
    /// From the first new page to the last old one that was asked for after it.
    pub(crate) mixed_for: Duration,
    /// Requests that began after the first new page and got an old one.
    pub(crate) stale: usize,
    /// Requests without an answer, or with an error.
    pub(crate) failed: usize,
    pub(crate) requests: usize,
}

struct Look {
    asked_at: Moment,
    answered_at: Moment,
    /// `None` when it failed.
    is_new: Option<bool>,
}

/// Asks all addresses in turn while something else goes on.
pub(crate) fn watch<T>(
    addresses: &[SocketAddr],
    host: &str,
    mark: &str,
    work: impl FnOnce() -> T,
) -> (Sight, T) {
    let is_over = AtomicBool::new(false);
    let started_at = Moment::now();
    std::thread::scope(|scope| {
        let count = addresses.len().clamp(2, THREADS_MAX);
        let threads: Vec<_> = (0..count)
            .map(|number| {
                let mut visitors: Vec<Visitor> = addresses
                    .iter()
                    .skip(if addresses.len() < count { 0 } else { number })
                    .step_by(if addresses.len() < count { 1 } else { count })
                    .map(|address| Visitor::reading(*address, host))
                    .collect();
                let is_over = &is_over;
                scope.spawn(move || look(&mut visitors, mark, is_over))
            })
            .collect();
        let outcome = work();
        // One more round of all addresses, after the end.
        sleep(Duration::from_millis(500));
        is_over.store(true, Ordering::Relaxed);
        let looks: Vec<Look> =
            threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect();
        (judge(&looks, started_at), outcome)
    })
}

fn look(visitors: &mut [Visitor], mark: &str, is_over: &AtomicBool) -> Vec<Look> {
    let mut looks = Vec::new();
    loop {
        for visitor in &mut *visitors {
            let asked_at = Moment::now();
            let is_new = match visitor.get(PROBE_PATH) {
                // Before the first deploy there is no such page.
                Ok(answer) if answer.status < 500 => Some(answer.body == mark.as_bytes()),
                _ => None,
            };
            looks.push(Look { asked_at, answered_at: Moment::now(), is_new });
            sleep(PAUSE);
        }
        if is_over.load(Ordering::Relaxed) {
            return looks;
        }
    }
}

fn judge(looks: &[Look], started_at: Moment) -> Sight {
    let first_new =
        looks.iter().filter(|look| look.is_new == Some(true)).map(|look| look.answered_at).min();
    let is_stale =
        |look: &&Look| look.is_new == Some(false) && first_new.is_some_and(|at| look.asked_at > at);
    let last_stale = looks.iter().filter(is_stale).map(|look| look.answered_at).max();
    let mixed_for = match (first_new, last_stale) {
        (Some(first), Some(last)) => last.since(first),
        _ => Duration::ZERO,
    };
    Sight {
        until_all_new: first_new.map(|first| last_stale.unwrap_or(first).since(started_at)),
        mixed_for,
        stale: looks.iter().filter(is_stale).count(),
        failed: looks.iter().filter(|look| look.is_new.is_none()).count(),
        requests: looks.len(),
    }
}
