//! The tables of the index.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use super::IndexError;

/// The format of the tables; raised with every change of them.
const FORMAT: i64 = 1;
/// The log of the database is cut back to this when it has grown beyond.
const LOG_BYTES_MAX: i64 = 16 * 1024 * 1024;

/// Keys are stored as bytes, so that their order is S3's. An object has a content, which several
/// objects may share after a copy; a content has pieces, in order; a piece is a file.
const TABLES: &str = "
    CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE objects (
        key BLOB PRIMARY KEY,
        content INTEGER NOT NULL,
        size INTEGER NOT NULL,
        etag TEXT NOT NULL,
        modified INTEGER NOT NULL,
        headers TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX objects_by_content ON objects (content);
    CREATE TABLE pieces (
        content INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        blob BLOB NOT NULL,
        size INTEGER NOT NULL,
        PRIMARY KEY (content, ordinal)
    ) WITHOUT ROWID;
    CREATE INDEX pieces_by_blob ON pieces (blob);
    CREATE TABLE uploads (
        id TEXT PRIMARY KEY,
        key BLOB NOT NULL,
        started INTEGER NOT NULL,
        headers TEXT NOT NULL,
        completed TEXT
    ) WITHOUT ROWID;
    CREATE INDEX uploads_by_key ON uploads (key, id);
    CREATE TABLE parts (
        upload TEXT NOT NULL,
        number INTEGER NOT NULL,
        blob BLOB,
        size INTEGER NOT NULL,
        etag TEXT NOT NULL,
        checksum TEXT,
        modified INTEGER NOT NULL,
        PRIMARY KEY (upload, number)
    ) WITHOUT ROWID;
    CREATE INDEX parts_by_blob ON parts (blob);
    CREATE TABLE garbage (blob BLOB PRIMARY KEY) WITHOUT ROWID;
    INSERT INTO facts (name, value) VALUES ('contents', 0);
";

/// Opens a connection that changes the index: each of its transactions is on the disk when it ends.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_MAX)?;
    Ok(connection)
}

/// Opens the index file of a bucket, or makes it.
///
/// # Errors
/// It belongs to another bucket or another version, or the database failed.
pub(crate) fn prepare(path: &Path, bucket: &str) -> Result<Connection, IndexError> {
    let mut connection = connect(path)?;
    let transaction = connection.transaction()?;
    let format: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if format > FORMAT {
        return Err(IndexError::Newer { found: format, known: FORMAT });
    }
    if format == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.execute("INSERT INTO facts VALUES ('bucket', ?1)", [bucket])?;
        transaction.pragma_update(None, "user_version", FORMAT)?;
    }
    let found: Option<String> = transaction
        .query_row("SELECT value FROM facts WHERE name = 'bucket'", [], |row| row.get(0))
        .optional()?;
    let found = found.unwrap_or_default();
    if found != bucket {
        return Err(IndexError::OtherBucket { found, wanted: bucket.to_owned() });
    }
    transaction.commit()?;
    Ok(connection)
}
