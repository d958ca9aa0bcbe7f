//! The site's database as an operator works with it: asked, dumped, restored, through the server's
//! own client programs.

mod check;
mod client;
mod dump;
mod restore;

use std::path::PathBuf;

use flotilla_host::command::CommandError;

pub use client::{Client, Limits, Login};
pub use dump::{dump, dump_to_file};
pub use restore::{Restore, Restored};

/// Says what could not be done with the database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// A client program is not installed.
    #[error("there is no `{0}` on this machine")]
    Missing(&'static str),
    /// The client failed: the server does not answer, or it refuses.
    #[error("the database did not do it")]
    Client(#[source] CommandError),
    /// The login cannot be handed over.
    #[error("cannot hand the login to the client program")]
    Login(#[source] std::io::Error),
    /// A file cannot be read or written.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The client ended well, but the dump has no end.
    #[error("the dump broke off")]
    Incomplete,
    /// A file is no dump that can be restored.
    #[error("`{}` was not restored: {problem}", path.display())]
    NotRestorable {
        /// The file.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// The server answered something else than it was asked for.
    #[error("the database answered something unexpected")]
    Answer,
    /// A name would not be safe in a statement.
    #[error("`{0}` is not a name that can be put into a statement")]
    Name(String),
}
