//! The agent's loop: report, take the desired state, converge, keep the slots running.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flotilla_core::api::{SlotSettings, SyncReply};
use flotilla_core::converge::{has_settings, is_news, next_slot};
use flotilla_core::error::chain;
use flotilla_core::id::{Generation, Revision};
use flotilla_core::report::{AgentReport, Desired, SlotError, SlotReport};
use flotilla_core::slot::{SlotName, Slots};
use flotilla_host::files::{
    Access, FileError, make_directory, read_json, write_atomic, write_json,
};
use flotilla_host::git::worktree::Depth;
use flotilla_host::git::{Git, GitError};
use flotilla_host::session_gateway::SessionGateway;
use flotilla_host::tasks::Tasks;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};

use crate::Options;
use crate::drift::restore_slot;
use crate::foreman::{Foreman, ForemanError};
use crate::prepare::{Tools, prepare, wait_until_healthy};
use crate::receive::remove_leftovers;
use crate::slot::{Mark, Slot};
use crate::sync::{authenticate, sync, token_file};
use crate::watch::watch_slot;

const PREPARE_RETRY_FIRST: Duration = Duration::from_secs(1);
const PREPARE_RETRY_MAX: Duration = Duration::from_secs(30);
/// Tidying costs CPU time, so it is done once for many deploys.
const RELEASED_BEFORE_TIDYING: u32 = 50;

/// Says why an agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It has no token and none to join with.
    #[error("`{0}` holds neither a token nor a join token")]
    NoToken(PathBuf),
    /// The foreman does not let it join.
    #[error("cannot join the fleet")]
    Join(#[source] ForemanError),
    /// The HTTP client cannot be made.
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
    /// The foreman's address is unusable.
    #[error(transparent)]
    Foreman(#[from] ForemanError),
    /// A file is in the way.
    #[error(transparent)]
    File(#[from] FileError),
    /// The repository cannot be made.
    #[error("cannot make the instance's repository")]
    Git(#[from] GitError),
}

/// What an agent remembers over its own death: it can bring its slots up with the foreman down.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Memory {
    desired: Desired,
    settings: Option<SlotSettings>,
    settings_digest: String,
    /// The settings that each slot's processes were started with.
    running: Slots<String>,
}

struct Agent {
    options: Options,
    foreman: Foreman,
    git: Git,
    client: reqwest::Client,
    slots: Slots<Slot>,
    sessions: SessionGateway,
    boot: String,
    report: watch::Sender<AgentReport>,
    memory: Memory,
    gates: Slots<Arc<Mutex<bool>>>,
    /// How many revisions were let go of since the repository was tidied.
    released: u32,
}

/// Runs an agent until it is told to stop. Its slots go on.
///
/// # Errors
/// It cannot start: no token, or its directory cannot be used.
pub async fn run(options: Options, tasks: &Tasks) -> Result<(), AgentError> {
    let foreman = authenticate(&options).await?;
    make_directory(&options.directory.join("php"))?;
    options.media.make(Some(&options.php_user))?;
    for (name, content) in flotilla_host::php::SCRIPTS {
        write_atomic(
            &options.directory.join("php").join(name),
            content.as_bytes(),
            Access::Public,
        )?;
    }
    let sessions = SessionGateway::open(
        format!("{}-sessions", options.instance),
        &options.directory.join("sessions"),
        &options.own_program,
        &options.php_group,
    )?;
    let git = Git::new(options.directory.join("repository.git"));
    git.init_bare().await?;
    remove_leftovers(&git);
    let slots = Slots {
        blue: Slot::open(&options, SlotName::Blue, &sessions)?,
        green: Slot::open(&options, SlotName::Green, &sessions)?,
    };
    let memory = recall(&options)?;
    if let Some(settings) = &memory.settings {
        sessions.use_store(settings)?;
        options.media.configure(settings.media.as_ref())?;
    }
    tasks.spawn("keep_sessions", sessions.clone().keep(tasks.stopping()));
    tasks.spawn("keep_media", options.media.clone().keep(tasks.stopping()));
    let (report, reports) = watch::channel(AgentReport {
        instance: options.instance.clone(),
        generation: memory.desired.generation,
        slots: Slots::default(),
    });
    let client = flotilla_host::http::client_builder()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .build()
        .map_err(AgentError::Client)?;
    let (news, replies) = watch::channel(None);
    for name in SlotName::ALL {
        let (slot, report) = (slots.get(name).clone(), report.clone());
        tasks.spawn("watch_slot", watch_slot(slot, report, tasks.stopping()));
    }
    let agent = Agent {
        options,
        foreman,
        git,
        client,
        slots,
        sessions,
        boot: boot_id(),
        report,
        memory,
        gates: Slots::default(),
        released: 0,
    };
    agent.run(reports, news, replies, tasks.clone()).await;
    Ok(())
}

impl Agent {
    async fn run(
        mut self,
        reports: watch::Receiver<AgentReport>,
        news: watch::Sender<Option<Arc<SyncReply>>>,
        mut replies: watch::Receiver<Option<Arc<SyncReply>>>,
        tasks: Tasks,
    ) {
        let stopping = tasks.stopping();
        for name in SlotName::ALL {
            let (slot, gate) = (self.slots.get(name).clone(), Arc::clone(self.gates.get(name)));
            let restoring = restore_slot(slot.clone(), Arc::clone(&gate), tasks.stopping());
            tasks.spawn("restore_slot", restoring);
            tasks.spawn("keep_slot", slot.server.clone().keep(gate, tasks.stopping()));
            tasks.spawn("hide_private_media", slot.server.hide_private_media(tasks.stopping()));
        }
        // Before the first report: one that says "nothing is ready yet" would take an instance out
        // of service whose slots have served all the time.
        self.bring_up().await;
        let token = token_file(&self.options);
        tasks.spawn("sync", sync(self.foreman.clone(), token, reports, news, tasks.stopping()));
        let mut retry = PREPARE_RETRY_FIRST;
        let mut is_retry_due = false;
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                changed = replies.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(retry), if is_retry_due => {}
            }
            let reply = replies.borrow_and_update().clone();
            if let Some(reply) = reply {
                self.take(&reply).await;
            }
            let outcome = tokio::select! {
                () = stopping.cancelled() => return,
                outcome = self.converge() => outcome,
            };
            is_retry_due = outcome.is_err();
            retry =
                if is_retry_due { (retry * 2).min(PREPARE_RETRY_MAX) } else { PREPARE_RETRY_FIRST };
        }
    }

    /// Takes slots back into service that were prepared before this process began.
    async fn bring_up(&mut self) {
        for name in [self.memory.desired.serving, self.memory.desired.serving.other()] {
            let slot = self.slots.get(name).clone();
            let Some(mark) = slot.mark() else { continue };
            if !self.has_settings(name) {
                // It was to be prepared with others when the agent died.
                continue;
            }
            if !self.is_intact(&slot, &mark).await {
                tracing::warn!(
                    slot = name.as_str(),
                    "A slot is not what its mark says; it is prepared anew"
                );
                slot.remove_mark();
                continue;
            }
            if let Err(error) = slot.server.unit.start().await {
                tracing::error!(slot = name.as_str(), %error, "A slot does not start");
                continue;
            }
            *self.gates.get(name).lock().await = true;
            if let Err(error) = wait_until_healthy(&slot, &mark.revision, &self.client).await {
                tracing::error!(slot = name.as_str(), %error, "A slot does not come up");
                continue;
            }
            self.tell(name, |report| {
                report.revision = Some(mark.revision.clone());
                report.address = Some(slot.server.address);
                report.is_ready = true;
            });
        }
    }

    /// After a boot of the machine every byte is looked at: the files were not synced one by one.
    async fn is_intact(&self, slot: &Slot, mark: &Mark) -> bool {
        let depth = if mark.boot == self.boot { Depth::Quick } else { Depth::Full };
        match slot.worktree().verify(&mark.revision, &slot.kept(), depth).await {
            Ok(differences) => differences.is_empty(),
            Err(error) => {
                tracing::warn!(error = chain(&error), "A slot cannot be verified");
                false
            }
        }
    }

    async fn take(&mut self, reply: &SyncReply) {
        if !is_news(self.memory.desired.generation, &reply.desired) {
            tracing::warn!(
                seen = self.memory.desired.generation.0,
                offered = reply.desired.generation.0,
                "An older generation is refused"
            );
            return;
        }
        if reply.desired == self.memory.desired && reply.settings == self.memory.settings_digest {
            return;
        }
        if reply.settings != self.memory.settings_digest || self.memory.settings.is_none() {
            match self.foreman.settings().await {
                Ok(settings) => {
                    if let Err(error) = self.sessions.use_store(&settings) {
                        tracing::error!(error = chain(&error), "The session nodes cannot be told");
                    }
                    if let Err(error) = self.options.media.configure(settings.media.as_ref()) {
                        tracing::error!(error = chain(&error), "The media bucket cannot be told");
                    }
                    self.memory.settings = Some(settings);
                    self.memory.settings_digest.clone_from(&reply.settings);
                }
                Err(error) => {
                    return tracing::warn!(error = chain(&error), "The settings cannot be fetched");
                }
            }
        }
        self.memory.desired = reply.desired.clone();
        self.remember();
        self.confirm(reply.desired.generation).await;
    }

    /// Reports a generation together with how busy PHP is after it was taken: the foreman asks for one
    /// to learn whether requests still run, and an older count would say nothing of that. In the same
    /// step slots are hidden that have a wanted revision, but not the settings that they were ordered
    /// with.
    async fn confirm(&self, generation: Generation) {
        let is_outdated =
            |name, slot: &SlotReport| slot.revision.is_some() && !self.has_settings(name);
        let is_told = {
            let report = self.report.borrow();
            let mut names = SlotName::ALL.into_iter();
            report.generation == generation
                && !names.any(|name| is_outdated(name, report.slots.get(name)))
        };
        if is_told {
            return;
        }
        let (blue, green) =
            tokio::join!(self.slots.blue.server.workers(), self.slots.green.server.workers());
        self.report.send_modify(|report| {
            report.generation = generation;
            report.slots.blue.php = blue;
            report.slots.green.php = green;
            for name in SlotName::ALL {
                let slot = report.slots.get_mut(name);
                if is_outdated(name, slot) {
                    *slot = SlotReport { php: slot.php, ..SlotReport::default() };
                }
            }
        });
    }

    fn has_settings(&self, name: SlotName) -> bool {
        let memory = &self.memory;
        let (wanted, running) = (memory.desired.settings.get(name), memory.running.get(name));
        has_settings(wanted, running, &memory.settings_digest)
    }

    async fn converge(&mut self) -> Result<(), ()> {
        let Some(settings) = self.memory.settings.clone() else { return Ok(()) };
        let held = {
            let report = self.report.borrow();
            Slots {
                blue: report.slots.blue.revision.clone(),
                green: report.slots.green.revision.clone(),
            }
        };
        let Some((name, revision)) = next_slot(&self.memory.desired, &held) else {
            self.let_go(&held).await;
            return Ok(());
        };
        let slot = self.slots.get(name).clone();
        self.tell(name, |report| {
            *report = SlotReport { php: report.php, ..SlotReport::default() };
        });
        tracing::info!(slot = name.as_str(), revision = revision.as_str(), "Preparing a release");
        let digest = self.memory.settings_digest.clone();
        let tools = Tools {
            foreman: &self.foreman,
            git: &self.git,
            settings: &settings,
            has_new_settings: *self.memory.running.get(name) != digest,
            client: &self.client,
            sibling: self.slots.get(name.other()),
            boot: &self.boot,
        };
        let mut is_kept = self.gates.get(name).lock().await;
        let outcome = prepare(&slot, &revision, tools).await;
        *is_kept = true;
        drop(is_kept);
        self.memory.running.get_mut(name).clone_from(&digest);
        self.remember();
        match outcome {
            Ok(()) => {
                tracing::info!(
                    slot = name.as_str(),
                    revision = revision.as_str(),
                    "A release is ready"
                );
                self.tell(name, |report| {
                    report.revision = Some(revision.clone());
                    report.address = Some(slot.server.address);
                    report.is_ready = true;
                    report.error = None;
                });
                // The other slot may be next.
                Box::pin(self.converge()).await
            }
            Err(error) => {
                let message = chain(&error);
                tracing::error!(
                    slot = name.as_str(),
                    revision = revision.as_str(),
                    message,
                    "A release cannot be prepared"
                );
                if error.is_of_release() {
                    self.tell(name, |report| {
                        report.error =
                            Some(SlotError { revision: Revision::clone(&revision), message });
                    });
                }
                Err(())
            }
        }
    }

    /// Lets go of revisions that no slot holds any more, and now and then of their objects.
    async fn let_go(&mut self, held: &Slots<Option<Revision>>) {
        let attempt = async {
            for revision in self.git.pinned().await? {
                let is_held = |slot: &Option<Revision>| slot.as_ref() == Some(&revision);
                if !is_held(&held.blue) && !is_held(&held.green) {
                    self.git.unpin(&revision).await?;
                    self.released += 1;
                }
            }
            if self.released >= RELEASED_BEFORE_TIDYING {
                self.released = 0;
                self.git.tidy().await?;
            }
            Ok::<(), GitError>(())
        };
        if let Err(error) = attempt.await {
            tracing::warn!(error = chain(&error), "The instance's repository cannot be tidied");
        }
    }

    fn tell(&self, name: SlotName, change: impl FnOnce(&mut SlotReport)) {
        self.report.send_modify(|report| change(report.slots.get_mut(name)));
    }

    fn remember(&self) {
        let path = self.options.directory.join("agent.json");
        // It holds wp-config.php, so nobody else may read it.
        if let Err(error) = write_json(&path, &self.memory, Access::Private) {
            tracing::error!(error = chain(&error), "The agent's memory cannot be written");
        }
    }
}

/// Reads what the agent remembers; what another version wrote may be of no use to this one.
fn recall(options: &Options) -> Result<Memory, FileError> {
    match read_json(&options.directory.join("agent.json")) {
        Err(error @ FileError::Damaged { .. }) => {
            tracing::warn!(error = chain(&error), "The agent remembers nothing");
            Ok(Memory::default())
        }
        memory => Ok(memory?.unwrap_or_default()),
    }
}

fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}
