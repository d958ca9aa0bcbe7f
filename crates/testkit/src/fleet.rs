//! A real fleet for one test: own directory, own configuration, removed with all its processes.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use flotilla_core::api::{DeployRecord, Status};
use flotilla_core::config::FILE_NAME;
use flotilla_core::fleet::Member;
use flotilla_core::slot::SlotName;
use flotilla_foreman::secrets::{Secrets, Vault};
use flotilla_targets::local::layout::Layout;
use flotilla_targets::local::ports::{BALANCER, Book, FOREMAN};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use tokio::time::Instant;

use crate::code::Clone as Code;
use crate::process::{self, Process};
use crate::program::{Ran, Shell, program, target_dir};
use crate::wait::until;
use crate::wordpress::{Version, with_shop};

const UP_LIMIT: Duration = Duration::from_secs(180);
const COMMAND_LIMIT: Duration = Duration::from_secs(150);
/// More than flotilla itself grants all parts to stop, and a busy disk to remove them.
const DOWN_LIMIT: Duration = Duration::from_secs(240);
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
const GONE_LIMIT: Duration = Duration::from_secs(5);
const DATA: &str = ".flotilla";
/// The process that a fleet belongs to; when it is dead, the fleet is a leftover.
const OWNER: &str = "owner";

/// What a fleet is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    name: &'static str,
    keys: BTreeMap<(&'static str, &'static str), String>,
    user: Option<&'static str>,
    version: Option<Version>,
}

impl Settings {
    /// Names a fleet; its limits are shorter than those for people.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        let empty =
            Self { name, keys: BTreeMap::new(), user: None, version: Some(Version::Stable) };
        empty
            .set("balancer", "listen", "'127.0.0.1:0'")
            .set("site", "source", "'./site'")
            .set("foreman", "deploy_on_push", false)
            .set("php", "workers", 3)
            .set("deploy", "verify_window", "'1s'")
            .set("deploy", "prepare_timeout", "'60s'")
            .set("deploy", "drain_timeout", "'5s'")
            .set("deploy", "agent_lease", "'5s'")
    }

    /// Sets a key of the configuration to a value as TOML writes it.
    #[must_use]
    pub fn set(mut self, section: &'static str, key: &'static str, value: impl Display) -> Self {
        self.keys.insert((section, key), value.to_string());
        self
    }

    /// Sets the number of instances.
    #[must_use]
    pub fn instances(self, count: u16) -> Self {
        self.set("fleet", "instances", count)
    }

    /// Lets flotilla itself get the site's code, from what `site.source` says.
    #[must_use]
    pub fn source(mut self, source: &str) -> Self {
        self.version = None;
        self.set("site", "source", format!("'{source}'"))
    }

    /// Runs the fleet as another user of the machine.
    #[must_use]
    pub const fn user(mut self, user: &'static str) -> Self {
        self.user = Some(user);
        self
    }

    fn toml(&self) -> String {
        let mut text = String::new();
        let mut last = "";
        for ((section, key), value) in &self.keys {
            if *section != last {
                let _ = writeln!(text, "[{section}]");
                last = section;
            }
            let _ = writeln!(text, "{key} = {value}");
        }
        text
    }
}

/// A fleet that lives as long as this value.
#[derive(Debug)]
pub struct Fleet {
    settings: Settings,
    directory: PathBuf,
    layout: Layout,
    shell: Shell,
    client: Client,
}

impl Fleet {
    /// Makes the directory of a fleet; nothing is started yet.
    ///
    /// # Errors
    /// The program is not built, or WordPress cannot be had.
    pub async fn prepare(settings: Settings) -> anyhow::Result<Self> {
        let parent = target_dir()?.join("tmp");
        std::fs::create_dir_all(&parent)?;
        sweep(&parent);
        let prefix = format!("fleet-{}-", settings.name);
        // Kept until nothing runs in it any more: what was not stopped is stopped by the next test.
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir_in(&parent)?.keep();
        let path = directory.as_path();
        std::fs::write(path.join(OWNER), std::process::id().to_string())?;
        std::fs::write(path.join(FILE_NAME), settings.toml())?;
        if let Some(version) = settings.version {
            with_shop(version, &path.join("site")).await?;
        }
        if let Some(user) = settings.user {
            flotilla_host::ownership::set_mode(path, 0o755)?;
            flotilla_host::ownership::give_to(path, Some(user))?;
        }
        let shell = Shell {
            program: program()?,
            directory: path.to_owned(),
            user: settings.user.map(str::to_owned),
        };
        let client = flotilla_host::http::client_builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ANSWER_LIMIT)
            .build()?;
        let layout = Layout::new(&path.join(DATA))?;
        Ok(Self { settings, layout, shell, client, directory })
    }

    /// Makes a fleet and waits until it serves.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        let fleet = Self::prepare(settings).await?;
        fleet.up().await?;
        Ok(fleet)
    }

    /// Runs `flotilla up`; returns what it prints: URL and login.
    ///
    /// # Errors
    /// The fleet does not come up.
    pub async fn up(&self) -> anyhow::Result<Value> {
        self.shell.run(UP_LIMIT, &["up", "--json"]).await?.ok()?.json()
    }

    /// Runs a command of flotilla in the fleet's directory.
    ///
    /// # Errors
    /// It cannot be run, or takes minutes.
    pub async fn run(&self, args: &[&str]) -> anyhow::Result<Ran> {
        self.shell.run(COMMAND_LIMIT, args).await
    }

    /// Deploys a revision with the command and returns how it ended, well or not.
    ///
    /// # Errors
    /// The fleet refuses it.
    pub async fn deploy(&self, revision: &str) -> anyhow::Result<DeployRecord> {
        record(&self.run(&["deploy", "--json", revision]).await?)
    }

    /// Deploys a revision and makes sure that it serves.
    ///
    /// # Errors
    /// It does not.
    pub async fn deploy_well(&self, revision: &str) -> anyhow::Result<DeployRecord> {
        let record = self.deploy(revision).await?;
        let is_settled = record.outcome.as_ref().is_some_and(|outcome| outcome.is_settled());
        ensure!(is_settled, "the deploy of {revision} ended with {:?}", record.outcome);
        Ok(record)
    }

    /// Clones the site's code.
    ///
    /// # Errors
    /// git fails.
    pub async fn clone_code(&self) -> anyhow::Result<Code> {
        let repository = self.layout.foreman().join("site.git");
        let directory = tempfile::Builder::new().prefix("clone-").tempdir_in(self.path())?.keep();
        flotilla_host::ownership::give_to(&directory, self.settings.user)?;
        Code::of(&repository.to_string_lossy(), &directory, self.settings.user).await
    }

    /// The fleet's directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// Where everything lies.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the address that visitors connect to.
    ///
    /// # Errors
    /// The fleet never ran.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        self.port(BALANCER)
    }

    /// Returns the host that visitors ask for.
    ///
    /// # Errors
    /// The fleet never ran.
    pub fn host(&self) -> anyhow::Result<String> {
        Ok(format!("localhost:{}", self.address()?.port()))
    }

    /// Returns where the foreman listens.
    ///
    /// # Errors
    /// The fleet never ran.
    pub fn foreman(&self) -> anyhow::Result<SocketAddr> {
        self.port(FOREMAN)
    }

    fn port(&self, role: &str) -> anyhow::Result<SocketAddr> {
        let book = Book::read(&self.layout)?.context("the fleet has no ports")?;
        let port = book.port(role).with_context(|| format!("`{role}` has no port"))?;
        Ok(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// Returns the operator's token.
    ///
    /// # Errors
    /// The fleet has no secrets yet.
    pub fn operator_token(&self) -> anyhow::Result<String> {
        Ok(self.secrets()?.operator_token.reveal().to_owned())
    }

    /// Returns the fleet's secrets.
    ///
    /// # Errors
    /// It has none yet.
    pub fn secrets(&self) -> anyhow::Result<Secrets> {
        let vault = Vault {
            sealed: self.layout.secrets(),
            key: self.layout.secrets_key(),
            plain: self.layout.secrets_in_clear(),
        };
        vault.load()?.context("the fleet has no secrets")
    }

    /// Begins a request to the foreman, as its operator.
    ///
    /// # Errors
    /// The fleet never ran.
    pub fn ask_foreman(&self, method: Method, path: &str) -> anyhow::Result<RequestBuilder> {
        let url = format!("http://{}{path}", self.foreman()?);
        Ok(self.client.request(method, url).bearer_auth(self.operator_token()?))
    }

    /// Begins a visitor's request, sent to the balancer or straight to a slot.
    ///
    /// # Errors
    /// The fleet never ran.
    pub fn visit(
        &self,
        to: SocketAddr,
        method: Method,
        path: &str,
    ) -> anyhow::Result<RequestBuilder> {
        let request = self.client.request(method, format!("http://{to}{path}"));
        Ok(request.header("host", self.host()?).header("x-forwarded-proto", "http"))
    }

    /// Asks the foreman for the fleet's state.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn status(&self) -> anyhow::Result<Status> {
        let request = self.ask_foreman(Method::GET, flotilla_core::api::STATUS_PATH)?;
        Ok(request.send().await?.error_for_status()?.json().await?)
    }

    /// Waits until the foreman says something of the fleet's state.
    ///
    /// # Errors
    /// It does not within the limit.
    pub async fn status_when(
        &self,
        what: &str,
        limit: Duration,
        mut holds: impl FnMut(&Status) -> bool,
    ) -> anyhow::Result<Status> {
        until(what, limit, async || match self.status().await {
            Ok(status) if holds(&status) => Ok(status),
            Ok(status) => Err(format!("{status:?}")),
            Err(error) => Err(format!("{error:#}")),
        })
        .await
    }

    /// Waits until no deploy is under way, all instances serve and the balancer finds them well.
    ///
    /// # Errors
    /// They do not come to that by themselves.
    pub async fn whole(&self, instances: usize) -> anyhow::Result<Status> {
        let what = format!("{instances} instances that serve");
        self.status_when(&what, SETTLE_LIMIT, |status| is_whole(status, instances)).await
    }

    /// Returns where the slots in service can be asked directly, by instance.
    ///
    /// # Errors
    /// The foreman does not answer.
    pub async fn slots_in_service(&self) -> anyhow::Result<BTreeMap<String, SocketAddr>> {
        let status = self.status().await?;
        let serving = status.instances.iter().filter(|one| one.is_in_service);
        let slots = serving.filter_map(|one| {
            let slot = one.report.as_ref()?.slots.get(status.serving);
            Some((one.name.to_string(), slot.address?))
        });
        Ok(slots.collect())
    }

    /// Returns the colour in service.
    ///
    /// # Errors
    /// The foreman does not answer.
    pub async fn colour(&self) -> anyhow::Result<SlotName> {
        Ok(self.status().await?.serving)
    }

    /// Returns all processes that have to do with this fleet.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        let name = self.path().file_name().unwrap_or_default().to_string_lossy();
        process::using(&name)
    }

    /// Stops and removes all of it.
    fn dispose(&self) -> anyhow::Result<()> {
        destroy(&self.shell)?;
        // A process that has just been killed may still be seen for a moment.
        let deadline = Instant::now() + GONE_LIMIT;
        let mut left = self.processes();
        while !left.is_empty() && Instant::now() < deadline {
            std::thread::yield_now();
            left = self.processes();
        }
        if !left.is_empty() {
            bail!("`flotilla destroy` left processes of `{}`: {left:#?}", self.settings.name);
        }
        ensure!(!self.layout.data_dir().exists(), "`flotilla destroy` left {:?}", self.layout);
        Ok(std::fs::remove_dir_all(&self.directory)?)
    }

    /// Keeps the logs of a fleet whose test fails.
    fn keep_logs(&self) -> anyhow::Result<PathBuf> {
        let kept = target_dir()?.join("tmp/failed").join(self.settings.name);
        drop(std::fs::remove_dir_all(&kept));
        crate::wordpress::copy(&self.layout.logs(), &kept)?;
        for name in self.layout.instances_made() {
            for slot in SlotName::ALL {
                let from = self.layout.instance(&name).join(slot.as_str()).join("log");
                let into = kept.join(format!("{name}-{}", slot.as_str()));
                drop(crate::wordpress::copy(&from, &into));
            }
        }
        drop(std::fs::copy(self.layout.supervisor_state(), kept.join("supervisor.json")));
        Ok(kept)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let is_failing = std::thread::panicking();
        let kept = if is_failing { self.keep_logs().ok() } else { None };
        let outcome = self.dispose();
        // A second panic would hide the first.
        if is_failing {
            drop(writeln_error(&format!("the logs are kept in {kept:?}; disposal: {outcome:?}")));
            return;
        }
        #[expect(clippy::panic, reason = "a fleet that cannot be removed fails its test")]
        if let Err(error) = outcome {
            panic!("{error:#}");
        }
    }
}

fn writeln_error(text: &str) -> std::io::Result<()> {
    use std::io::Write;
    writeln!(std::io::stderr().lock(), "{text}")
}

/// Returns whether a fleet is at rest with all its instances in service.
#[must_use]
pub fn is_whole(status: &Status, instances: usize) -> bool {
    let Some(balancer) = &status.balancer else { return false };
    let serves = |one: &&flotilla_core::api::InstanceStatus| {
        one.member == Member::Active
            && one.is_in_service
            && balancer.upstreams.iter().any(|upstream| {
                upstream.instance == one.name && upstream.slot == status.serving && upstream.healthy
            })
    };
    status.deploy.is_none()
        && balancer.version == status.table_version
        && status.instances.len() == instances
        && status.instances.iter().filter(serves).count() == instances
}

/// Reads how a deploy ended out of what the command printed.
///
/// # Errors
/// It printed no record: the fleet refused the deploy.
pub fn record(ran: &Ran) -> anyhow::Result<DeployRecord> {
    let said = || format!("no deploy: {:?} {:?} {}", ran.code, ran.stdout, ran.stderr);
    serde_json::from_str(&ran.stdout).with_context(said)
}

/// Removes fleets that tests left which were killed themselves.
fn sweep(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let directory = entry.path();
        let Ok(owner) = std::fs::read_to_string(directory.join(OWNER)) else { continue };
        let lives = process::all().iter().any(|process| process.pid.to_string() == owner);
        if let (false, Ok(program)) = (lives, program()) {
            drop(destroy(&Shell { program, directory: directory.clone(), user: None }));
            drop(std::fs::remove_dir_all(&directory));
        }
    }
}

/// Runs `flotilla destroy` from a place where nothing can be awaited.
fn destroy(shell: &Shell) -> anyhow::Result<()> {
    let limit = DOWN_LIMIT.as_secs().to_string();
    let mut words = vec!["timeout".to_owned(), limit];
    words.extend(shell.words()?);
    words.extend(["destroy".to_owned(), "--yes".to_owned()]);
    let (program, args) = words.split_first().context("no words")?;
    #[expect(clippy::disallowed_methods, reason = "`timeout` bounds it; drop cannot await")]
    let mut command = std::process::Command::new(program);
    let output = command.args(args).current_dir(&shell.directory).output()?;
    ensure!(
        output.status.success(),
        "`flotilla destroy` ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
