//! What in a capture somebody should look at: changes that no plugin screen and no update makes.
//!
//! An alarm refuses nothing here. It is told with the capture, which then waits for somebody's word.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Change, shown};

/// How many paths an alarm names.
const PATHS_MAX: usize = 10;
const VERSION_FILE: &[u8] = b"wp-includes/version.php";

/// Something that should be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "alarm")]
pub enum Alarm {
    /// Programs lie among the uploads, where only media belong.
    PhpBelowUploads {
        /// The first of them.
        paths: Vec<String>,
        /// How many there are.
        count: usize,
    },
    /// WordPress' own files changed, and not by an update.
    CoreChanged {
        /// The first of them.
        paths: Vec<String>,
        /// How many there are.
        count: usize,
    },
    /// Files that never held still are not in the capture.
    LeftOut {
        /// The first of them.
        paths: Vec<String>,
        /// How many there are.
        count: usize,
    },
}

impl Alarm {
    /// Tells of files that were left out of a capture.
    #[must_use]
    pub fn left_out<'a>(paths: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        named(paths).map(|(paths, count)| Self::LeftOut { paths, count })
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, paths, count, advice) = match self {
            Self::PhpBelowUploads { paths, count } => (
                "programs among the uploads",
                paths,
                count,
                "delete them unless you put them there",
            ),
            Self::CoreChanged { paths, count } => (
                "files of WordPress changed without an update",
                paths,
                count,
                "`wp core verify-checksums` tells what differs; revert the capture unless you did it",
            ),
            Self::LeftOut { paths, count } => (
                "files that never held still were left out",
                paths,
                count,
                "let what writes them write below wp-content/uploads or wp-content/cache",
            ),
        };
        write!(formatter, "{what}: {}", paths.join(", "))?;
        if *count > paths.len() {
            write!(formatter, " and {} more", count - paths.len())?;
        }
        write!(formatter, " ({advice})")
    }
}

/// Looks at what changed, and at paths that were seen below `wp-content/uploads`, which are never
/// captured.
#[must_use]
pub fn alarms(changes: &[Change], uploads: &[Vec<u8>]) -> Vec<Alarm> {
    let mut alarms = Vec::new();
    let programs = uploads.iter().chain(changes.iter().map(|change| &change.path));
    let programs = programs.map(Vec::as_slice).filter(|path| is_php_below_uploads(path));
    if let Some((paths, count)) = named(programs) {
        alarms.push(Alarm::PhpBelowUploads { paths, count });
    }
    let paths = || changes.iter().map(|change| change.path.as_slice());
    if !paths().any(|path| path == VERSION_FILE)
        && let Some((paths, count)) = named(paths().filter(|path| is_core(path)))
    {
        alarms.push(Alarm::CoreChanged { paths, count });
    }
    alarms
}

/// Whether a path below `wp-content/uploads` has a name that a web server may take for PHP.
#[must_use]
pub fn is_php_below_uploads(path: &[u8]) -> bool {
    if !path.starts_with(b"wp-content/uploads/") {
        return false;
    }
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path).to_ascii_lowercase();
    // Some servers run `shell.php.jpg` as well, so each ending counts.
    name.split(|byte| *byte == b'.').skip(1).any(|end| {
        let digits = end.strip_prefix(b"php");
        matches!(end, b"phtml" | b"phar" | b"pht" | b"phps")
            || digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_digit))
    })
}

/// Whether a file is WordPress' own, or would be taken for one: any PHP at the top.
fn is_core(path: &[u8]) -> bool {
    path.starts_with(b"wp-admin/")
        || path.starts_with(b"wp-includes/")
        || (!path.contains(&b'/') && path.to_ascii_lowercase().ends_with(b".php"))
}

fn named<'a>(paths: impl IntoIterator<Item = &'a [u8]>) -> Option<(Vec<String>, usize)> {
    let mut named = Vec::new();
    let mut count = 0;
    for path in paths {
        count += 1;
        if named.len() < PATHS_MAX {
            named.push(shown(path));
        }
    }
    (count > 0).then_some((named, count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Happened;

    fn changed(paths: &[&str]) -> Vec<Change> {
        let change =
            |path: &&str| Change { path: path.as_bytes().to_vec(), happened: Happened::Edited };
        paths.iter().map(change).collect()
    }

    #[test]
    fn core_files_that_change_without_an_update_are_an_alarm() {
        for (paths, expected) in [
            (&["wp-includes/functions.php"][..], 1),
            (&["wp-login.php", "wp-admin/index.php"], 2),
            (&["shell.php"], 1),
            (&["wp-includes/functions.php", "wp-includes/version.php"], 0),
            (&["wp-content/plugins/a/wp-admin/x.php", ".htaccess", "robots.txt"], 0),
        ] {
            let found = alarms(&changed(paths), &[]);
            let count = found.iter().map(|alarm| match alarm {
                Alarm::CoreChanged { count, .. } => *count,
                other => panic!("{other}"),
            });
            assert_eq!(count.sum::<usize>(), expected, "{paths:?}");
        }
    }

    #[test]
    fn programs_among_uploads_are_an_alarm_and_media_are_not() {
        for bad in ["x.php", "2024/a.PHP7", "a.phtml", "b.php.jpg", "c.phar"] {
            let seen = vec![format!("wp-content/uploads/{bad}").into_bytes()];
            assert_eq!(alarms(&[], &seen).len(), 1, "{bad}");
        }
        for good in ["a.jpg", "php", "phpinfo.txt", "my.phpbook.pdf"] {
            let seen = vec![format!("wp-content/uploads/{good}").into_bytes()];
            assert_eq!(alarms(&[], &seen), [], "{good}");
        }
        assert!(!is_php_below_uploads(b"wp-content/plugins/x.php"));
    }

    #[test]
    fn an_alarm_names_some_paths_and_counts_the_rest() {
        let paths: Vec<String> = (0..12).map(|one| format!("wp-admin/{one:02}")).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let text = alarms(&changed(&paths), &[])[0].to_string();
        assert!(text.starts_with("files of WordPress changed without an update: wp-admin/00, "));
        assert!(text.contains("wp-admin/09 and 2 more ("), "{text}");
    }
}
