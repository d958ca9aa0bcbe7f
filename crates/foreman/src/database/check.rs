//! Looks at a dump before it is restored: whole, of one database, with this site's tables.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::DatabaseError;
use super::dump::{END, END_BYTES};

const PIECE_BYTES: usize = 256 * 1024;
/// How much of a line is looked at.
const LINE_BYTES: usize = 200;

/// Checks a dump. Blocks.
pub(super) fn check(path: &Path, table_prefix: &str) -> Result<(), DatabaseError> {
    let error = |source| DatabaseError::File { action: "read", path: path.to_owned(), source };
    let refuse = |problem: String| DatabaseError::NotRestorable { path: path.to_owned(), problem };
    let mut file = File::open(path).map_err(error)?;
    let size = file.metadata().map_err(error)?.len();
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(size.saturating_sub(END_BYTES as u64))).map_err(error)?;
    file.read_to_end(&mut end).map_err(error)?;
    if !String::from_utf8_lossy(&end).contains(END) {
        let problem = "it has no end (`-- Dump completed`): it broke off, is compressed, or no dump \
                       of mariadb-dump or mysqldump";
        return Err(refuse(problem.to_owned()));
    }
    file.seek(SeekFrom::Start(0)).map_err(error)?;
    let mut lines =
        Lines { wanted: format!("CREATE TABLE `{table_prefix}options`"), ..Lines::default() };
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = file.read(&mut piece).map_err(error)?;
        if count == 0 {
            break;
        }
        lines.take(piece.get(..count).unwrap_or_default()).map_err(refuse)?;
    }
    if !lines.has_options {
        return Err(refuse(format!(
            "it has no table `{table_prefix}options`; `database.table_prefix` in flotilla.toml is to \
             be what the names of its tables begin with"
        )));
    }
    Ok(())
}

#[derive(Default)]
struct Lines {
    wanted: String,
    has_options: bool,
    /// The beginning of the present line.
    line: Vec<u8>,
}

impl Lines {
    fn take(&mut self, piece: &[u8]) -> Result<(), String> {
        let mut parts = piece.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            let room = LINE_BYTES.saturating_sub(self.line.len());
            self.line.extend_from_slice(part.get(..part.len().min(room)).unwrap_or_default());
            if parts.peek().is_some() {
                self.judge()?;
                self.line.clear();
            }
        }
        Ok(())
    }

    fn judge(&mut self) -> Result<(), String> {
        let line = String::from_utf8_lossy(&self.line);
        self.has_options |= line.starts_with(&self.wanted);
        let is_other = ["USE `", "CREATE DATABASE", "DROP DATABASE"].iter();
        if is_other.clone().any(|start| line.starts_with(start)) {
            return Err("it names a database itself; make it without `--databases`".to_owned());
        }
        // mariadb-dump hides these behind a comment that servers run.
        let hidden = ["/*!50003 CREATE", "/*!50001 CREATE", "/*!50106"];
        let is_hidden = hidden.iter().any(|start| line.starts_with(start));
        if is_hidden
            && ["TRIGGER", "VIEW", "EVENT", "PROCEDURE", "FUNCTION"]
                .iter()
                .any(|word| line.contains(word))
        {
            return Err(
                "it has a trigger, view, event or routine, which cannot be moved into a live \
                        database; take it out and make it by hand afterwards (`flotilla db shell`)"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(text: &str) -> Result<(), String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dump.sql");
        std::fs::write(&path, text).unwrap();
        check(&path, "wp_").map_err(|error| error.to_string())
    }

    #[test]
    fn only_a_whole_dump_of_this_site_is_restored() {
        let whole =
            "-- MariaDB dump\nCREATE TABLE `wp_options` (\nINSERT …;\n-- Dump completed on x\n";
        assert_eq!(judge(whole), Ok(()));
        let long = whole.replace("INSERT", &"x".repeat(3 * PIECE_BYTES));
        assert_eq!(judge(&long), Ok(()));
        for (text, word) in [
            (&whole[..40], "no end"),
            (&whole.replace("wp_", "shop_"), "table_prefix"),
            (&whole.replace("INSERT", "\nUSE `other`"), "names a database"),
            (&whole.replace("INSERT", "\n/*!50003 CREATE*/ /*!50003 TRIGGER t"), "trigger"),
        ] {
            let error = judge(text).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
