//! Binding: one listener per thread and address, all on the same port.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::BalancerError;

/// Connections that wait in the kernel to be accepted, for each listener.
const BACKLOG: i32 = 4_096;

/// Binds the address once for each thread; all share the port that the first one got.
pub(crate) fn bind_shared(
    address: SocketAddr,
    threads: usize,
) -> Result<Vec<TcpListener>, BalancerError> {
    let wrong = |source| BalancerError::Bind { address, source };
    // Listeners that share a port would silently share it with another balancer, too; this one
    // does not share, so it fails when somebody listens already.
    let alone = socket(address).map_err(wrong)?;
    alone.bind(&address.into()).map_err(wrong)?;
    drop(alone);
    let mut listeners: Vec<TcpListener> = Vec::with_capacity(threads);
    let mut address = address;
    for _ in 0..threads.max(1) {
        let listener = listen_shared(address).map_err(wrong)?;
        address = listener.local_addr().map_err(wrong)?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Binds an address for one thread.
pub(crate) fn bind_alone(address: SocketAddr) -> Result<TcpListener, BalancerError> {
    let bind = || -> io::Result<TcpListener> {
        let socket = socket(address)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    bind().map_err(|source| BalancerError::Bind { address, source })
}

fn listen_shared(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}
