//! Listing: keys in byte order, those with a common beginning folded into one.

use rusqlite::Connection;

use super::objects::unsigned;
use crate::fault::Fault;
use crate::timestamp::Timestamp;

/// What is to be listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ListingRequest {
    /// Only keys that begin so.
    pub(crate) prefix: String,
    /// Keys are folded at the first of these after the prefix; empty for not at all.
    pub(crate) delimiter: String,
    /// Only what comes after this; a folded beginning of it is passed over, too.
    pub(crate) after: String,
    /// How many keys and beginnings at most.
    pub(crate) count_max: usize,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listed {
    /// An object.
    Object {
        /// Its name.
        key: String,
        /// How many bytes it has.
        size: u64,
        /// Its `ETag`, without quotes.
        etag: String,
        /// When it was stored.
        modified: Timestamp,
    },
    /// A beginning that one or more keys have in common.
    Prefix(String),
}

impl Listed {
    /// Returns the key or the beginning.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Object { key, .. } => key,
            Self::Prefix(prefix) => prefix,
        }
    }
}

/// A page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ListingPage {
    /// What is on it, in order.
    pub(crate) entries: Vec<Listed>,
    /// Whether more follows.
    pub(crate) is_truncated: bool,
}

/// Lists a page.
///
/// A folded beginning costs one step in the index, however many keys it stands for.
///
/// # Errors
/// The database failed.
pub(crate) fn list(
    connection: &Connection,
    request: &ListingRequest,
) -> Result<ListingPage, Fault> {
    let mut page = ListingPage::default();
    if request.count_max == 0 {
        return Ok(page);
    }
    let mut from = begin(request);
    let statement = "SELECT key, size, etag, modified FROM objects WHERE key >= ?1 ORDER BY key";
    let mut statement = connection.prepare_cached(statement)?;
    'seek: loop {
        let mut rows = statement.query([&from])?;
        while let Some(row) = rows.next()? {
            let key = String::from_utf8_lossy(row.get_ref(0)?.as_blob().unwrap_or_default());
            if !key.starts_with(&request.prefix) {
                return Ok(page);
            }
            let folded = fold(&key, request);
            if page.entries.len() == request.count_max {
                page.is_truncated = true;
                return Ok(page);
            }
            if let Some(prefix) = folded {
                let prefix = prefix.to_owned();
                let Some(next) = successor(prefix.as_bytes()) else { return Ok(page) };
                page.entries.push(Listed::Prefix(prefix));
                from = next;
                continue 'seek;
            }
            page.entries.push(Listed::Object {
                key: key.into_owned(),
                size: unsigned(row.get(1)?),
                etag: row.get(2)?,
                modified: Timestamp(unsigned(row.get(3)?)),
            });
        }
        return Ok(page);
    }
}

/// Returns the first key that may be listed.
fn begin(request: &ListingRequest) -> Vec<u8> {
    let prefix = request.prefix.as_bytes();
    if request.after.is_empty() || request.after.as_bytes() < prefix {
        return prefix.to_vec();
    }
    if let Some(next) = fold(&request.after, request).and_then(|one| successor(one.as_bytes())) {
        return next;
    }
    let mut next = request.after.clone().into_bytes();
    // The least that is greater.
    next.push(0);
    next
}

/// Returns the beginning that stands for a key.
fn fold<'a>(key: &'a str, request: &ListingRequest) -> Option<&'a str> {
    if request.delimiter.is_empty() {
        return None;
    }
    let rest = key.strip_prefix(request.prefix.as_str())?;
    let end = request.prefix.len() + rest.find(&request.delimiter)? + request.delimiter.len();
    key.get(..end)
}

/// Returns the least that is greater than everything with this beginning; `None` when nothing is.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut next = prefix.to_vec();
    while let Some(last) = next.pop() {
        if last < u8::MAX {
            next.push(last + 1);
            return Some(next);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rusqlite::Connection;

    use super::{ListingRequest, list};

    fn index_of(keys: &BTreeSet<String>) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE objects (key BLOB PRIMARY KEY, size, etag, modified) WITHOUT ROWID",
            )
            .unwrap();
        for key in keys {
            let statement = "INSERT INTO objects VALUES (?1, 0, '', 0)";
            connection.execute(statement, [key.as_bytes()]).unwrap();
        }
        connection
    }

    /// All pages, one after the other, each continued after the last entry of the one before.
    fn all_pages(connection: &Connection, mut request: ListingRequest) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            let page = list(connection, &request).unwrap();
            assert!(page.entries.len() <= request.count_max);
            names.extend(page.entries.iter().map(|entry| entry.name().to_owned()));
            if !page.is_truncated {
                return names;
            }
            page.entries.last().unwrap().name().clone_into(&mut request.after);
        }
    }

    /// What a listing must be, by trying every key.
    fn naive(keys: &BTreeSet<String>, prefix: &str, delimiter: &str) -> Vec<String> {
        let mut names = BTreeSet::new();
        for key in keys.iter().filter(|key| key.starts_with(prefix)) {
            let rest = &key[prefix.len()..];
            let cut = (!delimiter.is_empty()).then(|| rest.find(delimiter)).flatten();
            names.insert(match cut {
                Some(at) => key[..prefix.len() + at + delimiter.len()].to_owned(),
                None => key.clone(),
            });
        }
        names.into_iter().collect()
    }

    proptest! {
        #[test]
        fn pages_of_any_size_list_what_is_there(
            keys in prop::collection::btree_set("[ab/ü\u{10ffff}]{1,6}", 0..40),
            prefix in "[ab/ü]{0,3}",
            delimiter in "(/|//|b|)",
            count_max in 1_usize..7,
        ) {
            let connection = index_of(&keys);
            let expected = naive(&keys, &prefix, &delimiter);
            let request = ListingRequest { prefix, delimiter, after: String::new(), count_max };
            prop_assert_eq!(all_pages(&connection, request), expected);
        }
    }
}
