//! A site as the command line finds it: its directory, its configuration, its data.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use flotilla_core::config::{Config, FILE_NAME, TargetKind};
use flotilla_core::error::{ErrorKind, Failure, chain};
use flotilla_foreman::secrets::{Secrets, SecretsError, Vault};
use flotilla_targets::local::Layout;
use flotilla_targets::local::ports::Book;

use crate::client::Client;
use crate::failure::{configuration, unavailable};
use crate::local::database_client;
use crate::printer::Printer;

/// A site.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// The directory of `flotilla.toml`, absolute.
    pub(crate) directory: PathBuf,
    /// The configuration; the defaults where there is no file.
    pub(crate) config: Config,
    /// The text it was read from.
    pub(crate) config_text: String,
    /// The paths of the site's data.
    pub(crate) layout: Layout,
}

impl Site {
    /// Reads the configuration of the site in a directory.
    pub(crate) fn open(directory: &Path) -> anyhow::Result<Self> {
        let directory = std::path::absolute(directory)
            .with_context(|| format!("cannot find `{}`", directory.display()))?;
        let file = directory.join(FILE_NAME);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(
                    configuration(format!("cannot read `{}`: {error}", file.display())).into()
                );
            }
        };
        Self::with_text(directory, &file.display().to_string(), text)
    }

    /// Finds a site that is to be stopped: with a fault in its file, as it was started.
    pub(crate) fn open_to_stop(directory: &Path, printer: &Printer) -> anyhow::Result<Self> {
        let error = match Self::open(directory) {
            Ok(site) => return Ok(site),
            Err(error) => error,
        };
        let directory = std::path::absolute(directory)?;
        let data_dir = Config::default().data_dir(&directory);
        let site = Self::of_data_dir(&data_dir).map_err(|_there_is_none| error)?;
        printer.say(format!(
            "{FILE_NAME} has a fault; taking the fleet whose data is in {}",
            data_dir.display()
        ));
        Ok(site)
    }

    /// Reads the configuration that a running fleet was started with.
    pub(crate) fn of_data_dir(data_dir: &Path) -> anyhow::Result<Self> {
        let layout = Layout::new(data_dir)?;
        let (file, origin) = (layout.configuration(), layout.origin());
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read `{}`", file.display()))?;
        let directory = std::fs::read_to_string(&origin)
            .with_context(|| format!("cannot read `{}`", origin.display()))?;
        let mut site =
            Self::with_text(PathBuf::from(directory), &file.display().to_string(), text)?;
        site.layout = layout;
        Ok(site)
    }

    fn with_text(directory: PathBuf, file: &str, text: String) -> anyhow::Result<Self> {
        let config =
            Config::parse(file, &text).map_err(|errors| configuration(errors.to_string()))?;
        let layout = Layout::new(&config.data_dir(&directory))?;
        Ok(Self { directory, config, config_text: text, layout })
    }

    /// Refuses targets that this version cannot run.
    pub(crate) fn check_target(&self) -> Result<(), Failure> {
        if self.config.target.kind == TargetKind::Local {
            return Ok(());
        }
        Err(configuration(
            "`target.kind` in flotilla.toml names a target that this version cannot run",
        )
        .with_hint("this version runs `kind = \"local\"`: the whole fleet on this machine"))
    }

    /// Returns the foreman of the running fleet.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let no_site = || {
            unavailable(format!("there is no fleet in `{}`", self.directory.display()))
                .with_hint("`flotilla up` starts one; -C names another directory")
        };
        if !self.layout.is_ours() || !self.vault().exists() {
            return Err(no_site().into());
        }
        let address = self.foreman_address()?.ok_or_else(no_site)?;
        Client::new(address, self.secrets()?.operator_token)
    }

    /// Returns where the foreman listens; `None` when the fleet never ran.
    pub(crate) fn foreman_address(&self) -> anyhow::Result<Option<SocketAddr>> {
        self.address(self.config.foreman.listen, "foreman")
    }

    /// Returns where the balancer serves visitors; `None` when the fleet never ran.
    pub(crate) fn balancer_address(&self) -> anyhow::Result<Option<SocketAddr>> {
        self.address(self.config.balancer.listen, "balancer")
    }

    fn address(&self, configured: SocketAddr, role: &str) -> anyhow::Result<Option<SocketAddr>> {
        if configured.port() != 0 {
            return Ok(Some(configured));
        }
        let port = Book::read(&self.layout)?.and_then(|book| book.port(role));
        Ok(port.map(|port| SocketAddr::new(configured.ip(), port)))
    }

    /// Returns the site's secrets, made now if there are none.
    pub(crate) fn secrets(&self) -> anyhow::Result<Secrets> {
        self.vault().load_or_make().map_err(|error| match error {
            SecretsError::File(error) => error.into(),
            error => configuration(error.to_string()).into(),
        })
    }

    /// Returns where the site's secrets lie.
    pub(crate) fn vault(&self) -> Vault {
        let elsewhere = self.config.secrets.key_file.as_ref();
        Vault {
            sealed: self.layout.secrets(),
            key: elsewhere
                .map_or_else(|| self.layout.secrets_key(), |path| self.directory.join(path)),
            plain: self.layout.secrets_in_clear(),
        }
    }

    /// Returns the address that visitors use.
    pub(crate) fn url(&self) -> anyhow::Result<String> {
        let port = self.balancer_address()?.map_or(0, |address| address.port());
        Ok(self.config.site_url(port))
    }

    /// Refuses more instances than the database has connections for: as configured, and with a
    /// server of one's own as it says itself.
    pub(crate) async fn check_size(&self, instances: u16) -> anyhow::Result<()> {
        self.check_configured_size(instances)?;
        if self.config.database.url.is_none() {
            return Ok(());
        }
        let given = database_client(self, false)?.limits().await;
        let limits = given.map_err(|error| {
            unavailable(chain(&error))
                .with_hint("`database.url`, `database.tls` and `database.tls_ca` in flotilla.toml say how it is reached")
        })?;
        let (given, needed) = (limits.for_site(), self.connections_needed(instances));
        if needed <= given {
            return Ok(());
        }
        let refused = Failure::new(
            ErrorKind::Refused,
            format!(
                "{instances} instances of {} PHP workers can ask for {needed} database connections, \
                 but the server of `database.url` gives {given}",
                self.config.php.workers
            ),
        );
        let hint = "raise `max_connections` (and `max_user_connections`) of the server, or lower \
                    `fleet.instances` or `php.workers` in flotilla.toml";
        Err(refused.with_hint(hint).into())
    }

    fn connections_needed(&self, instances: u16) -> u32 {
        let mut scaled = self.config.clone();
        scaled.fleet.instances = instances;
        scaled.connections_needed()
    }

    fn check_configured_size(&self, instances: u16) -> Result<(), Failure> {
        let needed = self.connections_needed(instances);
        let given = self.config.database.max_connections;
        if needed <= given {
            return Ok(());
        }
        Err(Failure::new(
            ErrorKind::Refused,
            format!(
                "{instances} instances of {} PHP workers can ask for {needed} database connections, \
                 but `database.max_connections` is {given}",
                self.config.php.workers
            ),
        )
        .with_hint("raise `database.max_connections`, or lower `php.workers`, in flotilla.toml"))
    }
}
