//! The bodies of answers: text, or the bytes of an object, read ahead by one piece.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::blobs::Blobs;
use crate::epoch::Reading;
use crate::index::Piece;
use crate::range::ByteRange;

/// How much is read at once.
const PIECE_BYTES: u64 = 256 * 1024;

/// The bytes of an object, or a part of them, that are read one piece after the other.
#[derive(Debug)]
pub(crate) struct ObjectReader {
    blobs: Arc<Blobs>,
    /// Keeps the files while they are read.
    _reading: Reading,
    pieces: VecDeque<(Piece, ByteRange)>,
    open: Option<(File, u64)>,
}

impl ObjectReader {
    /// Begins to read a part of an object with these files.
    pub(crate) fn new(
        blobs: Arc<Blobs>,
        reading: Reading,
        pieces: &[Piece],
        range: ByteRange,
    ) -> Self {
        let mut parts = VecDeque::new();
        let (mut begin, end) = (0_u64, range.start.saturating_add(range.length));
        for piece in pieces {
            let (first, last) = (range.start.max(begin), end.min(begin.saturating_add(piece.size)));
            if first < last {
                parts.push_back((*piece, ByteRange { start: first - begin, length: last - first }));
            }
            begin = begin.saturating_add(piece.size);
        }
        Self { blobs, _reading: reading, pieces: parts, open: None }
    }

    /// Reads on; empty at the end. Blocks, so it is for threads that may.
    ///
    /// # Errors
    /// A file is gone, shorter than it should be, or cannot be read.
    pub(crate) fn read(&mut self) -> io::Result<Bytes> {
        if self.open.is_none() {
            let Some((piece, part)) = self.pieces.pop_front() else { return Ok(Bytes::new()) };
            let mut file = self.blobs.open_for_reading(piece.blob)?;
            if part.start > 0 {
                file.seek(SeekFrom::Start(part.start))?;
            }
            self.open = Some((file, part.length));
        }
        let Some((file, missing)) = &mut self.open else { return Ok(Bytes::new()) };
        let wanted = PIECE_BYTES.min(*missing);
        let mut buffer = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
        file.take(wanted).read_to_end(&mut buffer)?;
        let count = u64::try_from(buffer.len()).unwrap_or_default();
        if count < wanted {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        *missing -= count;
        if *missing == 0 {
            self.open = None;
        }
        Ok(Bytes::from(buffer))
    }
}

/// The body of an answer.
pub(crate) enum Outlet {
    /// A text; `None` when it has been sent.
    Text(Option<Bytes>),
    /// An object.
    Object(ObjectOutlet),
}

impl Outlet {
    /// Makes a body of a text.
    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        let text = text.into();
        Self::Text((!text.is_empty()).then_some(text))
    }

    /// Makes a body of an object whose first piece has been read.
    pub(crate) fn object(reader: ObjectReader, first: Bytes, length: u64) -> Self {
        let mut outlet = ObjectOutlet { ready: Some(first), missing: length, next: None };
        outlet.read_ahead(reader);
        Self::Object(outlet)
    }
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Outlet")
    }
}

/// The body of an answer with an object.
pub(crate) struct ObjectOutlet {
    ready: Option<Bytes>,
    missing: u64,
    next: Option<JoinHandle<io::Result<(ObjectReader, Bytes)>>>,
}

impl ObjectOutlet {
    fn read_ahead(&mut self, mut reader: ObjectReader) {
        let ready = self.ready.as_ref().map_or(0, Bytes::len);
        if u64::try_from(ready).unwrap_or(u64::MAX) < self.missing {
            self.next = Some(spawn_blocking(move || {
                let piece = reader.read()?;
                Ok((reader, piece))
            }));
        }
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.ready.is_none() {
            let Some(next) = &mut self.next else { return Poll::Ready(None) };
            let outcome = ready!(Pin::new(next).poll(context));
            self.next = None;
            match outcome.map_err(io::Error::other).flatten() {
                Ok((reader, piece)) => {
                    self.ready = Some(piece);
                    self.read_ahead(reader);
                }
                Err(error) => {
                    tracing::error!(%error, "An object cannot be read");
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        let Some(piece) = self.ready.take() else { return Poll::Ready(None) };
        self.missing = self.missing.saturating_sub(u64::try_from(piece.len()).unwrap_or_default());
        Poll::Ready((!piece.is_empty()).then_some(Ok(piece)))
    }
}

impl Body for Outlet {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Object(object) => {
                object.poll_piece(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_none(),
            Self::Object(object) => object.missing == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => {
                let length = text.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Self::Object(object) => SizeHint::with_exact(object.missing),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;

    use super::ObjectReader;
    use crate::blobs::Blobs;
    use crate::epoch::Epochs;
    use crate::index::Piece;
    use crate::range::ByteRange;

    /// Writes pieces of these sizes; returns them and all their bytes.
    fn write(blobs: &Arc<Blobs>, sizes: &[usize]) -> (Vec<Piece>, Vec<u8>) {
        let (mut pieces, mut whole) = (Vec::new(), Vec::new());
        for size in sizes {
            let bytes: Vec<u8> = (0..251).cycle().skip(whole.len()).take(*size).collect();
            let (blob, mut file) = blobs.begin().unwrap();
            file.write_all(&bytes).unwrap();
            pieces.push(Piece { blob: blob.id(), size: u64::try_from(*size).unwrap() });
            blob.place();
            whole.extend(bytes);
        }
        (pieces, whole)
    }

    #[test]
    fn any_part_of_any_pieces_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Arc::new(Blobs::open(directory.path()).unwrap());
        let sizes = prop::collection::vec(1_usize..40, 0..6);
        let mut runner = TestRunner::new(ProptestConfig::with_cases(100));
        let outcome = runner.run(&(sizes, 0_usize..200, 0_usize..200), |(sizes, start, length)| {
            let (pieces, whole) = write(&blobs, &sizes);
            let start = start.min(whole.len());
            let length = length.min(whole.len() - start);
            let range = ByteRange {
                start: u64::try_from(start).unwrap(),
                length: u64::try_from(length).unwrap(),
            };
            let reading = Epochs::default().enter();
            let mut reader = ObjectReader::new(Arc::clone(&blobs), reading, &pieces, range);
            let mut read = Vec::new();
            loop {
                let piece = reader.read().unwrap();
                if piece.is_empty() {
                    break;
                }
                read.extend(piece);
            }
            prop_assert_eq!(&read[..], &whole[start..start + length]);
            Ok(())
        });
        outcome.unwrap();
    }
}
