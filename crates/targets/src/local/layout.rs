//! Where everything of a local fleet lies, below one data directory.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use flotilla_core::id::InstanceName;
use flotilla_core::slot::SlotName;
use flotilla_host::files::{Access, FileError, is_aside_of, write_atomic};

/// The lock of a slot, below `<instance>/<colour>/`; the agent takes it.
pub const SLOT_LOCK: &str = "slot.lock";
/// The lock of an instance's session gateway, below `<instance>/`; the agent takes it.
pub const GATEWAY_LOCK: &str = "sessions/sessions.lock";
/// Where a machine's mount of the media is, below `<instance>/` and the foreman's directory.
pub const MEDIA_MOUNT: &str = "media";
/// The agent's own token, in the directory of its instance; the agent writes it.
pub const TOKEN: &str = "token";
/// The token that lets an agent join once, in the directory of its instance.
pub const JOIN_TOKEN: &str = "join-token";

const MARKER: &str = ".flotilla";
const MARKER_TEXT: &[u8] = b"This directory belongs to a fleet of flotilla.\n";
const DIRECTORIES: [&str; 9] =
    ["run", "log", "database", "sessions", "foreman", "balancer", "instances", "bucket", "media"];
const FILES: [&str; 7] = [
    "secrets.sealed",
    "secrets.key",
    "secrets.json",
    "ports.json",
    "supervisor.json",
    "flotilla.toml",
    "origin",
];

/// Says what is wrong with a data directory.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// It holds something else.
    #[error("`{0}` is not empty and not the data directory of a fleet")]
    NotOurs(PathBuf),
    /// The file system refuses.
    #[error("cannot use `{path}`")]
    System {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file in it cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The paths of one fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    data_dir: PathBuf,
}

impl Layout {
    /// Names the paths below a data directory; nothing is made yet.
    ///
    /// # Errors
    /// The path is relative and there is no working directory.
    pub fn new(data_dir: &Path) -> Result<Self, LayoutError> {
        let absolute = std::path::absolute(data_dir)
            .map_err(|source| LayoutError::System { path: data_dir.to_owned(), source })?;
        Ok(Self { data_dir: absolute })
    }

    /// Makes the directories that are missing, for this user alone.
    ///
    /// # Errors
    /// The directory holds something else, or the file system refuses.
    pub fn make(&self) -> Result<(), LayoutError> {
        make_private(&self.data_dir)?;
        if !self.is_ours() {
            let mut entries = fs::read_dir(&self.data_dir).map_err(|source| self.failed(source))?;
            if entries.next().is_some() {
                return Err(LayoutError::NotOurs(self.data_dir.clone()));
            }
            write_atomic(&self.data_dir.join(MARKER), MARKER_TEXT, Access::Private)?;
        }
        for name in DIRECTORIES {
            make_private(&self.data_dir.join(name))?;
        }
        Ok(())
    }

    /// Returns whether the data directory is that of a fleet.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.data_dir.join(MARKER).is_file()
    }

    /// Removes everything that a fleet made, and the data directory when nothing else is in it.
    /// What is removed while a process still uses it, comes back; stop everything first.
    ///
    /// # Errors
    /// It is not the data directory of a fleet, or the file system refuses.
    pub fn remove(&self) -> Result<(), LayoutError> {
        if !self.data_dir.exists() {
            return Ok(());
        }
        if !self.is_ours() {
            return Err(LayoutError::NotOurs(self.data_dir.clone()));
        }
        for name in DIRECTORIES {
            remove_directory(&self.data_dir.join(name))?;
        }
        let files = FILES.map(|name| self.data_dir.join(name));
        let asides = self.asides().map_err(|source| self.failed(source))?;
        // The marker last: a removal that was cut off can be done again.
        for path in files.into_iter().chain(asides).chain([self.data_dir.join(MARKER)]) {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(LayoutError::System { path, source });
                }
                _ => {}
            }
        }
        match fs::remove_dir(&self.data_dir) {
            Err(source) if source.kind() != io::ErrorKind::DirectoryNotEmpty => {
                Err(self.failed(source))
            }
            _ => Ok(()),
        }
    }

    /// Finds what was being written beside one of the files when its writer was killed.
    fn asides(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.data_dir)? {
            let path = entry?.path();
            if FILES.into_iter().chain([MARKER]).any(|name| is_aside_of(&path, name)) {
                found.push(path);
            }
        }
        Ok(found)
    }

    /// The data directory itself.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The site's secrets, encrypted.
    #[must_use]
    pub fn secrets(&self) -> PathBuf {
        self.data_dir.join("secrets.sealed")
    }

    /// The key of the secrets, unless the configuration names another place.
    #[must_use]
    pub fn secrets_key(&self) -> PathBuf {
        self.data_dir.join("secrets.key")
    }

    /// Where an older version kept the secrets in clear.
    #[must_use]
    pub fn secrets_in_clear(&self) -> PathBuf {
        self.data_dir.join("secrets.json")
    }

    /// The configuration that the running fleet was started with.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.data_dir.join("flotilla.toml")
    }

    /// The file that names the directory of the site: paths in the configuration start there.
    #[must_use]
    pub fn origin(&self) -> PathBuf {
        self.data_dir.join("origin")
    }

    /// Which port each role has.
    #[must_use]
    pub fn ports(&self) -> PathBuf {
        self.data_dir.join("ports.json")
    }

    /// What the supervisor says of its services.
    #[must_use]
    pub fn supervisor_state(&self) -> PathBuf {
        self.data_dir.join("supervisor.json")
    }

    /// The database: its configuration, its data, its temporary files.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.data_dir.join("database")
    }

    /// The session store's directory.
    #[must_use]
    pub fn sessions(&self) -> PathBuf {
        self.data_dir.join("sessions")
    }

    /// The foreman's own directory.
    #[must_use]
    pub fn foreman(&self) -> PathBuf {
        self.data_dir.join("foreman")
    }

    /// The balancer's own directory.
    #[must_use]
    pub fn balancer(&self) -> PathBuf {
        self.data_dir.join("balancer")
    }

    /// The store of media with S3's interface.
    #[must_use]
    pub fn bucket(&self) -> PathBuf {
        self.data_dir.join("bucket")
    }

    /// Media where they are kept without a bucket.
    #[must_use]
    pub fn media(&self) -> PathBuf {
        self.data_dir.join("media")
    }

    /// The foreman's mount of the media.
    #[must_use]
    pub fn foreman_media(&self) -> PathBuf {
        self.foreman().join(MEDIA_MOUNT)
    }

    /// An instance's mount of the media.
    #[must_use]
    pub fn instance_media(&self, name: &InstanceName) -> PathBuf {
        self.instance(name).join(MEDIA_MOUNT)
    }

    /// The directory of all instances.
    #[must_use]
    pub fn instances(&self) -> PathBuf {
        self.data_dir.join("instances")
    }

    /// The directory of one instance.
    #[must_use]
    pub fn instance(&self, name: &InstanceName) -> PathBuf {
        self.instances().join(name.as_str())
    }

    /// The token with which an agent may join.
    #[must_use]
    pub fn join_token(&self, name: &InstanceName) -> PathBuf {
        self.instance(name).join(JOIN_TOKEN)
    }

    /// The agent's own token.
    #[must_use]
    pub fn token(&self, name: &InstanceName) -> PathBuf {
        self.instance(name).join(TOKEN)
    }

    /// The directory of all locks.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.data_dir.join("run")
    }

    /// The lock that a service holds while it runs.
    #[must_use]
    pub fn lock(&self, service: &str) -> PathBuf {
        self.run().join(format!("{service}.lock"))
    }

    /// The directory of all logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.data_dir.join("log")
    }

    /// The log of a service.
    #[must_use]
    pub fn log(&self, service: &str) -> PathBuf {
        self.logs().join(format!("{service}.log"))
    }

    /// Returns the instances that have a directory.
    #[must_use]
    pub fn instances_made(&self) -> Vec<InstanceName> {
        let Ok(entries) = fs::read_dir(self.instances()) else { return Vec::new() };
        let mut names: Vec<InstanceName> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        names.sort_unstable();
        names
    }

    fn failed(&self, source: io::Error) -> LayoutError {
        LayoutError::System { path: self.data_dir.clone(), source }
    }
}

/// Returns the lock of a slot in the directory of its instance.
#[must_use]
pub fn slot_lock(instance_dir: &Path, slot: SlotName) -> PathBuf {
    instance_dir.join(slot.as_str()).join(SLOT_LOCK)
}

/// Makes a directory that only its owner may enter, and its parents, unless it is there.
pub(crate) fn make_private(path: &Path) -> Result<(), LayoutError> {
    let attempt = || {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            outcome => outcome,
        }
    };
    attempt().map_err(|source| LayoutError::System { path: path.to_owned(), source })
}

/// Removes a directory with all that is in it, if it is there.
pub(crate) fn remove_directory(path: &Path) -> Result<(), LayoutError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(LayoutError::System { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_data_directory_is_private_and_removed_without_a_trace() {
        let parent = tempfile::tempdir().unwrap();
        let layout = Layout::new(&parent.path().join("fleet")).unwrap();
        layout.make().unwrap();
        layout.make().unwrap();
        let mode = fs::metadata(layout.data_dir()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        fs::write(layout.data_dir().join(".supervisor.json.42.new"), "{").unwrap();
        layout.remove().unwrap();
        assert!(!layout.data_dir().exists());
        layout.remove().unwrap();
    }

    #[test]
    fn a_directory_with_something_else_in_it_is_neither_used_nor_removed() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join("thesis.txt"), "work").unwrap();
        let layout = Layout::new(parent.path()).unwrap();
        assert!(matches!(layout.make(), Err(LayoutError::NotOurs(_))));
        assert!(matches!(layout.remove(), Err(LayoutError::NotOurs(_))));
        assert!(parent.path().join("thesis.txt").exists());
    }

    #[test]
    fn what_others_put_beside_a_fleet_stays() {
        let parent = tempfile::tempdir().unwrap();
        let layout = Layout::new(parent.path()).unwrap();
        layout.make().unwrap();
        fs::write(parent.path().join("note.txt"), "mine").unwrap();
        layout.remove().unwrap();
        let left: Vec<_> = fs::read_dir(parent.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn a_removal_that_was_cut_off_can_be_done_again() {
        let parent = tempfile::tempdir().unwrap();
        let layout = Layout::new(&parent.path().join("fleet")).unwrap();
        layout.make().unwrap();
        fs::remove_dir(layout.database()).unwrap();
        assert!(layout.is_ours());
        layout.remove().unwrap();
        assert!(!layout.data_dir().exists());
    }
}
