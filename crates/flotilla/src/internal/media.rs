//! `flotilla internal media-keeper` and `media-daemon`: wire the two processes of a mount.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use flotilla_core::config::LogLevel;
use flotilla_core::media::MediaSettings;
use flotilla_host::files::read_json;
use flotilla_host::media::MountSpec;
use flotilla_media::{Credentials, Keeper, Options, Owner, StoreOptions, run_daemon, run_keeper};

use super::start_log;

/// The permission bits of what nobody changed; only others are remembered with a file or directory.
pub(crate) const FILE_MODE: u16 = 0o644;
pub(crate) const DIRECTORY_MODE: u16 = 0o755;

pub(crate) fn keep(file: &Path) -> anyhow::Result<()> {
    start_log(LogLevel::Info);
    let spec = spec(file)?;
    let args = ["internal", "media-daemon"].map(str::to_owned).into_iter();
    let keeper = Keeper {
        mount_point: spec.mount_point.clone(),
        options: options(&spec),
        program: std::env::current_exe()?,
        args: args.chain([file.to_string_lossy().into_owned()]).collect(),
        options_file: file.to_owned(),
    };
    Ok(run_keeper(&keeper)?)
}

pub(crate) fn answer(file: &Path) -> anyhow::Result<()> {
    start_log(LogLevel::Info);
    Ok(run_daemon(options(&spec(file)?))?)
}

/// Returns how the client of the bucket is told to reach it.
pub(crate) fn store_options(settings: &MediaSettings) -> StoreOptions {
    StoreOptions {
        endpoint: settings.endpoint.clone(),
        region: settings.region.clone(),
        bucket: settings.bucket.clone(),
        prefix: settings.prefix.clone(),
        credentials: settings.keys.as_ref().map(|keys| Credentials {
            access_key_id: keys.access_key_id.clone(),
            secret_access_key: keys.secret_access_key.reveal().to_owned(),
        }),
        certificates: None,
    }
}

fn spec(file: &Path) -> anyhow::Result<MountSpec> {
    read_json(file)?.with_context(|| format!("there is no `{}`", file.display()))
}

fn options(spec: &MountSpec) -> Options {
    Options {
        store: store_options(&spec.settings),
        directory: spec.directory.clone(),
        cache_bytes_max: spec.settings.cache_bytes_max,
        owner: Owner {
            uid: spec.uid,
            gid: spec.gid,
            file_mode: FILE_MODE,
            directory_mode: DIRECTORY_MODE,
        },
        staleness: Duration::from_millis(spec.settings.staleness_millis),
    }
}
