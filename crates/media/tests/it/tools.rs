//! Programs that others wrote, run on files of a mount.

use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a program with a file as its last argument; returns what it says.
pub(crate) fn run(program: &str, args: &[&str], file: &Path) -> String {
    #[expect(clippy::disallowed_methods, reason = "bounded by `timeout`")]
    let output = Command::new("timeout")
        .args(["--kill-after=5", "60", program])
        .args(args)
        .arg(file)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}
