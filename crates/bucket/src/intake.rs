//! Takes the body of a request into a new file, or into memory when it is a document.
//!
//! Two pieces are in memory at a time: one is hashed and written on a thread that may block while
//! the next one comes in.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use crate::blobs::{Blobs, NewBlob};
use crate::fault::{Code, Fault};
use crate::payload::{Decoder, Received};
use crate::store::Store;

/// How much is collected before it is handed to the other thread.
const PIECE_BYTES: usize = 256 * 1024;
/// The largest document that a request may have: 1,000 keys to delete, or 10,000 parts.
const DOCUMENT_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// How much of the body of a refused request is read, so that its client hears why.
const DRAINED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Takes a body into a new file; an empty one needs none.
///
/// The file is whole and on the disk when this returns.
///
/// # Errors
/// The body is too large, does not come, or is not what was said of it; or the disk failed.
pub(crate) async fn receive(
    store: &Store,
    body: &mut Incoming,
    decoder: Decoder,
) -> Result<(Received, Option<NewBlob>), Fault> {
    let size = decoder.size_claimed();
    if size > store.limits.put_bytes_max {
        let max = store.limits.put_bytes_max;
        let message = format!("the body has {size} bytes; at most {max} are taken at once");
        return Err(Fault::new(Code::EntityTooLarge, message));
    }
    store.check_room(size)?;
    let mut writing = Writing::Here(Box::new(FileIntake {
        decoder,
        blobs: Arc::clone(&store.blobs),
        file: None,
    }));
    loop {
        let (pieces, is_last) = collect(body, store.limits.body_idle_timeout).await?;
        let intake = writing.wait().await?;
        if is_last {
            let finished = spawn_blocking(move || intake.finish(&pieces));
            return finished.await.map_err(|_error| Fault::internal())?;
        }
        writing = Writing::There(spawn_blocking(move || {
            let mut intake = intake;
            intake.absorb(&pieces)?;
            Ok(intake)
        }));
    }
}

/// Takes a document into memory.
///
/// # Errors
/// It is too large, does not come, or is not what was said of it.
pub(crate) async fn receive_document(
    store: &Store,
    body: &mut Incoming,
    mut decoder: Decoder,
) -> Result<Vec<u8>, Fault> {
    if decoder.size_claimed() > DOCUMENT_BYTES_MAX {
        let message = format!("the document is larger than {DOCUMENT_BYTES_MAX} bytes");
        return Err(Fault::new(Code::EntityTooLarge, message));
    }
    let mut document = Vec::new();
    loop {
        let (pieces, is_last) = collect(body, store.limits.body_idle_timeout).await?;
        for piece in pieces {
            decoder.absorb(&piece, &mut |bytes| {
                document.extend_from_slice(bytes);
                Ok(())
            })?;
        }
        if is_last {
            decoder.finish()?;
            return Ok(document);
        }
    }
}

/// Reads a body that nobody wants, up to a limit: a client that still sends would not see the
/// answer.
pub(crate) async fn drain(body: &mut Incoming, limit: Duration) {
    let reading = async {
        let mut bytes = 0;
        while bytes < DRAINED_BYTES_MAX {
            let Some(Ok(frame)) = body.frame().await else { return };
            bytes += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // It is a courtesy; without it the connection is cut.
    drop(timeout(limit, reading).await);
}

/// Waits until some of a body is there; the flag says whether that was the end of it.
async fn collect(body: &mut Incoming, limit: Duration) -> Result<(Vec<Bytes>, bool), Fault> {
    let mut pieces = Vec::new();
    let mut bytes = 0;
    while bytes < PIECE_BYTES {
        let frame = timeout(limit, body.frame()).await.map_err(|_elapsed| {
            Fault::new(Code::RequestTimeout, "the body of the request stands still")
        })?;
        match frame {
            None => return Ok((pieces, true)),
            Some(Err(error)) => {
                tracing::debug!(%error, "A client went away in the middle of a body");
                return Err(Fault::new(Code::IncompleteBody, "the body of the request broke off"));
            }
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    bytes += data.len();
                    pieces.push(data);
                }
            }
        }
    }
    Ok((pieces, false))
}

/// Where the file is: here, or with a thread that works on it.
enum Writing {
    Here(Box<FileIntake>),
    There(JoinHandle<Result<Box<FileIntake>, Fault>>),
}

impl Writing {
    async fn wait(self) -> Result<Box<FileIntake>, Fault> {
        match self {
            Self::Here(intake) => Ok(intake),
            Self::There(work) => work.await.map_err(|_error| Fault::internal())?,
        }
    }
}

/// A body on its way into a file.
struct FileIntake {
    decoder: Decoder,
    blobs: Arc<Blobs>,
    file: Option<(NewBlob, File)>,
}

impl FileIntake {
    fn absorb(&mut self, pieces: &[Bytes]) -> Result<(), Fault> {
        let Self { decoder, blobs, file } = self;
        let mut write = |bytes: &[u8]| -> io::Result<()> {
            let (_, file) = match file {
                Some(open) => open,
                None => file.insert(blobs.begin()?),
            };
            file.write_all(bytes)
        };
        pieces.iter().try_for_each(|piece| decoder.absorb(piece, &mut write))
    }

    fn finish(mut self, pieces: &[Bytes]) -> Result<(Received, Option<NewBlob>), Fault> {
        self.absorb(pieces)?;
        let received = self.decoder.finish()?;
        let Some((blob, file)) = self.file else { return Ok((received, None)) };
        file.sync_data().map_err(|error| Fault::of_disk("sync", &error))?;
        Ok((received, Some(blob)))
    }
}
