//! Which upstream gets a request: the less loaded of two that are picked at random.

use crate::random::Random;

/// What the choice has to know of one upstream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Whether health lets it have requests.
    pub(crate) is_usable: bool,
    /// Whether this request failed there already.
    pub(crate) is_avoided: bool,
    /// Requests that may occupy a worker.
    pub(crate) busy: u64,
    /// Requests it works on at a time, at least one.
    pub(crate) workers_max: u32,
    /// Whether there is no room for one more.
    pub(crate) is_full: bool,
}

impl Load {
    /// Compares the share of workers that is taken, without dividing; what is full is heavier than all.
    fn is_lighter_than(&self, other: &Self) -> bool {
        if self.is_full != other.is_full {
            return other.is_full;
        }
        u128::from(self.busy) * u128::from(other.workers_max)
            < u128::from(other.busy) * u128::from(self.workers_max)
    }
}

/// Chooses one of `count` upstreams, or none when all that may be used are full.
///
/// With `ignore_health`, or when nothing healthy is left, the others are used as well; what is
/// avoided is used only when there is nothing else.
pub(crate) fn choose(
    count: usize,
    ignore_health: bool,
    random: &mut Random,
    load: impl Fn(usize) -> Load,
) -> Option<usize> {
    let healthy = |one: &Load| (ignore_health || one.is_usable) && !one.is_avoided;
    if let Some(index) = pick_two(count, random, |index| Some(load(index)).filter(healthy)) {
        return Some(index);
    }
    let classes: [&dyn Fn(&Load) -> bool; 3] = [&healthy, &|one| !one.is_avoided, &|_| true];
    let start = random.below(count);
    for class in classes {
        let mut best: Option<(usize, Load)> = None;
        for index in (start..count).chain(0..start) {
            let one = load(index);
            let is_lighter = best.is_none_or(|(_, lightest)| one.is_lighter_than(&lightest));
            if class(&one) && is_lighter {
                best = Some((index, one));
            }
        }
        if let Some((index, one)) = best {
            return (!one.is_full).then_some(index);
        }
    }
    None
}

/// Picks two at random and returns the lighter one, when neither is ruled out or full.
fn pick_two(
    count: usize,
    random: &mut Random,
    load: impl Fn(usize) -> Option<Load>,
) -> Option<usize> {
    let first = random.below(count);
    let second = match random.below(count.checked_sub(1)?) {
        other if other >= first => (other + 1).min(count - 1),
        other => other,
    };
    let (one, other) = (load(first)?, load(second)?);
    let (index, chosen) = if other.is_lighter_than(&one) { (second, other) } else { (first, one) };
    (!chosen.is_full).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Load =
        Load { is_usable: true, is_avoided: false, busy: 0, workers_max: 2, is_full: false };

    fn shares(loads: &[Load], ignore_health: bool) -> Vec<usize> {
        let mut random = Random::from_seed(42);
        let mut counts = vec![0; loads.len()];
        for _ in 0..1000 {
            if let Some(index) = choose(loads.len(), ignore_health, &mut random, |i| loads[i]) {
                counts[index] += 1;
            }
        }
        counts
    }

    #[test]
    fn equal_upstreams_share_the_requests() {
        assert!(shares(&[FREE; 4], false).iter().all(|count| *count > 150));
    }

    #[test]
    fn the_most_loaded_gets_nothing_and_load_is_relative_to_workers() {
        let busy = Load { busy: 3, ..FREE };
        let big = Load { busy: 4, workers_max: 8, ..FREE };
        let counts = shares(&[busy, big, FREE], false);
        assert_eq!(counts[0], 0);
        assert!(counts[1] > 0 && counts[2] > counts[1]);
    }

    #[test]
    fn unhealthy_and_avoided_ones_are_used_only_when_nothing_else_is_left() {
        let bad = Load { is_usable: false, ..FREE };
        let avoided = Load { is_avoided: true, ..FREE };
        assert_eq!(shares(&[bad, FREE, avoided], false), [0, 1000, 0]);
        assert_eq!(shares(&[bad, avoided], false), [1000, 0]);
        assert_eq!(shares(&[avoided], false), [1000]);
        assert!(shares(&[bad, FREE], true).iter().all(|count| *count > 300));
    }

    #[test]
    fn a_full_upstream_is_passed_over_and_a_full_fleet_yields_none() {
        let full = Load { is_full: true, ..FREE };
        assert_eq!(shares(&[full, FREE], false), [0, 1000]);
        assert_eq!(shares(&[full, full], false), [0, 0]);
        let bad = Load { is_usable: false, ..FREE };
        assert_eq!(shares(&[full, bad], false), [0, 0]);
        assert_eq!(shares(&[], false), Vec::<usize>::new());
    }
}
