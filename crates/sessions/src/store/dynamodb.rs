//! A DynamoDB table: one durable copy, kept by AWS.
//!
//! The table has a string key `id`; `expires` is its time-to-live attribute. `item` holds the bytes,
//! and `token` changes with each write, which makes conditional writes possible. Expired items are
//! swept by AWS within days, so they are told apart here. AWS keeps copies itself, so there is one
//! owner for all keys, and the same locks as with memcached nodes are items of their own: that costs
//! a write unit more for each request than a lock inside the session's item would, and needs no
//! second way of locking.

mod client;
mod item;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flotilla_host::tasks::Tasks;
use serde_json::{Value as Json, json};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use super::{Answer, Answered, Condition, Reply, Request, Standing, Store, StoreError};
use crate::clock::now_seconds;
use client::{Client, ClientError};

/// How many requests may be under way at a time.
const REQUESTS_MAX: usize = 512;
/// How long nobody is made to wait for a table that did not answer.
const AWAY_TIME: Duration = Duration::from_secs(1);

/// Where a table is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its region, such as `eu-central-1`.
    pub region: String,
    /// Another address than that of AWS, for emulators and private endpoints.
    pub endpoint: Option<String>,
}

/// A table that items are kept in.
#[derive(Debug)]
pub(crate) struct DynamoDb {
    shared: Arc<Shared>,
    tasks: Tasks,
}

#[derive(Debug)]
struct Shared {
    name: String,
    table: String,
    client: Client,
    permits: Arc<Semaphore>,
    last_token: AtomicU64,
    away_until: Mutex<Option<Instant>>,
    /// Why it refused the last time; empty when it did not.
    refusal: Mutex<String>,
}

/// What is sent to AWS: the operation and its input.
#[derive(Debug)]
struct Call {
    operation: &'static str,
    input: Json,
    /// The token that a write leaves, when it is one.
    token: Option<u64>,
}

impl DynamoDb {
    /// Makes a client of a table; nothing is asked yet. `seed` makes the tokens of this gateway
    /// differ from those of others.
    ///
    /// # Errors
    /// No client can be made.
    pub(crate) fn new(table: &Table, seed: u64, tasks: &Tasks) -> Result<Self, reqwest::Error> {
        let shared = Shared {
            name: format!("DynamoDB table {}", table.name),
            table: table.name.clone(),
            client: Client::new(&table.region, table.endpoint.as_deref())?,
            permits: Arc::new(Semaphore::new(REQUESTS_MAX)),
            last_token: AtomicU64::new(seed),
            away_until: Mutex::new(None),
            refusal: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared), tasks: tasks.clone() })
    }
}

impl Store for DynamoDb {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn is_up(&self) -> bool {
        self.shared.away_until().is_none_or(|until| until <= Instant::now())
    }

    fn standing(&self) -> Standing {
        // It never comes back without what it had.
        if self.is_up() { Standing::Settled } else { Standing::Gone }
    }

    fn ask(&self, request: Request<'_>) -> Answer {
        if !self.is_up() {
            return Answer::ready(Err(self.shared.unreachable()));
        }
        let call = match self.shared.call(request) {
            Ok(call) => call,
            Err(error) => return Answer::ready(Err(error)),
        };
        let Ok(permit) = Arc::clone(&self.shared.permits).try_acquire_owned() else {
            return Answer::ready(Err(StoreError::Busy { store: self.shared.name.clone() }));
        };
        let (client, receiver) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        self.tasks.spawn("ask_table", async move {
            let answered = shared.answer(&call).await;
            drop(permit);
            // The client may have gone away meanwhile.
            drop(client.send(answered));
        });
        Answer::waiting(receiver)
    }
}

impl Shared {
    fn away_until(&self) -> Option<Instant> {
        *self.away_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_refusal(&self) -> MutexGuard<'_, String> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unreachable(&self) -> StoreError {
        StoreError::Unreachable { store: self.name.clone() }
    }

    fn refuses(&self, reason: impl Into<String>) -> StoreError {
        StoreError::Refuses { store: self.name.clone(), reason: reason.into() }
    }

    /// Says a request in DynamoDB's words.
    fn call(&self, request: Request<'_>) -> Result<Call, StoreError> {
        let now = now_seconds();
        let key = |key| item::key(key).ok_or_else(|| self.refuses("a key must be UTF-8"));
        let call = match request {
            Request::Fetch { key: id } => Call {
                operation: "GetItem",
                input: json!({ "Key": key(id)?, "ConsistentRead": true }),
                token: None,
            },
            Request::Touch { key: id, lifetime } => {
                let mut input = item::touch(lifetime, now);
                set(&mut input, "Key", key(id)?);
                Call { operation: "UpdateItem", input, token: None }
            }
            Request::Write { key: id, head, body, lifetime, condition } => {
                let token = self.last_token.fetch_add(1, Ordering::Relaxed);
                let mut kept = item::item(&[head, body].concat(), token, lifetime, now);
                set(
                    &mut kept,
                    "id",
                    json!({ "S": item::text(id).ok_or_else(|| self.refuses("a key must be UTF-8"))? }),
                );
                let mut input = match condition {
                    Condition::Always => json!({}),
                    Condition::Absent => item::absent(now),
                    Condition::Unchanged(token) => item::unchanged(token, now),
                };
                set(&mut input, "Item", kept);
                Call { operation: "PutItem", input, token: Some(token) }
            }
            Request::Remove { key: id } => {
                Call { operation: "DeleteItem", input: json!({ "Key": key(id)? }), token: None }
            }
            Request::Flush { .. } => {
                return Err(
                    self.refuses("a table is not emptied by a client; delete and make it anew")
                );
            }
        };
        Ok(call)
    }

    async fn answer(&self, call: &Call) -> Answered {
        let mut input = call.input.clone();
        set(&mut input, "TableName", Json::String(self.table.clone()));
        match self.client.call(call.operation, &input).await {
            Ok(output) => {
                self.lock_refusal().clear();
                match call.operation {
                    "GetItem" => Ok(item::found(output.get("Item"), now_seconds())),
                    "UpdateItem" => Ok(item::found(output.get("Attributes"), now_seconds())),
                    _ => Ok(Reply::Done),
                }
            }
            Err(ClientError::ConditionFailed(present)) => Ok(match call.token {
                // An answer was lost, and the write that was repeated had been carried out.
                Some(token) if item::token(present.as_ref()) == Some(token) => Reply::Done,
                Some(_) => Reply::Refused,
                None => Reply::Missing,
            }),
            Err(ClientError::Refused(reason)) => {
                let mut last = self.lock_refusal();
                if *last != reason {
                    tracing::error!(table = %self.table, reason, "The table of sessions refuses");
                    last.clone_from(&reason);
                }
                Err(self.refuses(reason))
            }
            Err(ClientError::Unreachable(reason)) => {
                let mut away_until = self.away_until.lock().unwrap_or_else(PoisonError::into_inner);
                if away_until.is_none_or(|until| until <= Instant::now()) {
                    tracing::warn!(table = %self.table, reason, "The table of sessions does not answer");
                }
                *away_until = Some(Instant::now() + AWAY_TIME);
                Err(self.unreachable())
            }
        }
    }
}

fn set(object: &mut Json, name: &str, value: Json) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}
