//! Tasks with a name and an owner: nothing runs detached, and shutdown waits for all of them.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// Starts tasks, tells them to stop, and waits for them.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Tasks {
    /// Makes an owner without tasks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the token that is cancelled when shutdown begins.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Starts a task on the current runtime; a panic in it is logged and begins shutdown, because
    /// half a program is worse than one that is restarted.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.cancel.clone();
        let task = task.instrument(tracing::info_span!("task", name));
        let watched = async move {
            #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
            let outcome = tokio::spawn(task).await;
            if let Err(error) = outcome {
                tracing::error!(name, %error, "A task panicked; shutting down");
                cancel.cancel();
            }
        };
        self.tracker.spawn(watched);
    }

    /// Begins shutdown and waits for the tasks, at most `limit`; returns whether all have ended.
    pub async fn shut_down(&self, limit: Duration) -> bool {
        self.cancel.cancel();
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait()).await.is_ok()
    }
}
