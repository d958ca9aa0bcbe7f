//! Bearing with a foreman that is away for a moment: it may be started anew while a command follows
//! what it does, and it goes on where it was.

use std::time::Duration;

use flotilla_core::error::{ErrorKind, Failure};
use tokio::time::Instant;

/// How long a foreman may be away before the command gives up following it.
const AWAY_MAX: Duration = Duration::from_secs(60);
/// What a command shows meanwhile.
pub(crate) const WAITING: &str = "waiting for the foreman";
const RETRY_AFTER: Duration = Duration::from_millis(300);

/// Remembers since when the foreman has been away.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    since: Option<Instant>,
}

impl Patience {
    /// Returns an answer; `None`, after a short while, when there was none and it is worth asking
    /// again.
    pub(crate) async fn bear<T>(
        &mut self,
        answer: Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        match answer {
            Ok(value) => {
                self.since = None;
                Ok(Some(value))
            }
            Err(failure) if failure.kind != ErrorKind::Unavailable => Err(failure),
            Err(failure) => {
                if self.since.get_or_insert_with(Instant::now).elapsed() > AWAY_MAX {
                    return Err(failure);
                }
                tokio::time::sleep(RETRY_AFTER).await;
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::unavailable;

    #[tokio::test]
    async fn a_foreman_is_borne_with_until_its_time_is_up() {
        let silence = || Err::<(), _>(unavailable("no answer"));
        let mut patience = Patience::default();
        assert_eq!(patience.bear(silence()).await, Ok(None));
        patience.since = Instant::now().checked_sub(AWAY_MAX);
        assert!(patience.bear(silence()).await.is_err());
        assert_eq!(patience.bear(Ok(())).await, Ok(Some(())));
        assert_eq!(patience.bear(silence()).await, Ok(None), "it is away for another time");
    }

    #[tokio::test]
    async fn a_refusal_is_an_answer() {
        let refused = Failure::new(ErrorKind::Refused, "no");
        assert_eq!(Patience::default().bear::<()>(Err(refused.clone())).await, Err(refused));
    }
}
