//! Becoming a program inside a room with the caller's own input and output: one-off commands such
//! as WP-CLI, as opposed to services.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::launch::{LaunchError, become_user, find_user};
use crate::room::Room;

/// What to become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inside {
    /// The program's file.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its working directory, as seen inside.
    pub directory: PathBuf,
    /// The user to run as; only root can change it.
    pub user: Option<String>,
    /// The view of the file system.
    pub room: Room,
}

/// Becomes the program; returns only when that failed. The environment is the caller's.
#[must_use]
pub fn become_inside(inside: &Inside) -> LaunchError {
    match prepare(inside) {
        Err(error) => error,
        Ok(mut command) => {
            LaunchError::Execute { program: inside.program.clone(), source: command.exec() }
        }
    }
}

fn prepare(inside: &Inside) -> Result<std::process::Command, LaunchError> {
    let identity = inside.user.as_deref().map(find_user).transpose()?;
    inside.room.enter()?;
    become_user(identity)?;
    #[expect(clippy::disallowed_methods, reason = "this process becomes the command")]
    let mut command = std::process::Command::new(&inside.program);
    command.args(&inside.args).current_dir(&inside.directory);
    Ok(command)
}
