//! The `internal` subcommands that a media directory needs, and nothing else, for the tests of this
//! crate.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::process::ExitCode;

use flotilla_host::launch;
use flotilla_media::{run_daemon, run_keeper};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let text = flotilla_core::error::chain(error.as_ref());
            // Nobody is left to tell when the standard error is closed.
            drop(writeln!(std::io::stderr(), "{text}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let level = std::env::var("LOG").unwrap_or_else(|_| "info".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(level)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["internal", "launch", spec] => {
            Err(launch::become_program(&serde_json::from_str(spec)?).into())
        }
        ["internal", "media-keeper", file] => {
            Ok(run_keeper(&serde_json::from_slice(&fs::read(file)?)?)?)
        }
        ["internal", "media-daemon", file] => {
            Ok(run_daemon(serde_json::from_slice(&fs::read(file)?)?)?)
        }
        _ => Err("unknown arguments".into()),
    }
}
