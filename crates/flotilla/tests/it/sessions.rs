//! The session gateway, started as an agent starts it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use flotilla_core::api::SessionStore;
use flotilla_host::launch::Launch;
use flotilla_host::session_gateway::GatewaySpec;
use flotilla_testkit::dynamodb::{Emulator, KEY, REGION, TABLE};
use nix::unistd::{Gid, Group};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A gateway that ends with the test.
struct Gateway {
    process: Child,
    directory: TempDir,
}

impl Gateway {
    /// Launches one as a part of a fleet that was started with keys for AWS in its environment.
    fn launch(store: &SessionStore) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let group = Group::from_gid(Gid::effective()).unwrap().unwrap().name;
        let spec = GatewaySpec {
            socket: path("php.sock"),
            group,
            store: path("store.json"),
            nodes: path("nodes"),
        };
        tell(&spec.store, store);
        let program = PathBuf::from(env!("CARGO_BIN_EXE_flotilla"));
        let launch = Launch {
            program: program.clone(),
            args: ["internal", "sessions", &serde_json::to_string(&spec).unwrap()]
                .map(str::to_owned)
                .into(),
            env: Vec::new(),
            directory: directory.path().to_owned(),
            lock: path("lock"),
            log: path("log"),
            user: None,
            room: None,
        };
        #[expect(clippy::disallowed_methods, reason = "dropping it and the kernel end it")]
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .args(["internal", "launch", &serde_json::to_string(&launch).unwrap()])
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", KEY)
            .stdin(Stdio::null());
        let gateway = Self { process: command.spawn().unwrap(), directory };
        eventually(|| gateway.connect().is_some(), || gateway.log());
        gateway
    }

    fn connect(&self) -> Option<UnixStream> {
        UnixStream::connect(self.path("php.sock")).ok()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Says lines and returns the first one of the answer.
    fn ask(&self, said: &str) -> String {
        let mut stream = self.connect().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(said.as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn tell(file: &Path, store: &SessionStore) {
    let new = file.with_extension("new");
    fs::write(&new, serde_json::to_vec(store).unwrap()).unwrap();
    fs::rename(new, file).unwrap();
}

fn eventually(mut holds: impl FnMut() -> bool, seen: impl Fn() -> String) {
    let tries = PATIENCE.as_millis() / POLL_INTERVAL.as_millis();
    for _ in 0..tries {
        if holds() {
            return;
        }
        #[expect(clippy::disallowed_methods, reason = "a test without a runtime")]
        std::thread::sleep(POLL_INTERVAL);
    }
    assert!(holds(), "waited {PATIENCE:?}; seen last: {}", seen());
}

#[test]
fn e2e_sessions_are_kept_in_a_table_with_keys_of_the_environment_until_told_otherwise() {
    let emulator = Emulator::start().unwrap();
    let mut gateway = Gateway::launch(&SessionStore::Table {
        name: TABLE.to_owned(),
        region: REGION.to_owned(),
        endpoint: Some(emulator.endpoint()),
    });
    assert_eq!(gateway.ask("set memc.sess.key.a 0 0 1\r\n1\r\n"), "STORED");
    assert_eq!(gateway.ask("get memc.sess.key.a\r\n"), "VALUE memc.sess.key.a 0 1");
    assert_eq!(emulator.items().unwrap(), 1);
    // It cannot go over to nodes while it runs.
    let addresses = vec!["127.0.0.1:9".to_owned()];
    tell(&gateway.path("store.json"), &SessionStore::Nodes { addresses });
    let log = gateway.path("log");
    let mut ended = None;
    eventually(
        || {
            ended = gateway.process.try_wait().unwrap();
            ended.is_some()
        },
        || fs::read_to_string(&log).unwrap_or_default(),
    );
    assert!(ended.unwrap().success(), "{}", gateway.log());
}

#[test]
fn e2e_a_gateway_says_which_table_it_cannot_use_and_why() {
    let emulator = Emulator::start().unwrap();
    let gateway = Gateway::launch(&SessionStore::Table {
        name: "absent".to_owned(),
        region: REGION.to_owned(),
        endpoint: Some(emulator.endpoint()),
    });
    for _ in 0..2 {
        let said = gateway.ask("get memc.sess.key.a\r\n");
        assert!(said.ends_with("there is no such table in this region"), "{said}");
    }
    let log = gateway.log();
    assert_eq!(log.matches("The table of sessions refuses").count(), 1, "{log}");
    assert!(log.contains("table=absent"), "{log}");
}
