//! What the owners of a key say about it.

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{Copies, CopiesError, OwnedOwners, Value};
use crate::envelope::Envelope;
use crate::expiry::Lifetime;
use crate::store::{Answer, Reply, Request, StoreError};
use crate::topology::{Node, OWNERS_USUAL};

/// How much the lifetimes of two copies may differ: nodes count in whole seconds, each from a
/// moment of its own.
const LIFETIME_SLACK_SECONDS: u32 = 2;

/// A copy of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) envelope: Envelope,
    pub(super) value: Value,
    pub(super) token: u64,
}

/// What one owner says.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) owner: Node,
    /// `None` inside is an owner without a copy.
    pub(super) copy: Result<Option<Copy>, StoreError>,
    /// Whether it is an owner by the present list, or only was one.
    pub(super) is_former: bool,
}

/// What all owners say.
#[derive(Debug)]
pub(super) struct View {
    pub(super) seen: SmallVec<[Seen; OWNERS_USUAL]>,
}

/// A request to all owners that is under way.
pub(super) struct Begun<'a> {
    key: &'a [u8],
    request: Request<'a>,
    owners: OwnedOwners,
    answers: SmallVec<[Answer; OWNERS_USUAL]>,
}

impl View {
    /// Returns the newest copy, be it a tombstone.
    pub(super) fn newest(&self) -> Option<&Copy> {
        self.copies().max_by_key(|copy| copy.envelope.version)
    }

    /// Returns the newest copy when it is not a tombstone.
    pub(super) fn live(&self) -> Option<Value> {
        let newest = self.newest().filter(|copy| !copy.envelope.is_tombstone)?;
        let mut value = newest.value.clone();
        value.lifetime = self.lifetime_of(newest.envelope.version);
        Some(value)
    }

    /// Returns the longest life of the copies with a version. A copy that lives shorter has missed
    /// that it was extended.
    pub(super) fn lifetime_of(&self, version: u64) -> Lifetime {
        let lifetimes = self
            .copies()
            .filter(|copy| copy.envelope.version == version)
            .map(|copy| copy.value.lifetime);
        lifetimes
            .reduce(|one, other| if other.outlives(one, 0) { other } else { one })
            .unwrap_or(Lifetime::Forever)
    }

    /// Returns whether an owner that answered has not the newest copy.
    pub(super) fn has_laggards(&self) -> bool {
        self.newest().is_some_and(|newest| {
            let lifetime = self.lifetime_of(newest.envelope.version);
            self.present().any(|one| lags(one, newest, lifetime))
        })
    }

    /// Returns whether all present owners have a copy of one version.
    fn is_agreed(&self) -> bool {
        let mut versions = self.present().map(|one| match &one.copy {
            Ok(Some(copy)) => Some(copy.envelope.version),
            Ok(None) | Err(_) => None,
        });
        let first = versions.next().flatten();
        first.is_some() && versions.all(|version| version == first)
    }

    /// Returns what the present owners said.
    pub(super) fn present(&self) -> impl Iterator<Item = &Seen> {
        self.seen.iter().filter(|one| !one.is_former)
    }

    fn copies(&self) -> impl Iterator<Item = &Copy> {
        self.seen.iter().filter_map(|one| one.copy.as_ref().ok()?.as_ref())
    }
}

/// Returns whether an owner that answered has an older copy than the newest, or none, or one that
/// ends too early.
///
/// An item in its last seconds is left to end: one node forgets it before the other, and would be
/// given it again and again.
pub(super) fn lags(one: &Seen, newest: &Copy, lifetime: Lifetime) -> bool {
    if !lifetime.outlives(Lifetime::Seconds(LIFETIME_SLACK_SECONDS), 0) {
        return false;
    }
    match &one.copy {
        Ok(Some(copy)) => {
            copy.envelope.version < newest.envelope.version
                || lifetime.outlives(copy.value.lifetime, LIFETIME_SLACK_SECONDS)
        }
        Ok(None) => true,
        Err(_) => false,
    }
}

impl Copies {
    /// Asks all owners of a key; waits for nothing.
    pub(super) fn begin<'a>(&self, key: &'a [u8], request: Request<'a>) -> Begun<'a> {
        let topology = self.topology.load();
        let owners = topology.owners(key, Instant::now());
        let answers = owners.iter().map(|owner| owner.ask(request)).collect();
        let owners = owners.into_iter().cloned().collect();
        Begun { key, request, owners, answers }
    }

    /// Waits for what the owners say, and for an owner to come back when all are away.
    ///
    /// # Errors
    /// No owner answers.
    pub(super) async fn finish(&self, begun: Begun<'_>) -> Result<View, CopiesError> {
        let (key, request) = (begun.key, begun.request);
        let view = match self.collect(begun).await {
            Err(CopiesError::Store(StoreError::Unreachable { .. }))
                if self.wait_returned(key).await =>
            {
                self.collect(self.begin(key, request)).await?
            }
            outcome => outcome?,
        };
        if let Some(newest) = view.newest() {
            self.clock.observe(newest.envelope.version);
        }
        Ok(view)
    }

    async fn collect(&self, begun: Begun<'_>) -> Result<View, CopiesError> {
        let mut view = View { seen: SmallVec::new() };
        for (owner, answer) in begun.owners.into_iter().zip(begun.answers) {
            view.seen.push(Seen { owner, copy: copy_of(answer).await, is_former: false });
        }
        let mut failure = Some(CopiesError::NoNodes);
        for one in &view.seen {
            match &one.copy {
                Ok(_) => failure = None,
                Err(error) => failure = failure.map(|_| error.clone().into()),
            }
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        if !view.is_agreed() {
            self.ask_former(begun.key, begun.request, &mut view).await;
        }
        Ok(view)
    }

    /// Adds what former owners say: they may have what the present ones have not got yet.
    async fn ask_former(&self, key: &[u8], request: Request<'_>, view: &mut View) {
        let topology = self.topology.load_full();
        if !topology.has_former() {
            return;
        }
        let owners = topology.owners(key, Instant::now());
        let former = topology.former_owners(key, &owners);
        let answers: Vec<Answer> = former.iter().map(|node| node.ask(request)).collect();
        for (owner, answer) in former.into_iter().zip(answers) {
            let copy = copy_of(answer).await;
            view.seen.push(Seen { owner: owner.clone(), copy, is_former: true });
        }
    }
}

async fn copy_of(answer: Answer) -> Result<Option<Copy>, StoreError> {
    let Reply::Found(item) = answer.await? else { return Ok(None) };
    let (envelope, data) = Envelope::decode(&item.bytes);
    let Envelope { version, flags, .. } = envelope;
    let value = Value { version, flags, data, lifetime: item.lifetime };
    Ok(Some(Copy { envelope, value, token: item.token }))
}
