//! A gateway as a process of its own, for the tests and measurements of this crate.
//!
//! `sessions_gateway (--socket PATH | --port ADDRESS)… (--nodes FILE | --cluster ENDPOINT | --table NAME)` and further
//! `--name value` pairs; see `options`.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use flotilla_host::tasks::Tasks;
use flotilla_sessions::{Backend, Options, Socket, Table, follow_node_file, run};
use tokio::signal::unix::{SignalKind, signal};

const STOP_LIMIT: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(serve()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error.as_ref()),
    }
}

fn fail(error: &dyn Error) -> ExitCode {
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

async fn serve() -> Result<(), Box<dyn Error>> {
    let tasks = Tasks::new();
    let options = options(&tasks)?;
    let stopping = tasks.stopping();
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async {
        terminate.recv().await;
        stopping.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        outcome = run(options, &tasks) => outcome?,
        () = stop => {}
    }
    tasks.shut_down(STOP_LIMIT).await;
    Ok(())
}

fn options(tasks: &Tasks) -> Result<Options, Box<dyn Error>> {
    let mut options = Options::new(Backend::Memory);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("`{name}` wants a value"))?;
        match name.as_str() {
            "--socket" => {
                options.socket = Some(Socket { path: value.into(), mode: 0o666, group: None });
            }
            "--port" => options.port = Some(value.parse()?),
            "--nodes" => {
                options.backend = Backend::Memcached(follow_node_file(value.into(), tasks)?);
            }
            "--cluster" => options.backend = Backend::ElastiCache(value),
            "--table" => {
                let region = "us-east-1".to_owned();
                options.backend = Backend::DynamoDb(Table { name: value, region, endpoint: None });
            }
            "--endpoint" => {
                if let Backend::DynamoDb(table) = &mut options.backend {
                    table.endpoint = Some(value);
                }
            }
            "--copies" => options.copies = value.parse()?,
            "--connections" => options.connections_max = value.parse()?,
            "--lock-wait-ms" => options.lock_wait_max = Duration::from_millis(value.parse()?),
            _ => return Err(format!("`{name}` is not known").into()),
        }
    }
    Ok(options)
}
