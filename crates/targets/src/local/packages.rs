//! What of Debian a local fleet needs, by what is really there rather than by package names.
//!
//! The `php` metapackage is never named: it pulls in Apache.

use std::path::{Path, PathBuf};
use std::time::Duration;

use flotilla_host::command::{Command, CommandError};
use nix::unistd::Uid;

const INSTALL_SCRIPT: &str = include_str!("install.sh");
/// The same words as in the script.
const POLICY_MARK: &str = "written by flotilla; removed when its installation ends";
const INSTALL_TIMEOUT: Duration = Duration::from_secs(30 * 60);
const ASK_TIMEOUT: Duration = Duration::from_secs(30);
const OUTPUT_LINES_KEPT: usize = 30;
const LINE_BYTES_MAX: usize = 4096;
const PHP_MAJOR: &str = "8.";
/// Where services are installed, which the `PATH` of an ordinary user leaves out.
const DIRECTORIES: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Programs besides PHP, and the package of each.
const PROGRAMS: [(&str, &str); 7] = [
    ("nginx", "nginx-light"),
    ("mariadbd", "mariadb-server"),
    ("mariadb-install-db", "mariadb-server"),
    ("mariadb", "mariadb-client"),
    ("memcached", "memcached"),
    ("git", "git"),
    ("curl", "curl"),
];

/// PHP modules, as `php -m` names them, and the end of each one's package name.
const MODULES: [(&str, &str); 12] = [
    ("mysqli", "mysql"),
    ("memcached", "memcached"),
    ("igbinary", "igbinary"),
    ("gd", "gd"),
    ("imagick", "imagick"),
    ("curl", "curl"),
    ("dom", "xml"),
    ("SimpleXML", "xml"),
    ("mbstring", "mbstring"),
    ("zip", "zip"),
    ("intl", "intl"),
    ("Zend OPcache", "opcache"),
];

/// Says why packages could not be found or installed.
#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    /// PHP does not say what it can.
    #[error("cannot ask `{program}` for its modules")]
    Ask {
        /// The program.
        program: PathBuf,
        /// Why.
        source: CommandError,
    },
    /// This user may not install, not even through sudo.
    #[error("packages are missing and this user may not install them; as root, type: {command}")]
    NotAllowed {
        /// What to type.
        command: String,
    },
    /// The installation could not be run to its end.
    #[error("the installation of packages was cut off")]
    CutOff(#[source] CommandError),
    /// apt-get failed.
    #[error("apt-get failed; its output ends with:\n{tail}")]
    Failed {
        /// The end of its output.
        tail: String,
    },
}

/// Where programs are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    directories: Vec<PathBuf>,
    certificates: PathBuf,
}

/// A php-fpm and the command line of the same version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Php {
    /// `8.2`, say.
    pub version: String,
    /// The program that serves.
    pub fpm: PathBuf,
    /// The program for the command line; `None` when that version has none.
    pub cli: Option<PathBuf>,
}

impl Machine {
    /// This machine: the directories of `PATH` and those where Debian puts programs.
    #[must_use]
    pub fn this() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut directories: Vec<PathBuf> = DIRECTORIES.iter().map(PathBuf::from).collect();
        directories.extend(std::env::split_paths(&path).filter(|one| one.is_absolute()));
        Self { directories, certificates: PathBuf::from(CERTIFICATES) }
    }

    /// A machine whose programs lie in these directories only.
    #[must_use]
    pub const fn of(directories: Vec<PathBuf>, certificates: PathBuf) -> Self {
        Self { directories, certificates }
    }

    /// Finds a program by its name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        self.directories.iter().map(|directory| directory.join(name)).find(|path| is_program(path))
    }

    /// Finds the PHP of the highest version that can serve.
    #[must_use]
    pub fn php(&self) -> Option<Php> {
        let mut found: Vec<(u32, String, PathBuf)> = self
            .directories
            .iter()
            .filter_map(|directory| std::fs::read_dir(directory).ok())
            .flat_map(|entries| entries.flatten())
            .filter_map(|entry| {
                let name = entry.file_name();
                let version = name.to_str()?.strip_prefix("php-fpm")?;
                let minor = version.strip_prefix(PHP_MAJOR)?.parse().ok()?;
                is_program(&entry.path()).then(|| (minor, version.to_owned(), entry.path()))
            })
            .collect();
        // Those in earlier directories win among equals, as with any program.
        found.sort_by_key(|(minor, ..)| std::cmp::Reverse(*minor));
        let (_, version, fpm) = found.into_iter().next()?;
        let cli = self.find(&format!("php{version}"));
        Some(Php { version, fpm, cli })
    }

    /// Returns the names of the packages that are missing, in order, each once.
    ///
    /// # Errors
    /// A PHP that is there does not answer.
    pub async fn missing(&self) -> Result<Vec<String>, PackagesError> {
        let mut missing: Vec<String> = PROGRAMS
            .iter()
            .filter(|(program, _)| self.find(program).is_none())
            .map(|(_, package)| (*package).to_owned())
            .collect();
        if !self.certificates.is_file() {
            missing.push("ca-certificates".to_owned());
        }
        match self.php() {
            Some(php) => missing.extend(missing_of_php(&php).await?),
            None => {
                missing.extend(["php-fpm", "php-cli"].map(str::to_owned));
                // The rest of PHP itself comes with these.
                let modules = MODULES.iter().filter(|(_, package)| *package != "opcache");
                missing.extend(modules.map(|(_, package)| format!("php-{package}")));
            }
        }
        missing.sort();
        missing.dedup();
        Ok(missing)
    }
}

async fn missing_of_php(php: &Php) -> Result<Vec<String>, PackagesError> {
    // Modules can be switched on for one of the two and not for the other.
    let mut missing = missing_modules(&php.fpm, &php.version).await?;
    match &php.cli {
        Some(cli) => missing.extend(missing_modules(cli, &php.version).await?),
        None => missing.push(format!("php{}-cli", php.version)),
    }
    Ok(missing)
}

async fn missing_modules(program: &Path, version: &str) -> Result<Vec<String>, PackagesError> {
    let output = Command::new(program)
        .arg("-m")
        .time_limit(ASK_TIMEOUT)
        .run()
        .await
        .map_err(|source| PackagesError::Ask { program: program.to_owned(), source })?;
    let output = String::from_utf8_lossy(&output.stdout);
    let has = |module: &str| output.lines().any(|line| line.trim().eq_ignore_ascii_case(module));
    Ok(MODULES
        .iter()
        .filter(|(module, _)| !has(module))
        .map(|(_, package)| format!("php{version}-{package}"))
        .collect())
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// How packages are installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installer {
    /// The program and first arguments that run a shell as root.
    shell: Vec<String>,
    policy: PathBuf,
    units: PathBuf,
}

impl Default for Installer {
    fn default() -> Self {
        let shell: &[&str] = if Uid::effective().is_root() {
            &["/bin/sh"]
        } else {
            // It asks nobody for a password.
            &["sudo", "-n", "/bin/sh"]
        };
        Self {
            shell: shell.iter().map(|word| (*word).to_owned()).collect(),
            policy: PathBuf::from("/usr/sbin/policy-rc.d"),
            units: PathBuf::from("/lib/systemd/system"),
        }
    }
}

impl Installer {
    /// An installer that runs a shell of the caller's and looks at other paths.
    #[must_use]
    pub const fn of(shell: Vec<String>, policy: PathBuf, units: PathBuf) -> Self {
        Self { shell, policy, units }
    }

    /// Installs packages; tells each line of apt-get's output.
    ///
    /// No service of theirs is started or enabled.
    ///
    /// # Errors
    /// This user may not, or apt-get fails.
    pub async fn install(
        &self,
        packages: &[String],
        mut progress: impl FnMut(&str),
    ) -> Result<(), PackagesError> {
        if packages.is_empty() {
            self.remove_leftover();
            return Ok(());
        }
        if !self.may_install().await {
            let command = format!("apt-get install --no-install-recommends {}", packages.join(" "));
            return Err(PackagesError::NotAllowed { command });
        }
        // Its words are part of the story, so they go where the rest goes.
        let script = format!("exec 2>&1\n{INSTALL_SCRIPT}");
        let mut running = self
            .shell()
            .arg("-c")
            .arg(script)
            .arg("install")
            .arg(&self.policy)
            .arg(&self.units)
            .args(packages)
            .called("apt-get")
            .time_limit(INSTALL_TIMEOUT)
            .start()
            .map_err(PackagesError::CutOff)?;
        let (mut buffer, mut tail) = (Vec::new(), Vec::new());
        while running.read(&mut buffer).await.map_err(PackagesError::CutOff)? > 0 {
            while let Some(line) = take_line(&mut buffer) {
                progress(&line);
                tail.push(line);
                let surplus = tail.len().saturating_sub(OUTPUT_LINES_KEPT);
                tail.drain(..surplus);
            }
        }
        let (status, _) = running.wait().await.map_err(PackagesError::CutOff)?;
        if status.success() { Ok(()) } else { Err(PackagesError::Failed { tail: tail.join("\n") }) }
    }

    /// Removes the policy of an installation that was killed; with it, no service of this machine
    /// would be started by later installations of others.
    fn remove_leftover(&self) {
        let text = std::fs::read_to_string(&self.policy).unwrap_or_default();
        if text.contains(POLICY_MARK) {
            // Where this user may not, the next installation does it.
            drop(std::fs::remove_file(&self.policy));
        }
    }

    async fn may_install(&self) -> bool {
        self.shell().args(["-c", "true"]).time_limit(ASK_TIMEOUT).run().await.is_ok()
    }

    fn shell(&self) -> Command {
        let mut words = self.shell.iter();
        Command::new(words.next().map_or("/bin/sh", String::as_str)).args(words)
    }
}

/// Takes a whole line, or one that has grown too long, out of a buffer.
fn take_line(buffer: &mut Vec<u8>) -> Option<String> {
    let end = buffer.iter().position(|byte| *byte == b'\n');
    let end = end.map(|at| at + 1).or((buffer.len() > LINE_BYTES_MAX).then_some(buffer.len()))?;
    let line: Vec<u8> = buffer.drain(..end).collect();
    Some(String::from_utf8_lossy(&line).trim_end().to_owned())
}
