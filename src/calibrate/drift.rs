//! Whether a calibration still holds: a few items are asked for their neighbours at each
//! incremental build.

use crate::error::Result;
use crate::forest::context::ForestContext;
use crate::forest::open::Forest;
use crate::format::item::ItemRef;
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

/// Neighbours that a probe asks for, and how many times the usual effort tells which they should
/// be.
const PROBED: usize = 10;
const THOROUGH: f64 = 8.0;
/// What a probe remembers of its first search for its second, in nodes of each kind and in items.
const PROBE_KNOWS: usize = 1 << 12;
/// How much of what a probe lacks in recall is added to the effort. With it some hundred probes
/// correct an effort that is half of what it should be. Chance moves it by a tenth.
const GAIN: f64 = 0.125;
/// The same for all probes of one build together, and the most by which one build multiplies the
/// effort.
const MAX_GAIN: f64 = 2.0;
const MAX_STEP: f64 = 1.25;
/// The correction is within these bounds, in 1,024ths. What was measured is never lowered: it holds
/// for more than the recall that probes look at.
const CORRECTIONS: std::ops::RangeInclusive<f64> = 1_024.0..=16_384.0;

/// Items that are asked for their neighbours.
#[derive(Copy, Clone)]
pub(crate) struct Probes {
    pub(crate) count: usize,
    /// It decides which items these are.
    pub(crate) seed: u64,
}

/// Asks a few items for their neighbours, with the usual effort and with much more. Corrects the
/// effort by the recall found. Work in proportion to the number of probes.
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
        let at = probes.seed.wrapping_add(i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        // The forest as it is stored, without the items that changed since.
        let view = View::new(context.db, rtxn, context.spec);
        let session = Session::with_cache(view, *record, PROBE_KNOWS, PROBE_KNOWS)
            .with_forest(forest)
            .with_pending(&changed);
        probe(&session, &changed, u32::try_from(at).unwrap_or(0))
    })?;
    let lacking: Vec<f64> = lacking.into_iter().flatten().collect();
    if lacking.is_empty() {
        return Ok(record.calibration.correction);
    }
    // All probes saw the same effort: it moves once, by what they lack on average.
    #[expect(clippy::cast_precision_loss, reason = "at most some dozens")]
    let (count, sum) = (lacking.len() as f64, lacking.iter().sum::<f64>());
    let step = (1.0 + (GAIN * count).min(MAX_GAIN) * sum / count).clamp(1.0 / MAX_STEP, MAX_STEP);
    let moved = (f64::from(correction) * step).clamp(*CORRECTIONS.start(), *CORRECTIONS.end());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within bounds")]
    Ok(if moved.is_finite() { moved.round() as u32 } else { NO_CORRECTION })
}

/// How much recall the first item at or after an id lacks with the usual effort; `None` if there is
/// none to ask.
fn probe(session: &Session<'_>, changed: &Pending, at: u32) -> Result<Option<f64>> {
    let View { db, rtxn, spec } = session.view();
    let record = &session.record;
    // Ids run from 0 up to about the number of items as a rule.
    let top = db.last_id(rtxn, spec.index, Kind::Item)?;
    let Some(at) = top.map(|top| u32::try_from(u64::from(at) % (u64::from(top) + 1)).unwrap_or(0))
    else {
        return Ok(None);
    };
    let next = db.iter_from(rtxn, Key::item(spec.index, at))?.next().transpose()?;
    let applies_to =
        |key: &Key| *key == Key::item(spec.index, key.id()) && !changed.ids.contains(key.id());
    let Some((key, bytes)) = next.filter(|(key, _)| applies_to(key)) else { return Ok(None) };
    let query = ItemRef::parse(key, bytes, spec)?;
    let exclude = [key.id()];
    let usual = Request { exclude: &exclude, ..Request::new(PROBED) };
    let effort = Budget::new(&usual, record);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "saturating estimates"
    )]
    let thorough = {
        let budget = effort.entries * THOROUGH;
        // Fewer than what would make the search an exact one, which sees items that the usual one
        // does not.
        let rerank = (effort.rerank as f64 * THOROUGH / 2.0).min(record.indexed as f64 / 4.0);
        let oversampling = Some((rerank / PROBED as f64).max(1.0) as f32);
        let search_k = Some(budget as usize);
        Request { options: Options { search_k, oversampling, ..usual.options }, ..usual }
    };
    let (truth, _) = search(session, query, &thorough)?;
    let (hits, searched) = search(session, query, &usual)?;
    // An exact search tells nothing.
    let farthest = truth.last().filter(|_| searched.sketches > 0).map(|hit: &Hit| hit.distance);
    let Some(farthest) = farthest else { return Ok(None) };
    let is_found = |hit: &&Hit| spec.metric.is_within(hit.distance, farthest);
    #[expect(clippy::cast_precision_loss, reason = "ten at most")]
    let recall = hits.iter().filter(is_found).count() as f64 / truth.len() as f64;
    Ok(Some(f64::from(DEFAULT_RECALL) - recall))
}
