//! WordPress for tests: each version is fetched once for a machine, by flotilla's own code.

use std::path::{Path, PathBuf};

use anyhow::Context;
use flotilla_core::config::Source as Origin;
use flotilla_foreman::source::Source;

use crate::program::target_dir;

const SHOP: &str = "wp-content/plugins/flotilla-shop";
const LOADER: &str = "wp-content/mu-plugins/shop.php";
const LOADER_TEXT: &str = "<?php
require WP_PLUGIN_DIR . '/flotilla-shop/flotilla-shop.php';
";

/// Which WordPress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The one of the machine's Debian.
    Stable,
    /// The one of Debian's next release, which has a newer database version.
    Newer,
}

impl Version {
    const fn suite(self) -> Option<&'static str> {
        match self {
            Self::Stable => None,
            Self::Newer => Some("trixie"),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Newer => "newer",
        }
    }
}

/// Returns the directory of a WordPress, fetched now if that was never done on this machine.
///
/// # Errors
/// Debian's mirror does not answer.
pub async fn wordpress(version: Version) -> anyhow::Result<PathBuf> {
    let kept = kept(version)?;
    if !kept.is_dir() {
        let scratch = scratch()?;
        let origin = Origin::Debian(version.suite().map(str::to_owned));
        let source = Source { origin, sha256: None, latest_url: None };
        let taken = source.take(scratch.path(), &|_| {}).await.context("cannot get WordPress")?;
        keep(&taken.directory, version)?;
    }
    Ok(kept)
}

/// Keeps a WordPress that a fleet has fetched, so that no other test needs to.
///
/// # Errors
/// It cannot be copied.
pub fn keep(directory: &Path, version: Version) -> anyhow::Result<()> {
    let kept = kept(version)?;
    let scratch = scratch()?;
    let whole = scratch.path().join("whole");
    copy(directory, &whole)?;
    match std::fs::rename(&whole, &kept) {
        // Somebody else was quicker.
        Err(_) if kept.is_dir() => Ok(()),
        outcome => Ok(outcome?),
    }
}

/// Makes a directory with WordPress and the shop in it, for a new site.
///
/// # Errors
/// It cannot be had or written.
pub async fn with_shop(version: Version, into: &Path) -> anyhow::Result<()> {
    copy(&wordpress(version).await?, into)?;
    add_shop(into)
}

/// Adds the shop to a WordPress, in use without being activated.
///
/// # Errors
/// The file system refuses.
pub fn add_shop(site: &Path) -> anyhow::Result<()> {
    let plugin =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wordpress/plugins/flotilla-shop");
    copy(&plugin, &site.join(SHOP))?;
    write(&site.join(LOADER), LOADER_TEXT)
}

/// Writes a file and the directories that lead to it.
///
/// # Errors
/// The file system refuses.
pub fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::create_dir_all(path.parent().context("no parent")?)?;
    std::fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))
}

/// Copies a directory with all that is in it.
///
/// # Errors
/// The file system refuses.
pub fn copy(from: &Path, into: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(into)?;
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot read {from:?}"))? {
        let entry = entry?;
        let target = into.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

fn kept(version: Version) -> anyhow::Result<PathBuf> {
    Ok(cache()?.join(format!("wordpress-{}", version.name())))
}

fn cache() -> anyhow::Result<PathBuf> {
    let path = target_dir()?.join("testkit");
    std::fs::create_dir_all(&path)?;
    Ok(path)
}

fn scratch() -> anyhow::Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("unfinished-").tempdir_in(cache()?)?)
}
