//! nginx and php-fpm over one copy of a site's code, in a room of their own.
//!
//! The processes are a unit: they outlive whoever started them, and are found again.

mod keep;
mod private_media;
mod render;

use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::api::SlotSettings;
use flotilla_core::id::Revision;
use flotilla_core::layout;
use flotilla_core::report::PhpWorkers;
use flotilla_core::storage::{SCRATCH, SCRATCH_BYTES_MAX, SCRATCH_ROOT};
use flotilla_core::table::{HEALTH_PATH, REVISION_HEADER};
use nix::sys::signal::Signal;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::fastcgi::{Call, FastCgiError, call};
use crate::files::{Access, FileError, make_directory, make_file, tail, write_atomic};
use crate::init::{Init, Program};
use crate::launch::Launch;
use crate::media::Media;
use crate::ownership::{give_to, set_mode};
use crate::room::{Bind, Room, Scratch};
use crate::unit::Unit;

pub use render::RenderError;

const STOP_TIMEOUT: Duration = Duration::from_secs(20);
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// What PHP calls an error that ends a script.
const FATAL: [&str; 2] = ["PHP Fatal error:", "PHP Parse error:"];
/// How far back such an error is looked for; its stack follows it.
const ERROR_LINES_MAX: usize = 60;

/// What a web server is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The unit's name in messages.
    pub name: String,
    /// The directory that it may fill; the code is in `site`.
    pub directory: PathBuf,
    /// The unit's lock.
    pub lock: PathBuf,
    /// Where nginx listens.
    pub address: SocketAddr,
    /// From where requests may come that tell the visitor's address: addresses or networks.
    pub trusted: Vec<String>,
    /// What pages say of who made them: the machine, and the copy of the code.
    pub labels: [String; 2],
    /// This program.
    pub own_program: PathBuf,
    /// nginx.
    pub nginx: PathBuf,
    /// php-fpm.
    pub php_fpm: PathBuf,
    /// The user of the workers; this process' own where it is not root.
    pub user: String,
    /// The user's group.
    pub group: String,
    /// The directory of our own PHP.
    pub php: PathBuf,
    /// The directory of the session gateway's socket.
    pub sessions: PathBuf,
    /// The site's media.
    pub media: Media,
    /// Whether PHP may change the code. What plugins write for themselves goes beside it then, and each
    /// page looks whether its files changed.
    pub is_writable: bool,
}

/// A web server over one copy of the code.
#[derive(Debug, Clone)]
pub struct WebServer {
    /// Where nginx listens.
    pub address: SocketAddr,
    /// Its directory.
    pub directory: PathBuf,
    /// Its processes.
    pub unit: Unit,
    plan: Arc<Plan>,
}

impl WebServer {
    /// Makes the directories; starts nothing.
    ///
    /// # Errors
    /// A directory cannot be made.
    pub fn open(plan: Plan) -> Result<Self, FileError> {
        let directory = plan.directory.clone();
        for part in ["site", "etc", "run", "log", "tmp"] {
            make_directory(&directory.join(part))?;
        }
        if !plan.is_writable {
            make_scratch(&directory.join("site"))?;
        }
        // What PHP could put into a directory, root would write or read through.
        let errors = directory.join("log/php-error.log");
        make_file(&errors)?;
        give_to(&errors, Some(&plan.user))?;
        for part in ["log", "run"] {
            set_mode(&directory.join(part), 0o755)?;
        }
        set_mode(&directory.join("tmp"), 0o1777)?;
        Ok(Self { address: plan.address, unit: unit(&plan), directory, plan: Arc::new(plan) })
    }

    /// Writes the configuration of nginx, php-fpm and WordPress.
    ///
    /// # Errors
    /// A setting does not fit or a file cannot be written.
    pub fn configure(&self, settings: &SlotSettings) -> Result<(), RenderError> {
        let etc = self.directory.join("etc");
        render::write_all(&etc, &self.plan, settings)?;
        private_media::hide(&etc, &private_media::directories(&self.plan.media))?;
        let wp_config = self.directory.join("wp-config.php");
        write_atomic(&wp_config, settings.wp_config.as_bytes(), Access::Private)?;
        give_to(&wp_config, Some(&self.plan.user))?;
        Ok(())
    }

    /// Tells PHP which revision it runs.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn name_revision(&self, revision: &Revision) -> Result<(), FileError> {
        let path = self.directory.join("run/revision");
        write_atomic(&path, revision.as_str().as_bytes(), Access::Public)
    }

    /// Asks nginx and PHP which revision they serve.
    pub async fn health(&self, client: &reqwest::Client) -> Option<Revision> {
        let url = format!("http://{}{HEALTH_PATH}", self.address);
        let response = client.get(url).timeout(HEALTH_TIMEOUT).send().await.ok()?;
        let response = response.error_for_status().ok()?;
        response.headers().get(REVISION_HEADER)?.to_str().ok()?.parse().ok()
    }

    /// Asks php-fpm how many of its workers run a request; it answers also when all do.
    pub async fn workers(&self) -> Option<PhpWorkers> {
        #[derive(Deserialize)]
        struct FpmStatus {
            #[serde(rename = "active processes")]
            active: u16,
            #[serde(rename = "total processes")]
            total: u16,
        }
        let request = Call {
            socket: &self.directory.join("run/php-status.sock"),
            script: "/status",
            query: "json",
            body: &[],
            time_limit: STATUS_TIMEOUT,
        };
        let body = call(request).await.ok()?;
        let status: FpmStatus = serde_json::from_slice(&body).ok()?;
        Some(PhpWorkers { busy: status.active, max: status.total })
    }

    /// Runs one of our own scripts in php-fpm.
    ///
    /// # Errors
    /// php-fpm does not answer in time or the script fails.
    pub async fn run_script(
        &self,
        script: &str,
        body: &[u8],
        time_limit: Duration,
    ) -> Result<Vec<u8>, FastCgiError> {
        let script = format!("{}/{script}", layout::PHP);
        let socket = self.directory.join("run/php-control.sock");
        call(Call { socket: &socket, script: &script, query: "", body, time_limit }).await
    }

    /// Whether its processes have a mount of the media that is gone.
    fn has_lost_media(&self) -> bool {
        let pid = self.unit.holder().ok().flatten();
        pid.is_some_and(|pid| self.plan.media.is_lost_to(pid.as_raw()))
    }

    /// Keeps visitors out of the media that plugins deny, now and whenever that changes.
    pub async fn hide_private_media(self, stopping: CancellationToken) {
        private_media::follow(&self, &self.plan.media, stopping).await;
    }

    /// Notes how far the log is that PHP writes its errors to.
    #[must_use]
    pub fn errors_now(&self) -> ErrorsSoFar {
        let path = self.directory.join("log/php-error.log");
        let length = path.metadata().map_or(0, |metadata| metadata.len());
        ErrorsSoFar { path, length }
    }

    /// Returns the last error that ended a script, or else the end of the log, on one line.
    #[must_use]
    pub fn php_errors(&self) -> String {
        let end = tail(&self.directory.join("log/php-error.log"), ERROR_LINES_MAX);
        let lines: Vec<&str> = end.lines().collect();
        let fatal = lines.iter().rposition(|line| FATAL.iter().any(|word| line.contains(word)));
        match fatal.and_then(|at| lines.get(at)) {
            Some(line) => (*line).to_owned(),
            None => lines.get(lines.len().saturating_sub(2)..).unwrap_or_default().join(" "),
        }
    }
}

/// How far PHP's error log was at a moment.
#[derive(Debug, Clone)]
pub struct ErrorsSoFar {
    path: PathBuf,
    length: u64,
}

impl ErrorsSoFar {
    /// Whether a script was ended by an error since. A log that cannot be read tells of none.
    #[must_use]
    pub fn have_fatal_since(&self) -> bool {
        const NEW_BYTES_MAX: u64 = 1024 * 1024;
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = std::fs::File::open(&self.path)?;
            // One that was moved away begins anew.
            let is_same = file.metadata()?.len() >= self.length;
            file.seek(SeekFrom::Start(if is_same { self.length } else { 0 }))?;
            let mut bytes = Vec::new();
            file.take(NEW_BYTES_MAX).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        FATAL.iter().any(|word| text.contains(word))
    }
}

/// Code that an older version has checked out lacks the places that scratch is shown at.
fn make_scratch(site: &Path) -> Result<(), FileError> {
    if !site.join("wp-content").is_dir() {
        return Ok(());
    }
    SCRATCH.iter().try_for_each(|place| make_directory(&site.join(place)))
}

fn scratch() -> Scratch {
    Scratch {
        root: PathBuf::from(SCRATCH_ROOT),
        targets: SCRATCH.iter().map(|place| Path::new(layout::SITE).join(place)).collect(),
        bytes_max: SCRATCH_BYTES_MAX,
    }
}

fn unit(plan: &Plan) -> Unit {
    let init = init(plan);
    Unit {
        name: plan.name.clone(),
        own_program: plan.own_program.clone(),
        launch: Launch {
            program: plan.own_program.clone(),
            args: vec![
                "internal".into(),
                "init".into(),
                serde_json::to_string(&init).unwrap_or_default(),
            ],
            env: vec![(
                "PATH".into(),
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
            )],
            directory: PathBuf::from("/"),
            lock: plan.lock.clone(),
            log: plan.directory.join("log/slot.log"),
            user: None,
            room: Some(room(plan)),
        },
        stop_signal: Signal::SIGTERM,
        stop_timeout: STOP_TIMEOUT,
    }
}

fn init(plan: &Plan) -> Init {
    let etc = |file: &str| format!("{}/{file}", layout::ETC);
    let run = |file: &str| PathBuf::from(layout::RUN).join(file);
    let program = |name: &str, program: &Path, args: &[String], reload_signal| Program {
        name: name.to_owned(),
        program: program.to_owned(),
        args: args.to_vec(),
        stop_signal: Signal::SIGQUIT as i32,
        reload_signal,
        // Both drop root themselves, for their workers.
        user: None,
    };
    let fpm_args = [
        "--nodaemonize".into(),
        "--fpm-config".into(),
        etc("php-fpm.conf"),
        "-c".into(),
        etc("php.ini"),
    ];
    let nginx_args =
        ["-e".into(), format!("{}/nginx-error.log", layout::LOG), "-c".into(), etc("nginx.conf")];
    Init {
        programs: vec![
            program("php-fpm", &plan.php_fpm, &fpm_args, None),
            program("nginx", &plan.nginx, &nginx_args, Some(Signal::SIGHUP as i32)),
        ],
        restarts: true,
        stop_timeout_seconds: 15,
        leftovers: vec![
            run("php.sock"),
            run("php-status.sock"),
            run("php-control.sock"),
            run("nginx.pid"),
            run("php-fpm.pid"),
        ],
    }
}

/// What the processes see of the machine.
fn room(plan: &Plan) -> Room {
    let directory = &plan.directory;
    let site = directory.join("site");
    let desk = plan.is_writable.then(|| Bind::writable(directory.join("desk"), layout::DESK));
    let binds = vec![
        Bind { source: site, target: layout::SITE.into(), is_writable: plan.is_writable },
        Bind::read_only(directory.join("wp-config.php"), layout::WP_CONFIG),
        Bind::read_only(&plan.php, layout::PHP),
        Bind::read_only(directory.join("etc"), layout::ETC),
        Bind::writable(directory.join("run"), layout::RUN),
        Bind::writable(directory.join("log"), layout::LOG),
        Bind::read_only(&plan.sessions, layout::SESSIONS),
        plan.media.bind(),
    ];
    Room {
        binds: binds.into_iter().chain(desk).collect(),
        tmp: Some(directory.join("tmp")),
        has_own_pids: true,
        scratch: (!plan.is_writable).then(scratch),
        base: plan.media.base(),
    }
}
