//! Services, rooms and first processes, really run: as root and as an ordinary user.

mod bench;
mod init;
mod room;
mod unit;
