//! A connection to a server that can be cut or stopped.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happens to what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Way {
    /// It arrives.
    Open,
    /// Connections are refused, and those that were made are cut.
    Down,
    /// Connections are made, and nothing arrives.
    Hung,
}

/// Stands between a mount and its server.
pub(crate) struct Proxy {
    address: SocketAddr,
    way: Arc<AtomicU8>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    pub(crate) fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let way = Arc::new(AtomicU8::new(Way::Open as u8));
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (shared_way, shared) = (Arc::clone(&way), Arc::clone(&connections));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared_way.load(Ordering::SeqCst) == Way::Down as u8 {
                    continue;
                }
                let Ok(upstream) = TcpStream::connect(server) else { continue };
                drop(client.set_nodelay(true).and(upstream.set_nodelay(true)));
                for stream in [&client, &upstream] {
                    shared.lock().unwrap().push(stream.try_clone().unwrap());
                }
                let (back, forth) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
                let (one, two) = (Arc::clone(&shared_way), Arc::clone(&shared_way));
                std::thread::spawn(move || pass(client, forth, &one));
                std::thread::spawn(move || pass(upstream, back, &two));
            }
        });
        Self { address, way, connections }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn set(&self, way: Way) {
        self.way.store(way as u8, Ordering::SeqCst);
        if way == Way::Down {
            for connection in self.connections.lock().unwrap().drain(..) {
                drop(connection.shutdown(Shutdown::Both));
            }
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, way: &AtomicU8) {
    let mut piece = vec![0; 64 * 1024];
    let mut forward = || -> io::Result<bool> {
        let count = from.read(&mut piece)?;
        #[expect(clippy::disallowed_methods, reason = "a thread of its own, and it is to be slow")]
        while way.load(Ordering::SeqCst) == Way::Hung as u8 {
            std::thread::sleep(Duration::from_millis(5));
        }
        to.write_all(&piece[..count])?;
        Ok(count > 0)
    };
    while forward().unwrap_or(false) {}
    drop(to.shutdown(Shutdown::Both));
}
