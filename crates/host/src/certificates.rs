//! The certificates that PHP's connections are checked with: those of the machine and a few more.
//!
//! PHP checks a database's certificate with the list that all its streams use, so the database's
//! signers are added to what the machine trusts.

use std::fs;
use std::io;
use std::path::Path;

use crate::files::{Access, FileError, write_atomic};

/// Where Debian and its relatives keep what the machine trusts.
const MACHINE: &str = "/etc/ssl/certs/ca-certificates.crt";
const FILE: &str = "ca.pem";

/// Writes `ca.pem` into a directory, or removes it when there is nothing to add.
///
/// # Errors
/// The file cannot be written.
pub fn write_certificates(directory: &Path, more: &str) -> Result<(), FileError> {
    let path = directory.join(FILE);
    if more.is_empty() {
        return match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(FileError::Write { path, source })
            }
            _ => Ok(()),
        };
    }
    // A machine that trusts nobody has no such file.
    let machine = fs::read_to_string(MACHINE).unwrap_or_default();
    write_atomic(
        &path,
        format!("{}\n{}\n", machine.trim_end(), more.trim()).as_bytes(),
        Access::Public,
    )
}
