//! Commits to deploy: ten changed files, of which one tells visitors which commit they see.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::program::Program;

/// A page that costs next to nothing and says the number of the commit.
pub(crate) const PROBE_PATH: &str = "/bench-probe.php";
/// Scripts that every page runs, so a deploy has to compile them again.
const HOT: [&str; 9] = [
    "formatting",
    "functions",
    "link-template",
    "media",
    "option",
    "plugin",
    "post",
    "query",
    "user",
];

/// A clone of the site's repository, as on the machine of a developer.
pub(crate) struct Clone {
    directory: PathBuf,
    number: u32,
}

impl Clone {
    pub(crate) fn of(repository: &Path, directory: PathBuf) -> anyhow::Result<Self> {
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        Program::new("git").args(["clone", "--quiet"]).arg(repository).arg(&directory).output()?;
        Ok(Self { directory, number: 0 })
    }

    /// Changes ten files, commits and pushes; returns what the probe will say.
    pub(crate) fn push_ten_files(&mut self) -> anyhow::Result<String> {
        self.number += 1;
        let mark = format!("commit {}", self.number);
        let probe = self.directory.join(PROBE_PATH.trim_start_matches('/'));
        std::fs::write(probe, format!("<?php\necho '{mark}';\n"))?;
        for name in HOT {
            let file = self.directory.join("wp-includes").join(name).with_extension("php");
            let mut text = std::fs::read(&file)
                .with_context(|| format!("cannot read `{}`", file.display()))?;
            text.extend(format!("\n// {mark}\n").into_bytes());
            std::fs::write(&file, text)?;
        }
        self.push(&mark)?;
        Ok(mark)
    }

    /// Writes files, commits and pushes.
    pub(crate) fn push_files(&self, files: &[(&str, &str)]) -> anyhow::Result<()> {
        for (path, text) in files {
            super::write(&self.directory.join(path), text)?;
        }
        self.push("Files")
    }

    fn push(&self, message: &str) -> anyhow::Result<()> {
        self.git(&["add", "--all"])?;
        let identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.com"];
        self.git(&[identity.as_slice(), &["commit", "--quiet", "--message", message]].concat())?;
        self.git(&["push", "--quiet", "origin", "HEAD"])
    }

    fn git(&self, args: &[&str]) -> anyhow::Result<()> {
        Program::new("git").arg("-C").arg(&self.directory).args(args).output().map(drop)
    }
}
