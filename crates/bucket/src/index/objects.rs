//! Objects: found, put, copied, deleted.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::change::Change;
use crate::blobs::{BlobId, NewBlob};
use crate::condition::{Present, WriteConditions};
use crate::fault::Fault;
use crate::key::Key;
use crate::timestamp::Timestamp;

/// The headers that come back with an object, by their lower-case names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Headers(pub(crate) BTreeMap<String, String>);

/// An object, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    /// What it consists of.
    pub(crate) content: i64,
    /// How many bytes it has.
    pub(crate) size: u64,
    /// Its `ETag`, without quotes.
    pub(crate) etag: String,
    /// When it was stored.
    pub(crate) modified: Timestamp,
    /// What comes back with it.
    pub(crate) headers: Headers,
}

impl Object {
    /// Returns what conditions look at.
    pub(crate) fn present(&self) -> Present<'_> {
        Present { etag: &self.etag, modified: self.modified }
    }
}

/// A file with a part of an object's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The file.
    pub(crate) blob: BlobId,
    /// How many bytes it has.
    pub(crate) size: u64,
}

/// An object to be put, besides its bytes.
#[derive(Debug, Clone)]
pub(crate) struct NewObject {
    /// Its name.
    pub(crate) key: Key,
    /// How many bytes it has.
    pub(crate) size: u64,
    /// Its `ETag`, without quotes.
    pub(crate) etag: String,
    /// What shall come back with it.
    pub(crate) headers: Headers,
    /// The present time.
    pub(crate) now: Timestamp,
}

/// Finds an object.
///
/// # Errors
/// The database failed or holds a damaged row.
pub(crate) fn find_object(connection: &Connection, key: &Key) -> Result<Option<Object>, Fault> {
    let statement = "SELECT content, size, etag, modified, headers FROM objects WHERE key = ?1";
    let mut statement = connection.prepare_cached(statement)?;
    Ok(statement.query_row([key.as_bytes()], read_object).optional()?)
}

/// Finds the pieces of a content, in order.
///
/// # Errors
/// The database failed.
pub(crate) fn pieces(connection: &Connection, content: i64) -> Result<Vec<Piece>, Fault> {
    let statement = "SELECT blob, size FROM pieces WHERE content = ?1 ORDER BY ordinal";
    let mut statement = connection.prepare_cached(statement)?;
    let read = |row: &Row<'_>| Ok(Piece { blob: row.get(0)?, size: unsigned(row.get(1)?) });
    let pieces = statement.query_map([content], read)?.collect::<Result<_, _>>()?;
    Ok(pieces)
}

/// Puts an object whose bytes are one new file, or none when it is empty.
///
/// # Errors
/// A condition does not hold, or the database failed.
pub(crate) fn put_object(
    change: &mut Change<'_>,
    object: &NewObject,
    blob: Option<NewBlob>,
    conditions: &WriteConditions,
) -> Result<(), Fault> {
    let pieces: Vec<Piece> =
        blob.iter().map(|blob| Piece { blob: blob.id(), size: object.size }).collect();
    put_pieces(change, object, &pieces, conditions)?;
    blob.into_iter().for_each(|blob| change.adopt(blob));
    Ok(())
}

/// Puts an object whose bytes are files that the index knows already.
///
/// # Errors
/// A condition does not hold, or the database failed.
pub(super) fn put_pieces(
    change: &mut Change<'_>,
    object: &NewObject,
    pieces: &[Piece],
    conditions: &WriteConditions,
) -> Result<(), Fault> {
    check(change.connection, &object.key, conditions)?;
    let statement = "UPDATE facts SET value = value + 1 WHERE name = 'contents' RETURNING value";
    let content: i64 =
        change.connection.prepare_cached(statement)?.query_row([], |row| row.get(0))?;
    {
        let statement = "INSERT INTO pieces (content, ordinal, blob, size) VALUES (?1, ?2, ?3, ?4)";
        let mut statement = change.connection.prepare_cached(statement)?;
        for (ordinal, piece) in (0_i64..).zip(pieces) {
            statement.execute(params![content, ordinal, piece.blob, signed(piece.size)])?;
        }
    }
    write_row(change, object, content)
}

/// Puts an object that shares the bytes of another one.
///
/// # Errors
/// A condition does not hold, or the database failed.
pub(crate) fn share_object(
    change: &mut Change<'_>,
    object: &NewObject,
    content: i64,
    conditions: &WriteConditions,
) -> Result<(), Fault> {
    check(change.connection, &object.key, conditions)?;
    write_row(change, object, content)
}

/// Deletes an object; it need not be there.
///
/// # Errors
/// A condition does not hold, or the database failed.
pub(crate) fn delete_object(
    change: &mut Change<'_>,
    key: &Key,
    conditions: &WriteConditions,
) -> Result<(), Fault> {
    check(change.connection, key, conditions)?;
    let Some(content) = content_of(change.connection, key)? else { return Ok(()) };
    let statement = "DELETE FROM objects WHERE key = ?1";
    change.connection.prepare_cached(statement)?.execute([key.as_bytes()])?;
    release(change, content)
}

/// Checks conditions against what is there now.
fn check(connection: &Connection, key: &Key, conditions: &WriteConditions) -> Result<(), Fault> {
    let statement = "SELECT etag FROM objects WHERE key = ?1";
    let mut statement = connection.prepare_cached(statement)?;
    let etag: Option<String> =
        statement.query_row([key.as_bytes()], |row| row.get(0)).optional()?;
    conditions.check(etag.as_deref())
}

fn write_row(change: &mut Change<'_>, object: &NewObject, content: i64) -> Result<(), Fault> {
    let before = content_of(change.connection, &object.key)?;
    let statement = "INSERT OR REPLACE INTO objects (key, content, size, etag, modified, headers)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    change.connection.prepare_cached(statement)?.execute(params![
        object.key.as_bytes(),
        content,
        signed(object.size),
        object.etag,
        signed(object.now.0),
        write_headers(&object.headers)?,
    ])?;
    match before {
        Some(before) if before != content => release(change, before),
        _ => Ok(()),
    }
}

fn content_of(connection: &Connection, key: &Key) -> rusqlite::Result<Option<i64>> {
    let statement = "SELECT content FROM objects WHERE key = ?1";
    let mut statement = connection.prepare_cached(statement)?;
    statement.query_row([key.as_bytes()], |row| row.get(0)).optional()
}

/// Gives up the files of a content unless another object has it.
fn release(change: &mut Change<'_>, content: i64) -> Result<(), Fault> {
    let statement = "SELECT EXISTS (SELECT 1 FROM objects WHERE content = ?1)";
    let is_used: bool =
        change.connection.prepare_cached(statement)?.query_row([content], |row| row.get(0))?;
    if is_used {
        return Ok(());
    }
    for piece in pieces(change.connection, content)? {
        change.retire(piece.blob)?;
    }
    let statement = "DELETE FROM pieces WHERE content = ?1";
    change.connection.prepare_cached(statement)?.execute([content])?;
    Ok(())
}

/// Returns the files that nothing needs and that may still be there.
pub(super) fn garbage(connection: &Connection) -> rusqlite::Result<Vec<BlobId>> {
    let mut statement = connection.prepare("SELECT blob FROM garbage")?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// Forgets files that have been removed.
pub(super) fn forget_garbage(
    connection: &mut Connection,
    blobs: &[BlobId],
) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    {
        let mut statement = transaction.prepare_cached("DELETE FROM garbage WHERE blob = ?1")?;
        for blob in blobs {
            statement.execute([blob])?;
        }
    }
    transaction.commit()
}

/// Whether an object or an upload has this file.
pub(super) fn is_known(connection: &Connection, blob: BlobId) -> rusqlite::Result<bool> {
    let statement = "SELECT EXISTS (SELECT 1 FROM pieces WHERE blob = ?1)
        OR EXISTS (SELECT 1 FROM parts WHERE blob = ?1)";
    connection.prepare_cached(statement)?.query_row([blob], |row| row.get(0))
}

pub(super) fn write_headers(headers: &Headers) -> Result<String, Fault> {
    serde_json::to_string(headers).map_err(|error| {
        tracing::error!(%error, "The headers of an object cannot be written");
        Fault::internal()
    })
}

pub(super) fn read_headers(text: &str) -> Headers {
    serde_json::from_str(text).unwrap_or_else(|error| {
        tracing::error!(%error, "The headers of an object are damaged");
        Headers::default()
    })
}

fn read_object(row: &Row<'_>) -> rusqlite::Result<Object> {
    Ok(Object {
        content: row.get(0)?,
        size: unsigned(row.get(1)?),
        etag: row.get(2)?,
        modified: Timestamp(unsigned(row.get(3)?)),
        headers: read_headers(row.get_ref(4)?.as_str()?),
    })
}

/// `SQLite` has no unsigned numbers; sizes and times fit into signed ones.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
