//! Two S3 stores to test against: the one that a local fleet has, and one that others wrote.
//!
//! What works with both is likely to work with Amazon's, too.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, ensure};
use flotilla_bucket::{Limits, Options, start};
use flotilla_host::tasks::Tasks;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::wait::until;

/// How long SeaweedFS may take to be ready, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How often other ports are tried: between being drawn and being used, another may take one.
const START_TRIES: usize = 3;
const STOP_LIMIT: Duration = Duration::from_secs(20);
const ACCESS_KEY: &str = "test-access";
const SECRET_KEY: &str = "test-secret-0123456789";
const BUCKET: &str = "media";
const REGION: &str = "us-east-1";

/// What a client needs to use a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// `http://127.0.0.1:PORT`; buckets are named in the path.
    pub endpoint: String,
    /// A bucket that is there.
    pub bucket: String,
    /// The region to sign for.
    pub region: String,
    /// Names the pair of keys.
    pub access_key: String,
    /// The secret half.
    pub secret_key: String,
}

impl Access {
    fn to(address: SocketAddr) -> Self {
        Self {
            endpoint: format!("http://{address}"),
            bucket: BUCKET.to_owned(),
            region: REGION.to_owned(),
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
        }
    }
}

/// The store of flotilla, on a thread of its own; dropping it stops it and removes its data.
#[derive(Debug)]
pub struct EmbeddedStore {
    /// How to use it.
    pub access: Access,
    stopping: CancellationToken,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
    directory: TempDir,
}

impl EmbeddedStore {
    /// Starts it.
    ///
    /// # Errors
    /// It does not start.
    pub fn start() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let options = Options {
            listen: ([127, 0, 0, 1], 0).into(),
            directory: directory.path().join("store"),
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
            bucket: BUCKET.to_owned(),
            limits: Limits { free_bytes_min: 0, ..Limits::default() },
        };
        let tasks = Tasks::new();
        let stopping = tasks.stopping();
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new().name("bucket".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let bucket = start(options, &tasks).await?;
                sender.send(bucket.address())?;
                bucket.ended().await?;
                ensure!(tasks.shut_down(STOP_LIMIT).await, "the store does not stop");
                Ok(())
            })
        })?;
        match receiver.recv() {
            Ok(address) => {
                let thread = Some(thread);
                Ok(Self { access: Access::to(address), stopping, thread, directory })
            }
            Err(_ended) => match thread.join() {
                Ok(outcome) => Err(outcome.err().context("the store ended at once")?),
                Err(_panic) => anyhow::bail!("the store panicked"),
            },
        }
    }

    /// Returns where it keeps its data.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.stopping.cancel();
        // A fault of the store has failed the test already.
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// SeaweedFS, as a process of its own; dropping it kills it and removes its data.
#[derive(Debug)]
pub struct SeaweedStore {
    /// How to use it.
    pub access: Access,
    _process: Child,
    directory: TempDir,
}

impl SeaweedStore {
    /// Starts it, from the wheel that `make tools` installs, and makes its bucket.
    ///
    /// # Errors
    /// It is not installed or does not start; the end of its log is told.
    pub async fn start() -> anyhow::Result<Self> {
        let mut tries = 1;
        loop {
            match Self::attempt().await {
                Err(error) if tries == START_TRIES => return Err(error),
                Err(_) => tries += 1,
                started => return started,
            }
        }
    }

    async fn attempt() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let ports = Ports::draw()?;
        let mut process = ports.command(directory.path())?.spawn()?;
        let access = Access::to(([127, 0, 0, 1], ports.s3).into());
        let client = flotilla_host::http::client()?;
        let health = format!("{}/healthz", access.endpoint);
        let folder = format!("http://127.0.0.1:{}/buckets/{BUCKET}/", ports.filer);
        let log = directory.path().join("log");
        until("SeaweedFS", START_LIMIT, async || {
            if let Ok(Some(status)) = process.try_wait() {
                return Ok(Err(status));
            }
            let ready = client.get(&health).send().await.and_then(|ok| ok.error_for_status());
            ready.map_err(|error| error.to_string())?;
            // A bucket is a folder of its file system.
            let made = client.post(&folder).send().await.and_then(|ok| ok.error_for_status());
            made.map(|_| Ok(())).map_err(|error| error.to_string())
        })
        .await?
        .map_err(|status| {
            let tail = flotilla_host::files::tail(&log, 20);
            anyhow::anyhow!("SeaweedFS ended with {status}:\n{tail}")
        })?;
        Ok(Self { access, _process: process, directory })
    }

    /// Returns where it keeps its data and its log.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// The ports of SeaweedFS; unless it is told, it takes fixed ones.
#[derive(Debug, Clone, Copy)]
struct Ports {
    master: u16,
    master_grpc: u16,
    volume: u16,
    volume_grpc: u16,
    filer: u16,
    filer_grpc: u16,
    s3: u16,
    s3_grpc: u16,
}

impl Ports {
    fn draw() -> anyhow::Result<Self> {
        // All are held until all are drawn, so that none comes twice.
        let mut held = Vec::new();
        let mut draw = || -> anyhow::Result<u16> {
            let listener = TcpListener::bind(("127.0.0.1", 0))?;
            let port = listener.local_addr()?.port();
            held.push(listener);
            Ok(port)
        };
        Ok(Self {
            master: draw()?,
            master_grpc: draw()?,
            volume: draw()?,
            volume_grpc: draw()?,
            filer: draw()?,
            filer_grpc: draw()?,
            s3: draw()?,
            s3_grpc: draw()?,
        })
    }

    fn command(self, directory: &Path) -> anyhow::Result<Command> {
        let keys = serde_json::json!({ "identities": [{
            "name": "test",
            "credentials": [{ "accessKey": ACCESS_KEY, "secretKey": SECRET_KEY }],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }]});
        let configuration = directory.join("s3.json");
        fs::write(&configuration, keys.to_string())?;
        let log = fs::File::create(directory.join("log"))?;
        let program = program();
        ensure!(
            program.exists(),
            "`{}` is missing; `make tools` installs SeaweedFS",
            program.display()
        );
        let mut command = Command::new(program);
        command.arg("server").args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1"]);
        command.arg(format!("-dir={}", directory.display()));
        command.arg(format!("-s3.config={}", configuration.display()));
        command.args(["-s3", "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]);
        command.args(["-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=0"]);
        for (name, port) in [
            ("master.port", self.master),
            ("master.port.grpc", self.master_grpc),
            ("volume.port", self.volume),
            ("volume.port.grpc", self.volume_grpc),
            ("filer.port", self.filer),
            ("filer.port.grpc", self.filer_grpc),
            ("s3.port", self.s3),
            ("s3.port.grpc", self.s3_grpc),
        ] {
            command.arg(format!("-{name}={port}"));
        }
        command.current_dir(directory).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        Ok(command)
    }
}

fn program() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/venv/bin/weed")
}

#[cfg(test)]
mod tests {
    use super::{Access, EmbeddedStore, SeaweedStore};

    async fn assert_private(access: &Access) {
        let url = format!("{}/{}/key", access.endpoint, access.bucket);
        let response = flotilla_host::http::client().unwrap().get(url).send().await.unwrap();
        assert_eq!(response.status(), 403);
    }

    #[tokio::test]
    async fn e2e_both_stores_start_and_are_private() {
        assert_private(&EmbeddedStore::start().unwrap().access).await;
        assert_private(&SeaweedStore::start().await.unwrap().access).await;
    }
}
