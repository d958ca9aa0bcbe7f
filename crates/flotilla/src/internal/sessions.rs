//! `flotilla internal sessions`: wires the session gateway of one instance.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use flotilla_core::api::SessionStore;
use flotilla_core::config::LogLevel;
use flotilla_host::session_gateway::GatewaySpec;
use flotilla_host::tasks::Tasks;
use flotilla_sessions::{Backend, Options, Socket, Table, follow_node_file};
use nix::unistd::{Group, Uid};
use tokio_util::sync::CancellationToken;

use super::{run_with_tasks, start_log};

/// How often it is looked whether something else keeps the sessions now.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

pub(crate) async fn run(spec: &str) -> anyhow::Result<()> {
    start_log(LogLevel::Info);
    let spec: GatewaySpec = serde_json::from_str(spec).context("cannot read the gateway's part")?;
    let group = if Uid::effective().is_root() {
        let group = Group::from_name(&spec.group)?
            .with_context(|| format!("there is no group `{}`", spec.group))?;
        Some(group.gid.as_raw())
    } else {
        None
    };
    run_with_tasks(async |tasks| {
        let store = read_store(&spec.store)?;
        let mut options = Options::new(backend(&store, &spec.nodes, &tasks)?);
        options.socket = Some(Socket { path: spec.socket, mode: 0o660, group });
        tasks.spawn("watch_store", watch_store(spec.store, store, tasks.stopping()));
        Ok(flotilla_sessions::run(options, &tasks).await?)
    })
    .await
}

fn read_store(file: &Path) -> anyhow::Result<SessionStore> {
    let text = std::fs::read(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("`{}` does not say what keeps the sessions", file.display()))
}

fn backend(store: &SessionStore, nodes: &Path, tasks: &Tasks) -> anyhow::Result<Backend> {
    Ok(match store.clone() {
        SessionStore::Nodes { .. } => {
            let list = follow_node_file(nodes.to_owned(), tasks);
            Backend::Memcached(list.with_context(|| format!("cannot read `{}`", nodes.display()))?)
        }
        SessionStore::Cluster { endpoint } => Backend::ElastiCache(endpoint),
        SessionStore::Table { name, region, endpoint } => {
            Backend::DynamoDb(Table { name, region, endpoint })
        }
    })
}

/// Ends this process when another store keeps the sessions; the agent starts one that uses it.
async fn watch_store(file: PathBuf, present: SessionStore, stopping: CancellationToken) {
    let look = async {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            // A file that cannot be read says nothing new.
            let Ok(new) = read_store(&file) else { continue };
            if !present.leads_to(&new) {
                return;
            }
        }
    };
    if stopping.run_until_cancelled(look).await.is_some() {
        tracing::info!("Sessions are kept elsewhere now; starting anew");
        stopping.cancel();
    }
}
