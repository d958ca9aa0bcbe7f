//! How a memcached answers.

use bytes::{Buf, BytesMut};

use super::Link;
use crate::expiry::Lifetime;
use crate::store::{Answered, Item, Reply, StoreError};

/// The longest line of an answer; more is no memcached.
const LINE_BYTES_MAX: usize = 2048;
/// The largest value that is taken from a node.
const VALUE_BYTES_MAX: usize = 8 << 20;

/// What is not an answer of a memcached.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Nonsense;

/// Takes one answer from the front of what was received; `None` when it is not all there.
///
/// # Errors
/// What was received is no answer, so nothing that follows can be understood either.
pub(super) fn take(input: &mut BytesMut, link: &Link) -> Result<Option<Answered>, Nonsense> {
    let Some(end) = memchr_newline(input) else {
        return if input.len() > LINE_BYTES_MAX { Err(Nonsense) } else { Ok(None) };
    };
    let line = input.get(..end).unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let answered = match line {
        [b'V', b'A', b' ', rest @ ..] => {
            let head = Head::parse(rest).ok_or(Nonsense)?;
            return take_value(input, end.saturating_add(1), &head);
        }
        b"EN" => Ok(Reply::Missing),
        b"STORED" | b"DELETED" | b"NOT_FOUND" | b"OK" => Ok(Reply::Done),
        b"NOT_STORED" | b"EXISTS" => Ok(Reply::Refused),
        line if is_error(line) => Err(refusal(line, link)),
        _ => return Err(Nonsense),
    };
    input.advance(end.saturating_add(1));
    Ok(Some(answered))
}

/// What precedes a value.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    length: usize,
    token: u64,
    lifetime: Lifetime,
}

impl Head {
    /// Reads `<length> c<token> t<seconds left>`, the last two in any order.
    fn parse(words: &[u8]) -> Option<Self> {
        let mut words = words.split(|byte| *byte == b' ');
        let length = usize::try_from(number(words.next()?)?).ok()?;
        let mut head = Self { length, token: 0, lifetime: Lifetime::Forever };
        for word in words {
            match word {
                [b'c', digits @ ..] => head.token = number(digits)?,
                b"t-1" => head.lifetime = Lifetime::Forever,
                // Zero is an item in its last second.
                [b't', digits @ ..] => {
                    head.lifetime = Lifetime::from_seconds(number(digits)?.max(1))?;
                }
                _ => {}
            }
        }
        (length <= VALUE_BYTES_MAX).then_some(head)
    }
}

fn take_value(
    input: &mut BytesMut,
    start: usize,
    head: &Head,
) -> Result<Option<Answered>, Nonsense> {
    let end = start.saturating_add(head.length);
    let Some(terminator) = input.get(end..end.saturating_add(2)) else {
        input.reserve(end.saturating_add(2).saturating_sub(input.len()));
        return Ok(None);
    };
    if terminator != b"\r\n" {
        return Err(Nonsense);
    }
    input.advance(start);
    let bytes = input.split_to(head.length).freeze();
    input.advance(2);
    let item = Item { bytes, token: head.token, lifetime: head.lifetime };
    Ok(Some(Ok(Reply::Found(item))))
}

fn is_error(line: &[u8]) -> bool {
    line == b"ERROR" || line.starts_with(b"CLIENT_ERROR") || line.starts_with(b"SERVER_ERROR")
}

fn refusal(line: &[u8], link: &Link) -> StoreError {
    if line == b"ERROR" {
        link.refuses(b"it does not know a command; memcached 1.6 or newer is needed")
    } else {
        link.refuses(line)
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    crate::protocol::words::number(digits)
}

fn memchr_newline(input: &[u8]) -> Option<usize> {
    input.iter().position(|byte| *byte == b'\n')
}
