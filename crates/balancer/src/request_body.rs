//! The body of a visitor's request: read ahead up to a limit, so that a slow visitor does not take
//! a PHP worker, and streamed from there on.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use crate::connection::Visitor;
use crate::options::{Limits, Timeouts};

/// What is wrong with a request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyFailure {
    /// It is larger than allowed.
    #[error("the request body is too large")]
    TooLarge,
    /// The visitor stopped sending it.
    #[error("the request body stopped coming")]
    TimedOut,
    /// It broke off or is not well formed.
    #[error("the request body is broken")]
    Broken,
}

/// A body as it is sent to an upstream.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// All of it is here; `None` for none.
    Whole(Option<Bytes>),
    /// The rest comes while it is sent.
    Streaming(Box<Rest>),
}

/// The part of a body that has not been read yet, behind a first part that has.
#[derive(Debug)]
pub(crate) struct Rest {
    first: Option<Bytes>,
    incoming: Incoming,
    received: u64,
    bytes_max: u64,
    visitor: Rc<Visitor>,
}

impl RequestBody {
    /// Reads a body up to the limit.
    pub(crate) async fn read(
        mut incoming: Incoming,
        visitor: &Rc<Visitor>,
        limits: &Limits,
        timeouts: &Timeouts,
    ) -> Result<Self, BodyFailure> {
        if incoming.is_end_stream() {
            return Ok(Self::Whole(None));
        }
        let bytes_max = limits.request_body_bytes_max;
        if incoming.size_hint().lower() > bytes_max {
            return Err(BodyFailure::TooLarge);
        }
        let mut buffer = BytesMut::new();
        let began = Instant::now();
        while buffer.len() < limits.request_buffer_bytes {
            let idle = timeouts.request_body_idle;
            let earned = limits.visitor_seconds(as_u64(buffer.len()));
            let deadline = (Instant::now() + idle).min(began + idle + earned);
            let frame = visitor
                .until(deadline, None, incoming.frame())
                .await
                .map_err(|_elapsed| BodyFailure::TimedOut)?;
            let Some(frame) = frame else {
                return Ok(Self::Whole(Some(buffer.freeze())));
            };
            let frame = frame.map_err(|_error| BodyFailure::Broken)?;
            if let Ok(data) = frame.into_data() {
                buffer.extend_from_slice(&data);
            }
            if as_u64(buffer.len()) > bytes_max {
                return Err(BodyFailure::TooLarge);
            }
            if incoming.is_end_stream() {
                return Ok(Self::Whole(Some(buffer.freeze())));
            }
        }
        let received = as_u64(buffer.len());
        let first = Some(buffer.freeze());
        visitor.expect_body();
        let visitor = Rc::clone(visitor);
        Ok(Self::Streaming(Box::new(Rest { first, incoming, received, bytes_max, visitor })))
    }

    /// Returns whether all of it is here.
    pub(crate) const fn is_whole(&self) -> bool {
        matches!(self, Self::Whole(_))
    }

    /// Returns the same body once more, when all of it is here.
    pub(crate) fn again(&self) -> Option<Self> {
        match self {
            Self::Whole(bytes) => Some(Self::Whole(bytes.clone())),
            Self::Streaming(_) => None,
        }
    }

    /// Returns the length, when it is known.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Self::Whole(bytes) => Some(bytes.as_ref().map_or(0, |bytes| as_u64(bytes.len()))),
            Self::Streaming(rest) => {
                let first = rest.first.as_ref().map_or(0, |bytes| as_u64(bytes.len()));
                rest.incoming.size_hint().exact().map(|more| more + first)
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyFailure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streaming(rest) => rest.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Streaming(rest) => rest.first.is_none() && rest.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Rest {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        loop {
            let failure = match Pin::new(&mut self.incoming).poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => {
                    self.visitor.note_body_sent();
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(_))) => BodyFailure::Broken,
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers mean nothing to PHP.
                    let Ok(data) = frame.into_data() else { continue };
                    self.received += as_u64(data.len());
                    if self.received <= self.bytes_max {
                        if self.incoming.is_end_stream() {
                            self.visitor.note_body_sent();
                        }
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    BodyFailure::TooLarge
                }
            };
            self.visitor.body_failure.set(Some(failure));
            return Poll::Ready(Some(Err(failure)));
        }
    }
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
