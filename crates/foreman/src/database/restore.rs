//! Puts a dump in the place of the site's tables, all at one instant.
//!
//! The dump is read into a database beside the site's, while visitors go on using theirs. Then one
//! statement renames the tables of both: the server does all of it or nothing, and a request sees
//! the site of before or of after. What was there before is kept in a third database until the next
//! restore. A process that is killed on the way leaves the site as it was, and rubbish beside it
//! that the next restore removes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::check::check;
use super::{Client, DatabaseError};

const TIME_LIMIT: Duration = Duration::from_secs(6 * 60 * 60);
const NAME_BYTES_MAX: usize = 64;

/// A dump that lies ready beside the site's database.
#[derive(Debug)]
pub struct Restore {
    client: Client,
    table_prefix: String,
    beside: String,
    before: String,
}

/// What a restore has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// How many tables the site has now.
    pub tables: usize,
    /// The database that keeps what was there before.
    pub before: String,
}

impl Restore {
    /// Checks a dump and reads it into a database beside the site's.
    ///
    /// # Errors
    /// The file cannot be restored, or the server refuses: the login may need the right to make
    /// databases with the site's name and an ending.
    pub async fn read(
        client: Client,
        path: &Path,
        table_prefix: &str,
    ) -> Result<Self, DatabaseError> {
        let (file, prefix): (PathBuf, String) = (path.to_owned(), table_prefix.to_owned());
        let checked = tokio::task::spawn_blocking(move || check(&file, &prefix)).await;
        checked.unwrap_or(Err(DatabaseError::Incomplete))?;
        let name = |ending: &str| {
            let name = format!("{}_{ending}", client.database());
            let is_plain =
                |one: char| one.is_ascii_alphanumeric() || matches!(one, '_' | '-' | '$');
            let is_good = name.len() <= NAME_BYTES_MAX && name.chars().all(is_plain);
            if is_good { Ok(name) } else { Err(DatabaseError::Name(name)) }
        };
        let (beside, before) = (name("restore")?, name("before")?);
        let restore = Self { client, table_prefix: table_prefix.to_owned(), beside, before };
        restore.make_empty(&restore.beside).await?;
        restore.load(path).await?;
        Ok(restore)
    }

    /// Returns the database version of the WordPress in the dump; `None` when it has none.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn db_version(&self) -> Result<Option<u64>, DatabaseError> {
        let statement = format!(
            "SELECT option_value FROM `{}`.`{}options` WHERE option_name = 'db_version'",
            self.beside, self.table_prefix
        );
        let rows = self.client.rows(&statement).await?;
        Ok(rows.first().and_then(|row| row.first()?.parse().ok()))
    }

    /// Puts the dump in the place of the site's tables.
    ///
    /// # Errors
    /// The server refuses; nothing was changed then.
    pub async fn swap(self) -> Result<Restored, DatabaseError> {
        let old = self.tables(self.client.database()).await?;
        let new = self.tables(&self.beside).await?;
        self.make_empty(&self.before).await?;
        let site = self.client.database();
        let away =
            old.iter().map(|table| format!("`{site}`.`{table}` TO `{}`.`{table}`", self.before));
        let here =
            new.iter().map(|table| format!("`{}`.`{table}` TO `{site}`.`{table}`", self.beside));
        let moves: Vec<String> = away.chain(here).collect();
        self.client.rows(&format!("RENAME TABLE {}", moves.join(", "))).await?;
        // The site is restored; an empty database that stays behind is no reason to say it was not.
        if let Err(error) = self.client.rows(&format!("DROP DATABASE `{}`", self.beside)).await {
            tracing::warn!(%error, "The emptied database of a restore stays behind");
        }
        Ok(Restored { tables: new.len(), before: self.before })
    }

    /// Drops what was read.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn abandon(self) -> Result<(), DatabaseError> {
        self.client.rows(&format!("DROP DATABASE IF EXISTS `{}`", self.beside)).await.map(drop)
    }

    async fn make_empty(&self, database: &str) -> Result<(), DatabaseError> {
        let statements = format!(
            "DROP DATABASE IF EXISTS `{database}`; CREATE DATABASE `{database}` CHARACTER SET \
             utf8mb4 COLLATE utf8mb4_unicode_ci"
        );
        self.client.rows(&statements).await.map(drop)
    }

    /// The site's tables; a server of one's own may hold others in the same database.
    async fn tables(&self, database: &str) -> Result<BTreeSet<String>, DatabaseError> {
        let statement = format!(
            "SELECT table_name FROM information_schema.tables \
             WHERE table_schema = '{database}' AND table_type = 'BASE TABLE'"
        );
        let rows = self.client.rows(&statement).await?;
        let names = rows.into_iter().filter_map(|row| row.into_iter().next());
        let names: BTreeSet<String> =
            names.filter(|name| name.starts_with(&self.table_prefix)).collect();
        match names.iter().find(|name| name.contains(['`', '\'', '\\'])) {
            Some(name) => Err(DatabaseError::Name(name.clone())),
            None => Ok(names),
        }
    }

    async fn load(&self, path: &Path) -> Result<(), DatabaseError> {
        let read_error =
            |source| DatabaseError::File { action: "read", path: path.to_owned(), source };
        let mut file = tokio::fs::File::open(path).await.map_err(read_error)?;
        let (command, _login) = self.client.command(&self.client.program)?;
        let mut running = command
            .args(["--batch", "--binary-mode", &format!("--database={}", self.beside)])
            .open_stdin()
            .time_limit(TIME_LIMIT)
            .start()
            .map_err(DatabaseError::Client)?;
        let input = running.take_stdin();
        let copy = async {
            match input {
                Some(mut input) => tokio::io::copy(&mut file, &mut input).await,
                None => Ok(0),
            }
        };
        // A client that stops early tells more than the pipe that breaks of it.
        let (copied, ended) = tokio::join!(copy, running.finish());
        ended.map_err(DatabaseError::Client)?;
        copied.map(drop).map_err(read_error)
    }
}
