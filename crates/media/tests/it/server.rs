//! The S3 servers that a mount is tried with.

use flotilla_testkit::s3::{Access, EmbeddedStore, SeaweedStore};

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The one that a fleet on one machine has.
    Ours,
    /// One that others wrote.
    Seaweed,
}

/// A server with an empty bucket; it ends with the test.
pub(crate) enum Server {
    Ours(Box<EmbeddedStore>),
    Seaweed {
        store: Box<SeaweedStore>,
        /// Watches its process.
        _runtime: tokio::runtime::Runtime,
    },
}

impl Server {
    pub(crate) fn start(kind: Kind) -> Self {
        match kind {
            Kind::Ours => Self::Ours(Box::new(EmbeddedStore::start().unwrap())),
            Kind::Seaweed => {
                let runtime = tokio::runtime::Runtime::new().unwrap();
                let store = Box::new(runtime.block_on(SeaweedStore::start()).unwrap());
                Self::Seaweed { store, _runtime: runtime }
            }
        }
    }

    pub(crate) fn access(&self) -> &Access {
        match self {
            Self::Ours(store) => &store.access,
            Self::Seaweed { store, .. } => &store.access,
        }
    }
}
