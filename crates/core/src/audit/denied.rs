//! What PHP says in its error log when a write is denied.

use serde::{Deserialize, Serialize};

/// A write that was denied.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Denied {
    /// PHP's function.
    pub function: String,
    /// The path, when PHP tells it.
    pub path: Option<String>,
    /// What the system said.
    pub reason: String,
    /// The script that tried, as PHP sees it.
    pub script: String,
    /// Its line.
    pub line: usize,
}

const FULL: &str = "No space left on device";
const REASONS: [&str; 3] = ["Read-only file system", "Permission denied", FULL];

impl Denied {
    /// Whether the place could be written, but was full.
    #[must_use]
    pub fn is_for_want_of_space(&self) -> bool {
        self.reason == FULL
    }
}

const FUNCTIONS: [&str; 14] = [
    "chmod",
    "copy",
    "file_put_contents",
    "fopen",
    "fwrite",
    "mkdir",
    "move_uploaded_file",
    "rename",
    "rmdir",
    "symlink",
    "tempnam",
    "touch",
    "unlink",
    "ZipArchive::close",
];

/// Reads a line of PHP's error log; `None` when it tells of something else.
#[must_use]
pub fn denied_write(line: &str) -> Option<Denied> {
    let (_, message) = line.split_once("PHP Warning:")?;
    let reason = REASONS.into_iter().find(|reason| message.contains(reason))?;
    let (call, _) = message.trim_start().split_once(reason)?;
    let (function, rest) = call.split_once('(')?;
    let function = FUNCTIONS.into_iter().find(|known| *known == function.trim())?;
    let (arguments, after) = rest.split_once(')')?;
    let (place, number) = message.rsplit_once(" on line ")?;
    let (_, script) = place.rsplit_once(" in ")?;
    // Of two paths the second is the one that is made.
    let named = arguments.rsplit(',').next().map(str::trim).filter(|path| path.starts_with('/'));
    let told = after.split_once("create file ").and_then(|(_, rest)| rest.split(' ').next());
    Some(Denied {
        function: function.to_owned(),
        path: named.or(told).map(str::to_owned),
        reason: reason.to_owned(),
        script: script.to_owned(),
        line: number.trim().parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denied_writes_are_read_and_other_lines_are_not() {
        let at = "in /srv/flotilla/site/wp-content/plugins/shop/log.php on line 12";
        for (message, function, path) in [
            (
                "file_put_contents(/srv/x.log): Failed to open stream: Read-only file system",
                "file_put_contents",
                Some("/srv/x.log"),
            ),
            ("mkdir(): Permission denied", "mkdir", None),
            ("rename(/tmp/a,/srv/b): Read-only file system", "rename", Some("/srv/b")),
            (
                "touch(): Unable to create file /srv/t because Read-only file system",
                "touch",
                Some("/srv/t"),
            ),
        ] {
            let line = format!("[25-Nov-2026 22:00:00 UTC] PHP Warning:  {message} {at}");
            let denied = denied_write(&line).unwrap();
            assert_eq!(
                (denied.function.as_str(), denied.path.as_deref()),
                (function, path),
                "{line}"
            );
            assert_eq!(denied.line, 12);
            assert!(denied.script.ends_with("shop/log.php"), "{denied:?}");
        }
        for other in [
            "",
            "[x] PHP Warning:  Undefined variable $a in /srv/a.php on line 1",
            "[x] PHP Warning:  include(/srv/a): Failed to open stream: Permission denied in /a.php on line 1",
            "[x] PHP Notice:  mkdir(): Permission denied",
        ] {
            assert_eq!(denied_write(other), None, "{other}");
        }
    }
}
