//! A client that says what it is told to, and reads answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a test waits for an answer: longer than any lock.
const PATIENCE: Duration = Duration::from_secs(45);

/// How often php-memcached asks again for a lock.
const LOCK_RETRIES: usize = 5;

#[derive(Debug)]
pub(crate) struct Client(BufReader<UnixStream>);

impl Client {
    pub(crate) fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// Reads a line without its end; empty when the connection was ended.
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line).unwrap();
        String::from_utf8(line).unwrap().trim_end_matches("\r\n").to_owned()
    }

    /// Says one line and returns the line that comes back.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n"));
        self.line()
    }

    /// Stores a value for ever.
    pub(crate) fn set(&mut self, key: &str, value: &str) -> String {
        self.ask(&format!("set {key} 0 0 {}\r\n{value}", value.len()))
    }

    /// Gets a value; an answer that is an error fails the test.
    pub(crate) fn get(&mut self, key: &str) -> Option<String> {
        let head = self.ask(&format!("get {key}"));
        if head == "END" {
            return None;
        }
        let length =
            head.strip_prefix(&format!("VALUE {key} ")).unwrap_or_else(|| panic!("{head}"));
        let length: usize = length.split(' ').nth(1).unwrap().parse().unwrap();
        let mut value = vec![0; length + 2];
        self.0.read_exact(&mut value).unwrap();
        assert_eq!(self.line(), "END");
        value.truncate(length);
        Some(String::from_utf8(value).unwrap())
    }

    /// Asks once for the lock of a session, for `seconds`.
    pub(crate) fn lock(&mut self, session: &str, seconds: u32) -> String {
        self.ask(&format!("add memc.sess.key.lock.{session} 0 {seconds} 1\r\n1"))
    }

    /// Asks for the lock of a session until it is granted, as PHP does.
    pub(crate) fn lock_at_last(&mut self, session: &str) -> String {
        let mut said = self.lock(session, 30);
        for _ in 0..LOCK_RETRIES {
            if said == "NOT_STORED" {
                said = self.lock(session, 30);
            }
        }
        said
    }

    pub(crate) fn unlock(&mut self, session: &str) -> String {
        self.ask(&format!("delete memc.sess.key.lock.{session}"))
    }

    /// Reads all that comes until the connection is ended.
    pub(crate) fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// Reads what `stats` says of one thing.
    pub(crate) fn stat(&mut self, name: &str) -> String {
        self.send("stats\r\n");
        let mut found = String::new();
        loop {
            let line = self.line();
            if line == "END" {
                return found;
            }
            let line = line.strip_prefix("STAT ").unwrap();
            let (known, value) = line.split_once(' ').unwrap();
            if known == name {
                found = value.to_owned();
            }
        }
    }
}
