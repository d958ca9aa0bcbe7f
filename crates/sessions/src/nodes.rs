//! Follows the list of nodes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use flotilla_host::tasks::Tasks;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::copies::Copies;
use crate::store::memcached::{Limits, Memcached};
use crate::topology::{Node, Topology};

/// How many nodes a list may have; more are left out, with a warning.
const NODES_MAX: usize = 128;
/// How often former lists are looked through for those that nobody needs any more.
const FORGET_INTERVAL: Duration = Duration::from_secs(60);

/// Keeps the topology in step with a list of memcached nodes.
#[derive(Debug)]
pub(crate) struct Follower {
    /// What is kept in step.
    pub(crate) copies: Arc<Copies>,
    /// How long nodes may take.
    pub(crate) limits: Limits,
    /// How long former lists are remembered.
    pub(crate) memory: Duration,
    /// Raised when a node is up again.
    pub(crate) returned: watch::Sender<u64>,
    /// Where connections are kept.
    pub(crate) tasks: Tasks,
}

impl Follower {
    /// Connects to the nodes of a list and uses it from then on.
    pub(crate) async fn use_list(&self, addresses: &[String]) {
        let topology = self.copies.topology();
        let mut known: HashMap<String, Node> = topology
            .all_nodes()
            .into_iter()
            .map(|node| (node.name().to_owned(), node.clone()))
            .collect();
        if addresses.len() > NODES_MAX {
            tracing::warn!(
                nodes = addresses.len(),
                NODES_MAX,
                "Too many session nodes; the last are left out"
            );
        }
        let mut nodes: Vec<Node> = Vec::new();
        let mut fresh = Vec::new();
        for address in addresses.iter().take(NODES_MAX) {
            if nodes.iter().any(|node| node.name() == address) {
                continue;
            }
            nodes.push(known.remove(address).unwrap_or_else(|| {
                let returned = self.returned.clone();
                let node =
                    Arc::new(Memcached::connect(address, self.limits, returned, &self.tasks));
                fresh.push(Arc::clone(&node));
                node
            }));
        }
        for node in fresh {
            node.wait_tried().await;
        }
        let names: Vec<&str> = nodes.iter().map(|node| node.name()).collect();
        tracing::info!(nodes = ?names, "Using these session nodes");
        let changed = topology.changed(nodes, Instant::now(), self.memory);
        self.copies.set_topology(changed);
    }

    /// Uses every new list until it is told to stop.
    pub(crate) async fn follow(
        self,
        mut list: watch::Receiver<Vec<String>>,
        stop: CancellationToken,
    ) {
        let follow = async {
            loop {
                tokio::select! {
                    changed = list.changed() => {
                        if changed.is_err() {
                            // Nobody can change it any more.
                            self.forget().await;
                        }
                        let addresses = list.borrow_and_update().clone();
                        self.use_list(&addresses).await;
                    }
                    () = self.forget() => {}
                }
            }
        };
        stop.run_until_cancelled(follow).await;
    }

    /// Forgets former lists when their time has come.
    async fn forget(&self) {
        loop {
            sleep(FORGET_INTERVAL).await;
            let mut topology = Topology::clone(&self.copies.topology());
            if topology.forget(Instant::now(), self.memory) {
                self.copies.set_topology(topology);
            }
        }
    }
}
