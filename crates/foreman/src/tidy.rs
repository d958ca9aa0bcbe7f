//! Keeps the site's repository small and quick: packs what deploys and pushes have left, while no
//! deploy is under way.
//!
//! What a branch, a tag or a release refers to stays. What nothing refers to goes after two hours, so
//! that a push that is just arriving loses nothing.

use std::sync::Arc;
use std::time::Duration;

use flotilla_core::error::chain;
use flotilla_host::git::{Git, GitError};
use tokio::sync::watch;

use crate::engine::Snapshot;

const INTERVAL: Duration = Duration::from_secs(600);
/// More loose objects than this, or more packs, are worth the work.
const LOOSE_MAX: u64 = 2_000;
const PACKS_MAX: u64 = 20;
const TIME_LIMIT: Duration = Duration::from_secs(300);
const KEEP_UNREFERRED: &str = "2.hours.ago";

/// Tidies for ever.
pub async fn tidy_repository(git: Git, snapshots: watch::Receiver<Arc<Snapshot>>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        if snapshots.borrow().fleet.deploy.is_some() {
            continue;
        }
        if let Err(error) = activate(&git).await {
            tracing::warn!(error = chain(&error), "The site's repository cannot be tidied");
        }
    }
}

/// Tidies once, if it is worth it; returns whether it was.
///
/// # Errors
/// Git failed.
pub async fn activate(git: &Git) -> Result<bool, GitError> {
    let output = git.command("count-objects").arg("-v").run().await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    if number("count:") <= LOOSE_MAX && number("packs:") <= PACKS_MAX {
        return Ok(false);
    }
    git.command("pack-refs").arg("--all").run().await?;
    git.command("repack")
        .args(["-A", "-d", "-q", &format!("--unpack-unreachable={KEEP_UNREFERRED}")])
        .time_limit(TIME_LIMIT)
        .run()
        .await?;
    git.command("prune")
        .arg(format!("--expire={KEEP_UNREFERRED}"))
        .time_limit(TIME_LIMIT)
        .run()
        .await?;
    Ok(true)
}
