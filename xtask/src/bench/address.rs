//! Free ports of the loopback address.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::Context;

/// Finds addresses that nobody listens on, all different.
pub(crate) fn free(count: usize) -> anyhow::Result<Vec<SocketAddr>> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<_, _>>()
        .context("cannot find a free port")?;
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>();
    addresses.context("cannot find a free port")
}
