//! How the kernel's questions are answered: with what comes of the work, or with why it did not go
//! well.

use std::sync::Arc;

use fuser::{
    Errno, Generation, INodeNo, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite,
};

use super::MediaFilesystem;
use crate::fault::Fault;
use crate::nodes::Node;

/// An answer that is owed to the kernel.
pub(super) trait Reply: Send + 'static {
    /// Says that it did not go well.
    fn refuse(self, errno: Errno);
}

macro_rules! refuse_with_error {
    ($($reply:ty),*) => {
        $(impl Reply for $reply {
            fn refuse(self, errno: Errno) {
                self.error(errno);
            }
        })*
    };
}

refuse_with_error!(
    ReplyAttr,
    ReplyCreate,
    ReplyData,
    ReplyDirectory,
    ReplyEmpty,
    ReplyEntry,
    ReplyOpen,
    ReplyWrite
);

impl MediaFilesystem {
    /// Answers with what comes of work that has to wait; nobody else waits for it.
    pub(super) fn answer<R: Reply, T: 'static>(
        &self,
        name: &'static str,
        reply: R,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
        tell: impl FnOnce(R, T) + Send + 'static,
    ) {
        let _runtime = self.runtime.enter();
        self.tasks.spawn(name, async move {
            match work.await {
                Ok(outcome) => tell(reply, outcome),
                Err(fault) => reply.refuse(fault.errno()),
            }
        });
    }

    /// Answers with nothing but whether it went well.
    pub(super) fn answer_empty(
        &self,
        name: &'static str,
        reply: ReplyEmpty,
        work: impl Future<Output = Result<(), Fault>> + Send + 'static,
    ) {
        self.answer(name, reply, work, |reply, ()| reply.ok());
    }

    /// Answers with a node under its name.
    pub(super) fn answer_entry(
        &self,
        name: &'static str,
        reply: ReplyEntry,
        work: impl Future<Output = Result<Arc<Node>, Fault>> + Send + 'static,
    ) {
        let (volume, ttl) = (self.volume.clone(), self.ttl());
        self.answer(name, reply, work, move |reply, node| {
            volume.nodes().count_lookup(&node);
            reply.entry(&ttl, &volume.attributes(&node), Generation(0));
        });
    }

    /// Returns the node that the kernel means, or answers that it should look again.
    pub(super) fn node_for<R: Reply>(&self, ino: INodeNo, reply: R) -> Option<(Arc<Node>, R)> {
        match self.volume.node(ino.0) {
            Ok(node) => Some((node, reply)),
            Err(fault) => {
                reply.refuse(fault.errno());
                None
            }
        }
    }
}
