//! A list of nodes in a file, which is read again when it changes.
//!
//! The gateway is a process of its own, so a file is the simplest way for the agent to tell it of a
//! change: it outlives both, is written by one rename, and a person can read it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flotilla_host::tasks::Tasks;
use tokio::sync::watch;
use tokio::time::sleep;

/// How often the file is read.
const READ_INTERVAL: Duration = Duration::from_millis(500);
/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Reads a list of nodes, one `host:port` a line, and follows its changes.
///
/// Blank lines and what follows a `#` are left out. A file that cannot be read later on, or that
/// names no node, changes nothing: a list is never emptied for want of news.
///
/// # Errors
/// The file cannot be read now, or names no node.
pub fn follow_node_file(path: PathBuf, tasks: &Tasks) -> io::Result<watch::Receiver<Vec<String>>> {
    let (list, receiver) = watch::channel(read(&path)?);
    let stop = tasks.stopping();
    let follow = async move {
        let mut is_told = false;
        loop {
            sleep(READ_INTERVAL).await;
            match read(&path) {
                Ok(nodes) => {
                    is_told = false;
                    list.send_if_modified(|present| {
                        let is_new = *present != nodes;
                        *present = nodes;
                        is_new
                    });
                }
                Err(error) if !is_told => {
                    is_told = true;
                    tracing::warn!(path = %path.display(), %error,
                        "Cannot read the list of session nodes; going on with the last one");
                }
                Err(_) => {}
            }
        }
    };
    tasks.spawn("follow_node_file", async move {
        stop.run_until_cancelled(follow).await;
    });
    Ok(receiver)
}

fn read(path: &Path) -> io::Result<Vec<String>> {
    let bytes = path.metadata()?.len();
    if bytes > FILE_BYTES_MAX {
        let text = format!("it has {bytes} bytes; {FILE_BYTES_MAX} at most are read");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let nodes = parse(&std::fs::read_to_string(path)?);
    if nodes.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it names no node"));
    }
    Ok(nodes)
}

fn parse(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blank_lines_are_no_nodes() {
        let text = "# nodes\n10.0.0.1:11211\n\n  10.0.0.2:11211  # the new one\n";
        assert_eq!(parse(text), ["10.0.0.1:11211", "10.0.0.2:11211"]);
    }

    #[test]
    fn a_file_without_nodes_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nodes");
        std::fs::write(&path, "# none\n").unwrap();
        assert!(read(&path).is_err());
    }
}
