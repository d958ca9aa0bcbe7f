//! The one way to run a program to its end: bounded time, bounded output, nothing left behind.
//!
//! A child gets a process group of its own, which is killed when the time is up or when whoever
//! waits for it goes away. Programs that are to stay, such as nginx, are not started here.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::time::Instant;

/// How long a program may run when the caller sets no limit.
pub const TIME_LIMIT: Duration = Duration::from_secs(60);
/// How many bytes a program may write to its standard output when the caller sets no limit.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How many of the last bytes of the standard error are kept.
const ERROR_BYTES_MAX: usize = 64 * 1024;
/// How many bytes of the standard error an error message shows.
const ERROR_BYTES_SHOWN: usize = 2_000;
const READ_BYTES: usize = 64 * 1024;

/// Says why a program did not do what it was run for.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started at all.
    #[error("could not start `{program}`")]
    Start {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It ended, and not well.
    #[error("`{program}` failed with {status}{}{}", if stderr.is_empty() { "" } else { ": " }, stderr)]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The last that it wrote to its standard error.
        stderr: String,
    },
    /// It was killed because its time was up.
    #[error("`{program}` did not end within {} s{}{}", limit.as_secs_f64(), if stderr.is_empty() { "" } else { ": " }, stderr)]
    TimedOut {
        /// The program.
        program: String,
        /// The time it had.
        limit: Duration,
        /// The last that it wrote to its standard error.
        stderr: String,
    },
    /// It was killed because it wrote too much.
    #[error("`{program}` wrote more than {limit} bytes")]
    TooMuchOutput {
        /// The program.
        program: String,
        /// The bytes it was allowed.
        limit: usize,
    },
    /// Talking to it failed.
    #[error("could not talk to `{program}`")]
    Pipe {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// What a program left when it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// The last 64 KiB of its standard error.
    pub stderr: Vec<u8>,
}

/// A program to be run, with its limits.
#[derive(Debug, Clone)]
pub struct Command {
    program: OsString,
    name: String,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    is_environment_clear: bool,
    directory: Option<PathBuf>,
    input: Vec<u8>,
    is_input_open: bool,
    time_limit: Duration,
    output_bytes_max: usize,
}

impl Command {
    /// Names the program: a path, or a name that is looked up in `PATH`.
    #[must_use]
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref().to_owned();
        let name = Path::new(&program)
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Self {
            program,
            name,
            arguments: Vec::new(),
            environment: Vec::new(),
            is_environment_clear: false,
            directory: None,
            input: Vec::new(),
            is_input_open: false,
            time_limit: TIME_LIMIT,
            output_bytes_max: OUTPUT_BYTES_MAX,
        }
    }

    /// Sets what error messages call it, when the program's file name says too little.
    #[must_use]
    pub fn called(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|one| one.as_ref().to_owned()));
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Gives it nothing of our environment but `PATH`.
    #[must_use]
    pub fn clear_environment(mut self) -> Self {
        self.is_environment_clear = true;
        self
    }

    /// Sets the directory it starts in.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Sets what it reads from its standard input; without this it reads nothing.
    #[must_use]
    pub fn stdin(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Leaves its standard input open for [`Running::take_stdin`].
    #[must_use]
    pub const fn open_stdin(mut self) -> Self {
        self.is_input_open = true;
        self
    }

    /// Sets how long it may run; then it is killed with all its children.
    #[must_use]
    pub const fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Sets how many bytes it may write to its standard output.
    #[must_use]
    pub const fn output_limit(mut self, bytes: usize) -> Self {
        self.output_bytes_max = bytes;
        self
    }

    /// Runs it to its end, which must be a good one.
    pub async fn run(&self) -> Result<Output, CommandError> {
        let output = self.run_unchecked().await?;
        if output.status.success() {
            return Ok(output);
        }
        Err(CommandError::Failed {
            program: self.name.clone(),
            status: output.status,
            stderr: shown(&output.stderr),
        })
    }

    /// Runs it to its end, whatever its exit status is.
    pub async fn run_unchecked(&self) -> Result<Output, CommandError> {
        let mut running = self.start()?;
        let mut stdout = Vec::new();
        while running.read(&mut stdout).await? > 0 {
            if stdout.len() > self.output_bytes_max {
                return Err(CommandError::TooMuchOutput {
                    program: self.name.clone(),
                    limit: self.output_bytes_max,
                });
            }
        }
        let (status, stderr) = running.wait().await?;
        Ok(Output { status, stdout, stderr })
    }

    /// Starts it, for a caller that reads its output piece by piece. The time limit holds for all of
    /// it; the output limit is the caller's business.
    pub fn start(&self) -> Result<Running, CommandError> {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&self.arguments);
        if self.is_environment_clear {
            command.env_clear();
            if let Some(path) = std::env::var_os("PATH") {
                command.env("PATH", path);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let has_input = self.is_input_open || !self.input.is_empty();
        command.stdin(if has_input { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        let mut child = command
            .spawn()
            .map_err(|source| CommandError::Start { program: self.name.clone(), source })?;
        Ok(Running {
            name: self.name.clone(),
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            group: Group(child),
            input: self.input.clone(),
            input_position: 0,
            errors: Vec::new(),
            deadline: Instant::now() + self.time_limit,
            time_limit: self.time_limit,
        })
    }
}

/// A program that runs. Dropping it kills the program and its children.
#[derive(Debug)]
pub struct Running {
    name: String,
    // Before the pipes, so that the group dies before it can see them close.
    group: Group,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    input: Vec<u8>,
    input_position: usize,
    errors: Vec<u8>,
    deadline: Instant,
    time_limit: Duration,
}

impl Running {
    /// Takes the standard input of a command that was told to leave it open.
    pub const fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// Appends some of the standard output to the buffer and returns how much; zero at its end.
    pub async fn read(&mut self, buffer: &mut Vec<u8>) -> Result<usize, CommandError> {
        let deadline = self.deadline;
        let outcome = tokio::time::timeout_at(deadline, async {
            while self.stdout.is_some() {
                if let Some(count) = self.step(buffer).await? {
                    return Ok(count);
                }
            }
            Ok(0)
        })
        .await;
        self.settle(outcome)
    }

    /// Waits for the end, dropping what output was not read; returns the exit status and the last
    /// of the standard error.
    pub async fn wait(mut self) -> Result<(ExitStatus, Vec<u8>), CommandError> {
        let deadline = self.deadline;
        let outcome = tokio::time::timeout_at(deadline, async {
            let mut rest = Vec::new();
            while self.stdout.is_some() || self.stderr.is_some() {
                self.step(&mut rest).await?;
                rest.clear();
            }
            drop(self.stdin.take());
            self.group.0.wait().await
        })
        .await;
        let status = self.settle(outcome)?;
        Ok((status, std::mem::take(&mut self.errors)))
    }

    /// Waits for the end, which must be a good one.
    pub async fn finish(self) -> Result<(), CommandError> {
        let program = self.name.clone();
        let (status, stderr) = self.wait().await?;
        if status.success() {
            return Ok(());
        }
        Err(CommandError::Failed { program, status, stderr: shown(&stderr) })
    }

    fn settle<T>(
        &self,
        outcome: Result<std::io::Result<T>, tokio::time::error::Elapsed>,
    ) -> Result<T, CommandError> {
        match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => Err(CommandError::Pipe { program: self.name.clone(), source }),
            Err(_) => Err(CommandError::TimedOut {
                program: self.name.clone(),
                limit: self.time_limit,
                stderr: shown(&self.errors),
            }),
        }
    }

    /// Does whatever can be done next; returns a count when that was reading the standard output.
    async fn step(&mut self, buffer: &mut Vec<u8>) -> std::io::Result<Option<usize>> {
        buffer.reserve(READ_BYTES);
        let rest = self.input.get(self.input_position..).unwrap_or_default();
        if rest.is_empty() && !self.input.is_empty() {
            self.stdin = None;
        }
        tokio::select! {
            count = read_some(&mut self.stdout, buffer), if self.stdout.is_some() => {
                let count = count?;
                if count == 0 {
                    self.stdout = None;
                }
                Ok(Some(count))
            }
            count = read_some(&mut self.stderr, &mut self.errors), if self.stderr.is_some() => {
                if count? == 0 {
                    self.stderr = None;
                }
                let surplus = self.errors.len().saturating_sub(ERROR_BYTES_MAX);
                self.errors.drain(..surplus);
                Ok(None)
            }
            count = write_some(&mut self.stdin, rest), if !rest.is_empty() && self.stdin.is_some() => {
                match count {
                    Ok(count) => self.input_position += count,
                    // It reads no further; its exit status says whether that is a fault.
                    Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                        self.stdin = None;
                    }
                    Err(error) => return Err(error),
                }
                Ok(None)
            }
            else => Ok(None),
        }
    }
}

/// A child and all that it starts.
#[derive(Debug)]
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // Only while the child has not been waited for: after that the number may be another's.
        if let Some(id) = self.0.id().and_then(|id| i32::try_from(id).ok()) {
            // Nothing is left to do when the group is gone already.
            let _: nix::Result<()> = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

async fn read_some(
    pipe: &mut Option<impl AsyncReadExt + Unpin>,
    buffer: &mut Vec<u8>,
) -> std::io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read_buf(buffer).await,
        None => Ok(0),
    }
}

async fn write_some(pipe: &mut Option<ChildStdin>, bytes: &[u8]) -> std::io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.write(bytes).await,
        None => Ok(0),
    }
}

/// Cuts the standard error down to what a message can carry.
fn shown(stderr: &[u8]) -> String {
    let start = stderr.len().saturating_sub(ERROR_BYTES_SHOWN);
    String::from_utf8_lossy(stderr.get(start..).unwrap_or_default()).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        Command::new("sh").arg("-c").arg(script)
    }

    #[tokio::test]
    async fn input_output_and_errors_pass_through() {
        let input = vec![b'x'; 300_000];
        let output = shell("cat; echo talk >&2").stdin(input.clone()).run().await.unwrap();
        assert_eq!(output.stdout, input);
        assert_eq!(output.stderr, b"talk\n");
    }

    #[tokio::test]
    async fn a_failure_names_program_status_and_the_last_words() {
        let error = shell("echo broken >&2; exit 7").run().await.unwrap_err().to_string();
        assert_eq!(error, "`sh` failed with exit status: 7: broken");
        let output = shell("exit 7").run_unchecked().await.unwrap();
        assert_eq!(output.status.code(), Some(7));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let error = Command::new("/nowhere/tool").run().await.unwrap_err();
        assert_eq!(error.to_string(), "could not start `tool`");
    }

    #[tokio::test]
    async fn a_program_that_reads_no_input_does_not_block() {
        shell("exit 0").stdin(vec![0; 1_000_000]).run().await.unwrap();
    }

    #[tokio::test]
    async fn too_much_output_ends_it() {
        let error = shell("yes").output_limit(100_000).run().await.unwrap_err();
        assert!(matches!(error, CommandError::TooMuchOutput { limit: 100_000, .. }), "{error}");
    }

    #[tokio::test]
    async fn a_program_and_its_children_die_when_their_time_is_up() {
        let script = "sleep 600 & echo $! >&2; wait";
        let error = shell(script).time_limit(Duration::from_millis(300)).run().await.unwrap_err();
        let CommandError::TimedOut { stderr, .. } = error else { panic!("{error}") };
        let status = format!("/proc/{stderr}/stat");
        let is_gone =
            || std::fs::read_to_string(&status).map_or(true, |text| text.contains(") Z "));
        let waited = tokio::time::timeout(Duration::from_secs(10), async {
            while !is_gone() {
                tokio::task::yield_now().await;
            }
        });
        assert!(waited.await.is_ok(), "child {stderr} still runs");
    }

    #[tokio::test]
    async fn a_cleared_environment_keeps_only_the_search_path() {
        let output = Command::new("env").clear_environment().env("A", "1").run().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut names: Vec<_> = text.lines().filter_map(|line| line.split('=').next()).collect();
        names.sort_unstable();
        assert_eq!(names, ["A", "PATH"]);
    }
}
