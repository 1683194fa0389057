//! How much work a search may do, by what the calibration measured for its `k` and recall.

use crate::format::record::{
    CALIBRATED_RECALLS, Calibration, NO_CORRECTION, OperatingPoint, Record, most_measured,
};
use crate::search::request::{DEFAULT_RECALL, Request};

/// The smallest confidence of a search for one neighbour, divided by the square root of the number
/// of entries: docs/trials.md, "stop rule".
///
/// Usual data take twice as much. Items that lie beside their copies take less, so a calibration on
/// them measures too little for other queries.
const MIN_CONFIDENCE: f64 = 10.0;
/// What the minimum is multiplied with under inner products: their confidence has no margin. This
/// and the constants that follow are in docs/trials.md, "choices that were not swept".
const NO_MARGIN_FACTOR: f64 = 0.7;
/// What the minimum is multiplied with if the index was never calibrated.
const UNMEASURED_FACTOR: f64 = 4.0;
/// A search with `search_k` reranks at least this many candidates more than `k`.
const MIN_EXTRA_RERANK: usize = 14;

/// When a search has scanned enough.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) enum Goal {
    /// When it has this confidence: see [`super::stop_rule`].
    Confidence(f64),
    /// When it has scanned this many entries that the request admits.
    Admitted(f64),
}

/// How much a search scans and reranks.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) struct Budget {
    pub(crate) goal: Goal,
    /// Candidates to compare exactly.
    pub(crate) rerank: usize,
    /// Entries that it is expected to scan.
    pub(crate) entries: f64,
    /// Whether all items have to be compared, as the forest does not reach the target recall.
    pub(crate) is_out_of_reach: bool,
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "saturating estimates"
)]
impl Budget {
    /// The caller's `search_k` and `oversampling`, else what the target recall takes.
    pub(crate) fn new(request: &Request<'_>, record: &Record) -> Self {
        let usual = Self::for_recall(request.k, f64::from(request.options.recall), record);
        let times = |factor: f64| (request.k as f64 * factor).ceil() as usize;
        let rerank = match (request.options.oversampling, request.options.search_k) {
            (Some(factor), _) => times(f64::from(factor)),
            (None, Some(_)) => {
                times(oversampling(record)).max(request.k.saturating_add(MIN_EXTRA_RERANK))
            }
            (None, None) => usual.rerank,
        };
        let copies = f64::from(record.trees) * f64::from(1 + record.spill);
        let rerank = rerank
            .clamp(request.k, usize::try_from(record.indexed).unwrap_or(usize::MAX).max(request.k));
        match request.options.search_k {
            None => Self { rerank, ..usual },
            Some(wanted) => {
                // With fewer entries there would not be enough candidates to rerank.
                let entries = (wanted as f64).max(copies * rerank as f64);
                Self { goal: Goal::Admitted(entries), rerank, entries, is_out_of_reach: false }
            }
        }
    }

    /// What finding the `k` nearest with this recall takes.
    pub(crate) fn for_recall(k: usize, recall: f64, record: &Record) -> Self {
        let indexed = record.indexed as f64;
        let minimum = min_confidence(k, recall, record);
        let calibration = &record.calibration;
        if calibration.items == 0 {
            let (goal, rerank) = (
                Goal::Confidence(UNMEASURED_FACTOR * minimum),
                (oversampling(record) * k as f64) as usize,
            );
            return Self { goal, rerank, entries: minimum, is_out_of_reach: false };
        }
        let Some(Measured { confidence, rerank, entries }) = measured(calibration, k, recall)
        else {
            return Self {
                goal: Goal::Confidence(f64::INFINITY),
                rerank: k,
                entries: indexed,
                is_out_of_reach: true,
            };
        };
        let correction = f64::from(calibration.correction()) / f64::from(NO_CORRECTION);
        let growth = correction * growth(indexed / calibration.items as f64);
        let minimum = if calibration.is_of_user() { 0.0 } else { minimum };
        let confidence = (confidence * growth).max(minimum);
        // Not rounded up: logarithms are not exact, and 3 comparisons instead of 2 are half as much
        // again.
        let rerank = rerank.round() as usize;
        Self {
            goal: Goal::Confidence(confidence),
            rerank,
            entries: entries * growth,
            is_out_of_reach: false,
        }
    }

    /// A budget that is `factor` times as large.
    pub(crate) fn times(self, factor: u32) -> Self {
        let times = |wanted: f64| wanted * f64::from(factor);
        let goal = match self.goal {
            Goal::Confidence(wanted) => Goal::Confidence(times(wanted)),
            Goal::Admitted(wanted) => Goal::Admitted(times(wanted)),
        };
        let rerank = self.rerank.saturating_mul(factor as usize);
        Self { goal, rerank, entries: times(self.entries), ..self }
    }
}

/// Candidates to rerank per neighbour if the index was never calibrated.
fn oversampling(record: &Record) -> f64 {
    match record.sketch_bits {
        1 => 8.0,
        2 => 4.0,
        _ => 3.0,
    }
}

/// How much more confidence the same recall takes if the number of items changes by a factor.
///
/// It grows more slowly than the index. It falls even more slowly when items are deleted: the
/// forest that is left is worse than a fresh one. The powers are in docs/trials.md, "choices that
/// were not swept".
fn growth(times: f64) -> f64 {
    times.powf(if times < 1.0 { 0.4 } else { 0.7 })
}

/// The smallest confidence of any search, whatever a calibration on items measured.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn min_confidence(k: usize, recall: f64, record: &Record) -> f64 {
    let copies = f64::from(record.trees) * f64::from(1 + record.spill);
    // A stricter target than the default takes more confidence.
    let strictness = (1.0 - f64::from(DEFAULT_RECALL)) / (1.0 - recall).max(1e-3);
    let times = if record.metric().is_inner_product() { NO_MARGIN_FACTOR } else { 1.0 };
    times
        * MIN_CONFIDENCE
        * (copies * record.indexed as f64).sqrt()
        * (k as f64).powf(0.2)
        * strictness.max(1.0).sqrt()
}

/// What a calibration measured for some `k` and recall.
struct Measured {
    confidence: f64,
    /// Candidates to rerank.
    rerank: f64,
    /// Entries to scan.
    entries: f64,
}

/// What a search takes, interpolated between the measured points.
///
/// Interpolates linearly in the logarithms of k, of the part missed, and of the three values. For
/// larger k than were measured, the values grow in proportion. `None` if the recall is out of
/// reach.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn measured(calibration: &Calibration, k: usize, recall: f64) -> Option<Measured> {
    let ks = calibration.ks();
    let largest = *ks.last()?;
    let missed = |recall: f64| -(1.0 - recall).max(1e-6).ln();
    let by_recall = Interpolation::new(
        &CALIBRATED_RECALLS.map(missed),
        missed(recall.max(CALIBRATED_RECALLS[0])),
    );
    let by_k = Interpolation::new(&ks.map(|k| (k as f64).ln()), (k.clamp(1, largest) as f64).ln());
    let at = |value: fn(&OperatingPoint) -> f64| {
        by_k.value(|k| {
            by_recall.value(|recall| value(&calibration.points[k][recall]).max(1.0).ln())
        })
        .exp()
    };
    // For so large a part of the items nothing was measured, and comparing all costs little more.
    if k > largest && k as u64 > most_measured(calibration.items) {
        return None;
    }
    let times = (k as f64 / largest as f64).max(1.0);
    let confidence = at(|point| f64::from(point.confidence)) * times;
    let rerank = (at(|point| f64::from(point.rerank)) * times).max(k as f64);
    let entries = at(|point| f64::from(point.entries)) * times;
    let is_in_reach = [confidence, rerank, entries].iter().all(|value| value.is_finite());
    is_in_reach.then_some(Measured { confidence, rerank, entries })
}

/// How far from a point counts as being at it, as a part of the way to the next.
const ROUNDING: f64 = 1e-4;

/// Linear interpolation at one `x` between points with ascending `x`. The last line goes on beyond
/// the last point.
struct Interpolation {
    /// The point after `x`.
    upper: usize,
    /// How far `x` is from the point before to that one: 1 is all the way.
    fraction: f64,
}

impl Interpolation {
    fn new(xs: &[f64], x: f64) -> Self {
        let upper = xs.partition_point(|known| *known < x).clamp(1, xs.len() - 1);
        let (x0, x1) = (xs[upper - 1], xs[upper]);
        let fraction = ((x - x0) / (x1 - x0)).max(0.0);
        // Users give a recall in single precision. What is beyond a point by its rounding is at it.
        let fraction = if fraction < ROUNDING { 0.0 } else { fraction };
        Self { upper, fraction }
    }

    /// The value at `x`, given those at the points.
    fn value(&self, y: impl Fn(usize) -> f64) -> f64 {
        match self.fraction {
            // Zero times infinity is no number.
            0.0 => y(self.upper - 1),
            1.0 => y(self.upper),
            fraction => y(self.upper - 1) * (1.0 - fraction) + y(self.upper) * fraction,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metric;
    use crate::index_spec::IndexSpec;

    /// .98 in single precision is more than the number that was measured.
    #[test]
    fn a_measured_recall_is_in_reach_though_the_next_is_not() {
        let mut record = Record::new(IndexSpec::plain(0, 8, Metric::Euclidean));
        (record.items, record.indexed, record.trees) = (100_000, 100_000, 1);
        record.calibration.items = 100_000;
        let measured = OperatingPoint { confidence: 50_000.0, rerank: 40, entries: 9_000 };
        for row in &mut record.calibration.points {
            for (point, recall) in row.iter_mut().zip(CALIBRATED_RECALLS) {
                *point = if recall > 0.98 { OperatingPoint::OUT_OF_REACH } else { measured };
            }
        }
        let budget = |recall: f32| Budget::for_recall(10, f64::from(recall), &record);
        assert_eq!((budget(0.98).is_out_of_reach, budget(0.98).rerank), (false, 40));
        assert!(!budget(0.97).is_out_of_reach && budget(0.985).is_out_of_reach);
    }
}
