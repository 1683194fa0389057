//! The best candidates so far, by estimate.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::LazyLock;

use crate::math::queue::{ordered, unordered};

/// Offers that are gathered before the first pruning, at least.
const FIRST_ROOM: usize = 128;
/// As many candidates at most are kept in order, so that at any time only what is nearer than the
/// last of them is offered. More take as long in order as gathered. Trials: docs/trials.md,
/// "candidates".
const FEW: usize = 48;
/// It decides where the table of met ids puts them. Each process has another one, so that nobody
/// can choose ids that collide. No answer depends on it.
static KEY: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0) | 1);
/// No id: ids have 32 bits.
const NONE: u64 = u64::MAX;

/// Keeps the `keep` best of all candidates offered, each item once.
///
/// A few are kept in order. More gather in a buffer that is pruned when it is full, so that most
/// offers cost one push. An item offered twice (from two leaves) keeps its smaller estimate.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    /// The estimate of each, as a number in the same order, above its id. If they are few, nearest
    /// first, each item once.
    buffer: Vec<u64>,
    keep: usize,
    threshold: f32,
    /// How many at the front of the buffer are sorted, each item once.
    sorted: usize,
    /// Ids met while pruning: a hash table.
    met: Vec<u64>,
    /// What was among the best before, and is to be compared in any case.
    kept_back: Vec<u64>,
}

impl Candidates {
    /// Forgets all candidates.
    pub(crate) fn begin(&mut self, keep: usize) {
        self.buffer.clear();
        self.kept_back.clear();
        (self.keep, self.threshold, self.sorted) = (keep.max(1), f32::INFINITY, 0);
    }

    fn are_few(&self) -> bool {
        self.keep <= FEW
    }

    /// Estimates above this cannot be among the best.
    pub(crate) fn threshold(&self) -> f32 {
        self.threshold
    }

    pub(crate) fn offer(&mut self, id: u32, estimate: f32) {
        // Not `<=`: an estimate that is not a number is kept, and loses against all others.
        if estimate > self.threshold {
            return;
        }
        let candidate = packed(id, estimate);
        if self.are_few() {
            insert_in_order(&mut self.buffer, self.keep, candidate);
            self.sorted = self.buffer.len();
            self.limit();
            return;
        }
        self.buffer.push(candidate);
        if self.buffer.len() >= self.keep.saturating_mul(2).max(FIRST_ROOM) {
            self.prune();
        }
    }

    /// Whether `k` different items, `keep` at most, have an estimate of no more than this.
    pub(crate) fn has_within(&mut self, k: usize, estimate: f32) -> bool {
        // Only enough offers to be that many are worth sorting.
        let limit = packed(u32::MAX, estimate);
        let (sorted, new) = self.buffer.split_at(self.sorted);
        let near = sorted.partition_point(|candidate| *candidate <= limit);
        near >= k
            || near + new.iter().filter(|candidate| **candidate <= limit).count() >= k
                && self.kth(k) <= estimate
    }

    /// An estimate that the k-th candidate does not exceed; infinite if that is not known without
    /// sorting.
    pub(crate) fn kth_at_most(&self, k: usize) -> f32 {
        self.buffer[..self.sorted].get(k.max(1) - 1).map_or(f32::INFINITY, |kth| estimate_of(*kth))
    }

    /// The estimate of the k-th candidate; infinite if there are fewer.
    pub(crate) fn kth(&mut self, k: usize) -> f32 {
        self.prune();
        self.buffer.get(k.max(1) - 1).map_or(f32::INFINITY, |kth| estimate_of(*kth))
    }

    /// Whether there are `keep` different items.
    pub(crate) fn is_full(&mut self) -> bool {
        // Only enough offers to be that many are worth sorting.
        if self.buffer.len() >= self.keep {
            self.prune();
        }
        self.buffer.len() >= self.keep
    }

    /// Keeps what is among the best now, whatever comes later.
    pub(crate) fn keep_back(&mut self) {
        self.prune();
        self.kept_back.extend_from_slice(&self.buffer);
    }

    /// Wants nothing farther than the last of `keep` candidates in order.
    fn limit(&mut self) {
        if self.buffer.len() == self.keep {
            self.threshold = self.buffer.last().map_or(f32::INFINITY, |last| estimate_of(*last));
        }
    }

    /// Leaves the best of each item, up to `keep` items, sorted.
    fn prune(&mut self) {
        if self.sorted == self.buffer.len() {
            return;
        }
        let Self { buffer, met, keep, .. } = self;
        let len = buffer.len();
        // An item comes once for each leaf that holds it, which is rarely more than twice.
        let likely = keep.saturating_mul(2).min(len);
        if likely < len {
            buffer.select_nth_unstable(likely);
        }
        make_room(met, len);
        buffer[..likely].sort_unstable();
        let mut kept = keep_new(buffer, 0..likely, *keep, met, 0);
        if kept < *keep {
            buffer[likely..].sort_unstable();
            kept = keep_new(buffer, likely..len, *keep, met, kept);
        }
        self.buffer.truncate(kept);
        self.sorted = kept;
        self.limit();
    }

    /// The best candidates, `most` of them at most; the `first` nearest of them and then the others
    /// by id, which is the order of their keys.
    pub(crate) fn arranged(&mut self, most: usize, first: usize) -> &[u64] {
        self.prune();
        if !self.kept_back.is_empty() {
            self.buffer.append(&mut self.kept_back);
            (self.keep, self.sorted) = (self.buffer.len().max(FEW + 1), 0);
            self.prune();
        }
        self.buffer.truncate(most);
        // They are in another order from here on, and no more asked about.
        let first = first.min(self.buffer.len());
        let (nearest, others) = self.buffer.split_at_mut(first);
        [nearest, others]
            .into_iter()
            .for_each(|some| some.sort_unstable_by_key(|candidate| id_of(*candidate)));
        &self.buffer
    }
}

/// Puts a candidate in its place among the nearest, `most` of them at most, each item once.
fn insert_in_order(nearest: &mut Vec<u64>, most: usize, candidate: u64) {
    // Loops without an early end, which the processor need not guess.
    let at = nearest.iter().filter(|known| **known < candidate).count();
    let is_known = nearest
        .iter()
        .fold(false, |is_known, known| is_known | (id_of(*known) == id_of(candidate)));
    let end = if is_known {
        nearest.iter().position(|known| id_of(*known) == id_of(candidate)).unwrap_or_default()
    } else if nearest.len() < most {
        nearest.push(candidate);
        nearest.len() - 1
    } else {
        most.saturating_sub(1)
    };
    // What lies at the end goes: the same item, if it was farther, or the farthest one.
    let mut moved = candidate;
    for later in nearest.iter_mut().take(end + 1).skip(at) {
        std::mem::swap(later, &mut moved);
    }
}

/// Moves the first of each item among the sorted candidates in `range` to the end of the `kept`
/// that are at the front, until these are `keep`; how many they are then.
fn keep_new(
    buffer: &mut [u64],
    range: Range<usize>,
    keep: usize,
    met: &mut [u64],
    mut kept: usize,
) -> usize {
    for at in range {
        if kept == keep {
            break;
        }
        if insert(met, id_of(buffer[at])) {
            buffer[kept] = buffer[at];
            kept += 1;
        }
    }
    kept
}

/// An id below its estimate: such numbers sort by estimate.
pub(crate) fn packed(id: u32, estimate: f32) -> u64 {
    u64::from(ordered(estimate)) << 32 | u64::from(id)
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is the id")]
pub(crate) fn id_of(candidate: u64) -> u32 {
    candidate as u32
}

pub(crate) fn estimate_of(candidate: u64) -> f32 {
    unordered((candidate >> 32) as u32)
}

/// Empties a table for so many ids.
pub(crate) fn make_room(table: &mut Vec<u64>, ids: usize) {
    table.clear();
    table.resize((2 * ids).next_power_of_two(), NONE);
}

/// Puts an id into a table that has room; `false` if it is there already.
pub(crate) fn insert(table: &mut [u64], id: u32) -> bool {
    let mask = table.len() - 1;
    let mixed = u64::from(id).wrapping_mul(*KEY);
    let mut at = ((mixed ^ mixed >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize & mask;
    loop {
        match table[at] {
            NONE => {
                table[at] = u64::from(id);
                return true;
            }
            found if found == u64::from(id) => return false,
            _ => at = (at + 1) & mask,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(candidates: &[u64]) -> Vec<u32> {
        candidates.iter().map(|candidate| id_of(*candidate)).collect()
    }

    proptest! {
        #[test]
        fn it_keeps_what_sorting_would_keep(
            offers in prop::collection::vec((0u32..300, -100i16..100), 0..1500),
            keep in 1usize..100,
            k in 1usize..20,
            first in prop::sample::select(vec![0, 3, 64, usize::MAX]),
        ) {
            let mut best = std::collections::BTreeMap::new();
            let mut candidates = Candidates::default();
            candidates.begin(keep);
            for (id, estimate) in offers {
                let estimate = f32::from(estimate);
                candidates.offer(id, estimate);
                let slot = best.entry(id).or_insert(estimate);
                *slot = slot.min(estimate);
            }
            let mut expected: Vec<(f32, u32)> = best.into_iter().map(|(id, estimate)| (estimate, id)).collect();
            expected.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let kth = expected.get(k - 1).map_or(f32::INFINITY, |kth| kth.0);
            if k <= keep && kth.is_finite() {
                prop_assert!(candidates.has_within(k, kth) && !candidates.has_within(k, kth.next_down()));
                prop_assert_eq!(candidates.kth(k), kth);
            }
            expected.truncate(keep);
            let mut expected: Vec<u32> = expected.into_iter().map(|(_, id)| id).collect();
            prop_assert_eq!(candidates.is_full(), expected.len() == keep);
            let split = first.min(expected.len());
            let (nearest, others) = expected.split_at_mut(split);
            nearest.sort_unstable();
            others.sort_unstable();
            prop_assert_eq!(ids(candidates.arranged(usize::MAX, first)), expected);
        }
    }

    /// Whoever chooses ids knows this code, but not the key of the process.
    #[test]
    fn ids_that_are_chosen_to_collide_are_spread_over_the_table() {
        const IDS: usize = 2_000;
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        let collide =
            |by: fn(u64) -> u64| (0..=u32::MAX).filter(move |id| by(u64::from(*id)) & 0xFFFF == 0);
        let families: [Vec<u32>; 5] = [
            collide(|id| id.wrapping_mul(GOLDEN) >> 32).take(IDS).collect(),
            collide(|id| id.wrapping_mul(GOLDEN) >> 48).take(IDS).collect(),
            (0..).take(IDS).collect(),
            (0..).step_by(1 << 16).take(IDS).collect(),
            (0..).take(IDS).map(|id: u32| id.wrapping_mul(0x9E37_79B1)).collect(),
        ];
        for (family, ids) in families.iter().enumerate() {
            let mut table = Vec::new();
            make_room(&mut table, ids.len());
            assert!(
                ids.iter().all(|id| insert(&mut table, *id))
                    && !ids.iter().any(|id| insert(&mut table, *id))
            );
            // Who looks for an id walks to the end of its run of full slots at most.
            let longest = table.split(|slot| *slot == NONE).map(<[u64]>::len).max().unwrap();
            assert!(longest <= 200, "family {family}, key {:#x}: {longest} slots in a row", *KEY);
        }
    }

    #[test]
    fn estimates_that_are_not_numbers_come_last() {
        let mut candidates = Candidates::default();
        candidates.begin(2);
        for (id, estimate) in [(1, f32::NAN), (2, f32::INFINITY), (3, 1.0)] {
            candidates.offer(id, estimate);
        }
        assert_eq!(ids(candidates.arranged(2, usize::MAX)), [2, 3]);
    }
}
