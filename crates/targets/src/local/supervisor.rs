//! The process that keeps a local fleet running.
//!
//! It starts what does not run, in the order in which the parts need each other, and leaves
//! everything running when it ends: the next one finds it.

use std::path::PathBuf;
use std::time::Duration;

use flotilla_core::id::Token;
use flotilla_host::files::FileError;
use flotilla_host::lock::lock_holder;
use flotilla_host::rotate::Rotation;
use flotilla_host::tasks::Tasks;
use flotilla_host::unit::{Unit, UnitError};
use tokio_util::sync::CancellationToken;

use super::database::{Account, Database, DatabaseError, DatabaseOptions};
use super::layout::{Layout, LayoutError};
use super::live::Live;
use super::memcached::{Memcached, MemcachedError};
use super::packages::Machine;
use super::ports::{self, Ports, PortsError};
use super::services::{self, Services};
use super::teardown::running;

mod foreman;
mod instances;
mod logs;
mod state;

use foreman::Foreman;
use instances::Instances;
use logs::rotate_logs;
use state::{State, write_state};
pub use state::{SupervisorState, UnitStates};

const READY_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_secs(1);
const ACCOUNT_TRIES: u32 = 10;
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const STORES: [&str; 5] =
    [ports::DATABASE, ports::SESSIONS[0], ports::SESSIONS[1], ports::CACHE, ports::BUCKET];

/// What a fleet of this machine is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data directory.
    pub data_dir: PathBuf,
    /// This program, which launches all others.
    pub own_program: PathBuf,
    /// The time zone of all services.
    pub timezone: String,
    /// Further variables that services shall see, such as the log level.
    pub env: Vec<(String, String)>,
    /// Where programs are looked for.
    pub machine: Machine,
    /// The database to run; `None` when the site uses one that somebody else runs.
    pub database: Option<EmbeddedDatabase>,
    /// Memory of each of the session store's two nodes; `None` when others keep the sessions.
    pub sessions_memory_mb: Option<u32>,
    /// Memory for the object cache; `None` when there is none.
    pub cache_memory_mb: Option<u32>,
    /// Whether media are in a store of the fleet's own.
    pub has_bucket: bool,
    /// What the foreman knows the operator by.
    pub operator_token: Live<Token>,
    /// When logs are put aside.
    pub rotation: Rotation,
}

/// A database of the fleet's own.
#[derive(Debug, Clone)]
pub struct EmbeddedDatabase {
    /// Memory for tables and indexes.
    pub memory_bytes: u64,
    /// Connections that it takes at once.
    pub connections_max: u16,
    /// What the site uses in it.
    pub account: Live<Account>,
}

/// Says why the supervisor gave up.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// There are no ports.
    #[error(transparent)]
    Ports(#[from] PortsError),
    /// There is no database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// There is no session store or object cache.
    #[error(transparent)]
    Memcached(#[from] MemcachedError),
    /// A service cannot be controlled.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// Its state cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The foreman cannot be spoken to.
    #[error("cannot make an HTTP client")]
    Http(#[source] reqwest::Error),
}

/// Runs the fleet until told to stop; the fleet goes on then.
///
/// # Errors
/// Something that waiting does not mend: the data directory, the ports, a missing program, the
/// first making of the database.
pub async fn run(options: Options, stopping: CancellationToken) -> Result<(), SupervisorError> {
    let layout = Layout::new(&options.data_dir)?;
    layout.make()?;
    let tasks = Tasks::new();
    let state = State::new();
    tasks.spawn(
        "write_state",
        write_state(state.clone(), layout.supervisor_state(), tasks.stopping()),
    );
    let rotation = rotate_logs(layout.clone(), options.rotation, tasks.stopping());
    tasks.spawn("rotate_logs", rotation);
    let panicked = tasks.stopping();
    let outcome = tokio::select! {
        () = stopping.cancelled() => Ok(()),
        () = panicked.cancelled() => Ok(()),
        outcome = supervise(options, layout, &tasks, &state) => outcome,
    };
    if let Err(error) = &outcome {
        state.fail(error);
    }
    if !tasks.shut_down(STOP_TIMEOUT).await {
        tracing::warn!("Not all tasks ended in time");
    }
    outcome
}

async fn supervise(
    options: Options,
    layout: Layout,
    tasks: &Tasks,
    state: &State,
) -> Result<(), SupervisorError> {
    let services = Services {
        layout: layout.clone(),
        own_program: options.own_program.clone(),
        timezone: options.timezone.clone(),
        env: options.env.clone(),
    };
    let keeper = Keeper { tasks, state };
    let has_services = running(&layout).iter().any(|name| name != services::SUPERVISOR);
    let mut ports = Ports::claim(&layout, has_services)?;
    let moved = start_stores(&options, &services, &mut ports, &keeper).await?;

    let unit = services.foreman();
    if moved {
        // It tells instances where the stores are, and reads that at its start.
        unit.stop().await?;
    }
    port_for(&mut ports, ports::FOREMAN, &unit)?;
    ports.port(ports::WORKSHOP)?;
    let balancer = services.balancer();
    port_for(&mut ports, ports::BALANCER_CONTROL, &balancer)?;
    port_for(&mut ports, ports::BALANCER, &balancer)?;
    let port = ports.port(ports::FOREMAN)?;
    let foreman =
        Foreman::new(port, options.operator_token.clone()).map_err(SupervisorError::Http)?;
    keeper.keep(unit);
    keeper.keep(balancer);
    state.enter("running");

    let mut instances = Instances::new(services, ports, tasks.clone(), state.clone());
    instances.adopt().await;
    loop {
        match foreman.inventory().await {
            Ok(inventory) => {
                state.well(services::FOREMAN);
                instances.converge(&inventory, &foreman).await;
            }
            // Whatever runs goes on.
            Err(error) => state.trouble(services::FOREMAN, &error),
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Starts database, session store, object cache and media store; returns whether any has a new port.
/// It does not wait for the cache, which nobody needs, nor for the media store, which mounts wait for.
async fn start_stores(
    options: &Options,
    services: &Services,
    ports: &mut Ports,
    keeper: &Keeper<'_>,
) -> Result<bool, SupervisorError> {
    let before = STORES.map(|role| ports.book().port(role));
    let is_free = |name| lock_holder(&services.layout.lock(name)).is_ok_and(|pid| pid.is_none());
    let mut port =
        |role, name| if is_free(name) { ports.free_port(role) } else { ports.port(role) };
    let mut nodes = Vec::new();
    if let Some(memory_mb) = options.sessions_memory_mb {
        for (role, name) in ports::SESSIONS.into_iter().zip(services::SESSIONS) {
            let node = Memcached::find(&options.machine, name, port(role, name)?, memory_mb)?;
            keeper.keep(node.unit(services));
            nodes.push((name, node));
        }
    }
    if let Some(memory_mb) = options.cache_memory_mb {
        let cache_port = port(ports::CACHE, services::CACHE)?;
        let cache = Memcached::find(&options.machine, services::CACHE, cache_port, memory_mb)?;
        keeper.keep(cache.unit(services));
    }
    if options.has_bucket {
        port(ports::BUCKET, services::BUCKET)?;
        keeper.keep(services.bucket());
    }
    if let Some(embedded) = &options.database {
        let database_options = DatabaseOptions {
            port: port(ports::DATABASE, services::DATABASE)?,
            buffer_pool_bytes: embedded.memory_bytes,
            connections_max: embedded.connections_max,
        };
        let database = Database::find(&options.machine, services, database_options)?;
        start_database(&database, &embedded.account, keeper).await?;
    }
    keeper.state.enter("waiting for the session store");
    for (name, node) in nodes {
        while let Err(error) = node.wait_ready(READY_TIMEOUT).await {
            keeper.state.trouble(name, &error);
        }
        keeper.state.well(name);
    }
    let after = STORES.map(|role| ports.book().port(role));
    Ok(before != after)
}

async fn start_database(
    database: &Database,
    account: &Live<Account>,
    keeper: &Keeper<'_>,
) -> Result<(), DatabaseError> {
    keeper.state.enter("making the database");
    database.install().await?;
    keeper.keep(database.unit());
    keeper.state.enter("waiting for the database");
    while let Err(error) = database.wait_ready(READY_TIMEOUT).await {
        keeper.state.trouble(services::DATABASE, &error);
    }
    keeper.state.well(services::DATABASE);
    ensure_account(database, account).await
}

/// The server may be killed at any moment, so one failure is none. What was set while passwords are
/// replaced may be of a moment ago: then it is set once more.
async fn ensure_account(database: &Database, account: &Live<Account>) -> Result<(), DatabaseError> {
    for _ in 1..ACCOUNT_TRIES {
        let now = account.now();
        match database.ensure_account(&now).await {
            Err(DatabaseError::Client(error)) => {
                tracing::warn!(%error, "The site's database cannot be set up; trying again");
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            Ok(()) if account.now() != now => {}
            outcome => return outcome,
        }
    }
    database.ensure_account(&account.now()).await
}

/// Makes sure that the role of a service has a port, and one that can be used if it does not run.
fn port_for(ports: &mut Ports, role: &str, unit: &Unit) -> Result<(), SupervisorError> {
    if unit.holder()?.is_some() {
        ports.port(role)?
    } else {
        ports.free_port(role)?
    };
    Ok(())
}

/// Keeps services running, each by a task.
#[derive(Debug, Clone, Copy)]
struct Keeper<'a> {
    tasks: &'a Tasks,
    state: &'a State,
}

impl Keeper<'_> {
    fn keep(&self, unit: Unit) {
        let (state, stopping) = (self.state.clone(), self.tasks.stopping());
        self.tasks.spawn("keep_service", async move {
            let name = unit.name.clone();
            unit.keep_reporting(stopping, |now| state.report(&name, now)).await;
        });
    }
}
