//! `flotilla internal supervise`: wires the supervisor of a local fleet.

use std::path::Path;

use flotilla_core::config::ObjectCache;
use flotilla_foreman::secrets::Secrets;
use flotilla_host::rotate::Rotation;
use flotilla_targets::local::live::Live;
use flotilla_targets::local::packages::Machine;
use flotilla_targets::local::supervisor::{EmbeddedDatabase, Options, run as supervise};

use super::{run_with_tasks, start_log};
use crate::local::{connections_max, database_account, has_own_bucket};
use crate::site::Site;

pub(crate) async fn run(data_dir: &Path) -> anyhow::Result<()> {
    let site = Site::of_data_dir(data_dir)?;
    start_log(site.config.log.level);
    let secrets = site.secrets()?;
    let database = &site.config.database;
    let options =
        Options {
            data_dir: data_dir.to_owned(),
            own_program: std::env::current_exe()?,
            timezone: site.config.site.timezone.clone(),
            env: Vec::new(),
            machine: Machine::this(),
            database: database.url.is_none().then(|| EmbeddedDatabase {
                memory_bytes: database.buffer_pool.bytes(),
                connections_max: connections_max(database),
                account: live(&site, &secrets, database_account),
            }),
            sessions_memory_mb: site.config.sessions.are_on_own_nodes().then(|| {
                u32::try_from(site.config.sessions.memory.mebibytes()).unwrap_or(u32::MAX)
            }),
            cache_memory_mb: (site.config.cache.object != ObjectCache::Off)
                .then(|| u32::try_from(site.config.cache.memory.mebibytes()).unwrap_or(u32::MAX)),
            has_bucket: has_own_bucket(&site.config),
            operator_token: live(&site, &secrets, |secrets| secrets.operator_token.clone()),
            rotation: Rotation {
                bytes_max: site.config.log.rotate_size.bytes(),
                keep: site.config.log.keep,
            },
        };
    run_with_tasks(async |tasks| Ok(supervise(options, tasks.stopping()).await?)).await
}

/// Reads something of the secrets whenever it is needed: they may be replaced while this runs.
/// While they cannot be read, what this part was started with counts.
fn live<T: 'static>(site: &Site, first: &Secrets, take: fn(&Secrets) -> T) -> Live<T> {
    let (vault, first) = (site.vault(), first.clone());
    Live::new(move || match vault.load() {
        Ok(Some(secrets)) => take(&secrets),
        _ => take(&first),
    })
}
