//! One JSON line per request, written by one thread; a full queue loses lines, never time.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, Uri};
use serde_json::json;

use crate::clock::WallTime;
use crate::routes::{Release, UpstreamState};

/// Lines that wait for the writer at most.
const QUEUE_MAX: usize = 8_192;
/// How long lines stay in the buffer when no more come.
const FLUSH_AFTER: Duration = Duration::from_millis(200);
/// Query parameters whose values let somebody in; they are not logged.
const SECRET_PARAMETERS: [&str; 9] =
    ["_wpnonce", "auth", "code", "key", "pass", "password", "pwd", "signature", "token"];

/// What is noted of one request.
#[derive(Debug)]
pub(crate) struct Entry {
    /// When it began.
    pub(crate) began: WallTime,
    /// Its id.
    pub(crate) request_id: HeaderValue,
    /// The visitor's address.
    pub(crate) client: IpAddr,
    /// The method.
    pub(crate) method: Method,
    /// The path with its query.
    pub(crate) uri: Uri,
    /// The answer; `None` when the visitor left before it.
    pub(crate) status: Option<StatusCode>,
    /// Bytes of the response body that were handed on.
    pub(crate) bytes: u64,
    /// How long it took.
    pub(crate) took: Duration,
    /// Who answered.
    pub(crate) upstream: Option<Arc<UpstreamState>>,
    /// The release that answered.
    pub(crate) release: Option<Arc<Release>>,
    /// Attempts after the first.
    pub(crate) retries: u32,
    /// How long a hold stopped it.
    pub(crate) held: Duration,
}

/// The hot end of the log; without a file it takes entries and forgets them.
#[derive(Debug, Default)]
pub(crate) struct AccessLog {
    sender: Option<SyncSender<Entry>>,
    dropped: AtomicU64,
    reopen: Arc<AtomicBool>,
    is_closing: Arc<AtomicBool>,
}

impl AccessLog {
    /// Opens the file and starts its writer, which ends when the log is dropped or closed.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, JoinHandle<()>)> {
        let file = open_file(path)?;
        let (sender, receiver) = sync_channel(QUEUE_MAX);
        let log = Self { sender: Some(sender), ..Self::default() };
        let writer = Writer {
            path: path.to_owned(),
            file: BufWriter::new(file),
            reopen: Arc::clone(&log.reopen),
            is_closing: Arc::clone(&log.is_closing),
            is_failing: false,
        };
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer.run(&receiver))?;
        Ok((log, thread))
    }

    /// Returns whether entries are wanted at all.
    pub(crate) const fn is_on(&self) -> bool {
        self.sender.is_some()
    }

    /// Notes a request, or counts that it could not.
    pub(crate) fn note(&self, entry: Entry) {
        if let Some(sender) = &self.sender
            && sender.try_send(entry).is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns how many lines were lost.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Has the writer end when it has written what was noted.
    pub(crate) fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

    /// Has the file opened again by its name, after it was rotated.
    pub(crate) fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }
}

struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    reopen: Arc<AtomicBool>,
    is_closing: Arc<AtomicBool>,
    is_failing: bool,
}

impl Writer {
    fn run(mut self, entries: &Receiver<Entry>) {
        loop {
            let next = entries.recv_timeout(FLUSH_AFTER);
            if self.reopen.swap(false, Ordering::Relaxed) {
                let outcome = self.reopen_file();
                self.report(outcome);
            }
            let outcome = match next {
                Ok(entry) => writeln!(self.file, "{}", line(&entry)),
                Err(RecvTimeoutError::Timeout) if self.is_closing.load(Ordering::Relaxed) => break,
                Err(RecvTimeoutError::Timeout) => self.file.flush(),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            self.report(outcome);
        }
        let outcome = self.file.flush();
        self.report(outcome);
    }

    fn reopen_file(&mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file = BufWriter::new(open_file(&self.path)?);
        Ok(())
    }

    /// Logs the first failure of a row, because a full disk would fail on every line.
    fn report(&mut self, outcome: io::Result<()>) {
        match outcome {
            Ok(()) => self.is_failing = false,
            Err(error) if !self.is_failing => {
                self.is_failing = true;
                let path = self.path.display();
                tracing::error!(%error, %path, "The access log cannot be written");
            }
            Err(_) => {}
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn line(entry: &Entry) -> serde_json::Value {
    let millis = |duration: Duration| (duration.as_secs_f64() * 1_000_000.0).round() / 1000.0;
    let upstream = entry.upstream.as_deref();
    json!({
        "time": entry.began.to_string(),
        "request_id": entry.request_id.to_str().unwrap_or_default(),
        "client": entry.client.to_string(),
        "method": entry.method.as_str(),
        "path": without_secrets(&entry.uri),
        "status": entry.status.map_or(499, |status| status.as_u16()),
        "bytes": entry.bytes,
        "duration_ms": millis(entry.took),
        "instance": upstream.map(|one| one.instance.as_str()),
        "slot": upstream.filter(|one| !one.is_workshop()).map(|one| one.slot.as_str()),
        "revision": entry.release.as_deref().map(|one| one.revision.as_str()),
        "retries": entry.retries,
        "held_ms": millis(entry.held),
    })
}

fn without_secrets(uri: &Uri) -> String {
    let Some(query) = uri.query() else { return uri.path().to_owned() };
    let mut text = format!("{}?", uri.path());
    for (index, pair) in query.split('&').enumerate() {
        if index > 0 {
            text.push('&');
        }
        match pair.split_once('=') {
            Some((name, _)) if SECRET_PARAMETERS.contains(&name) => {
                text.push_str(name);
                text.push_str("=…");
            }
            _ => text.push_str(pair),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_the_query_are_not_logged() {
        let uri: Uri = "/checkout/order-received/7/?key=wc_order_x&a=1".parse().unwrap();
        assert_eq!(without_secrets(&uri), "/checkout/order-received/7/?key=…&a=1");
        let uri: Uri = "/plain".parse().unwrap();
        assert_eq!(without_secrets(&uri), "/plain");
    }
}
