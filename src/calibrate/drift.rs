//! Whether a calibration still holds: a few items are asked for their neighbours at each
//! incremental build.

use heed::RoTxn;

use crate::error::Result;
use crate::format::item::ItemRef;
use crate::format::record::{NO_CORRECTION, Record};
use crate::indexer::leaf_edit::ForestContext;
use crate::kernel::simd;
use crate::key::{Key, Kind};
use crate::lmdb::items::Items;
use crate::lmdb::pending::Pending;
use crate::lmdb::workers::Workers;
use crate::search::budget::{Budget, DEFAULT_RECALL};
use crate::search::knn::search;
use crate::search::request::Request;
use crate::search::{Forest, Hit, Parts, Planted, Target};

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

/// A forest as it is stored, without the items that changed since.
struct Stored<'a, 't> {
    planted: Planted<'a, 't>,
    changed: &'a Pending,
}

impl<'t> Parts<'t> for Stored<'_, 't> {
    fn planted(&self) -> Result<Option<Planted<'_, 't>>> {
        Ok(Some(self.planted))
    }

    fn pending(&self) -> Result<&Pending> {
        Ok(self.changed)
    }
}

/// Asks a few items for their neighbours, with the usual effort and with much more. Corrects the
/// effort by the recall found. Work in proportion to `probes`.
pub(crate) fn corrected(
    workers: &mut Workers<'_>,
    (context, forest): (&ForestContext<'_>, &Forest),
    record: &Record,
    changed: impl Iterator<Item = u32>,
    (probes, seed): (usize, u64),
) -> Result<u32> {
    let correction = record.calibration.correction();
    if probes == 0 {
        return Ok(record.calibration.correction);
    }
    let changed = Pending { ids: changed.collect(), ..Pending::default() };
    let lacking = workers.share(probes, |rtxn, i| {
        let at = seed.wrapping_add(i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let planted =
            Planted { forest, nodes: &forest.nodes((context.db, rtxn, context.spec), PROBE_KNOWS) };
        let stored = Stored { planted, changed: &changed };
        probe(context, rtxn, record, &stored, u32::try_from(at).unwrap_or(0))
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
fn probe<'t>(
    context: &ForestContext<'_>,
    rtxn: &'t RoTxn<'t>,
    record: &Record,
    stored: &Stored<'_, 't>,
    at: u32,
) -> Result<Option<f64>> {
    let (db, spec) = (context.db, context.spec);
    // Ids run from 0 up to about the number of items as a rule.
    let top = db.last_id(rtxn, spec.index, Kind::Item)?;
    let Some(at) = top.map(|top| u32::try_from(u64::from(at) % (u64::from(top) + 1)).unwrap_or(0))
    else {
        return Ok(None);
    };
    let next = db.iter_from(rtxn, Key::item(spec.index, at))?.next().transpose()?;
    let applies_to = |key: &Key| {
        *key == Key::item(spec.index, key.id()) && !stored.changed.ids.contains(key.id())
    };
    let Some((key, bytes)) = next.filter(|(key, _)| applies_to(key)) else { return Ok(None) };
    let query = ItemRef::parse(key, bytes, spec)?;
    let items = Items::new(db, rtxn, spec, PROBE_KNOWS);
    let target = Target { items: &items, record, simd: simd::detect() };
    let exclude = [key.id()];
    let usual = Request { exclude: &exclude, ..Request::new(PROBED, DEFAULT_RECALL) };
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
        Request { search_k: Some(budget as usize), oversampling, ..usual }
    };
    let (truth, _) = search(target, stored, query, &thorough)?;
    let (hits, searched) = search(target, stored, query, &usual)?;
    // An exact search tells nothing.
    let farthest = truth.last().filter(|_| searched.sketches > 0).map(|hit: &Hit| hit.distance);
    let Some(farthest) = farthest else { return Ok(None) };
    let is_found = |hit: &&Hit| spec.metric.is_within(hit.distance, farthest);
    #[expect(clippy::cast_precision_loss, reason = "ten at most")]
    let recall = hits.iter().filter(is_found).count() as f64 / truth.len() as f64;
    Ok(Some(f64::from(DEFAULT_RECALL) - recall))
}
