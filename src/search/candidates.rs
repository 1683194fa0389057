//! The best candidates so far, by estimate.

/// An item with its estimated score; smaller is nearer.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) id: u32,
    pub(crate) estimate: f32,
}

/// Keeps the `keep` best of all candidates offered, each item once.
///
/// Candidates gather in a buffer that is pruned when it is full, so that most offers cost one push. An item offered
/// twice (from two leaves) keeps its smaller estimate.
#[derive(Debug)]
pub(crate) struct Candidates {
    buffer: Vec<Candidate>,
    keep: usize,
    threshold: f32,
}

impl Candidates {
    pub(crate) fn new(keep: usize) -> Self {
        Self { buffer: Vec::new(), keep: keep.max(1), threshold: f32::INFINITY }
    }

    /// Estimates above this cannot be among the best.
    pub(crate) fn threshold(&self) -> f32 {
        self.threshold
    }

    pub(crate) fn offer(&mut self, candidate: Candidate) {
        // Not `<=`: an estimate that is not a number is kept, and loses against all others.
        if candidate.estimate > self.threshold {
            return;
        }
        self.buffer.push(candidate);
        if self.buffer.len() >= self.keep.saturating_mul(2).max(128) {
            self.prune();
        }
    }

    /// Whether there are `keep` different items.
    pub(crate) fn is_full(&mut self) -> bool {
        // Only enough offers to be that many are worth sorting.
        if self.buffer.len() >= self.keep {
            self.prune();
        }
        self.buffer.len() >= self.keep
    }

    fn prune(&mut self) {
        self.buffer.sort_unstable_by(|a, b| a.id.cmp(&b.id).then(a.estimate.total_cmp(&b.estimate)));
        self.buffer.dedup_by_key(|candidate| candidate.id);
        if self.buffer.len() >= self.keep {
            let by_estimate = |a: &Candidate, b: &Candidate| a.estimate.total_cmp(&b.estimate).then(a.id.cmp(&b.id));
            let (_, last, _) = self.buffer.select_nth_unstable_by(self.keep - 1, by_estimate);
            self.threshold = last.estimate;
            self.buffer.truncate(self.keep);
        }
    }

    /// The best candidates, best first.
    pub(crate) fn into_ranked(mut self) -> Vec<u32> {
        self.prune();
        self.buffer.sort_unstable_by(|a, b| a.estimate.total_cmp(&b.estimate).then(a.id.cmp(&b.id)));
        self.buffer.iter().map(|candidate| candidate.id).collect()
    }

    /// The best candidates, by id, which is the order of their keys.
    pub(crate) fn into_ids(mut self) -> Vec<u32> {
        self.prune();
        let mut ids: Vec<u32> = self.buffer.iter().map(|candidate| candidate.id).collect();
        ids.sort_unstable();
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_keeps_what_sorting_would_keep(
            offers in prop::collection::vec((0u32..300, -100i16..100), 0..1500),
            keep in 1usize..100,
        ) {
            let mut best = std::collections::BTreeMap::new();
            let mut candidates = Candidates::new(keep);
            for (id, estimate) in offers {
                let estimate = f32::from(estimate);
                candidates.offer(Candidate { id, estimate });
                let slot = best.entry(id).or_insert(estimate);
                *slot = slot.min(estimate);
            }
            let mut expected: Vec<(f32, u32)> = best.into_iter().map(|(id, estimate)| (estimate, id)).collect();
            expected.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            expected.truncate(keep);
            let mut expected: Vec<u32> = expected.into_iter().map(|(_, id)| id).collect();
            expected.sort_unstable();
            prop_assert_eq!(candidates.is_full(), expected.len() == keep);
            prop_assert_eq!(candidates.into_ids(), expected);
        }
    }

    #[test]
    fn estimates_that_are_not_numbers_come_last() {
        let mut candidates = Candidates::new(2);
        for (id, estimate) in [(1, f32::NAN), (2, f32::INFINITY), (3, 1.0)] {
            candidates.offer(Candidate { id, estimate });
        }
        assert_eq!(candidates.into_ids(), [2, 3]);
    }
}
