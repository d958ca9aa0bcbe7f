//! One request of a visitor with its answer, and what must hold of many.

use std::collections::BTreeMap;
use std::time::Duration;

/// Endings that begin alike are one.
const ENDING_MAX: usize = 60;

/// What a visitor wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// To see a page.
    Page,
    /// To place an order.
    Order,
    /// To see a page that a broken release of the test fails at.
    Probe,
}

/// A request and what became of it. Times count from the beginning of the load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// What was wanted.
    pub kind: Kind,
    /// When the request began to be sent.
    pub started: Duration,
    /// When the answer had been read to its end, or was given up.
    pub ended: Duration,
    /// What was wrong with it, if anything was.
    pub fault: Option<String>,
    /// Whether the answer had begun and broke off, so that nobody could ask again elsewhere.
    pub broke_off: bool,
    /// The version of the shop that made the answer, as the answer itself says.
    pub version: Option<String>,
    /// The revision that made it, as its header says.
    pub revision: Option<String>,
    /// The instance that took the order.
    pub instance: Option<String>,
    /// The reference of the order that was sent.
    pub reference: Option<String>,
    /// The number of the order that was acknowledged.
    pub order: Option<u64>,
}

/// A request that an older release served although a newer one had answered before it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// The request.
    pub request: Exchange,
    /// When the first answer of a newer release had ended.
    pub newer_since: Duration,
}

/// Counts requests by kind and by what they ended with.
#[must_use]
pub fn tally(exchanges: &[Exchange]) -> BTreeMap<(Kind, String), usize> {
    let mut counts = BTreeMap::new();
    for exchange in exchanges {
        let ending = exchange.fault.as_deref().unwrap_or("ok").chars().take(ENDING_MAX).collect();
        *counts.entry((exchange.kind, ending)).or_insert(0) += 1;
    }
    counts
}

/// Returns the requests that failed.
#[must_use]
pub fn failed(exchanges: &[Exchange]) -> Vec<&Exchange> {
    exchanges.iter().filter(|exchange| exchange.fault.is_some()).collect()
}

/// Returns the requests that failed although nothing of them was on its way while something was
/// away: between `from` and `to`.
#[must_use]
pub fn failed_outside(exchanges: &[Exchange], from: Duration, to: Duration) -> Vec<&Exchange> {
    failed(exchanges).into_iter().filter(|one| one.ended < from || one.started > to).collect()
}

/// Returns every request that was served by an older release and began after an answer of a newer
/// one had ended. `order` names the versions in the order in which they came into service, each
/// once; versions that it does not name are not looked at.
#[must_use]
pub fn stale(exchanges: &[Exchange], order: &[String]) -> Vec<Stale> {
    let rank: BTreeMap<&str, usize> =
        order.iter().enumerate().map(|(rank, version)| (version.as_str(), rank)).collect();
    let rank_of = |exchange: &Exchange| rank.get(exchange.version.as_deref()?).copied();
    // For each rank: when the first answer of a later one had ended.
    let mut newer_since = vec![Duration::MAX; order.len() + 1];
    for exchange in exchanges {
        if let Some(since) = rank_of(exchange).and_then(|rank| newer_since.get_mut(rank)) {
            *since = (*since).min(exchange.ended);
        }
    }
    let mut earliest = Duration::MAX;
    for since in newer_since.iter_mut().rev() {
        let own = std::mem::replace(since, earliest);
        earliest = earliest.min(own);
    }
    let found = exchanges.iter().filter_map(|exchange| {
        let since = *newer_since.get(rank_of(exchange)?)?;
        (exchange.started > since).then(|| Stale { request: exchange.clone(), newer_since: since })
    });
    found.collect()
}

/// Returns every request of another version that lies wholly within the time in which `version`
/// served: after its first answer had ended and before its last request began. For a release that
/// came and was taken back.
#[must_use]
pub fn between<'a>(exchanges: &'a [Exchange], version: &str) -> Vec<&'a Exchange> {
    let is_it = |exchange: &&Exchange| exchange.version.as_deref() == Some(version);
    let first = exchanges.iter().filter(is_it).map(|one| one.ended).min();
    let last = exchanges.iter().filter(is_it).map(|one| one.started).max();
    let (Some(first), Some(last)) = (first, last) else { return Vec::new() };
    let others = exchanges.iter().filter(|one| one.version.is_some() && !is_it(one));
    others.filter(|one| one.started > first && one.ended < last).collect()
}

/// Returns the versions whose answers name more than one revision, or another than they should.
#[must_use]
pub fn mixed(exchanges: &[Exchange]) -> BTreeMap<String, Vec<String>> {
    let mut revisions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for exchange in exchanges {
        if let (Some(version), Some(revision)) = (&exchange.version, &exchange.revision) {
            let known = revisions.entry(version.clone()).or_default();
            if !known.contains(revision) {
                known.push(revision.clone());
            }
        }
    }
    revisions.retain(|_, known| known.len() > 1);
    revisions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(version: &str, started: u64, ended: u64) -> Exchange {
        Exchange {
            kind: Kind::Page,
            started: Duration::from_millis(started),
            ended: Duration::from_millis(ended),
            fault: None,
            broke_off: false,
            version: Some(version.to_owned()),
            revision: None,
            instance: None,
            reference: None,
            order: None,
        }
    }

    fn order() -> Vec<String> {
        ["1", "2", "3"].map(str::to_owned).into()
    }

    #[test]
    fn a_request_that_began_before_the_new_release_answered_is_not_stale() {
        let all =
            [served("1", 0, 90), served("2", 10, 50), served("1", 50, 60), served("3", 70, 80)];
        assert_eq!(stale(&all, &order()), []);
    }

    #[test]
    fn a_request_of_any_older_release_after_a_newer_answer_is_stale() {
        let all =
            [served("3", 0, 40), served("1", 41, 60), served("2", 39, 60), served("9", 80, 90)];
        let found = stale(&all, &order());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].request, all[1]);
        assert_eq!(found[0].newer_since, Duration::from_millis(40));
    }

    #[test]
    fn a_release_that_was_taken_back_serves_in_one_piece() {
        let mut all = vec![served("1", 0, 30), served("2", 10, 40), served("2", 60, 70)];
        all.push(served("1", 39, 50));
        all.push(served("1", 45, 61));
        assert_eq!(between(&all, "2"), Vec::<&Exchange>::new());
        all.push(served("1", 41, 59));
        assert_eq!(between(&all, "2"), [&all[5]]);
    }

    #[test]
    fn a_version_with_two_revisions_is_mixed() {
        let mut all = [served("1", 0, 1), served("1", 0, 1)];
        assert!(mixed(&all).is_empty());
        all[0].revision = Some("a".to_owned());
        all[1].revision = Some("b".to_owned());
        assert_eq!(mixed(&all)["1"], ["a", "b"]);
    }
}
