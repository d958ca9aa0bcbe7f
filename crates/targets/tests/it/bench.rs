//! A data directory whose processes all end with the test.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flotilla_host::lock::lock_holder;
use flotilla_host::session;
use flotilla_targets::local::Layout;
use flotilla_targets::local::services::Services;
use nix::unistd::{Gid, Pid, Uid, chown};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(50);
const NOBODY: u32 = 65_534;

/// As whom the fleet is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Whoever runs the tests.
    Ourselves,
    /// A user without rights; only root can try that.
    Ordinary,
}

pub(crate) struct Bench {
    directory: TempDir,
    pub(crate) layout: Layout,
    pub(crate) services: Services,
}

impl Bench {
    pub(crate) fn new(owner: Owner) -> Self {
        Self::with_data_dir(owner, "fleet")
    }

    pub(crate) fn with_data_dir(owner: Owner, name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::set_permissions(root, Permissions::from_mode(0o755)).unwrap();
        let mut own_program = root.join("launcher");
        let built = std::env::current_exe().unwrap();
        let built =
            built.parent().and_then(Path::parent).unwrap().join("examples/targets_launcher");
        fs::copy(&built, &own_program).unwrap();
        if owner == Owner::Ordinary {
            chown(root, Some(Uid::from_raw(NOBODY)), Some(Gid::from_raw(NOBODY))).unwrap();
            // The supervisor, which is this user already, launches others by it, too.
            let script = format!(
                "#!/bin/sh
test $(id -u) = {NOBODY} && exec {program} \"$@\"
exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups {program} \"$@\"\n",
                program = own_program.display()
            );
            own_program = root.join("as-nobody");
            fs::write(&own_program, script).unwrap();
            fs::set_permissions(&own_program, Permissions::from_mode(0o755)).unwrap();
        }
        let layout = Layout::new(&root.join(name)).unwrap();
        layout.make().unwrap();
        if owner == Owner::Ordinary {
            own(layout.data_dir());
        }
        let services = Services {
            layout: layout.clone(),
            own_program,
            timezone: "UTC".to_owned(),
            env: Vec::new(),
        };
        Self { directory, layout, services }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn inventory(&self, names: &str) {
        fs::write(self.layout.foreman().join("names"), names).unwrap();
    }
}

fn own(path: &Path) {
    chown(path, Some(Uid::from_raw(NOBODY)), Some(Gid::from_raw(NOBODY))).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().flatten().for_each(|entry| own(&entry.path()));
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // The supervisor first, or it starts the others again.
        let mut locks = vec![self.layout.lock("supervisor")];
        find_locks(self.path(), &mut locks);
        for lock in locks {
            if let Ok(Some(pid)) = lock_holder(&lock) {
                session::kill_all(Pid::from_raw(pid)).unwrap();
            }
        }
    }
}

fn find_locks(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            find_locks(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "lock") {
            found.push(path);
        }
    }
}

/// Waits until a condition gives a value.
pub(crate) async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let poll = async {
        loop {
            if let Some(value) = condition() {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, poll).await.unwrap_or_else(|_| panic!("not seen: {what}"))
}
