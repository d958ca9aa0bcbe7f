//! A store on its own, for the tests of this crate and for measuring: `bucket DIRECTORY`.
//!
//! It prints the address that it got and ends when its standard input does, or is killed.

use std::error::Error;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use flotilla_bucket::{Limits, Options, start};
use flotilla_host::tasks::Tasks;

fn main() -> ExitCode {
    match run() {
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

fn run() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).ok_or("usage: bucket DIRECTORY")?;
    let options = Options {
        listen: ([127, 0, 0, 1], 0).into(),
        directory: directory.into(),
        access_key: "access".to_owned(),
        secret_key: "secret".to_owned(),
        bucket: "media".to_owned(),
        limits: Limits { free_bytes_min: 1024 * 1024, ..Limits::default() },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let tasks = Tasks::new();
        let bucket = start(options, &tasks).await?;
        writeln!(std::io::stdout(), "{}", bucket.address())?;
        let stopping = tasks.stopping();
        let watching = std::thread::Builder::new().spawn(move || {
            drop(std::io::stdin().read_to_end(&mut Vec::new()));
            stopping.cancel();
        })?;
        let outcome = bucket.ended().await;
        tasks.shut_down(Duration::from_secs(10)).await;
        drop(watching);
        Ok(outcome?)
    })
}
