//! One connection to an upstream, driven by whoever uses it: no task of its own, so dropping it in
//! the middle of a request closes it at once.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::lane::UpstreamSocket;
use crate::request_body::RequestBody;
use crate::socket::{Traffic, WatchedStream};

/// The connection.
#[derive(Debug)]
pub(crate) struct Exchange {
    sender: SendRequest<RequestBody>,
    connection: Option<Connection<TokioIo<WatchedStream>, RequestBody>>,
    is_done: bool,
    socket: UpstreamSocket,
    /// Whether a request was answered on it before.
    pub(crate) is_reused: bool,
    /// When it was last used.
    pub(crate) idle_since: Instant,
}

/// Why there is no response head.
#[derive(Debug)]
pub(crate) enum SendError {
    /// Not one byte of the request was sent; here it is back.
    Unsent(Box<Request<RequestBody>>, hyper::Error),
    /// It may have been sent in part or whole.
    Broken(hyper::Error),
}

impl Exchange {
    /// Begins to speak HTTP on a fresh connection.
    pub(crate) async fn begin(stream: TcpStream, socket: UpstreamSocket) -> hyper::Result<Self> {
        let io = TokioIo::new(WatchedStream::new(stream, Rc::<Traffic>::default()));
        let (sender, connection) = Builder::new().handshake(io).await?;
        Ok(Self {
            sender,
            connection: Some(connection),
            is_done: false,
            socket,
            is_reused: false,
            idle_since: Instant::now(),
        })
    }

    /// Sends a request and returns the head of its response.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendError> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let (connection, is_done) = (&mut self.connection, &mut self.is_done);
        poll_fn(|context| {
            *is_done = *is_done || poll_connection(connection, context);
            let outcome = answer.as_mut().poll(context);
            if outcome.is_ready() || !*is_done {
                return outcome.map(|outcome| outcome.map_err(sort_error));
            }
            // Only dropping the connection makes it hand back a request it never took up.
            *connection = None;
            answer.as_mut().poll(context).map(|outcome| outcome.map_err(sort_error))
        })
        .await
    }

    /// Lets the connection do what it can; it reads the response body and writes the request body.
    pub(crate) fn drive(&mut self, context: &mut Context<'_>) {
        self.is_done = self.is_done || poll_connection(&mut self.connection, context);
        if self.is_done {
            self.connection = None;
        }
    }

    /// Returns whether another request can be sent on it.
    pub(crate) fn is_reusable(&mut self, context: &mut Context<'_>) -> bool {
        self.drive(context);
        !self.is_done && self.sender.is_ready()
    }

    /// Takes the stream out of a connection that both sides agreed to use otherwise, with what was
    /// read ahead.
    pub(crate) fn into_stream(self) -> Option<(WatchedStream, Bytes, UpstreamSocket)> {
        let parts = self.connection?.into_parts();
        Some((parts.io.into_inner(), parts.read_buf, self.socket))
    }
}

/// Returns whether the connection has ended.
fn poll_connection(
    connection: &mut Option<Connection<TokioIo<WatchedStream>, RequestBody>>,
    context: &mut Context<'_>,
) -> bool {
    match connection {
        Some(connection) => match Pin::new(connection).poll(context) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "A connection to an upstream ended");
                true
            }
            Poll::Pending => false,
        },
        None => true,
    }
}

fn sort_error(mut error: TrySendError<Request<RequestBody>>) -> SendError {
    match error.take_message() {
        Some(request) => SendError::Unsent(Box::new(request), error.into_error()),
        None => SendError::Broken(error.into_error()),
    }
}
