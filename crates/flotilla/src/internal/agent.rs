//! `flotilla internal agent`: wires the agent of one instance.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::Context;
use flotilla_agent::Options;
use flotilla_core::id::InstanceName;
use flotilla_core::slot::{SlotName, Slots};
use flotilla_targets::local::ports::{Book, slot_role};

use super::{run_with_tasks, start_log};
use crate::local::{find_program, media, php_fpm, php_identity};
use crate::site::Site;

pub(crate) async fn run(data_dir: &Path, instance: InstanceName) -> anyhow::Result<()> {
    let site = Site::of_data_dir(data_dir)?;
    start_log(site.config.log.level);
    let book = Book::read(&site.layout)?.context("the fleet has no ports yet")?;
    let port = |slot: SlotName| {
        book.port(&slot_role(&instance, slot))
            .with_context(|| format!("`{instance}` has no port for {slot}"))
    };
    let foreman = site.foreman_address()?.context("the foreman has no address yet")?;
    let (php_user, php_group) = php_identity(&site.config)?;
    let options = Options {
        directory: site.layout.instance(&instance),
        foreman: format!("http://{foreman}"),
        listen_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        ports: Slots { blue: port(SlotName::Blue)?, green: port(SlotName::Green)? },
        // The balancer, and the foreman's smoke requests.
        trusted: vec!["127.0.0.1".to_owned()],
        media: media(&site, &format!("{instance}-media"), site.layout.instance_media(&instance))?,
        own_program: std::env::current_exe()?,
        nginx: find_program("nginx")?,
        php_fpm: php_fpm(&site.config)?,
        php_user,
        php_group,
        instance,
    };
    run_with_tasks(async |tasks| Ok(flotilla_agent::agent::run(options, &tasks).await?)).await
}
