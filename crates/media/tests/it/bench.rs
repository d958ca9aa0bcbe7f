//! A server, and instances that have its bucket mounted; all of it ends with the test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use flotilla_media::{Credentials, Keeper, Options, Owner, StoreOptions};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::proxy::Proxy;
use crate::server::{Kind, Server};

/// How long anything may take that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A server and a directory for everything.
pub(crate) struct Bench {
    pub(crate) proxy: Proxy,
    server: Server,
    directory: TempDir,
}

/// A machine that has the bucket mounted.
pub(crate) struct Instance {
    keeper: Child,
    directory: PathBuf,
}

impl Bench {
    pub(crate) fn new(kind: Kind) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::start(kind);
        let address = server.access().endpoint.strip_prefix("http://").unwrap().parse().unwrap();
        Self { proxy: Proxy::before(address), server, directory }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn store_options(&self) -> StoreOptions {
        let access = self.server.access();
        StoreOptions {
            endpoint: Some(format!("http://{}", self.proxy.address())),
            region: access.region.clone(),
            bucket: access.bucket.clone(),
            prefix: "uploads/".to_owned(),
            credentials: Some(Credentials {
                access_key_id: access.access_key.clone(),
                secret_access_key: access.secret_key.clone(),
            }),
            certificates: None,
        }
    }

    pub(crate) fn options(&self, name: &str) -> Options {
        Options {
            store: self.store_options(),
            directory: self.path().join(name),
            cache_bytes_max: 256 * 1024 * 1024,
            owner: Owner { uid: 0, gid: 0, file_mode: 0o644, directory_mode: 0o755 },
            staleness: Duration::from_millis(200),
        }
    }

    pub(crate) fn instance(&self, name: &str) -> Instance {
        Instance::start(self.options(name))
    }

    /// Makes an instance whose way to the server is never disturbed.
    pub(crate) fn undisturbed_instance(&self, name: &str) -> Instance {
        let mut options = self.options(name);
        options.store.endpoint = Some(self.server.access().endpoint.clone());
        Instance::start(options)
    }

    pub(crate) fn instances(&self, count: usize) -> Vec<Instance> {
        (1..=count).map(|number| self.instance(&format!("web-{number}"))).collect()
    }
}

impl Instance {
    pub(crate) fn start(options: Options) -> Self {
        let directory = options.directory.clone();
        fs::create_dir_all(&directory).unwrap();
        let built = std::env::current_exe().unwrap();
        let program = built.parent().and_then(Path::parent).unwrap().join("examples/media_process");
        let options_file = directory.join("options.json");
        fs::write(&options_file, serde_json::to_vec(&options).unwrap()).unwrap();
        let keeper = Keeper {
            mount_point: directory.join("mounted"),
            options,
            program: program.clone(),
            args: ["internal", "media-daemon"]
                .map(str::to_owned)
                .into_iter()
                .chain([options_file.display().to_string()])
                .collect(),
            options_file,
        };
        let keeper_file = directory.join("keeper.json");
        fs::write(&keeper_file, serde_json::to_vec(&keeper).unwrap()).unwrap();
        let log = File::create(directory.join("log")).unwrap();
        #[expect(clippy::disallowed_methods, reason = "it is killed when the test ends")]
        let mut command = Command::new(program);
        command
            .args(["internal", "media-keeper"])
            .arg(&keeper_file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let keeper = command.spawn().unwrap();
        let instance = Self { keeper, directory };
        eventually("the mount", PATIENCE, || instance.is_mounted().then_some(()));
        instance
    }

    fn is_mounted(&self) -> bool {
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", self.keeper.id()));
        let log = self.log();
        mounts.is_ok_and(|mounts| mounts.contains("fuse.flotilla")) && log.contains("answers")
    }

    /// Returns the mounted directory, seen through the keeper's namespace.
    pub(crate) fn root(&self) -> PathBuf {
        let inside = self.directory.join("mounted");
        let inside = inside.strip_prefix("/").unwrap();
        PathBuf::from(format!("/proc/{}/root", self.keeper.id())).join(inside)
    }

    /// Returns the directory of the instance's own files.
    pub(crate) fn own(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Returns the running daemon.
    pub(crate) fn daemon(&self) -> Option<Pid> {
        let keeper = self.keeper.id();
        let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok().map(Pid::from_raw)
    }

    /// Kills the daemon and returns when another one runs.
    pub(crate) fn kill_daemon(&self) {
        let old = eventually("a daemon", PATIENCE, || self.daemon());
        kill(old, Signal::SIGKILL).unwrap();
        eventually("another daemon", PATIENCE, || self.daemon().filter(|new| *new != old));
    }

    /// Waits for the end of the keeper.
    pub(crate) fn ended(&mut self) -> std::process::ExitStatus {
        eventually("the end of the keeper", PATIENCE, || self.keeper.try_wait().unwrap())
    }

    /// Runs a shell script in the mounted directory, as seen in the keeper's namespaces.
    pub(crate) fn shell(&self, script: &str) -> (bool, String) {
        let script = format!("cd '{}' && {script}", self.directory.join("mounted").display());
        #[expect(clippy::disallowed_methods, reason = "bounded by `timeout`")]
        let output = Command::new("timeout")
            .args(["--kill-after=5", "300", "nsenter", "--mount", "--root", "--wd=/", "--target"])
            .arg(self.keeper.id().to_string())
            .args(["--", "sh", "-c", &script])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let path = self.directory.display();
            println!("the log of `{path}`:\n{}", self.log());
        }
        // The daemon dies with its keeper.
        drop(self.keeper.kill());
        drop(self.keeper.wait());
    }
}

/// Waits until a condition gives a value.
pub(crate) fn eventually<T>(
    what: &str,
    patience: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    #[expect(clippy::disallowed_types, reason = "no runtime is here to wait with")]
    let started_at = std::time::Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(started_at.elapsed() < patience, "not seen: {what}");
        #[expect(clippy::disallowed_methods, reason = "no runtime is here to wait with")]
        std::thread::sleep(Duration::from_millis(5));
    }
}
