//! The body of a response on its way to the visitor, with everything that ends when it ends.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::admission::InFlight;
use crate::exchange::Exchange;
use crate::record::Record;

/// A body with the record of its request; dropping it ends the request.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    content: Content,
    record: Record,
}

#[derive(Debug)]
enum Content {
    Whole(Option<Bytes>),
    Upstream(UpstreamBody),
}

/// A body that comes from an upstream.
#[derive(Debug)]
pub(crate) struct UpstreamBody {
    incoming: Incoming,
    exchange: Option<Box<Exchange>>,
    in_flight: Option<InFlight>,
}

impl ResponseBody {
    /// Makes a body of bytes that the balancer has itself.
    pub(crate) const fn whole(bytes: Bytes, record: Record) -> Self {
        Self { content: Content::Whole(Some(bytes)), record }
    }

    /// Passes on what comes from an upstream.
    pub(crate) const fn upstream(body: UpstreamBody, record: Record) -> Self {
        Self { content: Content::Upstream(body), record }
    }
}

impl UpstreamBody {
    /// Takes over a connection whose response head was read.
    pub(crate) const fn new(
        incoming: Incoming,
        exchange: Box<Exchange>,
        in_flight: InFlight,
    ) -> Self {
        Self { incoming, exchange: Some(exchange), in_flight: Some(in_flight) }
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut frame = Pin::new(&mut self.incoming).poll_frame(context);
        if frame.is_pending()
            && let Some(exchange) = &mut self.exchange
        {
            exchange.drive(context);
            frame = Pin::new(&mut self.incoming).poll_frame(context);
        }
        match &frame {
            Poll::Ready(None) => self.finish(context),
            Poll::Ready(Some(Ok(_))) if self.incoming.is_end_stream() => self.finish(context),
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!(%error, "A response broke off");
                if let Some(in_flight) = self.in_flight.take() {
                    in_flight.note_failure();
                }
                self.exchange = None;
            }
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        frame
    }

    /// Ends the exchange; its connection is kept when it can take another request.
    fn finish(&mut self, context: &mut Context<'_>) {
        let (Some(in_flight), Some(mut exchange)) = (self.in_flight.take(), self.exchange.take())
        else {
            return;
        };
        if exchange.is_reusable(context) {
            in_flight.keep(exchange);
        }
    }

    /// Ends the exchange when the response has no body.
    pub(crate) fn finish_if_empty(&mut self, context: &mut Context<'_>) {
        if self.incoming.is_end_stream() {
            self.finish(context);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = match &mut self.content {
            Content::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::Upstream(body) => body.poll(context),
        };
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.record.bytes += u64::try_from(data.len()).unwrap_or(0);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Content::Upstream(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Content::Upstream(body) => body.incoming.size_hint(),
        }
    }
}
