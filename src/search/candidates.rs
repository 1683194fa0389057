//! The best candidates so far, by estimate.

pub(crate) use crate::math::scored::{estimate_of, id_of};
use crate::math::top_k::TopK;

/// Keeps the best of all candidates offered, each item once, packed as id and estimate.
///
/// An item offered twice (from two leaves) keeps its smaller estimate.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    best: TopK,
    /// What was among the best before, and is to be compared in any case.
    kept_back: Vec<u64>,
}

impl Candidates {
    /// Forgets all candidates.
    pub(crate) fn begin(&mut self, keep: usize) {
        self.best.begin(keep);
        self.kept_back.clear();
    }

    /// Estimates above this cannot be among the best.
    pub(crate) fn threshold(&self) -> f32 {
        self.best.threshold()
    }

    /// Offers candidates as [`packed`] numbers.
    pub(crate) fn offer_all(&mut self, found: &[u64]) {
        self.best.offer_all(found);
    }

    /// Whether `k` different items, as many as are kept at most, have an estimate of no more than
    /// this.
    pub(crate) fn has_within(&mut self, k: usize, estimate: f32) -> bool {
        self.best.has_within(k, estimate)
    }

    /// An estimate that the k-th candidate does not exceed; infinite if that is not known without
    /// sorting.
    pub(crate) fn kth_at_most(&self, k: usize) -> f32 {
        self.best.kth_at_most(k)
    }

    /// The estimate of the k-th candidate; infinite if there are fewer.
    pub(crate) fn kth(&mut self, k: usize) -> f32 {
        self.best.kth(k)
    }

    /// Whether there are as many different items as are kept.
    pub(crate) fn is_full(&mut self) -> bool {
        self.best.is_full()
    }

    /// Keeps what is among the best now, whatever comes later.
    pub(crate) fn keep_back(&mut self) {
        self.kept_back.extend_from_slice(self.best.sorted_mut());
    }

    /// The best candidates, `max` of them at most; the `first` nearest of them and then the others
    /// by id, which is the order of their keys.
    pub(crate) fn arranged(&mut self, max: usize, first: usize) -> &[u64] {
        if !self.kept_back.is_empty() {
            self.best.add_all(&mut self.kept_back);
        }
        let best = self.best.sorted_mut();
        best.truncate(max);
        // They are in another order from here on, and no more asked about.
        let first = first.min(best.len());
        let (nearest, others) = best.split_at_mut(first);
        [nearest, others]
            .into_iter()
            .for_each(|some| some.sort_unstable_by_key(|candidate| id_of(*candidate)));
        best
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::math::scored::packed;

    fn ids(candidates: &[u64]) -> Vec<u32> {
        candidates.iter().map(|candidate| id_of(*candidate)).collect()
    }

    proptest! {
        #[test]
        fn the_nearest_come_first_and_then_the_order_of_keys(
            estimates in prop::collection::vec(-100i16..100, 0..300),
            keep in 1usize..400,
            max in prop::sample::select(vec![10, usize::MAX]),
            first in prop::sample::select(vec![0, 3, 64, usize::MAX]),
        ) {
            let mut candidates = Candidates::default();
            candidates.begin(keep);
            let mut expected = Vec::new();
            for (id, estimate) in (0..).zip(estimates) {
                candidates.offer_all(&[packed(id, f32::from(estimate))]);
                expected.push((estimate, id));
            }
            expected.sort_unstable();
            expected.truncate(keep.min(max));
            let mut expected: Vec<u32> = expected.into_iter().map(|(_, id)| id).collect();
            let split = first.min(expected.len());
            let (nearest, others) = expected.split_at_mut(split);
            nearest.sort_unstable();
            others.sort_unstable();
            prop_assert_eq!(ids(candidates.arranged(max, first)), expected);
        }
    }

    #[test]
    fn what_is_kept_back_is_among_the_candidates_whatever_comes_later() {
        let mut candidates = Candidates::default();
        candidates.begin(2);
        for (id, estimate) in [(1, 5.0), (2, 6.0), (3, 7.0)] {
            candidates.offer_all(&[packed(id, estimate)]);
        }
        candidates.keep_back();
        for (id, estimate) in [(1, 1.0), (4, 2.0), (5, 3.0)] {
            candidates.offer_all(&[packed(id, estimate)]);
        }
        assert_eq!(ids(candidates.arranged(usize::MAX, 0)), [1, 2, 4]);
    }
}
