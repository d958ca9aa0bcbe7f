//! The database: a MariaDB of the fleet's own, made, configured and run without touching the
//! system's.
//!
//! Root runs it as the user `mysql`, who sees its directory at a constant path because the data
//! directory is closed to others. An ordinary user runs it as himself. A newer server version on
//! old files needs `mariadb-upgrade`, which is not done here.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flotilla_core::id::Token;
use flotilla_host::command::{Command, CommandError};
use flotilla_host::files::{Access, FileError, write_atomic};
use flotilla_host::ownership::{give_to, set_mode};
use flotilla_host::room::{Bind, Room};
use flotilla_host::unit::{Unit, UnitError};
use nix::unistd::{Uid, User};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use super::layout::{Layout, LayoutError, make_private, remove_directory};
use super::packages::Machine;
use super::services::{DATABASE, DATABASE_INSTALLATION, Foreign, Services};

/// Where the server sees its directory when root runs it.
const INSIDE: &str = "/srv/flotilla/database";
/// Whom root runs it as.
const USER: &str = "mysql";
const DATA: &str = "data";
const DATA_UNFINISHED: &str = "data.unfinished";
const TMP: &str = "tmp";
const CONFIG: &str = "mariadb.cnf";
/// Relative to the data, where the server has its working directory: a socket's path may have 107
/// bytes only.
const SOCKET: &str = "mariadb.sock";
const LOG_FILE_BYTES: u64 = 32 * 1024 * 1024;
const INSTALL_TIMEOUT: Duration = Duration::from_secs(5 * 60);
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const NAME_BYTES_MAX: usize = 64;

/// Says why there is no database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// A program is not installed.
    #[error("there is no `{0}` on this machine")]
    Missing(&'static str),
    /// Its files cannot be made.
    #[error("cannot make the files of the database")]
    Install(#[source] UnitError),
    /// A directory cannot be made or removed.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It takes no connections.
    #[error("the database does not answer")]
    Silent(#[source] io::Error),
    /// A name would not be safe in a statement.
    #[error("`{0}` is not a name for a database or its user (letters, digits and _, at most 64)")]
    Name(String),
    /// Its client failed.
    #[error("cannot set up the site's database")]
    Client(#[source] CommandError),
    /// The user of this process has no name.
    #[error("the user of this process has no name on this machine")]
    Nameless,
}

/// How much the database may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatabaseOptions {
    /// Its port on the loopback address.
    pub port: u16,
    /// Memory for tables and indexes.
    pub buffer_pool_bytes: u64,
    /// Connections at once.
    pub connections_max: u16,
}

/// What the site uses in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The database's name.
    pub database: String,
    /// The user's name.
    pub user: String,
    /// The passwords that the server takes for the user; while one is replaced, two.
    pub passwords: Vec<Token>,
}

/// The database of a fleet.
#[derive(Debug, Clone)]
pub struct Database {
    services: Services,
    options: DatabaseOptions,
    server: PathBuf,
    installer: PathBuf,
    client: PathBuf,
}

impl Database {
    /// Finds the programs.
    ///
    /// # Errors
    /// One of them is not installed.
    pub fn find(
        machine: &Machine,
        services: &Services,
        options: DatabaseOptions,
    ) -> Result<Self, DatabaseError> {
        let find = |name| machine.find(name).ok_or(DatabaseError::Missing(name));
        Ok(Self {
            services: services.clone(),
            options,
            server: find("mariadbd")?,
            installer: find("mariadb-install-db")?,
            client: find("mariadb")?,
        })
    }

    /// Makes the files of the database, once, and writes its configuration. One that was cut off is
    /// done again from the start.
    ///
    /// # Errors
    /// MariaDB's own installer fails, or the file system refuses.
    pub async fn install(&self) -> Result<(), DatabaseError> {
        let directory = self.layout().database();
        make_private(&directory)?;
        make_private(&directory.join(TMP))?;
        let user = server_user();
        give_to(&directory, user)?;
        give_to(&directory.join(TMP), user)?;
        let config = directory.join(CONFIG);
        write_atomic(&config, self.config().as_bytes(), Access::Public)?;
        // The mode of a new file depends on the mask of whoever started this process.
        set_mode(&config, 0o644)?;
        if directory.join(DATA).is_dir() {
            return Ok(());
        }
        let job = self.installation()?;
        job.stop().await.map_err(DatabaseError::Install)?;
        let unfinished = directory.join(DATA_UNFINISHED);
        remove_directory(&unfinished)?;
        make_private(&unfinished)?;
        give_to(&unfinished, user)?;
        job.run_to_end(INSTALL_TIMEOUT).await.map_err(DatabaseError::Install)?;
        move_into_place(&unfinished, &directory.join(DATA))
    }

    /// The service; its files must have been made.
    #[must_use]
    pub fn unit(&self) -> Unit {
        let inside = self.inside();
        let argument = |option: &str, path: PathBuf| format!("--{option}={}", path.display());
        self.foreign(
            DATABASE,
            &self.server,
            vec![
                argument("defaults-file", inside.join(CONFIG)),
                argument("datadir", inside.join(DATA)),
                argument("tmpdir", inside.join(TMP)),
            ],
        )
    }

    /// Waits until it takes connections.
    ///
    /// # Errors
    /// It does not within the limit.
    pub async fn wait_ready(&self, limit: Duration) -> Result<(), DatabaseError> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let source = match tokio::time::timeout(ASK_TIMEOUT, self.ask()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                Err(_elapsed) => io::ErrorKind::TimedOut.into(),
            };
            if tokio::time::Instant::now() > deadline {
                return Err(DatabaseError::Silent(source));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Makes the site's database and user, or sets the user's passwords when they are there.
    ///
    /// # Errors
    /// A name is not plain, or the server refuses.
    pub async fn ensure_account(&self, account: &Account) -> Result<(), DatabaseError> {
        let statements = statements(account)?;
        Command::new(&self.client)
            .arg("--no-defaults")
            .arg(format!("--socket={SOCKET}"))
            .arg("--protocol=socket")
            .arg(format!("--user={}", own_name()?))
            .arg("--batch")
            .directory(self.layout().database().join(DATA))
            .stdin(statements)
            .time_limit(CLIENT_TIMEOUT)
            .run()
            .await
            .map_err(DatabaseError::Client)?;
        Ok(())
    }

    /// Returns where an administrator finds the server: the directory, the socket in it, and the user.
    ///
    /// # Errors
    /// The user of this process has no name.
    pub fn administration(&self) -> Result<(PathBuf, &'static str, String), DatabaseError> {
        Ok((self.layout().database().join(DATA), SOCKET, own_name()?))
    }

    /// Connects to the socket and waits for the server's first packet.
    async fn ask(&self) -> io::Result<()> {
        // Through a descriptor, because the path may be longer than a socket's may be.
        let directory = File::open(self.layout().database().join(DATA))?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd());
        let mut stream = UnixStream::connect(path).await?;
        let mut head = [0; 5];
        stream.read_exact(&mut head).await?;
        Ok(())
    }

    fn installation(&self) -> Result<Unit, DatabaseError> {
        let data = self.inside().join(DATA_UNFINISHED);
        let args = vec![
            "--no-defaults".to_owned(),
            format!("--datadir={}", data.display()),
            "--auth-root-authentication-method=socket".to_owned(),
            format!("--auth-root-socket-user={}", own_name()?),
            "--skip-test-db".to_owned(),
            "--skip-name-resolve".to_owned(),
            // A minimal machine may not know its own name; nothing here asks for it.
            "--force".to_owned(),
            format!("--tmpdir={}", self.inside().join(TMP).display()),
            format!("--innodb-log-file-size={LOG_FILE_BYTES}"),
        ];
        Ok(self.foreign(DATABASE_INSTALLATION, &self.installer, args))
    }

    fn foreign(&self, name: &'static str, program: &Path, args: Vec<String>) -> Unit {
        let room = server_user().map(|_| Room {
            binds: vec![Bind::writable(self.layout().database(), INSIDE)],
            ..Room::default()
        });
        self.services.foreign(Foreign {
            name,
            program: program.to_owned(),
            args,
            directory: self.inside(),
            user: server_user().map(str::to_owned),
            room,
        })
    }

    /// Returns the database's directory as the server sees it.
    fn inside(&self) -> PathBuf {
        if server_user().is_some() { PathBuf::from(INSIDE) } else { self.layout().database() }
    }

    const fn layout(&self) -> &Layout {
        &self.services.layout
    }

    fn config(&self) -> String {
        let DatabaseOptions { port, buffer_pool_bytes, connections_max } = self.options;
        format!(
            "# Written at each start.
[mariadbd]
bind-address = 127.0.0.1
port = {port}
socket = {SOCKET}
pid-file = mariadb.pid
skip-name-resolve
local-infile = OFF
max_connections = {connections_max}
max_allowed_packet = 64M
character-set-server = utf8mb4
collation-server = utf8mb4_unicode_ci
performance_schema = OFF
table_open_cache = 512
thread_cache_size = 8
key_buffer_size = 1M
aria_pagecache_buffer_size = 8M
innodb_buffer_pool_size = {buffer_pool_bytes}
innodb_log_file_size = {LOG_FILE_BYTES}
innodb_flush_log_at_trx_commit = 1
innodb_doublewrite = ON
sync_binlog = 1
"
        )
    }
}

/// Returns as whom the server runs, when not as this user.
fn server_user() -> Option<&'static str> {
    Uid::effective().is_root().then_some(USER)
}

fn own_name() -> Result<String, DatabaseError> {
    match User::from_uid(Uid::effective()) {
        Ok(Some(user)) => Ok(user.name),
        _ => Err(DatabaseError::Nameless),
    }
}

fn move_into_place(from: &Path, to: &Path) -> Result<(), DatabaseError> {
    let directory = to.parent().unwrap_or(Path::new("/"));
    fs::rename(from, to)
        .and_then(|()| File::open(directory)?.sync_all())
        .map_err(|source| LayoutError::System { path: to.to_owned(), source }.into())
}

fn statements(account: &Account) -> Result<String, DatabaseError> {
    let Account { database, user, passwords } = account;
    for name in [database, user] {
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_plain || name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(DatabaseError::Name(name.clone()));
        }
    }
    // In a grant, `_` stands for any character.
    let pattern = database.replace('_', "\\_");
    // MariaDB tries one way after the other, so a user may have two passwords.
    let ways: Vec<String> = passwords
        .iter()
        .map(|password| {
            let password = password.reveal().replace('\\', "\\\\").replace('\'', "''");
            format!("mysql_native_password USING PASSWORD('{password}')")
        })
        .collect();
    let ways = ways.join(" OR ");
    let mut text = format!(
        "CREATE DATABASE IF NOT EXISTS `{database}` \
         CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;\n"
    );
    for host in ["127.0.0.1", "localhost"] {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "CREATE USER IF NOT EXISTS '{user}'@'{host}' IDENTIFIED VIA {ways};
ALTER USER '{user}'@'{host}' IDENTIFIED VIA {ways};
GRANT ALL PRIVILEGES ON `{pattern}`.* TO '{user}'@'{host}';"
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(database: &str, password: &str) -> Account {
        Account {
            database: database.to_owned(),
            user: "site".to_owned(),
            passwords: vec![Token::new(password.to_owned())],
        }
    }

    #[test]
    fn a_password_cannot_leave_its_quotes() {
        let text = statements(&account("my_site", r"a'b\c")).unwrap();
        assert!(text.contains(r"USING PASSWORD('a''b\\c');"), "{text}");
        assert!(text.contains(r"ON `my\_site`.* TO"), "{text}");
    }

    #[test]
    fn a_name_with_other_characters_is_refused() {
        for name in ["", "a`b", "a-b", &"a".repeat(65)] {
            assert!(matches!(statements(&account(name, "x")), Err(DatabaseError::Name(_))));
        }
    }
}
