//! `cargo xtask check`: everything that can be judged without running a test.
//!
//! All checks are made, also after one has failed. A tool that is missing is a failure.

use std::fs;

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;

use crate::program::{Program, root};
use crate::reference;

/// What to check.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only these
    checks: Vec<Check>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Check {
    /// Rust is formatted
    Format,
    /// Clippy has nothing to say
    Lints,
    /// Words are spelt right
    Spelling,
    /// TOML is formatted
    Toml,
    /// The pages in docs/reference are those that would be written now
    Reference,
    /// PHP can be parsed
    Php,
    /// Shell can be parsed
    Shell,
    /// Each file says what it is for, and the PHP its licence
    Headers,
}

/// Makes the checks that were asked for, or all.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let all = Check::value_variants();
    let checks = if arguments.checks.is_empty() { all } else { &arguments.checks };
    let mut failed = Vec::new();
    for check in checks {
        if let Err(error) = check.run() {
            let name = check.name();
            eprintln!("error: {name}: {error:#}");
            failed.push(name);
        }
    }
    ensure!(
        failed.is_empty(),
        "{} of {} failed: {}",
        failed.len(),
        checks.len(),
        failed.join(", ")
    );
    eprintln!("Checked {} things", checks.len());
    Ok(())
}

impl Check {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Format => Program::cargo().args(["fmt", "--all", "--check"]).run(),
            Self::Lints => Program::cargo()
                .args(["clippy", "--workspace", "--all-targets", "--locked", "--quiet"])
                .args(["--", "--deny", "warnings"])
                .run(),
            Self::Spelling => Program::tool("typos").run(),
            Self::Toml => {
                Program::tool("taplo").args(["fmt", "--check"]).env("RUST_LOG", "warn").run()
            }
            Self::Reference => reference::check(),
            Self::Php => each("wordpress/*.php", |path| {
                Program::new("php").args(["-n", "-l", path]).output().map(drop)
            }),
            Self::Shell => {
                let parse = |path: &str| Program::new("sh").args(["-n", path]).output().map(drop);
                each("*.sh", parse)?;
                each(".ci/*", parse)
            }
            Self::Headers => {
                each("*.rs", |path| begins(path, "//!"))?;
                each("wordpress/*.php", |path| {
                    holds(path, "SPDX-License-Identifier: GPL-2.0-or-later")
                })
            }
        }
    }
}

/// Does something with each file that belongs to the repository.
fn each(pattern: &str, mut check: impl FnMut(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let listed = Program::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "--", pattern])
        .output()?;
    let paths = || listed.lines().filter(|path| root().join(path).is_file());
    ensure!(paths().next().is_some(), "there is no `{pattern}`");
    let mut failed = 0;
    for path in paths() {
        if let Err(error) = check(path) {
            eprintln!("{path}: {error:#}");
            failed += 1;
        }
    }
    ensure!(failed == 0, "{failed} of `{pattern}` failed");
    Ok(())
}

fn begins(path: &str, start: &str) -> anyhow::Result<()> {
    ensure!(read(path)?.starts_with(start), "does not begin with `{start}`");
    Ok(())
}

fn holds(path: &str, text: &str) -> anyhow::Result<()> {
    if !read(path)?.contains(text) {
        bail!("does not hold `{text}`");
    }
    Ok(())
}

fn read(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| format!("cannot read `{path}`"))
}
