//! Runs the server's client programs, with the login in a file that exists only in memory: it is on
//! no disk, in no environment and on no command line, and vanishes with this process.

use std::ffi::CStr;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use flotilla_core::config::DatabaseTls;
use flotilla_host::command::Command;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::DatabaseError;
use crate::settings::DatabaseLogin;

const ASK_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT_SECONDS: u32 = 10;
/// What a machine trusts.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// How to log in.
#[derive(Debug, Clone)]
pub enum Login {
    /// As the site does.
    Site(DatabaseLogin),
    /// As the administrator of a server on this machine, whom it knows by his user.
    Administrator {
        /// Where the socket is; its path may be too long for a socket.
        directory: PathBuf,
        /// The socket's name in there.
        socket: &'static str,
        /// The user.
        user: String,
        /// The site's database.
        database: String,
    },
}

/// How many connections the server gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// To all users together.
    pub connections_max: u32,
    /// To each user; 0 means as many as to all.
    pub user_connections_max: u32,
}

impl Limits {
    /// Returns how many the site can have.
    #[must_use]
    pub fn for_site(self) -> u32 {
        match self.user_connections_max {
            0 => self.connections_max,
            limit => self.connections_max.min(limit),
        }
    }
}

/// The database, as its client programs reach it.
#[derive(Debug, Clone)]
pub struct Client {
    /// `mariadb`.
    pub program: PathBuf,
    /// `mariadb-dump`.
    pub dump_program: PathBuf,
    /// The login.
    pub login: Login,
}

impl Client {
    /// Returns the name of the site's database.
    #[must_use]
    pub fn database(&self) -> &str {
        match &self.login {
            Login::Site(login) => &login.name,
            Login::Administrator { database, .. } => database,
        }
    }

    /// Asks for the rows of a statement, each a list of texts.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn rows(&self, statement: &str) -> Result<Vec<Vec<String>>, DatabaseError> {
        let (command, _login) = self.command(&self.program)?;
        let output = command
            .args(["--batch", "--skip-column-names"])
            .stdin(format!("{statement};\n"))
            .time_limit(ASK_TIMEOUT)
            .run()
            .await
            .map_err(DatabaseError::Client)?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    }

    /// Asks how many connections the server gives.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn limits(&self) -> Result<Limits, DatabaseError> {
        let rows = self.rows("SELECT @@max_connections, @@max_user_connections").await?;
        let number = |at: usize| rows.first()?.get(at)?.parse().ok();
        match (number(0), number(1)) {
            (Some(connections_max), Some(user_connections_max)) => {
                Ok(Limits { connections_max, user_connections_max })
            }
            _ => Err(DatabaseError::Answer),
        }
    }

    /// Makes a command of one of the programs; it is good as long as the login is kept.
    pub(super) fn command(
        &self,
        program: &PathBuf,
    ) -> Result<(Command, OptionFile), DatabaseError> {
        let file = OptionFile::new(&self.login).map_err(DatabaseError::Login)?;
        let mut command = Command::new(program).arg(format!("--defaults-file={}", file.path()));
        if let Login::Administrator { directory, .. } = &self.login {
            command = command.directory(directory);
        }
        Ok((command, file))
    }

    /// Returns the arguments and the directory of an interactive client that this process becomes.
    ///
    /// # Errors
    /// The login cannot be handed over.
    pub fn shell(&self) -> Result<(Vec<String>, Option<PathBuf>), DatabaseError> {
        let file = OptionFile::new(&self.login).map_err(DatabaseError::Login)?;
        let argument = file.inherit().map_err(DatabaseError::Login)?;
        let directory = match &self.login {
            Login::Administrator { directory, .. } => Some(directory.clone()),
            Login::Site(_) => None,
        };
        Ok((vec![format!("--defaults-file={argument}"), self.database().to_owned()], directory))
    }
}

/// The login as an option file of the client programs.
#[derive(Debug)]
pub(super) struct OptionFile {
    options: File,
    /// Named in the options.
    _certificates: Option<File>,
}

impl OptionFile {
    fn new(login: &Login) -> io::Result<Self> {
        let certificates = match login {
            Login::Site(login) if !login.certificates.is_empty() => {
                Some(in_memory(c"flotilla-ca", login.certificates.as_bytes())?)
            }
            _ => None,
        };
        let authority = certificates.as_ref().map_or_else(|| CERTIFICATES.to_owned(), path_of);
        let options = in_memory(c"flotilla-login", options(login, &authority).as_bytes())?;
        Ok(Self { options, _certificates: certificates })
    }

    fn path(&self) -> String {
        path_of(&self.options)
    }

    /// Leaves the files to the program that this process becomes; returns the path it has for it.
    fn inherit(self) -> io::Result<String> {
        for file in std::iter::once(&self.options).chain(&self._certificates) {
            fcntl(file, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        let path = self.path();
        // They stay open on purpose.
        std::mem::forget(self);
        Ok(path)
    }
}

/// A child has no descriptor of it, but may open it by this process's: it has the same user. The
/// process keeps its number when it becomes another program.
fn path_of(file: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())
}

fn in_memory(name: &CStr, content: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC)?);
    // The client programs ignore a file that everybody may write.
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(content)?;
    Ok(file)
}

fn options(login: &Login, authority: &str) -> String {
    let mut text = "[client]\ndefault-character-set = utf8mb4\n".to_owned();
    let mut add = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name} = \"{}\"", escape(value));
    };
    match login {
        Login::Site(login) => {
            add("host", login.host.trim_matches(['[', ']']));
            add("port", &login.port.to_string());
            add("protocol", "tcp");
            add("user", &login.user);
            add("password", login.password.reveal());
            if login.tls != DatabaseTls::Off {
                add("ssl", "1");
            }
            if login.tls == DatabaseTls::Verify {
                add("ssl-ca", authority);
                add("ssl-verify-server-cert", "1");
            }
        }
        Login::Administrator { socket, user, .. } => {
            add("protocol", "socket");
            add("socket", socket);
            add("user", user);
        }
    }
    // The program that dumps does not know this option.
    let _ = writeln!(text, "[mariadb-client]\nconnect-timeout = {CONNECT_TIMEOUT_SECONDS}");
    text
}

/// Escapes a value for double quotes in an option file.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for one in value.chars() {
        if matches!(one, '\\' | '"') {
            escaped.push('\\');
        }
        escaped.push(one);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use flotilla_core::id::Token;

    use super::*;

    fn login(password: &str) -> Login {
        Login::Site(DatabaseLogin {
            host: "[::1]".to_owned(),
            port: 3307,
            name: "shop".to_owned(),
            user: "shop".to_owned(),
            password: Token::new(password.to_owned()),
            tls: DatabaseTls::Verify,
            certificates: String::new(),
        })
    }

    #[test]
    fn an_option_cannot_add_another() {
        let text = options(&login(r#"a"b\c # d"#), "/ca.pem");
        assert!(text.contains("password = \"a\\\"b\\\\c # d\"\n"), "{text}");
        assert!(text.contains("host = \"::1\"\n") && text.contains("ssl-ca = \"/ca.pem\"\n"));
    }

    #[test]
    fn the_login_is_readable_by_its_path_and_on_no_disk() {
        let file = OptionFile::new(&login("secret")).unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert!(text.contains("secret"));
        let target = std::fs::read_link(file.path()).unwrap();
        assert!(target.to_string_lossy().starts_with("/memfd:flotilla-login"), "{target:?}");
        let path = file.path();
        drop(file);
        assert!(std::fs::read_to_string(path).is_err());
    }

    #[test]
    fn the_lower_of_two_limits_counts() {
        let limits = |all, user| Limits { connections_max: all, user_connections_max: user };
        assert_eq!(limits(151, 0).for_site(), 151);
        assert_eq!(limits(151, 40).for_site(), 40);
        assert_eq!(limits(30, 40).for_site(), 30);
    }
}
