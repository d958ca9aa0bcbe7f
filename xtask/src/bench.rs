//! `cargo xtask bench`: measures a real fleet.

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// Measures it.
pub(crate) fn run(_arguments: &Arguments) -> anyhow::Result<()> {
    anyhow::bail!("there is nothing to measure yet")
}
