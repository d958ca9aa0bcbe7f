//! Keeps the workshop at the release in service, so that WP-CLI runs what visitors are served.

use flotilla_core::error::chain;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::engine::Snapshot;
use crate::workshop::Workshop;

const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Follows the fleet for ever. While a deploy is under way it leaves the workshop to the upgrade.
pub async fn follow_fleet(workshop: Arc<Workshop>, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
    loop {
        let wanted = {
            let snapshot = snapshots.borrow_and_update();
            let serving =
                snapshot.fleet.serving_release().filter(|_| snapshot.fleet.deploy.is_none());
            serving.map(|release| release.revision.clone())
        };
        if let Some(revision) = wanted
            && let Err(error) = workshop.check_out(&revision).await
        {
            tracing::error!(
                revision = revision.as_str(),
                error = chain(&error),
                "The workshop cannot follow the fleet"
            );
            tokio::time::sleep(RETRY_AFTER).await;
            continue;
        }
        if snapshots.changed().await.is_err() {
            return;
        }
    }
}
