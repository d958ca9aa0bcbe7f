//! A connection that left HTTP (WebSocket): bytes go both ways until either side ends it.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWriteExt as _, copy_bidirectional};

use crate::admission::InFlight;
use crate::lane::UpstreamSocket;
use crate::socket::WatchedStream;

/// A tunnel on which nothing moved for this long is closed.
const IDLE_MAX: Duration = Duration::from_secs(600);

/// The upstream's side of the connection.
#[derive(Debug)]
pub(crate) struct Tunnel {
    /// The stream.
    pub(crate) stream: WatchedStream,
    /// Counts the stream as open.
    #[expect(dead_code, reason = "it counts until it is dropped")]
    pub(crate) socket: UpstreamSocket,
    /// What the upstream sent right behind its answer.
    pub(crate) read_ahead: Bytes,
    /// Counts as a request until the tunnel ends.
    pub(crate) in_flight: InFlight,
}

impl Tunnel {
    /// Passes bytes on, beginning with what was read ahead on either side.
    pub(crate) async fn run(mut self, mut visitor: WatchedStream, read_ahead: Bytes) {
        let traffic = self.stream.traffic();
        let draining = self.in_flight.draining();
        let copy = async {
            self.stream.write_all(&read_ahead).await?;
            visitor.write_all(&self.read_ahead).await?;
            copy_bidirectional(&mut visitor, &mut self.stream).await
        };
        let watch = async {
            loop {
                let before = traffic.all_bytes();
                tokio::time::sleep(IDLE_MAX).await;
                if traffic.all_bytes() == before {
                    break;
                }
            }
        };
        tokio::select! {
            outcome = copy => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, "A tunnel broke");
                }
            }
            () = watch => tracing::debug!("A tunnel was idle for too long"),
            () = draining.cancelled() => {}
        }
    }
}
