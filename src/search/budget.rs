//! How much of the forest a search looks at: what a calibration measured for its number of
//! neighbours and its recall.

use crate::format::record::{
    CALIBRATED_RECALLS, Calibration, NO_CORRECTION, OperatingPoint, Record, most_measured,
};
use crate::search::request::{DEFAULT_RECALL, Request};

/// The confidence that searches have at least, for the square root of the number of entries:
/// docs/trials.md, "stop rule".
///
/// Usual data take twice as much. Items that all lie beside copies of themselves would teach less,
/// and queries that are no items take more.
const MIN_CONFIDENCE: f64 = 10.0;
/// The part of that under the dot product, whose confidence knows no margin.
const WITHOUT_MARGIN: f64 = 0.7;
/// How many times more it is where nothing was measured.
const UNMEASURED: f64 = 4.0;
/// Candidates beyond the neighbours that a search of a chosen length compares at least.
const MIN_MORE: usize = 14;

/// When a search has looked at enough.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) enum Goal {
    /// Its confidence is so large: see [`super::stop_rule`].
    Confidence(f64),
    /// It has looked at so many entries that the request admits.
    Admitted(f64),
}

/// How much of the forest a search looks at.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) struct Budget {
    pub(crate) goal: Goal,
    /// Candidates to compare exactly.
    pub(crate) rerank: usize,
    /// Entries that it will look at, by estimate.
    pub(crate) entries: f64,
    /// Whether the forest was found not to reach what is wanted, so that all items have to be
    /// compared.
    pub(crate) is_out_of_reach: bool,
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "saturating estimates"
)]
impl Budget {
    /// The user's knobs, else what reached the recall that he wants when it was measured.
    pub(crate) fn new(request: &Request<'_>, record: &Record) -> Self {
        let usual = Self::for_recall(request.k, f64::from(request.options.recall), record);
        let times = |factor: f64| (request.k as f64 * factor).ceil() as usize;
        let rerank = match (request.options.oversampling, request.options.search_k) {
            (Some(factor), _) => times(f64::from(factor)),
            (None, Some(_)) => times(oversampling(record)).max(request.k.saturating_add(MIN_MORE)),
            (None, None) => usual.rerank,
        };
        let copies = f64::from(record.trees) * f64::from(1 + record.spill);
        let rerank = rerank
            .clamp(request.k, usize::try_from(record.indexed).unwrap_or(usize::MAX).max(request.k));
        match request.options.search_k {
            None => Self { rerank, ..usual },
            Some(wanted) => {
                // The best of so many candidates have to be met.
                let entries = (wanted as f64).max(copies * rerank as f64);
                Self { goal: Goal::Admitted(entries), rerank, entries, is_out_of_reach: false }
            }
        }
    }

    /// What this recall of the k nearest takes.
    pub(crate) fn for_recall(k: usize, recall: f64, record: &Record) -> Self {
        let indexed = record.indexed as f64;
        let least = least_confidence(k, recall, record);
        let calibration = &record.calibration;
        if calibration.items == 0 {
            let (goal, rerank) =
                (Goal::Confidence(UNMEASURED * least), (oversampling(record) * k as f64) as usize);
            return Self { goal, rerank, entries: least, is_out_of_reach: false };
        }
        let Some([confidence, rerank, entries]) = measured(calibration, k, recall) else {
            return Self {
                goal: Goal::Confidence(f64::INFINITY),
                rerank: k,
                entries: indexed,
                is_out_of_reach: true,
            };
        };
        let correction = f64::from(calibration.correction()) / f64::from(NO_CORRECTION);
        let growth = correction * growth(indexed / calibration.items as f64);
        let least = if calibration.is_of_queries == 1 { 0.0 } else { least };
        let confidence = (confidence * growth).max(least);
        // Not up: logarithms and targets in `f32` are not exact, and one more is much where two
        // would do.
        let rerank = rerank.round() as usize;
        Self {
            goal: Goal::Confidence(confidence),
            rerank,
            entries: entries * growth,
            is_out_of_reach: false,
        }
    }

    /// So many times more of everything.
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

/// Candidates to compare for each neighbour where nothing was measured.
fn oversampling(record: &Record) -> f64 {
    match record.sketch_bits {
        1 => 8.0,
        2 => 4.0,
        _ => 3.0,
    }
}

/// By how much the confidence that a fixed recall takes changes with the number of items. It grows
/// less fast than they do. Where items go it falls less: what is left of a forest is not as good as
/// a fresh one.
fn growth(times: f64) -> f64 {
    times.powf(if times < 1.0 { 0.4 } else { 0.7 })
}

/// What a search that knows nothing else of the data ends with at least.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn least_confidence(k: usize, recall: f64, record: &Record) -> f64 {
    let copies = f64::from(record.trees) * f64::from(1 + record.spill);
    // What is missed is about as rare as the confidence is large.
    let strictness = (1.0 - f64::from(DEFAULT_RECALL)) / (1.0 - recall).max(1e-3);
    let times = if record.metric().is_inner_product() { WITHOUT_MARGIN } else { 1.0 };
    times
        * MIN_CONFIDENCE
        * (copies * record.indexed as f64).sqrt()
        * (k as f64).powf(0.2)
        * strictness.max(1.0).sqrt()
}

/// Straight lines between what was measured. They are in the logarithms of k, of what is missed,
/// and of confidence, comparisons and entries. `None` if that was out of reach. More neighbours
/// than were measured take as much more of each.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn measured(calibration: &Calibration, k: usize, recall: f64) -> Option<[f64; 3]> {
    let ks = calibration.ks();
    let largest = *ks.last()?;
    let missed = |recall: f64| -(1.0 - recall).max(1e-6).ln();
    let of_recalls =
        Line::through(&CALIBRATED_RECALLS.map(missed), missed(recall.max(CALIBRATED_RECALLS[0])));
    let of_ks = Line::through(&ks.map(|k| (k as f64).ln()), (k.clamp(1, largest) as f64).ln());
    let at = |value: fn(&OperatingPoint) -> f64| {
        of_ks
            .at(|k| of_recalls.at(|recall| value(&calibration.points[k][recall]).max(1.0).ln()))
            .exp()
    };
    // Beyond a part of all items comparing all takes little more, and what lies there was not
    // measured.
    if k > largest && k as u64 > most_measured(calibration.items) {
        return None;
    }
    let times = (k as f64 / largest as f64).max(1.0);
    let all = [
        at(|point| f64::from(point.confidence)) * times,
        (at(|point| f64::from(point.rerank)) * times).max(k as f64),
        at(|point| f64::from(point.entries)) * times,
    ];
    all.iter().all(|value| value.is_finite()).then_some(all)
}

/// A place on straight lines through points with ascending `x`; the last line goes on beyond the
/// end.
struct Line {
    /// The point behind it, and which part of the way from the one before that is covered.
    upper: usize,
    way: f64,
}

impl Line {
    fn through(xs: &[f64], x: f64) -> Self {
        let upper = xs.partition_point(|known| *known < x).clamp(1, xs.len() - 1);
        let (x0, x1) = (xs[upper - 1], xs[upper]);
        Self { upper, way: ((x - x0) / (x1 - x0)).max(0.0) }
    }

    /// The value there, if these are the values of the points.
    fn at(&self, y: impl Fn(usize) -> f64) -> f64 {
        match self.way {
            // What is infinite beside the place must not be counted.
            0.0 => y(self.upper - 1),
            1.0 => y(self.upper),
            way => y(self.upper - 1) * (1.0 - way) + y(self.upper) * way,
        }
    }
}
