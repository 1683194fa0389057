//! Checking at each incremental build whether a calibration still holds, with a few items as
//! queries.

use crate::error::Result;
use crate::forest::context::ForestContext;
use crate::forest::open::Forest;
use crate::format::record::{NO_CORRECTION, Record};
use crate::key::{Key, Kind};
use crate::lmdb::pending::Pending;
use crate::lmdb::view::View;
use crate::lmdb::workers::Workers;
use crate::search::Hit;
use crate::search::budget::Budget;
use crate::search::knn::search;
use crate::search::request::{DEFAULT_RECALL, Options, Request};
use crate::search::session::Session;

/// Neighbours that a probe searches for. All constants of this file but the gain are in
/// docs/trials.md, "choices that were not swept".
const PROBE_K: usize = 10;
/// The budget of the search for the true neighbours, as a multiple of the usual one.
const TRUTH_BUDGET_FACTOR: f64 = 8.0;
/// Nodes of each kind, and items, that a probe caches: its second search reads what its first did.
const PROBE_CACHE: usize = 1 << 12;
/// The part of a probe's missing recall that is added to the confidence. Measured: docs/trials.md,
/// "drift".
const GAIN: f64 = 0.125;
/// The largest such part for all probes of one build together.
const MAX_GAIN: f64 = 2.0;
/// The largest factor by which one build changes the correction.
const MAX_STEP: f64 = 1.25;
/// The correction stays within these bounds, in 1,024ths. It is never below 1: probes measure one
/// recall, and the calibration holds for all.
const CORRECTIONS: std::ops::RangeInclusive<f64> = 1_024.0..=16_384.0;

/// Which items to use as probes.
#[derive(Copy, Clone)]
pub(crate) struct Probes {
    pub(crate) count: usize,
    /// Chooses the items.
    pub(crate) seed: u64,
}

/// Searches for the neighbours of a few items, with the usual budget and with a much larger one.
/// Returns the correction for the recall found. The cost is in proportion to the number of probes.
pub(crate) fn corrected(
    workers: &mut Workers<'_>,
    context: &ForestContext<'_>,
    forest: &Forest,
    record: &Record,
    changed: impl Iterator<Item = u32>,
    probes: Probes,
) -> Result<u32> {
    let correction = record.calibration.correction();
    if probes.count == 0 {
        return Ok(record.calibration.correction);
    }
    let changed = Pending { ids: changed.collect(), ..Pending::default() };
    let lacking = workers.share(probes.count, |rtxn, i| {
        let probe_id = probes.seed.wrapping_add(i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        // The forest as it is stored, without the items that changed since.
        let session = Session::with_cache(context.view(rtxn), *record, PROBE_CACHE, PROBE_CACHE)
            .with_forest(forest)
            .with_pending(&changed);
        probe(&session, &changed, u32::try_from(probe_id).unwrap_or(0))
    })?;
    let lacking: Vec<f64> = lacking.into_iter().flatten().collect();
    if lacking.is_empty() {
        return Ok(record.calibration.correction);
    }
    // All probes had the same budget, so it moves once, by what they lack on average.
    #[expect(clippy::cast_precision_loss, reason = "at most some dozens")]
    let (count, sum) = (lacking.len() as f64, lacking.iter().sum::<f64>());
    let step = (1.0 + (GAIN * count).min(MAX_GAIN) * sum / count).clamp(1.0 / MAX_STEP, MAX_STEP);
    let moved = (f64::from(correction) * step).clamp(*CORRECTIONS.start(), *CORRECTIONS.end());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within bounds")]
    Ok(if moved.is_finite() { moved.round() as u32 } else { NO_CORRECTION })
}

/// How much recall the first item from an id on lacks with the usual budget. `None` if there is no
/// such item, or if the search needs no forest.
fn probe(session: &Session<'_>, changed: &Pending, from: u32) -> Result<Option<f64>> {
    let View { db, rtxn, spec } = session.view();
    let record = &session.record;
    // Ids usually run from 0 to about the number of items, so this spreads the probes over them.
    let top = db.last_id(rtxn, spec.index, Kind::Item)?;
    let Some(from) =
        top.map(|top| u32::try_from(u64::from(from) % (u64::from(top) + 1)).unwrap_or(0))
    else {
        return Ok(None);
    };
    let next = db.iter_from(rtxn, Key::item(spec.index, from))?.next().transpose()?;
    let applies_to =
        |key: &Key| *key == Key::item(spec.index, key.id()) && !changed.ids.contains(key.id());
    let Some((key, _)) = next.filter(|(key, _)| applies_to(key)) else { return Ok(None) };
    let item = db.known_item(rtxn, spec, key.id())?;
    let query = item.view()?;
    let exclude = [key.id()];
    let usual = Request { exclude: &exclude, ..Request::new(PROBE_K) };
    let budget = Budget::new(&usual, record);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "saturating estimates"
    )]
    let thorough = {
        let entries = budget.entries * TRUTH_BUDGET_FACTOR;
        // Too many reranks would make it an exact search, which also finds the changed items.
        let rerank =
            (budget.rerank as f64 * TRUTH_BUDGET_FACTOR / 2.0).min(record.indexed as f64 / 4.0);
        let oversampling = Some((rerank / PROBE_K as f64).max(1.0) as f32);
        let search_k = Some(entries as usize);
        Request { options: Options { search_k, oversampling, ..usual.options }, ..usual }
    };
    let (truth, _) = search(session, query, &thorough)?;
    let (hits, stats) = search(session, query, &usual)?;
    // A search that compared all items says nothing about the forest.
    let farthest = truth.last().filter(|_| stats.sketches > 0).map(|hit: &Hit| hit.distance);
    let Some(farthest) = farthest else { return Ok(None) };
    let is_found = |hit: &&Hit| spec.metric.is_within(hit.distance, farthest);
    #[expect(clippy::cast_precision_loss, reason = "ten at most")]
    let recall = hits.iter().filter(is_found).count() as f64 / truth.len() as f64;
    Ok(Some(f64::from(DEFAULT_RECALL) - recall))
}
