//! Remembers for a moment that the server does not answer, so that not every request waits for
//! that to be found out again.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::error::StoreError;

/// How long after a failure requests fail at once, at first and at most. One request at a time
/// tries again after that.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long a server that did not answer may take to answer the question whether it does.
pub(crate) const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);

/// How a request may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// As always.
    Send,
    /// After a short question has been answered; nobody else asks it meanwhile.
    AskFirst,
}

#[derive(Debug)]
struct Outage {
    error: StoreError,
    pause: Duration,
    next_try: Instant,
}

/// What is known of the server's health.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    outage: Mutex<Option<Outage>>,
}

impl Breaker {
    /// Says whether a request may be sent.
    ///
    /// # Errors
    /// The server was down a moment ago.
    pub(crate) fn check(&self, now: Instant) -> Result<Leave, StoreError> {
        let mut outage = self.lock();
        let Some(outage) = outage.as_mut() else { return Ok(Leave::Send) };
        if now < outage.next_try {
            return Err(outage.error.clone());
        }
        // This one tries; the others wait for its news.
        outage.next_try = now + outage.pause + QUESTION_TIMEOUT;
        Ok(Leave::AskFirst)
    }

    /// Learns from an answer, even from a bad one: the server is there.
    pub(crate) fn answered(&self) {
        let mut outage = self.lock();
        if outage.take().is_some() {
            tracing::info!("The media bucket answers again");
        }
    }

    /// Learns that there was no answer.
    pub(crate) fn failed(&self, error: &StoreError, now: Instant) {
        let mut outage = self.lock();
        let pause = outage.as_ref().map_or(PAUSE_FIRST, |past| (past.pause * 2).min(PAUSE_MAX));
        if outage.is_none() {
            tracing::error!(%error, "The media bucket is down; cached files are still served, writes fail");
        }
        *outage = Some(Outage { error: error.clone(), pause, next_try: now + pause });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Outage>> {
        self.outage.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outage() -> StoreError {
        StoreError::Unreachable {
            bucket: "b".to_owned(),
            address: "a".to_owned(),
            reason: "r".to_owned(),
        }
    }

    #[test]
    fn only_one_request_at_a_time_asks_a_server_that_is_down() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        assert_eq!(breaker.check(now).ok(), Some(Leave::Send));
        breaker.failed(&outage(), now);
        assert!(breaker.check(now).is_err());
        let later = now + PAUSE_FIRST;
        assert_eq!(breaker.check(later).ok(), Some(Leave::AskFirst));
        assert!(breaker.check(later).is_err());
        breaker.answered();
        assert!(breaker.check(later).is_ok());
    }

    #[test]
    fn the_pause_grows_to_its_limit() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..10 {
            breaker.failed(&outage(), now);
        }
        assert!(breaker.check(now + PAUSE_MAX / 2).is_err());
        assert!(breaker.check(now + PAUSE_MAX).is_ok());
    }
}
