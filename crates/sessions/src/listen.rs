//! Making the sockets that clients connect to.

use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use tokio::net::{TcpListener, UnixListener};

use crate::error::SessionsError;
use crate::options::Socket;

/// Makes the socket that PHP connects to; one that a dead gateway left is replaced.
///
/// The socket is made under another name and renamed when it has its mode, so that nobody finds one
/// that he may not use.
pub(crate) fn bind_socket(socket: &Socket) -> Result<UnixListener, SessionsError> {
    let path = &socket.path;
    if UnixStream::connect(path).is_ok() {
        return Err(SessionsError::SocketInUse { path: path.clone() });
    }
    let fail = |source| SessionsError::Socket { path: path.clone(), source };
    if path.symlink_metadata().is_ok_and(|meta| !meta.file_type().is_socket()) {
        return Err(fail(io::Error::new(io::ErrorKind::AlreadyExists, "it is not a socket")));
    }
    make_socket(socket, &path.with_extension("new")).map_err(fail)
}

fn make_socket(socket: &Socket, new: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(new)?;
    if let Some(group) = socket.group {
        std::os::unix::fs::chown(new, None, Some(group))?;
    }
    std::fs::set_permissions(new, Permissions::from_mode(socket.mode))?;
    std::fs::rename(new, &socket.path)?;
    Ok(listener)
}

/// Binds the port for test tools.
pub(crate) async fn bind_port(address: SocketAddr) -> Result<TcpListener, SessionsError> {
    if !address.ip().is_loopback() {
        return Err(SessionsError::PortNotLoopback { address });
    }
    let fail = |source| SessionsError::Port { address, source };
    TcpListener::bind(address).await.map_err(fail)
}
