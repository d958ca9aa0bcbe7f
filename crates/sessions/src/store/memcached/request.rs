//! How requests are said to a memcached.

use crate::clock::now_seconds;
use crate::store::{Condition, Request};

/// Asks for something that is never there; a node that understands it can do what we need.
pub(super) const GREETING: &[u8] = b"mg flotilla.greeting c t v\r\n";

/// Appends a request.
pub(super) fn encode(request: Request<'_>, output: &mut Vec<u8>) {
    match request {
        Request::Fetch { key } => put(output, &[b"mg ", key, b" c t v\r\n"]),
        Request::Touch { key, lifetime } => {
            // The new lifetime comes first, so that it is the one that is told.
            put(output, &[b"mg ", key, b" T"]);
            put_number(output, lifetime.to_exptime(now_seconds()));
            put(output, &[b" c t v\r\n"]);
        }
        Request::Write { key, head, body, lifetime, condition } => {
            let verb: &[u8] = match condition {
                Condition::Always => b"set ",
                Condition::Absent => b"add ",
                Condition::Unchanged(_) => b"cas ",
            };
            put(output, &[verb, key, b" 0 "]);
            put_number(output, lifetime.to_exptime(now_seconds()));
            put(output, &[b" "]);
            put_number(output, head.len().saturating_add(body.len()) as u64);
            if let Condition::Unchanged(token) = condition {
                put(output, &[b" "]);
                put_number(output, token);
            }
            put(output, &[b"\r\n", head, body, b"\r\n"]);
        }
        Request::Remove { key } => put(output, &[b"delete ", key, b"\r\n"]),
        Request::Flush { delay } => {
            put(output, &[b"flush_all "]);
            put_number(output, delay.as_secs());
            put(output, &[b"\r\n"]);
        }
    }
}

fn put(output: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        output.extend_from_slice(part);
    }
}

fn put_number(output: &mut Vec<u8>, number: u64) {
    crate::protocol::reply::put_number(output, number);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::expiry::Lifetime;

    fn said(request: Request<'_>) -> String {
        let mut output = Vec::new();
        encode(request, &mut output);
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn requests_are_said_in_memcacheds_words() {
        let write = |condition| Request::Write {
            key: b"k",
            head: b"ab",
            body: b"c",
            lifetime: Lifetime::Seconds(60),
            condition,
        };
        assert_eq!(said(Request::Fetch { key: b"k" }), "mg k c t v\r\n");
        let touch = Request::Touch { key: b"k", lifetime: Lifetime::Forever };
        assert_eq!(said(touch), "mg k T0 c t v\r\n");
        assert_eq!(said(write(Condition::Always)), "set k 0 60 3\r\nabc\r\n");
        assert_eq!(said(write(Condition::Absent)), "add k 0 60 3\r\nabc\r\n");
        assert_eq!(said(write(Condition::Unchanged(9))), "cas k 0 60 3 9\r\nabc\r\n");
        assert_eq!(said(Request::Remove { key: b"k" }), "delete k\r\n");
        assert_eq!(said(Request::Flush { delay: Duration::from_secs(2) }), "flush_all 2\r\n");
    }
}
