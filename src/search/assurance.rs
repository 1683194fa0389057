//! When a search may end: not after so many entries, but when its neighbours are near and the leaves that are left are far.
//!
//! With d the distance of the next leaf's centroid to the query, and d_k that of the k-th candidate (of the tenth, if more are
//! wanted), both as sketches tell them, the *assurance* of a search is
//!
//! ```text
//! assurance = entries * (d / d_k)^8
//! ```
//!
//! Under the dot product, whose scores are no distances, (d / d_k)^2 is (2 s_k - s) / s_k, with s and s_k the inner products less
//! that of the origin of work space, which lies among the items.
//!
//! A calibration measures which assurance reaches which recall, and searches end when they have it. Queries whose neighbours
//! lie closely together end early, and their time goes to the others: see Li et al., Improving approximate nearest neighbor
//! search through learned adaptive early termination, SIGMOD 2020, for how much queries differ.
//!
//! # What was tried
//! For 10 of 100,000 vectors, entries of leaves scanned for a recall of .90, .95 and .99, in percent of those of searches
//! that all end after the same number (one seed, 1,000 queries):
//!
//! | | sift | minilm |
//! |---|---|---|
//! | (d / d_k)^4 | 87, 83, 72 | 88, 87, 85 |
//! | (d / d_k)^8 | 84, 80, 65 | 83, 83, 80 |
//! | (d / d_k)^12 | 84, 80, 64 | 82, 80, 75 |
//!
//! Under the dot product it makes no difference on these sets, whether (2 s_k - s) / s_k or 1.1, 1.25 or 1.5 in place of 2; where
//! items differ in length (`tests/recall.rs`) recalls are nearer to their targets than after a fixed number, which few large
//! leaves reach by leaps.
//!
//! The time that the slowest hundredth of the queries takes grows with the power. In a model outside of this crate, with exact
//! distances: the last of all candidates in place of the k-th takes 2 to 10 percent more entries; (d^2 + r^2 - d_k^2) / 2 d r,
//! with r the mean radius of the leaf, as many; a threshold for d / d_k alone as many as a fixed number of entries; and how
//! many entries of the last leaves became candidates tells nothing beyond that.

use super::calibration::Observed;
use crate::format::record::{CALIBRATED_RECALLS, Reach};
use crate::metric::Metric;

/// The candidate whose distance is told, if more are wanted.
pub(crate) const NEAR: usize = 10;
/// How many times the usual number of entries a search looks at, at most, to be assured of its hits.
pub(crate) const MOST_ENTRIES: f64 = 4.0;
/// The bounds of (d / d_k)^2. Sketches tell very small distances badly, and with fewer than k candidates d_k is infinite.
const RATIOS: std::ops::RangeInclusive<f32> = 0.25..=4.0;
/// Steps in which the assurance for a recall is sought between the least and the most that was observed. With up to 2^20 times the
/// entries and 2^16 times the ratio these are e^25 apart at most, so that it is found to 1 part in 40,000.
const BISECTIONS: usize = 20;
/// How many times more assurance the next recall is given if it was out of reach.
const OUT_OF_REACH: f64 = 4.0;

/// (d / d_k)^8 for the score of the next leaf and that of the k-th candidate.
pub(crate) fn ease(metric: Metric, leaf: f32, kth: f32) -> f64 {
    let ratio = match metric {
        // Scores are less than that of the origin, which is 0, by an inner product.
        Metric::DotProduct if kth < 0.0 => 2.0 - leaf / kth,
        Metric::DotProduct => *RATIOS.start(),
        // Estimates of what is very near may be less than zero.
        _ if kth <= 0.0 => *RATIOS.end(),
        Metric::Manhattan => (leaf / kth) * (leaf / kth),
        // The other scores are squares.
        _ => leaf / kth,
    };
    f64::from(ratio.clamp(*RATIOS.start(), *RATIOS.end())).powi(4)
}

/// The assurance that each recall of k neighbours takes with so many comparisons, from what was observed of queries; `of_k` is
/// the number of this k among those calibrated. Zeros if nothing was told.
pub(crate) fn fit(
    asked: &[&Observed],
    (of_k, k): (usize, usize),
    reach: &[Reach; CALIBRATED_RECALLS.len()],
) -> [u32; CALIBRATED_RECALLS.len()] {
    let mut row = [0; CALIBRATED_RECALLS.len()];
    let told = asked.iter().flat_map(|query| query.assured.iter().map(|at| at.of_ks[of_k]));
    let (least, most) = told.fold((f64::INFINITY, 0.0f64), |(least, most), at| (least.min(at), most.max(at)));
    if !(least > 0.0 && most >= least && most.is_finite()) {
        return row;
    }
    let mut before = 1.0;
    for ((row, reach), recall) in row.iter_mut().zip(reach).zip(CALIBRATED_RECALLS) {
        let is_enough = |assurance: f64| missed(asked, (of_k, k), assurance, reach) <= 1.0 - recall;
        let found = if is_enough(most) {
            let (mut low, mut high) = (least.ln(), most.ln());
            for _ in 0..BISECTIONS {
                let middle = f64::midpoint(low, high);
                (low, high) = if is_enough(middle.exp()) { (low, middle) } else { (middle, high) };
            }
            high.exp()
        } else {
            // More than what was seen not to be enough.
            (before * OUT_OF_REACH).max(most)
        };
        before = found.max(before);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let rounded = before.ceil() as u32;
        *row = rounded;
    }
    row
}

/// The part of all neighbours that queries miss which end with this assurance, or with the most entries for this effort, and
/// compare its candidates.
#[expect(clippy::cast_precision_loss, reason = "counts of neighbours")]
fn missed(asked: &[&Observed], (of_k, k): (usize, usize), assurance: f64, reach: &Reach) -> f64 {
    let most = MOST_ENTRIES * f64::from(reach.sketches);
    let (mut missed, mut all) = (0.0, 0);
    for query in asked {
        let lost =
            |step: usize| query.ranks(step, k).iter().filter(|rank| u32::from(**rank) >= reach.reranked).count() as f64;
        let upper = query.assured.partition_point(|told| told.of_ks[of_k] < assurance && told.entries < most);
        missed += match (upper.checked_sub(1), query.assured.get(upper)) {
            (Some(lower), Some(above)) => {
                let below = &query.assured[lower];
                // A search ends between the steps of the ladder, after the first leaf with which it is assured or has the most
                // entries.
                let assured = (assurance / below.of_ks[of_k]).ln() / (above.of_ks[of_k] / below.of_ks[of_k]).ln();
                let way = assured.min((most - below.entries) / (above.entries - below.entries));
                let leaves = above.leaves.saturating_sub(below.leaves).max(1) as f64;
                lost(lower) + (lost(upper) - lost(lower)) * (way * leaves).ceil().min(leaves) / leaves
            }
            (lower, _) => lost(lower.unwrap_or(0)),
        };
        all += query.neighbours.min(k);
    }
    missed / all.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::calibration::{Assured, UNSEEN};

    #[test]
    fn what_is_near_and_what_is_no_number_have_their_bounds() {
        for metric in [Metric::Euclidean, Metric::Manhattan] {
            assert!((ease(metric, 2.0, 2.0) - 1.0).abs() < 1e-9);
            assert!(ease(metric, 3.0, 2.0) > ease(metric, 2.5, 2.0));
            for (leaf, kth, expected) in
                [(1.0, 0.0, 256.0), (1.0, -1.0, 256.0), (9e9, 1.0, 256.0), (1.0, f32::INFINITY, 1.0 / 256.0)]
            {
                assert!((ease(metric, leaf, kth) - expected).abs() < 1e-9, "{leaf} {kth}");
            }
        }
        assert!((ease(Metric::Manhattan, 3.0, 2.0) - ease(Metric::Cosine, 9.0, 4.0)).abs() < 1e-6);
        // Never enough, so that the search goes on to its bound.
        assert!(ease(Metric::Euclidean, f32::NAN, 1.0).is_nan());
    }

    /// A query that has its one neighbour from the third step on, one leaf beyond the second, where it is assured of so much.
    fn query(assurance: f64) -> Observed {
        let assured = [0.25, 0.5, 1.0]
            .map(|part| Assured { leaves: 0, entries: 100.0 * part, of_ks: [part * assurance; 3] })
            .to_vec();
        Observed { neighbours: 1, ranks: vec![UNSEEN, UNSEEN, 3], assured }
    }

    #[test]
    fn a_recall_takes_the_assurance_with_which_so_many_have_their_neighbours() {
        let queries: Vec<Observed> = (1..=100u8).map(|i| query(f64::from(i) * 100.0)).collect();
        let asked: Vec<&Observed> = queries.iter().collect();
        let reach = [Reach { sketches: 100, reranked: 4 }; CALIBRATED_RECALLS.len()];
        let row = fit(&asked, (0, 1), &reach);
        assert!(row.is_sorted(), "{row:?}");
        // Whoever is not assured at the second step goes on to the third.
        for (recall, assurance) in CALIBRATED_RECALLS.into_iter().zip(row) {
            let expected = recall * 5_000.0;
            assert!((expected..expected + 52.0).contains(&f64::from(assurance)), "{recall}: {row:?}");
        }
        // With fewer comparisons none is found, whatever the assurance.
        let few = [Reach { sketches: 100, reranked: 3 }; CALIBRATED_RECALLS.len()];
        assert_eq!(fit(&asked, (0, 1), &few)[..3], [10_000, 40_000, 160_000]);
        // Nor is one found by searches that may not go as far as the third step.
        let short = [Reach { sketches: 5, reranked: 4 }; CALIBRATED_RECALLS.len()];
        assert_eq!(fit(&asked, (0, 1), &short)[..3], [10_000, 40_000, 160_000]);
        // Whoever may go a fifth of the way from the second step to the third has seen one of its four leaves.
        let mut long = query(100.0);
        long.assured[2].leaves = 4;
        let some_way = Reach { sketches: 15, reranked: 4 };
        for (most, expected) in [(some_way, 0.75), (Reach { sketches: 25, ..some_way }, 0.0)] {
            assert!((missed(&[&long], (0, 1), 1e9, &most) - expected).abs() < 1e-12, "{most:?}");
        }
        assert_eq!(fit(&[], (0, 1), &reach), [0; CALIBRATED_RECALLS.len()]);
    }
}
