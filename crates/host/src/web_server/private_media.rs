//! Keeps visitors out of the directories of media that plugins deny with a `.htaccess`, which nginx
//! does not read: they are listed beside the mount, and nginx is given the list.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use tokio_util::sync::CancellationToken;

use super::WebServer;
use crate::files::{Access, FileError, write_atomic};
use crate::media::Media;

const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// What nginx includes where it serves uploads.
const FILE: &str = "private-media.conf";

/// Tells nginx which media are private whenever that changes.
pub(super) async fn follow(server: &WebServer, media: &Media, stopping: CancellationToken) {
    let mut shown = directories(media);
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
        let now = directories(media);
        if now == shown {
            continue;
        }
        match hide(&server.directory.join("etc"), &now).and_then(|()| reload(server)) {
            Ok(()) => shown = now,
            Err(error) => {
                tracing::error!(unit = server.unit.name, %error, "Private media cannot be hidden");
            }
        }
    }
}

/// Returns the directories that are private now, relative to the media.
pub(super) fn directories(media: &Media) -> Vec<String> {
    let text = media.private_directories().and_then(|path| fs::read_to_string(path).ok());
    text.unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Writes what nginx includes; it reads it when it starts or is told to.
pub(super) fn hide(etc: &Path, directories: &[String]) -> Result<(), FileError> {
    write_atomic(&etc.join(FILE), rules(directories).as_bytes(), Access::Public)
}

fn reload(server: &WebServer) -> Result<(), FileError> {
    let failed =
        |source| FileError::Write { path: server.directory.join("etc").join(FILE), source };
    let holder = server.unit.holder().map_err(|error| failed(io::Error::other(error)))?;
    // One that does not run, or ends just now, reads the file when it starts.
    if let Some(pid) = holder {
        let _ = kill(pid, Signal::SIGHUP);
    }
    Ok(())
}

/// Within the location of uploads.
fn rules(directories: &[String]) -> String {
    let rule = |directory: &String| {
        if directory.is_empty() {
            return "return 403;\n".to_owned();
        }
        let name = directory.replace('\\', "\\\\").replace('"', "\\\"");
        format!("location ^~ \"/wp-content/uploads/{name}/\" {{ return 403; }}\n")
    };
    directories.iter().map(rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_quotes() {
        let names = ["woocommerce_uploads", "a b/c", r#"x" { } \"#].map(str::to_owned);
        assert_eq!(
            rules(&names),
            concat!(
                "location ^~ \"/wp-content/uploads/woocommerce_uploads/\" { return 403; }\n",
                "location ^~ \"/wp-content/uploads/a b/c/\" { return 403; }\n",
                "location ^~ \"/wp-content/uploads/x\\\" { } \\\\/\" { return 403; }\n",
            )
        );
        assert_eq!(rules(&[String::new()]), "return 403;\n");
    }
}
