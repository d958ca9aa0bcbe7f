//! The `internal` subcommands of a local fleet for the tests of this crate: the launcher and the
//! supervisor are real; foreman, balancer and agent only do what the supervisor sees of them.

use std::error::Error;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use flotilla_core::id::{InstanceName, Token};
use flotilla_core::slot::SlotName;
use flotilla_host::launch::{Launch, become_program};
use flotilla_host::rotate::Rotation;
use flotilla_host::unit::Unit;
use flotilla_targets::local::Layout;
use flotilla_targets::local::database::Account;
use flotilla_targets::local::layout::slot_lock;
use flotilla_targets::local::live::Live;
use flotilla_targets::local::packages::Machine;
use flotilla_targets::local::ports::{Book, FOREMAN};
use flotilla_targets::local::supervisor::{EmbeddedDatabase, Options, run};
use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

type Outcome = Result<(), Box<dyn Error>>;

const TOKEN: &str = "operator";

fn main() -> ExitCode {
    match dispatch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(error) = source {
                text = format!("{text}: {error}");
                source = error.source();
            }
            // Nobody is left to tell when the standard error is closed.
            drop(writeln!(std::io::stderr(), "{text}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["internal", "launch", spec] = words.as_slice() {
        return Err(become_program(&serde_json::from_str(spec)?).into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match words.as_slice() {
        ["internal", "supervise", "--data-dir", directory] => {
            runtime.block_on(supervise(Path::new(directory)))
        }
        ["internal", "foreman", "--data-dir", directory] => {
            runtime.block_on(until_told(foreman(Path::new(directory))))
        }
        ["internal", "balancer", "--data-dir", _] => runtime.block_on(until_told(idle())),
        ["internal", "agent", "--data-dir", directory, "--instance", name] => {
            runtime.block_on(until_told(agent(Path::new(directory), name.parse()?)))
        }
        _ => Err("unknown arguments".into()),
    }
}

async fn supervise(directory: &Path) -> Outcome {
    let stopping = CancellationToken::new();
    let options = Options {
        data_dir: directory.to_owned(),
        own_program: std::env::current_exe()?,
        timezone: "UTC".to_owned(),
        env: Vec::new(),
        machine: Machine::this(),
        database: Some(EmbeddedDatabase {
            memory_bytes: 16 * 1024 * 1024,
            connections_max: 20,
            account: Live::fixed(Account {
                database: "site".to_owned(),
                user: "site".to_owned(),
                passwords: vec![Token::new("secret".to_owned())],
            }),
        }),
        sessions_memory_mb: Some(8),
        cache_memory_mb: Some(8),
        has_bucket: false,
        operator_token: Live::fixed(Token::new(TOKEN.to_owned())),
        rotation: Rotation { bytes_max: 1024 * 1024, keep: 1 },
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let told = async {
        terminate.recv().await;
        stopping.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        outcome = run(options, stopping.clone()) => Ok(outcome?),
        () = told => Ok(()),
    }
}

async fn until_told(task: impl Future<Output = Outcome>) -> Outcome {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        outcome = task => outcome,
        _ = terminate.recv() => Ok(()),
    }
}

async fn idle() -> Outcome {
    std::future::pending().await
}

async fn foreman(directory: &Path) -> Outcome {
    let layout = Layout::new(directory)?;
    let port = Book::read(&layout)?.and_then(|book| book.port(FOREMAN)).ok_or("no port")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let limit = Duration::from_secs(5);
        // A broken connection is the asker's business.
        drop(tokio::time::timeout(limit, answer(&layout, stream)).await);
    }
}

async fn answer(layout: &Layout, stream: TcpStream) -> Outcome {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length, mut is_operator) = (String::new(), 0, false);
    stream.read_line(&mut head).await?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let line = line.trim().to_lowercase();
        if line.is_empty() {
            break;
        }
        is_operator |= line == format!("authorization: bearer {TOKEN}");
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let (status, text) = if !is_operator {
        ("401 Unauthorized", String::new())
    } else if head.starts_with("GET /v1/inventory") {
        let names = std::fs::read_to_string(layout.foreman().join("names")).unwrap_or_default();
        let items: Vec<_> = names
            .split_whitespace()
            .map(|name| format!(r#"{{"name":"{name}","member":{{"state":"active"}}}}"#))
            .collect();
        ("200 OK", format!(r#"{{"instances":[{}]}}"#, items.join(",")))
    } else {
        ("200 OK", r#"{"token":"join"}"#.to_owned())
    };
    let length = text.len();
    let reply =
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}");
    stream.write_all(reply.as_bytes()).await?;
    Ok(stream.shutdown().await?)
}

async fn agent(directory: &Path, name: InstanceName) -> Outcome {
    let layout = Layout::new(directory)?;
    if !layout.token(&name).exists() {
        std::fs::rename(layout.join_token(&name), layout.token(&name))?;
    }
    let slot = layout.instance(&name).join(SlotName::Blue.as_str());
    std::fs::create_dir_all(&slot)?;
    let unit = Unit {
        name: "slot".to_owned(),
        own_program: std::env::current_exe()?,
        launch: Launch {
            program: PathBuf::from("/bin/sleep"),
            args: vec!["600".to_owned()],
            env: Vec::new(),
            directory: PathBuf::from("/"),
            lock: slot_lock(&layout.instance(&name), SlotName::Blue),
            log: slot.join("slot.log"),
            user: None,
            room: None,
        },
        stop_signal: Signal::SIGTERM,
        stop_timeout: Duration::from_secs(5),
    };
    unit.start().await?;
    idle().await
}
