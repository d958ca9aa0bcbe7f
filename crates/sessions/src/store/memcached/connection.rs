//! The task that keeps the connection to a node: makes it, sends, receives, and notices silence.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Limits, Link, answer, request};
use crate::store::Answered;

/// The first pause after a connection was lost or refused; it doubles from there on.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// How often it is looked whether the oldest request is overdue, while there are any.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// How long the kernel goes on with a peer that acknowledges nothing; a stopped process does
/// acknowledge, so this ends connections to machines that are gone.
const SILENCE_MAX: Duration = Duration::from_secs(10);
const INPUT_BYTES: usize = 64 << 10;
const OUTPUT_BYTES_KEPT: usize = 1 << 20;

/// Keeps the connection until it is told to stop; tells when the first attempt has ended.
pub(super) async fn keep(
    link: Arc<Link>,
    limits: Limits,
    tried: watch::Sender<bool>,
    stop: CancellationToken,
) {
    let mut pause = PAUSE_MIN;
    let (mut is_told, mut is_first) = (false, true);
    loop {
        let work = async {
            match open(&link, limits).await {
                Ok(connection) => {
                    (pause, is_told) = (PAUSE_MIN, false);
                    tracing::info!(node = %link.address, "Connected to a session node");
                    link.set_up(std::mem::take(&mut is_first));
                    tried.send_replace(true);
                    let error = connection.serve(&link).await;
                    tracing::warn!(node = %link.address, %error, "Lost a session node");
                }
                Err(error) => {
                    is_first = false;
                    tried.send_replace(true);
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::warn!(node = %link.address, %error, "Cannot reach a session node");
                    }
                }
            }
        };
        let is_stopped = stop.run_until_cancelled(work).await.is_none();
        link.give_up_all();
        if is_stopped || stop.run_until_cancelled(sleep(pause)).await.is_none() {
            return;
        }
        pause = (pause * 2).min(limits.pause_max);
    }
}

/// Connects, and sees whether the node answers as we need it.
async fn open(link: &Link, limits: Limits) -> io::Result<Connection> {
    let connecting = TcpStream::connect(&link.address);
    let stream = timeout(limits.connect_timeout, connecting).await??;
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(&stream);
    socket.set_tcp_user_timeout(Some(SILENCE_MAX))?;
    let alive = socket2::TcpKeepalive::new().with_time(SILENCE_MAX).with_interval(SILENCE_MAX);
    socket.set_tcp_keepalive(&alive)?;
    let mut connection = Connection {
        stream,
        input: BytesMut::with_capacity(INPUT_BYTES),
        output: Vec::new(),
        sent: 0,
        limits,
    };
    timeout(limits.connect_timeout, connection.greet(link)).await??;
    Ok(connection)
}

struct Connection {
    stream: TcpStream,
    input: BytesMut,
    /// What is being sent, and how much of it has been.
    output: Vec<u8>,
    sent: usize,
    limits: Limits,
}

impl Connection {
    async fn greet(&mut self, link: &Link) -> io::Result<()> {
        self.output.extend_from_slice(request::GREETING);
        while self.sent < self.output.len() {
            self.stream.writable().await?;
            self.send()?;
        }
        loop {
            self.stream.readable().await?;
            self.receive()?;
            if let Some(answered) = self.take_answer(link)? {
                return answered.map(drop).map_err(io::Error::other);
            }
        }
    }

    /// Sends and receives until the connection fails; returns why it did.
    async fn serve(mut self, link: &Link) -> io::Error {
        let mut is_checking = false;
        let check = sleep(CHECK_INTERVAL);
        tokio::pin!(check);
        loop {
            if let Err(error) = self.load_and_send(link) {
                return error;
            }
            let has_unsent = self.sent < self.output.len();
            tokio::select! {
                biased;
                ready = self.stream.readable() => {
                    if let Err(error) = ready.and_then(|()| self.receive_all(link)) {
                        return error;
                    }
                }
                () = link.wake.notified() => {}
                ready = self.stream.writable(), if has_unsent => {
                    if let Err(error) = ready {
                        return error;
                    }
                }
                () = &mut check, if is_checking => link.check(self.limits.answer_timeout),
            }
            if check.is_elapsed() || !is_checking {
                is_checking = link.has_waiting();
                check.as_mut().reset(Instant::now() + CHECK_INTERVAL);
            }
        }
    }

    /// Takes what is to be sent and sends as much as the kernel takes.
    fn load_and_send(&mut self, link: &Link) -> io::Result<()> {
        loop {
            if self.sent >= self.output.len() {
                self.output.clear();
                self.output.shrink_to(OUTPUT_BYTES_KEPT);
                self.sent = 0;
                std::mem::swap(&mut self.output, &mut link.channel().output);
                if self.output.is_empty() {
                    return Ok(());
                }
            }
            if !self.send()? {
                return Ok(());
            }
        }
    }

    /// Returns whether all of it went.
    fn send(&mut self) -> io::Result<bool> {
        while let Some(rest) = self.output.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.try_write(rest) {
                Ok(count) => self.sent = self.sent.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn receive_all(&mut self, link: &Link) -> io::Result<()> {
        self.receive()?;
        let mut channel = None;
        while let Some(answered) = self.take_answer(link)? {
            let channel = channel.get_or_insert_with(|| link.channel());
            let Some(waiting) = channel.waiting.pop_front() else {
                return Err(nonsense());
            };
            if let Some(client) = waiting.client {
                // The client may have gone away meanwhile.
                drop(client.send(answered));
            }
        }
        drop(channel);
        link.see_whether_drained();
        Ok(())
    }

    /// Reads what is there; the end of the stream is an error.
    fn receive(&mut self) -> io::Result<()> {
        self.input.reserve(INPUT_BYTES / 4);
        match self.stream.try_read_buf(&mut self.input) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn take_answer(&mut self, link: &Link) -> io::Result<Option<Answered>> {
        if !self.input.has_remaining() {
            return Ok(None);
        }
        answer::take(&mut self.input, link).map_err(|answer::Nonsense| nonsense())
    }
}

fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the node does not answer as a memcached does")
}

impl Link {
    /// Counts the node as up. One that could be reached at the first attempt was there before, so
    /// it is settled; any other one may have lost what it had.
    fn set_up(&self, is_first: bool) {
        let mut channel = self.channel();
        channel.changed_at = (!is_first).then(Instant::now);
        self.is_up.store(true, Ordering::Relaxed);
        drop(channel);
        self.returned.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn has_waiting(&self) -> bool {
        !self.channel().waiting.is_empty()
    }

    /// Declares the node hung when the oldest request is overdue.
    fn check(&self, answer_timeout: Duration) {
        let mut channel = self.channel();
        let is_overdue =
            channel.waiting.front().is_some_and(|oldest| oldest.since.elapsed() >= answer_timeout);
        if is_overdue && self.is_up.swap(false, Ordering::Relaxed) {
            channel.changed_at = Some(Instant::now());
            tracing::warn!(node = %self.address, requests = channel.waiting.len(),
                "A session node does not answer; going on without it");
        }
        if is_overdue {
            for waiting in &mut channel.waiting {
                if let Some(client) = waiting.client.take() {
                    drop(client.send(Err(self.unreachable())));
                }
            }
        }
    }

    /// Takes a hung node back when it has answered all that it was asked.
    fn see_whether_drained(&self) {
        if self.is_up.load(Ordering::Relaxed) {
            return;
        }
        let is_drained = {
            let channel = self.channel();
            channel.waiting.is_empty() && channel.output.is_empty()
        };
        if is_drained {
            tracing::info!(node = %self.address, "A session node answers again");
            self.set_up(false);
        }
    }

    /// Tells all who wait that the node is unreachable, and forgets what was to be sent.
    fn give_up_all(&self) {
        let mut channel = self.channel();
        if self.is_up.swap(false, Ordering::Relaxed) {
            channel.changed_at = Some(Instant::now());
        }
        channel.output.clear();
        for waiting in channel.waiting.drain(..) {
            if let Some(client) = waiting.client {
                drop(client.send(Err(self.unreachable())));
            }
        }
    }
}
