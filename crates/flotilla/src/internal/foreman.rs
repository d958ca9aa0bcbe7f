//! `flotilla internal foreman`: wires the foreman.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::Context;
use flotilla_core::api::SessionStore;
use flotilla_core::config::{ObjectCache, SessionBackend, Sessions, Source as Origin};
use flotilla_foreman::place::Place;
use flotilla_foreman::secrets::Secrets;
use flotilla_foreman::service::Options;
use flotilla_foreman::source::Source;
use flotilla_foreman::{cron, imported, maintenance, provision, settings, workshop};
use flotilla_targets::local::ports::{BALANCER_CONTROL, BUCKET, Book, CACHE, SESSIONS, WORKSHOP};

use super::{run_with_tasks, start_log};
use crate::local::{
    account_changer, database_login, find_program, has_own_bucket, php_fpm, php_identity, place,
};
use crate::site::Site;

pub(crate) async fn run(data_dir: &Path) -> anyhow::Result<()> {
    let site = Site::of_data_dir(data_dir)?;
    start_log(site.config.log.level);
    let options = options(&site)?;
    run_with_tasks(async |tasks| Ok(flotilla_foreman::service::run(options, &tasks).await?)).await
}

fn options(site: &Site) -> anyhow::Result<Options> {
    let (config, layout) = (&site.config, &site.layout);
    let secrets = site.secrets()?;
    let book = Book::read(layout)?.context("the fleet has no ports yet")?;
    let loopback = |role: &str| {
        let port = book.port(role).with_context(|| format!("`{role}` has no port yet"));
        port.map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    };
    let url = site.url()?;
    let (php_user, _group) = php_identity(config)?;
    let login = database_login(site, Some(&book))?;
    let stores = settings::Stores {
        sessions: session_store(&config.sessions, &loopback)?,
        cache: match config.cache.object {
            ObjectCache::Off => Vec::new(),
            ObjectCache::Auto | ObjectCache::On => vec![loopback(CACHE)?],
        },
        bucket: has_own_bucket(config).then(|| loopback(BUCKET)).transpose()?,
    };
    let directory = layout.foreman();
    let mut constants = imported::read(&directory)?;
    constants.extend(config.wordpress.constants.clone());
    let needs = settings::Place { stores: &stores, php_user: &php_user };
    let settings = settings::slot_settings(config, &url, &login, &secrets, &constants, needs)?;
    let place = place(site, directory.join("maintenance"))?;
    let maintenance = maintenance::Options {
        place: place.clone(),
        git_dir: directory.join("site.git"),
        own_program: std::env::current_exe()?,
        wp_config: settings.wp_config.clone(),
        certificates: login.certificates,
    };
    Ok(Options {
        workshop: workshop_options(site, &maintenance, loopback(WORKSHOP)?)?,
        listen: site.foreman_address()?.context("the foreman has no address yet")?,
        balancer_control: loopback(BALANCER_CONTROL)?,
        vault: site.vault(),
        database_account: account_changer(site)?,
        balancer: site.balancer_address()?.context("the balancer has no address yet")?,
        branch: config.foreman.branch.clone(),
        deploys_pushes: config.foreman.deploy_on_push,
        policy: config.deploy.policy(),
        instances: config.fleet.instances,
        upgrade_timeout: config.deploy.upgrade_timeout,
        cron: cron::Options {
            work: maintenance::Options {
                place: Place { directory: directory.join("cron"), ..place },
                ..maintenance.clone()
            },
            log: layout.log("cron"),
            interval: config.cron.interval,
            runners_max: config.cron.runners,
            run_limit: config.cron.run_limit,
        },
        maintenance,
        site: provision_options(site, &secrets, &url),
        secrets,
        directory,
        settings,
        site_url: url,
    })
}

/// Says what the workshop is made of.
fn workshop_options(
    site: &Site,
    maintenance: &maintenance::Options,
    address: SocketAddr,
) -> anyhow::Result<workshop::Options> {
    let config = &site.config;
    let (php_user, php_group) = php_identity(config)?;
    Ok(workshop::Options {
        place: Place {
            directory: site.layout.foreman().join("workshop"),
            is_writable: config.has_workshop(),
            ..maintenance.place.clone()
        },
        git_dir: maintenance.git_dir.clone(),
        address,
        // The balancer.
        trusted: vec!["127.0.0.1".to_owned()],
        own_program: maintenance.own_program.clone(),
        nginx: find_program("nginx")?,
        php_fpm: php_fpm(config)?,
        php_user,
        php_group,
        mode: config.capture.mode,
        settle: config.capture.settle,
    })
}

/// Says what a new site is made of.
fn provision_options(site: &Site, secrets: &Secrets, url: &str) -> provision::Options {
    let (config, directory) = (&site.config.site, site.layout.foreman());
    provision::Options {
        source: source(site),
        plugins: config.plugins.iter().map(|path| site.directory.join(path)).collect(),
        scratch: directory.join("source"),
        install: maintenance::Install {
            title: config.title.clone(),
            user: config.admin_user.clone(),
            email: config.admin_email.clone(),
            password: secrets.admin_password.reveal().to_owned(),
            url: url.to_owned(),
            locale: config.locale.clone(),
            timezone: config.timezone.clone(),
            plugins: Vec::new(),
        },
        directory,
        table_prefix: site.config.database.table_prefix.clone(),
        stopping: tokio_util::sync::CancellationToken::new(),
    }
}

/// Returns what keeps the sessions: a store of the operator's, or the nodes of the fleet itself.
fn session_store(
    sessions: &Sessions,
    loopback: &impl Fn(&str) -> anyhow::Result<SocketAddr>,
) -> anyhow::Result<SessionStore> {
    if sessions.backend == SessionBackend::DynamoDb {
        return Ok(SessionStore::Table {
            name: sessions.table.clone().context("`sessions.table` is not set")?,
            region: sessions.region.clone().context("`sessions.region` is not set")?,
            endpoint: sessions.endpoint.clone(),
        });
    }
    if let Some(endpoint) = sessions.discovery.clone() {
        return Ok(SessionStore::Cluster { endpoint });
    }
    let addresses = if sessions.nodes.is_empty() {
        let address = |role| Ok(loopback(role)?.to_string());
        SESSIONS.into_iter().map(address).collect::<anyhow::Result<_>>()?
    } else {
        sessions.nodes.clone()
    };
    Ok(SessionStore::Nodes { addresses })
}

fn source(site: &Site) -> Source {
    let origin = match site.config.site.source.clone() {
        // Paths in the file are relative to the file.
        Origin::Zip(path) => Origin::Zip(site.directory.join(path)),
        Origin::Directory(path) => Origin::Directory(site.directory.join(path)),
        other => other,
    };
    Source { origin, sha256: site.config.site.source_sha256.clone(), latest_url: None }
}

#[cfg(test)]
mod tests {
    use flotilla_core::config::Config;

    use super::*;

    fn store(lines: &str) -> SessionStore {
        let config = Config::parse("flotilla.toml", &format!("[sessions]\n{lines}")).unwrap();
        let loopback = |role: &str| {
            let port = if role == SESSIONS[0] { 1 } else { 2 };
            Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
        };
        let store = session_store(&config.sessions, &loopback).unwrap();
        let is_own = matches!(&store, SessionStore::Nodes { addresses }
            if addresses[0] == "127.0.0.1:1");
        assert_eq!(config.sessions.are_on_own_nodes(), is_own, "{lines}");
        store
    }

    #[test]
    fn sessions_are_kept_where_the_configuration_says() {
        let nodes = |addresses: &[&str]| SessionStore::Nodes {
            addresses: addresses.iter().copied().map(str::to_owned).collect(),
        };
        assert_eq!(store(""), nodes(&["127.0.0.1:1", "127.0.0.1:2"]));
        assert_eq!(store("nodes = ['10.0.0.5:11211']"), nodes(&["10.0.0.5:11211"]));
        let endpoint = "shop.cfg.euc1.cache.amazonaws.com:11211".to_owned();
        let cluster = store(&format!("discovery = '{endpoint}'"));
        assert_eq!(cluster, SessionStore::Cluster { endpoint });
        let table = |endpoint: Option<&str>| SessionStore::Table {
            name: "shop-sessions".to_owned(),
            region: "eu-central-1".to_owned(),
            endpoint: endpoint.map(str::to_owned),
        };
        let named = "backend = 'dynamodb'\ntable = 'shop-sessions'\nregion = 'eu-central-1'\n";
        assert_eq!(store(named), table(None));
        let emulated = store(&format!("{named}endpoint = 'http://127.0.0.1:8000'"));
        assert_eq!(emulated, table(Some("http://127.0.0.1:8000")));
    }
}
