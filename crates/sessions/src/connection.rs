//! A client's connection: reads commands, has them carried out in order, answers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::clock::now_seconds;
use crate::execute::Executor;
use crate::expiry::Lifetime;
use crate::gateway::Gateway;
use crate::locks::{ClientId, Outcome};
use crate::protocol::command::{self, Command, Keys, Parsed, Refusal, Storing, Verb};
use crate::protocol::reply;
use crate::stats;

/// How much is read at once.
const READ_BYTES: usize = 16 << 10;
/// Buffers larger than this are given back when they are empty.
const BUFFER_BYTES_KEPT: usize = 64 << 10;
/// Answers are sent when so much of them has come together, and when the client waits.
const OUTPUT_BYTES_MAX: usize = 256 << 10;
/// How long a client may take to take an answer, or to send the rest of a command.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long, and how much, is read from a client that is parted from.
const PARTING_TIMEOUT: Duration = Duration::from_millis(500);
const PARTING_BYTES_MAX: usize = 1 << 20;
/// How much a client may send while it waits for a lock.
const INPUT_AHEAD_MAX: usize = 64 << 10;
/// How many locks a client may have at a time.
const LOCKS_MAX: usize = 64;

/// A connection to a client over any stream.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    gateway: Arc<Gateway>,
    stream: S,
    client: ClientId,
    input: Vec<u8>,
    /// How much of the input has been dealt with.
    start: usize,
    /// How many bytes that have not come yet are to be left out.
    skip: u64,
    output: Vec<u8>,
    /// Keys of locks that this client has taken.
    locks: Vec<Bytes>,
}

/// Whether to go on with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Continue,
    End,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    /// Takes over a stream.
    pub(crate) fn new(gateway: Arc<Gateway>, stream: S) -> Self {
        Self {
            client: gateway.next_client(),
            gateway,
            stream,
            input: Vec::new(),
            start: 0,
            skip: 0,
            output: Vec::new(),
            locks: Vec::new(),
        }
    }

    /// Serves the client until it ends the connection, or the gateway stops.
    pub(crate) async fn serve(mut self) {
        let stop = self.gateway.stop.clone();
        // In a box, because tasks are moved about before they run.
        let served = Box::pin(stop.run_until_cancelled(self.serve_commands())).await;
        for lock in std::mem::take(&mut self.locks) {
            self.gateway.locks.release_left(self.client, &lock).await;
        }
        match served {
            Some(Err(error)) => tracing::debug!(%error, "A client's connection failed"),
            Some(Ok(Flow::End)) => self.part().await,
            Some(Ok(Flow::Continue)) | None => {}
        }
    }

    /// Serves until the client ends the connection, or is to be parted from.
    async fn serve_commands(&mut self) -> io::Result<Flow> {
        loop {
            while let Some(flow) = self.execute_next().await? {
                if flow == Flow::End {
                    self.flush().await?;
                    return Ok(Flow::End);
                }
                if self.output.len() >= OUTPUT_BYTES_MAX {
                    self.flush().await?;
                }
            }
            self.flush().await?;
            if !self.read_more().await? {
                return Ok(Flow::Continue);
            }
        }
    }

    /// Ends the connection so that the last answer arrives: closing it while something is unread
    /// would have the kernel throw the answer away.
    async fn part(&mut self) {
        let part = async {
            self.stream.shutdown().await?;
            let mut left = PARTING_BYTES_MAX;
            while left > 0 {
                self.input.clear();
                self.input.reserve(READ_BYTES);
                match self.stream.read_buf(&mut self.input).await? {
                    0 => break,
                    count => left = left.saturating_sub(count),
                }
            }
            io::Result::Ok(())
        };
        // A client that does not want to part is left.
        drop(timeout(PARTING_TIMEOUT, part).await);
    }

    /// Reads what comes; returns whether anything did.
    async fn read_more(&mut self) -> io::Result<bool> {
        self.input.drain(..self.start.min(self.input.len()));
        self.start = 0;
        if self.input.is_empty() {
            self.input.shrink_to(BUFFER_BYTES_KEPT);
        }
        self.input.reserve(READ_BYTES);
        // Between commands a client may be idle for as long as it likes.
        let is_amid_command = !self.input.is_empty() || self.skip > 0;
        let read = self.stream.read_buf(&mut self.input);
        let count =
            if is_amid_command { timeout(CLIENT_TIMEOUT, read).await?? } else { read.await? };
        Ok(count > 0)
    }

    async fn flush(&mut self) -> io::Result<()> {
        if !self.output.is_empty() {
            timeout(CLIENT_TIMEOUT, self.stream.write_all(&self.output)).await??;
            self.output.clear();
            self.output.shrink_to(BUFFER_BYTES_KEPT);
        }
        Ok(())
    }

    /// Carries out the next command; `None` when there is no whole one.
    async fn execute_next(&mut self) -> io::Result<Option<Flow>> {
        if !self.leave_out() {
            return Ok(None);
        }
        let rest = self.input.get(self.start..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let (command, taken) = match command::parse(rest) {
            Parsed::Incomplete => return Ok(None),
            Parsed::Bad(refusal) => return Ok(Some(self.refuse(refusal))),
            Parsed::Whole(command, taken) => (command, taken),
        };
        if let Some(locking) = Locking::of(&command, &self.gateway) {
            self.start = self.start.saturating_add(taken);
            return self.execute_lock(locking).await.map(Some);
        }
        let executor = Executor { copies: &self.gateway.copies, counters: &self.gateway.counters };
        let before = self.output.len();
        let is_silent = is_silent(&command);
        let may_write = written_key(&command).is_none_or(|key| {
            self.locks.is_empty() || self.gateway.locks.may_write(self.client, &self.locks, key)
        });
        if !may_write {
            reply::put_server_error(&mut self.output, &"the lock of this session was lost");
        } else if let Command::Quit = command {
            return Ok(Some(Flow::End));
        } else if let Command::Stats(about) = command {
            stats::put(&self.gateway, about, &mut self.output);
        } else {
            execute(executor, command, &mut self.output).await;
        }
        if is_silent {
            self.output.truncate(before);
        }
        self.start = self.start.saturating_add(taken);
        Ok(Some(Flow::Continue))
    }

    /// Leaves out what is to be skipped; returns whether all of it has come.
    fn leave_out(&mut self) -> bool {
        let here = self.input.len().saturating_sub(self.start);
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(here);
        self.start = self.start.saturating_add(skipped);
        self.skip = self.skip.saturating_sub(skipped as u64);
        self.skip == 0
    }

    fn refuse(&mut self, refusal: Refusal) -> Flow {
        self.gateway.counters.count(|counts| &counts.bad_commands);
        self.output.extend_from_slice(refusal.reply);
        let Some(skip) = refusal.skip else { return Flow::End };
        self.skip = skip;
        Flow::Continue
    }

    async fn execute_lock(&mut self, locking: Locking) -> io::Result<Flow> {
        let Locking { key, action, noreply } = locking;
        let said = match action {
            LockAction::Take(exptime) => match self.take_lock(&key, exptime).await? {
                Some(said) => said,
                None => return Ok(Flow::End),
            },
            LockAction::Free => {
                self.locks.retain(|lock| *lock != key);
                let was_held = self.gateway.locks.release(self.client, &key).await;
                (if was_held { reply::DELETED } else { reply::NOT_FOUND }).to_vec()
            }
            LockAction::Look => {
                let mut said = Vec::new();
                if self.gateway.locks.is_taken(&key).await {
                    reply::put_value(&mut said, &key, 0, b"1", None);
                }
                said.extend_from_slice(reply::END);
                said
            }
            LockAction::Other => LOCK_USE.to_vec(),
        };
        if !noreply {
            self.output.extend_from_slice(&said);
        }
        Ok(Flow::Continue)
    }

    /// Waits for a lock; `None` when the client went away meanwhile.
    async fn take_lock(&mut self, key: &Bytes, exptime: i64) -> io::Result<Option<Vec<u8>>> {
        if self.locks.len() >= LOCKS_MAX {
            return Ok(Some(TOO_MANY_LOCKS.to_vec()));
        }
        // What is before the lock must not wait with it.
        self.flush().await?;
        let hold = Lifetime::from_exptime(exptime, now_seconds()).unwrap_or(Lifetime::Seconds(1));
        let gateway = Arc::clone(&self.gateway);
        let outcome = tokio::select! {
            biased;
            outcome = gateway.locks.acquire(self.client, key, hold) => outcome,
            gone = wait_gone(&mut self.stream, &mut self.input) => {
                gone?;
                return Ok(None);
            }
        };
        let mut said = Vec::new();
        match outcome {
            Outcome::Granted => {
                self.locks.retain(|lock| lock != key);
                self.locks.push(key.clone());
                said.extend_from_slice(reply::STORED);
            }
            Outcome::NotGranted => said.extend_from_slice(reply::NOT_STORED),
            Outcome::Failed(error) => reply::put_server_error(&mut said, &error),
        }
        Ok(Some(said))
    }
}

/// Ends when a client ends its connection; reads ahead meanwhile, within bounds.
async fn wait_gone(stream: &mut (impl AsyncRead + Unpin), input: &mut Vec<u8>) -> io::Result<()> {
    let end = input.len().saturating_add(INPUT_AHEAD_MAX);
    while input.len() < end {
        input.reserve(READ_BYTES);
        if stream.read_buf(input).await? == 0 {
            return Ok(());
        }
    }
    std::future::pending().await
}

async fn execute(executor: Executor<'_>, command: Command<'_>, output: &mut Vec<u8>) {
    match command {
        Command::Get { keys, with_version, exptime: None } => {
            executor.get(keys, with_version, output).await;
        }
        Command::Get { keys, with_version, exptime: Some(exptime) } => {
            executor.get_and_touch(keys, exptime, with_version, output).await;
        }
        Command::Store(storing) => executor.store(storing, output).await,
        Command::Delete { key, .. } => executor.delete(key, output).await,
        Command::Count { key, delta, is_down, .. } => {
            executor.count(key, delta, is_down, output).await;
        }
        Command::Touch { key, exptime, .. } => executor.touch(key, exptime, output).await,
        Command::Flush { delay_seconds, .. } => executor.flush(delay_seconds, output).await,
        Command::Version => output.extend_from_slice(reply::VERSION),
        Command::Verbosity { .. } => output.extend_from_slice(reply::OK),
        Command::Stats(_) | Command::Quit => {}
    }
}

fn is_silent(command: &Command<'_>) -> bool {
    match command {
        Command::Store(storing) => storing.noreply,
        Command::Delete { noreply, .. }
        | Command::Count { noreply, .. }
        | Command::Touch { noreply, .. }
        | Command::Flush { noreply, .. }
        | Command::Verbosity { noreply } => *noreply,
        Command::Get { .. } | Command::Stats(_) | Command::Version | Command::Quit => false,
    }
}

/// Returns the key of the item that a command changes.
const fn written_key<'a>(command: &Command<'a>) -> Option<&'a [u8]> {
    match command {
        Command::Store(Storing { key, .. })
        | Command::Delete { key, .. }
        | Command::Count { key, .. } => Some(key),
        _ => None,
    }
}

const LOCK_USE: &[u8] = b"CLIENT_ERROR a lock can only be added, got and deleted\r\n";
const TOO_MANY_LOCKS: &[u8] = b"SERVER_ERROR this client has too many locks\r\n";

/// A command about a lock, with a key of its own: the input may be read on while it waits.
#[derive(Debug)]
struct Locking {
    key: Bytes,
    action: LockAction,
    noreply: bool,
}

#[derive(Debug, Clone, Copy)]
enum LockAction {
    Take(i64),
    Free,
    Look,
    Other,
}

impl Locking {
    /// Returns what a command is about when it is about a lock.
    fn of(command: &Command<'_>, gateway: &Gateway) -> Option<Self> {
        let (key, action) = match command {
            Command::Store(Storing { key, verb: Verb::Add, exptime, .. }) => {
                (*key, LockAction::Take(*exptime))
            }
            Command::Delete { key, .. } => (*key, LockAction::Free),
            Command::Get { keys, exptime, .. } => {
                // Locks that are asked for among other keys are not found.
                let key = Keys::next(&mut keys.clone())?;
                (key, if exptime.is_none() { LockAction::Look } else { LockAction::Other })
            }
            Command::Store(Storing { key, .. })
            | Command::Count { key, .. }
            | Command::Touch { key, .. } => (*key, LockAction::Other),
            _ => return None,
        };
        gateway.locks.is_lock(key).then(|| Self {
            key: Bytes::copy_from_slice(key),
            action,
            noreply: is_silent(command),
        })
    }
}
