//! memcached nodes and gateways of a test.

use std::cell::Cell;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::client::Client;
use crate::process::{Process, command, find};

/// How long a condition may take to become true.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// A memcached on a port of its own.
#[derive(Debug)]
pub(crate) struct Memcached {
    pub(crate) address: String,
    process: Process,
}

/// A gateway in a process of its own.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) socket: PathBuf,
    process: Process,
}

/// Nodes, and gateways that use them.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) nodes: Vec<Memcached>,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) directory: TempDir,
    /// Look on, one at each gateway, while gateways are used by others.
    pub(crate) observers: Vec<Client>,
    last_gateway: Cell<usize>,
}

/// Waits until something is true, and fails the test when it does not become so.
pub(crate) fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        pause(LOOK_INTERVAL);
    }
}

/// Lets time pass that belongs to what is tested.
#[expect(clippy::disallowed_methods, reason = "a test has its thread for itself")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

impl Memcached {
    /// Starts one on a port that the system chooses.
    pub(crate) fn start(directory: &Path) -> Self {
        let file = tempfile::Builder::new().prefix("port-").tempfile_in(directory).unwrap();
        let process =
            Process::start(Self::command("-1").env("MEMCACHED_PORT_FILENAME", file.path()));
        let mut port = None;
        wait_until("memcached tells its port", || {
            let text = fs::read_to_string(file.path()).unwrap_or_default();
            port =
                text.lines().find_map(|line| line.strip_prefix("TCP INET: ")?.parse::<u16>().ok());
            port.is_some()
        });
        Self { address: format!("127.0.0.1:{}", port.unwrap()), process }
    }

    fn command(port: &str) -> std::process::Command {
        let mut command = command(&find("memcached"));
        command.args(["-u", "nobody", "-l", "127.0.0.1", "-t", "1", "-m", "64", "-p", port]);
        command
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, empty, at the same address.
    pub(crate) fn start_again(&mut self) {
        let (_, port) = self.address.split_once(':').unwrap();
        self.process = Process::start(&mut Self::command(port));
    }

    /// Has it hang: the kernel still takes connections and data for it.
    pub(crate) fn hang(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    pub(crate) fn go_on(&self) {
        self.process.signal(Signal::SIGCONT);
    }

    /// Returns whether it has an item, as a client sees it that knows no gateway.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.ask(&format!("mg {key}")) == "HD"
    }

    /// Returns how long it will keep an item.
    pub(crate) fn seconds_left(&self, key: &str) -> u32 {
        self.ask(&format!("mg {key} t")).strip_prefix("HD t").unwrap().parse().unwrap()
    }

    /// Asks for a line; the answer is empty when it is down.
    fn ask(&self, question: &str) -> String {
        let Ok(stream) = TcpStream::connect(&self.address) else { return String::new() };
        let mut stream = BufReader::new(stream);
        stream.get_mut().write_all(format!("{question}\r\n").as_bytes()).unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Gateway {
    /// Starts one with these arguments besides its socket.
    pub(crate) fn start(socket: PathBuf, arguments: &[&str]) -> Self {
        Self::start_with(socket, arguments, &[])
    }

    /// Starts one with these arguments and variables of the environment.
    pub(crate) fn start_with(
        socket: PathBuf,
        arguments: &[&str],
        environment: &[(&str, &Path)],
    ) -> Self {
        let built = std::env::current_exe().unwrap();
        let examples = built.parent().and_then(Path::parent).unwrap().join("examples");
        let mut command = command(&examples.join("sessions_gateway"));
        command.arg("--socket").arg(&socket).args(arguments);
        // What an emulator of AWS takes; memcached nodes want none.
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        command.envs(environment.iter().copied());
        let process = Process::start(&mut command);
        let gateway = Self { socket, process };
        wait_until("the gateway listens", || {
            std::os::unix::net::UnixStream::connect(&gateway.socket).is_ok()
        });
        gateway
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.socket)
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    pub(crate) fn hang(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    pub(crate) fn go_on(&self) {
        self.process.signal(Signal::SIGCONT);
    }

    /// Tells it to stop and waits until it has.
    pub(crate) fn stop(&mut self) {
        self.process.signal(Signal::SIGTERM);
        self.process.wait();
    }
}

impl Fleet {
    /// Starts nodes, and gateways that keep two copies.
    pub(crate) fn start(nodes: usize, gateways: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // PHP and memcached may run as somebody else.
        fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
            .unwrap();
        let nodes = (0..nodes).map(|_| Memcached::start(directory.path())).collect();
        let mut fleet = Self {
            nodes,
            gateways: Vec::new(),
            directory,
            observers: Vec::new(),
            last_gateway: Cell::new(0),
        };
        fleet.write_list();
        for _ in 0..gateways {
            let gateway = fleet.add_gateway(&[]);
            fleet.gateways.push(gateway);
        }
        fleet
    }

    /// Starts a further gateway on the nodes of the list.
    pub(crate) fn add_gateway(&self, arguments: &[&str]) -> Gateway {
        let number = self.last_gateway.get();
        self.last_gateway.set(number + 1);
        let socket = self.directory.path().join(format!("gateway-{number}"));
        let list = self.list();
        let arguments = [&["--nodes", list.to_str().unwrap()], arguments].concat();
        Gateway::start(socket, &arguments)
    }

    /// Returns a client of the first gateway.
    pub(crate) fn client(&self) -> Client {
        self.gateways[0].client()
    }

    /// Writes the list of nodes as they are now.
    pub(crate) fn write_list(&self) {
        let names: Vec<&str> = self.nodes.iter().map(|node| node.address.as_str()).collect();
        self.write_names(&names);
    }

    /// Writes a list of nodes.
    pub(crate) fn write_names(&self, names: &[&str]) {
        let new = self.directory.path().join("nodes.new");
        fs::write(&new, names.join("\n")).unwrap();
        fs::rename(new, self.list()).unwrap();
    }

    fn list(&self) -> PathBuf {
        self.directory.path().join("nodes")
    }

    /// Returns how many nodes have an item.
    pub(crate) fn copies_of(&self, key: &str) -> usize {
        self.nodes.iter().filter(|node| node.has(key)).count()
    }
}

impl Gateway {
    /// Waits until it ends by itself.
    pub(crate) fn wait(&mut self) {
        self.process.wait();
    }
}
