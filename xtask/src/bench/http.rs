//! A visitor: one connection, one request at a time, and when what was answered.
//!
//! Small on purpose: it shall cost little beside what it measures, and show every header.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use flotilla_core::table::REVISION_HEADER;

use super::clock::Moment;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
const HEAD_LINES_MAX: usize = 200;
const BODY_BYTES_MAX: u64 = 16 << 20;

/// A visitor of one address.
pub(crate) struct Visitor {
    address: SocketAddr,
    host: String,
    encoding: &'static str,
    stream: Option<BufReader<TcpStream>>,
}

/// What a request was answered with.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The release that made the page.
    pub(crate) revision: Option<String>,
    pub(crate) body: Vec<u8>,
    pub(crate) asked_at: Moment,
    pub(crate) answered_at: Moment,
    is_last: bool,
}

impl Answer {
    pub(crate) fn took(&self) -> Duration {
        self.answered_at.since(self.asked_at)
    }
}

impl Visitor {
    /// A visitor with a browser, which takes compressed pages.
    pub(crate) fn new(address: SocketAddr, host: impl Into<String>) -> Self {
        Self { address, host: host.into(), encoding: "gzip", stream: None }
    }

    /// A visitor that reads what it gets.
    pub(crate) fn reading(address: SocketAddr, host: impl Into<String>) -> Self {
        Self { encoding: "identity", ..Self::new(address, host) }
    }

    /// Asks for a page and reads all of it.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<Answer> {
        let was_kept = self.stream.is_some();
        match self.try_get(path) {
            // The server gave up the idle connection at the moment it was used.
            Err(_) if was_kept => self.try_get(path),
            outcome => outcome,
        }
    }

    fn try_get(&mut self, path: &str) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAccept-Encoding: {}\r\nUser-Agent: bench\r\n\r\n",
            self.host, self.encoding
        );
        let asked_at = Moment::now();
        stream.get_mut().write_all(head.as_bytes())?;
        let answer = read_answer(&mut stream, asked_at)?;
        if !answer.is_last {
            self.stream = Some(stream);
        }
        Ok(answer)
    }

    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect_timeout(&self.address, CONNECT_LIMIT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        Ok(BufReader::new(stream))
    }
}

fn read_answer(stream: &mut impl BufRead, asked_at: Moment) -> io::Result<Answer> {
    let status_line = read_line(stream)?;
    let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| odd(format!("the status line is `{status_line}`")))?;
    let (mut length, mut is_chunked, mut is_last, mut revision) = (None, false, false, None);
    for _ in 0..HEAD_LINES_MAX {
        let line = read_line(stream)?;
        if line.is_empty() {
            let body = read_body(stream, length, is_chunked)?;
            is_last |= length.is_none() && !is_chunked;
            let answered_at = Moment::now();
            return Ok(Answer { status, revision, body, asked_at, answered_at, is_last });
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok(),
            "transfer-encoding" => is_chunked = value.eq_ignore_ascii_case("chunked"),
            "connection" => is_last = value.eq_ignore_ascii_case("close"),
            REVISION_HEADER => revision = Some(value.to_owned()),
            _ => {}
        }
    }
    Err(odd("the head has too many lines".to_owned()))
}

fn read_body(
    stream: &mut impl BufRead,
    length: Option<u64>,
    is_chunked: bool,
) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if !is_chunked {
        let limit = length.unwrap_or(BODY_BYTES_MAX).min(BODY_BYTES_MAX);
        let taken = stream.take(limit).read_to_end(&mut body)?;
        let is_short = length.is_some_and(|length| length != taken as u64);
        return if is_short { Err(odd("the body is cut off".to_owned())) } else { Ok(body) };
    }
    loop {
        let line = read_line(stream)?;
        let size = line.split(';').next().and_then(|size| u64::from_str_radix(size, 16).ok());
        let size = size.ok_or_else(|| odd(format!("a chunk begins with `{line}`")))?;
        if body.len() as u64 + size > BODY_BYTES_MAX {
            return Err(odd("the body is too long".to_owned()));
        }
        if stream.take(size).read_to_end(&mut body)? as u64 != size {
            return Err(odd("a chunk is cut off".to_owned()));
        }
        read_line(stream)?;
        if size == 0 {
            return Ok(body);
        }
    }
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    stream.take(64 << 10).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(odd("the answer is cut off".to_owned()));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|error| odd(error.to_string()))
}

fn odd(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> io::Result<Answer> {
        read_answer(&mut text.as_bytes(), Moment::now())
    }

    #[test]
    fn bodies_with_a_length_and_in_chunks_are_read_whole() {
        let answer = read("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd").unwrap();
        assert_eq!(
            (answer.status, answer.body.as_slice(), answer.is_last),
            (200, &b"abc"[..], false)
        );
        let text = "HTTP/1.1 404 No\r\nX-Flotilla-Revision: 1f\r\nTransfer-Encoding: chunked\r\n\r\n\
            2\r\nab\r\n1;x\r\nc\r\n0\r\n\r\n";
        let answer = read(text).unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (404, &b"abc"[..]));
        assert_eq!(answer.revision.as_deref(), Some("1f"));
    }

    #[test]
    fn an_answer_that_is_cut_off_is_an_error() {
        assert!(read("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab").is_err());
        assert!(read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nab").is_err());
        assert!(read("HTTP/1.1 200 OK\r\n").is_err());
    }
}
