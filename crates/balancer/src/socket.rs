//! A TCP stream that tells its owner what happens on it.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What is known of the traffic of a [`WatchedStream`].
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Bytes that were read.
    pub(crate) bytes_read: Cell<u64>,
    /// Bytes that were written.
    pub(crate) bytes_written: Cell<u64>,
    /// Set while the peer does not take what is written.
    pub(crate) is_write_blocked: Cell<bool>,
}

impl Traffic {
    /// Returns the bytes that went either way.
    pub(crate) const fn all_bytes(&self) -> u64 {
        self.bytes_read.get() + self.bytes_written.get()
    }
}

/// The stream.
#[derive(Debug)]
pub(crate) struct WatchedStream {
    stream: TcpStream,
    traffic: Rc<Traffic>,
}

impl WatchedStream {
    /// Wraps a stream; small writes are sent at once.
    pub(crate) fn new(stream: TcpStream, traffic: Rc<Traffic>) -> Self {
        // A socket that is already closed refuses this; the next read tells.
        drop(stream.set_nodelay(true));
        Self { stream, traffic }
    }

    /// Returns the counts, which outlive the stream.
    pub(crate) fn traffic(&self) -> Rc<Traffic> {
        Rc::clone(&self.traffic)
    }

    fn note_write(&self, outcome: &Poll<io::Result<usize>>) {
        match outcome {
            Poll::Ready(Ok(count)) => {
                let written = &self.traffic.bytes_written;
                written.set(written.get() + u64::try_from(*count).unwrap_or(0));
                self.traffic.is_write_blocked.set(false);
            }
            Poll::Ready(Err(_)) => self.traffic.is_write_blocked.set(false),
            Poll::Pending => self.traffic.is_write_blocked.set(true),
        }
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let count = buffer.filled().len() - before;
        let read = &self.traffic.bytes_read;
        read.set(read.get() + u64::try_from(count).unwrap_or(0));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note_write(&outcome);
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note_write(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
