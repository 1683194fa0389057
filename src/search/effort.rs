//! How much of the forest a search looks at.

use super::assurance::{MOST_ENTRIES, NEAR};
use super::request::Request;
use crate::format::record::{CALIBRATED_KS, CALIBRATED_RECALLS, Calibration, NO_CORRECTION, Reach, Record};
use crate::metric::Metric;

/// The recall that searches aim at unless they are told otherwise.
pub(crate) const DEFAULT_RECALL: f32 = 0.95;

/// Entries to look at for each of many neighbours and each of its leaves, beyond what few take.
const MET_AGAIN: f64 = 1.5;
/// The bounds of the power of entries with which the assurance grows. Over recalls it was found to be 1.3 among 100,000 vectors
/// of sift and of minilm, over numbers of vectors 1.5; where few leaves are scanned, more.
const ASSURANCE_POWERS: std::ops::RangeInclusive<f64> = 1.0..=4.0;
/// The recalls between which that power is told, among those calibrated: .8 and .98.
const STEEP: [usize; 2] = [2, 5];
/// By how much the entries of a search with a filter grow before it is asked again whether it is assured of its hits.
const STEPS: std::ops::RangeInclusive<f64> = 1.1..=2.0;
/// By what part more often than all of the nearest on average the last of them is missed: a guess, of which the `filters` bench of
/// the peers tells what recall it gives. Where random filters admit 5 and 25 percent, the one nearest was found at .930 and .947
/// (sift) or .913 and .913 (minilm) without it, and at .943 and .963 or .943 and .947 with it (a trial, 300 queries).
const LAST_MISSED: f32 = 0.5;
/// The least part of what may be missed, to which that is narrowed for the last of many.
const LEAST_MISSED: f32 = 1.0 / 32.0;

/// How much of the forest a search looks at.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) struct Effort {
    /// Leaf sketches to scan where every entry is admitted.
    pub(crate) budget: usize,
    /// Candidates to rerank.
    pub(crate) rerank: usize,
    /// Whether the budget counts entries that the filter admits, whatever it leaves out between them.
    counts_admitted: bool,
    /// The [`assurance`] with which the search ends, if that was measured for what is wanted.
    assurance: Option<f64>,
    /// For ten times the neighbours, the logarithm (to ten) of how many times the budget is needed.
    growth: f64,
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "saturating estimates"
)]
impl Effort {
    /// The user's knobs, else what reached the recall that he wants when it was measured.
    pub(crate) fn new(request: &Request<'_>, record: &Record, metric: Metric) -> Self {
        let searched = record.indexed as f64;
        let measured = Some(&record.calibration).filter(|calibration| calibration.items > 0);
        let correction = f64::from(record.calibration.correction()) / f64::from(NO_CORRECTION);
        let reach = measured.map(|calibration| {
            let (budget, rerank) = calibrated(calibration, request.k, f64::from(request.recall));
            let growth = growth(searched / calibration.items as f64);
            let assurance = assured(calibration, request, correction * growth);
            // Only filters ask for it.
            let tenfold = || calibrated(calibration, request.k.saturating_mul(10), f64::from(request.recall)).0;
            let tenfold = if request.filter.is_none() { budget } else { tenfold() };
            (budget * growth, rerank, (tenfold / budget).log10(), assurance)
        });
        let natural = || natural(record, metric, searched, request);
        let aimed = || correction * reach.map_or_else(natural, |reach| reach.0);
        let budget = request.search_k.unwrap_or_else(|| aimed() as usize).max(1);
        let plain = f64::from(request.oversampling.unwrap_or(match record.sketch_bits {
            1 => 8.0,
            2 => 4.0,
            _ => 3.0,
        }));
        let rerank = match reach {
            Some((_, rerank, ..)) if request.oversampling.is_none() && request.search_k.is_none() => {
                // Not up: logarithms and targets in `f32` are not exact, and one more is much where two would do.
                rerank.round() as usize
            }
            _ => (request.k as f64 * plain).ceil() as usize,
        };
        let is_plain = request.oversampling.is_none() && (reach.is_none() || request.search_k.is_some());
        let floor = if is_plain { request.k.saturating_add(14) } else { request.k };
        Self {
            budget,
            rerank: rerank.max(floor),
            assurance: reach.and_then(|reach| reach.3),
            counts_admitted: request.search_k.is_some(),
            growth: reach.map_or(0.5, |reach| reach.2).clamp(0.0, 1.0),
        }
    }

    /// The effort for the `rank` nearest of all, which may be many more than it was measured for, of which the last `k` are
    /// wanted, or some anywhere among them (`None`).
    ///
    /// Lines through what was measured for few neighbours are too flat for many: all of these have to be met, in each of their
    /// leaves, and the more there are, the more look about as near as the last one, in proportion. The `filters` bench of the
    /// peers prints what recall that gives.
    ///
    /// What is missed for want of comparisons is the last of the nearest: if only these are wanted, so many times less may be. And
    /// of `k` hits anywhere among these ranks one is the last, which is missed more often than the others are.
    pub(crate) fn for_rank(
        rank: usize,
        last: Option<usize>,
        request: &Request<'_>,
        record: &Record,
        metric: Metric,
    ) -> Self {
        let most = CALIBRATED_KS[CALIBRATED_KS.len() - 1];
        let missed = if rank > request.k { 1.0 + LAST_MISSED / request.k.max(1) as f32 } else { 1.0 };
        let request = &Request { recall: 1.0 - (1.0 - request.recall) / missed, ..*request };
        let effort = Self::new(&Request { k: rank, ..*request }, record, metric);
        let part = last.map_or(1.0, |last| (last as f32 / rank as f32).clamp(LEAST_MISSED, 1.0));
        let recall = 1.0 - (1.0 - request.recall) * part;
        let strict = |k: usize| Self::new(&Request { k, recall, ..*request }, record, metric).rerank;
        if rank <= most {
            // That is measured for the nearest, and not for the last of them alone.
            return if last.is_none() { effort } else { Self { rerank: strict(rank), assurance: None, ..effort } };
        }
        let measured = strict(most);
        let copies = f64::from(record.trees) * f64::from(1 + record.spill);
        let budget = effort.budget.saturating_add((MET_AGAIN * copies * (rank - most) as f64) as usize);
        let rerank = (measured as f64 / most as f64 * rank as f64) as usize;
        Self { budget, rerank: rerank.max(effort.rerank), ..effort }
    }

    /// Whether enough has been looked at: so many entries, of which the filter admits so many.
    ///
    /// The k nearest of those that a filter admits are among the k / s nearest of all, where it admits the part s: so many
    /// have to be looked for. What counts is the part that it admits around the query.
    pub(crate) fn is_met(&self, entries: f64, admitted: f64) -> bool {
        if self.counts_admitted {
            return admitted >= self.budget as f64;
        }
        entries >= self.entries_for(admitted / entries)
    }

    /// Whether a search for the nearest has looked at enough entries, of which the next one is this far beyond its hits: see
    /// [`assurance::ease`].
    pub(crate) fn is_assured(&self, entries: f64, ease: impl FnOnce() -> f64) -> bool {
        let budget = self.budget as f64;
        match self.assurance {
            Some(wanted) => entries >= MOST_ENTRIES * budget || entries * ease() >= wanted,
            None => entries >= budget,
        }
    }

    /// Whether [`Effort::is_assured`] goes by an assurance.
    pub(crate) fn is_measured(&self) -> bool {
        self.assurance.is_some()
    }

    /// Entries after which that is to be asked again, if so many were not enough: always more, at most `most` times as many where
    /// no assurance tells.
    pub(crate) fn next_budget(&self, entries: f64, ease: f64, most: f64) -> usize {
        // Step by step, since what the effort is for is an estimate.
        let next = match self.assurance.map(|wanted| wanted / (entries * ease)) {
            // The leaves to come are farther, so that the assurance rises faster than the entries do.
            Some(lacks) if !lacks.is_nan() => entries * lacks.sqrt().clamp(*STEPS.start(), *STEPS.end()),
            Some(_) => entries * STEPS.start(),
            None => (self.budget as f64).max(1.5 * entries).min(most * entries),
        };
        next.max(entries + 1.0) as usize
    }

    /// The candidate whose distance has to be known for that, if `k` are wanted; 0 if none has to.
    pub(crate) fn near(&self, k: usize) -> usize {
        self.assurance.map_or(0, |_| k.min(NEAR))
    }

    /// Entries to look at where the filter admits this part of them.
    pub(crate) fn entries_for(&self, part: f64) -> f64 {
        let budget = self.budget as f64;
        match part {
            1.0.. => budget,
            _ if part > 0.0 => budget * part.powf(-self.growth),
            // Nothing that is admitted has been met, or nothing at all.
            _ => f64::INFINITY,
        }
    }
}

/// By how much the sketches that a fixed recall needs change with the number of items: about with its square root, and less
/// where items go. What is left of a forest then is not as good as a fresh one: with the root, 1,200 items left of 12,000 were
/// found with a recall of .89 to .91 under the cosine metric, and .92 to .95 with this (`tests/quality.rs`, seeds 3, 4, 7).
fn growth(times: f64) -> f64 {
    times.powf(if times < 1.0 { 0.3 } else { 0.5 })
}

/// What reached a recall@10 of .95 and more on the sets it was tried on, for forests that were never measured.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn natural(record: &Record, metric: Metric, searched: f64, request: &Request<'_>) -> f64 {
    let copies = f64::from(record.trees) * f64::from(1 + record.spill);
    let natural = 11.0 * copies.sqrt() * searched.sqrt() * (1.0 + request.k as f64 / 10.0).sqrt();
    // The square of what is missed is about as rare as the sketches are many.
    let strictness = ((1.0 - f64::from(DEFAULT_RECALL)) / (1.0 - f64::from(request.recall)).max(1e-6)).sqrt();
    // The centroids of leaves follow inner products less closely than distances.
    let natural = if metric == Metric::DotProduct { 2.0 * natural } else { natural };
    natural * strictness
}

/// Neighbours that the queries of a calibration have to miss for what they tell to be relied on.
const TELLING: f64 = 5.0;

/// Whether the queries were enough to miss some of their k neighbours at this recall.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn is_telling(calibration: &Calibration, k: usize, recall: f64) -> bool {
    f64::from(calibration.queries) * k as f64 * (1.0 - recall) >= TELLING
}

/// Sketches and exact comparisons for a recall of k neighbours, as measured. Where the queries were too few to miss some at
/// this recall, at least what more neighbours, which are missed more often, take.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn calibrated(calibration: &Calibration, k: usize, recall: f64) -> (f64, f64) {
    let (budget, rerank) = measured(calibration, k, recall);
    if is_telling(calibration, k, recall) {
        return (budget, rerank);
    }
    let more = k.saturating_mul(10);
    let (most, beyond) = measured(calibration, more, recall);
    (budget.max(most), rerank.max(k as f64 + beyond - more as f64))
}

/// The assurance for what is wanted where that takes so many times the entries that it took, if it lies within what was
/// measured and told.
fn assured(calibration: &Calibration, request: &Request<'_>, times: f64) -> Option<f64> {
    let (k, recall) = (request.k, f64::from(request.recall).max(CALIBRATED_RECALLS[0]));
    let is_within = k <= CALIBRATED_KS[CALIBRATED_KS.len() - 1]
        && recall <= CALIBRATED_RECALLS[CALIBRATED_RECALLS.len() - 1] + f64::from(f32::EPSILON)
        && is_telling(calibration, k, recall);
    let is_measured = calibration.assurance.as_flattened().iter().all(|assurance| *assurance > 0);
    if !(is_within && is_measured && request.search_k.is_none()) {
        return None;
    }
    let (of_ks, of_recalls) = lines(k, recall);
    let log = |k: usize, recall: usize| f64::from(calibration.assurance[k][recall]).ln();
    let usual = of_ks.at(|k| of_recalls.at(|recall| log(k, recall)));
    if times == 1.0 {
        return Some(usual.exp());
    }
    // As far as the assurance of another recall that takes so many times the entries would be.
    let sketches = |k: usize, recall: usize| f64::from(calibration.reach[k][recall].sketches.max(1)).ln();
    let rise = of_ks.at(|k| log(k, STEEP[1]) - log(k, STEEP[0]));
    let power = rise / of_ks.at(|k| sketches(k, STEEP[1]) - sketches(k, STEEP[0]));
    let power = if power.is_nan() { *ASSURANCE_POWERS.start() } else { power };
    Some((usual + power.clamp(*ASSURANCE_POWERS.start(), *ASSURANCE_POWERS.end()) * times.ln()).exp())
}

/// Straight lines between what was measured, in the logarithms of k, of what is missed, and of the effort.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn measured(calibration: &Calibration, k: usize, recall: f64) -> (f64, f64) {
    let (of_ks, of_recalls) = lines(k, recall);
    let log = |value: u32| f64::from(value.max(1)).ln();
    let at =
        |value: fn(Reach) -> u32| of_ks.at(|k| of_recalls.at(|recall| log(value(calibration.reach[k][recall])))).exp();
    (at(|reach| reach.sketches), at(|reach| reach.reranked).max(k as f64))
}

/// The places of k and of a recall among those calibrated.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn lines(k: usize, recall: f64) -> (Line, Line) {
    let missed = |recall: f64| -(1.0 - recall).max(1e-6).ln();
    let of_recalls = Line::through(&CALIBRATED_RECALLS.map(missed), missed(recall.max(CALIBRATED_RECALLS[0])));
    (Line::through(&CALIBRATED_KS.map(|k| (k as f64).ln()), (k.max(1) as f64).ln()), of_recalls)
}

/// A place on straight lines through points with ascending `x`; the outer lines go on beyond the ends.
struct Line {
    /// The point behind it, and which part of the way from the one before that is covered.
    upper: usize,
    way: f64,
}

impl Line {
    fn through(xs: &[f64], x: f64) -> Self {
        let upper = xs.partition_point(|known| *known < x).clamp(1, xs.len() - 1);
        let (x0, x1) = (xs[upper - 1], xs[upper]);
        Self { upper, way: (x - x0) / (x1 - x0) }
    }

    /// The value there, if these are the values of the points.
    fn at(&self, y: impl Fn(usize) -> f64) -> f64 {
        let (y0, y1) = (y(self.upper - 1), y(self.upper));
        y0 + (y1 - y0) * self.way
    }
}

/// The value at `x` of straight lines through points with ascending `xs`.
pub(crate) fn line(xs: &[f64], ys: &[f64], x: f64) -> f64 {
    Line::through(xs, x).at(|i| ys[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_through_their_points_and_beyond() {
        let (xs, ys) = ([1.0, 2.0, 4.0], [10.0, 20.0, 60.0]);
        for (x, y) in [(1.0, 10.0), (1.5, 15.0), (2.0, 20.0), (3.0, 40.0), (4.0, 60.0), (5.0, 80.0), (0.5, 5.0)] {
            assert!((line(&xs, &ys, x) - y).abs() < 1e-9, "{x}");
        }
    }

    #[test]
    fn what_was_measured_is_what_is_spent() {
        let mut record = Record::new(64, Metric::Euclidean);
        (record.items, record.indexed, record.trees, record.sketch_bits) = (50_000, 50_000, 1, 2);
        (record.calibration.items, record.calibration.queries) = (50_000, 2_000);
        for (k, row) in (1u32..).zip(&mut record.calibration.reach) {
            for (i, reach) in (1u32..).zip(row) {
                *reach = Reach { sketches: 100 * i * k, reranked: 100 * (k - 1) + i };
            }
        }
        for (k, row) in CALIBRATED_KS.into_iter().zip(record.calibration.reach) {
            for (recall, reach) in CALIBRATED_RECALLS.into_iter().zip(row) {
                #[expect(clippy::cast_possible_truncation, reason = "as users say it")]
                let effort = Effort::new(&Request::new(k, recall as f32), &record, Metric::Euclidean);
                assert_eq!(effort.rerank, (reach.reranked as usize).max(k), "k {k}, {recall}");
                assert!(effort.budget.abs_diff(reach.sketches as usize) <= 1, "k {k}, {recall}: {effort:?}, {reach:?}");
            }
        }
    }

    /// A record whose recalls take 100, 200, ... sketches, and assurances of their squares.
    fn calibrated_record() -> Record {
        let mut record = Record::new(64, Metric::Euclidean);
        (record.items, record.indexed, record.trees, record.sketch_bits) = (50_000, 50_000, 1, 2);
        (record.calibration.items, record.calibration.queries) = (50_000, 2_000);
        let rows = record.calibration.reach.iter_mut().zip(&mut record.calibration.assurance);
        for (reach, assurance) in rows {
            for (i, (reach, assurance)) in (1u32..).zip(reach.iter_mut().zip(assurance)) {
                (*reach, *assurance) = (Reach { sketches: 100 * i, reranked: 20 }, 10_000 * i * i);
            }
        }
        record
    }

    #[test]
    fn the_assurance_is_that_of_what_is_wanted_and_rises_with_the_effort() {
        let mut record = calibrated_record();
        let of = |record: &Record, k, recall| {
            Effort::new(&Request::new(k, recall), record, Metric::Euclidean).assurance.unwrap_or(f64::NAN)
        };
        assert!((of(&record, 10, 0.9) / 160_000.0 - 1.0).abs() < 1e-3);
        assert!((160_000.0..250_000.0).contains(&of(&record, 10, 0.93)));
        // Twice the entries take four times the assurance where that goes with the square.
        record.calibration.correction = 2 * NO_CORRECTION;
        assert!((of(&record, 10, 0.9) / 640_000.0 - 1.0).abs() < 1e-3);
    }

    #[test]
    fn without_a_measured_assurance_so_many_entries_are_looked_at() {
        let record = calibrated_record();
        let told = |request: &Request<'_>, record: &Record, metric| Effort::new(request, record, metric).assurance;
        let usual = Request::new(10, 0.95);
        assert!(told(&usual, &record, Metric::Euclidean).is_some());
        assert_eq!(told(&Request { search_k: Some(500), ..usual }, &record, Metric::Euclidean), None);
        for (k, recall) in [(101, 0.95), (10, 0.999)] {
            assert_eq!(told(&Request::new(k, recall), &record, Metric::Euclidean), None, "{k}, {recall}");
        }
        let (mut few, mut unmeasured) = (record, record);
        few.calibration.queries = 9;
        assert_eq!(told(&usual, &few, Metric::Euclidean), None);
        unmeasured.calibration.assurance[2][7] = 0;
        let effort = Effort::new(&usual, &unmeasured, Metric::Euclidean);
        assert!(effort.assurance.is_none() && effort.near(10) == 0);
        #[expect(clippy::cast_precision_loss, reason = "some hundreds")]
        let budget = effort.budget as f64;
        assert!(effort.is_assured(budget, || 0.0) && !effort.is_assured(budget - 1.0, || 1e9));
    }

    #[test]
    fn who_is_not_assured_looks_at_more_until_he_is() {
        let effort = Effort::new(&Request::new(10, 0.9), &calibrated_record(), Metric::Euclidean);
        for (ease, expected) in [(400.0, 200), (1_599.0, 110), (0.0, 200), (f64::NAN, 110), (900.0, 133)] {
            assert!(effort.next_budget(100.0, ease, 3.0).abs_diff(expected) <= 1, "{ease}");
        }
        let unmeasured = Effort { assurance: None, ..effort };
        assert_eq!(unmeasured.next_budget(100.0, 0.0, 16.0), effort.budget);
        assert_eq!(unmeasured.next_budget(100.0, 0.0, 3.0), 300);
        // A search that is given no more than it has looked at stands still for ever.
        for (entries, ease) in (0u8..100).flat_map(|entries| [0.0, 1e9, f64::NAN].map(|ease| (entries, ease))) {
            for effort in [effort, unmeasured, Effort { budget: 1, ..unmeasured }] {
                let next = effort.next_budget(f64::from(entries), ease, 3.0);
                assert!(next > usize::from(entries), "{entries}, {ease}: {next}");
            }
        }
    }

    #[test]
    fn searches_end_when_they_are_assured_and_at_their_most_entries_at_last() {
        let effort = Effort::new(&Request::new(10, 0.9), &calibrated_record(), Metric::Euclidean);
        assert_eq!((effort.near(10), effort.near(3)), (10, 3));
        #[expect(clippy::cast_precision_loss, reason = "some hundreds")]
        let most = 4.0 * effort.budget as f64;
        assert!(effort.is_assured(100.0, || 1_601.0) && !effort.is_assured(100.0, || 1_599.0));
        for ease in [0.0, f64::NAN] {
            assert!(!effort.is_assured(most - 1.0, || ease) && effort.is_assured(most, || ease), "{ease}");
        }
    }
}
