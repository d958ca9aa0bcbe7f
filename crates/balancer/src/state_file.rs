//! The present table on disk, so that the balancer serves after a restart without the foreman.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use flotilla_core::table::Table;
use serde::{Deserialize, Serialize};

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Saved {
    /// The table.
    pub(crate) table: Table,
    /// The version that brought its release into service.
    pub(crate) since_version: u64,
}

/// Reads the file; none when there is none, or when it cannot be understood: then it is set aside.
pub(crate) fn load(path: &Path) -> io::Result<Option<Saved>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match serde_json::from_slice(&bytes) {
        Ok(saved) => Ok(Some(saved)),
        Err(error) => {
            let aside = beside(path, "corrupt");
            fs::rename(path, &aside)?;
            tracing::error!(
                %error,
                path = %path.display(),
                aside = %aside.display(),
                "The state file is corrupt and was set aside; no requests are served until the \
                 foreman sends a table"
            );
            Ok(None)
        }
    }
}

/// Replaces the file; when this returns, a crash of the machine cannot lose it.
pub(crate) fn save(path: &Path, saved: &Saved) -> io::Result<()> {
    let bytes = serde_json::to_vec_pretty(saved)?;
    let temporary = beside(path, "tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table.json");
        assert_eq!(load(&path).unwrap(), None);
        let saved = Saved { table: Table { version: 7, ..Table::default() }, since_version: 3 };
        save(&path, &saved).unwrap();
        save(&path, &saved).unwrap();
        assert_eq!(load(&path).unwrap(), Some(saved));
    }

    #[test]
    fn a_corrupt_file_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table.json");
        fs::write(&path, "{\"table\": ").unwrap();
        assert_eq!(load(&path).unwrap(), None);
        assert!(!path.exists());
        assert!(directory.path().join("table.json.corrupt").exists());
    }
}
