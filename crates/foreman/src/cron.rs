//! Runs what WordPress has scheduled, in processes that outlive the foreman.
//!
//! What is due is claimed in the site's database, under a lock that ends with its holder
//! (`wordpress/php/cron.php`); so nothing here decides what runs, only that somebody runs it: one
//! runner at a time, and another one when an event takes long. A foreman that starts anew finds the
//! runners of the one before by their locks.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::deploy::Phase;
use flotilla_core::error::chain;
use flotilla_core::id::Revision;
use flotilla_core::layout;
use flotilla_core::storage::UPLOADS;
use flotilla_host::files::{FileError, make_directory};
use flotilla_host::git::{Git, GitError, Keep, Worktree};
use flotilla_host::init::{Init, Program};
use flotilla_host::launch::Launch;
use flotilla_host::ownership::give_to;
use flotilla_host::room::Room;
use flotilla_host::unit::{Unit, UnitError};
use nix::libc;
use nix::sys::signal::Signal;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock;
use crate::engine::Snapshot;
use crate::maintenance;
use crate::place::{Place, certificate_arguments};

const TICK: Duration = Duration::from_secs(1);
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// The first process kills what it runs after [`STOP_TIMEOUT`]; it has a little longer itself.
const UNIT_STOP_TIMEOUT: Duration = Duration::from_secs(7);
const NEXT_BYTES_MAX: u64 = 4096;

/// What cron works with.
#[derive(Debug, Clone)]
pub struct Options {
    /// What runners work with; the directory is cron's own.
    pub work: maintenance::Options,
    /// Where runners write what PHP says.
    pub log: PathBuf,
    /// After how long somebody looks for due events, at the latest.
    pub interval: Duration,
    /// How many runners may work at once.
    pub runners_max: u16,
    /// A runner that has worked for so long is killed.
    pub run_limit: Duration,
}

#[derive(Debug, thiserror::Error)]
enum CronError {
    #[error("cannot check out the code for scheduled work")]
    Checkout(#[from] GitError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Unit(#[from] UnitError),
}

/// One place to run in, with a check-out of its own: a release must not change under a runner.
struct Runner {
    place: Place,
    worktree: Worktree,
    unit: Unit,
    /// Since when it is known to run.
    since: Option<Instant>,
    revision: Option<Revision>,
}

/// What a runner leaves when it ends.
#[derive(Debug, Deserialize)]
struct Next {
    next: Option<u64>,
}

/// Runs due events until it is dropped; tells whether a runner of the foreman before still works,
/// whose `wp-config.php` may be an older one.
pub async fn run_cron(
    options: Options,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    has_former_runner: watch::Sender<bool>,
) {
    let mut runners: Vec<Runner> =
        (1..=options.runners_max).map(|number| Runner::new(&options, number)).collect();
    let mut start_at = Instant::now();
    loop {
        let wanted = wanted(&snapshots.borrow());
        for runner in &mut runners {
            if let Some(next) = runner.look(&options, wanted.as_ref()).await {
                let in_time = Duration::from_secs(next.saturating_sub(clock::now().0 / 1000));
                start_at = start_at.min(Instant::now() + in_time);
            }
        }
        has_former_runner.send_replace(runners.iter().any(Runner::is_former));
        if let Some(revision) = wanted
            && start_at <= Instant::now()
            && let Some(runner) = idle(&mut runners, &revision)
        {
            start_at = Instant::now() + options.interval;
            if let Err(error) = runner.start(&options, revision).await {
                tracing::error!(error = chain(&error), "Scheduled work cannot be run");
            }
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Returns the revision to run; `None` while the database is between two of them.
fn wanted(snapshot: &Snapshot) -> Option<Revision> {
    let fleet = &snapshot.fleet;
    let is_between = fleet
        .deploy
        .as_ref()
        .is_some_and(|deploy| matches!(deploy.phase, Phase::Holding | Phase::Upgrading));
    let release = fleet.serving_release().filter(|_| !is_between)?;
    Some(release.revision.clone())
}

/// Picks a place that is free, best one that has the code already.
fn idle<'a>(runners: &'a mut [Runner], revision: &Revision) -> Option<&'a mut Runner> {
    let mut free: Vec<&mut Runner> =
        runners.iter_mut().filter(|runner| runner.since.is_none()).collect();
    let has_it = free.iter().position(|runner| runner.revision.as_ref() == Some(revision));
    let number = has_it.unwrap_or_default();
    (number < free.len()).then(|| free.swap_remove(number))
}

impl Runner {
    fn new(options: &Options, number: u16) -> Self {
        let name = format!("cron-{number}");
        let directory = options.work.place.directory.join(number.to_string());
        let place = Place { directory: directory.clone(), ..options.work.place.clone() };
        let mut args = certificate_arguments(!options.work.certificates.is_empty());
        args.extend([format!("{}/cron.php", layout::PHP), "work".to_owned()]);
        let init = Init {
            programs: vec![Program {
                name: name.clone(),
                program: place.php.clone(),
                args,
                stop_signal: Signal::SIGTERM as i32,
                reload_signal: None,
                user: place.php_user.clone(),
            }],
            restarts: false,
            stop_timeout_seconds: STOP_TIMEOUT.as_secs(),
            leftovers: Vec::new(),
        };
        // Plugins of one site must not see the processes of another one, whose user is the same.
        let room = Room { has_own_pids: true, ..place.room() };
        let launch = Launch {
            program: options.work.own_program.clone(),
            args: vec![
                "internal".to_owned(),
                "init".to_owned(),
                serde_json::to_string(&init).unwrap_or_default(),
            ],
            env: vec![("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())],
            directory: PathBuf::from(layout::SITE),
            lock: directory.join("runner.lock"),
            log: options.log.clone(),
            user: None,
            room: Some(room),
        };
        let unit = Unit {
            name: name.clone(),
            own_program: options.work.own_program.clone(),
            launch,
            stop_signal: Signal::SIGTERM,
            stop_timeout: UNIT_STOP_TIMEOUT,
        };
        let worktree =
            Worktree::new(Git::new(&options.work.git_dir), name, place.directory.join("site"));
        Self { place, worktree, unit, since: None, revision: None }
    }

    /// Whether it runs and was not started here.
    const fn is_former(&self) -> bool {
        self.since.is_some() && self.revision.is_none()
    }

    /// Sees whether it runs; returns when the next event is due if it has just ended.
    async fn look(&mut self, options: &Options, wanted: Option<&Revision>) -> Option<u64> {
        let runs = self.unit.holder().is_ok_and(|holder| holder.is_some());
        match (runs, self.since) {
            (true, None) => self.since = Some(Instant::now()),
            (true, Some(since)) if since.elapsed() > options.run_limit => {
                tracing::error!(
                    runner = self.unit.name,
                    "Scheduled work takes longer than `cron.run_limit` and is stopped"
                );
                if let Err(error) = self.unit.stop().await {
                    tracing::error!(error = chain(&error), "A runner cannot be stopped");
                }
            }
            (true, Some(_)) if self.revision.as_ref() != wanted => self.ask_to_stop(),
            (false, Some(_)) => {
                self.since = None;
                return self.next();
            }
            _ => {}
        }
        None
    }

    async fn start(&mut self, options: &Options, revision: Revision) -> Result<(), CronError> {
        self.place.make(&options.work.wp_config, &options.work.certificates)?;
        let run = self.place.path("run");
        make_directory(&run)?;
        give_to(&run, self.place.php_user.as_deref())?;
        self.revision = None;
        if self.worktree.checked_out().await.as_ref() != Some(&revision) {
            self.worktree.checkout(&revision, &Keep::directories([UPLOADS])).await?;
        }
        self.revision = Some(revision);
        for name in ["stop", "next.json"] {
            drop(std::fs::remove_file(run.join(name)));
        }
        self.unit.start().await?;
        self.since = Some(Instant::now());
        Ok(())
    }

    /// It goes on to the end of its event.
    fn ask_to_stop(&self) {
        // What PHP puts there is not followed.
        let file = self.place.path("run").join("stop");
        drop(std::fs::OpenOptions::new().write(true).create_new(true).open(file));
    }

    fn next(&self) -> Option<u64> {
        use std::io::Read;
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.place.path("run").join("next.json");
        // PHP can put anything there; a pipe would keep whoever opens it waiting.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut text = String::new();
        file.take(NEXT_BYTES_MAX).read_to_string(&mut text).ok()?;
        serde_json::from_str::<Next>(&text).ok()?.next
    }
}
