//! What the acting rooms share to touch the machine: bounded commands, git, private rooms for
//! child processes, tasks that are awaited.

pub mod certificates;
pub mod command;
pub mod fastcgi;
pub mod files;
pub mod git;
pub mod http;
pub mod init;
pub mod inside;
pub mod launch;
pub mod lock;
pub mod media;
pub mod open_files;
pub mod ownership;
pub mod php;
pub mod room;
pub mod rotate;
pub mod session;
pub mod session_gateway;
pub mod tasks;
pub mod unit;
pub mod web_server;
