//! From the configuration to what the parts of a local fleet are started with.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use flotilla_core::config::{Config, DatabaseTls, MediaStore};
use flotilla_core::error::Failure;
use flotilla_core::media::MediaSettings;
use flotilla_foreman::database::{Client, Login};
use flotilla_foreman::place::Place;
use flotilla_foreman::secrets::Secrets;
use flotilla_foreman::secrets::rotate::DatabaseAccount;
use flotilla_foreman::settings::{self, DatabaseLogin};
use flotilla_host::media::{Media, MediaMount};
use flotilla_targets::local::database::{Account, Database, DatabaseOptions};
use flotilla_targets::local::packages::Machine;
use flotilla_targets::local::ports::{BUCKET, Book, DATABASE};
use flotilla_targets::local::services::Services;
use nix::unistd::{Group, Uid, User};

use crate::failure::{configuration, unavailable};
use crate::site::Site;

/// How long a command waits for the workshop of a site that was just made.
const WORKSHOP_PATIENCE: Duration = Duration::from_secs(10);
const WORKSHOP_INTERVAL: Duration = Duration::from_millis(100);
const CERTIFICATES_BYTES_MAX: usize = 1 << 20;
/// The name of the embedded database and of its user.
pub(crate) const DATABASE_NAME: &str = "wordpress";

/// Returns what all services of the fleet share.
pub(crate) fn services(site: &Site) -> anyhow::Result<Services> {
    Ok(Services {
        layout: site.layout.clone(),
        own_program: std::env::current_exe()?,
        timezone: site.config.site.timezone.clone(),
        env: Vec::new(),
    })
}

/// Finds a program of the machine.
pub(crate) fn find_program(name: &str) -> Result<PathBuf, Failure> {
    Machine::this().find(name).ok_or_else(|| missing(name))
}

/// Finds the php-fpm that the configuration names, or the newest.
pub(crate) fn php_fpm(config: &Config) -> Result<PathBuf, Failure> {
    if let Some(path) = &config.php.binary {
        if path.is_file() {
            return Ok(path.clone());
        }
        return Err(configuration(format!(
            "`php.binary` in flotilla.toml names `{}`, which is not there",
            path.display()
        ))
        .with_hint("take the key out to use the newest php-fpm of this machine"));
    }
    Machine::this().php().map(|php| php.fpm).ok_or_else(|| missing("php-fpm"))
}

/// Finds PHP's command line.
fn php_cli() -> Result<PathBuf, Failure> {
    let same_version = Machine::this().php().and_then(|php| php.cli);
    same_version.or_else(|| Machine::this().find("php")).ok_or_else(|| missing("php"))
}

/// Returns the user and the group that PHP runs as: the configured one where flotilla is root,
/// and else its own.
pub(crate) fn php_identity(config: &Config) -> Result<(String, String), Failure> {
    let user = if Uid::effective().is_root() {
        User::from_name(&config.php.user)
    } else {
        User::from_uid(Uid::effective())
    };
    let user = user.ok().flatten().ok_or_else(|| {
        configuration(format!("there is no user `{}` on this machine", config.php.user))
            .with_hint("`php.user` in flotilla.toml names the user that PHP runs as")
    })?;
    let group = Group::from_gid(user.gid).ok().flatten();
    let group =
        group.ok_or_else(|| configuration(format!("the group of `{}` has no name", user.name)))?;
    Ok((user.name, group.name))
}

/// Returns where PHP's command line works on the site of a running fleet.
pub(crate) async fn workshop(site: &Site) -> anyhow::Result<Place> {
    // Asking tells whether the fleet is up.
    site.client()?.status().await?;
    let deadline = tokio::time::Instant::now() + WORKSHOP_PATIENCE;
    // A site that was just made gets its workshop a moment later.
    while workshop_place(site).is_err() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(WORKSHOP_INTERVAL).await;
    }
    workshop_place(site)
}

/// Returns where the workshop is, once the site is made.
pub(crate) fn workshop_place(site: &Site) -> anyhow::Result<Place> {
    let directory = site.layout.foreman().join("workshop");
    if !directory.join("site/wp-load.php").exists() {
        return Err(unavailable("the site is not made yet")
            .with_hint("`flotilla status` tells how far it is")
            .into());
    }
    Ok(Place { is_writable: site.config.has_workshop(), ..place(site, directory)? })
}

/// Returns a place where PHP's command line can work on the site.
pub(crate) fn place(site: &Site, directory: PathBuf) -> anyhow::Result<Place> {
    let (user, _group) = php_identity(&site.config)?;
    let is_root = Uid::effective().is_root();
    let php_user = is_root.then_some(user);
    let media = media(site, "foreman-media", site.layout.foreman_media())?;
    Ok(Place { directory, media, php: php_cli()?, php_user, is_writable: false })
}

/// Returns a machine's media: a mount with this name and directory, or the one directory.
pub(crate) fn media(site: &Site, name: &str, directory: PathBuf) -> anyhow::Result<Media> {
    if site.config.media.store == MediaStore::Directory {
        return Ok(Media::Directory(site.layout.media()));
    }
    let (user, _group) = php_identity(&site.config)?;
    let own_program = std::env::current_exe()?;
    Ok(Media::Mount(Box::new(MediaMount::new(name.to_owned(), own_program, directory, Some(user)))))
}

/// Returns how the bucket is reached; `None` when media are in a directory.
pub(crate) fn media_settings(site: &Site) -> anyhow::Result<Option<MediaSettings>> {
    let book = Book::read(&site.layout)?;
    let port = book.and_then(|book| book.port(BUCKET));
    if port.is_none() && has_own_bucket(&site.config) {
        return Err(unavailable("the store of media has no port yet")
            .with_hint("`flotilla up` starts it with the rest of the fleet")
            .into());
    }
    let address = port.map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    Ok(settings::media_settings(&site.config, &site.secrets()?, address))
}

/// Whether the fleet runs a store of media itself.
pub(crate) fn has_own_bucket(config: &Config) -> bool {
    config.media.store == MediaStore::Bucket && config.media.bucket.is_none()
}

/// Returns how PHP reaches the database.
pub(crate) fn database_login(site: &Site, book: Option<&Book>) -> anyhow::Result<DatabaseLogin> {
    if let Some(url) = &site.config.database.url {
        return Ok(DatabaseLogin {
            host: url.host.clone(),
            port: url.port,
            name: url.name.clone(),
            user: url.user.clone(),
            password: url.password.clone(),
            tls: site.config.database.tls,
            certificates: certificates(site)?,
        });
    }
    let port = book
        .and_then(|book| book.port(DATABASE))
        .ok_or_else(|| configuration("the database has no port yet"))?;
    Ok(DatabaseLogin {
        host: "127.0.0.1".to_owned(),
        port,
        name: DATABASE_NAME.to_owned(),
        user: DATABASE_NAME.to_owned(),
        password: site.secrets()?.database_password,
        tls: DatabaseTls::Off,
        certificates: String::new(),
    })
}

/// Reads the certificates that may have signed the database's.
fn certificates(site: &Site) -> Result<String, Failure> {
    let Some(path) = &site.config.database.tls_ca else { return Ok(String::new()) };
    let path = site.directory.join(path);
    let fault = |why: &str| {
        configuration(format!("`database.tls_ca` names `{}`, which {why}", path.display()))
            .with_hint(
                "it must be a file with certificates in PEM, as your database's host gives it",
            )
    };
    match std::fs::read_to_string(&path) {
        Ok(text) if text.len() > CERTIFICATES_BYTES_MAX => Err(fault("is larger than 1 MiB")),
        Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => Ok(text),
        Ok(_) => Err(fault("holds no certificate")),
        Err(error) => Err(fault(&format!("cannot be read: {error}"))),
    }
}

/// Returns the embedded database, to be asked as its administrator; `None` when the site uses
/// another one.
pub(crate) fn embedded_database(site: &Site) -> anyhow::Result<Option<Database>> {
    let config = &site.config.database;
    if config.url.is_some() {
        return Ok(None);
    }
    let book = Book::read(&site.layout)?;
    let options = DatabaseOptions {
        port: book.and_then(|book| book.port(DATABASE)).unwrap_or_default(),
        buffer_pool_bytes: config.buffer_pool.bytes(),
        connections_max: connections_max(config),
    };
    Ok(Some(Database::find(&Machine::this(), &services(site)?, options)?))
}

/// Returns how many connections the embedded database takes.
pub(crate) fn connections_max(config: &flotilla_core::config::Database) -> u16 {
    u16::try_from(config.max_connections).unwrap_or(u16::MAX)
}

/// Returns what the site uses in the embedded database.
pub(crate) fn database_account(secrets: &Secrets) -> Account {
    Account {
        database: DATABASE_NAME.to_owned(),
        user: DATABASE_NAME.to_owned(),
        passwords: secrets.database_passwords(),
    }
}

/// Returns how the foreman changes the passwords of the embedded database's user.
pub(crate) fn account_changer(site: &Site) -> anyhow::Result<Option<DatabaseAccount>> {
    let Some(database) = embedded_database(site)? else { return Ok(None) };
    Ok(Some(DatabaseAccount::new(move |passwords| {
        let database = database.clone();
        let account = Account {
            database: DATABASE_NAME.to_owned(),
            user: DATABASE_NAME.to_owned(),
            passwords,
        };
        Box::pin(async move {
            let outcome = database.ensure_account(&account).await;
            outcome.map_err(|error| flotilla_core::error::chain(&error))
        })
    })))
}

/// Returns how the database's client programs reach it: as its administrator where that is possible
/// and asked for, and else as the site does.
pub(crate) fn database_client(site: &Site, as_administrator: bool) -> anyhow::Result<Client> {
    let login = match embedded_database(site)? {
        Some(database) if as_administrator => {
            let (directory, socket, user) = database.administration()?;
            Login::Administrator { directory, socket, user, database: DATABASE_NAME.to_owned() }
        }
        _ => {
            let book = Book::read(&site.layout)?;
            Login::Site(database_login(site, book.as_ref())?)
        }
    };
    Ok(Client {
        program: find_program("mariadb")?,
        dump_program: find_program("mariadb-dump")?,
        login,
    })
}

fn missing(name: &str) -> Failure {
    configuration(format!("there is no `{name}` on this machine"))
        .with_hint("`flotilla packages --install` installs what is missing")
}
