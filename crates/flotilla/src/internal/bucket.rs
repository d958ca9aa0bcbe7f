//! `flotilla internal bucket`: wires the store that a fleet on one machine keeps its media in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::Context;
use flotilla_bucket::{Limits, Options};
use flotilla_foreman::settings::{BUCKET as BUCKET_NAME, BUCKET_KEY_ID};
use flotilla_targets::local::ports::{BUCKET, Book};

use super::{run_with_tasks, start_log};
use crate::site::Site;

pub(crate) async fn run(data_dir: &Path) -> anyhow::Result<()> {
    let site = Site::of_data_dir(data_dir)?;
    start_log(site.config.log.level);
    let book = Book::read(&site.layout)?.context("the fleet has no ports yet")?;
    let port = book.port(BUCKET).context("the store of media has no port yet")?;
    let options = Options {
        listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
        directory: site.layout.bucket(),
        access_key: BUCKET_KEY_ID.to_owned(),
        secret_key: site.secrets()?.bucket_key.reveal().to_owned(),
        bucket: BUCKET_NAME.to_owned(),
        limits: Limits::default(),
    };
    run_with_tasks(async |tasks| Ok(flotilla_bucket::run(options, &tasks).await?)).await
}
