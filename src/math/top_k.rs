//! The nearest of many.

use std::ops::Range;

use crate::kernel::simd::{self, Level};
use crate::math::id_table::IdTable;
use crate::math::scored::{Ranked, packed};

/// Elements that are gathered before the first pruning, at least.
const FIRST_ROOM: usize = 128;
/// Up to so many are kept in order. So only what is nearer than the last of them is ever offered.
/// Measured: docs/trials.md, "candidates".
pub(crate) const FEW: usize = 128;

/// Elements for which there is room at once. More need another allocation.
const MAX_ROOM: usize = 256;

/// Elements that the buffer holds at most if it keeps so many.
fn capacity(keep: usize) -> usize {
    if keep <= FEW { keep } else { keep.saturating_mul(2).max(FIRST_ROOM) }
}

/// Keeps the `keep` nearest of all elements offered.
///
/// A few are kept in order. More gather in a buffer that is pruned when it is full, so that most
/// offers cost one push.
#[derive(Debug)]
pub(crate) struct TopK<T = u64> {
    simd: Level,
    /// If they are few, nearest first, each id once.
    buffer: Vec<T>,
    keep: usize,
    /// Whether an id may be offered several times. Then its smallest score counts.
    may_repeat: bool,
    threshold: f32,
    /// How many at the front of the buffer are sorted, each id once.
    sorted: usize,
    /// Ids seen while pruning.
    seen: IdTable,
}

impl<T> Default for TopK<T> {
    fn default() -> Self {
        let (buffer, sorted, seen) = Default::default();
        let simd = simd::detect();
        Self { simd, buffer, keep: 1, may_repeat: true, threshold: f32::INFINITY, sorted, seen }
    }
}

impl<T: Ranked> TopK<T> {
    /// For elements of different ids whose score is no larger than `limit`. They go to the empty
    /// `buffer`.
    pub(crate) fn of_different(mut buffer: Vec<T>, keep: usize, limit: f32) -> Self {
        let keep = keep.max(1);
        buffer.reserve_exact(capacity(keep).min(MAX_ROOM));
        Self { buffer, keep, may_repeat: false, threshold: limit, ..Self::default() }
    }

    /// Forgets all elements. Ids may be offered several times from now on.
    pub(crate) fn begin(&mut self, keep: usize) {
        self.buffer.clear();
        (self.keep, self.may_repeat) = (keep.max(1), true);
        (self.threshold, self.sorted) = (f32::INFINITY, 0);
    }

    /// Scores above this cannot be among the nearest.
    #[inline]
    pub(crate) fn threshold(&self) -> f32 {
        self.threshold
    }

    #[inline]
    pub(crate) fn offer(&mut self, element: T) {
        // Not `<=`: a score that is not a number is kept, and loses against all others.
        if element.score() > self.threshold {
            return;
        }
        if self.keep <= FEW {
            self.offer_all(&[element]);
            return;
        }
        self.buffer.push(element);
        if self.buffer.len() >= capacity(self.keep) {
            if self.may_repeat { self.prune() } else { self.trim() }
        }
    }

    /// Offers some elements, one after the other. None is above a limit that was given.
    pub(crate) fn offer_all(&mut self, elements: &[T]) {
        if self.keep > FEW {
            elements.iter().for_each(|element| self.offer(*element));
            return;
        }
        T::insert_all(self.simd, &mut self.buffer, self.keep, elements, self.may_repeat);
        self.sorted = self.buffer.len();
        self.limit();
    }

    /// Leaves the nearest of different ids, in no order: less work than [`TopK::prune`].
    fn trim(&mut self) {
        let (_, last, _) = self.buffer.select_nth_unstable(self.keep - 1);
        self.threshold = last.score();
        self.buffer.truncate(self.keep);
        self.sorted = 0;
    }

    /// All elements so far, in no order: the nearest and perhaps some others.
    pub(crate) fn iter(&self) -> impl Iterator<Item = T> {
        self.buffer.iter().copied()
    }

    /// A score that the k-th nearest does not exceed; infinite if that is not known without
    /// sorting.
    pub(crate) fn kth_at_most(&self, k: usize) -> f32 {
        self.buffer[..self.sorted].get(k.max(1) - 1).map_or(f32::INFINITY, |kth| kth.score())
    }

    /// The score of the k-th nearest; infinite if there are fewer.
    pub(crate) fn kth(&mut self, k: usize) -> f32 {
        self.prune();
        self.buffer.get(k.max(1) - 1).map_or(f32::INFINITY, |kth| kth.score())
    }

    /// Whether there are `keep` different ids.
    pub(crate) fn is_full(&mut self) -> bool {
        // Only enough offers to be that many are worth sorting.
        if self.buffer.len() >= self.keep {
            self.prune();
        }
        self.buffer.len() >= self.keep
    }

    /// The nearest, sorted. A caller that changes them has to begin anew.
    pub(crate) fn sorted_mut(&mut self) -> &mut Vec<T> {
        self.prune();
        &mut self.buffer
    }

    /// Takes these in as well, and keeps all that there are then.
    pub(crate) fn add_all(&mut self, others: &mut Vec<T>) {
        self.prune();
        self.buffer.append(others);
        (self.keep, self.sorted) = (self.buffer.len().max(FEW + 1), 0);
    }

    /// Forgets all elements and wants none above a limit.
    pub(crate) fn clear(&mut self, limit: f32) {
        self.buffer.clear();
        (self.threshold, self.sorted) = (limit, 0);
    }

    /// The nearest, sorted.
    pub(crate) fn into_sorted(mut self) -> Vec<T> {
        self.prune();
        self.buffer
    }

    /// Wants nothing farther than the last of `keep` elements in order.
    fn limit(&mut self) {
        if self.buffer.len() == self.keep {
            self.threshold = self.buffer.last().map_or(f32::INFINITY, |last| last.score());
        }
    }

    /// Leaves the nearest of each id, up to `keep` ids, sorted.
    fn prune(&mut self) {
        if self.sorted == self.buffer.len() {
            return;
        }
        let Self { buffer, seen, keep, .. } = self;
        let len = buffer.len();
        // An id comes once for each leaf that holds it, which is rarely more than twice.
        let likely = if self.may_repeat { keep.saturating_mul(2) } else { *keep }.min(len);
        if likely < len {
            buffer.select_nth_unstable(likely);
        }
        buffer[..likely].sort_unstable();
        let mut kept = likely;
        if self.may_repeat {
            seen.begin(len);
            kept = keep_new(buffer, 0..likely, *keep, seen, 0);
            if kept < *keep {
                buffer[likely..].sort_unstable();
                kept = keep_new(buffer, likely..len, *keep, seen, kept);
            }
        }
        buffer.truncate(kept);
        self.sorted = kept;
        self.limit();
    }
}

impl TopK<u64> {
    /// Whether `k` different ids, `keep` at most, have an estimate of no more than this.
    pub(crate) fn has_within(&mut self, k: usize, estimate: f32) -> bool {
        // Only enough offers to be that many are worth sorting.
        let limit = packed(u32::MAX, estimate);
        let (sorted, new) = self.buffer.split_at(self.sorted);
        if new.is_empty() {
            return k
                .checked_sub(1)
                .is_none_or(|last| sorted.get(last).is_some_and(|kth| *kth <= limit));
        }
        let near = sorted.partition_point(|element| *element <= limit);
        near >= k
            || near + new.iter().filter(|element| **element <= limit).count() >= k
                && self.kth(k) <= estimate
    }
}

/// Moves elements of the sorted `range` behind the `kept` ones at the front, the first of each id.
/// Stops when there are `keep`. Returns how many there are.
fn keep_new<T: Ranked>(
    buffer: &mut [T],
    range: Range<usize>,
    keep: usize,
    seen: &mut IdTable,
    mut kept: usize,
) -> usize {
    for i in range {
        if kept == keep {
            break;
        }
        if seen.insert(buffer[i].id()) {
            buffer[kept] = buffer[i];
            kept += 1;
        }
    }
    kept
}

/// Puts an element in its place among sorted ones, if it is nearer than the last, which falls out.
pub(crate) fn replace_last<T: Ranked>(nearest: &mut [T], element: T) {
    if nearest.last().is_none_or(|last| *last <= element) {
        return;
    }
    let mut place = nearest.len() - 1;
    while place > 0 && nearest[place - 1] > element {
        nearest[place] = nearest[place - 1];
        place -= 1;
    }
    nearest[place] = element;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::math::scored::{Scored, id_of};

    proptest! {
        #[test]
        fn all_at_once_is_as_one_by_one(
            offers in prop::collection::vec((0u32..300, -100i16..100), 0..1500),
            keep in 1usize..400,
            parts in 1usize..200,
        ) {
            let offers: Vec<u64> =
                offers.into_iter().map(|(id, score)| packed(id, f32::from(score))).collect();
            let (mut one_by_one, mut in_parts) = (TopK::default(), TopK::default());
            one_by_one.begin(keep);
            in_parts.begin(keep);
            for some in offers.chunks(parts) {
                some.iter().for_each(|element| one_by_one.offer(*element));
                in_parts.offer_all(some);
                prop_assert_eq!(one_by_one.threshold(), in_parts.threshold());
            }
            prop_assert_eq!(one_by_one.sorted_mut(), in_parts.sorted_mut());
        }

        #[test]
        fn it_keeps_what_sorting_would_keep(
            offers in prop::collection::vec((0u32..300, -100i16..100), 0..1500),
            keep in 1usize..400,
            k in 1usize..20,
        ) {
            let mut nearest = BTreeMap::new();
            let mut top = TopK::default();
            top.begin(keep);
            for (id, estimate) in offers {
                let estimate = f32::from(estimate);
                top.offer(packed(id, estimate));
                let slot = nearest.entry(id).or_insert(estimate);
                *slot = slot.min(estimate);
            }
            let mut expected: Vec<u64> = nearest.into_iter().map(|(id, estimate)| packed(id, estimate)).collect();
            expected.sort_unstable();
            let kth = expected.get(k - 1).map_or(f32::INFINITY, |kth| kth.score());
            if k <= keep && kth.is_finite() {
                prop_assert!(top.has_within(k, kth) && !top.has_within(k, kth.next_down()));
                prop_assert!(top.kth_at_most(k) >= kth);
                prop_assert_eq!(top.kth(k), kth);
            }
            expected.truncate(keep);
            prop_assert_eq!(top.is_full(), expected.len() == keep);
            prop_assert_eq!(&*top.sorted_mut(), &expected);
        }

        #[test]
        fn different_ids_are_kept_up_to_the_limit(
            scores in prop::collection::vec(-100i16..100, 0..1000),
            keep in 1usize..400,
            limit in -100i16..100,
        ) {
            let limit = f32::from(limit);
            let all: Vec<Scored> = (0..).zip(scores).map(|(id, score)| Scored { score: f32::from(score), id }).collect();
            let mut top = TopK::of_different(Vec::new(), keep, limit);
            all.iter().rev().for_each(|element| top.offer(*element));
            let mut expected: Vec<Scored> = all.into_iter().filter(|element| element.score <= limit).collect();
            expected.sort_unstable();
            expected.truncate(keep);
            prop_assert_eq!(top.into_sorted(), expected);
        }

        #[test]
        fn what_replaces_the_last_is_as_if_it_had_been_sorted(elements in prop::collection::vec(any::<u64>(), 0..60), len in 1usize..9) {
            let mut nearest = vec![u64::MAX; len];
            elements.iter().for_each(|element| replace_last(&mut nearest, *element));
            let mut expected = elements;
            expected.extend(vec![u64::MAX; len]);
            expected.sort_unstable();
            prop_assert_eq!(nearest, &expected[..len]);
        }
    }

    #[test]
    fn scores_that_are_not_numbers_come_last() {
        let mut top = TopK::default();
        top.begin(2);
        for (id, estimate) in [(1, f32::NAN), (2, f32::INFINITY), (3, 1.0)] {
            top.offer(packed(id, estimate));
        }
        assert!(top.sorted_mut().iter().map(|element| id_of(*element)).eq([3, 2]));
    }
}
