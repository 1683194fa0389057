//! From traced queries to operating points: which confidence, and how many comparisons, reach which
//! recall.
//!
//! A search finds a neighbour if it ends with more confidence than it had before the neighbour's
//! leaf. So what a recall takes is the quantile of these numbers over all neighbours of all
//! queries. When searches end with that, some candidates look better than a neighbour. The number
//! of comparisons is the quantile of how many. With some comparisons more, less confidence may be
//! enough: the quantile over the neighbours that are compared.
//!
//! What finds items by their own vectors is the least that every search does.

use rayon::prelude::*;

use crate::calibrate::trace::{Confidences, Neighbour, Reached, RecallGoal, RecallGoals, UNRANKED};
use crate::format::record::{CALIBRATED_RECALLS, Calibration, OperatingPoint, calibrated_ks};
use crate::search::request::DEFAULT_RECALL;

/// The share of allowed misses that reranking may cause: docs/trials.md, "choices that were not
/// swept".
const LOST_TO_RERANK: f64 = 0.25;
/// Comparisons beyond the neighbours themselves, at least: sketches cannot distinguish what lies
/// close together. Not swept either.
const MIN_BEYOND: u32 = 7;
/// The least confidence and extra reranks, as parts of those for the next larger k. Usual data take
/// more: docs/trials.md, "fewer neighbours".
const OF_MORE: [(f32, f32); 3] = [(0.7, 0.3), (0.35, 0.1), (0.3, 0.1)];
/// The part of all items that have to be found by their own vectors. A search for one neighbour
/// wants so many times the confidence and the comparisons that took: docs/trials.md, "own vectors".
const FOUND_BY_ITSELF: f64 = 0.999;
const OWN_LEEWAY: f32 = 4.0;

/// The value below which this part of sorted numbers lies. `None` if there are too few.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "counts of neighbours"
)]
fn quantile<T: Copy>(sorted: &[T], part: f64) -> Option<T> {
    let place = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(place.max(1) - 1).copied()
}

/// The part of all items that searches which aim at this recall have to find by their own vectors.
fn found_by_itself(recall: f64) -> f64 {
    if recall >= f64::from(DEFAULT_RECALL) - f64::from(f32::EPSILON) {
        FOUND_BY_ITSELF
    } else {
        recall
    }
}

/// Queries that were asked for their k nearest.
#[derive(Copy, Clone)]
struct SampleSize {
    queries: usize,
    k: usize,
}

impl SampleSize {
    /// The part that these queries have to find so that others find this part: a sample may be
    /// lucky by its standard error.
    #[expect(clippy::cast_precision_loss, reason = "at most some thousand")]
    fn surely(self, recall: f64) -> f64 {
        // The error of one query falls with the number of its neighbours. They lie together, so
        // that it falls with the root only.
        let sample = self.queries as f64 * (self.k as f64).sqrt();
        let error = (recall * (1.0 - recall) / sample.max(1.0)).sqrt();
        recall + error.min((1.0 - recall) / 2.0)
    }
}

/// The confidence for each number of neighbours and recall, a part of what may be missed left to
/// comparisons.
pub(crate) fn goals(all: &[Confidences]) -> RecallGoals {
    let ks = all.iter().map(|query| query.of_neighbours.len()).max().unwrap_or(0);
    let sorted = |mut numbers: Vec<f32>| {
        numbers.par_sort_unstable_by(f32::total_cmp);
        numbers
    };
    let own = sorted(all.iter().map(|query| query.own).collect());
    let goal = |of_k: usize| {
        let asked: Vec<&Vec<f32>> =
            all.iter().filter_map(|query| query.of_neighbours.get(of_k)).collect();
        let k = asked.first().map_or(1, |numbers| numbers.len());
        let sample = SampleSize { queries: asked.len(), k };
        let numbers = sorted(asked.into_iter().flatten().copied().collect());
        CALIBRATED_RECALLS.map(|recall| {
            let part = 1.0 - (1.0 - sample.surely(recall)) * (1.0 - LOST_TO_RERANK);
            let needed = quantile(&numbers, part).unwrap_or(f32::INFINITY);
            // So few queries say little about what is so rare. More neighbours take more anyway.
            let leeway =
                if of_k == 0 && found_by_itself(recall) > recall { OWN_LEEWAY } else { 1.0 };
            let own = quantile(&own, found_by_itself(recall)).unwrap_or(0.0) * leeway;
            // A search that ends with one of these has not scanned the leaf before which it had it.
            let [own, confidence] =
                [own, needed.max(own)].map(|number| f64::from(number.next_up()));
            RecallGoal { confidence, own, leeway }
        })
    };
    (0..ks).map(goal).collect()
}

/// What each recall takes, from what queries have found with these goals. `items` is how many the
/// forest holds.
#[expect(clippy::cast_possible_truncation, reason = "at most some thousand queries")]
pub(crate) fn fit(
    goals: &RecallGoals,
    all: &[Vec<Vec<Reached>>],
    items: u64,
    source: u32,
) -> Calibration {
    let mut calibration = Calibration::default();
    (calibration.items, calibration.queries) = (items, all.len() as u32);
    calibration.source = source;
    for (of_k, (row, k)) in calibration.points.iter_mut().zip(calibrated_ks(items)).enumerate() {
        let asked: Vec<&[Reached]> =
            all.iter().filter_map(|query| query.get(of_k)).map(Vec::as_slice).collect();
        for (of_recall, (point, recall)) in row.iter_mut().zip(CALIBRATED_RECALLS).enumerate() {
            let goal = goals
                .get(of_k)
                .map(|goals| goals[of_recall])
                .filter(|goal| goal.confidence.is_finite());
            let reached: Vec<&Reached> =
                asked.iter().filter_map(|of_k| of_k.get(of_recall)).collect();
            let sample = SampleSize { queries: asked.len(), k };
            let fitted = goal.and_then(|goal| operating_point(goal, &reached, sample, recall));
            *point = fitted.unwrap_or(OperatingPoint::OUT_OF_REACH);
        }
    }
    // The user's own queries need no guess about others.
    if !calibration.is_of_user() {
        hold_together(&mut calibration);
    }
    calibration.points.iter_mut().for_each(|row| rise(row));
    calibration
}

/// What a recall takes, from what some queries of a sample have reached; none if that is too
/// little.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "estimates"
)]
fn operating_point(
    goal: RecallGoal,
    reached: &[&Reached],
    sample: SampleSize,
    recall: f64,
) -> Option<OperatingPoint> {
    let SampleSize { queries, k } = sample;
    let mut neighbours: Vec<Neighbour> =
        reached.iter().flat_map(|reached| reached.neighbours.iter().copied()).collect();
    // A query that did not come so far has scanned all that it may. It counts as one that has found
    // nothing.
    let missed = Neighbour { rank: UNRANKED, confidence: f32::INFINITY };
    neighbours.resize(neighbours.len() + (queries - reached.len()) * k, missed);
    neighbours.sort_unstable_by_key(|neighbour| neighbour.rank);
    let mut own_ranks: Vec<u32> = reached.iter().map(|reached| reached.own_rank).collect();
    own_ranks.sort_unstable();
    let own = quantile(&own_ranks, found_by_itself(recall)).unwrap_or(0);
    let own = if own == UNRANKED { own } else { ((own + 1) as f32 * goal.leeway) as u32 - 1 };
    let part = sample.surely(recall);
    // As many as are wanted are compared in any case.
    let last = quantile(&neighbours, part)?.rank.max(own).max(k as u32 - 1);
    if last == UNRANKED {
        return None;
    }
    let compared = neighbours.partition_point(|neighbour| neighbour.rank <= last);
    let mut confidences: Vec<f32> =
        neighbours[..compared].iter().map(|neighbour| neighbour.confidence).collect();
    confidences.sort_unstable_by(f32::total_cmp);
    let part_of_compared = part * neighbours.len() as f64 / compared as f64;
    let enough = f64::from(quantile(&confidences, part_of_compared)?.next_up());
    let confidence = enough.max(goal.own).min(goal.confidence) as f32;
    let entries = reached.iter().map(|reached| reached.entries).sum::<f64>() / reached.len() as f64;
    Some(OperatingPoint { confidence, rerank: last + 1, entries: entries.ceil() as u32 })
}

/// Lets more recall take no less of anything. Where a recall has no operating point, that of a
/// higher one is enough.
fn rise(row: &mut [OperatingPoint]) {
    for i in (1..row.len()).rev() {
        if !row[i - 1].confidence.is_finite() {
            row[i - 1] = row[i];
        }
    }
    for i in 1..row.len() {
        let (less, more) = (row[i - 1], &mut row[i]);
        more.confidence = more.confidence.max(less.confidence);
        (more.rerank, more.entries) =
            (more.rerank.max(less.rerank), more.entries.max(less.entries));
    }
}

/// Lets fewer neighbours take at least a part of what more of them take.
///
/// Where each item lies beside a twin, items as queries say that the nearest leaf is enough. A
/// query without a twin takes what the neighbours beyond it do.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "estimates"
)]
fn hold_together(calibration: &mut Calibration) {
    let ks = calibration.ks();
    for (points, k) in calibration.points.iter_mut().zip(ks) {
        for point in points.iter_mut().filter(|point| point.confidence.is_finite()) {
            point.rerank = point.rerank.max(k as u32 + MIN_BEYOND);
        }
    }
    for (of_k, (confidence, rerank)) in OF_MORE.into_iter().enumerate().rev() {
        let [(fewer, few), (more, many)] =
            [of_k, of_k + 1].map(|of_k| (calibration.points[of_k], ks[of_k]));
        for (of_recall, (fewer, more)) in fewer.into_iter().zip(more).enumerate() {
            // What the forest reaches for few is not lost because it does not for many.
            if more.confidence.is_finite() && fewer.confidence.is_finite() {
                let beyond = few as f32 + rerank * more.rerank.saturating_sub(many as u32) as f32;
                let point = &mut calibration.points[of_k][of_recall];
                point.confidence = fewer.confidence.max(confidence * more.confidence);
                point.rerank = fewer.rerank.max(beyond as u32);
            }
        }
    }
}
