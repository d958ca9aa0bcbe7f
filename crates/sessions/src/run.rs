//! Starting and stopping: everything is bound before anything is served.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use flotilla_host::tasks::Tasks;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::copies::Copies;
use crate::discovery::follow_cluster;
use crate::error::SessionsError;
use crate::gateway::Gateway;
use crate::listen::{bind_port, bind_socket};
use crate::locks::Locks;
use crate::nodes::Follower;
use crate::options::{Backend, Options};
use crate::store::dynamodb::DynamoDb;
use crate::store::memcached::Limits;
use crate::store::memory::Memory;
use crate::topology::{Node, Topology};

/// Listens, and serves until the tasks are told to stop.
///
/// Needs one runtime of any kind; a current-thread one does, and costs least.
///
/// # Errors
/// Something cannot be bound; nothing is left running then.
pub async fn run(options: Options, tasks: &Tasks) -> Result<(), SessionsError> {
    if !(1..=2).contains(&options.copies) {
        return Err(SessionsError::Copies { copies: options.copies });
    }
    if options.socket.is_none() && options.port.is_none() {
        return Err(SessionsError::NoListener);
    }
    let mut gateway_id = [0_u8; 8];
    getrandom::fill(&mut gateway_id)
        .map_err(|error| SessionsError::Random(io::Error::other(error)))?;
    let gateway_id = u64::from_le_bytes(gateway_id);
    let port = match options.port {
        Some(address) => Some(bind_port(address).await?),
        None => None,
    };
    let stop = tasks.stopping();
    let (returned, returns) = watch::channel(0);
    let counters = Arc::clone(&options.counters);
    let topology = Topology::new(Vec::new(), options.copies);
    let copies = Arc::new(Copies::new(gateway_id, topology, Arc::clone(&counters)));
    start_backend(&options, gateway_id, &copies, returned, tasks).await?;
    let locks = Arc::new(Locks::new(
        gateway_id,
        Arc::clone(&copies),
        Arc::clone(&counters),
        &options.session_prefix,
        options.lock_wait_max,
    ));
    tasks.spawn("keep_locks", Arc::clone(&locks).keep(stop.clone()));
    tasks.spawn("return_locks", Arc::clone(&locks).watch_returns(returns.clone(), stop.clone()));
    tasks.spawn("mend_copies", Arc::clone(&copies).watch_returns(returns, stop.clone()));
    let gateway = Arc::new(Gateway {
        copies,
        locks,
        counters,
        connections_max: options.connections_max,
        started_at: Instant::now(),
        stop: stop.clone(),
        last_client: AtomicU64::new(1),
    });
    // The socket comes last: whoever can connect is served.
    if let Some(socket) = &options.socket {
        let listener = bind_socket(socket)?;
        tracing::info!(path = %socket.path.display(), "Listening for PHP");
        tasks.spawn("accept_clients", Arc::clone(&gateway).accept_unix(listener, tasks.clone()));
    }
    if let Some(listener) = port {
        let address = listener.local_addr().map_err(SessionsError::Random)?;
        tracing::info!(%address, "Listening for tools");
        tasks.spawn("accept_tools", Arc::clone(&gateway).accept_tcp(listener, tasks.clone()));
    }
    stop.cancelled().await;
    Ok(())
}

async fn start_backend(
    options: &Options,
    gateway_id: u64,
    copies: &Arc<Copies>,
    returned: watch::Sender<u64>,
    tasks: &Tasks,
) -> Result<(), SessionsError> {
    let one_node = |node: Node| {
        let topology = copies.topology().changed(vec![node], Instant::now(), Duration::ZERO);
        copies.set_topology(topology);
    };
    let mut list = match &options.backend {
        Backend::Memcached(list) => list.clone(),
        Backend::ElastiCache(endpoint) => follow_cluster(endpoint.clone(), tasks).await,
        Backend::DynamoDb(table) => {
            let failed = |source| SessionsError::Table { table: table.name.clone(), source };
            let store = DynamoDb::new(table, gateway_id, tasks).map_err(failed)?;
            one_node(Arc::new(store));
            return Ok(());
        }
        Backend::Memory => {
            one_node(Arc::new(Memory::new("memory")));
            return Ok(());
        }
    };
    let follower = Follower {
        copies: Arc::clone(copies),
        limits: Limits { answer_timeout: options.node_timeout, ..Limits::default() },
        memory: options.session_lifetime,
        returned,
        tasks: tasks.clone(),
    };
    let addresses = list.borrow_and_update().clone();
    follower.use_list(&addresses).await;
    tasks.spawn("follow_nodes", follower.follow(list, tasks.stopping()));
    Ok(())
}
