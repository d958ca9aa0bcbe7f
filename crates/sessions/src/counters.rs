//! What the gateway has done, in numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $help:literal])+ $name:ident,)+) => {
        /// Counts what the gateway does; shared with whoever reports it.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[doc = $help])+ pub(crate) $name: AtomicU64,)+
        }

        /// The numbers at one moment.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Snapshot {
            $($(#[doc = $help])+ pub $name: u64,)+
        }

        impl Counters {
            /// Returns the numbers as they are now.
            #[must_use]
            pub fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.$name.load(Ordering::Relaxed),)+ }
            }
        }

        impl Snapshot {
            /// Lists name, meaning and number of each.
            #[must_use]
            pub fn list(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($name), concat!($($help),+).trim_ascii(), self.$name),)+]
            }
        }
    };
}

counters! {
    /// Connections of clients that are open.
    curr_connections,
    /// Connections of clients since the start.
    total_connections,
    /// Connections that were turned away because there were too many.
    rejected_connections,
    /// Keys that were asked for.
    cmd_get,
    /// Commands that store a value.
    cmd_set,
    /// Commands that extend a life.
    cmd_touch,
    /// Keys that were asked for and found.
    get_hits,
    /// Keys that were asked for and not found.
    get_misses,
    /// Commands that could not be understood.
    bad_commands,
    /// Commands that failed because no owner of the key could be reached, or refused.
    failed_commands,
    /// Copies that lagged behind and were brought up to date.
    copies_mended,
    /// Writes that not all owners of the key could take.
    writes_with_a_copy_missing,
    /// Attempts at a change that were repeated because others changed the item before.
    updates_overtaken,
    /// Locks that were granted.
    locks_granted,
    /// Locks for which a client had to wait.
    locks_waited,
    /// Locks that were not granted in time.
    locks_timed_out,
    /// Locks that were freed because their holder's connection ended.
    locks_freed_by_disconnect,
    /// Locks that were freed because their holder kept them too long.
    locks_expired,
    /// Locks that were lost to another gateway.
    locks_lost,
}

impl Counters {
    /// Adds one to a number.
    pub(crate) fn count(&self, which: impl FnOnce(&Self) -> &AtomicU64) {
        which(self).fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an open connection until the returned value is dropped.
    pub(crate) fn open_connection(self: &Arc<Self>) -> OpenConnection {
        self.count(|counts| &counts.total_connections);
        self.count(|counts| &counts.curr_connections);
        OpenConnection(Arc::clone(self))
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct OpenConnection(Arc<Counters>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.curr_connections.fetch_sub(1, Ordering::Relaxed);
    }
}
