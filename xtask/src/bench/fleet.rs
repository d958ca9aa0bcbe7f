//! The fleet that is measured: made anew in target/bench, stopped at the end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use super::cpu::{Root, leads_session};
use super::{directory, write};
use crate::program::{Program, root};

const UP_MINUTES: u32 = 20;
const DEPLOY_MINUTES: u32 = 10;

/// Builds the program as it is shipped.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    Program::cargo().args(["build", "--release", "--locked", "--package", "flotilla"]).run()?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(root().join(target).join("release/flotilla"))
}

/// What a fleet shall be like.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) instances: u16,
    pub(crate) workers: u16,
    /// Further lines of flotilla.toml, as sections.
    pub(crate) more: &'static str,
}

/// A running fleet.
pub(crate) struct Fleet {
    program: PathBuf,
    directory: PathBuf,
    /// Where the balancer listens.
    pub(crate) address: SocketAddr,
    /// The host of the site's address, with its port.
    pub(crate) host: String,
}

impl Fleet {
    /// Makes a new site and its fleet.
    pub(crate) fn start(program: &Path, shape: &Shape) -> anyhow::Result<Self> {
        let directory = directory().join(shape.name);
        let mut fleet = Self {
            program: program.to_owned(),
            directory,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            host: String::new(),
        };
        if fleet.data().exists() {
            fleet.flotilla(&["destroy", "--yes"]).output()?;
        }
        let configuration = format!(
            "[site]\nsource = {:?}\n\n[fleet]\ninstances = {}\n\n[php]\nworkers = {}\n\n\
             [balancer]\nlisten = \"127.0.0.1:0\"\n\n[foreman]\ndeploy_on_push = false\n\n{}",
            source(),
            shape.instances,
            shape.workers,
            shape.more
        );
        write(&fleet.directory.join("flotilla.toml"), &configuration)?;
        let text = fleet.flotilla(&["up", "--json"]).minutes(UP_MINUTES).output()?;
        let answer: Value = serde_json::from_str(&text).context("`flotilla up` says no JSON")?;
        let url = answer.get("url").and_then(Value::as_str).unwrap_or_default();
        fleet.host = url.trim_start_matches("http://").to_owned();
        let port = fleet.host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        fleet.address.set_port(port.with_context(|| format!("`{url}` has no port"))?);
        fleet.keep_source()?;
        Ok(fleet)
    }

    /// Stops it and removes its data.
    pub(crate) fn destroy(self) -> anyhow::Result<()> {
        self.flotilla(&["destroy", "--yes"]).output().map(drop)
    }

    /// Deploys the tip of the branch.
    pub(crate) fn deploy(&self) -> anyhow::Result<()> {
        self.flotilla(&["deploy", "--json"]).minutes(DEPLOY_MINUTES).output().map(drop)
    }

    /// Sets the number of instances and waits until all serve.
    pub(crate) fn scale(&self, instances: u16) -> anyhow::Result<()> {
        self.flotilla(&["scale", &instances.to_string()]).minutes(UP_MINUTES).output()?;
        super::process::wait_until(
            &format!("the service of {instances} instances"),
            Duration::from_secs(600),
            || {
                super::clock::sleep(Duration::from_millis(500));
                let status: Value =
                    serde_json::from_str(&self.flotilla(&["status", "--json"]).output()?)?;
                let all = status.get("instances").and_then(Value::as_array);
                let serving = |one: &&Value| one.get("is_in_service") == Some(&Value::Bool(true));
                let count = all.map_or(0, |all| all.iter().filter(serving).count());
                Ok(count == usize::from(instances))
            },
        )
    }

    /// The site's repository.
    pub(crate) fn repository(&self) -> PathBuf {
        self.data().join("foreman/site.git")
    }

    /// The files that people change.
    pub(crate) fn workshop(&self) -> PathBuf {
        self.data().join("foreman/workshop/site")
    }

    /// What became of the changes, as JSON, newest first.
    pub(crate) fn captures(&self) -> anyhow::Result<String> {
        self.flotilla(&["captures", "--json", "--limit", "1000"]).output()
    }

    /// The files of the slot in service of an instance.
    pub(crate) fn slot(&self, instance: &str) -> anyhow::Result<PathBuf> {
        let text = self.flotilla(&["status", "--json"]).output()?;
        let status: Value =
            serde_json::from_str(&text).context("`flotilla status` says no JSON")?;
        let colour = status.get("serving").and_then(Value::as_str).unwrap_or("blue");
        Ok(self.data().join("instances").join(instance).join(colour))
    }

    /// The first process of each part, from the lock that it holds.
    pub(crate) fn roots(&self) -> anyhow::Result<Vec<Root>> {
        let mut roots = Vec::new();
        for entry in list(&self.data().join("run"))? {
            let name = entry.file_stem().unwrap_or_default().to_string_lossy();
            let part = if name.starts_with("agent-") { "agents" } else { &name };
            push_holder(&mut roots, part, &entry);
        }
        for instance in list(&self.data().join("instances"))? {
            for colour in ["blue", "green"] {
                push_holder(&mut roots, "slots", &instance.join(colour).join("slot.lock"));
            }
        }
        if !roots.iter().any(|(part, _)| part == "database") {
            bail!("the processes of the fleet in `{}` are not found", self.directory.display());
        }
        Ok(roots)
    }

    /// The port of a part, by the name of its role.
    pub(crate) fn port(&self, role: &str) -> anyhow::Result<u64> {
        let ports = self.read("ports.json")?;
        let port = ports.pointer(&format!("/roles/{role}")).and_then(Value::as_u64);
        port.with_context(|| format!("`{role}` has no port"))
    }

    /// A secret, by its name.
    pub(crate) fn secret(&self, name: &str) -> anyhow::Result<String> {
        Ok(self.flotilla(&["secrets", "show", name]).output()?.trim().to_owned())
    }

    /// The directory of media where there is no bucket.
    pub(crate) fn media(&self) -> PathBuf {
        self.data().join("media")
    }

    /// Stops it and keeps its data.
    pub(crate) fn stop(&self) -> anyhow::Result<()> {
        self.flotilla(&["down"]).output().map(drop)
    }

    /// Starts it again.
    pub(crate) fn resume(&self) -> anyhow::Result<()> {
        self.flotilla(&["up"]).minutes(UP_MINUTES).output().map(drop)
    }

    /// How many statements the database was sent since it began, this one included.
    pub(crate) fn questions(&self) -> anyhow::Result<u64> {
        let text = Program::new("mariadb")
            .args(["--host=127.0.0.1", "--user=wordpress", "--skip-column-names", "--batch"])
            .arg(format!("--port={}", self.port("database")?))
            .env("MYSQL_PWD", self.secret("database_password")?)
            .args(["--execute", "SHOW GLOBAL STATUS LIKE 'Questions'"])
            .output()?;
        let count = text.split_whitespace().nth(1).and_then(|count| count.parse::<u64>().ok());
        count.with_context(|| format!("no count of questions: {text}"))
    }

    fn read(&self, name: &str) -> anyhow::Result<Value> {
        let path = self.data().join(name);
        let text = std::fs::read(&path).with_context(|| format!("cannot read {path:?}"))?;
        Ok(serde_json::from_slice(&text)?)
    }

    fn data(&self) -> PathBuf {
        self.directory.join(".flotilla")
    }

    fn flotilla(&self, args: &[&str]) -> Program {
        let name = args.first().copied().unwrap_or_default();
        Program::new(&self.program)
            .arg("-C")
            .arg(&self.directory)
            .args(args)
            .called(format!("flotilla {name}"))
    }

    /// Keeps the WordPress that was downloaded for the next fleet.
    fn keep_source(&self) -> anyhow::Result<()> {
        let kept = kept_source();
        if kept.exists() {
            return Ok(());
        }
        let partly = kept.with_extension("partly");
        let archive = partly.with_extension("tar");
        std::fs::create_dir_all(&partly)?;
        Program::new("git")
            .arg("--git-dir")
            .arg(self.repository())
            .args(["archive", "--format=tar", "--output"])
            .arg(&archive)
            .arg("HEAD")
            .run()?;
        Program::new("tar").arg("-C").arg(&partly).arg("-xf").arg(&archive).run()?;
        std::fs::remove_file(&archive)?;
        std::fs::rename(&partly, &kept).context("cannot keep the WordPress of the fleet")
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // After `destroy` there is nothing, and after a failure the data shall be looked at.
        if self.data().exists() {
            drop(self.flotilla(&["down"]).output());
        }
    }
}

fn kept_source() -> PathBuf {
    directory().join("wordpress")
}

fn source() -> String {
    let kept = kept_source();
    if kept.exists() { kept.to_string_lossy().into_owned() } else { "debian".to_owned() }
}

fn list(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory)
        .with_context(|| format!("cannot read `{}`", directory.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

fn push_holder(roots: &mut Vec<Root>, part: &str, lock: &Path) {
    let pid = std::fs::read_to_string(lock).ok().and_then(|text| text.trim().parse().ok());
    // Each part leads a session; a lock that was left behind names a process that is gone.
    if let Some(pid) = pid.filter(|pid| leads_session(*pid)) {
        roots.push((part.to_owned(), pid));
    }
}
