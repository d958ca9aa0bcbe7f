//! Prepares a release in an idle slot: receive, check out, warm, try, and only then the mark.

use std::path::PathBuf;
use std::time::Duration;

use flotilla_core::api::SlotSettings;
use flotilla_core::error::chain;
use flotilla_core::id::Revision;
use flotilla_core::table::REVISION_HEADER;
use flotilla_host::files::FileError;
use flotilla_host::git::{Git, GitError};
use flotilla_host::unit::UnitError;
use flotilla_host::web_server::RenderError;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::foreman::Foreman;
use crate::receive::{ReceiveError, receive};
use crate::slot::{Mark, Slot};

/// Where WordPress looks for the object cache of a site.
const OBJECT_CACHE: &str = "wp-content/object-cache.php";
/// How long requests that still run in an idle slot may go on.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(20);
const WARM_TIMEOUT: Duration = Duration::from_secs(60);
const SCRATCH_TIMEOUT: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Says why a slot could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The revision is not here.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// It cannot be checked out.
    #[error("cannot check out the revision")]
    Checkout(#[from] GitError),
    /// The configuration cannot be written.
    #[error(transparent)]
    Configure(#[from] RenderError),
    /// nginx and php-fpm do not start.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// A file is in the way.
    #[error(transparent)]
    File(#[from] FileError),
    /// The slot runs but does not answer.
    #[error("the slot does not answer its health check within {0:?}")]
    Silent(Duration),
    /// The release answers with an error.
    #[error("smoke request for `{path}` {fault}{}", log_end(.log))]
    Smoke {
        /// The path.
        path: String,
        /// How it answered.
        fault: String,
        /// The end of PHP's error log.
        log: String,
    },
}

impl PrepareError {
    /// Whether it is a fault of the release, and not only of the moment.
    #[must_use]
    pub const fn is_of_release(&self) -> bool {
        !matches!(self, Self::Receive(ReceiveError::Unreachable(_)))
    }
}

fn log_end(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!("; PHP's log says: {log}") }
}

/// What preparing works with.
#[derive(Debug, Clone, Copy)]
pub struct Tools<'a> {
    /// Where revisions come from.
    pub foreman: &'a Foreman,
    /// The instance's repository.
    pub git: &'a Git,
    /// What slots need besides the code.
    pub settings: &'a SlotSettings,
    /// Whether the slot's processes run with other settings.
    pub has_new_settings: bool,
    /// Asks the slot; follows no redirects.
    pub client: &'a reqwest::Client,
    /// The other slot, to learn from what is hot.
    pub sibling: &'a Slot,
    /// Names this boot of the machine.
    pub boot: &'a str,
}

/// Brings a slot to a revision, ready to be served from.
///
/// # Errors
/// Says which step failed; the slot then holds no mark.
pub async fn prepare(
    slot: &Slot,
    revision: &Revision,
    tools: Tools<'_>,
) -> Result<(), PrepareError> {
    // Without the mark a change was begun and not ended: the processes may know half of it.
    let must_restart = tools.has_new_settings || slot.mark().is_none();
    slot.remove_mark();
    let mut is_running = quiesce(slot, must_restart).await?;
    let worktree = slot.worktree();
    let held = match worktree.checked_out().await {
        Some(revision) => Some(revision),
        None => tools.sibling.worktree().checked_out().await,
    };
    receive(tools.git, tools.foreman, held.as_ref(), revision).await?;
    let changed = worktree.checkout(revision, &slot.kept()).await?;
    tell_object_cache(slot, &tools.settings.object_cache);
    if is_running && changed.has_other_paths {
        // PHP keeps which file a path leads to, in opcache and in each worker.
        slot.server.unit.stop().await?;
        is_running = false;
    }
    if !is_running {
        slot.server.configure(tools.settings)?;
    }
    slot.server.name_revision(revision)?;
    slot.server.unit.start().await?;
    wait_until_healthy(slot, revision, tools.client).await?;
    clear_scratch(slot).await;
    let touched: Vec<PathBuf> = changed.written.into_iter().chain(changed.removed).collect();
    warm(slot, tools, &touched).await;
    try_out(slot, revision, tools).await?;
    slot.write_mark(&Mark { revision: revision.clone(), boot: tools.boot.to_owned() })?;
    Ok(())
}

/// Says whose object cache the release uses when its code brings one.
fn tell_object_cache(slot: &Slot, mode: &str) {
    if !slot.server.directory.join("site").join(OBJECT_CACHE).is_file() {
        return;
    }
    let message = match mode {
        "auto" => "The site's code brings an object cache of its own, so flotilla's steps aside",
        "on" => "The object cache of the site's code is not used, because `cache.object` is `on`",
        _ => "The site's code brings an object cache of its own",
    };
    tracing::info!(slot = slot.name.as_str(), file = OBJECT_CACHE, message);
}

/// What plugins have cached of the release before is of no use to this one, and may be wrong.
async fn clear_scratch(slot: &Slot) {
    if let Err(error) = slot.server.run_script("scratch.php", b"", SCRATCH_TIMEOUT).await {
        tracing::warn!(
            error = chain(&error),
            "The slot's scratch cannot be emptied; its processes are started anew"
        );
        start_anew(slot).await;
    }
}

/// Makes sure that nothing runs in the slot that its change could hurt; returns whether its
/// processes still run.
async fn quiesce(slot: &Slot, must_restart: bool) -> Result<bool, UnitError> {
    if slot.server.unit.holder()?.is_none() {
        return Ok(false);
    }
    let deadline = Instant::now() + IDLE_TIMEOUT;
    while !must_restart && Instant::now() < deadline {
        if slot.server.workers().await.is_some_and(|workers| workers.busy == 0) {
            return Ok(true);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    tracing::info!(
        slot = slot.name.as_str(),
        must_restart,
        "The slot's processes are started anew"
    );
    slot.server.unit.stop().await?;
    Ok(false)
}

/// Waits until nginx and PHP of a slot serve a revision.
///
/// # Errors
/// They do not in time.
pub async fn wait_until_healthy(
    slot: &Slot,
    revision: &Revision,
    client: &reqwest::Client,
) -> Result<(), PrepareError> {
    let deadline = Instant::now() + HEALTH_TIMEOUT;
    while slot.server.health(client).await.as_ref() != Some(revision) {
        if Instant::now() > deadline {
            return Err(PrepareError::Silent(HEALTH_TIMEOUT));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Hot {
    scripts: Vec<HotScript>,
}

#[derive(Deserialize)]
struct HotScript {
    path: String,
}

#[derive(Serialize)]
struct Warm {
    invalidate: Vec<String>,
    compile: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Warmed {
    compiled: u64,
    already_cached: u64,
    is_complete: bool,
}

/// Makes opcache follow the change, and compiles what the serving slot has hot. A cold start is
/// slow, not wrong: what fails here is told and passed over.
async fn warm(slot: &Slot, tools: Tools<'_>, touched: &[PathBuf]) {
    let scripts_max = tools.settings.warm_scripts_max;
    let invalidate = names(touched);
    let compile = match hot_scripts(tools.sibling, scripts_max).await {
        Some(scripts) => scripts,
        None => hot_scripts(slot, scripts_max).await.unwrap_or_default(),
    };
    let request = Warm { invalidate, compile };
    let body = serde_json::to_vec(&request).unwrap_or_default();
    match slot.server.run_script("warm.php", &body, WARM_TIMEOUT).await {
        Ok(answer) => match serde_json::from_slice::<Warmed>(&answer) {
            Ok(warmed) => tracing::debug!(
                compiled = warmed.compiled,
                already_cached = warmed.already_cached,
                is_complete = warmed.is_complete,
                "The slot was warmed"
            ),
            Err(error) => tracing::warn!(%error, "The slot's warm-up answered nonsense"),
        },
        Err(error) => {
            // Without it the slot would run what it has cached of the release before.
            tracing::warn!(
                error = chain(&error),
                "The slot cannot be warmed; its processes are started anew"
            );
            start_anew(slot).await;
        }
    }
}

/// Has opcache forget scripts that changed.
pub(crate) async fn forget_scripts(slot: &Slot, touched: &[PathBuf]) {
    let request = Warm { invalidate: names(touched), compile: Vec::new() };
    let body = serde_json::to_vec(&request).unwrap_or_default();
    if let Err(error) = slot.server.run_script("warm.php", &body, WARM_TIMEOUT).await {
        // Without it the slot would go on running what it has cached.
        tracing::warn!(
            slot = slot.name.as_str(),
            error = chain(&error),
            "PHP does not forget what was changed; the slot's processes are started anew"
        );
        start_anew(slot).await;
    }
}

/// Whoever keeps the slot's processes goes on when this fails.
async fn start_anew(slot: &Slot) {
    drop(slot.server.unit.stop().await);
    drop(slot.server.unit.start().await);
}

/// Names files, whatever their ends are: a site may include a `.inc` or a `.phtml`.
fn names(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.to_string_lossy().into_owned()).collect()
}

async fn hot_scripts(slot: &Slot, scripts_max: u32) -> Option<Vec<String>> {
    let request = format!("{{\"limit\":{scripts_max}}}");
    let answer =
        slot.server.run_script("scripts.php", request.as_bytes(), WARM_TIMEOUT).await.ok()?;
    let hot: Hot = serde_json::from_slice(&answer).ok()?;
    Some(hot.scripts.into_iter().map(|script| script.path).collect())
        .filter(|all: &Vec<String>| !all.is_empty())
}

/// Asks for the smoke paths as a visitor would, before there is one.
async fn try_out(slot: &Slot, revision: &Revision, tools: Tools<'_>) -> Result<(), PrepareError> {
    for path in &tools.settings.smoke {
        ask(slot, revision, tools, path).await.map_err(|fault| PrepareError::Smoke {
            path: path.clone(),
            fault,
            log: slot.server.php_errors(),
        })?;
    }
    Ok(())
}

async fn ask(slot: &Slot, revision: &Revision, tools: Tools<'_>, path: &str) -> Result<(), String> {
    let limit = Duration::from_millis(tools.settings.smoke_timeout_millis);
    let errors = slot.server.errors_now();
    let page = match get(slot, tools, path).await {
        Ok(page) => page,
        Err(error) if error.is_timeout() => return Err(format!("took longer than {limit:?}")),
        Err(error) => return Err(format!("failed: {}", chain(&error))),
    };
    if page.status >= 500 {
        return Err(format!("answered {}", page.status));
    }
    // A page can break off in its middle, when its status is sent already.
    let is_fatal = errors.have_fatal_since();
    if let Some(other) = page.revision.filter(|served_by| served_by != revision.as_str()) {
        return Err(format!("was answered by revision `{other}`"));
    }
    if !is_fatal && page.status < 400 && !page.is_empty {
        return Ok(());
    }
    let errors_before = tools.sibling.server.errors_now();
    let before = get(tools.sibling, tools, path).await;
    // Some sites have lived with one for years.
    if is_fatal && !(before.is_ok() && errors_before.have_fatal_since()) {
        return Err("ended with a fatal error of PHP".to_owned());
    }
    if let Ok(before) = before {
        if page.status >= 400 && before.status < 400 {
            let (now, then) = (page.status, before.status);
            return Err(format!("answered {now}, where the release before answers {then}"));
        }
        if page.is_empty && !before.is_empty {
            return Err("was answered by an empty page".to_owned());
        }
    }
    Ok(())
}

/// What a smoke request got.
struct Page {
    status: u16,
    revision: Option<String>,
    is_empty: bool,
}

async fn get(slot: &Slot, tools: Tools<'_>, path: &str) -> Result<Page, reqwest::Error> {
    let request = tools
        .client
        .get(format!("http://{}{path}", slot.server.address))
        .header("host", &tools.settings.site_host)
        .header("x-forwarded-proto", &tools.settings.site_scheme)
        .timeout(Duration::from_millis(tools.settings.smoke_timeout_millis));
    let response = request.send().await?;
    let status = response.status().as_u16();
    let revision = response.headers().get(REVISION_HEADER);
    let revision = revision.and_then(|value| value.to_str().ok()).map(str::to_owned);
    // Redirects have no page.
    let is_page = response.status().is_success();
    let body = response.bytes().await?;
    Ok(Page { status, revision, is_empty: is_page && body.is_empty() })
}
