//! What the gateway says to a client.

use std::io::Write;

pub(crate) const STORED: &[u8] = b"STORED\r\n";
pub(crate) const NOT_STORED: &[u8] = b"NOT_STORED\r\n";
pub(crate) const EXISTS: &[u8] = b"EXISTS\r\n";
pub(crate) const NOT_FOUND: &[u8] = b"NOT_FOUND\r\n";
pub(crate) const DELETED: &[u8] = b"DELETED\r\n";
pub(crate) const TOUCHED: &[u8] = b"TOUCHED\r\n";
pub(crate) const OK: &[u8] = b"OK\r\n";
pub(crate) const END: &[u8] = b"END\r\n";
pub(crate) const ERROR: &[u8] = b"ERROR\r\n";
pub(crate) const RESET: &[u8] = b"RESET\r\n";
/// The number is that of the memcached whose commands are understood: clients choose by it.
pub(crate) const VERSION: &[u8] =
    concat!("VERSION 1.6.18-flotilla-", env!("CARGO_PKG_VERSION"), "\r\n").as_bytes();
pub(crate) const NON_NUMERIC: &[u8] =
    b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";

/// Appends a value that was found; `version` when the client asked for it.
pub(crate) fn put_value(
    output: &mut Vec<u8>,
    key: &[u8],
    flags: u32,
    data: &[u8],
    version: Option<u64>,
) {
    output.reserve(data.len().saturating_add(key.len()).saturating_add(64));
    output.extend_from_slice(b"VALUE ");
    output.extend_from_slice(key);
    output.push(b' ');
    put_number(output, u64::from(flags));
    output.push(b' ');
    put_number(output, data.len() as u64);
    if let Some(version) = version {
        output.push(b' ');
        put_number(output, version);
    }
    output.extend_from_slice(b"\r\n");
    output.extend_from_slice(data);
    output.extend_from_slice(b"\r\n");
}

/// Appends a line of `stats`.
pub(crate) fn put_stat(output: &mut Vec<u8>, name: &str, value: impl std::fmt::Display) {
    // Writing to memory does not fail.
    drop(write!(output, "STAT {name} {value}\r\n"));
}

/// Appends the error that something on the server's side is wrong.
pub(crate) fn put_server_error(output: &mut Vec<u8>, error: &dyn std::fmt::Display) {
    let text = error.to_string().replace(['\r', '\n'], " ");
    drop(write!(output, "SERVER_ERROR {text}\r\n"));
}

/// Appends a decimal number.
pub(crate) fn put_number(output: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut used = 0_usize;
    for place in digits.iter_mut().rev() {
        *place = b'0'.wrapping_add(u8::try_from(number % 10).unwrap_or(0));
        number /= 10;
        used = used.saturating_add(1);
        if number == 0 {
            break;
        }
    }
    let start = digits.len().saturating_sub(used);
    output.extend_from_slice(digits.get(start..).unwrap_or_default());
}
