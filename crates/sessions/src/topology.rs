//! Which nodes own a key, also while the list of nodes changes.
//!
//! Each key has [`Topology::copies`] owners among the nodes of the list, found by rendezvous hashing:
//! a node that joins or leaves changes the owners only of keys that it gets or had.
//!
//! After a change the former owners matter in two ways. For [`GRACE`], in which other gateways may
//! not know of the change yet, they are owners as well: everything is read from and written to the
//! former and the new ones, so that gateways with either list see each other's writes and locks.
//! After that they are asked only when the new owners do not agree on an item, which is then moved.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use crate::store::Store;

/// How many owners a key usually has. After a change of the list it has up to twice as many.
pub(crate) const OWNERS_USUAL: usize = 2;
/// How long after a change of the list other gateways may still use the former one.
pub(crate) const GRACE: Duration = Duration::from_secs(60);
/// How many former lists are remembered.
const FORMER_MAX: usize = 4;

/// A store, shared between lists.
pub(crate) type Node = Arc<dyn Store>;
/// Owners of a key, in the order in which locks are taken.
pub(crate) type Owners<'a> = SmallVec<[&'a Node; OWNERS_USUAL]>;

/// The present list of nodes, and former ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Topology {
    present: Ring,
    /// The latest first.
    former: Vec<Former>,
}

#[derive(Debug, Clone)]
struct Former {
    ring: Ring,
    replaced_at: Instant,
}

#[derive(Debug, Clone, Default)]
struct Ring {
    copies: usize,
    places: Vec<Place>,
}

#[derive(Debug, Clone)]
struct Place {
    seed: u64,
    node: Node,
}

/// A node, and how much a key is drawn to it.
#[derive(Debug, Clone, Copy)]
struct Scored<'a> {
    score: u64,
    node: &'a Node,
}

impl Topology {
    /// Makes a topology of one list; `copies` is one or two.
    pub(crate) fn new(nodes: Vec<Node>, copies: usize) -> Self {
        Self { present: Ring::new(nodes, copies), former: Vec::new() }
    }

    /// Returns the topology after a change of the list at the time `now`; former lists are
    /// remembered for `memory`.
    pub(crate) fn changed(&self, nodes: Vec<Node>, now: Instant, memory: Duration) -> Self {
        let mut former = vec![Former { ring: self.present.clone(), replaced_at: now }];
        former.extend(self.former.iter().cloned());
        // The very first list is empty and owned nothing.
        former.retain(|one| !one.ring.places.is_empty());
        let mut changed = Self { present: Ring::new(nodes, self.present.copies), former };
        changed.forget(now, memory);
        changed
    }

    /// Forgets former lists that are older than `memory`; returns whether there were any.
    pub(crate) fn forget(&mut self, now: Instant, memory: Duration) -> bool {
        let before = self.former.len();
        self.former.truncate(FORMER_MAX);
        self.former.retain(|one| now.duration_since(one.replaced_at) < memory);
        self.former.len() < before
    }

    /// Returns whether former lists are remembered.
    pub(crate) const fn has_former(&self) -> bool {
        !self.former.is_empty()
    }

    /// Returns the nodes of the present list.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.present.places.iter().map(|place| &place.node)
    }

    /// Returns the nodes of all lists, each once.
    pub(crate) fn all_nodes(&self) -> Vec<&Node> {
        let mut nodes: Vec<&Node> = Vec::new();
        let rings = std::iter::once(&self.present).chain(self.former.iter().map(|one| &one.ring));
        for place in rings.flat_map(|ring| &ring.places) {
            add(&mut nodes, &place.node);
        }
        nodes
    }

    /// Returns the owners of a key: all of them are read and written.
    ///
    /// Within the grace, former owners come first: that is the order which gateways agree on,
    /// whether they know of the change or not.
    pub(crate) fn owners(&self, key: &[u8], now: Instant) -> Owners<'_> {
        let hash = hash(key);
        let mut owners = Owners::new();
        if let Some(latest) = self.former.first()
            && now.duration_since(latest.replaced_at) < GRACE
        {
            latest.ring.add_owners(hash, &mut owners);
        }
        self.present.add_owners(hash, &mut owners);
        owners
    }

    /// Returns who owned a key before and does not any more.
    pub(crate) fn former_owners(&self, key: &[u8], owners: &Owners<'_>) -> Vec<&Node> {
        let hash = hash(key);
        let mut former = Owners::new();
        for one in &self.former {
            one.ring.add_owners(hash, &mut former);
        }
        former.retain(|node| !owners.iter().any(|owner| is_same(owner, node)));
        former.into_vec()
    }
}

impl Ring {
    fn new(nodes: Vec<Node>, copies: usize) -> Self {
        let place = |node: Node| Place { seed: hash(node.name().as_bytes()), node };
        Self { copies, places: nodes.into_iter().map(place).collect() }
    }

    /// Adds the nodes with the highest scores for a key.
    fn add_owners<'a>(&'a self, hash: u64, owners: &mut Owners<'a>) {
        let mut best: [Option<Scored<'_>>; 2] = [None; 2];
        let [first, second] = &mut best;
        for place in &self.places {
            let scored = Scored { score: mix(place.seed ^ hash), node: &place.node };
            if first.is_none_or(|best| scored.score > best.score) {
                *second = first.replace(scored);
            } else if second.is_none_or(|best| scored.score > best.score) {
                *second = Some(scored);
            }
        }
        for Scored { node, .. } in best.into_iter().flatten().take(self.copies) {
            if !owners.iter().any(|owner| is_same(owner, node)) {
                owners.push(node);
            }
        }
    }
}

fn add<'a>(nodes: &mut Vec<&'a Node>, node: &'a Node) {
    if !nodes.iter().any(|known| is_same(known, node)) {
        nodes.push(node);
    }
}

/// Returns whether two are the same store.
pub(crate) fn is_same(one: &Node, other: &Node) -> bool {
    Arc::ptr_eq(one, other)
}

/// FNV-1a with a finaliser. It must be the same in every gateway of every version.
fn hash(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// The finaliser of `SplitMix64`: each bit of the input changes half of the output.
const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::Memory;

    fn nodes(names: &[&str]) -> Vec<Node> {
        names.iter().map(|name| Arc::new(Memory::new(name)) as Node).collect()
    }

    fn names(owners: &[&Node]) -> Vec<String> {
        owners.iter().map(|node| node.name().to_owned()).collect()
    }

    #[tokio::test]
    async fn each_key_has_two_owners_and_all_nodes_own_about_as_much() {
        let topology = Topology::new(nodes(&["a:1", "b:1", "c:1", "d:1"]), 2);
        let mut owned = std::collections::HashMap::new();
        for number in 0..4000 {
            let key = format!("memc.sess.key.{number}");
            let owners = topology.owners(key.as_bytes(), Instant::now());
            assert_eq!(owners.len(), 2);
            assert!(!is_same(owners[0], owners[1]));
            for owner in names(&owners) {
                *owned.entry(owner).or_insert(0) += 1;
            }
        }
        assert!(owned.values().all(|count| (1800..2200).contains(count)), "{owned:?}");
    }

    #[tokio::test]
    async fn a_node_that_leaves_changes_only_keys_that_it_owned() {
        let (all, now) = (nodes(&["a:1", "b:1", "c:1", "d:1"]), Instant::now());
        let before = Topology::new(all.clone(), 2);
        let after = Topology::new(all[..3].to_vec(), 2);
        for number in 0..1000 {
            let key = format!("{number}");
            let owners = before.owners(key.as_bytes(), now);
            if owners.iter().all(|owner| owner.name() != "d:1") {
                assert_eq!(names(&owners), names(&after.owners(key.as_bytes(), now)));
            }
        }
    }

    #[tokio::test]
    async fn with_one_node_there_is_one_owner() {
        let topology = Topology::new(nodes(&["a:1"]), 2);
        assert_eq!(names(&topology.owners(b"k", Instant::now())), ["a:1"]);
    }

    #[tokio::test]
    async fn former_owners_are_owners_for_the_grace_and_then_remembered() {
        let (now, memory) = (Instant::now(), Duration::from_secs(3600));
        let old = Topology::new(nodes(&["a:1", "b:1"]), 2);
        let changed = old.changed(nodes(&["c:1", "d:1"]), now, memory);
        let owners = changed.owners(b"k", now);
        assert_eq!(names(&owners)[..2], names(&old.owners(b"k", now))[..]);
        assert_eq!(owners.len(), 4);
        assert!(changed.former_owners(b"k", &owners).is_empty());
        let later = now + GRACE;
        let owners = changed.owners(b"k", later);
        assert_eq!(owners.len(), 2);
        assert_eq!(changed.former_owners(b"k", &owners).len(), 2);
        let mut forgetful = changed.clone();
        assert!(forgetful.forget(now + memory, memory));
        assert!(!forgetful.has_former());
    }

    #[test]
    fn the_hash_is_the_one_that_other_gateways_use() {
        assert_eq!(hash(b""), mix(0xcbf2_9ce4_8422_2325));
        assert_eq!(hash(b"memc.sess.key.abc"), 6_793_469_717_698_041_409);
    }
}
