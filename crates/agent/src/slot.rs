//! One slot: its files, its processes, and what it says of itself.
//!
//! The processes outlive the agent: an agent that starts anew finds them running.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flotilla_core::api::SlotSettings;
use flotilla_core::id::{InstanceName, Revision};
use flotilla_core::layout;
use flotilla_core::report::PhpWorkers;
use flotilla_core::slot::SlotName;
use flotilla_core::storage::{SCRATCH, SCRATCH_BYTES_MAX, SCRATCH_ROOT, UPLOADS};
use flotilla_core::table::{HEALTH_PATH, REVISION_HEADER};
use flotilla_host::fastcgi::{Call, FastCgiError, call};
use flotilla_host::files::{
    Access, FileError, make_directory, make_file, read_json, write_atomic, write_json,
};
use flotilla_host::git::{Git, Keep, Worktree};
use flotilla_host::init::{Init, Program};
use flotilla_host::launch::Launch;
use flotilla_host::media::Media;
use flotilla_host::ownership::{give_to, set_mode};
use flotilla_host::room::{Bind, Room, Scratch};
use flotilla_host::unit::Unit;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::Options;
use crate::media::{hide, private_directories};
use crate::render::{Owner, RenderError, write_all};
use crate::sessions::socket_directory;

const STOP_TIMEOUT: Duration = Duration::from_secs(20);
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// The proof that a slot was prepared to its end, written last and removed first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// What it holds.
    pub revision: Revision,
    /// The boot of the machine it was prepared in: files of an earlier boot are checked again.
    pub boot: String,
}

/// A slot of this instance.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Which one.
    pub name: SlotName,
    /// Where its nginx listens.
    pub address: SocketAddr,
    /// Its directory.
    pub directory: PathBuf,
    /// Its service.
    pub unit: Unit,
    instance: InstanceName,
    git_dir: PathBuf,
    user: String,
    group: String,
    trusted: Vec<String>,
    media: Media,
}

impl Slot {
    /// Makes the slot's directories; starts nothing.
    ///
    /// # Errors
    /// A directory cannot be made.
    pub fn open(options: &Options, name: SlotName) -> Result<Self, FileError> {
        let directory = options.directory.join(name.as_str());
        for part in ["site", "etc", "run", "log", "tmp"] {
            make_directory(&directory.join(part))?;
        }
        make_scratch(&directory.join("site"))?;
        let user = options.php_user.as_str();
        // What PHP could put into a directory, root would write or read through.
        let errors = directory.join("log/php-error.log");
        make_file(&errors)?;
        give_to(&errors, Some(user))?;
        for part in ["log", "run"] {
            set_mode(&directory.join(part), 0o755)?;
        }
        set_mode(&directory.join("tmp"), 0o1777)?;
        let address = SocketAddr::new(options.listen_ip, *options.ports.get(name));
        Ok(Self {
            name,
            address,
            unit: unit(options, name, &directory),
            directory,
            instance: options.instance.clone(),
            git_dir: options.directory.join("repository.git"),
            user: user.to_owned(),
            group: options.php_group.clone(),
            trusted: options.trusted.clone(),
            media: options.media.clone(),
        })
    }

    /// Returns the checked out code.
    #[must_use]
    pub fn worktree(&self) -> Worktree {
        Worktree::new(Git::new(&self.git_dir), self.name.as_str(), self.directory.join("site"))
    }

    /// Returns what in the code's directory is not code.
    #[must_use]
    pub fn kept(&self) -> Keep {
        Keep::directories(std::iter::once(UPLOADS).chain(SCRATCH))
    }

    /// Reads the mark of a prepared slot.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        read_json(&self.directory.join("mark.json")).ok().flatten()
    }

    /// Says that the slot is prepared to its end.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_mark(&self, mark: &Mark) -> Result<(), FileError> {
        write_json(&self.directory.join("mark.json"), mark, Access::Private)
    }

    /// Says that the slot is about to be changed.
    pub fn remove_mark(&self) {
        drop(std::fs::remove_file(self.directory.join("mark.json")));
        drop(std::fs::remove_file(self.directory.join("run/revision")));
    }

    /// Tells the slot's PHP which revision it runs.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn name_revision(&self, revision: &Revision) -> Result<(), FileError> {
        write_atomic(
            &self.directory.join("run/revision"),
            revision.as_str().as_bytes(),
            Access::Public,
        )
    }

    /// Writes the configuration of nginx, php-fpm and WordPress.
    ///
    /// # Errors
    /// A setting does not fit or a file cannot be written.
    pub fn configure(&self, settings: &SlotSettings) -> Result<(), RenderError> {
        let owner = Owner {
            instance: &self.instance,
            slot: self.name,
            listen: self.address,
            trusted: &self.trusted,
            user: &self.user,
            group: &self.group,
        };
        let etc = self.directory.join("etc");
        write_all(&etc, owner, settings)?;
        hide(&etc, &private_directories(&self.media))?;
        let wp_config = self.directory.join("wp-config.php");
        write_atomic(&wp_config, settings.wp_config.as_bytes(), Access::Private)?;
        give_to(&wp_config, Some(&self.user))?;
        Ok(())
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

    /// Runs one of our own scripts in the slot's php-fpm.
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
    #[must_use]
    pub(crate) fn has_lost_media(&self) -> bool {
        let pid = self.unit.holder().ok().flatten();
        pid.is_some_and(|pid| self.media.is_lost_to(pid.as_raw()))
    }

    /// Returns the end of the log that PHP writes its errors to.
    #[must_use]
    pub fn php_errors(&self) -> String {
        flotilla_host::files::tail(&self.directory.join("log/php-error.log"), 2)
    }
}

/// A slot that an older agent has prepared lacks the places that scratch is shown at.
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

fn unit(options: &Options, name: SlotName, directory: &Path) -> Unit {
    let etc = |file: &str| format!("{}/{file}", layout::ETC);
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
    let run = |file: &str| PathBuf::from(layout::RUN).join(file);
    let init = Init {
        programs: vec![
            program("php-fpm", &options.php_fpm, &fpm_args, None),
            program("nginx", &options.nginx, &nginx_args, Some(Signal::SIGHUP as i32)),
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
    };
    Unit {
        name: format!("{}-{name}", options.instance),
        own_program: options.own_program.clone(),
        launch: Launch {
            program: options.own_program.clone(),
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
            lock: directory.join("slot.lock"),
            log: directory.join("log/slot.log"),
            user: None,
            room: Some(room(options, directory)),
        },
        stop_signal: Signal::SIGTERM,
        stop_timeout: STOP_TIMEOUT,
    }
}

/// What the slot sees of the machine.
fn room(options: &Options, directory: &Path) -> Room {
    Room {
        binds: vec![
            Bind::read_only(directory.join("site"), layout::SITE),
            Bind::read_only(directory.join("wp-config.php"), layout::WP_CONFIG),
            Bind::read_only(options.directory.join("php"), layout::PHP),
            Bind::read_only(directory.join("etc"), layout::ETC),
            Bind::writable(directory.join("run"), layout::RUN),
            Bind::writable(directory.join("log"), layout::LOG),
            Bind::read_only(socket_directory(options), layout::SESSIONS),
            options.media.bind(),
        ],
        tmp: Some(directory.join("tmp")),
        has_own_pids: true,
        scratch: Some(scratch()),
        base: options.media.base(),
    }
}
