//! What the gateway wants of a place that keeps items: a memcached, a table, or memory.
//!
//! A store keeps one copy of an item and knows nothing of versions, owners or sessions. A request is
//! under way when [`Store::ask`] returns; so asking two stores and then awaiting both answers, one
//! after the other, takes as long as the slower of them.

#[cfg(test)]
mod contract;
pub(crate) mod dynamodb;
#[cfg(test)]
pub(crate) mod failing;
pub(crate) mod memcached;
pub(crate) mod memory;

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::expiry::Lifetime;

/// A place that keeps items.
pub(crate) trait Store: Debug + Send + Sync {
    /// Returns what the store is called in messages, and what decides which keys it owns.
    fn name(&self) -> &str;

    /// Returns whether requests are likely to be answered.
    fn is_up(&self) -> bool;

    /// Returns the same, and whether other gateways have had the time to notice.
    fn standing(&self) -> Standing;

    /// Begins a request; waits for nothing.
    fn ask(&self, request: Request<'_>) -> Answer;
}

/// Whether a store answers, and for how long that has been so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is up, and has been for some time.
    Settled,
    /// It has come back just now, maybe without what it had.
    Fresh,
    /// It has gone away just now.
    Leaving,
    /// It has been away for some time.
    Gone,
}

/// What a store is asked to do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Request<'a> {
    /// Tells an item.
    Fetch {
        /// Which one.
        key: &'a [u8],
    },
    /// Tells an item and has it live for so long from now.
    Touch {
        /// Which one.
        key: &'a [u8],
        /// How long.
        lifetime: Lifetime,
    },
    /// Keeps an item.
    Write {
        /// Which one.
        key: &'a [u8],
        /// How its bytes begin.
        head: &'a [u8],
        /// How its bytes go on.
        body: &'a [u8],
        /// How long it lives.
        lifetime: Lifetime,
        /// When it is to be kept.
        condition: Condition,
    },
    /// Forgets an item; it is no error when there is none.
    Remove {
        /// Which one.
        key: &'a [u8],
    },
    /// Forgets all items.
    Flush {
        /// After how long.
        delay: Duration,
    },
}

/// On which condition an item is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Whatever is there.
    Always,
    /// There is none of this key.
    Absent,
    /// The one that is there has this token.
    Unchanged(u64),
}

/// What a store says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The item.
    Found(Item),
    /// There is no such item.
    Missing,
    /// It was done.
    Done,
    /// The condition was not met, and nothing was done.
    Refused,
}

/// An item as a store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    /// Its bytes.
    pub(crate) bytes: Bytes,
    /// Changes whenever the item does.
    pub(crate) token: u64,
    /// How long it lives from now on.
    pub(crate) lifetime: Lifetime,
}

/// Says why a store did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// It is down, does not answer, or is not waited for because it did not answer before.
    /// Whether the request has been or will be carried out is not known.
    #[error("`{store}` does not answer")]
    Unreachable {
        /// Which one.
        store: String,
    },
    /// Too much is under way already.
    #[error("too many requests wait for `{store}`")]
    Busy {
        /// Which one.
        store: String,
    },
    /// It answered that it cannot.
    #[error("`{store}` refuses: {reason}")]
    Refuses {
        /// Which one.
        store: String,
        /// Its words.
        reason: String,
    },
}

/// What a request comes to.
pub(crate) type Answered = Result<Reply, StoreError>;

/// The answer to a request that is under way.
#[derive(Debug)]
pub(crate) struct Answer(State);

#[derive(Debug)]
enum State {
    Ready(Option<Answered>),
    Waiting(oneshot::Receiver<Answered>),
}

impl Answer {
    /// An answer that is there.
    pub(crate) const fn ready(answered: Answered) -> Self {
        Self(State::Ready(Some(answered)))
    }

    /// An answer that comes later; when the sender is dropped, the store is unreachable.
    pub(crate) const fn waiting(receiver: oneshot::Receiver<Answered>) -> Self {
        Self(State::Waiting(receiver))
    }
}

/// The answer of a store that has gone away; its name is known to who asked.
fn gone() -> Answered {
    Err(StoreError::Unreachable { store: "node".to_owned() })
}

impl Future for Answer {
    type Output = Answered;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answered> {
        match &mut self.get_mut().0 {
            State::Ready(answered) => Poll::Ready(answered.take().unwrap_or_else(gone)),
            State::Waiting(receiver) => {
                Pin::new(receiver).poll(context).map(|received| received.unwrap_or_else(|_| gone()))
            }
        }
    }
}

impl dyn Store + '_ {
    /// Asks for an item.
    pub(crate) fn fetch(&self, key: &[u8]) -> Answer {
        self.ask(Request::Fetch { key })
    }

    /// Asks to forget an item.
    pub(crate) fn remove(&self, key: &[u8]) -> Answer {
        self.ask(Request::Remove { key })
    }
}
