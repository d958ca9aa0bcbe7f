//! The command line: every command, flag and its help. The reference page is made from it.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Runs a WordPress site on a fleet of small web instances as if it were one machine.
#[derive(Debug, Parser)]
#[command(
    name = "flotilla",
    version,
    max_term_width = 100,
    after_help = "Start with `flotilla up` in an empty directory."
)]
pub(crate) struct Arguments {
    /// The site's directory: the one with flotilla.toml
    #[arg(
        short = 'C',
        long,
        global = true,
        default_value = ".",
        value_name = "DIR",
        env = "FLOTILLA_DIRECTORY"
    )]
    pub(crate) directory: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// Whether the answer shall be JSON.
    pub(crate) const fn is_json(&self) -> bool {
        match &self.command {
            Command::Up { json, .. }
            | Command::Deploy { json, .. }
            | Command::Rollback { json, .. }
            | Command::Releases { json, .. }
            | Command::Captures { json, .. }
            | Command::History { json, .. }
            | Command::Blame { json, .. }
            | Command::Cron { json, .. }
            | Command::Status { json, .. }
            | Command::Scale { json, .. }
            | Command::Logs { json, .. }
            | Command::Config { json, .. }
            | Command::Audit { json, .. }
            | Command::Db { command: Db::Restore { json, .. } }
            | Command::Media { command: Media::Import { json, .. } | Media::Verify { json, .. } }
            | Command::Secrets { command: Secrets::List { json } | Secrets::Rotate { json, .. } }
            | Command::Packages { json, .. } => *json,
            _ => false,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Writes a flotilla.toml with every key explained
    Init {
        /// Replaces a file that is there
        #[arg(long)]
        force: bool,
    },
    /// Starts the fleet, makes the site if there is none, and comes back when it serves
    Up {
        /// Installs missing Debian packages
        #[arg(long)]
        install: bool,
        /// Gives up waiting after this many seconds; the fleet goes on starting
        #[arg(long, default_value_t = 600, value_name = "SECONDS")]
        timeout: u64,
        /// Prints URL and login as JSON
        #[arg(long)]
        json: bool,
    },
    /// Stops the fleet and keeps its data
    Down,
    /// Stops the fleet and removes its data, after asking
    Destroy {
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
    /// Brings a revision of the code into service on every instance at one instant
    Deploy {
        /// A branch, tag or commit; the site's branch when left out
        revision: Option<String>,
        /// Comes back when the deploy is accepted, not when it is over
        #[arg(long)]
        detach: bool,
        /// Is refused, instead of waiting, when another deploy is under way
        #[arg(long)]
        no_wait: bool,
        /// Deploys what serves once more, with changed settings; goes back over a database upgrade
        #[arg(long)]
        force: bool,
        /// Prints the outcome as JSON
        #[arg(long)]
        json: bool,
    },
    /// Goes back to the release before, or calls off the deploy that is under way
    Rollback {
        /// A revision that was deployed before; the last one when left out
        to: Option<String>,
        /// Goes back over a database upgrade
        #[arg(long)]
        force: bool,
        /// Prints the outcome as JSON
        #[arg(long)]
        json: bool,
    },
    /// Lists the deploys, newest first
    Releases {
        /// How many
        #[arg(short = 'n', long, default_value_t = 20)]
        limit: u32,
        /// Prints JSON
        #[arg(long)]
        json: bool,
    },
    /// Lists what people changed in wp-admin, approves it or undoes it
    Captures {
        /// What to do with one of them; lists all when left out.
        #[command(subcommand)]
        command: Option<Captures>,
        /// How many, newest first
        #[arg(short = 'n', long, default_value_t = 20)]
        limit: u32,
        /// Prints JSON
        #[arg(long, global = true)]
        json: bool,
    },
    /// Tells who changed what in the site's code, newest first
    History {
        /// Only what changed this file or directory, from the root of the site
        path: Option<String>,
        /// How many
        #[arg(short = 'n', long, default_value_t = 20)]
        limit: usize,
        /// Shows each change line by line
        #[arg(short, long)]
        patch: bool,
        /// Prints JSON
        #[arg(long)]
        json: bool,
    },
    /// Tells who wrote each line of a file
    Blame {
        /// The file, from the root of the site
        path: String,
        /// Prints JSON
        #[arg(long)]
        json: bool,
    },
    /// Shows the release in service, the instances and what is under way
    Status {
        /// Shows it again every second, until Ctrl-C
        #[arg(short, long)]
        watch: bool,
        /// Prints JSON; with --watch, a line for each second
        #[arg(long)]
        json: bool,
    },
    /// Prints the logs of the fleet's parts
    Logs {
        /// A part such as balancer, foreman, web-1 or database; all when left out
        part: Option<String>,
        /// How many lines of each
        #[arg(short = 'n', long, default_value_t = 20)]
        lines: usize,
        /// Goes on printing what is added, until Ctrl-C
        #[arg(short, long)]
        follow: bool,
        /// Prints a line of JSON for each line
        #[arg(long)]
        json: bool,
    },
    /// Sets the number of instances
    Scale {
        /// How many
        instances: u16,
        /// Prints the inventory as JSON
        #[arg(long)]
        json: bool,
    },
    /// Tells what WordPress has scheduled, and what was run
    Cron {
        /// Only this hook
        #[arg(long)]
        hook: Option<String>,
        /// How many runs, newest first
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        /// Prints both lists as JSON
        #[arg(long)]
        json: bool,
    },
    /// Runs WP-CLI on the site
    #[command(disable_help_flag = true)]
    Wp {
        /// What WP-CLI is given
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Prints the configuration in force, without secrets
    Config {
        /// Takes what can be kept of a wp-config.php into flotilla.toml, and tells what cannot
        #[arg(long, value_name = "FILE")]
        take: Option<PathBuf>,
        /// Prints JSON
        #[arg(long)]
        json: bool,
    },
    /// Tells which plugin or theme writes what where, what becomes of it, and what to do
    Audit {
        /// One plugin or theme, by its directory
        name: Option<String>,
        /// Shows what is fine too
        #[arg(long)]
        all: bool,
        /// Prints all as JSON
        #[arg(long)]
        json: bool,
    },
    /// Opens, dumps and restores the site's database
    Db {
        /// What to do with it.
        #[command(subcommand)]
        command: Db,
    },
    /// Brings uploads into the bucket, and looks whether all of them are there
    Media {
        /// What to do with them.
        #[command(subcommand)]
        command: Media,
    },
    /// Lists, shows and replaces the site's secrets
    Secrets {
        /// What to do with them.
        #[command(subcommand)]
        command: Secrets,
    },
    /// Lists the Debian packages that are missing
    Packages {
        /// Installs them
        #[arg(long)]
        install: bool,
        /// Prints JSON
        #[arg(long)]
        json: bool,
    },
    /// What flotilla runs itself
    #[command(hide = true)]
    Internal {
        /// Which part.
        #[command(subcommand)]
        command: Internal,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Captures {
    /// Brings one that waits, and those before it, to all instances
    Approve {
        /// Its number
        number: u64,
    },
    /// Undoes one, with a commit of its own when it is in the branch
    Revert {
        /// Its number
        number: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Db {
    /// Opens the server's own client on the site's database
    Shell,
    /// Writes a consistent dump as SQL while the site is used
    Dump {
        /// The file, which has its name only when it is whole; standard output when left out
        file: Option<PathBuf>,
    },
    /// Puts a dump in the place of the site's tables at one instant, after asking
    Restore {
        /// The dump, as SQL
        file: PathBuf,
        /// Does not ask
        #[arg(long)]
        yes: bool,
        /// Prints what was restored as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Media {
    /// Brings a directory of uploads in; what is there already is not sent again
    Import {
        /// The directory, such as the `wp-content/uploads` of the site's old server
        uploads: PathBuf,
        /// Reads files whose size and time are the same too, to make sure
        #[arg(long)]
        compare: bool,
        /// Prints the outcome as JSON
        #[arg(long)]
        json: bool,
    },
    /// Reads every file in the bucket and compares it with its checksum
    Verify {
        /// A directory whose files must all be there, with the same content
        uploads: Option<PathBuf>,
        /// Prints the outcome as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Secrets {
    /// Names the secrets, what each is for and when it was replaced; shows none
    List {
        /// Prints JSON
        #[arg(long)]
        json: bool,
    },
    /// Prints one secret and nothing else
    Show {
        /// Its name, as `flotilla secrets list` tells it
        name: String,
    },
    /// Replaces secrets in the running fleet; no request fails of it
    Rotate {
        /// What to replace
        #[arg(required = true, value_enum)]
        kinds: Vec<SecretKind>,
        /// Does not ask, although new salts log everybody out
        #[arg(long)]
        yes: bool,
        /// Prints the outcome as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SecretKind {
    /// WordPress' keys and salts: everybody is logged out
    Salts,
    /// The password of the embedded database's user
    Database,
    /// The tokens of operator, balancer and agents
    Tokens,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Internal {
    /// Becomes a service
    Launch {
        /// JSON of a `Launch`
        spec: String,
    },
    /// Starts the first process of a room
    Init {
        /// JSON of an `Init`
        spec: String,
    },
    /// Is the first process of a room
    InitInner {
        /// JSON of an `Init`
        spec: String,
    },
    /// Becomes a command inside a room
    Inside {
        /// JSON of an `Inside`
        spec: String,
    },
    /// Keeps a local fleet running
    Supervise {
        /// The site's data
        #[arg(long)]
        data_dir: PathBuf,
    },
    /// Is the foreman
    Foreman {
        /// The site's data
        #[arg(long)]
        data_dir: PathBuf,
    },
    /// Is the balancer
    Balancer {
        /// The site's data
        #[arg(long)]
        data_dir: PathBuf,
    },
    /// Is the store that a fleet on one machine keeps its media in
    Bucket {
        /// The site's data
        #[arg(long)]
        data_dir: PathBuf,
    },
    /// Mounts the media and keeps a daemon that answers for them
    MediaKeeper {
        /// A file with the JSON of a `MountSpec`
        spec: PathBuf,
    },
    /// Answers for the media; its standard input is the mount
    MediaDaemon {
        /// A file with the JSON of a `MountSpec`
        spec: PathBuf,
    },
    /// Is the session gateway of an instance
    Sessions {
        /// JSON of a `GatewaySpec`
        spec: String,
    },
    /// Is the agent of an instance
    Agent {
        /// The site's data
        #[arg(long)]
        data_dir: PathBuf,
        /// Its name
        #[arg(long)]
        instance: String,
    },
    /// Prints the reference page of all commands
    Reference,
}
