//! A visitor that sends exactly the bytes it is told.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(10);

/// The visitor's connection.
pub(crate) struct RawClient {
    stream: TcpStream,
    read: Vec<u8>,
}

impl RawClient {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), read: Vec::new() }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads up to and with the text; returns what was read.
    pub(crate) async fn read_to(&mut self, end: &str) -> String {
        loop {
            let place = self.read.windows(end.len()).position(|part| part == end.as_bytes());
            if let Some(place) = place {
                let rest = self.read.split_off(place + end.len());
                return String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap();
            }
            assert!(self.read_some().await > 0, "closed: {:?}", self.read_text());
        }
    }

    /// Reads the head of a response.
    pub(crate) async fn head(&mut self) -> String {
        self.read_to("\r\n\r\n").await.to_ascii_lowercase()
    }

    /// Reads until the other side closes; returns all of it.
    pub(crate) async fn rest(&mut self) -> String {
        while self.read_some().await > 0 {}
        self.read_text()
    }

    /// Sends a byte now and then until there is an answer; returns its beginning.
    pub(crate) async fn trickle(&mut self) -> String {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                count = self.stream.read_buf(&mut self.read) => {
                    count.unwrap();
                    return self.read_text();
                }
                // Refused after the answer, which is then there to be read.
                _ = pace.tick() => drop(self.stream.write_all(b"x").await),
            }
        }
    }

    /// Reads a little now and then for as long as it is polled, also after the end.
    pub(crate) async fn sip(&mut self) {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        let mut drop_of_it = [0; 1024];
        for _ in 0..100_000 {
            pace.tick().await;
            drop(self.stream.read(&mut drop_of_it).await);
        }
    }

    async fn read_some(&mut self) -> usize {
        let read = timeout(LIMIT, self.stream.read_buf(&mut self.read)).await;
        // A reset ends a response as well as a close.
        read.expect("an answer in time").unwrap_or(0)
    }

    fn read_text(&self) -> String {
        String::from_utf8_lossy(&self.read).into_owned()
    }
}
