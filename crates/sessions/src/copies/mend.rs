//! Bringing copies that lag up to date.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::view::{Copy, Seen, View, lags};
use super::{Copies, CopiesError};
use crate::expiry::Lifetime;
use crate::store::{Answer, Condition, Request};
use crate::topology::Node;

/// How many keys are remembered that a node has missed. More than that are mended when they are
/// next read.
const MISSED_MAX: usize = 20_000;

/// Keys that were written while an owner could not be reached.
#[derive(Debug, Default)]
pub(crate) struct Missed {
    by_node: Mutex<HashMap<String, HashSet<Bytes>>>,
}

impl Missed {
    /// Remembers that a node missed a write.
    pub(crate) fn add(&self, node: &Node, key: &[u8]) {
        let mut by_node = self.by_node.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = by_node.entry(node.name().to_owned()).or_default();
        if keys.len() < MISSED_MAX {
            keys.insert(Bytes::copy_from_slice(key));
        }
    }

    /// Takes all keys that a node missed.
    pub(crate) fn take(&self, node: &Node) -> HashSet<Bytes> {
        let mut by_node = self.by_node.lock().unwrap_or_else(PoisonError::into_inner);
        by_node.remove(node.name()).unwrap_or_default()
    }
}

impl Copies {
    /// Writes the newest copy to owners that lag, and takes it from former owners.
    ///
    /// `lifetime` is how long it shall live when that is known better than by the copies. Each
    /// write is conditional on what was seen, so a newer copy is never written over. What fails is
    /// left to the next reader.
    pub(super) async fn mend(&self, key: &[u8], view: &View, lifetime: Option<Lifetime>) {
        let Some(newest) = view.newest() else { return };
        if !view.has_laggards() && !view.seen.iter().any(|one| one.is_former) {
            return;
        }
        let lifetime = lifetime.unwrap_or_else(|| view.lifetime_of(newest.envelope.version));
        let head = newest.envelope.encode();
        let answers: Vec<Answer> = view
            .present()
            .filter(|one| lags(one, newest, lifetime))
            .map(|one| one.owner.ask(mending(key, &head, one, newest, lifetime)))
            .collect();
        let mut is_mended = true;
        for answer in answers {
            is_mended &= answer.await.is_ok();
            self.counters.count(|counts| &counts.copies_mended);
        }
        // The former copy goes only when another one is safe.
        let former = view.seen.iter().filter(|one| one.is_former && is_mended);
        let removals: Vec<Answer> = former.map(|one| one.owner.remove(key)).collect();
        for removal in removals {
            drop(removal.await);
        }
    }

    /// Reads an item once more, so that copies which came apart are mended.
    pub(super) async fn reconcile(&self, key: &[u8]) -> Result<(), CopiesError> {
        let begun = self.begin(key, Request::Fetch { key });
        let view = self.finish(begun).await?;
        self.mend(key, &view, None).await;
        Ok(())
    }
}

fn mending<'a>(
    key: &'a [u8],
    head: &'a [u8],
    one: &Seen,
    newest: &'a Copy,
    lifetime: Lifetime,
) -> Request<'a> {
    let condition = match &one.copy {
        Ok(Some(copy)) if copy.envelope.version == newest.envelope.version => {
            return Request::Touch { key, lifetime };
        }
        Ok(Some(copy)) => Condition::Unchanged(copy.token),
        Ok(None) | Err(_) => Condition::Absent,
    };
    Request::Write { key, head, body: &newest.value.data, lifetime, condition }
}
