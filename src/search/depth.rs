//! How deep a search with a filter has to go.
//!
//! The k nearest items that a filter admits are among the k + x nearest of all, where x counts what is nearer than the last
//! of them and left out. So they take the effort that the k + x nearest take, which calibration tells. The estimates that a
//! search meets tell x: those of entries that are left out are counted along with those of entries that are admitted. Of a
//! leaf, only blocks with an admitted entry are scanned, or one block if there is none; what is left out in them stands for
//! all that the leaf leaves out.
//!
//! This needs no assumption about how the filter and the query are related: x is small where what is near the query is
//! admitted, and nearly the whole index where all of that is left out.

use std::collections::{HashMap, HashSet};

use super::candidates::{estimate_of, id_of, insert, make_room, packed};
use super::traversal::Sink;

/// Steps between the least and the largest estimate, in which a quantile is found.
const STEPS: usize = 1 << 10;
/// Entries of which the first few are sorted, beyond those that are wanted, at least.
const SPARE: usize = 32;

/// What a search with a filter has met so far.
#[derive(Debug, Default)]
pub(crate) struct Depth {
    /// Entries that the set admits, and a predicate perhaps does not: estimate above id.
    met: Vec<u64>,
    /// Estimates of entries that the set leaves out, and how many of these each stands for.
    left_out: Vec<(f32, f32)>,
    threshold: f32,
    /// Entries for each item, of the nearest.
    copies: f32,
    /// Items that are not given any more: they have been compared.
    given: HashSet<u32>,
    /// What a predicate has said. It is asked once of each item.
    answers: HashMap<u32, bool>,
    /// Items met in one walk over the entries: a hash table.
    walked: Vec<u64>,
    /// The very nearest of all, and how many items each stands for.
    near: Vec<(f32, f32)>,
}

impl Sink for Depth {
    const COUNTS_LEFT_OUT: bool = true;

    fn threshold(&self) -> f32 {
        self.threshold
    }

    fn offer(&mut self, id: u32, estimate: f32) {
        self.met.push(packed(id, estimate));
    }

    fn leave_out(&mut self, estimate: f32, entries: f32) {
        self.left_out.push((estimate, entries));
    }
}

/// How a search stands with respect to its k-th hit.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) struct Standing {
    /// The rank of the k-th hit among all items, the smallest that it may have if there are not k hits yet.
    pub(crate) rank: usize,
    /// Entries for each item among the nearest: some items are in two leaves.
    pub(crate) copies: f32,
    /// The part of the entries that is admitted.
    pub(crate) part: f32,
    /// Hits there are, `k` at most.
    pub(crate) hits: usize,
}

/// What a walk over the nearest entries comes to.
struct Walk {
    entries: usize,
    refused: usize,
    last: f32,
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "saturating estimates"
)]
impl Depth {
    pub(crate) fn begin(&mut self) {
        self.met.clear();
        self.left_out.clear();
        self.threshold = f32::INFINITY;
        self.answers.clear();
        self.given.clear();
    }

    /// How the search stands with respect to the k-th hit.
    pub(crate) fn standing(&mut self, k: usize, predicate: Option<&dyn Fn(u32) -> bool>) -> Standing {
        let mut hits = 0;
        let walk = self.walk(predicate, |_, _| {
            hits += 1;
            hits < k
        });
        let copies = walk.entries as f32 / (hits + walk.refused).max(1) as f32;
        self.copies = copies;
        let last = if hits < k { f32::INFINITY } else { walk.last };
        let nearer: f32 = self.left_out.iter().filter(|left| left.0 < last).map(|left| left.1).sum();
        let left_out: f32 = self.left_out.iter().map(|left| left.1).sum();
        let part = if walk.refused == 0 {
            self.met.len() as f32 / (self.met.len() as f32 + left_out).max(1.0)
        } else {
            hits as f32 / (hits + walk.refused) as f32
        };
        let rank = k.saturating_add(walk.refused).saturating_add((nearer / copies.max(1.0)) as usize);
        Standing { rank, copies: copies.max(1.0), part, hits }
    }

    /// The estimate of the n-th nearest of all items, admitted or not; infinite if there are fewer.
    pub(crate) fn nth(&mut self, n: usize) -> f32 {
        let mut near = std::mem::take(&mut self.near);
        near.clear();
        self.walk(None, |_, estimate| {
            near.push((estimate, 1.0));
            near.len() < n
        });
        let last = if near.len() < n { f32::INFINITY } else { near.last().map_or(f32::INFINITY, |last| last.0) };
        let nearer = self.left_out.iter().filter(|left| left.0 < last);
        near.extend(nearer.map(|(estimate, entries)| (*estimate, entries / self.copies.max(1.0))));
        near.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let mut sum = 0.0;
        let nth = near.iter().find(|(_, items)| {
            sum += items;
            sum >= n as f32
        });
        let nth = nth.map_or(f32::INFINITY, |nth| nth.0);
        self.near = near;
        nth
    }

    /// The rank of the farthest of these hits, as it is estimated itself.
    pub(crate) fn rank_of(&self, hits: impl Iterator<Item = u32>) -> usize {
        let mut estimates: HashMap<u32, f32> = hits.map(|id| (id, f32::INFINITY)).collect();
        for met in &self.met {
            if let Some(estimate) = estimates.get_mut(&id_of(*met)) {
                *estimate = estimate.min(estimate_of(*met));
            }
        }
        let farthest = estimates.values().copied().filter(|it| it.is_finite()).fold(f32::NEG_INFINITY, f32::max);
        let met = self.met.iter().filter(|met| estimate_of(**met) <= farthest).count() as f32;
        let left_out: f32 = self.left_out.iter().filter(|left| left.0 <= farthest).map(|left| left.1).sum();
        ((met + left_out) / self.copies.max(1.0)) as usize
    }

    /// From now on, only as many of the nearest entries are taken.
    pub(crate) fn tighten(&mut self, entries: f32) {
        self.threshold = self.threshold.min(self.reaching(entries));
    }

    /// The admitted among so many of the nearest entries, and `k` of them in any case: the `first` nearest of them and then the
    /// others in the order of their ids. What is kept back is not among them.
    pub(crate) fn nearest(
        &mut self,
        (k, entries, first): (usize, f32, usize),
        predicate: Option<&dyn Fn(u32) -> bool>,
        out: &mut Vec<u32>,
    ) {
        let last = self.reaching(entries);
        out.clear();
        self.walk(predicate, |id, estimate| {
            if estimate <= last || out.len() < k {
                out.push(id);
            }
            estimate <= last || out.len() < k
        });
        out.retain(|id| !self.given.contains(id));
        let first = first.min(out.len());
        let (nearest, others) = out.split_at_mut(first);
        nearest.sort_unstable();
        others.sort_unstable();
    }

    /// These are not given again.
    pub(crate) fn keep_back(&mut self, ids: &[u32]) {
        self.given.extend(ids);
    }

    /// Visits the admitted items, nearest first, until `visit` has enough.
    fn walk(&mut self, predicate: Option<&dyn Fn(u32) -> bool>, mut visit: impl FnMut(u32, f32) -> bool) -> Walk {
        let mut walk = Walk { entries: 0, refused: 0, last: f32::INFINITY };
        let mut sorted = 0;
        while sorted < self.met.len() {
            // Only what is needed is sorted: twice as much each time.
            let end = (2 * sorted + SPARE).min(self.met.len());
            let rest = &mut self.met[sorted..];
            if end - sorted < rest.len() {
                rest.select_nth_unstable(end - sorted);
            }
            self.met[sorted..end].sort_unstable();
            make_room(&mut self.walked, end);
            for met in &self.met[..sorted] {
                insert(&mut self.walked, id_of(*met));
            }
            for at in sorted..end {
                let (id, estimate) = (id_of(self.met[at]), estimate_of(self.met[at]));
                walk.entries += 1;
                if !insert(&mut self.walked, id) {
                    continue;
                }
                if !predicate.is_none_or(|admits| self.ask(id, admits)) {
                    walk.refused += 1;
                    continue;
                }
                walk.last = estimate;
                if !visit(id, estimate) {
                    return walk;
                }
            }
            sorted = end;
        }
        walk
    }

    fn ask(&mut self, id: u32, admits: &dyn Fn(u32) -> bool) -> bool {
        *self.answers.entry(id).or_insert_with(|| admits(id))
    }

    /// The estimate that so many of all entries do not exceed, a little more at most.
    fn reaching(&self, entries: f32) -> f32 {
        let met = || self.met.iter().map(|met| (estimate_of(*met), 1.0)).chain(self.left_out.iter().copied());
        let finite = || met().filter(|(estimate, _)| estimate.is_finite());
        let (least, most) =
            finite().fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), (at, _)| (least.min(at), most.max(at)));
        let step = (most - least) / STEPS as f32;
        if !(step > 0.0 && step.is_finite()) {
            return f32::INFINITY;
        }
        let mut counts = [0.0; STEPS];
        finite().for_each(|(at, count)| counts[(((at - least) / step) as usize).min(STEPS - 1)] += count);
        let mut sum = 0.0;
        let enough = counts.iter().position(|count| {
            sum += count;
            sum >= entries
        });
        enough.map_or(f32::INFINITY, |at| least + step * (at + 1) as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_what_is_left_out() {
        let mut depth = Depth::default();
        depth.begin();
        // Items 0 to 99 at their own number, each in two leaves; odd ones are left out, one of two stands for both.
        for id in (0..100u16).flat_map(|id| [id, id]) {
            if id % 2 == 0 {
                depth.offer(u32::from(id), f32::from(id));
            } else if id % 4 == 1 {
                depth.leave_out(f32::from(id), 2.0);
            }
        }
        let standing = depth.standing(10, None);
        assert!(standing.hits == 10 && standing.rank.abs_diff(19) <= 2, "{standing:?}");
        assert!((standing.copies - 2.0).abs() < 0.2 && (standing.part - 0.5).abs() < 0.02, "{standing:?}");
        let mut ids = Vec::new();
        depth.nearest((10, 2.0 * 40.0, 1_000), None, &mut ids);
        assert!((19..=21).contains(&ids.len()) && ids.is_sorted(), "{ids:?}");
        depth.nearest((30, 2.0, 1_000), None, &mut ids);
        assert_eq!(ids, (0..60).step_by(2).collect::<Vec<u32>>());

        // Of what the set admits, a predicate takes every fifth.
        let asked = std::cell::Cell::new(0);
        let predicate = |id: u32| {
            asked.set(asked.get() + 1);
            id.is_multiple_of(10)
        };
        for _ in 0..2 {
            let standing = depth.standing(3, Some(&predicate));
            assert!(standing.hits == 3 && standing.rank.abs_diff(21) <= 2, "{standing:?}");
        }
        assert_eq!(asked.get(), 11);
        // The nearest of all count, each once, whatever is admitted.
        for n in [1, 2, 10, 60] {
            assert!((depth.nth(n) - (n as f32 - 1.0)).abs() <= 2.0, "{n}: {}", depth.nth(n));
        }
        assert_eq!(depth.nth(1_000), f32::INFINITY);
        // Fewer than are wanted: all that is left out may be nearer than the last.
        let standing = depth.standing(51, None);
        assert!(standing.hits == 50 && standing.rank >= 100, "{standing:?}");
    }

    #[test]
    fn equal_estimates_and_none_at_all_are_no_trouble() {
        let mut depth = Depth::default();
        depth.begin();
        assert_eq!(depth.standing(1, None).hits, 0);
        (0..50).for_each(|id| depth.offer(id, 1.0));
        depth.tighten(5.0);
        let mut ids = Vec::new();
        depth.nearest((3, 5.0, 1_000), None, &mut ids);
        assert!(ids.len() >= 3);
        depth.offer(90, f32::NAN);
        depth.nearest((51, 1.0, 1_000), None, &mut ids);
        assert_eq!(ids.len(), 51);
    }
}
