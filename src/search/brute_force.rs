//! Exact distances: rerank, small filters, pending items, and whole scans.

use rayon::prelude::*;
use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::format::item::{ItemRef, item_bytes};
use crate::index_spec::IndexSpec;
use crate::kernel::distance;
use crate::kernel::prefetch::prefetch;
use crate::kernel::simd::Level;
use crate::key::{Key, Kind};
use crate::lmdb::database::missing_item;
use crate::lmdb::items::Items;
use crate::math::scored::Scored;
use crate::math::top_k::TopK;
use crate::metric::Metric;
use crate::search::Hit;
use crate::search::interrupt::{Interrupt, LAST_COMPARED};
use crate::search::request::{Options, Request};
use crate::search::session::Session;

/// Items that are looked up before the first of them is compared.
const BATCH: usize = 32;
/// Items that are sent for before they are compared, of those that threads share: two took 10 ms
/// instead of 19 for 100,000 vectors of sift, and 22 instead of 30 for as many of minilm (trials).
const PREFETCHED_ITEMS: usize = 8;
/// Items that are shared among threads at once, those if the search may have to stop soon, and how
/// many of them are one task.
const ITEMS_PER_ROUND: usize = 1 << 16;
const ITEMS_PER_TIMED_ROUND: usize = 1 << 14;
const ITEMS_PER_TASK: usize = 1 << 10;

impl Scored {
    pub(crate) fn into_hit(self, metric: Metric) -> Hit {
        Hit { id: self.id, distance: metric.score_sign() * self.score + 0.0 }
    }

    pub(crate) fn from_hit(hit: Hit, metric: Metric) -> Self {
        Self { score: metric.score_sign() * hit.distance + 0.0, id: hit.id }
    }
}

/// The scores between two distances.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Bounds {
    nearest: f32,
    farthest: f32,
}

impl Bounds {
    pub(crate) const ALL: Self = Self { nearest: f32::NEG_INFINITY, farthest: f32::INFINITY };

    pub(crate) fn new(metric: Metric, options: &Options) -> Self {
        let score = |distance: f32| metric.score_sign() * distance;
        Self {
            nearest: options.beyond.map_or(Self::ALL.nearest, score),
            farthest: options.within.map_or(Self::ALL.farthest, score),
        }
    }
}

/// Compares one query with items.
#[derive(Copy, Clone)]
pub(crate) struct Scorer<'q> {
    pub(crate) spec: IndexSpec,
    pub(crate) simd: Level,
    pub(crate) query: ItemRef<'q>,
}

impl Scorer<'_> {
    pub(crate) fn rank(&self, id: u32, item: &ItemRef<'_>) -> Result<Scored> {
        // Rounded once.
        #[expect(clippy::cast_possible_truncation, reason = "what does not fit becomes infinite")]
        let distance = distance::between(
            self.simd,
            self.spec.metric,
            self.query.components,
            item.components,
            self.query.squared_norm * item.squared_norm,
        ) as f32;
        // Vectors are checked before they are stored, and their distances fit `f32`. So this one is
        // not as it was.
        if !distance.is_finite() {
            return Err(Error::corrupted(
                Key::item(self.spec.index, id),
                "the item is so long that a distance is no number",
            ));
        }
        // The sum with zero turns -0 into 0, which would sort apart.
        Ok(Scored { score: self.spec.metric.score_sign() * distance + 0.0, id })
    }

    /// Bytes of so many items.
    pub(crate) fn bytes(&self, items: u64) -> u64 {
        items * item_bytes(self.spec) as u64
    }

    /// Ranks items that must exist, until `stop` says so; tells whether it did. The first few come
    /// in any case.
    pub(crate) fn rank_known<'t>(
        &self,
        items: &Items<'t>,
        ids: impl Iterator<Item = u32>,
        interrupt: Interrupt<'_>,
        found: impl FnMut(Scored),
    ) -> Result<bool> {
        self.rank_all(items, ids, |id| Err(missing_item(self.spec, id)), interrupt, found)
    }

    /// Ranks those of these items that exist as [`Scorer::rank_known`] does, and calls `missing`
    /// for the others.
    fn rank_all<'t>(
        &self,
        items: &Items<'t>,
        ids: impl Iterator<Item = u32>,
        missing: impl Fn(u32) -> Result<()>,
        interrupt: Interrupt<'_>,
        mut found: impl FnMut(Scored),
    ) -> Result<bool> {
        let mut ids = ids.fuse();
        let mut compared = 0;
        loop {
            let mut batch: [Option<(u32, &[u8])>; BATCH] = [None; BATCH];
            // Each step sends for what the next one reads, of all items at once: what is known of
            // where they are, the pages of those that have to be looked up, their vectors.
            for (slot, id) in batch.iter_mut().zip(ids.by_ref()) {
                items.prefetch(id);
                *slot = Some((id, &[]));
            }
            let is_last = batch[BATCH - 1].is_none();
            for (id, bytes) in batch.iter_mut().flatten() {
                *bytes = items.remembered(*id).unwrap_or_default();
                prefetch(bytes);
            }
            for slot in &mut batch {
                let Some((id, bytes)) = slot.as_mut().filter(|(_, bytes)| bytes.is_empty()) else {
                    continue;
                };
                if let Some(found) = items.look_up(*id)? {
                    prefetch(found);
                    *bytes = found;
                } else {
                    missing(*id)?;
                    *slot = None;
                }
            }
            for (id, bytes) in batch.iter().flatten() {
                found(self.rank(*id, &items.parse(*id, bytes)?)?);
            }
            compared += BATCH;
            if is_last || compared >= LAST_COMPARED && interrupt.check() {
                // The ids may have come to an end because it was due.
                return Ok(interrupt.has_fired());
            }
        }
    }
}

/// The `k` nearest of all items compared so far.
pub(crate) struct Nearest {
    k: usize,
    /// What is nearer or farther is not kept.
    bounds: Bounds,
    /// It becomes the answer, and is all that a search allocates.
    nearest: TopK<Scored>,
    pub(crate) compared: u64,
}

impl Nearest {
    pub(crate) fn new(k: usize, bounds: Bounds) -> Self {
        Self { k, bounds, nearest: TopK::of_different(k, bounds.farthest), compared: 0 }
    }

    pub(crate) fn offer(&mut self, ranked: Scored) {
        self.compared += 1;
        if ranked.score >= self.bounds.nearest {
            self.nearest.offer(ranked);
        }
    }

    /// Takes in what another has found.
    fn merge(&mut self, other: Self) {
        self.compared += other.compared;
        other.nearest.iter().for_each(|ranked| self.nearest.offer(ranked));
    }

    /// Forgets what was found; how much was compared stays. It is given back for a search that may
    /// have to stop.
    pub(crate) fn begin_again(&mut self, interrupt: Interrupt<'_>) -> Vec<Scored> {
        // Its room is kept where nothing is given back.
        let taken = if interrupt.is_none() { Vec::new() } else { self.nearest.iter().collect() };
        self.nearest.clear(self.bounds.farthest);
        taken
    }

    /// Puts back what was taken out, of which some may have been found again.
    pub(crate) fn put_back(&mut self, taken: Vec<Scored>) {
        let known: RoaringBitmap = self.nearest.iter().map(|ranked| ranked.id).collect();
        let lost = taken.into_iter().filter(|ranked| !known.contains(ranked.id));
        lost.for_each(|ranked| self.nearest.offer(ranked));
    }

    /// The score of the last of `k` hits; that beyond which there are none, if there are fewer.
    pub(crate) fn kth(&mut self) -> f32 {
        if self.nearest.is_full() { self.nearest.kth(self.k) } else { self.bounds.farthest }
    }

    /// The answer, nearest first.
    pub(crate) fn into_hits(self, metric: Metric) -> Vec<Hit> {
        let ranked = self.nearest.into_sorted();
        ranked.into_iter().map(|ranked| ranked.into_hit(metric)).collect()
    }
}

/// Compares every item that the request admits, until it wants to stop; tells whether it did.
///
/// Each id of a filter that is smaller than the index by a look-up, else all items in their order.
pub(crate) fn compare_all(
    session: &Session<'_>,
    measure: &Scorer<'_>,
    request: &Request<'_>,
    nearest: &mut Nearest,
) -> Result<bool> {
    // A look-up takes no longer than a step from item to item, as each step waits for the one
    // before: of 100,000 vectors a quarter took 2.5 ms by look-ups, 6.5 in order and 7 by two
    // threads (sift), or 5.0 and 12 by look-ups and in order (minilm; trials). The first time it
    // takes longer.
    match request.filter.allowed {
        Some(allowed) if allowed.len() < session.record.items / 4 * 3 => {
            compare_allowed(session, measure, request, allowed, nearest)
        }
        _ if request.options.is_parallel => compare_shared(session, measure, request, nearest),
        _ => compare_in_order(session, measure, request, nearest),
    }
}

fn compare_allowed(
    session: &Session<'_>,
    measure: &Scorer<'_>,
    request: &Request<'_>,
    allowed: &RoaringBitmap,
    nearest: &mut Nearest,
) -> Result<bool> {
    let is_wanted = |id: &u32| {
        !request.exclude.contains(id) && request.filter.predicate.is_none_or(|admits| admits(*id))
    };
    let ids = request.interrupt.limit(allowed.iter()).filter(is_wanted);
    // An id of the filter need not be one of an item.
    measure.rank_all(
        &session.items,
        ids,
        |_| Ok(()),
        request.interrupt,
        |ranked| nearest.offer(ranked),
    )
}

fn compare_in_order<'t>(
    session: &Session<'t>,
    measure: &Scorer<'_>,
    request: &Request<'_>,
    nearest: &mut Nearest,
) -> Result<bool> {
    let spec = session.spec();
    let mut entries = session.view().iter(Kind::Item)?;
    loop {
        let mut batch: [Option<(Key, &'t [u8])>; BATCH] = [None; BATCH];
        let mut is_last = true;
        // What comes next lies before what came last on a page of LMDB, so that the processor does
        // not send for it by itself.
        for (slot, entry) in batch.iter_mut().zip(entries.by_ref()) {
            let (key, bytes) = entry?;
            is_last = false;
            if request.admits(key.id()) {
                prefetch(bytes);
                *slot = Some((key, bytes));
            }
        }
        for (key, bytes) in batch.iter().flatten() {
            nearest.offer(measure.rank(key.id(), &ItemRef::parse(*key, bytes, spec)?)?);
        }
        if is_last || request.interrupt.check() {
            return Ok(!is_last);
        }
    }
}

/// One thread walks over the items, as LMDB wants it, and all compare them: what lies in the map
/// may be read by any.
fn compare_shared(
    session: &Session<'_>,
    measure: &Scorer<'_>,
    request: &Request<'_>,
    nearest: &mut Nearest,
) -> Result<bool> {
    let spec = session.spec();
    let mut entries = session.view().iter(Kind::Item)?;
    let (k, bounds) = (nearest.k, nearest.bounds);
    let at_once = if request.interrupt.is_none() { ITEMS_PER_ROUND } else { ITEMS_PER_TIMED_ROUND };
    let mut some = Vec::with_capacity(at_once);
    loop {
        some.clear();
        let mut is_last = true;
        for entry in entries.by_ref().take(at_once) {
            let (key, bytes) = entry?;
            is_last = false;
            // Callbacks of the user are called by his own thread.
            if request.admits(key.id()) {
                some.push((key, bytes));
            }
        }
        let compare = |part: &[(Key, &[u8])]| {
            let mut nearest = Nearest::new(k, bounds);
            for (number, (key, bytes)) in part.iter().enumerate() {
                prefetch(part.get(number + PREFETCHED_ITEMS).map_or(&[], |(_, bytes)| bytes));
                let item = ItemRef::parse(*key, bytes, spec)?;
                nearest.offer(measure.rank(key.id(), &item)?);
            }
            Ok(nearest)
        };
        let parts: Vec<Result<Nearest>> = some.par_chunks(ITEMS_PER_TASK).map(compare).collect();
        for part in parts {
            nearest.merge(part?);
        }
        if is_last || request.interrupt.check() {
            return Ok(!is_last);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;

    #[test]
    fn what_is_put_back_is_as_if_it_had_stayed() {
        let ranked = |id: u32| Scored { score: (id * 37 % 101) as f32, id };
        let mut nearest = Nearest::new(5, Bounds { farthest: 90.0, ..Bounds::ALL });
        (0..60).for_each(|id| nearest.offer(ranked(id)));
        let mut all = Nearest::new(5, Bounds { farthest: 90.0, ..Bounds::ALL });
        (0..80).for_each(|id| all.offer(ranked(id)));
        let never = || ControlFlow::Continue(());
        let taken =
            nearest.begin_again(Interrupt { callback: Some(&never), ..Interrupt::default() });
        assert_eq!((nearest.nearest.iter().count(), nearest.compared), (0, 60));
        (40..80).for_each(|id| nearest.offer(ranked(id)));
        nearest.put_back(taken);
        assert_eq!(nearest.compared, 100);
        assert_eq!(nearest.into_hits(Metric::Euclidean), all.into_hits(Metric::Euclidean));
    }
}
