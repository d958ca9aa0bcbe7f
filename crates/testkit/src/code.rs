//! A developer's clone of a site: changes become commits, commits are pushed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use crate::program::{Ran, Shell};
use crate::wordpress::write;

const VERSION_FILE: &str = "wp-content/plugins/flotilla-shop/flotilla-shop.php";
const VERSION_LINE: &str = "const FLOTILLA_SHOP_VERSION = ";
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// A clone of a site's repository.
#[derive(Debug, Clone)]
pub struct Clone {
    shell: Shell,
}

impl Clone {
    /// Clones a repository into an empty directory, perhaps as another user of the machine.
    ///
    /// # Errors
    /// git fails.
    pub async fn of(
        repository: &str,
        directory: &Path,
        user: Option<&str>,
    ) -> anyhow::Result<Self> {
        let shell = Shell {
            program: PathBuf::from("git"),
            directory: directory.to_owned(),
            user: user.map(str::to_owned),
        };
        let code = Self { shell };
        code.git(&["clone", "-q", repository, "."]).await?.ok()?;
        Ok(code)
    }

    /// The directory of the code.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.shell.directory
    }

    /// Gives the shop another version, which stands in every page and answer.
    ///
    /// # Errors
    /// The site has no shop.
    pub fn set_version(&self, version: &str) -> anyhow::Result<()> {
        let path = self.directory().join(VERSION_FILE);
        let text = std::fs::read_to_string(&path)?;
        let line = text.lines().find(|line| line.starts_with(VERSION_LINE));
        let line = line.context("the shop has no version")?;
        Ok(std::fs::write(&path, text.replace(line, &format!("{VERSION_LINE}'{version}';")))?)
    }

    /// Writes a must-use plugin, which runs in every request.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn set_plugin(&self, name: &str, php: &str) -> anyhow::Result<()> {
        self.write(&format!("wp-content/mu-plugins/{name}.php"), php)
    }

    /// Writes a file of the site.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn write(&self, path: &str, text: &str) -> anyhow::Result<()> {
        write(&self.directory().join(path), text)
    }

    /// Commits all changes and returns the commit.
    ///
    /// # Errors
    /// git fails, or nothing was changed.
    pub async fn commit(&self, message: &str) -> anyhow::Result<String> {
        self.git(&["add", "--all", "--force"]).await?.ok()?;
        self.git(&["commit", "-q", "-m", message]).await?.ok()?;
        Ok(self.git(&["rev-parse", "HEAD"]).await?.ok()?.stdout.trim().to_owned())
    }

    /// Pushes what is checked out to a branch of the repository it came from.
    ///
    /// # Errors
    /// git fails.
    pub async fn push(&self, branch: &str) -> anyhow::Result<()> {
        self.git(&["push", "-q", "--force", "origin", &format!("HEAD:refs/heads/{branch}")])
            .await?
            .ok()?;
        Ok(())
    }

    /// Changes the code, commits it and pushes it to a branch that nobody deploys by itself.
    ///
    /// # Errors
    /// The change or git fails.
    pub async fn publish(
        &self,
        message: &str,
        change: impl FnOnce(&Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<String> {
        change(self)?;
        let revision = self.commit(message).await?;
        self.push("next").await?;
        Ok(revision)
    }

    /// Commits and publishes a version of the shop.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub async fn publish_version(&self, version: &str) -> anyhow::Result<String> {
        self.publish(&format!("Version {version}"), |code| code.set_version(version)).await
    }

    /// Puts the code back to a commit.
    ///
    /// # Errors
    /// git fails.
    pub async fn reset(&self, revision: &str) -> anyhow::Result<()> {
        self.git(&["reset", "-q", "--hard", revision]).await?.ok()?;
        Ok(())
    }

    /// Runs git in the clone.
    ///
    /// # Errors
    /// It cannot be run.
    pub async fn git(&self, args: &[&str]) -> anyhow::Result<Ran> {
        let mut words = vec!["-c", "user.name=Dev", "-c", "user.email=dev@example.com"];
        words.extend(["-c", "credential.helper=", "-c", "core.autocrlf=false"]);
        words.extend(args);
        self.shell.run(TIME_LIMIT, &words).await
    }
}
