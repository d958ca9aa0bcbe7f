//! The foreman's own copy of the site: where WordPress is installed, upgraded and asked by WP-CLI.
//!
//! It shows PHP the same absolute paths as a slot does. One piece of work at a time.

use std::path::PathBuf;
use std::time::Duration;

use flotilla_core::id::Revision;
use flotilla_core::layout;
use flotilla_core::storage::UPLOADS;
use flotilla_host::certificates::write_certificates;
use flotilla_host::command::{Command, CommandError};
use flotilla_host::files::{Access, FileError, make_directory, write_atomic};
use flotilla_host::git::{Git, GitError, Keep, Worktree};
use flotilla_host::inside::Inside;
use flotilla_host::media::Media;
use flotilla_host::ownership::{give_to, set_mode};
use flotilla_host::room::{Bind, Room};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

const INSTALL_TIMEOUT: Duration = Duration::from_secs(120);
/// Less than [`flotilla_core::plan::UPGRADE_END_LIMIT`]: the planner waits no longer for the answer.
const SETTLED_TIMEOUT: Duration = Duration::from_secs(7);
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;
const UPGRADE: &str = "upgrade.php";

/// Says what the workshop could not do.
#[derive(Debug, thiserror::Error)]
pub enum WorkshopError {
    /// The revision cannot be checked out.
    #[error("cannot check out the workshop")]
    Checkout(#[from] GitError),
    /// A file is in the way.
    #[error(transparent)]
    File(#[from] FileError),
    /// PHP failed.
    #[error("`{script}` failed")]
    Php {
        /// The script.
        script: &'static str,
        /// How.
        source: CommandError,
    },
    /// PHP said something that is not understood.
    #[error("could not understand what `{script}` printed")]
    Answer {
        /// The script.
        script: &'static str,
        /// Why not.
        source: serde_json::Error,
    },
}

/// What `upgrade.php` tells.
#[derive(Debug, Deserialize)]
struct UpgradeAnswer {
    /// The version that it found in the database.
    from: u64,
    /// The version that the code wants.
    to: u64,
}

fn parse_upgrade(answer: &[u8]) -> Result<UpgradeAnswer, WorkshopError> {
    serde_json::from_slice(answer)
        .map_err(|source| WorkshopError::Answer { script: UPGRADE, source })
}

/// Where the workshop is and who works in it.
#[derive(Debug, Clone)]
pub struct Place {
    /// The directory it may fill.
    pub directory: PathBuf,
    /// The site's media.
    pub media: Media,
    /// The command line PHP.
    pub php: PathBuf,
    /// The user PHP runs as where the foreman is root.
    pub php_user: Option<String>,
}

/// What the workshop works with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it is.
    pub place: Place,
    /// The site's bare repository.
    pub git_dir: PathBuf,
    /// This program.
    pub own_program: PathBuf,
    /// The generated `wp-config.php`.
    pub wp_config: String,
    /// Certificates, in PEM, that may have signed the database's; often empty.
    pub certificates: String,
}

/// The workshop.
#[derive(Debug)]
pub struct Workshop {
    options: Options,
    busy: Mutex<()>,
}

/// What WordPress is installed with.
#[derive(Debug, Clone, Serialize)]
pub struct Install {
    /// The site's title.
    pub title: String,
    /// The first administrator's login name.
    pub user: String,
    /// The administrator's address.
    pub email: String,
    /// The administrator's password.
    pub password: String,
    /// The site's URL.
    pub url: String,
    /// WordPress' locale, such as `de_DE`.
    pub locale: String,
    /// The site's time zone, such as `Europe/Berlin`.
    pub timezone: String,
    /// The plugins to activate, as WordPress names them.
    pub plugins: Vec<String>,
}

impl Workshop {
    /// Prepares the workshop's directories; the site itself comes with the first check-out.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn open(options: Options) -> Result<Self, FileError> {
        let workshop = Self { options, busy: Mutex::new(()) };
        workshop.options.place.make(&workshop.options.wp_config, &workshop.options.certificates)?;
        Ok(workshop)
    }

    /// Brings the workshop to a revision.
    ///
    /// # Errors
    /// git failed or a file is in the way.
    pub async fn check_out(&self, revision: &Revision) -> Result<(), WorkshopError> {
        let _alone = self.busy.lock().await;
        self.check_out_alone(revision).await
    }

    async fn check_out_alone(&self, revision: &Revision) -> Result<(), WorkshopError> {
        let git = Git::new(&self.options.git_dir);
        let worktree = Worktree::new(git, "workshop", self.path("site"));
        if worktree.checked_out().await.as_ref() != Some(revision) {
            worktree.checkout(revision, &Keep::directories([UPLOADS])).await?;
        }
        Ok(())
    }

    /// Installs WordPress into the database, unless it is installed.
    ///
    /// # Errors
    /// PHP failed; what it said is in the error.
    pub async fn install(&self, install: &Install) -> Result<(), WorkshopError> {
        let answers = serde_json::to_vec(install).unwrap_or_default();
        self.run_script("install.php", &[], answers, INSTALL_TIMEOUT).await?;
        Ok(())
    }

    /// Upgrades the database with the code of a revision, if it needs it; returns the version that
    /// the database has then. Who drops this kills the upgrade.
    ///
    /// # Errors
    /// The check-out or PHP failed, or the time was up.
    pub async fn upgrade_database(
        &self,
        revision: &Revision,
        limit: Duration,
    ) -> Result<u64, WorkshopError> {
        self.check_out(revision).await?;
        let answer = self.run_script(UPGRADE, &[], Vec::new(), limit).await?;
        let answer = parse_upgrade(&answer)?;
        Ok(answer.from.max(answer.to))
    }

    /// Reads the version that the database has, once no upgrade works on it any more.
    ///
    /// # Errors
    /// PHP failed, or an upgrade still runs.
    pub async fn database_version(&self) -> Result<u64, WorkshopError> {
        let answer = self.run_script(UPGRADE, &["--settled"], Vec::new(), SETTLED_TIMEOUT).await?;
        Ok(parse_upgrade(&answer)?.from)
    }

    async fn run_script(
        &self,
        script: &'static str,
        arguments: &[&str],
        input: Vec<u8>,
        limit: Duration,
    ) -> Result<Vec<u8>, WorkshopError> {
        let _alone = self.busy.lock().await;
        let mut all = vec![format!("{}/{script}", layout::PHP)];
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let inside = self.options.place.inside(all);
        let spec = serde_json::to_string(&inside).unwrap_or_default();
        let output = Command::new(&self.options.own_program)
            .called(script)
            .args(["internal", "inside", &spec])
            .stdin(input)
            .time_limit(limit)
            .output_limit(OUTPUT_BYTES_MAX)
            .run()
            .await
            .map_err(|source| WorkshopError::Php { script, source })?;
        Ok(output.stdout)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.options.place.path(name)
    }
}

impl Place {
    /// Makes the directories and writes what PHP finds in them besides the site.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub(crate) fn make(&self, wp_config: &str, certificates: &str) -> Result<(), FileError> {
        for name in ["site", "php", "etc", "tmp", "log", "run"] {
            make_directory(&self.path(name))?;
        }
        self.media.make(self.php_user.as_deref())?;
        set_mode(&self.path("tmp"), 0o1777)?;
        let file = self.path("wp-config.php");
        write_atomic(&file, wp_config.as_bytes(), Access::Private)?;
        give_to(&file, self.php_user.as_deref())?;
        write_certificates(&self.path("etc"), certificates)?;
        for (name, content) in flotilla_host::php::SCRIPTS {
            write_atomic(&self.path("php").join(name), content.as_bytes(), Access::Public)?;
        }
        Ok(())
    }

    /// Returns what has to be launched to run PHP's command line in the workshop.
    #[must_use]
    pub fn inside(&self, args: Vec<String>) -> Inside {
        let mut all = certificate_arguments(self.path("etc/ca.pem").exists());
        all.extend(args);
        Inside {
            program: self.php.clone(),
            args: all,
            directory: PathBuf::from(layout::SITE),
            user: self.php_user.clone(),
            room: self.room(),
        }
    }

    pub(crate) fn room(&self) -> Room {
        Room {
            binds: vec![
                Bind::read_only(self.path("site"), layout::SITE),
                Bind::read_only(self.path("wp-config.php"), layout::WP_CONFIG),
                Bind::read_only(self.path("php"), layout::PHP),
                Bind::writable(self.path("run"), layout::RUN),
                Bind::read_only(self.path("etc"), layout::ETC),
                Bind::writable(self.path("log"), layout::LOG),
                self.media.bind(),
            ],
            tmp: Some(self.path("tmp")),
            has_own_pids: false,
            scratch: None,
            base: self.media.base(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Returns what PHP's command line is told when there are certificates besides the machine's.
pub(crate) fn certificate_arguments(has_certificates: bool) -> Vec<String> {
    if !has_certificates {
        return Vec::new();
    }
    vec!["-d".to_owned(), format!("openssl.cafile={}", layout::CERTIFICATES)]
}
