//! Stopping and removing a local fleet, whatever of it is still alive.
//!
//! It goes by lock files alone, so it works without the supervisor and without its options.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flotilla_core::id::InstanceName;
use flotilla_core::slot::SlotName;
use flotilla_host::lock::lock_holder;
use flotilla_host::media::MOUNT_LOCK;
use flotilla_host::session::is_alive;
use flotilla_host::unit::{UnitError, stop_holder};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::task::JoinSet;

use super::layout::{GATEWAY_LOCK, Layout, LayoutError, MEDIA_MOUNT, slot_lock};
use super::ports::slot_role;
use super::services::{
    BALANCER, BUCKET, CACHE, DATABASE, DATABASE_INSTALLATION, FOREMAN, SESSIONS, SUPERVISOR,
    agent_name, instance_of_agent, stop_timeout,
};

const SLOT_STOP_TIMEOUT: Duration = Duration::from_secs(30);
const OTHER_STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// What was being launched by a part when that was stopped, is seen by the second pass.
const PASSES: u32 = 2;
/// How far below the directories of foreman and balancer their own locks may lie.
const LOCK_DEPTH_MAX: u32 = 3;

/// Says what could not be stopped or removed.
#[derive(Debug, thiserror::Error)]
pub enum TeardownError {
    /// Something lives on; the rest was stopped.
    #[error(transparent)]
    Stop(#[from] UnitError),
    /// Something cannot be removed.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// What becomes of the data after the stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Data {
    Kept,
    Removed,
}

/// Something that may run: its name and its lock.
type Part = (String, PathBuf);

/// Returns whether the supervisor runs, which keeps the rest running.
#[must_use]
pub fn is_running(layout: &Layout) -> bool {
    is_held(&layout.lock(SUPERVISOR))
}

/// Returns the names of all parts of the fleet that run.
#[must_use]
pub fn running(layout: &Layout) -> Vec<String> {
    order(layout)
        .into_iter()
        .flatten()
        .filter(|(_, lock)| is_held(lock))
        .map(|(name, _)| name)
        .collect()
}

/// Stops all parts of the fleet, in the order in which nobody misses what is stopped before;
/// returns the names of those that ran.
///
/// # Errors
/// Something lives on; the rest was stopped.
pub async fn down(layout: &Layout) -> Result<Vec<String>, TeardownError> {
    stop_everything(layout, Data::Kept).await
}

async fn stop_everything(layout: &Layout, data: Data) -> Result<Vec<String>, TeardownError> {
    let (mut stopped, mut first_error) = (Vec::new(), None);
    for _ in 0..PASSES {
        // The supervisor first, or it would start them again.
        for step in 0..order(layout).len() {
            // Looked up again for each step: until the supervisor is gone, it may start agents.
            let parts = order(layout).into_iter().nth(step).unwrap_or_default();
            for (name, outcome) in stop_all(parts, data).await {
                match outcome {
                    Ok(true) => stopped.push(name),
                    Ok(false) => {}
                    Err(error) => first_error = first_error.or(Some(error)),
                }
            }
        }
    }
    match first_error {
        Some(error) => Err(error.into()),
        None => Ok(stopped),
    }
}

/// Stops the fleet and removes all that it made.
///
/// # Errors
/// Something lives on, it is not the data directory of a fleet, or the file system refuses.
pub async fn destroy(layout: &Layout) -> Result<(), TeardownError> {
    if layout.data_dir().exists() && !layout.is_ours() {
        return Err(LayoutError::NotOurs(layout.data_dir().to_owned()).into());
    }
    stop_everything(layout, Data::Removed).await?;
    Ok(layout.remove()?)
}

/// Stops the slots of an instance, its session gateway and its mount of the media, which outlive their
/// agent.
///
/// # Errors
/// One of them lives on.
pub async fn stop_slots(instance_dir: &Path) -> Result<(), UnitError> {
    let slots = SlotName::ALL.map(|slot| (format!("slot {slot}"), slot_lock(instance_dir, slot)));
    // Its slots' last requests still write sessions.
    let gateway = ("session gateway".to_owned(), instance_dir.join(GATEWAY_LOCK));
    let mount = ("media mount".to_owned(), mount_lock(&instance_dir.join(MEDIA_MOUNT)));
    for parts in [Vec::from(slots), vec![gateway, mount]] {
        for (_, outcome) in stop_all(parts, Data::Kept).await {
            outcome?;
        }
    }
    Ok(())
}

/// Stops parts at the same time.
async fn stop_all(parts: Vec<Part>, data: Data) -> Vec<(String, Result<bool, UnitError>)> {
    let mut stops = JoinSet::new();
    for (name, lock) in parts {
        stops.spawn(async move {
            let limit = timeout_of(&name);
            // What it would still write is removed right after.
            let signal = match data {
                Data::Removed if name == DATABASE => Signal::SIGKILL,
                _ => Signal::SIGTERM,
            };
            let outcome = stop_holder(&name, &lock, signal, limit).await;
            (name, outcome)
        });
    }
    stops.join_all().await
}

fn timeout_of(name: &str) -> Duration {
    match name {
        _ if name.starts_with("slot ") => SLOT_STOP_TIMEOUT,
        _ if name.contains('/') || name.starts_with("media mount") => OTHER_STOP_TIMEOUT,
        _ => stop_timeout(name),
    }
}

/// Returns all parts that may run, in steps: those of one step can be stopped at once.
fn order(layout: &Layout) -> [Vec<Part>; 9] {
    let service = |name: &str| (name.to_owned(), layout.lock(name));
    [
        vec![service(SUPERVISOR)],
        vec![service(BALANCER)],
        agents(layout),
        slots(layout),
        gateways(layout),
        // The foreman may run a workshop, which outlives it.
        vec![service(FOREMAN)],
        others(layout),
        // What is still being written has to reach the bucket.
        mounts(layout),
        [&SESSIONS[..], &[CACHE, DATABASE, DATABASE_INSTALLATION, BUCKET]]
            .concat()
            .into_iter()
            .map(service)
            .collect(),
    ]
}

fn agents(layout: &Layout) -> Vec<Part> {
    let mut instances = layout.instances_made();
    // Also those whose directory is gone.
    let locks = fs::read_dir(layout.run()).into_iter().flatten().flatten();
    instances
        .extend(locks.filter_map(|entry| instance_of_agent(entry.path().file_stem()?.to_str()?)));
    instances.sort_unstable();
    instances.dedup();
    instances
        .into_iter()
        .map(|instance| agent_name(&instance))
        .map(|name| (name.clone(), layout.lock(&name)))
        .collect()
}

fn slots(layout: &Layout) -> Vec<Part> {
    let all = |instance| SlotName::ALL.map(|slot| (instance, slot));
    layout
        .instances_made()
        .iter()
        .flat_map(all)
        .map(|(instance, slot)| {
            (
                format!("slot {}", slot_role(instance, slot)),
                slot_lock(&layout.instance(instance), slot),
            )
        })
        .collect()
}

fn gateways(layout: &Layout) -> Vec<Part> {
    let gateway = |instance: &InstanceName| {
        (format!("session gateway {instance}"), layout.instance(instance).join(GATEWAY_LOCK))
    };
    layout.instances_made().iter().map(gateway).collect()
}

fn mounts(layout: &Layout) -> Vec<Part> {
    let foreman = ("media mount foreman".to_owned(), mount_lock(&layout.foreman_media()));
    let instance = |instance: &InstanceName| {
        (format!("media mount {instance}"), mount_lock(&layout.instance_media(instance)))
    };
    std::iter::once(foreman).chain(layout.instances_made().iter().map(instance)).collect()
}

fn mount_lock(directory: &Path) -> PathBuf {
    directory.join(MOUNT_LOCK)
}

/// Finds what the foreman or the balancer run on their own account.
fn others(layout: &Layout) -> Vec<Part> {
    let mut found = Vec::new();
    for directory in [layout.foreman(), layout.balancer()] {
        find_locks(&directory, LOCK_DEPTH_MAX, &mut found);
    }
    found
        .into_iter()
        .filter(|lock| *lock != mount_lock(&layout.foreman_media()))
        .filter(|lock| !matches!(lock_holder(lock), Ok(None) | Err(_)))
        .map(|lock| {
            let name = lock.strip_prefix(layout.data_dir()).unwrap_or(&lock);
            (name.with_extension("").display().to_string(), lock.clone())
        })
        .collect()
}

fn find_locks(directory: &Path, depth: u32, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => find_locks(&path, depth - 1, found),
            Ok(kind) if kind.is_file() && path.extension().is_some_and(|end| end == "lock") => {
                found.push(path);
            }
            _ => {}
        }
    }
}

fn is_held(lock: &Path) -> bool {
    lock_holder(lock).ok().flatten().is_some_and(|pid| is_alive(Pid::from_raw(pid)))
}
