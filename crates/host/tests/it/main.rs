//! Services, rooms and first processes, really run: as root and as an ordinary user.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod base;
mod bench;
mod init;
mod object_cache;
mod room;
mod unit;
