//! The program under test, and running it as a person at a shell would.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nix::unistd::User;
use serde_json::Value;

/// Names another program than the one that was built beside the tests.
const OVERRIDE: &str = "FLOTILLA_PROGRAM";

/// What a run of the program left.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Its exit code; `None` when it was killed.
    pub code: Option<i32>,
    /// Its data.
    pub stdout: String,
    /// Its talk.
    pub stderr: String,
}

impl Ran {
    /// Returns the run when it ended well.
    ///
    /// # Errors
    /// It did not; everything it said is in the error.
    pub fn ok(self) -> anyhow::Result<Self> {
        ensure!(self.code == Some(0), "it ended with {:?}: {}", self.code, self.stderr);
        Ok(self)
    }

    /// Returns its data as JSON.
    ///
    /// # Errors
    /// It is none.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("no JSON: {:?} {}", self.stdout, self.stderr))
    }
}

/// Returns a text of a JSON object.
#[must_use]
pub fn text_of(value: &Value, key: &str) -> Option<String> {
    Some(value.get(key)?.as_str()?.to_owned())
}

/// Returns the directory that cargo builds into.
///
/// # Errors
/// The test does not run from there.
pub fn target_dir() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.ancestors().find(|path| path.join("CACHEDIR.TAG").is_file());
    Ok(target.with_context(|| format!("`{}` is in no target directory", own.display()))?.to_owned())
}

/// Finds the program that was built with these tests.
///
/// # Errors
/// It is not there, or older than a file it is made of.
pub fn program() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os(OVERRIDE) {
        return Ok(PathBuf::from(path));
    }
    let own = std::env::current_exe()?;
    // target/debug/deps/e2e-… is beside target/debug/flotilla.
    let directory = own.parent().and_then(Path::parent).context("no directory of builds")?;
    let path = directory.join("flotilla");
    let hint = "`cargo build -p flotilla` makes it";
    let built_at = path
        .metadata()
        .and_then(|meta| meta.modified())
        .with_context(|| format!("`{}` is not there; {hint}", path.display()))?;
    for file in made_of(&path.with_extension("d")) {
        let is_newer =
            file.metadata().and_then(|meta| meta.modified()).is_ok_and(|at| at > built_at);
        ensure!(!is_newer, "`{}` is newer than the program; {hint}", file.display());
    }
    Ok(path)
}

/// Reads what cargo says a program is made of.
fn made_of(list: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(list).unwrap_or_default();
    let files = text.split_once(": ").map_or("", |(_, files)| files);
    files.split_whitespace().map(PathBuf::from).collect()
}

/// How the program is run.
#[derive(Debug, Clone)]
pub struct Shell {
    /// The program.
    pub program: PathBuf,
    /// Where.
    pub directory: PathBuf,
    /// As which user, when not as the present one.
    pub user: Option<String>,
}

/// On a machine whose devices are not kept by udev, only root may open `/dev/fuse`; elsewhere everybody
/// may, as here: a device of our own is put in its place, which nobody else sees.
const WITH_FUSE: &str = r#"mount -t tmpfs tmpfs /mnt
mknod -m 666 /mnt/fuse c 10 229
mount --bind /mnt/fuse /dev/fuse
umount --lazy /mnt
exec "$@""#;

impl Shell {
    /// Runs the program with arguments and no terminal.
    ///
    /// # Errors
    /// It cannot be started, or takes longer than `limit`.
    pub async fn run<A: AsRef<OsStr>>(&self, limit: Duration, args: &[A]) -> anyhow::Result<Ran> {
        let mut command = self.command()?;
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("cannot run {:?}", self.program))?;
        let words: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy()).collect();
        match tokio::time::timeout(limit, child.wait_with_output()).await {
            Ok(output) => {
                let output = output?;
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                Ok(Ran {
                    code: output.status.code(),
                    stdout: text(&output.stdout),
                    stderr: text(&output.stderr),
                })
            }
            Err(_elapsed) => bail!("{:?} {words:?} took longer than {limit:?}", self.program),
        }
    }

    /// Returns the words that run the program, as which user it may be.
    ///
    /// # Errors
    /// There is no such user.
    pub fn words(&self) -> anyhow::Result<Vec<String>> {
        let mut words = match &self.user {
            None => Vec::new(),
            Some(name) => {
                let user = User::from_name(name)?.with_context(|| format!("no user `{name}`"))?;
                let (uid, gid) = (user.uid, user.gid);
                let setpriv = ["setpriv", "--clear-groups", "--reset-env"].map(str::to_owned);
                let ids = [format!("--reuid={uid}"), format!("--regid={gid}")];
                let with_fuse = ["unshare", "--mount", "sh", "-euc", WITH_FUSE, "sh"];
                with_fuse.map(str::to_owned).into_iter().chain(setpriv).chain(ids).collect()
            }
        };
        words.push(self.program.to_string_lossy().into_owned());
        Ok(words)
    }

    /// Returns the command that runs the program.
    ///
    /// # Errors
    /// There is no such user.
    pub fn command(&self) -> anyhow::Result<tokio::process::Command> {
        let words = self.words()?;
        let (program, args) = words.split_first().context("no words")?;
        let mut command = tokio::process::Command::new(program);
        command.args(args).current_dir(&self.directory);
        command.env("NO_COLOR", "1").env_remove("FLOTILLA_DIRECTORY");
        // git shall neither ask nor follow what the person at this machine has configured.
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_CONFIG_GLOBAL", "/dev/null");
        Ok(command)
    }
}
