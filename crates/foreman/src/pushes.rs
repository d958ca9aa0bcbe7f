//! Deploys what was pushed: notices that the site's branch has moved, however it was moved.

use std::sync::Arc;
use std::time::Duration;

use flotilla_core::deploy::Cause;
use flotilla_core::error::{ErrorKind, Failure};
use flotilla_core::id::Revision;
use tokio::sync::Notify;

use crate::deploys::Deploys;
use crate::store::Store;

/// How often the branch is looked at when nobody says that it moved: a push over the file system
/// does not pass through the foreman.
const INTERVAL: Duration = Duration::from_secs(2);
/// The fact that holds the revision that was last taken from the branch.
pub const SEEN: &str = "branch_seen";

/// Follows the branch for ever.
pub async fn follow_branch(deploys: Deploys, store: Store, pushed: Arc<Notify>) {
    loop {
        tokio::select! {
            () = pushed.notified() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
        activate(&deploys, &store).await;
    }
}

async fn activate(deploys: &Deploys, store: &Store) {
    // Captures move the branch as well, and deploy it themselves.
    let _alone = deploys.branch_moves.lock().await;
    let Ok(tip) = deploys.repository.resolve(&deploys.branch).await else { return };
    let seen = match store.fact(SEEN).await {
        Ok(seen) => seen,
        Err(error) => return tracing::error!(%error, "The foreman's store failed"),
    };
    // Until the site is made there is no fact, and the branch is the maker's.
    if seen.is_none_or(|seen| seen == tip.as_str()) {
        return;
    }
    if let Err(failure) = start(deploys, &tip).await {
        // The branch stays as news, so this is tried again.
        tracing::warn!(
            revision = tip.as_str(),
            reason = failure.message,
            "A push cannot be deployed now"
        );
    } else if let Err(error) = store.set_fact(SEEN, tip.as_str().to_owned()).await {
        tracing::error!(%error, "The foreman's store failed");
    }
}

/// Starts the deploy of a push, or puts into the history why there is none; the next push is then
/// the next try.
///
/// # Errors
/// Something failed that says nothing about the push.
async fn start(deploys: &Deploys, tip: &Revision) -> Result<(), Failure> {
    if deploys.is_serving(tip) {
        return Ok(());
    }
    match deploys.push(tip, Cause::Push).await {
        Ok((id, ..)) => {
            tracing::info!(deploy = id.0, revision = tip.as_str(), "A push starts a deploy");
        }
        Err(failure) if failure.kind == ErrorKind::Refused => {
            let id = deploys.refuse_push(tip, &failure).await?;
            tracing::warn!(
                deploy = id.0,
                revision = tip.as_str(),
                reason = failure.message,
                "A push is not deployed"
            );
        }
        Err(failure) => return Err(failure),
    }
    Ok(())
}
