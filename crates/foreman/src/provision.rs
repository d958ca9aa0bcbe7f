//! Makes a new site: code into the repository, WordPress into the database, the first deploy.
//!
//! Every step is skipped when it was done before, so it is simply run at each start.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::api::SiteState;
use flotilla_core::deploy::Cause;
use flotilla_core::error::chain;
use flotilla_core::fleet::Fleet;
use flotilla_core::id::Revision;
use flotilla_core::table::BalancerStatus;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::deploys::Deploys;
use crate::imported;
use crate::maintenance::{Install, Maintenance};
use crate::plugins::assemble;
use crate::pushes::SEEN;
use crate::source::Source;
use crate::store::Store;

/// The fact that holds the plugins that a new site was given, one a line.
const ACTIVE_PLUGINS: &str = "active_plugins";
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How long the balancer is waited for in one attempt.
const BALANCER_WAIT: Duration = Duration::from_secs(30);

/// What a new site is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where WordPress comes from.
    pub source: Source,
    /// The directories of plugins that it is given.
    pub plugins: Vec<PathBuf>,
    /// Where it is unpacked.
    pub scratch: PathBuf,
    /// What it is installed with.
    pub install: Install,
    /// The foreman's directory.
    pub directory: PathBuf,
    /// What the names of the tables begin with, as it is configured.
    pub table_prefix: String,
    /// Stops the foreman, which makes its settings at its start.
    pub stopping: CancellationToken,
}

/// Makes the site, trying again until it is made.
pub async fn provision(
    options: Options,
    deploys: Deploys,
    maintenance: Arc<Maintenance>,
    store: Store,
    progress: watch::Sender<SiteState>,
) {
    loop {
        match attempt(&options, &deploys, &maintenance, &store, &progress).await {
            Ok(()) => {
                progress.send_replace(SiteState::Made);
                return;
            }
            Err(message) => {
                tracing::error!(message, "The site cannot be made; trying again");
                progress.send_replace(SiteState::Failed { message });
            }
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

async fn attempt(
    options: &Options,
    deploys: &Deploys,
    maintenance: &Maintenance,
    store: &Store,
    progress: &watch::Sender<SiteState>,
) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| chain(error);
    let say = |what: String| drop(progress.send_replace(SiteState::Making { what }));
    if is_made(deploys).await? {
        return remember_branch(deploys, store).await;
    }
    let revision = match deploys.repository.resolve(&deploys.branch).await {
        Ok(revision) => revision,
        Err(_unborn) => import(options, deploys, store, &say).await?,
    };
    say("Installing WordPress".to_owned());
    maintenance.check_out(&revision).await.map_err(|error| text(&error))?;
    let active = store.fact(ACTIVE_PLUGINS).await.map_err(|error| text(&error))?;
    let plugins = active.map(|names| names.lines().map(str::to_owned).collect());
    let install = Install { plugins: plugins.unwrap_or_default(), ..options.install.clone() };
    maintenance.install(&install).await.map_err(|error| text(&error))?;
    say("Starting the first release".to_owned());
    store.set_fact(SEEN, revision.as_str().to_owned()).await.map_err(|error| text(&error))?;
    deploys.push(&revision, Cause::Install).await.map_err(|failure| failure.message)?;
    Ok(())
}

/// Whether something serves or is about to. When the store was lost, only the balancer knows it; a
/// new site has a balancer too, which was never told a table.
async fn is_made(deploys: &Deploys) -> Result<bool, String> {
    let mut snapshots = deploys.engine.snapshots();
    let heard = snapshots.wait_for(|snapshot| {
        let is_adopted = |status: &BalancerStatus| status.version <= snapshot.fleet.table.version;
        is_under_way(&snapshot.fleet) || snapshot.balancer.as_ref().is_some_and(is_adopted)
    });
    match tokio::time::timeout(BALANCER_WAIT, heard).await {
        Ok(Ok(snapshot)) => Ok(is_under_way(&snapshot.fleet)),
        Ok(Err(_stopping)) => Err("the foreman is stopping".to_owned()),
        Err(_late) => Err("the balancer does not say whether something serves".to_owned()),
    }
}

fn is_under_way(fleet: &Fleet) -> bool {
    fleet.serving_release().is_some() || fleet.deploy.is_some()
}

/// Takes the branch as it is for seen when the store has lost what was: only later pushes are
/// deployed.
async fn remember_branch(deploys: &Deploys, store: &Store) -> Result<(), String> {
    if store.fact(SEEN).await.map_err(|error| chain(&error))?.is_some() {
        return Ok(());
    }
    let Ok(tip) = deploys.repository.resolve(&deploys.branch).await else { return Ok(()) };
    store.set_fact(SEEN, tip.as_str().to_owned()).await.map_err(|error| chain(&error))
}

async fn import(
    options: &Options,
    deploys: &Deploys,
    store: &Store,
    say: &impl Fn(String),
) -> Result<Revision, String> {
    say("Getting WordPress".to_owned());
    let taken = options.source.take(&options.scratch, say).await.map_err(|error| chain(&error))?;
    say(format!("Importing {}", taken.description));
    if take_constants(options, &taken.directory)? {
        // The foreman starts anew with them, and this goes on from its beginning.
        options.stopping.cancel();
        return std::future::pending().await;
    }
    let (wordpress, plugins) = (taken.directory, options.plugins.clone());
    let target = options.scratch.join("site");
    let site = target.clone();
    let assembled = tokio::task::spawn_blocking(move || assemble(&wordpress, &plugins, &target));
    let names = match assembled.await {
        Ok(names) => names.map_err(|error| chain(&error))?,
        Err(error) => return Err(chain(&error)),
    };
    store.set_fact(ACTIVE_PLUGINS, names.join("\n")).await.map_err(|error| chain(&error))?;
    let revision = deploys
        .repository
        .import(&site, &deploys.branch, &format!("Import {}", taken.description))
        .await
        .map_err(|error| chain(&error))?;
    tracing::info!(
        source = taken.description,
        revision = revision.as_str(),
        "The site's code was imported"
    );
    Ok(revision)
}

/// Takes what it can of a `wp-config.php` that came with the code, and tells what it left out.
/// Returns whether that is news to the settings.
fn take_constants(options: &Options, site: &Path) -> Result<bool, String> {
    let Some(reading) = imported::of_site(site) else { return Ok(false) };
    for line in imported::lines(&reading.notes) {
        tracing::warn!(line, "A part of the site's wp-config.php is left out");
    }
    if reading.table_prefix.as_ref().is_some_and(|prefix| *prefix != options.table_prefix) {
        tracing::warn!(
            prefix = reading.table_prefix,
            "The site's wp-config.php has another table prefix; `database.table_prefix` is to say so \
             before its database is restored"
        );
    }
    let is_news =
        imported::keep(&options.directory, &reading.taken).map_err(|error| chain(&error))?;
    if is_news {
        let names: Vec<&str> = reading.taken.keys().map(String::as_str).collect();
        tracing::info!(
            names = names.join(" "),
            "Constants were taken from the site's wp-config.php"
        );
    }
    Ok(is_news)
}
