//! `flotilla internal sessions`: wires the session gateway of one instance.

use anyhow::Context;
use flotilla_agent::sessions::GatewaySpec;
use flotilla_core::config::LogLevel;
use flotilla_sessions::{Backend, Options, Socket, follow_node_file};
use nix::unistd::{Group, Uid};

use super::{run_with_tasks, start_log};

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
        let nodes = follow_node_file(spec.nodes.clone(), &tasks)
            .with_context(|| format!("cannot read `{}`", spec.nodes.display()))?;
        let mut options = Options::new(Backend::Memcached(nodes));
        options.socket = Some(Socket { path: spec.socket, mode: 0o660, group });
        Ok(flotilla_sessions::run(options, &tasks).await?)
    })
    .await
}
