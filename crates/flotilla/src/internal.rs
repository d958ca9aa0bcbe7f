//! What flotilla runs of itself: launching, and the long-lived parts of a fleet.

mod agent;
mod balancer;
mod bucket;
mod foreman;
pub(crate) mod media;
mod sessions;
mod supervise;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use flotilla_host::init::{Init, run_inner, run_outer};
use flotilla_host::inside::{Inside, become_inside};
use flotilla_host::launch::{Launch, LaunchError, become_program};
use flotilla_host::tasks::Tasks;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::cli::Internal;
use crate::printer::Printer;
use crate::{failure, reference};

/// How long the parts may take to end their tasks.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs what must be alone in its process; `None` when it is something else.
pub(crate) fn run_alone(command: &Internal) -> Option<ExitCode> {
    let outcome = match command {
        Internal::Launch { spec } => launch(spec),
        Internal::Inside { spec } => inside(spec),
        Internal::Init { spec } => init(spec),
        Internal::InitInner { spec } => init_inner(spec),
        Internal::MediaKeeper { spec } => media::keep(spec).map(|()| ExitCode::SUCCESS),
        Internal::MediaDaemon { spec } => media::answer(spec).map(|()| ExitCode::SUCCESS),
        _ => return None,
    };
    Some(outcome.unwrap_or_else(|error| Printer::new(false).fail(&error)))
}

fn launch(spec: &str) -> anyhow::Result<ExitCode> {
    let launch: Launch = serde_json::from_str(spec).context("cannot read the launch")?;
    match become_program(&launch) {
        // Somebody was quicker, which is as good.
        LaunchError::Running(_) => Ok(ExitCode::SUCCESS),
        error => {
            let error = anyhow::Error::from(error);
            append(&launch.log, &format!("error: {error:#}\n"));
            Err(error)
        }
    }
}

fn inside(spec: &str) -> anyhow::Result<ExitCode> {
    let inside: Inside = serde_json::from_str(spec).context("cannot read the command")?;
    Err(become_inside(&inside).into())
}

fn init(spec: &str) -> anyhow::Result<ExitCode> {
    let code = run_outer(&std::env::current_exe()?, spec)?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

fn init_inner(spec: &str) -> anyhow::Result<ExitCode> {
    let init: Init = serde_json::from_str(spec).context("cannot read the programs")?;
    run_inner(&init)?;
    Ok(ExitCode::SUCCESS)
}

fn append(path: &std::path::Path, text: &str) {
    use std::io::Write;
    if let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(path) {
        drop(file.write_all(text.as_bytes()));
    }
}

/// Runs one of the long-lived parts until it is told to stop.
pub(crate) async fn run(command: Internal, printer: &Printer) -> anyhow::Result<ExitCode> {
    match command {
        Internal::Reference => printer.line(reference::markdown()),
        Internal::Supervise { data_dir } => supervise::run(&data_dir).await?,
        Internal::Foreman { data_dir } => foreman::run(&data_dir).await?,
        Internal::Sessions { spec } => sessions::run(&spec).await?,
        Internal::Balancer { data_dir } => balancer::run(&data_dir).await?,
        Internal::Bucket { data_dir } => bucket::run(&data_dir).await?,
        Internal::Agent { data_dir, instance } => {
            let name =
                instance.parse().map_err(|error| failure::configuration(format!("{error}")))?;
            Box::pin(agent::run(&data_dir, name)).await?;
        }
        Internal::Launch { .. }
        | Internal::Inside { .. }
        | Internal::Init { .. }
        | Internal::InitInner { .. }
        | Internal::MediaKeeper { .. }
        | Internal::MediaDaemon { .. } => anyhow::bail!("this part runs without a runtime"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Sends what the part says to its log, as lines with fields.
fn start_log(level: flotilla_core::config::LogLevel) {
    let filter =
        EnvFilter::try_from_env("FLOTILLA_LOG").unwrap_or_else(|_| EnvFilter::new(level.as_str()));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_target(false)
        .with_writer(std::io::stderr);
    // Only the first one in a process counts; there is one.
    drop(subscriber.try_init());
}

/// Runs a part beside its tasks, and shuts both down in order at SIGTERM or when one fails.
async fn run_with_tasks<T>(
    work: impl AsyncFnOnce(Tasks) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let tasks = Tasks::new();
    let stopping = tasks.stopping();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let watch = tasks.stopping();
    let signals = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = watch.cancelled() => {}
        }
        stopping.cancel();
        std::future::pending::<()>().await;
    };
    let outcome = tokio::select! {
        outcome = work(tasks.clone()) => outcome,
        () = signals => anyhow::bail!("the part did not stop"),
    };
    if !tasks.shut_down(SHUTDOWN_TIMEOUT).await {
        tracing::warn!("Tasks did not end in time");
    }
    outcome
}
