//! The foreman's memory: one `SQLite` file. A transaction is the commit point of every decision.

mod captures;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use flotilla_core::api::DeployRecord;
use flotilla_core::fleet::Fleet;
use flotilla_core::id::{DeployId, InstanceName};
use rusqlite::{Connection, OptionalExtension, params};

pub use captures::CaptureNote;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS fleet (id INTEGER PRIMARY KEY CHECK (id = 1), document TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS deploys (id INTEGER PRIMARY KEY, record TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS tokens (
        digest TEXT PRIMARY KEY, role TEXT NOT NULL, instance TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS captures (
        number INTEGER PRIMARY KEY, revision TEXT NOT NULL UNIQUE, parent TEXT NOT NULL,
        author TEXT NOT NULL, message TEXT NOT NULL, state TEXT NOT NULL,
        created_at INTEGER NOT NULL, alarms TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS capture_notes (
        number INTEGER PRIMARY KEY, reason TEXT NOT NULL, is_approved INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
";

/// Says what the store could not do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened.
    #[error("cannot open the foreman's database `{path}`")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A statement failed.
    #[error("the foreman's database failed")]
    Sql(#[from] rusqlite::Error),
    /// A document in it cannot be read.
    #[error("the foreman's database holds a damaged document")]
    Damaged(#[from] serde_json::Error),
    /// A row of it names what it cannot.
    #[error("the foreman's database holds a damaged capture {0}")]
    DamagedCapture(u64),
    /// The thread that worked on it is gone.
    #[error("the foreman's database thread ended")]
    Lost,
}

/// What a token lets its holder do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Report and receive as this instance.
    Agent(InstanceName),
    /// Join once as this instance.
    Join(InstanceName),
}

/// The store; clones share one connection.
#[derive(Debug, Clone)]
pub struct Store {
    connection: Arc<Mutex<Connection>>,
}

impl Store {
    /// Opens or makes the database file.
    ///
    /// # Errors
    /// Names the file.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let attempt = || -> Result<Connection, rusqlite::Error> {
            let connection = Connection::open(path)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.execute_batch(SCHEMA)?;
            Ok(connection)
        };
        let connection =
            attempt().map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    /// Reads the fleet's document; the default one for a new site.
    ///
    /// # Errors
    /// The database failed or holds a damaged document.
    pub async fn fleet(&self) -> Result<Fleet, StoreError> {
        self.run(|connection| {
            let text: Option<String> = connection
                .query_row("SELECT document FROM fleet WHERE id = 1", [], |row| row.get(0))
                .optional()?;
            Ok(text.map(|text| serde_json::from_str(&text)).transpose()?.unwrap_or_default())
        })
        .await
    }

    /// Stores the fleet's document together with the history lines that changed with it.
    ///
    /// # Errors
    /// The database failed; nothing was stored.
    pub async fn commit(
        &self,
        fleet: &Fleet,
        records: Vec<DeployRecord>,
    ) -> Result<(), StoreError> {
        let document = serde_json::to_string(fleet)?;
        self.run(move |connection| {
            let transaction = connection.transaction()?;
            transaction.execute(
                "INSERT INTO fleet (id, document) VALUES (1, ?1)
                 ON CONFLICT (id) DO UPDATE SET document = excluded.document",
                [document],
            )?;
            for record in records {
                transaction.execute(
                    "INSERT INTO deploys (id, record) VALUES (?1, ?2)
                     ON CONFLICT (id) DO UPDATE SET record = excluded.record",
                    params![record.id.0.cast_signed(), serde_json::to_string(&record)?],
                )?;
            }
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    /// Reads the newest history lines, newest first.
    ///
    /// # Errors
    /// The database failed or holds a damaged document.
    pub async fn deploys(&self, limit: u32) -> Result<Vec<DeployRecord>, StoreError> {
        self.run(move |connection| {
            let mut statement =
                connection.prepare("SELECT record FROM deploys ORDER BY id DESC LIMIT ?1")?;
            let rows = statement.query_map([limit], |row| row.get::<_, String>(0))?;
            rows.map(|row| Ok(serde_json::from_str(&row?)?)).collect()
        })
        .await
    }

    /// Reads one history line.
    ///
    /// # Errors
    /// The database failed or holds a damaged document.
    pub async fn deploy(&self, id: DeployId) -> Result<Option<DeployRecord>, StoreError> {
        self.run(move |connection| {
            let text: Option<String> = connection
                .query_row(
                    "SELECT record FROM deploys WHERE id = ?1",
                    [id.0.cast_signed()],
                    |row| row.get(0),
                )
                .optional()?;
            Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
        })
        .await
    }

    /// Remembers a token by its digest.
    ///
    /// # Errors
    /// The database failed.
    pub async fn add_token(&self, digest: String, role: Role) -> Result<(), StoreError> {
        self.run(move |connection| {
            let (name, instance) = match &role {
                Role::Agent(instance) => ("agent", instance),
                Role::Join(instance) => ("join", instance),
            };
            connection.execute(
                "INSERT OR REPLACE INTO tokens (digest, role, instance) VALUES (?1, ?2, ?3)",
                params![digest, name, instance.as_str()],
            )?;
            Ok(())
        })
        .await
    }

    /// Replaces a join token by the agent token it was good for; `false` when it is not (or no
    /// longer) a join token of this instance.
    ///
    /// # Errors
    /// The database failed.
    pub async fn redeem(
        &self,
        join_digest: String,
        agent_digest: String,
        instance: InstanceName,
    ) -> Result<bool, StoreError> {
        self.run(move |connection| {
            let transaction = connection.transaction()?;
            let used = transaction.execute(
                "DELETE FROM tokens WHERE digest = ?1 AND role = 'join' AND instance = ?2",
                params![join_digest, instance.as_str()],
            )?;
            if used == 0 {
                return Ok(false);
            }
            transaction.execute(
                "INSERT INTO tokens (digest, role, instance) VALUES (?1, 'agent', ?2)",
                params![agent_digest, instance.as_str()],
            )?;
            transaction.commit()?;
            Ok(true)
        })
        .await
    }

    /// Says what the token with this digest may do.
    ///
    /// # Errors
    /// The database failed.
    pub async fn role(&self, digest: String) -> Result<Option<Role>, StoreError> {
        self.run(move |connection| {
            let row: Option<(String, String)> = connection
                .query_row("SELECT role, instance FROM tokens WHERE digest = ?1", [digest], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?;
            Ok(row.and_then(|(role, instance)| {
                let instance = instance.parse().ok()?;
                match role.as_str() {
                    "agent" => Some(Role::Agent(instance)),
                    "join" => Some(Role::Join(instance)),
                    _ => None,
                }
            }))
        })
        .await
    }

    /// Takes every token of an instance away.
    ///
    /// # Errors
    /// The database failed.
    pub async fn revoke(&self, instance: InstanceName) -> Result<(), StoreError> {
        self.run(move |connection| {
            connection.execute("DELETE FROM tokens WHERE instance = ?1", [instance.as_str()])?;
            Ok(())
        })
        .await
    }

    /// Takes the tokens of all agents away; they join anew.
    ///
    /// # Errors
    /// The database failed.
    pub async fn revoke_agents(&self) -> Result<(), StoreError> {
        self.run(|connection| {
            connection.execute("DELETE FROM tokens WHERE role = 'agent'", [])?;
            Ok(())
        })
        .await
    }

    /// Reads a small fact that must outlive the process.
    ///
    /// # Errors
    /// The database failed.
    pub async fn fact(&self, name: &'static str) -> Result<Option<String>, StoreError> {
        self.run(move |connection| {
            Ok(connection
                .query_row("SELECT value FROM facts WHERE name = ?1", [name], |row| row.get(0))
                .optional()?)
        })
        .await
    }

    /// Remembers a small fact.
    ///
    /// # Errors
    /// The database failed.
    pub async fn set_fact(&self, name: &'static str, value: String) -> Result<(), StoreError> {
        self.run(move |connection| {
            connection.execute(
                "INSERT INTO facts (name, value) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                params![name, value],
            )?;
            Ok(())
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connection = Arc::clone(&self.connection);
        tokio::task::spawn_blocking(move || {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut connection)
        })
        .await
        .unwrap_or(Err(StoreError::Lost))
    }
}

#[cfg(test)]
mod tests {
    use flotilla_core::id::Millis;

    use super::*;

    #[tokio::test]
    async fn a_committed_document_is_there_after_opening_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("foreman.db");
        let mut fleet = Fleet::default();
        fleet.resize(3, Millis(1));
        Store::open(&path).unwrap().commit(&fleet, Vec::new()).await.unwrap();
        assert_eq!(Store::open(&path).unwrap().fleet().await.unwrap(), fleet);
    }

    #[tokio::test]
    async fn a_join_token_is_good_once_and_for_its_instance_only() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("foreman.db")).unwrap();
        let (one, two) = (InstanceName::numbered(1), InstanceName::numbered(2));
        store.add_token("j".into(), Role::Join(one.clone())).await.unwrap();
        assert!(!store.redeem("j".into(), "a".into(), two).await.unwrap());
        assert!(store.redeem("j".into(), "a".into(), one.clone()).await.unwrap());
        assert!(!store.redeem("j".into(), "b".into(), one.clone()).await.unwrap());
        assert_eq!(store.role("a".into()).await.unwrap(), Some(Role::Agent(one)));
    }
}
