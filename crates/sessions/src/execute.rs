//! What each command does to items; locks are in `connection.rs`, because they wait.

use std::time::Duration;

use smallvec::SmallVec;

use crate::clock::now_seconds;
use crate::copies::{Change, Copies, CopiesError, NewValue, Value};
use crate::counters::Counters;
use crate::expiry::Lifetime;
use crate::protocol::command::{Keys, Storing, Verb};
use crate::protocol::reply;
use crate::protocol::words::number;

/// How many keys of one `get` are under way at a time.
const KEYS_AT_ONCE: usize = 32;

/// Carries out commands and appends the answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Executor<'a> {
    /// Where items are.
    pub(crate) copies: &'a Copies,
    /// What is counted.
    pub(crate) counters: &'a Counters,
}

impl Executor<'_> {
    /// `get` and `gets`. An item that cannot be read ends the answer with an error.
    pub(crate) async fn get(&self, keys: Keys<'_>, with_version: bool, output: &mut Vec<u8>) {
        let mut keys = keys.peekable();
        while keys.peek().is_some() {
            let some: SmallVec<[&[u8]; 1]> = keys.by_ref().take(KEYS_AT_ONCE).collect();
            let reads: SmallVec<[_; 1]> =
                some.iter().map(|key| (*key, self.copies.read(key))).collect();
            for (key, read) in reads {
                if let Err(error) =
                    read.await.map(|value| self.put(key, value, with_version, output))
                {
                    return self.fail(&error, output);
                }
            }
        }
        output.extend_from_slice(reply::END);
    }

    /// `gat` and `gats`.
    pub(crate) async fn get_and_touch(
        &self,
        keys: Keys<'_>,
        exptime: i64,
        with_version: bool,
        output: &mut Vec<u8>,
    ) {
        for key in keys {
            match self.touched(key, exptime).await {
                Ok(value) => self.put(key, value, with_version, output),
                Err(error) => return self.fail(&error, output),
            }
        }
        output.extend_from_slice(reply::END);
    }

    /// `touch`.
    pub(crate) async fn touch(&self, key: &[u8], exptime: i64, output: &mut Vec<u8>) {
        let done = self.touched(key, exptime).await;
        let done =
            done.map(|value| if value.is_some() { reply::TOUCHED } else { reply::NOT_FOUND });
        self.say(done, output);
    }

    async fn touched(&self, key: &[u8], exptime: i64) -> Result<Option<Value>, CopiesError> {
        self.counters.count(|counts| &counts.cmd_touch);
        match Lifetime::from_exptime(exptime, now_seconds()) {
            Some(lifetime) => self.copies.touch(key, lifetime).await,
            None => {
                self.copies.update(key, |value| (Change::Delete.when(value), value.cloned())).await
            }
        }
    }

    /// `delete`.
    pub(crate) async fn delete(&self, key: &[u8], output: &mut Vec<u8>) {
        let delete = |value: Option<&Value>| {
            (
                Change::Delete.when(value),
                if value.is_some() { reply::DELETED } else { reply::NOT_FOUND },
            )
        };
        self.say(self.copies.update(key, delete).await, output);
    }

    /// `set`, `add`, `replace`, `append`, `prepend`, `cas`.
    pub(crate) async fn store(&self, storing: Storing<'_>, output: &mut Vec<u8>) {
        self.counters.count(|counts| &counts.cmd_set);
        let lifetime = Lifetime::from_exptime(storing.exptime, now_seconds());
        let done = match (storing.verb, lifetime) {
            (Verb::Set, Some(lifetime)) => {
                let new = NewValue { flags: storing.flags, data: storing.data, lifetime };
                self.copies.write(storing.key, new).await.map(|_| reply::STORED)
            }
            _ => {
                let decide = |value: Option<&Value>| decide(&storing, lifetime, value);
                self.copies.update(storing.key, decide).await
            }
        };
        self.say(done, output);
    }

    /// `incr` and `decr`.
    pub(crate) async fn count(&self, key: &[u8], delta: u64, is_down: bool, output: &mut Vec<u8>) {
        let decide = |value: Option<&Value>| match value {
            None => (Change::None, Counted::Missing),
            Some(value) => match number(trimmed(&value.data)) {
                None => (Change::None, Counted::NotANumber),
                Some(old) => {
                    let new =
                        if is_down { old.saturating_sub(delta) } else { old.wrapping_add(delta) };
                    // memcached keeps the length of a number that becomes shorter.
                    let data = format!("{new:<width$}", width = value.data.len()).into_bytes();
                    let Value { flags, lifetime, .. } = *value;
                    (Change::Replace { flags, data, lifetime }, Counted::Number(new))
                }
            },
        };
        match self.copies.update(key, decide).await {
            Ok(Counted::Number(number)) => {
                reply::put_number(output, number);
                output.extend_from_slice(b"\r\n");
            }
            Ok(Counted::Missing) => output.extend_from_slice(reply::NOT_FOUND),
            Ok(Counted::NotANumber) => output.extend_from_slice(reply::NON_NUMERIC),
            Err(error) => self.fail(&error, output),
        }
    }

    /// `flush_all`.
    pub(crate) async fn flush(&self, delay_seconds: u32, output: &mut Vec<u8>) {
        let delay = Duration::from_secs(u64::from(delay_seconds));
        self.say(self.copies.flush(delay).await.map(|()| reply::OK), output);
    }

    fn put(&self, key: &[u8], value: Option<Value>, with_version: bool, output: &mut Vec<u8>) {
        self.counters.count(|counts| &counts.cmd_get);
        let Some(value) = value else {
            return self.counters.count(|counts| &counts.get_misses);
        };
        self.counters.count(|counts| &counts.get_hits);
        let version = with_version.then_some(value.version);
        reply::put_value(output, key, value.flags, &value.data, version);
    }

    fn say(&self, done: Result<&'static [u8], CopiesError>, output: &mut Vec<u8>) {
        match done {
            Ok(words) => output.extend_from_slice(words),
            Err(error) => self.fail(&error, output),
        }
    }

    fn fail(&self, error: &CopiesError, output: &mut Vec<u8>) {
        self.counters.count(|counts| &counts.failed_commands);
        reply::put_server_error(output, error);
    }
}

enum Counted {
    Number(u64),
    Missing,
    NotANumber,
}

impl Change {
    /// Returns this change when there is an item, and none otherwise.
    fn when(self, value: Option<&Value>) -> Self {
        if value.is_some() { self } else { Self::None }
    }
}

/// Says what a command that stores does to the present value; no lifetime is one that is over.
fn decide(
    storing: &Storing<'_>,
    lifetime: Option<Lifetime>,
    value: Option<&Value>,
) -> (Change, &'static [u8]) {
    let refusal = match (storing.verb, value) {
        (Verb::Add, Some(_)) => Some(reply::NOT_STORED),
        (Verb::Replace | Verb::Append | Verb::Prepend, None) => Some(reply::NOT_STORED),
        (Verb::Cas(_), None) => Some(reply::NOT_FOUND),
        (Verb::Cas(version), Some(value)) if version != value.version => Some(reply::EXISTS),
        _ => None,
    };
    if let Some(refusal) = refusal {
        return (Change::None, refusal);
    }
    let joined = match (storing.verb, value) {
        (Verb::Append, Some(value)) => Some((value, [&value.data, storing.data].concat())),
        (Verb::Prepend, Some(value)) => Some((value, [storing.data, &value.data].concat())),
        _ => None,
    };
    let change = match (joined, lifetime) {
        // These keep what the value had, whatever the client says.
        (Some((value, data)), _) => {
            Change::Replace { flags: value.flags, data, lifetime: value.lifetime }
        }
        (None, Some(lifetime)) => {
            Change::Replace { flags: storing.flags, data: storing.data.to_vec(), lifetime }
        }
        // What is expired at once takes the place of what is there, and nothing is left.
        (None, None) => Change::Delete.when(value),
    };
    (change, reply::STORED)
}

/// Leaves out what follows a number after a space, as memcached does, which fills numbers up so.
fn trimmed(digits: &[u8]) -> &[u8] {
    digits.split(u8::is_ascii_whitespace).next().unwrap_or_default()
}
