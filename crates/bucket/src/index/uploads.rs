//! Uploads in parts: begun, filled part by part, and then completed or given up.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::change::Change;
use super::objects::{
    Headers, NewObject, Piece, put_pieces, read_headers, signed, unsigned, write_headers,
};
use crate::blobs::{BlobId, NewBlob};
use crate::checksum::{Algorithm, composite, etag_of_parts, hex};
use crate::condition::WriteConditions;
use crate::fault::{Code, Fault};
use crate::key::Key;
use crate::timestamp::Timestamp;

/// S3's smallest part, but for the last one of an upload.
const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;
/// Uploads that are given up in one transaction at most.
const EXPIRED_PER_CHANGE_MAX: i64 = 100;
/// Stands among an upload's headers for the checksum that its parts have.
pub(crate) const CHECKSUM_ALGORITHM: &str = "x-amz-checksum-algorithm";

/// Names an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UploadId(pub(crate) String);

impl UploadId {
    /// Draws a new one.
    ///
    /// # Errors
    /// The machine has no random numbers.
    pub(crate) fn draw() -> Result<Self, Fault> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| {
            tracing::error!(%error, "The machine has no random numbers");
            Fault::internal()
        })?;
        Ok(Self(hex(&bytes)))
    }
}

/// An upload that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Upload {
    /// Its name.
    pub(crate) id: UploadId,
    /// The object that it will be.
    pub(crate) key: String,
    /// When it was begun.
    pub(crate) started: Timestamp,
    /// What shall come back with the object.
    pub(crate) headers: Headers,
    /// The `ETag` of the object, when it has been completed already.
    completed: Option<String>,
}

impl Upload {
    /// Returns the checksum that its parts have.
    pub(crate) fn algorithm(&self) -> Option<Algorithm> {
        Algorithm::named(self.headers.0.get(CHECKSUM_ALGORITHM)?)
    }
}

/// A part that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its number, from 1 to 10,000.
    pub(crate) number: u16,
    /// How many bytes it has.
    pub(crate) size: u64,
    /// Its MD5 as hexadecimal digits.
    pub(crate) etag: String,
    /// Its checksum, as S3 writes it.
    pub(crate) checksum: Option<String>,
    /// When it arrived.
    pub(crate) modified: Timestamp,
}

/// A part that a client wants in the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartChoice {
    /// Its number.
    pub(crate) number: u16,
    /// Its `ETag`, without quotes.
    pub(crate) etag: String,
    /// Its checksum, when the client says it once more.
    pub(crate) checksum: Option<String>,
}

/// Begins an upload.
///
/// # Errors
/// The database failed.
pub(crate) fn begin_upload(
    change: &Change<'_>,
    id: &UploadId,
    key: &Key,
    headers: &Headers,
    now: Timestamp,
) -> Result<(), Fault> {
    let statement = "INSERT INTO uploads (id, key, started, headers) VALUES (?1, ?2, ?3, ?4)";
    let values = params![id.0, key.as_bytes(), signed(now.0), write_headers(headers)?];
    change.connection.prepare_cached(statement)?.execute(values)?;
    Ok(())
}

/// Finds an upload of this object that is neither completed nor given up.
///
/// # Errors
/// There is none, or the database failed.
pub(crate) fn find_upload(
    connection: &Connection,
    id: &UploadId,
    key: &Key,
) -> Result<Upload, Fault> {
    let upload = find_any(connection, id, key)?;
    if upload.completed.is_some() { Err(no_such_upload()) } else { Ok(upload) }
}

fn find_any(connection: &Connection, id: &UploadId, key: &Key) -> Result<Upload, Fault> {
    let statement =
        "SELECT id, key, started, headers, completed FROM uploads WHERE id = ?1 AND key = ?2";
    let mut statement = connection.prepare_cached(statement)?;
    let upload = statement.query_row(params![id.0, key.as_bytes()], read_upload).optional()?;
    upload.ok_or_else(no_such_upload)
}

/// Puts a part in the place of an earlier one with its number.
///
/// # Errors
/// There is no such upload, or the database failed.
pub(crate) fn put_part(
    change: &mut Change<'_>,
    id: &UploadId,
    key: &Key,
    part: &Part,
    blob: Option<NewBlob>,
) -> Result<(), Fault> {
    find_upload(change.connection, id, key)?;
    let statement = "SELECT blob FROM parts WHERE upload = ?1 AND number = ?2";
    let before: Option<Option<BlobId>> = change
        .connection
        .prepare_cached(statement)?
        .query_row(params![id.0, part.number], |row| row.get(0))
        .optional()?;
    let statement = "INSERT OR REPLACE INTO parts
        (upload, number, blob, size, etag, checksum, modified) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    change.connection.prepare_cached(statement)?.execute(params![
        id.0,
        part.number,
        blob.as_ref().map(NewBlob::id),
        signed(part.size),
        part.etag,
        part.checksum,
        signed(part.modified.0),
    ])?;
    if let Some(before) = before.flatten() {
        change.retire(before)?;
    }
    blob.into_iter().for_each(|blob| change.adopt(blob));
    Ok(())
}

/// Makes an object of parts and returns its `ETag`; the bytes are not touched.
///
/// Once more with the same parts it returns the same: the first answer may have been lost.
///
/// # Errors
/// A part is missing, another one or too small, a condition does not hold, or the database failed.
pub(crate) fn complete_upload(
    change: &mut Change<'_>,
    id: &UploadId,
    key: &Key,
    choices: &[PartChoice],
    conditions: &WriteConditions,
    now: Timestamp,
) -> Result<(String, Headers), Fault> {
    let upload = find_any(change.connection, id, key)?;
    let etag = etag_of_parts(choices.iter().map(|choice| choice.etag.as_str()));
    if let Some(completed) = &upload.completed {
        let is_repeated = *completed == etag;
        return if is_repeated { Ok((etag, upload.headers)) } else { Err(no_such_upload()) };
    }
    let mut there = parts_with_blobs(change.connection, id)?;
    let mut chosen = Vec::with_capacity(choices.len());
    for choice in choices {
        chosen.push(choose(&mut there, choice)?);
    }
    check_sizes(&chosen)?;
    let headers = headers_of_object(&upload, &chosen)?;
    let pieces: Vec<Piece> = chosen
        .iter()
        .filter_map(|(part, blob)| Some(Piece { blob: (*blob)?, size: part.size }))
        .collect();
    let size = pieces.iter().map(|piece| piece.size).sum();
    let object = NewObject { key: key.clone(), size, etag, headers, now };
    put_pieces(change, &object, &pieces, conditions)?;
    for blob in there.into_values().filter_map(|(_, blob)| blob) {
        change.retire(blob)?;
    }
    let statement = "DELETE FROM parts WHERE upload = ?1";
    change.connection.prepare_cached(statement)?.execute([&id.0])?;
    let statement = "UPDATE uploads SET completed = ?2, headers = ?3 WHERE id = ?1";
    let values = params![id.0, object.etag, write_headers(&object.headers)?];
    change.connection.prepare_cached(statement)?.execute(values)?;
    Ok((object.etag, object.headers))
}

type PartsWithBlobs = BTreeMap<u16, (Part, Option<BlobId>)>;

fn choose(
    there: &mut PartsWithBlobs,
    choice: &PartChoice,
) -> Result<(Part, Option<BlobId>), Fault> {
    let number = choice.number;
    let wrong = |why: &str| Fault::new(Code::InvalidPart, format!("part {number} {why}"));
    let (part, blob) = there.remove(&number).ok_or_else(|| wrong("was not uploaded"))?;
    if part.etag != choice.etag {
        return Err(wrong("has another `ETag`"));
    }
    if choice.checksum.is_some() && choice.checksum != part.checksum {
        return Err(wrong("has another checksum"));
    }
    Ok((part, blob))
}

fn check_sizes(chosen: &[(Part, Option<BlobId>)]) -> Result<(), Fault> {
    let Some((_, but_last)) = chosen.split_last() else {
        return Err(Fault::new(Code::MalformedXml, "an object needs at least one part"));
    };
    let small = but_last.iter().find(|(part, _)| part.size < PART_BYTES_MIN);
    small.map_or(Ok(()), |(part, _)| {
        let (number, size) = (part.number, part.size);
        let message = format!(
            "part {number} has {size} bytes; all but the last need at least {PART_BYTES_MIN}"
        );
        Err(Fault::new(Code::EntityTooSmall, message))
    })
}

fn headers_of_object(upload: &Upload, chosen: &[(Part, Option<BlobId>)]) -> Result<Headers, Fault> {
    let mut headers = upload.headers.clone();
    headers.0.remove(CHECKSUM_ALGORITHM);
    let Some(algorithm) = upload.algorithm() else { return Ok(headers) };
    let checksums: Option<Vec<&str>> =
        chosen.iter().map(|(part, _)| part.checksum.as_deref()).collect();
    if let Some(checksums) = checksums {
        let value = composite(algorithm, checksums.into_iter())?;
        headers.0.insert(algorithm.header().to_owned(), value);
    }
    Ok(headers)
}

/// Gives an upload up, and its parts with it.
///
/// # Errors
/// There is no such upload, or the database failed.
pub(crate) fn abort_upload(change: &mut Change<'_>, id: &UploadId, key: &Key) -> Result<(), Fault> {
    find_upload(change.connection, id, key)?;
    remove_upload(change, &id.0)
}

/// Gives up the uploads that were begun before a time; returns how many, at most a hundred.
///
/// # Errors
/// The database failed.
pub(crate) fn expire_uploads(change: &mut Change<'_>, before: Timestamp) -> Result<usize, Fault> {
    let expired: Vec<String> = {
        let statement = "SELECT id FROM uploads WHERE started < ?1 LIMIT ?2";
        let mut statement = change.connection.prepare_cached(statement)?;
        let values = params![signed(before.0), EXPIRED_PER_CHANGE_MAX];
        statement.query_map(values, |row| row.get(0))?.collect::<Result<_, _>>()?
    };
    for id in &expired {
        remove_upload(change, id)?;
    }
    Ok(expired.len())
}

fn remove_upload(change: &mut Change<'_>, id: &str) -> Result<(), Fault> {
    let parts = parts_with_blobs(change.connection, &UploadId(id.to_owned()))?;
    for blob in parts.into_values().filter_map(|(_, blob)| blob) {
        change.retire(blob)?;
    }
    for statement in ["DELETE FROM parts WHERE upload = ?1", "DELETE FROM uploads WHERE id = ?1"] {
        change.connection.prepare_cached(statement)?.execute([id])?;
    }
    Ok(())
}

/// Lists the parts that have arrived, by their numbers, from the one after `after`.
///
/// # Errors
/// The database failed.
pub(crate) fn list_parts(
    connection: &Connection,
    id: &UploadId,
    after: u16,
    count_max: usize,
) -> Result<Vec<Part>, Fault> {
    let statement = "SELECT number, size, etag, checksum, modified, blob FROM parts
        WHERE upload = ?1 AND number > ?2 ORDER BY number LIMIT ?3";
    let mut statement = connection.prepare_cached(statement)?;
    let count_max = i64::try_from(count_max).unwrap_or(i64::MAX);
    let parts = statement.query_map(params![id.0, after, count_max], read_part)?;
    Ok(parts.collect::<Result<_, _>>()?)
}

/// Lists uploads that were begun, by key and name, from those after a key and a name.
///
/// # Errors
/// The database failed.
pub(crate) fn list_uploads(
    connection: &Connection,
    prefix: &str,
    after: (&str, &str),
    count_max: usize,
) -> Result<Vec<Upload>, Fault> {
    // Without a name, all uploads of the key are passed over.
    let statement = "SELECT id, key, started, headers, completed FROM uploads
        WHERE completed IS NULL AND key >= ?1
            AND (key > ?2 OR (key = ?2 AND ?3 <> '' AND id > ?3))
        ORDER BY key, id";
    let mut statement = connection.prepare_cached(statement)?;
    let values = params![prefix.as_bytes(), after.0.as_bytes(), after.1];
    let mut uploads = Vec::new();
    for upload in statement.query_map(values, read_upload)? {
        let upload = upload?;
        if uploads.len() == count_max || !upload.key.starts_with(prefix) {
            break;
        }
        uploads.push(upload);
    }
    Ok(uploads)
}

fn parts_with_blobs(connection: &Connection, id: &UploadId) -> Result<PartsWithBlobs, Fault> {
    let statement =
        "SELECT number, size, etag, checksum, modified, blob FROM parts WHERE upload = ?1";
    let mut statement = connection.prepare_cached(statement)?;
    let read = |row: &Row<'_>| Ok((read_part(row)?, row.get(5)?));
    let parts = statement.query_map([&id.0], read)?;
    let numbered = parts.map(|part| part.map(|(part, blob)| (part.number, (part, blob))));
    Ok(numbered.collect::<Result<_, _>>()?)
}

fn read_part(row: &Row<'_>) -> rusqlite::Result<Part> {
    Ok(Part {
        number: row.get(0)?,
        size: unsigned(row.get(1)?),
        etag: row.get(2)?,
        checksum: row.get(3)?,
        modified: Timestamp(unsigned(row.get(4)?)),
    })
}

fn read_upload(row: &Row<'_>) -> rusqlite::Result<Upload> {
    Ok(Upload {
        id: UploadId(row.get(0)?),
        key: String::from_utf8_lossy(row.get_ref(1)?.as_blob()?).into_owned(),
        started: Timestamp(unsigned(row.get(2)?)),
        headers: read_headers(row.get_ref(3)?.as_str()?),
        completed: row.get(4)?,
    })
}

fn no_such_upload() -> Fault {
    Fault::new(Code::NoSuchUpload, "there is no such upload; it may be completed or given up")
}
