//! A consistent copy of the database as SQL, while the site is used.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{Client, DatabaseError};

/// A large shop has some ten gigabytes.
const TIME_LIMIT: Duration = Duration::from_secs(6 * 60 * 60);
/// What the client writes last.
pub(super) const END: &str = "-- Dump completed";
/// The end has a date behind it.
pub(super) const END_BYTES: usize = 256;

/// Writes a dump; returns how many bytes it has.
///
/// # Errors
/// The server does not answer, refuses or goes away, or the sink takes no more.
pub async fn dump(
    client: &Client,
    sink: &mut (impl AsyncWrite + Unpin),
    path: &Path,
) -> Result<u64, DatabaseError> {
    let write_error =
        |source| DatabaseError::File { action: "write", path: path.to_owned(), source };
    let (command, _login) = client.command(&client.dump_program)?;
    let mut running = command
        // One snapshot of all tables, without a lock that visitors would wait for.
        .args(["--single-transaction", "--skip-lock-tables", "--quick"])
        .args(["--hex-blob", "--no-tablespaces", "--default-character-set=utf8mb4"])
        .arg(client.database())
        .time_limit(TIME_LIMIT)
        .start()
        .map_err(DatabaseError::Client)?;
    let (mut total, mut buffer, mut end) = (0_u64, Vec::new(), Vec::new());
    while running.read(&mut buffer).await.map_err(DatabaseError::Client)? > 0 {
        total += buffer.len() as u64;
        end.extend_from_slice(
            buffer.get(buffer.len().saturating_sub(END_BYTES)..).unwrap_or_default(),
        );
        end.drain(..end.len().saturating_sub(END_BYTES));
        sink.write_all(&buffer).await.map_err(write_error)?;
        buffer.clear();
    }
    running.finish().await.map_err(DatabaseError::Client)?;
    sink.flush().await.map_err(write_error)?;
    if !String::from_utf8_lossy(&end).contains(END) {
        return Err(DatabaseError::Incomplete);
    }
    Ok(total)
}

/// Writes a dump into a file, which has its name only when it is whole; returns its size in bytes.
///
/// # Errors
/// As [`dump`]; the file is then as it was before.
pub async fn dump_to_file(client: &Client, path: &Path) -> Result<u64, DatabaseError> {
    let error =
        |action| move |source| DatabaseError::File { action, path: path.to_owned(), source };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let attempt = async {
        let mut options = tokio::fs::OpenOptions::new();
        // It holds people's addresses.
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&aside).await.map_err(error("make"))?;
        let total = dump(client, &mut file, path).await?;
        file.sync_all().await.map_err(error("write"))?;
        tokio::fs::rename(&aside, path).await.map_err(error("name"))?;
        Ok(total)
    };
    let outcome = attempt.await;
    if outcome.is_err() {
        // What is left of it is of no use; that it may not be there is no fault.
        drop(tokio::fs::remove_file(&aside).await);
    }
    outcome
}
