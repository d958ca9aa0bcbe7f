//! A document that is older than the fleet: its store was lost, or put back from a backup.
//!
//! What serves goes on serving. Numbers only rise over the life of a site, so one that comes from
//! outside and is higher than the document's own shows that the document is behind.

use crate::deploy::Request;
use crate::fleet::{Fleet, Member, Release};
use crate::id::Generation;
use crate::table::Table;

impl Fleet {
    /// Takes over what the balancer serves, when its table is newer than the document; returns the
    /// deploy that the document had under way, which nothing is known of any more. `seen` is the
    /// highest generation that an agent has told of.
    pub fn adopt(&mut self, table: &Table, seen: Generation) -> Option<Request> {
        if table.version <= self.table.version {
            return None;
        }
        self.generation = self.generation.max(seen).next();
        self.changed_in.blue = self.generation;
        self.changed_in.green = self.generation;
        if let (Some(revision), Some(upstream)) = (&table.revision, table.upstreams.first()) {
            let is_same = |one: &&Release| one.revision == *revision;
            let here = self.releases.get(upstream.slot).as_ref().filter(is_same);
            let there = self.releases.get(upstream.slot.other()).as_ref().filter(is_same);
            let release = Release {
                revision: revision.clone(),
                db_version: here.or(there).and_then(|release| release.db_version),
                settings: here.map_or_else(String::new, |release| release.settings.clone()),
            };
            self.serving = upstream.slot;
            if self.serving_release() != Some(&release) {
                self.put(upstream.slot, Some(release));
            }
            for upstream in &table.upstreams {
                self.instances.entry(upstream.instance.clone()).or_insert(Member::Active);
            }
        }
        self.table = table.clone();
        self.deploy.take().map(|deploy| deploy.request)
    }

    /// Makes the document's generation higher than one that an agent has taken.
    pub(crate) fn overtake(&mut self, generation: Generation) {
        if generation > self.generation {
            self.generation = generation.next();
            self.changed_in.blue = self.generation;
            self.changed_in.green = self.generation;
        }
    }
}
