//! Where WordPress is installed and its database upgraded: a check-out of its own, because the workshop
//! may hold changes that belong to no release. One piece of work at a time.

use std::path::PathBuf;
use std::time::Duration;

use flotilla_core::id::Revision;
use flotilla_core::layout;
use flotilla_core::storage::UPLOADS;
use flotilla_host::command::{Command, CommandError};
use flotilla_host::files::FileError;
use flotilla_host::git::{Git, GitError, Keep, Worktree};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::place::Place;

const INSTALL_TIMEOUT: Duration = Duration::from_secs(120);
/// Less than [`flotilla_core::plan::UPGRADE_END_LIMIT`]: the planner waits no longer for the answer.
const SETTLED_TIMEOUT: Duration = Duration::from_secs(7);
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;
const UPGRADE: &str = "upgrade.php";

/// Says what could not be done.
#[derive(Debug, thiserror::Error)]
pub enum MaintenanceError {
    /// The revision cannot be checked out.
    #[error("cannot check out the code")]
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

fn parse_upgrade(answer: &[u8]) -> Result<UpgradeAnswer, MaintenanceError> {
    serde_json::from_slice(answer)
        .map_err(|source| MaintenanceError::Answer { script: UPGRADE, source })
}

/// What maintenance works with.
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

/// WordPress' maintenance.
#[derive(Debug)]
pub struct Maintenance {
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

impl Maintenance {
    /// Prepares the directories; the site itself comes with the first check-out.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn open(options: Options) -> Result<Self, FileError> {
        let maintenance = Self { options, busy: Mutex::new(()) };
        maintenance
            .options
            .place
            .make(&maintenance.options.wp_config, &maintenance.options.certificates)?;
        Ok(maintenance)
    }

    /// Brings its code to a revision.
    ///
    /// # Errors
    /// git failed or a file is in the way.
    pub async fn check_out(&self, revision: &Revision) -> Result<(), MaintenanceError> {
        let _alone = self.busy.lock().await;
        self.check_out_alone(revision).await
    }

    async fn check_out_alone(&self, revision: &Revision) -> Result<(), MaintenanceError> {
        let git = Git::new(&self.options.git_dir);
        let worktree = Worktree::new(git, "maintenance", self.path("site"));
        if worktree.checked_out().await.as_ref() != Some(revision) {
            worktree.checkout(revision, &Keep::directories([UPLOADS])).await?;
        }
        Ok(())
    }

    /// Installs WordPress into the database, unless it is installed.
    ///
    /// # Errors
    /// PHP failed; what it said is in the error.
    pub async fn install(&self, install: &Install) -> Result<(), MaintenanceError> {
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
    ) -> Result<u64, MaintenanceError> {
        self.check_out(revision).await?;
        let answer = self.run_script(UPGRADE, &[], Vec::new(), limit).await?;
        let answer = parse_upgrade(&answer)?;
        Ok(answer.from.max(answer.to))
    }

    /// Reads the version that the database has, once no upgrade works on it any more.
    ///
    /// # Errors
    /// PHP failed, or an upgrade still runs.
    pub async fn database_version(&self) -> Result<u64, MaintenanceError> {
        let answer = self.run_script(UPGRADE, &["--settled"], Vec::new(), SETTLED_TIMEOUT).await?;
        Ok(parse_upgrade(&answer)?.from)
    }

    async fn run_script(
        &self,
        script: &'static str,
        arguments: &[&str],
        input: Vec<u8>,
        limit: Duration,
    ) -> Result<Vec<u8>, MaintenanceError> {
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
            .map_err(|source| MaintenanceError::Php { script, source })?;
        Ok(output.stdout)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.options.place.path(name)
    }
}
