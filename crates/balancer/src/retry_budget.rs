//! How many retries a thread may make, so that a sick fleet is not hit harder for being sick.

use std::time::Duration;

use tokio::time::Instant;

use crate::options::RetryOptions;

const WINDOW: Duration = Duration::from_secs(10);

/// Counts requests and retries of the last ten seconds or so.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    percent: u64,
    floor: u64,
    window_began: Instant,
    requests: u64,
    retries: u64,
}

impl RetryBudget {
    /// Makes a budget that nothing was taken from.
    pub(crate) fn new(options: &RetryOptions, now: Instant) -> Self {
        Self {
            percent: u64::from(options.budget_percent),
            floor: u64::from(options.budget_floor),
            window_began: now,
            requests: 0,
            retries: 0,
        }
    }

    /// Notes a request, which earns a share of a retry.
    pub(crate) fn note_request(&mut self, now: Instant) {
        if now.saturating_duration_since(self.window_began) > WINDOW {
            self.window_began = now;
            self.requests /= 2;
            self.retries /= 2;
        }
        self.requests += 1;
    }

    /// Takes a retry when one is left.
    pub(crate) const fn take(&mut self) -> bool {
        let allowed = self.floor + self.requests * self.percent / 100;
        if self.retries >= allowed {
            return false;
        }
        self.retries += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_floor_and_a_share_of_the_requests() {
        let now = Instant::now();
        let options = RetryOptions { attempts_max: 2, budget_percent: 20, budget_floor: 3 };
        let mut budget = RetryBudget::new(&options, now);
        for _ in 0..100 {
            budget.note_request(now);
        }
        assert_eq!((0..1000).filter(|_| budget.take()).count(), 23);
        for _ in 0..100 {
            budget.note_request(now + Duration::from_secs(11));
        }
        assert_eq!((0..1000).filter(|_| budget.take()).count(), 22);
    }
}
