//! `cargo xtask bench`: measures a real fleet beside what people use instead of it.
//!
//! See docs/benchmarks.md for what is measured, how, and what came out.

mod address;
mod ansible;
mod cache;
mod capture;
mod clock;
mod commit;
mod cpu;
mod cutover;
mod deploy;
mod fleet;
mod http;
mod machine;
mod media;
mod page;
mod peer;
mod probe;
mod process;
mod sessions;
mod statistics;
mod visitors;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;

use crate::program::root;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which of the measurements
    #[arg(value_enum, default_value_t = What::All)]
    what: What,
    /// How often each is repeated; each has its own number when left out
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// The sizes of the fleets that are deployed to
    #[arg(long, value_delimiter = ',', default_value = "1,5,20",
        value_parser = clap::value_parser!(u16).range(1..=40))]
    instances: Vec<u16>,
    /// Deploys to the fleet only, not by Ansible
    #[arg(long)]
    without_ansible: bool,
    /// A drop-in to compare the object cache with
    #[arg(long, value_name = "FILE")]
    drop_in: Option<PathBuf>,
    /// Installs the Debian packages that are missing
    #[arg(long)]
    install: bool,
    /// Measures this program instead of building one
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Pages through the whole stack, against plain nginx and php-fpm
    Page,
    /// The first requests after a cutover, against steady state
    Cutover,
    /// Pages with the object cache, against none and against a drop-in
    Cache,
    /// A commit of ten files to fleets of several sizes, against Ansible
    Deploy,
    /// A change in the workshop to fleets of several sizes
    Capture,
    /// What is not on an instance: PHP's sessions, against memcached and nutcracker
    Sessions,
    /// Uploads in the mounted bucket, against a local directory and s3fs
    Media,
    /// What is not on an instance: sessions and media
    State,
    /// One after the other
    All,
}

impl What {
    fn has(self, other: Self) -> bool {
        let is_part = self == Self::State && matches!(other, Self::Sessions | Self::Media);
        self == Self::All || self == other || is_part
    }
}

/// Where everything of the measurements is.
fn directory() -> PathBuf {
    root().join("target/bench")
}

/// Measures it.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let has_ansible = arguments.what.has(What::Deploy) && !arguments.without_ansible;
    let (has_sessions, has_media) =
        (arguments.what.has(What::Sessions), arguments.what.has(What::Media));
    let peers = machine::Peers { has_ansible, has_sessions, has_media };
    machine::require(peers, arguments.install)?;
    std::fs::create_dir_all(directory()).context("cannot make the directory of the benchmarks")?;
    if arguments.what == What::Sessions {
        println!("{}\n", machine::describe());
        return sessions::run(arguments.rounds);
    }
    let program = match &arguments.program {
        Some(program) => std::path::absolute(program)?,
        None => fleet::build()?,
    };
    println!("{}\n", machine::describe());
    if arguments.what.has(What::Page) {
        page::run(&program, arguments.rounds)?;
    }
    if arguments.what.has(What::Cutover) {
        cutover::run(&program, arguments.rounds)?;
    }
    if arguments.what.has(What::Cache) {
        cache::run(&program, arguments.rounds, arguments.drop_in.as_deref())?;
    }
    if arguments.what.has(What::Deploy) {
        deploy::run(&program, arguments.rounds, &arguments.instances, has_ansible)?;
    }
    if arguments.what.has(What::Capture) {
        capture::run(&program, arguments.rounds, &arguments.instances)?;
    }
    if has_sessions {
        sessions::run(arguments.rounds)?;
    }
    if has_media {
        media::run(&program, arguments.rounds)?;
    }
    Ok(())
}

/// Writes a file of the measurements, with the directories above it.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let written = match path.parent() {
        Some(parent) => std::fs::create_dir_all(parent),
        None => Ok(()),
    };
    written
        .and_then(|()| std::fs::write(path, text))
        .with_context(|| format!("cannot write `{}`", path.display()))
}
