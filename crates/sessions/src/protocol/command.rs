//! Reads one command from the front of what a client has sent.
//!
//! Nothing is copied: the command borrows from the input. What is not a command is told apart by
//! what has to happen to the connection, so that client and gateway never disagree about where the
//! next command begins.

use super::words::{Words, is_key, number, signed_number};

/// The longest command line: some hundred keys in one `get`.
pub(crate) const LINE_BYTES_MAX: usize = 64 << 10;
/// The largest value: memcached's item without what is kept beside it.
pub(crate) const VALUE_BYTES_MAX: usize = 1 << 20;
/// A value that is said to be longer than this ends the connection rather than being skipped.
const SKIPPED_BYTES_MAX: u64 = 64 << 20;

const BAD_FORMAT: &[u8] = b"CLIENT_ERROR bad command line format\r\n";
const BAD_DELETE: &[u8] =
    b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n";
const BAD_CHUNK: &[u8] = b"CLIENT_ERROR bad data chunk\r\n";
const BAD_DELTA: &[u8] = b"CLIENT_ERROR invalid numeric delta argument\r\n";
const BAD_EXPTIME: &[u8] = b"CLIENT_ERROR invalid exptime argument\r\n";
const TOO_LARGE: &[u8] = b"SERVER_ERROR object too large for cache\r\n";
const LINE_TOO_LONG: &[u8] = b"CLIENT_ERROR line too long\r\n";
const BINARY: &[u8] =
    b"CLIENT_ERROR the binary protocol is not spoken here: set memcached.sess_binary_protocol=0\r\n";
const UNKNOWN: &[u8] = super::reply::ERROR;

/// The first byte of a request in memcached's binary protocol.
const BINARY_MAGIC: u8 = 0x80;

/// What a client asks for.
#[derive(Debug, Clone)]
pub(crate) enum Command<'a> {
    /// `get`, `gets`, and with a time `gat`, `gats`.
    Get {
        /// The keys, one at least.
        keys: Keys<'a>,
        /// Whether to tell the version.
        with_version: bool,
        /// How long the items shall live from now, in memcached's numbers.
        exptime: Option<i64>,
    },
    /// `set` and its like.
    Store(Storing<'a>),
    /// `delete`.
    Delete {
        /// Which item.
        key: &'a [u8],
        /// Whether the client wants no answer.
        noreply: bool,
    },
    /// `incr`, `decr`.
    Count {
        /// Which item.
        key: &'a [u8],
        /// By how much.
        delta: u64,
        /// Whether downwards.
        is_down: bool,
        /// Whether the client wants no answer.
        noreply: bool,
    },
    /// `touch`.
    Touch {
        /// Which item.
        key: &'a [u8],
        /// How long it shall live, in memcached's numbers.
        exptime: i64,
        /// Whether the client wants no answer.
        noreply: bool,
    },
    /// `flush_all`.
    Flush {
        /// After how many seconds.
        delay_seconds: u32,
        /// Whether the client wants no answer.
        noreply: bool,
    },
    /// `stats`, with what it is about.
    Stats(Option<&'a [u8]>),
    /// `version`.
    Version,
    /// `verbosity`, which changes nothing.
    Verbosity {
        /// Whether the client wants no answer.
        noreply: bool,
    },
    /// `quit`.
    Quit,
}

/// A command that stores a value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Storing<'a> {
    /// On which condition, and where.
    pub(crate) verb: Verb,
    /// Which item.
    pub(crate) key: &'a [u8],
    /// The client's flags.
    pub(crate) flags: u32,
    /// How long it shall live, in memcached's numbers.
    pub(crate) exptime: i64,
    /// The value.
    pub(crate) data: &'a [u8],
    /// Whether the client wants no answer.
    pub(crate) noreply: bool,
}

/// How a value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Whatever is there.
    Set,
    /// When there is none.
    Add,
    /// When there is one.
    Replace,
    /// After the present value.
    Append,
    /// Before the present value.
    Prepend,
    /// When the present value has this version.
    Cas(u64),
}

/// The keys of a `get`.
#[derive(Debug, Clone)]
pub(crate) struct Keys<'a>(Words<'a>);

impl<'a> Iterator for Keys<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.0.next()
    }
}

/// What was found at the front of the input.
#[derive(Debug)]
pub(crate) enum Parsed<'a> {
    /// Not a whole command yet.
    Incomplete,
    /// A command and how many bytes it took.
    Whole(Command<'a>, usize),
    /// No command.
    Bad(Refusal),
}

/// What to do about something that is no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What to say.
    pub(crate) reply: &'static [u8],
    /// How many bytes to leave out, of which some may not have come yet; `None` when it is unknown
    /// where the next command begins, so that the connection has to end.
    pub(crate) skip: Option<u64>,
}

/// Reads one command.
pub(crate) fn parse(input: &[u8]) -> Parsed<'_> {
    if input.first() == Some(&BINARY_MAGIC) {
        return Parsed::Bad(Refusal { reply: BINARY, skip: None });
    }
    let Some(end) = input.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') else {
        return if input.len() >= LINE_BYTES_MAX {
            Parsed::Bad(Refusal { reply: LINE_TOO_LONG, skip: None })
        } else {
            Parsed::Incomplete
        };
    };
    let (line, rest) = input.split_at_checked(end).unwrap_or((input, &[]));
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line_bytes = end.saturating_add(1);
    let mut words = Words::of(line);
    let name = words.next().unwrap_or_default();
    if let Some(verb) = Stores::named(name) {
        return parse_store(verb, words, rest.get(1..).unwrap_or_default(), line_bytes);
    }
    match parse_line(name, words) {
        Ok(command) => Parsed::Whole(command, line_bytes),
        Err(reply) => Parsed::Bad(Refusal { reply, skip: Some(line_bytes as u64) }),
    }
}

/// Commands that are followed by a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stores {
    Plain(Verb),
    Cas,
    /// memcached's `ms`, which we do not know, but whose value must be left out.
    Meta,
}

impl Stores {
    fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"set" => Self::Plain(Verb::Set),
            b"add" => Self::Plain(Verb::Add),
            b"replace" => Self::Plain(Verb::Replace),
            b"append" => Self::Plain(Verb::Append),
            b"prepend" => Self::Plain(Verb::Prepend),
            b"cas" => Self::Cas,
            b"ms" => Self::Meta,
            _ => return None,
        })
    }
}

fn parse_line<'a>(name: &[u8], mut words: Words<'a>) -> Result<Command<'a>, &'static [u8]> {
    match name {
        b"get" | b"gets" => get(words, name == b"gets", None),
        b"gat" | b"gats" => {
            let exptime = words.next().ok_or(UNKNOWN)?;
            let exptime = signed_number(exptime).ok_or(BAD_EXPTIME)?;
            get(words, name == b"gats", Some(exptime))
        }
        b"delete" => {
            let key = key(&mut words)?;
            // An old form has a time here, of which only zero is allowed.
            let words = if words.clone().next() == Some(b"0") { skip_one(words) } else { words };
            Ok(Command::Delete { key, noreply: noreply(words).ok_or(BAD_DELETE)? })
        }
        b"incr" | b"decr" => {
            let key = key(&mut words)?;
            let delta = number(words.next().ok_or(UNKNOWN)?).ok_or(BAD_DELTA)?;
            let noreply = noreply(words).ok_or(BAD_FORMAT)?;
            Ok(Command::Count { key, delta, is_down: name == b"decr", noreply })
        }
        b"touch" => {
            let key = key(&mut words)?;
            let exptime = signed_number(words.next().ok_or(UNKNOWN)?).ok_or(BAD_EXPTIME)?;
            Ok(Command::Touch { key, exptime, noreply: noreply(words).ok_or(BAD_FORMAT)? })
        }
        b"flush_all" => flush(words),
        b"stats" if words.clone().next() == Some(b"noreply") => Err(BAD_FORMAT),
        b"stats" => Ok(Command::Stats(words.next())),
        b"version" => Ok(Command::Version),
        b"verbosity" => verbosity(words),
        b"quit" => Ok(Command::Quit),
        _ => Err(UNKNOWN),
    }
}

fn get(
    words: Words<'_>,
    with_version: bool,
    exptime: Option<i64>,
) -> Result<Command<'_>, &'static [u8]> {
    if words.clone().next().is_none() {
        return Err(UNKNOWN);
    }
    if !words.clone().all(is_key) {
        return Err(BAD_FORMAT);
    }
    Ok(Command::Get { keys: Keys(words), with_version, exptime })
}

fn flush(words: Words<'_>) -> Result<Command<'_>, &'static [u8]> {
    let delay = words.clone().next().filter(|word| *word != b"noreply");
    let delay_seconds = match delay {
        None => 0,
        // memcached takes a negative delay for none.
        Some(word) => match signed_number(word).ok_or(BAD_FORMAT)? {
            seconds if seconds < 0 => 0,
            seconds => u32::try_from(seconds).unwrap_or(u32::MAX),
        },
    };
    let words = if delay.is_some() { skip_one(words) } else { words };
    Ok(Command::Flush { delay_seconds, noreply: noreply(words).ok_or(BAD_FORMAT)? })
}

fn verbosity(words: Words<'_>) -> Result<Command<'_>, &'static [u8]> {
    let level = words.clone().next().ok_or(UNKNOWN)?;
    if level == b"noreply" {
        return Ok(Command::Verbosity { noreply: true });
    }
    number(level).ok_or(BAD_FORMAT)?;
    Ok(Command::Verbosity { noreply: noreply(skip_one(words)).ok_or(BAD_FORMAT)? })
}

fn key<'a>(words: &mut Words<'a>) -> Result<&'a [u8], &'static [u8]> {
    let key = words.next().ok_or(UNKNOWN)?;
    if is_key(key) { Ok(key) } else { Err(BAD_FORMAT) }
}

fn skip_one(mut words: Words<'_>) -> Words<'_> {
    words.next();
    words
}

/// Reads the end of a line; `None` when there is something else than `noreply`.
fn noreply(mut words: Words<'_>) -> Option<bool> {
    match (words.next(), words.next()) {
        (None, _) => Some(false),
        (Some(b"noreply"), None) => Some(true),
        _ => None,
    }
}

/// Reads `<key> <flags> <exptime> <bytes> [<version>] [noreply]` and the value after the line.
fn parse_store<'a>(
    stores: Stores,
    words: Words<'a>,
    after: &'a [u8],
    line_bytes: usize,
) -> Parsed<'a> {
    let skip_line = |reply| Parsed::Bad(Refusal { reply, skip: Some(line_bytes as u64) });
    let (storing, length) = match store_line(stores, words) {
        Ok(read) => read,
        Err(BadStore { reply, length }) => {
            let length = length.map_or(0, |length| length.saturating_add(2));
            if length > SKIPPED_BYTES_MAX {
                return Parsed::Bad(Refusal { reply, skip: None });
            }
            let skip = Some(length.saturating_add(line_bytes as u64));
            return Parsed::Bad(Refusal { reply, skip });
        }
    };
    let Ok(length) = usize::try_from(length) else { return skip_line(BAD_FORMAT) };
    let Some((data, after)) = after.split_at_checked(length) else { return Parsed::Incomplete };
    let taken = line_bytes.saturating_add(length).saturating_add(2);
    match after {
        [b'\r', b'\n', ..] => Parsed::Whole(Command::Store(Storing { data, ..storing }), taken),
        [] | [b'\r'] => Parsed::Incomplete,
        // Like memcached, look for the next command after the bytes that were announced.
        _ => Parsed::Bad(Refusal { reply: BAD_CHUNK, skip: Some(taken as u64) }),
    }
}

/// A command that stores and is wrong, with the length of its value when that is known.
#[derive(Clone, Copy)]
struct BadStore {
    reply: &'static [u8],
    length: Option<u64>,
}

/// Reads the line of a command that stores; returns it with the length of its value.
fn store_line(stores: Stores, mut words: Words<'_>) -> Result<(Storing<'_>, u64), BadStore> {
    let incomplete = BadStore { reply: UNKNOWN, length: None };
    let key = words.next().ok_or(incomplete)?;
    if stores == Stores::Meta {
        return Err(BadStore { reply: UNKNOWN, length: words.next().and_then(number) });
    }
    let flags = words.next().ok_or(incomplete)?;
    let exptime = words.next().ok_or(incomplete)?;
    let length = words.next().ok_or(incomplete)?;
    let length = number(length).ok_or(BadStore { reply: BAD_FORMAT, length: None })?;
    let bad = BadStore { reply: BAD_FORMAT, length: Some(length) };
    let verb = match stores {
        Stores::Plain(verb) => verb,
        Stores::Cas | Stores::Meta => {
            Verb::Cas(number(words.next().ok_or(incomplete)?).ok_or(bad)?)
        }
    };
    let flags = number(flags).and_then(|flags| u32::try_from(flags).ok()).ok_or(bad)?;
    let exptime = signed_number(exptime).ok_or(bad)?;
    let noreply = noreply(words).ok_or(bad)?;
    if !is_key(key) {
        return Err(bad);
    }
    if length > VALUE_BYTES_MAX as u64 {
        return Err(BadStore { reply: TOO_LARGE, length: Some(length) });
    }
    Ok((Storing { verb, key, flags, exptime, data: &[], noreply }, length))
}
