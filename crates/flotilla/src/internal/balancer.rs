//! `flotilla internal balancer`: wires the balancer.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use flotilla_balancer::{AddressRange, Options, WorkshopOptions};
use flotilla_foreman::secrets::Vault;
use flotilla_targets::local::ports::{BALANCER_CONTROL, Book, WORKSHOP};
use tokio::signal::unix::{SignalKind, signal};

use super::{run_with_tasks, start_log};
use crate::site::Site;

/// How often it looks whether its tokens are being replaced.
const TOKENS_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) async fn run(data_dir: &Path) -> anyhow::Result<()> {
    let site = Site::of_data_dir(data_dir)?;
    start_log(site.config.log.level);
    let options = options(&site)?;
    let drain_timeout = site.config.deploy.drain_timeout;
    let vault = site.vault();
    run_with_tasks(async |tasks| {
        let balancer = flotilla_balancer::start(options)?;
        let stopping = tasks.stopping();
        let mut reopen = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                () = stopping.cancelled() => break,
                () = balancer.failed() => anyhow::bail!("a thread of the balancer failed"),
                _ = reopen.recv() => balancer.reopen_log(),
                () = tokio::time::sleep(TOKENS_INTERVAL) => follow_tokens(&balancer, &vault),
            }
        }
        balancer.shut_down(drain_timeout).await;
        Ok(())
    })
    .await
}

/// A vault that cannot be read changes nothing.
fn follow_tokens(balancer: &flotilla_balancer::Balancer, vault: &Vault) {
    match vault.load() {
        Ok(Some(secrets)) => balancer.set_control_tokens(secrets.balancer_tokens()),
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "The secrets cannot be read"),
    }
}

fn options(site: &Site) -> anyhow::Result<Options> {
    let config = &site.config.balancer;
    let book = Book::read(&site.layout)?.context("the fleet has no ports yet")?;
    let control = book.port(BALANCER_CONTROL).context("the balancer has no control port yet")?;
    let listen = site.balancer_address()?.context("the balancer has no address yet")?;
    let directory = site.layout.balancer();
    let mut options = Options::new(
        vec![listen],
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), control),
        site.secrets()?.balancer_token,
        directory.join("table.json"),
    );
    options.threads = Some(usize::from(config.threads)).filter(|threads| *threads > 0);
    options.access_log = config.access_log.then(|| site.layout.log("access"));
    options.trusted_proxies = config
        .trusted_proxies
        .iter()
        .map(|range| range.to_string().parse::<AddressRange>())
        .collect::<Result<_, _>>()?;
    options.limits.request_body_bytes_max = config.max_body_size.bytes();
    options.timeouts.request_head = config.header_timeout;
    options.timeouts.keep_alive = config.idle_timeout;
    options.timeouts.response_head = config.upstream_timeout;
    options.timeouts.queue = config.queue_timeout;
    options.health.interval = config.health_interval;
    options.health.timeout = config.health_timeout;
    options.workshop = workshop(site, &book)?;
    options.retries.attempts_max = u32::from(config.retries);
    Ok(options)
}

fn workshop(site: &Site, book: &Book) -> anyhow::Result<Option<WorkshopOptions>> {
    if !site.config.has_workshop() {
        return Ok(None);
    }
    let port = book.port(WORKSHOP).context("the workshop has no port yet")?;
    Ok(Some(WorkshopOptions {
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
        key: site.secrets()?.workshop_key,
        workers_max: site.config.php.workers,
    }))
}
