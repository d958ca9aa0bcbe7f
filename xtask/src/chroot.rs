//! `cargo xtask chroot`: a fresh, minimal Debian with this checkout in it, to see that what the
//! README promises holds on a machine that has only Rust, make and git.
//!
//! All mounts and processes live in namespaces of their own and vanish with the first process, so
//! an end by any signal leaves a directory and nothing else. The network is the machine's.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::program::{Program, root};

const INSIDE: &str = include_str!("chroot/inside.sh");
const COPY: &str = include_str!("chroot/copy.sh");
const SOURCES: &str = "/etc/apt/sources.list";
const SOURCES_DIRECTORY: &str = "/etc/apt/sources.list.d";
const MIRROR: &str = "http://deb.debian.org/debian";
const DEFAULT_COMMAND: [&str; 3] = ["sh", "-c", "make demo && make demo-stop && make test"];

/// What to run, and in what.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Also takes what is not committed
    #[arg(long)]
    uncommitted: bool,
    /// Leaves the directory behind
    #[arg(long)]
    keep: bool,
    /// Debian's suite
    #[arg(long, default_value = "bookworm")]
    suite: String,
    /// Debian's mirror; the machine's own when left out
    #[arg(long)]
    mirror: Option<String>,
    /// The longest that the command may take
    #[arg(long, default_value_t = 90)]
    minutes: u32,
    /// The command; `make demo`, `make demo-stop` and `make test` when left out
    #[arg(last = true)]
    command: Vec<String>,
}

/// Makes the Debian, runs the command in it and removes it.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    ensure!(Program::new("id").arg("-u").output()?.trim() == "0", "only root can make a chroot");
    let work = root().join("target/chroot");
    let debian = work.join("debian");
    let toolchains = rust_directory("RUSTUP_HOME", ".rustup")?;
    let programs = rust_directory("CARGO_HOME", ".cargo")?.join("bin");
    remove(&debian)?;
    fs::create_dir_all(work.join("packages")).context("cannot make `target/chroot`")?;
    install(&debian, &work.join("packages"), arguments)?;
    let outcome = copy(&debian, &programs, arguments).and_then(|()| {
        let command: Vec<&str> = if arguments.command.is_empty() {
            DEFAULT_COMMAND.to_vec()
        } else {
            arguments.command.iter().map(String::as_str).collect()
        };
        Program::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "--propagation=private"])
            .args(["sh", "-euc", INSIDE, "inside"])
            .args([&debian, &toolchains])
            .args(command)
            .called(format!("the command in `{}`", debian.display()))
            .minutes(arguments.minutes)
            .run()
    });
    if !arguments.keep {
        remove(&debian)?;
    }
    outcome
}

/// Nothing is mounted below it outside the namespaces; should something be, it is left alone.
fn remove(debian: &Path) -> anyhow::Result<()> {
    if debian.exists() {
        Program::new("rm").args(["-rf", "--one-file-system"]).arg(debian).run()?;
    }
    Ok(())
}

fn install(debian: &Path, packages: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let suite = &arguments.suite;
    let archives = archives(suite);
    let main = archives.iter().find(|archive| archive.suite == *suite);
    let mirror = arguments.mirror.as_deref().or(main.map(|archive| archive.address.as_str()));
    Program::new("debootstrap")
        .args(["--variant=minbase", "--include=ca-certificates,git,make"])
        .arg(format!("--cache-dir={}", packages.display()))
        .arg(suite)
        .arg(debian)
        .arg(mirror.unwrap_or(MIRROR))
        .run()?;
    if arguments.mirror.is_none() && main.is_some() {
        let lines = archives.iter().map(|one| format!("deb {} {} main\n", one.address, one.suite));
        let list = debian.join("etc/apt/sources.list");
        fs::write(list, lines.collect::<String>()).context("cannot write `sources.list`")?;
    }
    Ok(())
}

/// Puts cargo, this checkout and the machine's own certificate authorities in.
fn copy(debian: &Path, programs: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let what = if arguments.uncommitted { "uncommitted" } else { "committed" };
    Program::new("sh")
        .args(["-euc", COPY, "copy", what])
        .args([debian, programs])
        .called("copy the checkout")
        .run()
}

/// Returns where rustup or cargo keeps what it has.
fn rust_directory(variable: &str, name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::var_os(variable).map(PathBuf::from);
    let path = own.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(name)));
    let path = path.with_context(|| format!("neither `{variable}` nor `HOME` is set"))?;
    ensure!(path.is_dir(), "there is no `{}`; Rust is to come from rustup", path.display());
    Ok(path)
}

/// One suite of one of Debian's archives.
struct Archive {
    address: String,
    suite: String,
}

/// Reads where this machine gets a suite, its updates and its security fixes from.
fn archives(suite: &str) -> Vec<Archive> {
    let directory = fs::read_dir(SOURCES_DIRECTORY).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = directory.map(|entry| entry.path()).collect();
    files.sort();
    files.insert(0, SOURCES.into());
    let wanted = [suite.to_owned(), format!("{suite}-updates"), format!("{suite}-security")];
    let mut found: Vec<Archive> = files
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|text| [one_line_entries(&text), stanzas(&text)].concat())
        .filter(|(_, suite)| wanted.contains(suite))
        .map(|(address, suite)| Archive { address, suite })
        .collect();
    found.sort_by(|one, other| one.suite.cmp(&other.suite));
    found.dedup_by(|one, other| one.suite == other.suite);
    found
}

/// `deb [options] address suite component…`; see sources.list(5).
fn one_line_entries(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| {
            let rest = line.trim().strip_prefix("deb ")?.trim_start();
            let rest = match rest.strip_prefix('[') {
                Some(options) => options.split_once(']')?.1,
                None => rest,
            };
            let mut words = rest.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.to_owned()))
        })
        .collect()
}

/// `URIs:` and `Suites:` in paragraphs; see sources.list(5).
fn stanzas(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            let line = stanza.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().split_whitespace()
        };
        let Some(address) = field("URIs:").next() else { continue };
        found.extend(field("Suites:").map(|suite| (address.to_owned(), suite.to_owned())));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_apt_sources_are_read() {
        let lines = "# deb http://old bookworm main\ndeb [arch=amd64] http://one bookworm main\n";
        assert_eq!(one_line_entries(lines), [("http://one".to_owned(), "bookworm".to_owned())]);
        let paragraphs = "Types: deb\n# a comment\nURIs: http://one\nSuites: trixie trixie-updates\n\n\
                          Types: deb\nURIs: http://two\nSuites: trixie-security\n";
        let suites: Vec<String> = stanzas(paragraphs)
            .into_iter()
            .map(|(address, suite)| address + " " + &suite)
            .collect();
        assert_eq!(
            suites,
            ["http://one trixie", "http://one trixie-updates", "http://two trixie-security"]
        );
    }
}
