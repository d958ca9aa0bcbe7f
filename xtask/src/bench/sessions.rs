//! The session gateway beside memcached without anything, and beside twemproxy (`nutcracker`).
//!
//! Many clients at a time, as a busy instance has, get and set values as large as a cart. What counts
//! is the CPU time of what is between PHP and the nodes, and that of the nodes. Then what one PHP
//! request pays for its session.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};

use super::process::{Background, wait_until};
use super::statistics::{spread, table};
use super::{address, cpu, directory, write};
use crate::program::{Program, root};

const ROUNDS: u32 = 5;
const START_LIMIT: Duration = Duration::from_secs(20);
const CLIENT_LIMIT: Duration = Duration::from_secs(30);
const NODES: usize = 2;
/// How many clients there are, and what each does.
const CLIENTS: usize = 32;
const OPERATIONS_EACH: usize = 1500;
/// One in so many operations is a `set`.
const SET_EVERY: usize = 4;
const KEYS: usize = 500;
const VALUE_BYTES: usize = 1024;
const SESSION_STARTS: u32 = 300;
const GATEWAY: &str = "sessions_gateway";

/// What is between a client and the nodes.
struct Way {
    name: &'static str,
    socket: PathBuf,
    between: Option<Background>,
    /// How many nodes get each value.
    copies: f64,
}

/// What a round came to.
struct Round {
    operations_per_cpu_second: f64,
    with_nodes_per_cpu_second: f64,
}

/// Measures, and prints both tables.
pub(crate) fn run(rounds: Option<u32>) -> anyhow::Result<()> {
    let gateway = build()?;
    let directory = directory().join("sessions");
    std::fs::create_dir_all(&directory).context("cannot make the directory of the benchmark")?;
    let nodes = start_nodes(&directory)?;
    let direct = directory.join("direct.socket");
    let alone = start_memcached(&directory, "direct", &["-s", text(&direct)?])?;
    let node_pids: Vec<i32> = nodes.iter().map(Background::pid).chain([alone.pid()]).collect();
    let ways = [
        Way { name: "memcached direct", socket: direct, between: None, copies: 1.0 },
        start_nutcracker(&directory)?,
        start_gateway(&gateway, &directory, "gateway, 1 copy", "1", 1.0)?,
        start_gateway(&gateway, &directory, "gateway, 2 copies", "2", 2.0)?,
    ];
    for way in &ways {
        wait_until(way.name, START_LIMIT, || Ok(UnixStream::connect(&way.socket).is_ok()))?;
        // Once unmeasured, so that every key is there.
        load(&way.socket)?;
    }
    let mut results: Vec<Vec<Round>> = ways.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds.unwrap_or(ROUNDS) {
        for (way, results) in ways.iter().zip(&mut results) {
            results.push(measure(way, &node_pids)?);
        }
    }
    println!("{}", throughput(&ways, &results));
    println!("{}", latency(&ways, rounds.unwrap_or(ROUNDS))?);
    Ok(())
}

fn build() -> anyhow::Result<PathBuf> {
    Program::cargo()
        .args(["build", "--release", "--locked", "--package", "flotilla-sessions"])
        .args(["--example", GATEWAY])
        .run()?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(root().join(target).join("release/examples").join(GATEWAY))
}

fn start_nodes(directory: &Path) -> anyhow::Result<Vec<Background>> {
    let addresses = address::free(NODES)?;
    let lines: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    write(&directory.join("nodes"), &lines.join("\n"))?;
    let start = |(number, address): (usize, &std::net::SocketAddr)| {
        let port = address.port().to_string();
        start_memcached(directory, &format!("node-{number}"), &["-l", "127.0.0.1", "-p", &port])
    };
    let nodes = addresses.iter().enumerate().map(start).collect::<anyhow::Result<Vec<_>>>()?;
    for address in &addresses {
        wait_until("a node", START_LIMIT, || Ok(std::net::TcpStream::connect(address).is_ok()))?;
    }
    Ok(nodes)
}

fn start_memcached(directory: &Path, name: &str, more: &[&str]) -> anyhow::Result<Background> {
    let words = ["memcached", "-u", "root", "-t", "1", "-m", "256", "-c", "512"];
    let words: Vec<String> = words.iter().chain(more).map(|word| (*word).to_owned()).collect();
    Background::start("memcached", &words, &directory.join(format!("{name}.log")))
}

fn start_nutcracker(directory: &Path) -> anyhow::Result<Way> {
    let socket = directory.join("nutcracker.socket");
    drop(std::fs::remove_file(&socket));
    let nodes = std::fs::read_to_string(directory.join("nodes"))?;
    let servers: Vec<String> = nodes.lines().map(|node| format!("    - {node}:1")).collect();
    let conf = format!(
        "sessions:\n  listen: {} 0666\n  hash: fnv1a_64\n  distribution: ketama\n  \
         preconnect: true\n  servers:\n{}\n",
        socket.display(),
        servers.join("\n")
    );
    let file = directory.join("nutcracker.yml");
    write(&file, &conf)?;
    let port = address::free(1)?.first().context("no free port")?.port().to_string();
    let words = ["nutcracker", "-c", text(&file)?, "-a", "127.0.0.1", "-s", &port];
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let between = Background::start("nutcracker", &words, &directory.join("nutcracker.log"))?;
    Ok(Way { name: "nutcracker", socket, between: Some(between), copies: 1.0 })
}

fn start_gateway(
    program: &Path,
    directory: &Path,
    name: &'static str,
    number: &str,
    copies: f64,
) -> anyhow::Result<Way> {
    let socket = directory.join(format!("gateway-{number}.socket"));
    let nodes = directory.join("nodes");
    let words = [text(program)?, "--socket", text(&socket)?, "--nodes", text(&nodes)?];
    let words: Vec<String> =
        words.iter().chain(&["--copies", number]).map(|word| (*word).to_owned()).collect();
    let log = directory.join(format!("gateway-{number}.log"));
    let between = Some(Background::start(name, &words, &log)?);
    Ok(Way { name, socket, between, copies })
}

#[expect(clippy::cast_precision_loss, reason = "counts of one measurement")]
fn measure(way: &Way, nodes: &[i32]) -> anyhow::Result<Round> {
    let between: Vec<i32> = way.between.iter().map(Background::pid).collect();
    let before = (cpu::precise_nanos(&between), cpu::precise_nanos(nodes));
    load(&way.socket)?;
    let after = (cpu::precise_nanos(&between), cpu::precise_nanos(nodes));
    let seconds = |before: u64, after: u64| after.saturating_sub(before) as f64 / 1e9;
    let (between, nodes) = (seconds(before.0, after.0), seconds(before.1, after.1));
    let operations = (CLIENTS * OPERATIONS_EACH) as f64;
    // Without anything between, what the node itself costs is what counts.
    let own = if way.between.is_some() { between } else { nodes };
    Ok(Round {
        operations_per_cpu_second: operations / own,
        with_nodes_per_cpu_second: operations / (between + nodes),
    })
}

/// Has all clients do their operations.
fn load(socket: &Path) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|number| scope.spawn(move || client(socket, number))).collect();
        for client in clients {
            match client.join() {
                Ok(outcome) => outcome?,
                Err(_) => bail!("a client panicked"),
            }
        }
        Ok(())
    })
}

fn client(socket: &Path, number: usize) -> anyhow::Result<()> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(CLIENT_LIMIT))?;
    let mut stream = BufReader::with_capacity(4096, stream);
    let value = vec![b'v'; VALUE_BYTES];
    let (mut line, mut body) = (String::new(), vec![0; VALUE_BYTES + "\r\nEND\r\n".len()]);
    for operation in 0..OPERATIONS_EACH {
        let key = (number * OPERATIONS_EACH + operation * 7) % KEYS;
        line.clear();
        if operation % SET_EVERY == 0 {
            let head = format!("set session-{key} 0 600 {VALUE_BYTES}\r\n");
            stream.get_mut().write_all(&[head.as_bytes(), &value, b"\r\n"].concat())?;
            stream.read_line(&mut line)?;
            if line != "STORED\r\n" {
                bail!("a `set` was answered with `{}`", line.trim_end());
            }
        } else {
            stream.get_mut().write_all(format!("get session-{key}\r\n").as_bytes())?;
            stream.read_line(&mut line)?;
            if line.starts_with("VALUE") {
                stream.read_exact(&mut body)?;
            } else if line != "END\r\n" {
                bail!("a `get` was answered with `{}`", line.trim_end());
            }
        }
    }
    Ok(())
}

fn throughput(ways: &[Way], results: &[Vec<Round>]) -> String {
    let own = |rounds: &[Round]| {
        rounds.iter().map(|round| round.operations_per_cpu_second).collect::<Vec<_>>()
    };
    let peer = results.get(1).map(|rounds| own(rounds)).unwrap_or_default();
    let rows: Vec<Vec<String>> = ways
        .iter()
        .zip(results)
        .map(|(way, rounds)| {
            let mine = own(rounds);
            let ratios: Vec<f64> = mine.iter().zip(&peer).map(|(mine, peer)| mine / peer).collect();
            let counted: Vec<f64> = ratios.iter().map(|ratio| ratio * way.copies).collect();
            let all: Vec<f64> =
                rounds.iter().map(|round| round.with_nodes_per_cpu_second).collect();
            vec![
                way.name.to_owned(),
                spread(&mine, 0),
                spread(&ratios, 2),
                spread(&counted, 2),
                spread(&all, 0),
            ]
        })
        .collect();
    let header =
        ["", "operations per CPU-s", "to nutcracker", "each copy counted", "with the nodes' CPU"];
    table(&header, &rows)
}

/// Measures what PHP waits for its session, from start to close.
fn latency(ways: &[Way], rounds: u32) -> anyhow::Result<String> {
    let mut rows = Vec::new();
    for way in ways {
        // nutcracker's locks poll; so do memcached's own, but a single client meets none.
        let times: Vec<f64> =
            (0..rounds).map(|_| session_micros(&way.socket)).collect::<anyhow::Result<_>>()?;
        rows.push(vec![way.name.to_owned(), spread(&times, 0)]);
    }
    Ok(table(&["", "session_start to session_write_close, µs"], &rows))
}

fn session_micros(socket: &Path) -> anyhow::Result<f64> {
    let code = format!(
        "$t = []; for ($i = 0; $i < {SESSION_STARTS}; $i++) {{ $b = hrtime(true); session_id('bench'); \
         session_start() || exit(1); $_SESSION['n'] = $i; session_write_close() || exit(1); \
         $t[] = hrtime(true) - $b; }} sort($t); echo $t[{SESSION_STARTS} / 2] / 1000;"
    );
    let output = Program::new("php")
        .args(["-d", "session.save_handler=memcached", "-d", "memcached.sess_binary_protocol=0"])
        .args(["-d", "session.use_cookies=0", "-d", "session.cache_limiter="])
        .args(["-d", &format!("session.save_path={}", socket.display()), "-r", &code])
        .output()?;
    output.trim().parse().with_context(|| format!("PHP said `{output}`"))
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("`{}` is not UTF-8", path.display()))
}
