//! When a search may end: not after so many entries, but when the leaves that are left are too far for its hits.
//!
//! Items lie in the leaves whose centroids are nearest to them. With D the squared distance from the query to the next
//! centroid, D_1 that to the nearest one, and d_k that to the k-th candidate, a leaf can hold a nearer item only if the item
//! lies towards it by the *margin* (D - D_1) / d_k. The *confidence* of a search is
//!
//! ```text
//! confidence = entries (1 + (D - D_1) / (d_k + D_1 / 32))^4
//! ```
//!
//! The margin has no unit and holds at every scale: for tight clusters, far queries, any k, and what a filter leaves. A
//! calibration measures which confidence reaches which recall. Trials: docs/trials.md, "stop rule".
//!
//! Ending each query by itself follows Li et al., Improving approximate nearest neighbor search through learned adaptive
//! early termination, SIGMOD 2020.

use crate::metric::Metric;

/// What the sketches of centroids leave open of their distance, as a part of the nearest one's.
const RESOLUTION: f64 = 1.0 / 32.0;
/// The power of the margin.
const POWER: i32 = 4;

/// The scores of leaves that a search goes by.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Margin {
    pub(crate) metric: Metric,
    /// The least score of a leaf with entries that count.
    pub(crate) first: f32,
    /// The score of the next leaf.
    pub(crate) next: f32,
}

impl Margin {
    /// The confidence of a search with so many entries and this score of its k-th candidate; 0 if it has fewer.
    pub(crate) fn confidence(self, entries: f64, kth: f32) -> f64 {
        if !kth.is_finite() {
            return 0.0;
        }
        entries * self.factor(kth).powi(POWER)
    }

    /// One more than the margin.
    fn factor(self, kth: f32) -> f64 {
        let [first, next, kth] = [self.first, self.next, kth].map(f64::from);
        let [first, next, kth] = match self.metric {
            // Scores are less than that of the origin, which is 0, by an inner product.
            Metric::DotProduct if kth < 0.0 => return 2.0 - next.min(0.0) / kth,
            Metric::DotProduct => return 0.0,
            Metric::Manhattan => [first * first, next * next, kth * kth.abs()],
            // The other scores are squares.
            _ => [first, next, kth],
        };
        let (first, kth) = (first.max(0.0), kth.max(0.0));
        let margin = (next - first) / (kth + first * RESOLUTION);
        1.0 + if margin.is_nan() { 0.0 } else { margin.max(0.0) }
    }

    /// The largest score of the k-th candidate with which the confidence is `wanted`; none if no score does.
    pub(crate) fn farthest(self, entries: f64, wanted: f64) -> Option<f32> {
        let factor = (wanted / entries).sqrt().sqrt();
        if factor.is_nan() || factor == f64::INFINITY {
            return None;
        }
        let [first, next] = [self.first, self.next].map(f64::from);
        let farthest = match self.metric {
            Metric::DotProduct if factor > 2.0 => return None,
            Metric::DotProduct if next >= 0.0 => -f64::from(f32::MIN_POSITIVE),
            Metric::DotProduct if factor == 2.0 => return None,
            Metric::DotProduct => next / (2.0 - factor),
            _ if factor <= 1.0 => f64::from(f32::MAX),
            Metric::Manhattan => {
                let (first, next) = (first.max(0.0).powi(2), next.max(0.0).powi(2));
                let square = (next - first) / (factor - 1.0) - first * RESOLUTION;
                if square < 0.0 { return None } else { square.sqrt() }
            }
            _ => {
                let first = first.max(0.0);
                let square = (next - first) / (factor - 1.0) - first * RESOLUTION;
                // Estimates of what is very near may be less than zero.
                if square < 0.0 { return None } else { square }
            }
        };
        #[expect(clippy::cast_possible_truncation, reason = "bounded by the largest float")]
        let farthest = farthest.min(f64::from(f32::MAX)) as f32;
        Some(farthest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_farthest_candidate_is_that_with_the_confidence(
            metric in prop::sample::select(Metric::ALL.to_vec()),
            first in 0.0f32..10.0,
            beyond in 0.0f32..10.0,
            entries in 1.0f64..1e6,
            wanted in 1.0f64..1e6,
            kth in 0.001f32..10.0,
        ) {
            let sign = if metric == Metric::DotProduct { -1.0 } else { 1.0 };
            let margin = if sign < 0.0 {
                Margin { metric, first: -first - beyond, next: -first }
            } else {
                Margin { metric, first, next: first + beyond }
            };
            let kth = sign * kth;
            let has = margin.confidence(entries, kth);
            // Not where rounding decides.
            prop_assume!((has / wanted - 1.0).abs() > 1e-3);
            let farthest = margin.farthest(entries, wanted);
            prop_assert_eq!(farthest.is_some_and(|farthest| kth <= farthest), has > wanted, "{:?} {}", farthest, has);
        }
    }

    #[test]
    fn what_is_near_what_is_missing_and_what_is_no_number_are_told_apart() {
        let margin = Margin { metric: Metric::Euclidean, first: 1.0, next: 3.0 };
        assert_eq!(margin.confidence(100.0, f32::INFINITY), 0.0);
        assert!(margin.confidence(100.0, -0.1) > margin.confidence(100.0, 0.5));
        assert_eq!(Margin { next: f32::NAN, ..margin }.confidence(100.0, 1.0), 100.0);
        assert_eq!(margin.farthest(0.0, 1.0), None);
        assert_eq!(margin.farthest(100.0, f64::INFINITY), None);
        let dot = Margin { metric: Metric::DotProduct, first: -3.0, next: -1.0 };
        assert_eq!(dot.confidence(100.0, 0.5), 0.0);
        assert!(dot.confidence(100.0, -4.0) > dot.confidence(100.0, -2.0));
    }
}
