//! Exact comparison of a query with items, and the hits it keeps.

use std::ops::Range;

use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::format::item::{ItemRef, item_bytes};
use crate::index_spec::IndexSpec;
use crate::kernel::distance;
use crate::kernel::simd::Level;
use crate::key::Key;
use crate::lmdb::advise;
use crate::lmdb::item::{ItemBytes, missing_item};
use crate::lmdb::items::Items;
use crate::math::scored::Scored;
use crate::math::top_k::TopK;
use crate::metric::Metric;
use crate::search::Hit;
use crate::search::interrupt::Interrupt;
use crate::search::request::Options;
use crate::search::spare;

/// Items that are looked up before the first of them is compared.
pub(super) const BATCH: usize = 32;
/// Vectors that are prefetched ahead of the one that is compared: docs/trials.md, "choices that
/// were not swept".
const PREFETCHED: usize = 4;

impl Scored {
    pub(crate) fn into_hit(self, metric: Metric) -> Hit {
        Hit { id: self.id, distance: metric.score_sign() * self.score + 0.0 }
    }

    pub(crate) fn from_hit(hit: Hit, metric: Metric) -> Self {
        Self { score: metric.score_sign() * hit.distance + 0.0, id: hit.id }
    }
}

/// The scores that a hit may have.
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

/// Items for which the system is asked at once.
const ASKED: usize = 1024;

/// Ids, of which the system is asked for the items before they are looked up, if it is asked ahead.
struct Ahead<I> {
    ids: I,
    asked: Vec<u32>,
    next: usize,
}

impl<I: Iterator<Item = u32>> Ahead<I> {
    fn next(&mut self, items: &Items<'_>) -> Result<Option<u32>> {
        if self.next == self.asked.len() {
            if !advise::is_asking() {
                return Ok(self.ids.next());
            }
            self.asked.clear();
            self.asked.extend(self.ids.by_ref().take(ASKED));
            self.next = 0;
            items.ask(self.asked.iter().copied())?;
        }
        let id = self.asked.get(self.next).copied();
        self.next += usize::from(id.is_some());
        Ok(id)
    }
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
        // Stored vectors were checked, and their distances fit `f32`. So this one has been damaged.
        if !distance.is_finite() {
            return Err(Error::corrupted(
                Key::item(self.spec.index, id),
                "the item is so long that a distance is no number",
            ));
        }
        // Adding zero turns -0 into 0: they are equal and must not be ordered.
        Ok(Scored { score: self.spec.metric.score_sign() * distance + 0.0, id })
    }

    /// Bytes of this many stored items.
    pub(crate) fn bytes(&self, items: u64) -> u64 {
        items * item_bytes(self.spec) as u64
    }

    /// Scores items that must exist, and calls `visit` with each. Returns whether `interrupt` ended
    /// it; the first few are scored even then.
    pub(crate) fn rank_known<'t>(
        &self,
        items: &Items<'t>,
        ids: impl Iterator<Item = u32>,
        interrupt: Interrupt<'_>,
        visit: impl FnMut(Scored),
    ) -> Result<bool> {
        self.rank_all(items, ids, |id| Err(missing_item(self.spec, id)), interrupt, visit)
    }

    /// As [`Scorer::rank_known`], for ids that need not exist. Calls `missing` with those that do
    /// not.
    pub(super) fn rank_all<'t>(
        &self,
        items: &Items<'t>,
        ids: impl Iterator<Item = u32>,
        missing: impl Fn(u32) -> Result<()>,
        interrupt: Interrupt<'_>,
        mut visit: impl FnMut(Scored),
    ) -> Result<bool> {
        let mut ids = Ahead { ids: ids.fuse(), asked: Vec::new(), next: 0 };
        let mut compared = 0;
        let mut joined = items.joined.take();
        loop {
            let mut batch: [Option<(u32, ItemBytes<'_>)>; BATCH] = [None; BATCH];
            // A look-up waits for memory several times. Each loop prefetches what the next one
            // reads, for the whole batch: cache slots, then pages. Vectors are prefetched a few
            // ahead: more would wait for each other.
            for slot in &mut batch {
                let Some(id) = ids.next(items)? else { break };
                items.prefetch(id);
                *slot = Some((id, ItemBytes::default()));
            }
            let is_last = batch[BATCH - 1].is_none();
            for (id, bytes) in batch.iter_mut().flatten() {
                *bytes = items.cached(*id).unwrap_or_default();
                bytes.touch();
            }
            for slot in &mut batch {
                let Some((id, bytes)) = slot.as_mut().filter(|(_, bytes)| bytes.head.is_empty())
                else {
                    continue;
                };
                if let Some(found) = items.look_up(*id)? {
                    found.touch();
                    *bytes = found;
                } else {
                    missing(*id)?;
                    *slot = None;
                }
            }
            let prefetch = |range: Range<usize>| {
                let some = batch.get(range).unwrap_or_default();
                some.iter().flatten().for_each(|(_, bytes)| bytes.prefetch());
            };
            prefetch(0..PREFETCHED);
            for (at, (id, bytes)) in
                batch.iter().enumerate().filter_map(|(at, slot)| Some((at, slot.as_ref()?)))
            {
                prefetch(at + PREFETCHED..at + PREFETCHED + 1);
                let key = Key::item(self.spec.index, *id);
                visit(self.rank(*id, &bytes.view(key, self.spec, &mut joined)?)?);
            }
            compared += BATCH;
            if is_last || interrupt.check_after(compared) {
                items.joined.set(joined);
                // The iterator of ids may itself have ended because of the interrupt.
                return Ok(interrupt.has_fired());
            }
        }
    }
}

/// The `k` nearest of all items compared so far.
pub(crate) struct Nearest {
    pub(super) k: usize,
    /// What is nearer or farther is not kept.
    pub(super) bounds: Bounds,
    /// It becomes the answer, and is all that a search allocates, unless there is a spare one.
    nearest: TopK<Scored>,
    pub(crate) compared: u64,
}

impl Nearest {
    pub(crate) fn new(k: usize, bounds: Bounds) -> Self {
        let nearest = TopK::of_different(spare::take(), k, bounds.farthest);
        Self { k, bounds, nearest, compared: 0 }
    }

    pub(crate) fn offer(&mut self, ranked: Scored) {
        self.compared += 1;
        if ranked.score >= self.bounds.nearest {
            self.nearest.offer(ranked);
        }
    }

    /// Takes in what another has found.
    pub(super) fn merge(&mut self, other: Self) {
        self.compared += other.compared;
        other.nearest.iter().for_each(|ranked| self.nearest.offer(ranked));
    }

    /// Forgets what was found, and returns it to a search that may be interrupted. The count of
    /// comparisons stays.
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

    /// The k-th score, or the outer bound while there are fewer hits.
    pub(crate) fn kth(&mut self) -> f32 {
        if self.nearest.is_full() { self.nearest.kth(self.k) } else { self.bounds.farthest }
    }

    /// The answer, nearest first.
    pub(crate) fn into_hits(self, metric: Metric) -> Vec<Hit> {
        let ranked = self.nearest.into_sorted();
        ranked.into_iter().map(|ranked| ranked.into_hit(metric)).collect()
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
