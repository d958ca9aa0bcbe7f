//! Running programs: from the root of the checkout, shown before they run, bounded in time.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// How long a program may run when nobody says otherwise.
const MINUTES: u32 = 15;
/// What the names of variables begin with that cargo sets for the program that it runs.
const OF_THIS_PROGRAM: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];
const TIMEOUT_EXIT_CODE: i32 = 124;
const NOT_FOUND_EXIT_CODE: i32 = 127;

/// Returns the root of the checkout.
pub(crate) fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// A program that will be run.
pub(crate) struct Program {
    name: OsString,
    args: Vec<OsString>,
    env: Vec<(&'static str, OsString)>,
    minutes: u32,
    title: Option<String>,
}

impl Program {
    pub(crate) fn new(name: impl Into<OsString>) -> Self {
        Self { name: name.into(), args: Vec::new(), env: Vec::new(), minutes: MINUTES, title: None }
    }

    /// The cargo that runs this.
    pub(crate) fn cargo() -> Self {
        Self::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    }

    /// A program that `make tools` installs; one of the same name on the path will do.
    pub(crate) fn tool(name: &str) -> Self {
        let installed: PathBuf = root().join("target/tools/venv/bin").join(name);
        if installed.is_file() { Self::new(installed) } else { Self::new(name) }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub(crate) fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    pub(crate) const fn minutes(mut self, minutes: u32) -> Self {
        self.minutes = minutes;
        self
    }

    /// Shows this instead of the program and its arguments.
    pub(crate) fn called(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Runs it with the terminal's input and output.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        eprintln!("+ {}", self.shown());
        let status = self.command().status().with_context(|| self.failed())?;
        self.judge(status.code())
    }

    /// Runs it and returns its standard output.
    pub(crate) fn output(&self) -> anyhow::Result<String> {
        let mut command = self.command();
        let output = command.stderr(Stdio::inherit()).output().with_context(|| self.failed())?;
        self.judge(output.status.code())?;
        String::from_utf8(output.stdout).with_context(|| format!("`{}` is odd", self.shown()))
    }

    fn judge(&self, code: Option<i32>) -> anyhow::Result<()> {
        let name = self.title.clone().unwrap_or_else(|| self.name.to_string_lossy().into_owned());
        match code {
            Some(0) => Ok(()),
            Some(NOT_FOUND_EXIT_CODE) => {
                bail!("`{name}` is not installed; `make tools packages` installs what is needed")
            }
            Some(TIMEOUT_EXIT_CODE) => bail!("`{name}` took longer than {} min", self.minutes),
            Some(code) => bail!("`{name}` ended with exit code {code}"),
            None => bail!("`{name}` was killed"),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "`timeout` bounds the time; output is the user's"
    )]
    fn command(&self) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["--foreground", "--kill-after=10s"])
            .arg(format!("{}m", self.minutes))
            .arg(&self.name)
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(root());
        // What cargo tells this program of itself: crates with a build script that looks at it (ring)
        // would be built anew by a cargo inside, and once more by the next one outside.
        for (name, _) in std::env::vars_os() {
            let is_own = |start: &&str| name.to_string_lossy().starts_with(start);
            if OF_THIS_PROGRAM.iter().any(is_own) {
                command.env_remove(&name);
            }
        }
        command
    }

    fn failed(&self) -> String {
        format!("cannot run `{}`", self.shown())
    }

    fn shown(&self) -> String {
        if let Some(title) = &self.title {
            return title.clone();
        }
        let name = Path::new(&self.name).file_name().unwrap_or(&self.name);
        let words = std::iter::once(name).chain(self.args.iter().map(OsString::as_os_str));
        words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
    }
}
