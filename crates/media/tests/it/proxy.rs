//! A connection to a server that can be cut or stopped, or lose answers.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
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
    /// It arrives, but there is no answer to what makes an object.
    Mute,
    /// It arrives, but in place of the answer to what makes an object the connection is cut.
    Cut,
    /// The same for each third of these.
    Lossy,
}

/// Each how many answers are lost when some are.
const LOSS: usize = 3;

/// Stands between a mount and its server.
pub(crate) struct Proxy {
    address: SocketAddr,
    way: Arc<AtomicU8>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

/// What both directions of a connection know.
struct Connection {
    way: Arc<AtomicU8>,
    /// Counts the answers that may be lost, of all connections.
    answers: Arc<AtomicUsize>,
    /// Whether the request under way makes an object.
    makes_object: AtomicBool,
}

impl Proxy {
    pub(crate) fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let way = Arc::new(AtomicU8::new(Way::Open as u8));
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (shared_way, shared) = (Arc::clone(&way), Arc::clone(&connections));
        let answers = Arc::new(AtomicUsize::new(0));
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
                // It may have been cut off while this connection was made.
                if shared_way.load(Ordering::SeqCst) == Way::Down as u8 {
                    cut(&shared);
                }
                let (back, forth) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
                let one = Arc::new(Connection {
                    way: Arc::clone(&shared_way),
                    answers: Arc::clone(&answers),
                    makes_object: AtomicBool::new(false),
                });
                let two = Arc::clone(&one);
                std::thread::spawn(move || pass(client, forth, |piece| one.asks(piece)));
                std::thread::spawn(move || pass(upstream, back, |_| two.answers()));
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
            cut(&self.connections);
        }
    }
}

fn cut(connections: &Mutex<Vec<TcpStream>>) {
    for connection in connections.lock().unwrap().drain(..) {
        drop(connection.shutdown(Shutdown::Both));
    }
}

impl Connection {
    /// Looks at a piece of a request; returns whether it goes on.
    fn asks(&self, piece: &[u8]) -> bool {
        self.wait_while(Way::Hung);
        let line = String::from_utf8_lossy(piece.split(|byte| *byte == b'\r').next().unwrap());
        if line.ends_with("HTTP/1.1") {
            let is_put = line.starts_with("PUT ") && !line.contains("partNumber=");
            let is_complete = line.starts_with("POST ") && line.contains("uploadId=");
            self.makes_object.store(is_put || is_complete, Ordering::SeqCst);
        }
        true
    }

    /// Looks at a piece of an answer; returns whether it goes on.
    fn answers(&self) -> bool {
        self.wait_while(Way::Hung);
        if !self.makes_object.swap(false, Ordering::SeqCst) {
            return true;
        }
        self.wait_while(Way::Mute);
        let way = self.way.load(Ordering::SeqCst);
        let count = self.answers.fetch_add(1, Ordering::SeqCst);
        way != Way::Cut as u8 && (way != Way::Lossy as u8 || !count.is_multiple_of(LOSS))
    }

    fn wait_while(&self, way: Way) {
        #[expect(clippy::disallowed_methods, reason = "a thread of its own, and it is to be slow")]
        while self.way.load(Ordering::SeqCst) == way as u8 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, goes_on: impl Fn(&[u8]) -> bool) {
    let mut piece = vec![0; 64 * 1024];
    let mut forward = || -> io::Result<bool> {
        let count = from.read(&mut piece)?;
        let is_end = count == 0 || !goes_on(&piece[..count]);
        if !is_end {
            to.write_all(&piece[..count])?;
        }
        Ok(!is_end)
    };
    while forward().unwrap_or(false) {}
    for stream in [&from, &to] {
        drop(stream.shutdown(Shutdown::Both));
    }
}
