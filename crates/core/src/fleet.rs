//! The foreman's one document: what the fleet shall be, and the deploy that is changing it.
//!
//! It is stored whole in one transaction; that transaction is the commit point of every step.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::deploy::{Deploy, Request};
use crate::error::{ErrorKind, Failure};
use crate::id::{DeployId, Generation, InstanceName, Millis, Revision};
use crate::report::Desired;
use crate::slot::{SlotName, Slots};
use crate::table::Table;

/// A revision together with what the foreman read out of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The commit.
    pub revision: Revision,
    /// WordPress' `$wp_db_version` in it; `None` when it could not be read.
    pub db_version: Option<u64>,
    /// The digest of the settings it was ordered with; empty when any will do. The same revision
    /// with other settings is another release: its slots are prepared anew.
    #[serde(default)]
    pub settings: String,
}

/// Whether an instance of the inventory shall serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum Member {
    /// It shall.
    Active,
    /// It gets no new requests; when its last one has ended it is taken out of the inventory.
    Leaving {
        /// When it was told to leave.
        since: Millis,
    },
}

/// The fleet as the foreman wants it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Fleet {
    /// Rises whenever [`Self::desired`] changes.
    pub generation: Generation,
    /// The colour that serves.
    pub serving: SlotName,
    /// What each colour holds.
    pub releases: Slots<Option<Release>>,
    /// The generation in which each colour was last given another release: what a report of an older
    /// one says about that colour no longer counts.
    #[serde(default)]
    pub changed_in: Slots<Generation>,
    /// The last known version of the database: that of the release that came into service last, or
    /// what was read after an upgrade. A release that does not tell its own does not make the fleet
    /// forget it.
    #[serde(default)]
    pub db_version: Option<u64>,
    /// The newest upstream table; the balancer follows.
    pub table: Table,
    /// The inventory.
    pub instances: BTreeMap<InstanceName, Member>,
    /// The deploy under way, at most one.
    pub deploy: Option<Deploy>,
    /// The deploy that starts next; a newer request takes its place.
    pub queued: Option<Request>,
    /// The highest deploy number given out.
    pub last_deploy: DeployId,
}

/// What became of a request to deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// It starts now.
    Started,
    /// It waits for the deploy with this number.
    Queued {
        /// The deploy under way.
        behind: DeployId,
        /// A request that waited before and now never starts.
        superseded: Option<Request>,
    },
}

/// What somebody has called off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalledOff {
    /// The deploy under way.
    pub request: Request,
    /// The one that waited behind it and now never starts.
    pub waiting: Option<Request>,
}

impl Fleet {
    /// Returns what every agent shall converge to.
    #[must_use]
    pub fn desired(&self) -> Desired {
        let revision = |release: &Option<Release>| release.as_ref().map(|one| one.revision.clone());
        let settings = |release: &Option<Release>| {
            release.as_ref().map_or_else(String::new, |one| one.settings.clone())
        };
        Desired {
            generation: self.generation,
            serving: self.serving,
            revisions: Slots {
                blue: revision(&self.releases.blue),
                green: revision(&self.releases.green),
            },
            settings: Slots {
                blue: settings(&self.releases.blue),
                green: settings(&self.releases.green),
            },
        }
    }

    /// Returns the release that serves.
    #[must_use]
    pub const fn serving_release(&self) -> Option<&Release> {
        self.releases.get(self.serving).as_ref()
    }

    /// Returns the database version that the serving release works with, as far as it is known.
    pub(crate) fn code_version(&self) -> Option<u64> {
        self.serving_release().and_then(|release| release.db_version).or(self.db_version)
    }

    /// Returns the highest version that the database is known to have: an upgrade whose release
    /// never served has raised it too.
    fn database(&self) -> Option<u64> {
        self.code_version().max(self.db_version)
    }

    /// Takes the version that was read from the database; returns whether that is news.
    pub fn learn_database(&mut self, version: Option<u64>) -> bool {
        let is_news = version.is_some() && version != self.db_version;
        if is_news {
            self.db_version = version;
        }
        is_news
    }

    /// Takes a request to deploy: starts it, or keeps it as the next one.
    ///
    /// # Errors
    /// Refused when the release serves already, when another deploy is under way and the request
    /// does not wait, and when old code would meet a newer database without being forced.
    pub fn request(&mut self, request: Request, now: Millis) -> Result<Accepted, Failure> {
        if let Some(current) = &self.deploy {
            let behind = current.request.id;
            if !request.waits {
                return Err(Failure::new(
                    ErrorKind::Refused,
                    format!(
                        "deploy {behind} of `{}` is under way",
                        current.request.release.revision.short()
                    ),
                )
                .with_hint(
                    "`flotilla status --watch` shows how far it is, `flotilla rollback` calls it off",
                ));
            }
            let superseded = self.queued.replace(request);
            return Ok(Accepted::Queued { behind, superseded });
        }
        self.check(&request)?;
        self.start(request, now);
        Ok(Accepted::Started)
    }

    /// Says whether a request may start now.
    ///
    /// # Errors
    /// As [`Self::request`], but for the deploy under way.
    pub fn check(&self, request: &Request) -> Result<(), Failure> {
        let Some(serving) = self.serving_release() else { return Ok(()) };
        let is_same = serving.revision == request.release.revision
            && serving.settings == request.release.settings;
        if is_same && !request.is_forced {
            return Err(Failure::new(
                ErrorKind::Refused,
                format!("revision `{}` is already serving", serving.revision.short()),
            )
            .with_hint(
                "--force deploys it once more, as does a deploy after a change of flotilla.toml",
            ));
        }
        check_database(&request.release, self.database(), request.is_forced)
    }

    /// Ends the deploy under way before its time: what no visitor has seen is given up, what serves
    /// is swapped back once the cutover is confirmed. A request that waits behind it is given up too:
    /// who goes back does not want the next release. `None` when there is no deploy.
    ///
    /// # Errors
    /// Refused when nothing served before it, and when the release before would
    /// meet a newer database without being forced.
    pub fn call_off(
        &mut self,
        author: &str,
        is_forced: bool,
    ) -> Result<Option<CalledOff>, Failure> {
        let before = self.deploy.as_ref().map(|deploy| deploy.slot.other());
        let before = before.and_then(|slot| self.releases.get(slot).clone());
        let Some(deploy) = &mut self.deploy else { return Ok(None) };
        let Some(before) = before else {
            return Err(Failure::new(ErrorKind::Refused, "nothing served before this deploy")
                .with_hint("`flotilla deploy REVISION` deploys another commit when it has ended"));
        };
        if deploy.phase.may_have_upgraded() {
            check_database(&before, deploy.request.release.db_version, is_forced)?;
        }
        deploy.called_off.get_or_insert_with(|| format!("called off by {author}"));
        Ok(Some(CalledOff { request: deploy.request.clone(), waiting: self.queued.take() }))
    }

    /// Wants another release in a colour.
    pub(crate) fn put(&mut self, slot: SlotName, release: Option<Release>) {
        *self.releases.get_mut(slot) = release;
        self.generation = self.generation.next();
        *self.changed_in.get_mut(slot) = self.generation;
    }

    pub(crate) fn start(&mut self, request: Request, now: Millis) {
        let slot = self.serving.other();
        let displaced = self.releases.get(slot).clone();
        self.deploy = Some(Deploy::new(request, slot, displaced, now));
    }

    /// Sets how many instances the inventory has: adds the lowest free numbers, or lets the highest
    /// leave. Returns whether anything changed.
    pub fn resize(&mut self, count: u16, now: Millis) -> bool {
        let before = self.instances.clone();
        let active = |fleet: &Self| {
            fleet.instances.values().filter(|member| **member == Member::Active).count()
        };
        while active(self) > usize::from(count) {
            let last = self
                .instances
                .iter_mut()
                .filter(|(_, member)| **member == Member::Active)
                .max_by_key(|(name, _)| name.number());
            let Some((_, member)) = last else { break };
            *member = Member::Leaving { since: now };
        }
        let mut number = 1;
        while active(self) < usize::from(count) {
            self.instances.entry(InstanceName::numbered(number)).or_insert(Member::Active);
            number += 1;
        }
        before != self.instances
    }
}

/// Refuses old code on a newer database.
fn check_database(release: &Release, now: Option<u64>, is_forced: bool) -> Result<(), Failure> {
    if let (Some(now), Some(then)) = (now, release.db_version)
        && then < now
        && !is_forced
    {
        return Err(Failure::new(
            ErrorKind::Refused,
            format!(
                "revision `{}` expects database version {then}, but the database was upgraded to \
                 {now}",
                release.revision.short()
            ),
        )
        .with_hint(
            "old code on a newer database can lock people out and write old data; restore a \
             database backup with it, or use --force if you know that this pair works",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resizing_adds_the_lowest_free_names_and_lets_the_highest_leave() {
        let mut fleet = Fleet::default();
        assert!(fleet.resize(3, Millis(1)));
        assert!(fleet.resize(1, Millis(2)));
        assert_eq!(fleet.instances[&InstanceName::numbered(1)], Member::Active);
        assert_eq!(
            fleet.instances[&InstanceName::numbered(3)],
            Member::Leaving { since: Millis(2) }
        );
        assert!(fleet.resize(2, Millis(3)));
        assert_eq!(
            fleet.instances[&InstanceName::numbered(4)],
            Member::Active,
            "leaving names are not reused"
        );
    }
}
