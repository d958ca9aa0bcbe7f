//! Chores of this repository: `cargo xtask --help`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a chore talks to its terminal")]

mod bench;
mod check;
mod chroot;
mod program;
mod reference;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::program::Program;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
/// Chores of this repository.
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Checks all that needs no test: format, lints, spelling, reference pages, PHP, shell
    Check(check::Arguments),
    /// Writes the pages in docs/reference anew
    Reference(reference::Arguments),
    /// Measures a real fleet
    Bench(bench::Arguments),
    /// Runs `make demo` and `make test`, or any command, in a fresh Debian
    Chroot(chroot::Arguments),
    /// Checks the licences and advisories of all dependencies; wants cargo-deny
    Deny,
}

fn main() -> ExitCode {
    match run(&Arguments::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: &Chore) -> anyhow::Result<()> {
    match chore {
        Chore::Check(arguments) => check::run(arguments),
        Chore::Reference(arguments) => reference::run(arguments),
        Chore::Bench(arguments) => bench::run(arguments),
        Chore::Chroot(arguments) => chroot::run(arguments),
        Chore::Deny => Program::new("cargo-deny").args(["--locked", "check"]).run(),
    }
}
