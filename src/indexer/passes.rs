//! Passes over all items in the order of their keys, in which they lie in the file. What a pass
//! makes for the nodes goes to them through sorted records.

use std::ops::Range;

use heed::RoTxn;

use crate::error::Result;
use crate::forest::points::Points;
use crate::forest::route::{NO_LEAF, Router};
use crate::indexer::budget::Budget;
use crate::indexer::spool::{Lists, Pair, Records, Sorted};
use crate::lmdb::workers::{Batches, Workers};
use crate::progress::BuildPhase;

/// Items that one task reads. With more, fewer products of matrices have few rows.
const READ_PER_TASK: usize = 4096;

/// All items, and what may be held of what is made of them.
pub(super) struct Passes<'a> {
    pub(super) points: Points<'a>,
    pub(super) budget: Budget,
}

/// What is written of an item for a node: the transaction, the numbers of both, the item's point,
/// and where to append it.
pub(super) trait Write:
    Fn(&RoTxn<'_>, Pair, &[f32], &mut Vec<u8>) -> Result<()> + Sync
{
}
impl<F: Fn(&RoTxn<'_>, Pair, &[f32], &mut Vec<u8>) -> Result<()> + Sync> Write for F {}

impl Passes<'_> {
    /// Lists in memory as far as the budget allows.
    pub(super) fn lists(&self) -> Lists {
        Lists::new(&self.budget.folder, self.budget.part())
    }

    /// Records in memory as far as the budget allows.
    pub(super) fn records(&self, bytes_each: usize) -> Records {
        Records::new(&self.budget.folder, self.budget.part(), bytes_each)
    }

    /// Items that one task reads.
    fn per_task(&self) -> usize {
        READ_PER_TASK.min(self.budget.at_once(4 * self.points.context.transform.width))
    }

    /// The places of all items by leaf.
    pub(super) fn route(
        &self,
        workers: &mut Workers<'_>,
        router: &Router,
        spill: bool,
    ) -> Result<Sorted> {
        let (n, per_task) = (self.points.ids.len(), self.per_task());
        let mut pairs = self.records(0);
        let range = |task| Ok(chunk(n, per_task, task));
        let route = |rtxn: &RoTxn<'_>, range: &Range<usize>| {
            let routes = router.route(&self.points.of_range(rtxn, range.clone())?, spill);
            Ok((range.start, routes))
        };
        let keep = |(start, routes): (usize, Vec<[u32; 2]>)| {
            (0u32..).skip(start).zip(routes).try_for_each(|(place, route)| {
                let leaves = route.into_iter().filter(|leaf| *leaf != NO_LEAF);
                leaves.into_iter().try_for_each(|leaf| pairs.push([leaf, place], &[]))
            })
        };
        let at_once = self.budget.at_once(size_of::<[u32; 2]>() * per_task);
        let batches = Batches { phase: BuildPhase::Routing, tasks: n.div_ceil(per_task), at_once };
        workers.stream(batches, range, route, keep)?;
        pairs.sort()
    }

    /// Carries what `write` makes of items to nodes: `bytes_each` for each pair of a place and a
    /// node. Returns it by node, then by place.
    pub(super) fn carry(
        &self,
        workers: &mut Workers<'_>,
        phase: BuildPhase,
        mut pairs: Sorted,
        bytes_each: usize,
        write: impl Write,
    ) -> Result<Sorted> {
        let (n, per_task) = (self.points.ids.len(), self.per_task());
        let mut all = self.records(bytes_each);
        let next = |task| Ok(pairs.below(chunk(n, per_task, task).end, usize::MAX)?.0);
        let make = |rtxn: &RoTxn<'_>, pairs: &Vec<Pair>| {
            let mut places: Vec<u32> = pairs.iter().map(|pair| pair[0]).collect();
            places.dedup();
            let points = self.points.of_places(rtxn, &places)?;
            let (mut keys, mut made) = (Vec::with_capacity(pairs.len()), Vec::new());
            made.reserve_exact(pairs.len() * bytes_each);
            for (i, of_place) in pairs.chunk_by(|a, b| a[0] == b[0]).enumerate() {
                for [place, node] in of_place {
                    keys.push([*node, *place]);
                    write(rtxn, [*place, *node], points.row(i), &mut made)?;
                }
            }
            Ok((keys, made))
        };
        let keep = |(keys, made): (Vec<Pair>, Vec<u8>)| {
            let records = made.chunks_exact(bytes_each);
            keys.iter().zip(records).try_for_each(|(key, record)| all.push(*key, record))
        };
        // An item is written for two nodes at most.
        let at_once = self.budget.at_once(2 * per_task * (2 * size_of::<Pair>() + bytes_each));
        let batches = Batches { phase, tasks: n.div_ceil(per_task), at_once };
        workers.stream(batches, next, make, keep)?;
        all.sort()
    }
}

/// The second numbers of pairs.
pub(super) fn seconds(pairs: &[Pair]) -> Vec<u32> {
    pairs.iter().map(|pair| pair[1]).collect()
}

/// What one of several tasks reads of so many.
pub(super) fn chunk(len: usize, per_task: usize, task: usize) -> Range<usize> {
    task * per_task..len.min((task + 1) * per_task)
}
