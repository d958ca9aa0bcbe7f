//! A store in the memory of this process: for tests, and for a site of one instance.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Answer, Answered, Condition, Item, Reply, Request, Standing, Store, StoreError};
use crate::expiry::Lifetime;

/// Items beyond this are refused, as a full memcached without eviction does.
const ITEMS_MAX: usize = 100_000;

/// Keeps items in memory.
#[derive(Debug)]
pub(crate) struct Memory {
    name: String,
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    items: HashMap<Bytes, Kept>,
    last_token: u64,
}

#[derive(Debug)]
struct Kept {
    bytes: Bytes,
    token: u64,
    /// `None` is for ever.
    until: Option<Instant>,
}

impl Memory {
    /// Makes an empty store.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), shelf: Mutex::default() }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, key: &[u8], bytes: Bytes, lifetime: Lifetime, when: Condition) -> Answered {
        let mut shelf = self.shelf();
        let present = shelf.present(key).map(|kept| kept.token);
        let is_met = match when {
            Condition::Always => true,
            Condition::Absent => present.is_none(),
            Condition::Unchanged(token) => present == Some(token),
        };
        if !is_met {
            return Ok(Reply::Refused);
        }
        if present.is_none() && shelf.items.len() >= ITEMS_MAX {
            shelf.remove_expired();
            if shelf.items.len() >= ITEMS_MAX {
                let reason = format!("it holds {ITEMS_MAX} items already");
                return Err(StoreError::Refuses { store: self.name.clone(), reason });
            }
        }
        shelf.last_token += 1;
        let kept = Kept { bytes, token: shelf.last_token, until: until(lifetime) };
        shelf.items.insert(Bytes::copy_from_slice(key), kept);
        Ok(Reply::Done)
    }

    fn flush(&self, delay: Duration) {
        let end = Instant::now() + delay;
        let mut shelf = self.shelf();
        for kept in shelf.items.values_mut() {
            kept.until = Some(kept.until.map_or(end, |until| until.min(end)));
        }
        shelf.remove_expired();
    }
}

impl Shelf {
    fn present(&mut self, key: &[u8]) -> Option<&mut Kept> {
        let now = Instant::now();
        if self.items.get(key)?.until.is_some_and(|until| until <= now) {
            self.items.remove(key);
        }
        self.items.get_mut(key)
    }

    fn remove_expired(&mut self) {
        let now = Instant::now();
        self.items.retain(|_, kept| kept.until.is_none_or(|until| until > now));
    }
}

impl Kept {
    fn item(&self) -> Item {
        let lifetime = self.until.map_or(Lifetime::Forever, |until| {
            let left = until.saturating_duration_since(Instant::now());
            let seconds = u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
            Lifetime::Seconds(seconds.max(1))
        });
        Item { bytes: self.bytes.clone(), token: self.token, lifetime }
    }
}

fn until(lifetime: Lifetime) -> Option<Instant> {
    match lifetime {
        Lifetime::Forever => None,
        Lifetime::Seconds(seconds) => {
            Instant::now().checked_add(Duration::from_secs(u64::from(seconds)))
        }
    }
}

impl Store for Memory {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_up(&self) -> bool {
        true
    }

    fn standing(&self) -> Standing {
        Standing::Settled
    }

    fn ask(&self, request: Request<'_>) -> Answer {
        let answered = match request {
            Request::Fetch { key } => Ok(self
                .shelf()
                .present(key)
                .map_or(Reply::Missing, |kept| Reply::Found(kept.item()))),
            Request::Touch { key, lifetime } => {
                Ok(self.shelf().present(key).map_or(Reply::Missing, |kept| {
                    kept.until = until(lifetime);
                    Reply::Found(kept.item())
                }))
            }
            Request::Write { key, head, body, lifetime, condition } => {
                self.write(key, Bytes::from([head, body].concat()), lifetime, condition)
            }
            Request::Remove { key } => {
                self.shelf().items.remove(key);
                Ok(Reply::Done)
            }
            Request::Flush { delay } => {
                self.flush(delay);
                Ok(Reply::Done)
            }
        };
        Answer::ready(answered)
    }
}
