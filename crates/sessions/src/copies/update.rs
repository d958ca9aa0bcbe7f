//! Changes that depend on the present value.

use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::{Instant, sleep};

use super::view::{Seen, View};
use super::{Copies, CopiesError, NewValue, Value};
use crate::envelope::Envelope;
use crate::expiry::Lifetime;
use crate::store::{Answer, Condition, Reply, Request};
use crate::topology::OWNERS_USUAL;

/// How long a change is tried while others change the same item.
const CONTENTION_MAX: Duration = Duration::from_secs(3);
/// The longest pause between two attempts.
const PAUSE_MILLIS_MAX: u64 = 16;
/// How long a tombstone lives at least, and how long when the deleted item had no end: beyond the
/// time for which a node can be away and still come back with its memory.
const TOMBSTONE_SECONDS_MIN: u32 = 60 * 60;
const TOMBSTONE_SECONDS_MAX: u32 = 7 * 24 * 60 * 60;

/// What becomes of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// It stays as it is.
    None,
    /// It is replaced.
    Replace {
        /// The client's flags.
        flags: u32,
        /// The new value.
        data: Vec<u8>,
        /// How long it lives.
        lifetime: Lifetime,
    },
    /// It is deleted.
    Delete,
}

/// What an attempt came to.
enum Attempt {
    /// All owners have it.
    Kept,
    /// Somebody else changed the item before.
    Overtaken,
}

impl Copies {
    /// Changes an item; `decide` is given the present value and says what becomes of it, together
    /// with what the caller wants to know. It is asked again when somebody else was quicker.
    ///
    /// # Errors
    /// No owner can be reached, or others change the item all the time.
    pub(crate) async fn update<T>(
        &self,
        key: &[u8],
        mut decide: impl FnMut(Option<&Value>) -> (Change, T) + Send,
    ) -> Result<T, CopiesError>
    where
        T: Send,
    {
        let deadline = Instant::now() + CONTENTION_MAX;
        let mut pause_millis = 0;
        loop {
            let begun = self.begin(key, Request::Fetch { key });
            let view = self.finish(begun).await?;
            let live = view.live();
            let (change, told) = decide(live.as_ref());
            let attempt = match change {
                Change::None => return Ok(told),
                Change::Replace { flags, data, lifetime } => {
                    let new = NewValue { flags, data: &data, lifetime };
                    self.replace(key, &view, new, false).await?
                }
                Change::Delete => {
                    let lifetime = tombstone_lifetime(live.as_ref());
                    let new = NewValue { flags: 0, data: &[], lifetime };
                    self.replace(key, &view, new, true).await?
                }
            };
            match attempt {
                Attempt::Kept => return Ok(told),
                Attempt::Overtaken if Instant::now() >= deadline => {
                    return Err(CopiesError::Contended);
                }
                Attempt::Overtaken => {
                    self.counters.count(|counts| &counts.updates_overtaken);
                    pause_millis = (pause_millis * 2 + 1).min(PAUSE_MILLIS_MAX);
                    sleep(Duration::from_millis(self.clock.spread() % pause_millis)).await;
                }
            }
        }
    }

    /// Writes a value to all owners, provided that the first one that answers has not changed.
    async fn replace(
        &self,
        key: &[u8],
        view: &View,
        new: NewValue<'_>,
        is_tombstone: bool,
    ) -> Result<Attempt, CopiesError> {
        let version = self.clock.next();
        let head = Envelope { version, flags: new.flags, is_tombstone }.encode();
        let request = |one: &Seen| Request::Write {
            key,
            head: &head,
            body: new.data,
            lifetime: new.lifetime,
            condition: condition(one),
        };
        let mut owners = view.present();
        let mut failure = CopiesError::NoNodes;
        let mut is_kept = false;
        for one in owners.by_ref() {
            let answered = match &one.copy {
                Ok(_) => one.owner.ask(request(one)).await,
                Err(error) => Err(error.clone()),
            };
            match answered {
                Ok(Reply::Refused) => return Ok(Attempt::Overtaken),
                Ok(_) => {
                    is_kept = true;
                    break;
                }
                Err(error) => {
                    self.missed.add(&one.owner, key);
                    failure = error.into();
                }
            }
        }
        if !is_kept {
            return Err(failure);
        }
        let others: SmallVec<[&Seen; OWNERS_USUAL]> = owners.collect();
        let answers: SmallVec<[Answer; OWNERS_USUAL]> =
            others.iter().map(|one| one.owner.ask(request(one))).collect();
        let mut is_apart = false;
        for (one, answer) in others.iter().zip(answers) {
            match answer.await {
                Ok(Reply::Refused) => is_apart = true,
                Ok(_) => {}
                Err(_) => self.missed.add(&one.owner, key),
            }
        }
        if is_apart {
            self.reconcile(key).await?;
        }
        for one in view.seen.iter().filter(|one| one.is_former) {
            // Not waited for: what is left there is older than any of the copies.
            drop(one.owner.remove(key));
        }
        Ok(Attempt::Kept)
    }
}

/// Returns the condition that an owner's copy is still as it was seen.
fn condition(one: &Seen) -> Condition {
    match &one.copy {
        Ok(Some(copy)) => Condition::Unchanged(copy.token),
        Ok(None) | Err(_) => Condition::Absent,
    }
}

/// A tombstone must outlive every copy of the deleted item.
fn tombstone_lifetime(deleted: Option<&Value>) -> Lifetime {
    Lifetime::Seconds(match deleted.map(|value| value.lifetime) {
        Some(Lifetime::Seconds(seconds)) => {
            seconds.clamp(TOMBSTONE_SECONDS_MIN, TOMBSTONE_SECONDS_MAX)
        }
        Some(Lifetime::Forever) | None => TOMBSTONE_SECONDS_MAX,
    })
}
