//! `flotilla up`: starts the fleet and comes back when it serves.

use std::fs::OpenOptions;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use flotilla_core::api::{SiteState, Status};
use flotilla_core::config::MediaStore;
use flotilla_core::error::{ErrorKind, Failure};
use flotilla_core::fleet::Member;
use flotilla_host::files::{Access, read_json, write_atomic};
use flotilla_host::lock::lock_holder;
use flotilla_media::Store;
use flotilla_targets::local::services::{BALANCER, SUPERVISOR};
use flotilla_targets::local::supervisor::SupervisorState;
use tokio::time::Instant;

use super::packages;
use crate::client::Client;
use crate::failure::{configuration, of, unavailable};
use crate::internal::media::store_options;
use crate::local::{media_settings, services};
use crate::printer::{Printer, Progress, duration};
use crate::site::Site;

const POLL_INTERVAL: Duration = Duration::from_millis(200);
const FUSE: &str = "/dev/fuse";
const FRONT_PAGE_TIMEOUT: Duration = Duration::from_secs(15);

pub(crate) async fn run(
    site: Site,
    installs: bool,
    limit: Duration,
    printer: &Printer,
) -> anyhow::Result<()> {
    let started_at = Instant::now();
    site.check_target()?;
    if installs {
        packages::install_missing(printer).await?;
    } else {
        packages::require().await?;
    }
    site.layout.make()?;
    check_address(&site)?;
    check_fuse(&site)?;
    site.secrets()?;
    check_database(&site, printer).await?;
    check_bucket(&site, printer).await?;
    let is_changed = keep_configuration(&site)?;
    let services = services(&site)?;
    let was_started = services.supervisor().start().await?;
    if is_changed && !was_started {
        // It reads the configuration when it starts; the supervisor starts it again.
        services.foreman().stop().await?;
        printer.say(
            "flotilla.toml was changed: deploys follow it from now on, PHP with the next deploy \
             (`flotilla deploy --force` makes one of what serves), and what it says of the balancer and the database after `flotilla down` and `up`",
        );
    }
    let mut progress = printer.progress();
    let outcome = wait_until_served(&site, started_at + limit, &mut progress).await;
    progress.done();
    let status = outcome?;
    conclude(&site, &status, started_at.elapsed(), printer)
}

/// Refuses a fleet that the database of one's own has too few connections for. One that does not
/// answer now is no reason: it may come back, and a fleet that serves must not be left alone.
async fn check_database(site: &Site, printer: &Printer) -> anyhow::Result<()> {
    if site.config.database.url.is_none() {
        return Ok(());
    }
    match site.check_size(site.config.fleet.instances).await {
        Err(error) if of(&error).kind == ErrorKind::Unavailable => {
            printer.say(format!("warning: the database cannot be asked yet: {error:#}"));
            Ok(())
        }
        outcome => outcome,
    }
}

/// Refuses a bucket of one's own that cannot be used; one that does not answer now may come back.
async fn check_bucket(site: &Site, printer: &Printer) -> anyhow::Result<()> {
    let media = &site.config.media;
    if media.bucket.is_none() || media.store == MediaStore::Directory {
        return Ok(());
    }
    let Some(settings) = media_settings(site)? else { return Ok(()) };
    let store = Store::new(&store_options(&settings));
    let abilities = match store {
        Ok(store) => store.probe().await,
        Err(error) => Err(error),
    };
    match abilities {
        Ok(abilities) if abilities.keeps_first && abilities.keeps_version => {}
        Ok(_) => printer.say(
            "warning: the server of `media.bucket` ignores If-None-Match or If-Match: two instances \
             that write one file at once may overwrite each other",
        ),
        Err(error) if error.is_outage() => {
            printer.say(format!("warning: {error}"));
        }
        Err(error) => {
            return Err(configuration(error.to_string())
                .with_hint("`[media]` in flotilla.toml says how the bucket is reached")
                .into());
        }
    }
    Ok(())
}

/// Keeps a copy of the configuration where the parts of the fleet read it; says whether it differs
/// from the one before.
fn keep_configuration(site: &Site) -> anyhow::Result<bool> {
    let file = site.layout.configuration();
    let before = std::fs::read_to_string(&file).unwrap_or_default();
    let directory = site.directory.to_string_lossy();
    write_atomic(&site.layout.origin(), directory.as_bytes(), Access::Private)?;
    write_atomic(&file, site.config_text.as_bytes(), Access::Private)?;
    Ok(before != site.config_text)
}

/// Refuses an address that somebody else listens on, before anything is started.
fn check_address(site: &Site) -> Result<(), Failure> {
    let address = site.config.balancer.listen;
    let is_ours = lock_holder(&site.layout.lock(BALANCER)).is_ok_and(|holder| holder.is_some());
    if address.port() == 0 || is_ours {
        return Ok(());
    }
    TcpListener::bind(address).map(drop).map_err(|error| {
        configuration(format!("cannot serve visitors on `{address}`: {error}")).with_hint(
            "set `balancer.listen` in flotilla.toml to another address; port 0 takes a free one",
        )
    })
}

/// Refuses media in a bucket where the kernel lets nobody mount one.
fn check_fuse(site: &Site) -> Result<(), Failure> {
    if site.config.media.store == MediaStore::Directory {
        return Ok(());
    }
    let device = OpenOptions::new().read(true).write(true).open(FUSE);
    device.map(drop).map_err(|error| {
        configuration(format!("media cannot be mounted: `{FUSE}`: {error}")).with_hint(
            "load the kernel's module with `modprobe fuse`; give a container the device \
             (`--device /dev/fuse`); or set `media.store = \"directory\"` in flotilla.toml, which \
             keeps media on this machine's disk without a bucket",
        )
    })
}

async fn wait_until_served(
    site: &Site,
    deadline: Instant,
    progress: &mut Progress<'_>,
) -> anyhow::Result<Status> {
    progress.doing("Starting database, session store, foreman and balancer");
    let mut client = None;
    loop {
        let state: Option<SupervisorState> =
            read_json(&site.layout.supervisor_state()).ok().flatten();
        give_up_with(site, state.as_ref())?;
        if client.is_none() {
            client = ask_foreman(site, state.as_ref());
        }
        if let Some(client) = &client
            && let Ok(status) = client.status().await
        {
            progress.doing(doing(&status));
            if is_served(&status) && front_page_answers(site).await {
                return Ok(status);
            }
            if let SiteState::Failed { message } = &status.site {
                progress.doing(format!("error: {message}; trying again"));
            }
        }
        if Instant::now() > deadline {
            return Err(unavailable("the fleet does not serve yet; it goes on starting")
                .with_hint("`flotilla status` and `flotilla logs` tell what it waits for")
                .into());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn ask_foreman(site: &Site, state: Option<&SupervisorState>) -> Option<Client> {
    state.filter(|state| state.stage == "running")?;
    site.client().ok()
}

/// Fails when the supervisor gave up.
fn give_up_with(site: &Site, state: Option<&SupervisorState>) -> anyhow::Result<()> {
    let Some(error) = state.and_then(|state| state.error.clone()) else { return Ok(()) };
    if lock_holder(&site.layout.lock(SUPERVISOR))?.is_some() {
        return Ok(());
    }
    let hint =
        format!("`flotilla logs` shows more; the logs are in {}", site.layout.logs().display());
    Err(Failure::new(ErrorKind::Unavailable, format!("the fleet did not start: {error}"))
        .with_hint(hint)
        .into())
}

fn doing(status: &Status) -> String {
    if let SiteState::Making { what } = &status.site {
        return what.clone();
    }
    let active: Vec<_> =
        status.instances.iter().filter(|one| one.member == Member::Active).collect();
    let serving = active.iter().filter(|one| one.is_in_service).count();
    match &status.deploy {
        Some(deploy) => {
            format!("{serving} of {} instances serve, {}", active.len(), deploy.phase.as_str())
        }
        None => format!("{serving} of {} instances serve", active.len()),
    }
}

fn is_served(status: &Status) -> bool {
    let balancer_follows =
        status.balancer.as_ref().is_some_and(|balancer| balancer.version == status.table_version);
    status.release.is_some()
        && status.deploy.is_none()
        && balancer_follows
        && status.instances.iter().all(|one| one.member != Member::Active || one.is_in_service)
}

/// Asks for the front page as a visitor of this machine.
async fn front_page_answers(site: &Site) -> bool {
    let Ok(Some(address)) = site.balancer_address() else { return false };
    let Ok(url) = site.url() else { return false };
    let local = match address.ip() {
        ip if ip.is_unspecified() => {
            SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port())
        }
        _ => address,
    };
    let host = url.split_once("://").map_or("", |(_, host)| host).to_owned();
    let Ok(client) =
        flotilla_host::http::client_builder().redirect(reqwest::redirect::Policy::none()).build()
    else {
        return false;
    };
    let request =
        client.get(format!("http://{local}/")).header("host", host).timeout(FRONT_PAGE_TIMEOUT);
    request.send().await.is_ok_and(|response| response.status().as_u16() < 500)
}

fn conclude(site: &Site, status: &Status, took: Duration, printer: &Printer) -> anyhow::Result<()> {
    let secrets = site.secrets()?;
    let (user, password) = (&site.config.site.admin_user, secrets.admin_password.reveal());
    let repository = site.layout.foreman().join("site.git");
    if printer.is_json() {
        return printer.json(&serde_json::json!({
            "url": status.url,
            "admin_url": format!("{}/wp-admin/", status.url),
            "admin_user": user,
            "admin_password": password,
            "repository": repository,
            "release": status.release,
            "instances": status.instances.len(),
        }));
    }
    let release = status.release.as_ref().map_or("", |release| release.revision.short());
    printer.line(format!("Site      {}", status.url));
    printer.line(format!("Admin     {}/wp-admin/  user {user}  password {password}", status.url));
    printer.line(format!("Code      git clone {}", repository.display()));
    printer.line(format!("Release   {release} {}", status.subject.as_deref().unwrap_or_default()));
    printer.say(format!("{} instances serve, after {}", status.instances.len(), duration(took)));
    Ok(())
}
