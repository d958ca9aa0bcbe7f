//! The workshop: the one writable copy of the site's code, a full WordPress where people change plugins,
//! themes and WordPress itself in wp-admin. What they change becomes a capture, and the capture a deploy.
//!
//! It follows the release in service, but for changes that have not reached it yet: those stay until
//! they do, or until somebody undoes them.

mod bring;
mod desk;
mod door;
pub mod routes;
mod wishes;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::api::{CaptureItem, SlotSettings};
use flotilla_core::capture::rest::{Limits, Rest};
use flotilla_core::capture::{CaptureNumber, CaptureRecord, CaptureState, shown};
use flotilla_core::config::CaptureMode;
use flotilla_core::error::chain;
use flotilla_core::id::Revision;
use flotilla_host::files::{Access, FileError, read_json, write_atomic, write_json};
use flotilla_host::git::{Git, Worktree};
use flotilla_host::ownership::owner;
use flotilla_host::session_gateway::SessionGateway;
use flotilla_host::unit::UnitError;
use flotilla_host::web_server::{Plan, RenderError, WebServer};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::desk::Note;
use self::door::Door;
use crate::capture::{self, CaptureError, Captures, Look, Request};
use crate::clock;
use crate::deploys::Deploys;
use crate::place::Place;
use crate::repository::Author;
use crate::settings::digest;
use crate::store::{Store, StoreError};

pub use wishes::{Handle, Wishes, handle};

/// How often files are looked at while somebody may be changing them.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How often when nobody seems to, at the most.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);
/// The part of the time that looking may take when nothing happens: one in so many.
const IDLE_SHARE: u32 = 20;
/// For how long somebody who was here may be changing files.
const BUSY_FOR: Duration = Duration::from_secs(30);
/// How long the workshop waits for the site to be made before it looks again.
const SITE_INTERVAL: Duration = Duration::from_millis(500);
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How many of the newest captures can be on their way.
const LOOKED_AT_MAX: u32 = 50;

/// What the workshop is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it is; writable.
    pub place: Place,
    /// The site's bare repository.
    pub git_dir: PathBuf,
    /// Where its nginx listens.
    pub address: SocketAddr,
    /// From where requests may come that tell the visitor's address: addresses or networks.
    pub trusted: Vec<String>,
    /// This program.
    pub own_program: PathBuf,
    /// nginx.
    pub nginx: PathBuf,
    /// php-fpm.
    pub php_fpm: PathBuf,
    /// The user of PHP's workers.
    pub php_user: String,
    /// The user's group.
    pub php_group: String,
    /// What becomes of changes.
    pub mode: CaptureMode,
    /// How long files must have been at rest.
    pub settle: Duration,
}

/// Says why the workshop does not work.
#[derive(Debug, thiserror::Error)]
pub enum WorkshopError {
    /// A file is in the way.
    #[error(transparent)]
    File(#[from] FileError),
    /// The configuration cannot be written.
    #[error(transparent)]
    Configure(#[from] RenderError),
    /// Its processes do not start or stop.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// A capture failed.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The door cannot be closed.
    #[error("cannot keep people out of the workshop")]
    Door(#[source] std::io::Error),
}

struct Workshop {
    options: Options,
    deploys: Deploys,
    store: Store,
    captures: Captures,
    worktree: Worktree,
    /// Serves the workshop; `None` when nobody may change code.
    server: Option<WebServer>,
    door: Door,
    /// Who was here last and may have changed files, and when.
    visitor: Option<(Author, Instant)>,
    busy_until: Instant,
    /// What keeps changes from being taken, for people; empty when nothing does.
    trouble: String,
    /// What PHP was told last.
    told: Vec<u8>,
}

/// Keeps a workshop until told to stop; its processes go on, as those of slots do.
pub async fn run(
    options: Options,
    settings: SlotSettings,
    deploys: Deploys,
    store: Store,
    mut wishes: Wishes,
    stopping: CancellationToken,
) {
    loop {
        let attempt =
            keep(&options, &settings, deploys.clone(), store.clone(), &mut wishes, &stopping);
        let error = tokio::select! {
            () = stopping.cancelled() => return,
            outcome = attempt => match outcome {
                Ok(()) => return,
                Err(error) => error,
            },
        };
        tracing::error!(error = chain(&error), "The workshop failed and is tried again");
        tokio::select! {
            () = stopping.cancelled() => return,
            () = tokio::time::sleep(RETRY_AFTER) => {}
        }
    }
}

async fn keep(
    options: &Options,
    settings: &SlotSettings,
    deploys: Deploys,
    store: Store,
    wishes: &mut Wishes,
    stopping: &CancellationToken,
) -> Result<(), WorkshopError> {
    while deploys.serving().is_none() {
        tokio::time::sleep(SITE_INTERVAL).await;
    }
    let place = &options.place;
    place.make(&settings.wp_config, &settings.database_certificates)?;
    let sessions = SessionGateway::open(
        "workshop-sessions".to_owned(),
        &place.directory.join("sessions"),
        &options.own_program,
        &options.php_group,
    )?;
    sessions.use_store(settings)?;
    let has_server = options.mode != CaptureMode::Off;
    let server = has_server.then(|| WebServer::open(plan(options, &sessions))).transpose()?;
    let door = Door::make(&place.directory.join("run"))?;
    let worktree = worktree(options)?;
    let mut captured = capture::Options::new(
        worktree.clone(),
        deploys.branch.clone(),
        place.directory.join("captured.index"),
    );
    captured.limits = Limits { settle: options.settle, ..Limits::default() };
    let captures = Captures::open(captured, Arc::clone(&deploys.repository), store.clone()).await?;
    let mut workshop = Workshop {
        options: options.clone(),
        deploys,
        store,
        captures,
        worktree,
        server,
        door,
        visitor: None,
        busy_until: Instant::now(),
        trouble: String::new(),
        told: Vec::new(),
    };
    workshop.follow().await?;
    let Some(server) = workshop.server.clone() else {
        return workshop.work(wishes, stopping).await;
    };
    workshop.start(&server, settings).await?;
    let served = tokio::join!(
        sessions.keep(stopping.clone()),
        server.clone().keep(Arc::new(Mutex::new(true)), stopping.clone()),
        server.hide_private_media(stopping.clone()),
        workshop.work(wishes, stopping),
    );
    served.3
}

fn plan(options: &Options, sessions: &SessionGateway) -> Plan {
    let directory = options.place.directory.clone();
    Plan {
        name: "workshop".to_owned(),
        lock: directory.join("workshop.lock"),
        address: options.address,
        trusted: options.trusted.clone(),
        labels: ["workshop".to_owned(), "workshop".to_owned()],
        own_program: options.own_program.clone(),
        nginx: options.nginx.clone(),
        php_fpm: options.php_fpm.clone(),
        user: options.php_user.clone(),
        group: options.php_group.clone(),
        php: directory.join("php"),
        sessions: sessions.sockets().to_owned(),
        media: options.place.media.clone(),
        is_writable: true,
        directory,
    }
}

fn worktree(options: &Options) -> Result<Worktree, FileError> {
    let site = options.place.directory.join("site");
    let owner = owner(&site, Some(&options.php_user))?;
    Ok(Worktree::new(Git::new(&options.git_dir), "workshop", site).owned_by(owner))
}

impl Workshop {
    /// Starts the processes, anew when they run with other settings.
    async fn start(
        &self,
        server: &WebServer,
        settings: &SlotSettings,
    ) -> Result<(), WorkshopError> {
        let mark = self.options.place.directory.join("settings.json");
        let digest = digest(settings);
        if read_json::<String>(&mark)?.as_ref() != Some(&digest) {
            server.unit.stop().await?;
        }
        server.configure(settings)?;
        server.unit.start().await?;
        write_json(&mark, &digest, Access::Private)?;
        Ok(())
    }

    async fn work(
        &mut self,
        wishes: &mut Wishes,
        stopping: &CancellationToken,
    ) -> Result<(), WorkshopError> {
        let mut interval = LOOK_INTERVAL;
        loop {
            let wish = tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                wish = wishes.next() => wish,
                () = tokio::time::sleep(interval) => None,
            };
            if let Some(wish) = wish {
                let outcome = self.decide(wish.verdict, wish.number, &wish.author).await;
                drop(wish.answer.send(outcome));
            }
            let began = Instant::now();
            match self.go_on().await {
                Ok(()) => {}
                Err(WorkshopError::Capture(error)) if error.is_of_the_moment() => {
                    tracing::debug!(error = chain(&error), "The workshop waits");
                }
                Err(WorkshopError::Capture(error)) => {
                    self.note_trouble(error.failure().message);
                    self.tell().await?;
                }
                Err(error) => return Err(error),
            }
            interval = if Instant::now() < self.busy_until {
                LOOK_INTERVAL
            } else {
                IDLE_INTERVAL.max(began.elapsed() * IDLE_SHARE)
            };
        }
    }

    async fn go_on(&mut self) -> Result<(), WorkshopError> {
        if self.server.is_none() {
            return self.follow().await;
        }
        self.read_desk().await;
        match self.captures.look().await? {
            Look::Clean => self.trouble.clear(),
            Look::Waiting { rest: Rest::Overdue, paths } => {
                let names: Vec<String> = paths.iter().map(|path| shown(path)).collect();
                self.note_trouble(format!("these change all the time: {}", names.join(", ")));
            }
            Look::Waiting { .. } => self.stay_busy(),
            Look::Ready { .. } => {
                self.stay_busy();
                self.capture().await?;
                self.trouble.clear();
            }
        }
        if self.bring_on().await? {
            self.stay_busy();
        }
        self.follow().await?;
        self.tell().await
    }

    fn note_trouble(&mut self, trouble: String) {
        if self.trouble != trouble {
            tracing::error!(reason = trouble, "Changes in the workshop cannot be captured");
            self.trouble = trouble;
        }
    }

    fn stay_busy(&mut self) {
        self.busy_until = Instant::now() + BUSY_FOR;
    }

    async fn read_desk(&mut self) {
        let desk = self.options.place.directory.join("desk");
        let notes = tokio::task::spawn_blocking(move || desk::take(&desk)).await;
        for Note { author, verdict } in notes.unwrap_or_default() {
            self.stay_busy();
            match verdict {
                Some((verdict, number)) => {
                    if let Err(failure) = self.decide(verdict, number, &author).await {
                        tracing::warn!(
                            capture = number.0,
                            reason = failure.message,
                            "What somebody decided in wp-admin cannot be done"
                        );
                        self.note_reason(number, &failure.message).await;
                    }
                }
                None => self.visitor = Some((author, Instant::now())),
            }
        }
    }

    async fn capture(&mut self) -> Result<(), CaptureError> {
        let mut request = Request::at(clock::now());
        // Files may also come from elsewhere, long after somebody was here.
        if let Some((author, seen)) = &self.visitor
            && seen.elapsed() < BUSY_FOR + self.options.settle
        {
            request.author.clone_from(author);
        }
        self.captures.take(&request).await?;
        Ok(())
    }

    /// Brings the workshop to the release in service, unless it holds what has not got there yet.
    async fn follow(&self) -> Result<(), WorkshopError> {
        let Some(serving) = self.deploys.serving() else { return Ok(()) };
        let held = self.worktree.checked_out().await;
        let wanted = match &held {
            Some(held) => self.wanted(held.clone(), serving).await?,
            None => serving,
        };
        if held.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let Some(_closed) = self.door.close().await.map_err(WorkshopError::Door)? else {
            return Ok(());
        };
        self.captures.check_out(&wanted).await?;
        if let Some(server) = &self.server {
            server.name_revision(&wanted)?;
        }
        tracing::info!(revision = wanted.as_str(), "The workshop follows the fleet");
        Ok(())
    }

    /// Returns the revision that the workshop shall hold: what is left of its own line when what was
    /// undone is taken away, as long as that has news, and else what serves.
    async fn wanted(&self, held: Revision, serving: Revision) -> Result<Revision, WorkshopError> {
        let records = self.store.captures(LOOKED_AT_MAX).await?;
        let mut own = held;
        while let Some(undone) =
            records.iter().find(|one| one.revision == own && one.state == CaptureState::Reverted)
        {
            own.clone_from(&undone.parent);
        }
        Ok(if self.has_news(&own, &serving).await? { own } else { serving })
    }

    /// Whether a revision has captures that are neither in another one nor undone.
    async fn has_news(&self, held: &Revision, serving: &Revision) -> Result<bool, WorkshopError> {
        for record in self.open().await? {
            if self.is_in(&record.revision, held).await?
                && !self.is_in(&record.revision, serving).await?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the captures that are still on their way, newest first.
    async fn open(&self) -> Result<Vec<CaptureRecord>, StoreError> {
        let mut records = self.store.captures(LOOKED_AT_MAX).await?;
        records
            .retain(|one| matches!(one.state, CaptureState::PendingReview | CaptureState::Failed));
        Ok(records)
    }

    async fn is_in(&self, older: &Revision, newer: &Revision) -> Result<bool, CaptureError> {
        Ok(self.deploys.repository.git().is_ancestor(older, newer).await?)
    }

    /// Tells PHP what became of the captures.
    async fn tell(&mut self) -> Result<(), WorkshopError> {
        let mut items = Vec::new();
        for record in self.open().await? {
            items.push(item(&self.store, record).await?);
        }
        let captures: Vec<serde_json::Value> = items
            .iter()
            .map(|item| {
                serde_json::json!({
                    "number": item.record.number,
                    "subject": item.record.subject(),
                    "state": item.record.state,
                    "reason": item.reason,
                })
            })
            .collect();
        let told = serde_json::json!({ "trouble": self.trouble, "captures": captures });
        let text = serde_json::to_vec(&told).unwrap_or_default();
        if text != self.told {
            let path = self.options.place.directory.join("run/captures.json");
            write_atomic(&path, &text, Access::Public)?;
            self.told = text;
        }
        Ok(())
    }

    async fn note_reason(&self, number: CaptureNumber, reason: &str) {
        let noted = async {
            let mut note = self.store.capture_note(number).await?;
            if note.reason != reason {
                reason.clone_into(&mut note.reason);
                self.store.note_capture(number, note).await?;
            }
            Ok::<(), StoreError>(())
        };
        if let Err(error) = noted.await {
            tracing::error!(error = chain(&error), "The foreman's store failed");
        }
    }
}

async fn item(store: &Store, record: CaptureRecord) -> Result<CaptureItem, StoreError> {
    let note = store.capture_note(record.number).await?;
    let is_open = matches!(record.state, CaptureState::PendingReview | CaptureState::Failed);
    Ok(CaptureItem { record, reason: if is_open { note.reason } else { String::new() } })
}
