//! Keeps a web server's processes alive.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::WebServer;

const INTERVAL: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
const MEDIA_INTERVAL: Duration = Duration::from_secs(1);

impl WebServer {
    /// Starts its processes again when they have died, but not while it is being changed: whoever
    /// changes it holds the gate. What the gate guards is whether there is something to keep.
    pub async fn keep(self, gate: Arc<Mutex<bool>>, stopping: CancellationToken) {
        let unit = self.unit.name.as_str();
        let mut wait = INTERVAL;
        let mut media_due = Instant::now();
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            let Ok(is_kept) = gate.try_lock() else { continue };
            if !*is_kept {
                continue;
            }
            // The kernel writes a list of all mounts for this look, so it is not taken each time.
            let is_media_due = media_due <= Instant::now();
            if is_media_due {
                media_due = Instant::now() + MEDIA_INTERVAL;
            }
            if is_media_due && self.has_lost_media() {
                tracing::warn!(unit, "A web server has lost its media and starts anew");
                if let Err(error) = self.unit.stop().await {
                    tracing::error!(unit, %error, "A web server cannot be stopped");
                }
            }
            match self.unit.start().await {
                Ok(was_started) => {
                    wait = INTERVAL;
                    if was_started {
                        tracing::warn!(
                            unit,
                            "A web server's processes had died and were started anew"
                        );
                    }
                }
                Err(error) => {
                    tracing::error!(unit, %error, "A web server does not start");
                    wait = (wait * 2).min(BACK_OFF_MAX);
                }
            }
        }
    }
}
