//! The services of a local fleet that are this program itself, and what all services share.

use std::path::{Path, PathBuf};
use std::time::Duration;

use flotilla_core::id::InstanceName;
use flotilla_host::launch::Launch;
use flotilla_host::room::Room;
use flotilla_host::unit::Unit;
use nix::sys::signal::Signal;

use super::layout::Layout;

/// The supervisor's name.
pub const SUPERVISOR: &str = "supervisor";
/// The database's name.
pub const DATABASE: &str = "database";
/// The name of the job that makes the database's files.
pub const DATABASE_INSTALLATION: &str = "database-installation";
/// The names of the session store's nodes.
pub const SESSIONS: [&str; 2] = ["sessions-1", "sessions-2"];
/// The object cache's name.
pub const CACHE: &str = "cache";
/// The name of the store of media.
pub const BUCKET: &str = "bucket";
/// The foreman's name.
pub const FOREMAN: &str = "foreman";
/// The balancer's name.
pub const BALANCER: &str = "balancer";

const AGENT_PREFIX: &str = "agent-";
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is the same for all services of a fleet.
#[derive(Debug, Clone)]
pub struct Services {
    /// The paths of the fleet.
    pub layout: Layout,
    /// This program, which launches all others.
    pub own_program: PathBuf,
    /// The time zone, as in `TZ`.
    pub timezone: String,
    /// Further variables that services shall see, such as the log level.
    pub env: Vec<(String, String)>,
}

/// A service that is not this program.
pub(crate) struct Foreign {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) directory: PathBuf,
    pub(crate) user: Option<String>,
    pub(crate) room: Option<Room>,
}

/// Names the agent of an instance.
#[must_use]
pub fn agent_name(instance: &InstanceName) -> String {
    format!("{AGENT_PREFIX}{instance}")
}

/// Returns the instance whose agent has this name.
#[must_use]
pub fn instance_of_agent(service: &str) -> Option<InstanceName> {
    service.strip_prefix(AGENT_PREFIX)?.parse().ok()
}

/// Returns how long a service may take to stop before it is killed.
#[must_use]
pub fn stop_timeout(service: &str) -> Duration {
    Duration::from_secs(match service {
        // It writes back what it holds in memory.
        DATABASE => 90,
        // It lets requests end.
        BALANCER => 40,
        FOREMAN => 30,
        CACHE | DATABASE_INSTALLATION => 5,
        name if SESSIONS.contains(&name) => 5,
        _ => 20,
    })
}

impl Services {
    /// The supervisor, which keeps all others.
    #[must_use]
    pub fn supervisor(&self) -> Unit {
        self.internal(SUPERVISOR, "supervise", None)
    }

    /// The store of media.
    #[must_use]
    pub fn bucket(&self) -> Unit {
        self.internal(BUCKET, "bucket", None)
    }

    /// The foreman.
    #[must_use]
    pub fn foreman(&self) -> Unit {
        self.internal(FOREMAN, "foreman", None)
    }

    /// The balancer.
    #[must_use]
    pub fn balancer(&self) -> Unit {
        self.internal(BALANCER, "balancer", None)
    }

    /// The agent of an instance.
    #[must_use]
    pub fn agent(&self, instance: &InstanceName) -> Unit {
        self.internal(&agent_name(instance), "agent", Some(instance))
    }

    fn internal(&self, name: &str, subcommand: &str, instance: Option<&InstanceName>) -> Unit {
        let data_dir = self.layout.data_dir().to_string_lossy().into_owned();
        let mut args =
            vec!["internal".to_owned(), subcommand.to_owned(), "--data-dir".to_owned(), data_dir];
        if let Some(instance) = instance {
            args.extend(["--instance".to_owned(), instance.to_string()]);
        }
        let directory = self.layout.data_dir();
        self.unit(name, &self.own_program, args, directory)
    }

    pub(crate) fn foreign(&self, foreign: Foreign) -> Unit {
        let Foreign { name, program, args, directory, user, room } = foreign;
        let mut unit = self.unit(name, &program, args, &directory);
        unit.launch.user = user;
        unit.launch.room = room;
        unit
    }

    fn unit(&self, name: &str, program: &Path, args: Vec<String>, directory: &Path) -> Unit {
        let mut env = vec![
            ("PATH".to_owned(), SEARCH_PATH.to_owned()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("TZ".to_owned(), self.timezone.clone()),
        ];
        env.extend(self.env.iter().cloned());
        Unit {
            name: name.to_owned(),
            own_program: self.own_program.clone(),
            launch: Launch {
                program: program.to_owned(),
                args,
                env,
                directory: directory.to_owned(),
                lock: self.layout.lock(name),
                log: self.layout.log(name),
                user: None,
                room: None,
            },
            stop_signal: Signal::SIGTERM,
            stop_timeout: stop_timeout(name),
        }
    }
}
