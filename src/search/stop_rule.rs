//! When a search may end: when the leaves that are left are too far away to hold a hit.
//!
//! Items lie in the leaves whose centroids are nearest to them. D is the squared distance from the
//! query to the next centroid, and D_1 that to the nearest one. The squared distance to the k-th
//! candidate is d_k. The larger the *margin* (D - D_1) / d_k, the less likely does the next leaf
//! hold anything nearer. The *confidence* of a search is
//!
//! ```text
//! confidence = entries (1 + (D - D_1) / (d_k + D_1 / 32))^4
//! ```
//!
//! Leaves much nearer than the k-th candidate do not count, neither for the entries nor for D_1. A
//! query in a tight cluster scans all of it, which says little about what lies beyond.
//!
//! Inner products have no such geometry, so that their confidence is the entries alone. A query
//! outside its nearest leaf has less confidence, as its neighbours may lie on any side. Not so if
//! the calibration asked queries of the user that lie far outside.
//!
//! The margin has no unit. So it works for tight clusters, for far queries, for any k and with
//! filters. A calibration measures which confidence reaches which recall. Measured: docs/trials.md,
//! "stop rule".
//!
//! Each query ends by itself, as in Li et al., SIGMOD 2020: "Improving approximate nearest neighbor
//! search through learned adaptive early termination".

use crate::format::record::OF_USER_OUTSIDE;
use crate::metric::Metric;

/// The error of the sketches of centroids, as a part of the squared distance D_1.
const RESOLUTION: f64 = 1.0 / 32.0;
/// The power of the margin.
const POWER: i32 = 4;

/// A query lies outside its nearest leaf if its squared distance is this many times the spread of
/// the leaf. Where near items were deleted, its neighbours may be in any leaf around it. This and
/// the next three: docs/trials.md, "stop rule".
const MAX_INSIDE: f64 = 1.5;
/// The confidence of such a query is divided by this power of how many times farther it is.
const OUTSIDE_POWER: i32 = 3;
/// The largest such divisor: a query beside a tight group is any number of times farther.
const MAX_OUTSIDE_DIVISOR: f64 = 64.0;
/// A query with such a divisor lies far outside: its squared distance is twice the largest that is
/// inside. Queries that are like the items may lie outside by less.
const FAR_OUTSIDE_DIVISOR: f64 = 8.0;
/// Leaves count if their squared distance is at least this part of d_k.
const MIN_COUNTED_DISTANCE: f64 = 0.25;

/// The leaves that a search has scanned, and the next one.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopRule {
    /// For each leaf with entries: its squared distance, and the entries of all leaves before it.
    scanned: Vec<(f64, f64)>,
    entries: f64,
    /// What confidences are divided by: more than 1 if the query lies outside its nearest leaf.
    divisor: f64,
    /// Whether a query outside its nearest leaf has less confidence.
    is_divided: bool,
}

impl StopRule {
    /// Begins a search by a calibration of this source. One that has measured queries far outside
    /// of all leaves needs no guess about them.
    pub(crate) fn begin(&mut self, source: u32) {
        self.scanned.clear();
        (self.entries, self.divisor, self.is_divided) = (0.0, 1.0, source != OF_USER_OUTSIDE);
    }

    /// Adds a scanned leaf. `spread` is the squared distance of its middle entry from its centroid.
    pub(crate) fn push(&mut self, metric: Metric, score: f32, entries: f64, spread: f32) {
        if entries > 0.0 {
            // Inner products have no distances to compare a spread with.
            let is_divided = self.is_divided && !metric.is_inner_product();
            if self.scanned.is_empty() && spread > 0.0 && is_divided {
                let times = metric.squared_distance(score) / f64::from(spread);
                self.divisor =
                    (times / MAX_INSIDE).max(1.0).powi(OUTSIDE_POWER).min(MAX_OUTSIDE_DIVISOR);
            }
            // Not sorted: branches that are opened late may have nearer leaves.
            self.scanned.push((metric.squared_distance(score), self.entries));
            self.entries += entries;
        }
    }

    /// Whether the query lies far outside its nearest leaf, unless nothing is to depend on that.
    pub(crate) fn is_far_outside(&self) -> bool {
        self.divisor >= FAR_OUTSIDE_DIVISOR
    }

    /// The confidence of a search whose next leaf and k-th candidate have these scores. 0 if it has
    /// fewer than k candidates.
    pub(crate) fn confidence(&self, metric: Metric, next: f32, kth: f32) -> f64 {
        if !kth.is_finite() {
            return 0.0;
        }
        if metric.is_inner_product() {
            return self.entries;
        }
        let kth = metric.squared_distance(kth);
        let Some((first, before)) =
            self.scanned.iter().find(|(leaf, _)| *leaf >= MIN_COUNTED_DISTANCE * kth)
        else {
            return 0.0;
        };
        (self.entries - before) * margin_factor(*first, metric.squared_distance(next), kth)
            / self.divisor
    }

    /// A score beyond which no k-th candidate gives the confidence `wanted`; `None` if no score
    /// does.
    ///
    /// It is an upper bound, cheaper than sorting candidates to find the k-th.
    pub(crate) fn farthest(&self, metric: Metric, next: f32, wanted: f64) -> Option<f32> {
        let root = (wanted * self.divisor / self.entries).sqrt().sqrt();
        if root.is_nan() || root == f64::INFINITY {
            return None;
        }
        if root <= 1.0 {
            return Some(f32::MAX);
        }
        if metric.is_inner_product() {
            return None;
        }
        let first = self.scanned.first()?.0;
        let square = (metric.squared_distance(next) - first) / (root - 1.0) - first * RESOLUTION;
        // Rounding must not leave out what is just enough.
        let farthest = if metric.is_squared() { square } else { square.sqrt() } * (1.0 + 1e-6);
        #[expect(clippy::cast_possible_truncation, reason = "bounded by the largest float")]
        let farthest = farthest.min(f64::from(f32::MAX)) as f32;
        (square >= 0.0).then_some(farthest)
    }
}

/// (1 + margin)^4.
fn margin_factor(first: f64, next: f64, kth: f64) -> f64 {
    let margin = (next - first) / (kth + first * RESOLUTION);
    (1.0 + if margin.is_nan() { 0.0 } else { margin.max(0.0) }).powi(POWER)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::record::{OF_ITEMS, OF_USER};

    proptest! {
        #[test]
        fn no_farther_candidate_gives_the_confidence(
            metric in prop::sample::select(Metric::ALL.to_vec()),
            leaves in prop::collection::vec((0.0f32..10.0, 0u8..200), 1..10),
            beyond in 0.0f32..10.0,
            wanted in 1.0f64..1e6,
            kth in 0.001f32..10.0,
            spread in 0.0f32..3.0,
        ) {
            let mut scanned = StopRule::default();
            scanned.begin(OF_ITEMS);
            let mut leaves = leaves;
            leaves.sort_by(|a, b| a.0.total_cmp(&b.0));
            leaves.iter().for_each(|(score, entries)| scanned.push(metric, *score, f64::from(*entries), spread));
            let next = leaves.last().unwrap().0 + beyond;
            let has = scanned.confidence(metric, next, kth);
            let farthest = scanned.farthest(metric, next, wanted);
            prop_assert!(has < wanted || farthest.is_some_and(|farthest| kth <= farthest), "{:?} {}", farthest, has);
        }
    }

    /// A stored spread that no build writes for inner products changes nothing.
    #[test]
    fn a_spread_does_not_count_for_inner_products() {
        let mut scanned = StopRule::default();
        scanned.begin(OF_ITEMS);
        scanned.push(Metric::DotProduct, 2.5, 435.0, 0.5);
        assert_eq!(scanned.confidence(Metric::DotProduct, 2.5, 0.0), 435.0);
        assert_eq!(scanned.farthest(Metric::DotProduct, 2.5, 434.0), Some(f32::MAX));
    }

    #[test]
    fn confidence_rises_with_the_margin_and_counts_from_where_the_candidates_are() {
        let confidence_of = |leaves: &[(f32, f64)], next, kth| {
            let mut scanned = StopRule::default();
            scanned.begin(OF_ITEMS);
            leaves.iter().for_each(|(score, entries)| {
                scanned.push(Metric::Euclidean, *score, *entries, 0.0)
            });
            scanned.confidence(Metric::Euclidean, next, kth)
        };
        assert_eq!(confidence_of(&[(1.0, 100.0)], 3.0, f32::INFINITY), 0.0);
        assert_eq!(confidence_of(&[], 3.0, 1.0), 0.0);
        assert!(
            confidence_of(&[(1.0, 100.0)], 3.0, -0.1) > confidence_of(&[(1.0, 100.0)], 3.0, 0.5)
        );
        assert!(
            confidence_of(&[(1.0, 100.0)], 4.0, 1.0) > confidence_of(&[(1.0, 100.0)], 3.0, 1.0)
        );
        assert_eq!(confidence_of(&[(1.0, 100.0)], f32::NAN, 1.0), 100.0);
        // A thousand entries of a tight cluster around the query say nothing about what lies a
        // hundred times as far.
        assert_eq!(confidence_of(&[(1.0, 1_000.0), (9_000.0, 100.0)], 9_000.0, 10_000.0), 100.0);
        assert_eq!(confidence_of(&[(1.0, 1_000.0)], 9_000.0, 10_000.0), 0.0);
        let mut outside = StopRule::default();
        outside.begin(OF_USER);
        outside.push(Metric::Euclidean, 8.0, 100.0, 1.0);
        assert_eq!(outside.confidence(Metric::Euclidean, 8.0, 8.0), 100.0 / MAX_OUTSIDE_DIVISOR);
        assert!(outside.is_far_outside());
        outside.begin(OF_USER_OUTSIDE);
        outside.push(Metric::Euclidean, 8.0, 100.0, 1.0);
        assert_eq!(outside.confidence(Metric::Euclidean, 8.0, 8.0), 100.0);
    }
}
