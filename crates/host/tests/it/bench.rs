//! A directory with services in it that all end with the test.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flotilla_host::launch::Launch;
use flotilla_host::lock::lock_holder;
use flotilla_host::room::Room;
use flotilla_host::session;
use flotilla_host::unit::Unit;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid, chown};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);
const NOBODY: u32 = 65_534;

/// As whom services are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Starter {
    /// Whoever runs the tests.
    Ourselves,
    /// A user without rights.
    Ordinary,
}

impl Starter {
    /// All that can be tried here: only root can become somebody else, and in a chroot the kernel
    /// gives others no namespaces.
    pub(crate) fn all() -> Vec<Self> {
        if Uid::effective().is_root() && ordinary_users_have_namespaces() {
            vec![Self::Ourselves, Self::Ordinary]
        } else {
            vec![Self::Ourselves]
        }
    }
}

/// Asks another program than ours.
#[expect(clippy::disallowed_methods, reason = "it ends at once, and nothing of it is read")]
fn ordinary_users_have_namespaces() -> bool {
    let user = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
    std::process::Command::new("setpriv")
        .args(user)
        .args(["--clear-groups", "unshare", "--user", "--map-root-user", "--mount", "true"])
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

pub(crate) struct Bench {
    directory: TempDir,
    own_program: PathBuf,
    starter: Starter,
}

impl Bench {
    pub(crate) fn new(starter: Starter) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::set_permissions(root, Permissions::from_mode(0o755)).unwrap();
        let mut own_program = root.join("launcher");
        // Beside the directories of this binary; a copy, because others may not look there.
        let built = std::env::current_exe().unwrap();
        let built = built.parent().and_then(Path::parent).unwrap().join("examples/host_launcher");
        fs::copy(&built, &own_program).unwrap();
        let bench = if starter == Starter::Ordinary {
            let script = format!(
                "#!/bin/sh\nexec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups {} \"$@\"\n",
                own_program.display()
            );
            own_program = root.join("as-nobody");
            fs::write(&own_program, script).unwrap();
            fs::set_permissions(&own_program, Permissions::from_mode(0o755)).unwrap();
            Self { directory, own_program, starter }
        } else {
            Self { directory, own_program, starter }
        };
        bench.own(bench.path());
        bench
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The launcher itself, without becoming another user first.
    pub(crate) fn launcher(&self) -> PathBuf {
        self.path().join("launcher")
    }

    /// Makes a directory that services can write to.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir(&path).unwrap();
        self.own(&path);
        path
    }

    /// Makes a service of a shell script; `$0` is the launcher.
    pub(crate) fn shell(&self, name: &str, script: &str) -> Unit {
        let launcher = self.launcher().display().to_string();
        self.unit(name, "/bin/sh", vec!["-c".to_owned(), script.to_owned(), launcher])
    }

    pub(crate) fn unit(&self, name: &str, program: impl Into<PathBuf>, args: Vec<String>) -> Unit {
        Unit {
            name: name.to_owned(),
            own_program: self.own_program.clone(),
            launch: Launch {
                program: program.into(),
                args,
                env: vec![("PATH".to_owned(), "/usr/sbin:/usr/bin:/sbin:/bin".to_owned())],
                directory: PathBuf::from("/"),
                lock: self.path().join(format!("{name}.lock")),
                log: self.path().join(format!("{name}.log")),
                user: None,
                room: None,
            },
            stop_signal: Signal::SIGTERM,
            stop_timeout: PATIENCE,
        }
    }

    /// Returns what a script wrote to a file of the bench, as soon as it is there.
    pub(crate) async fn written(&self, file: &str) -> String {
        let path = self.path().join(file);
        eventually(file, || fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n')))
            .await
    }

    fn own(&self, path: &Path) {
        if self.starter == Starter::Ordinary {
            chown(path, Some(Uid::from_raw(NOBODY)), Some(Gid::from_raw(NOBODY))).unwrap();
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.path()).unwrap().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "lock")
                && let Ok(Some(pid)) = lock_holder(&path)
            {
                session::kill_all(Pid::from_raw(pid)).unwrap();
            }
        }
    }
}

pub(crate) fn in_room(mut unit: Unit, room: Room) -> Unit {
    unit.launch.room = Some(room);
    unit
}

/// Waits until a condition gives a value.
pub(crate) async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let poll = async {
        loop {
            if let Some(value) = condition() {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, poll).await.unwrap_or_else(|_| panic!("not seen: {what}"))
}

pub(crate) async fn gone(unit: &Unit) {
    eventually("the end of the unit", || unit.holder().unwrap().is_none().then_some(())).await;
}
