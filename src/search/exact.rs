//! Exact distances: rerank, small filters, pending items, and whole scans.

use std::collections::BinaryHeap;

use super::{Hit, Request, Target};
use crate::database::ItemOf;
use crate::error::{Error, Result};
use crate::format::item::{Components, ItemRef, item_bytes};
use crate::format::{Key, Kind};
use crate::kernel::{Level, distance};
use crate::metric::Metric;

/// Items that are looked up before the first of them is compared.
const BATCH: usize = 32;

/// The distance of two vectors in double precision, as [`Metric`] defines it.
fn distance_of(level: Level, metric: Metric, a: &ItemRef<'_>, b: &ItemRef<'_>) -> f64 {
    match (a.components, b.components) {
        (Components::Floats(x), Components::Floats(y)) => match metric {
            Metric::Cosine => {
                // sqrt(n n) is n: a vector is at distance 0 from itself.
                let cosine = distance::dot(level, x, y) / (a.squared_norm * b.squared_norm).sqrt();
                (1.0 - cosine).clamp(0.0, 2.0)
            }
            Metric::DotProduct => distance::dot(level, x, y),
            Metric::Manhattan => distance::manhattan(level, x, y),
            _ => distance::squared_euclidean(level, x, y).sqrt(),
        },
        #[expect(clippy::cast_precision_loss, reason = "at most 65,536 bits")]
        (Components::Bits(x), Components::Bits(y)) => distance::hamming(level, x, y) as f64,
        // The metric fixes how all vectors of an index are stored.
        _ => f64::INFINITY,
    }
}

/// An item in the order of the answer: by score, then by id. The score is the distance, or its negative where the
/// largest comes first.
#[derive(Copy, Clone, Debug, PartialEq)]
struct Ranked {
    score: f32,
    id: u32,
}

impl Eq for Ranked {}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.score.total_cmp(&other.score).then(self.id.cmp(&other.id))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The `k` nearest of all items compared so far.
pub(crate) struct Nearest<'a, 't> {
    target: Target<'a, 't>,
    query: ItemRef<'a>,
    k: usize,
    /// The farthest on top.
    heap: BinaryHeap<Ranked>,
    pub(crate) compared: u64,
}

impl<'a, 't> Nearest<'a, 't> {
    pub(crate) fn new(target: Target<'a, 't>, query: ItemRef<'a>, k: usize) -> Self {
        Self { target, query, k, heap: BinaryHeap::new(), compared: 0 }
    }

    fn offer(&mut self, id: u32, item: &ItemRef<'_>) -> Result<()> {
        let metric = self.target.items.of.metric;
        let distance = distance_of(self.target.level, metric, &self.query, item);
        // Vectors are checked before they are stored, so that this one is not as it was.
        if !distance.is_finite() {
            return Err(Error::corrupted(
                Key::item(self.target.items.of.index, id),
                "a component of the item is not finite",
            ));
        }
        let signed = if metric == Metric::DotProduct { -distance } else { distance };
        self.compared += 1;
        // Rounded once; the sum with zero turns -0 into 0, which would sort apart.
        #[expect(clippy::cast_possible_truncation, reason = "norms are bounded so that distances fit f32")]
        let ranked = Ranked { score: signed as f32 + 0.0, id };
        if self.heap.len() < self.k {
            self.heap.push(ranked);
        } else if let Some(mut farthest) = self.heap.peek_mut()
            && ranked < *farthest
        {
            *farthest = ranked;
        }
        Ok(())
    }

    /// Bytes of the items that were compared.
    pub(crate) fn bytes(&self) -> u64 {
        let ItemOf { dims, metric, .. } = self.target.items.of;
        self.compared * item_bytes(dims, metric) as u64
    }

    /// Compares items that must exist.
    pub(crate) fn compare_known(&mut self, ids: impl Iterator<Item = u32>) -> Result<()> {
        let mut ids = ids.fuse();
        loop {
            let mut batch: [Option<(u32, ItemRef<'t>)>; BATCH] = [None; BATCH];
            // Look-ups come first, so that vectors are on their way from memory when their turn comes.
            for (slot, id) in batch.iter_mut().zip(ids.by_ref()) {
                let item = self.target.items.get(id)?;
                item.prefetch();
                *slot = Some((id, item));
            }
            for (id, item) in batch.iter().flatten() {
                self.offer(*id, item)?;
            }
            if batch[BATCH - 1].is_none() {
                return Ok(());
            }
        }
    }

    /// Compares every item that the request admits: each id of a filter that is smaller than the index by a look-up,
    /// else all items in their order.
    pub(crate) fn compare_all(&mut self, request: &Request<'_>) -> Result<()> {
        let Target { items, record, .. } = self.target;
        let (db, rtxn, of) = (items.db, items.rtxn, items.of);
        match request.filter {
            // A look-up costs about as much as reading eight items in order.
            Some(filter) if filter.len() < record.items / 8 => {
                for id in filter.iter().filter(|id| request.exclude != Some(*id)) {
                    if let Some(item) = items.find(id)? {
                        self.offer(id, &item)?;
                    }
                }
            }
            _ => {
                for entry in db.iter(rtxn, of.index, Kind::Item)? {
                    let (key, bytes) = entry?;
                    if request.admits(key.id()) {
                        self.offer(key.id(), &ItemRef::parse(key, bytes, of.dims, of.metric)?)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The answer, nearest first.
    pub(crate) fn into_hits(self) -> Vec<Hit> {
        let sign = if self.target.items.of.metric == Metric::DotProduct { -1.0 } else { 1.0 };
        let ranked = self.heap.into_sorted_vec();
        ranked.into_iter().map(|ranked| Hit { id: ranked.id, distance: sign * ranked.score + 0.0 }).collect()
    }
}
