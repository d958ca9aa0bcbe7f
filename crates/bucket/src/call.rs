//! A request whose sender is known and may do what it asks for.

use std::sync::Arc;

use http::request::Parts;
use hyper::body::Incoming;
use tokio::task::spawn_blocking;

use crate::blobs::NewBlob;
use crate::fault::Fault;
use crate::intake;
use crate::payload::{Decoder, Protection, Received};
use crate::store::Store;
use crate::target::Target;

/// A request that is being worked on.
#[derive(Debug)]
pub(crate) struct Call {
    /// What it works on.
    pub(crate) store: Arc<Store>,
    /// Its head.
    pub(crate) head: Parts,
    /// What it names.
    pub(crate) target: Target,
    /// How its signature covers its body.
    pub(crate) protection: Protection,
    /// Its body.
    pub(crate) body: Incoming,
}

impl Call {
    /// Returns the text of a header; `None` when it is missing or not ASCII.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok().map(str::trim)
    }

    /// Takes the body into a new file.
    ///
    /// # Errors
    /// See [`intake::receive`].
    pub(crate) async fn receive(&mut self) -> Result<(Received, Option<NewBlob>), Fault> {
        let decoder = Decoder::new(&self.head.headers, self.protection.clone())?;
        intake::receive(&self.store, &mut self.body, decoder).await
    }

    /// Takes the body into memory.
    ///
    /// # Errors
    /// See [`intake::receive_document`].
    pub(crate) async fn receive_document(&mut self) -> Result<Vec<u8>, Fault> {
        let decoder = Decoder::new(&self.head.headers, self.protection.clone())?;
        intake::receive_document(&self.store, &mut self.body, decoder).await
    }

    /// Does something that may block, with the store at hand.
    ///
    /// # Errors
    /// Those of the work; it panicked.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let store = Arc::clone(&self.store);
        let outcome = spawn_blocking(move || work(&store)).await;
        outcome.map_err(|error| {
            tracing::error!(%error, "A request broke");
            Fault::internal()
        })?
    }
}
