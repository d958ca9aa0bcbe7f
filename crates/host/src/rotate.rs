//! Keeps logs from growing without end: what is in them is put aside, and they begin anew.
//!
//! A log stays the same file, because it is held open by programs that would have to be told. They
//! all append, so what they write next stands at its beginning. A line that is written in the
//! moment between the copy and the cut is lost.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc::O_NOFOLLOW;

/// When and how far back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// The size in bytes beyond which a log is put aside.
    pub bytes_max: u64,
    /// How many older files are kept of each log: `x.log.1` is the newest.
    pub keep: u16,
}

impl Rotation {
    /// Puts every log of a directory aside that has grown too large; returns how many.
    ///
    /// A directory that is not there has no logs. The directory must belong to whoever calls.
    ///
    /// # Errors
    /// The file system refuses; the other logs were looked at.
    pub fn apply(self, directory: &Path) -> io::Result<usize> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            entries => entries?,
        };
        let (mut count, mut outcome) = (0, Ok(()));
        for entry in entries.flatten() {
            let path = entry.path();
            let is_log = path.extension().is_some_and(|extension| extension == "log");
            let is_large =
                entry.metadata().is_ok_and(|meta| meta.is_file() && meta.len() > self.bytes_max);
            if is_log && is_large {
                count += 1;
                outcome = outcome.and(self.rotate(&path));
            }
        }
        outcome.map(|()| count)
    }

    fn rotate(self, log: &Path) -> io::Result<()> {
        let mut file =
            OpenOptions::new().read(true).write(true).custom_flags(O_NOFOLLOW).open(log)?;
        if self.keep > 0 {
            let aside = numbered(log, "new");
            let mut copy = File::create(&aside)?;
            copy.set_permissions(file.metadata()?.permissions())?;
            io::copy(&mut file, &mut copy)?;
            for number in (1..self.keep).rev() {
                let older = numbered(log, &number.to_string());
                match fs::rename(older, numbered(log, &(number + 1).to_string())) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            fs::rename(aside, numbered(log, "1"))?;
        }
        file.set_len(0)
    }
}

fn numbered(log: &Path, number: &str) -> PathBuf {
    let mut name = OsString::from(log);
    name.push(".");
    name.push(number);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Write;

    use super::*;

    fn contents(directory: &Path) -> BTreeMap<String, String> {
        fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, fs::read_to_string(path).unwrap())
            })
            .collect()
    }

    #[test]
    fn a_log_is_put_aside_while_a_program_appends_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("foreman.log");
        let mut writer = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        let rotation = Rotation { bytes_max: 5, keep: 2 };
        for text in ["first-", "second", "third-"] {
            writer.write_all(text.as_bytes()).unwrap();
            assert_eq!(rotation.apply(directory.path()).unwrap(), 1);
        }
        writer.write_all(b"small").unwrap();
        assert_eq!(rotation.apply(directory.path()).unwrap(), 0);
        let expected =
            [("foreman.log", "small"), ("foreman.log.1", "third-"), ("foreman.log.2", "second")];
        let expected = expected.map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_eq!(contents(directory.path()), BTreeMap::from(expected));
    }

    #[test]
    fn nothing_is_kept_when_nothing_shall_be_kept() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a.log"), "long enough").unwrap();
        assert_eq!(Rotation { bytes_max: 5, keep: 0 }.apply(directory.path()).unwrap(), 1);
        let expected = BTreeMap::from([("a.log".to_owned(), String::new())]);
        assert_eq!(contents(directory.path()), expected);
    }

    #[test]
    fn only_logs_are_touched() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("log");
        fs::create_dir(&directory).unwrap();
        fs::write(place.path().join("outside"), "long enough").unwrap();
        fs::write(directory.join("a.log.1"), "long enough").unwrap();
        fs::write(directory.join("database"), "long enough").unwrap();
        fs::create_dir(directory.join("directory.log")).unwrap();
        std::os::unix::fs::symlink("../outside", directory.join("link.log")).unwrap();
        let rotation = Rotation { bytes_max: 5, keep: 2 };
        assert_eq!(rotation.apply(&directory).unwrap(), 0);
        assert_eq!(rotation.apply(&place.path().join("absent")).unwrap(), 0);
        assert_eq!(fs::read_to_string(place.path().join("outside")).unwrap(), "long enough");
    }
}
