//! Walks through the forest with queries whose true neighbours are known.
//!
//! Each walk runs as a search does, leaf by leaf. It notes the confidence before the leaf in which
//! each neighbour is found: a search that ends with more confidence finds it. A second walk notes
//! how many candidates look better than each neighbour when a search ends.
//!
//! A query that is an item is not one of its own neighbours. But searches have to find it by its
//! own vector, more often than any recall asks for. So walks look for it, too.

use crate::calibrate::truth::TrueNeighbours;
use crate::error::Result;
use crate::format::item::ItemRef;
use crate::format::record::CALIBRATED_RECALLS;
use crate::lmdb::pending::Pending;
use crate::math::id_table::IdTable;
use crate::math::scored::{estimate_of, id_of};
use crate::search::leaf_scan::{Collector, LeafScan};
use crate::search::request::Request;
use crate::search::scratch::Scratch;
use crate::search::session::Session;

/// Candidates kept per neighbour, and at least. A neighbour ranked beyond them is not found:
/// docs/trials.md, "choices that were not swept".
const CANDIDATES_PER_NEIGHBOUR: usize = 4;
const MIN_CANDIDATES: usize = 1024;
/// New candidates are merged when they are one in so many of those that are kept.
const MERGED_AT_ONCE: usize = 64;

/// A query with what it should find.
#[derive(Copy, Clone)]
pub(crate) struct TraceQuery<'a> {
    pub(crate) query: ItemRef<'a>,
    /// The item that the query is.
    pub(crate) own: Option<u32>,
    pub(crate) near: &'a TrueNeighbours,
    /// Items that searches do not look for in the forest, or that say nothing about others.
    pub(crate) hidden: &'a Pending,
}

/// The confidences before a query finds what it should; infinite if it does not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Confidences {
    /// For each number of neighbours, the confidence before each near item.
    of_items: Vec<Vec<f32>>,
    /// The same for those that count as the nearest so many.
    pub(super) of_neighbours: Vec<Vec<f32>>,
    /// The same for the item that the query is, if one neighbour is asked for.
    pub(super) own: f32,
}

/// Rank of a neighbour that is not found, or that more candidates look better than are kept.
pub(super) const UNRANKED: u32 = u32::MAX;

/// How a search finds a neighbour.
#[derive(Copy, Clone, Debug)]
pub(super) struct Neighbour {
    /// How many candidates look better when the search ends.
    pub(super) rank: u32,
    /// The confidence before the leaf that has it.
    pub(super) confidence: f32,
}

/// What a query has found when it ends with some confidence.
#[derive(Clone, Debug)]
pub(crate) struct Reached {
    pub(super) entries: f64,
    pub(super) neighbours: Vec<Neighbour>,
    /// How many candidates look better than the item that the query is.
    pub(super) own_rank: u32,
}

/// The confidence for each calibrated number of neighbours and recall.
pub(crate) type RecallGoals = Vec<[RecallGoal; CALIBRATED_RECALLS.len()]>;

/// With which confidence searches are to end.
#[derive(Copy, Clone, Debug)]
pub(crate) struct RecallGoal {
    pub(super) confidence: f64,
    /// That which finds the items that queries are.
    pub(super) own: f64,
    /// Factor on `own`.
    pub(super) leeway: f32,
}

/// Where a walk from leaf to leaf has come to.
struct Walk<'w, 'a, 't> {
    leaf_scan: LeafScan<'w, 't>,
    ranking: Ranking,
    near: &'a TrueNeighbours,
    /// Ids of the neighbours with their places, by id.
    order: Vec<(u32, usize)>,
    /// The largest confidence so far, for each number of neighbours.
    confidence: Vec<f64>,
    /// Whether it has looked at all that it may.
    is_over: bool,
}

/// Walks from leaf to leaf, and calls `visit` before each and at the end, until it wants no more.
fn walk<'t>(
    session: &Session<'t>,
    asked: TraceQuery<'_>,
    mut visit: impl FnMut(&mut Walk<'_, '_, 't>) -> bool,
) -> Result<()> {
    let near = asked.near;
    let request = Request { exclude: asked.own.as_slice(), ..Request::new(near.ids.len()) };
    let mut order: Vec<(u32, usize)> = near.ids.iter().copied().zip(0..).collect();
    order.sort_unstable();
    let keep =
        MIN_CANDIDATES.max(CANDIDATES_PER_NEIGHBOUR * near.cuts.last().map_or(0, |cut| cut.k));
    Scratch::with(|scratch| {
        let Some(open) = session.forest()? else { return Ok(()) };
        let forest = &*open.forest;
        scratch.prepared.prepare(&forest.transform, &asked.query, forest.leaf, forest.branch);
        let leaf_scan = LeafScan::begin(session, open, asked.hidden, &request, scratch);
        let (ranking, confidence) = (Ranking::new(keep), vec![0.0; near.cuts.len()]);
        let mut walk = Walk { leaf_scan, ranking, near, order, confidence, is_over: false };
        let copies = u64::from(session.record.trees) * u64::from(1 + session.record.spill);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let max_entries = (copies * session.record.indexed) as f64 / 2.0;
        loop {
            walk.ranking.wait();
            let has_more = walk.leaf_scan.look_ahead()?;
            walk.update(has_more);
            walk.is_over = !has_more || walk.leaf_scan.entries() > max_entries;
            if !visit(&mut walk) || walk.is_over {
                return Ok(());
            }
            walk.ranking.new.clear();
            walk.leaf_scan.step(&mut walk.ranking)?;
        }
    })
}

impl Walk<'_, '_, '_> {
    fn update(&mut self, has_more: bool) {
        for (confidence, cut) in self.confidence.iter_mut().zip(&self.near.cuts) {
            if !has_more {
                *confidence = f64::INFINITY;
            }
            *confidence = confidence.max(self.leaf_scan.confidence(self.ranking.kth(cut.k)));
        }
    }

    fn place(&self, id: u32) -> Option<usize> {
        let i = self.order.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.order[i].1)
    }
}

/// Whether a query lies far outside its nearest leaf.
pub(crate) fn is_far_outside<'t>(session: &Session<'t>, asked: TraceQuery<'_>) -> Result<bool> {
    let mut is_far = false;
    walk(session, asked, |walk| {
        is_far = walk.leaf_scan.is_far_outside();
        walk.leaf_scan.entries() == 0.0
    })?;
    Ok(is_far)
}

/// The confidence before each neighbour of a query is found.
pub(crate) fn confidences<'t>(session: &Session<'t>, asked: TraceQuery<'_>) -> Result<Confidences> {
    let len = asked.near.ids.len();
    let mut found: Vec<Vec<f32>> = vec![vec![f32::INFINITY; len]; asked.near.cuts.len()];
    let (mut left, mut before) = (len, vec![0.0; asked.near.cuts.len()]);
    let mut own = asked.own.map(|_| f32::INFINITY);
    let mut is_found = vec![false; len];
    walk(session, asked, |walk| {
        for id in walk.ranking.new_ids() {
            let is_new = |place: &usize| !std::mem::replace(&mut is_found[*place], true);
            let Some(place) = walk.place(id).filter(is_new) else { continue };
            left -= 1;
            for (found, before) in found.iter_mut().zip(&before) {
                #[expect(clippy::cast_possible_truncation, reason = "saturates")]
                let before = *before as f32;
                found[place] = before;
            }
        }
        if walk.leaf_scan.excluded().is_finite() {
            #[expect(clippy::cast_possible_truncation, reason = "saturates")]
            let before = before.first().copied().unwrap_or(0.0) as f32;
            own = own.map(|own| own.min(before));
        }
        before.copy_from_slice(&walk.confidence);
        left > 0 || own == Some(f32::INFINITY)
    })?;
    let cuts = asked.near.cuts.iter().zip(&found);
    let of_neighbours = cuts.map(|(cut, found)| cut.values(found, f32::total_cmp)).collect();
    Ok(Confidences { of_neighbours, of_items: found, own: own.unwrap_or(0.0) })
}

/// What a query has found when it ends with each of the goals: for each number of neighbours, as
/// many goals as it reaches. `found` is of its first walk.
///
/// A query of the user that does not reach a goal counts with what it has found by the end. One of
/// them must not make all others compare all items.
pub(crate) fn reached<'t>(
    session: &Session<'t>,
    asked: TraceQuery<'_>,
    found: &Confidences,
    goals: &RecallGoals,
) -> Result<Vec<Vec<Reached>>> {
    let cuts = &asked.near.cuts;
    let mut reached: Vec<Vec<Reached>> = vec![Vec::new(); cuts.len()];
    let mut ranks = Vec::new();
    let is_of_user = session.record.calibration.is_of_user();
    walk(session, asked, |walk| {
        let mut is_ranked = false;
        let mut is_over = true;
        for (of_k, cut) in cuts.iter().enumerate() {
            while let Some(goal) =
                goals[of_k].get(reached[of_k].len()).filter(|goal| goal.confidence.is_finite())
            {
                if walk.confidence[of_k] < goal.confidence && !(is_of_user && walk.is_over) {
                    is_over = false;
                    break;
                }
                if !std::mem::replace(&mut is_ranked, true) {
                    ranks.clear();
                    ranks.resize(walk.near.ids.len(), UNRANKED);
                    walk.ranking.merge();
                    for (rank, id) in (0u32..).zip(walk.ranking.ids()) {
                        walk.place(id).into_iter().for_each(|place| ranks[place] = rank);
                    }
                }
                let all: Vec<Neighbour> = ranks
                    .iter()
                    .zip(&found.of_items[of_k])
                    .map(|(rank, confidence)| Neighbour { rank: *rank, confidence: *confidence })
                    .collect();
                let neighbours = cut.values(&all, |a, b| {
                    a.rank.cmp(&b.rank).then(a.confidence.total_cmp(&b.confidence))
                });
                let own_rank =
                    asked.own.map_or(0, |_| walk.ranking.rank(walk.leaf_scan.excluded()));
                reached[of_k].push(Reached {
                    entries: walk.leaf_scan.entries(),
                    neighbours,
                    own_rank,
                });
            }
        }
        !is_over
    })?;
    Ok(reached)
}

/// The best candidates, each item once, in order after each leaf.
struct Ranking {
    keep: usize,
    /// Estimate above id, ascending.
    best: Vec<u64>,
    /// Those of the last leaf, and those that are not among the best yet.
    new: Vec<u64>,
    waiting: Vec<u64>,
    merged: Vec<u64>,
    /// Ids seen while merging.
    seen: IdTable,
}

impl Collector for Ranking {
    fn threshold(&self) -> f32 {
        self.best.get(self.keep - 1).map_or(f32::INFINITY, |last| estimate_of(*last))
    }

    fn offer_all(&mut self, found: &[u64]) {
        self.new.extend_from_slice(found);
    }
}

impl Ranking {
    fn new(keep: usize) -> Self {
        let (best, new, waiting, merged, seen) = Default::default();
        Self { keep, best, new, waiting, merged, seen }
    }

    /// Takes in those of the last leaf. A few may wait: they change little.
    fn wait(&mut self) {
        self.waiting.extend_from_slice(&self.new);
        self.waiting.sort_unstable();
        if self.waiting.len() * MERGED_AT_ONCE >= self.keep {
            self.merge();
        }
    }

    fn merge(&mut self) {
        let Self { keep, best, waiting, merged, seen, .. } = self;
        merged.clear();
        seen.begin(best.len() + waiting.len());
        let (mut old, mut fresh) = (best.iter().peekable(), waiting.iter().peekable());
        while merged.len() < *keep {
            let is_fresh =
                fresh.peek().is_some_and(|fresh| old.peek().is_none_or(|old| fresh < old));
            let Some(next) = (if is_fresh { fresh.next() } else { old.next() }) else { break };
            if seen.insert(id_of(*next)) {
                merged.push(*next);
            }
        }
        std::mem::swap(best, merged);
        waiting.clear();
    }

    /// The estimate of the k-th candidate; infinite if there are fewer.
    fn kth(&self, k: usize) -> f32 {
        let Self { best, waiting, .. } = self;
        // So many of those that wait are among the k best. An item that is in both counts twice,
        // which makes little difference.
        let mut fresh = 0;
        while fresh < waiting.len().min(k)
            && best.get(k - fresh - 1).is_none_or(|last| waiting[fresh] < *last)
        {
            fresh += 1;
        }
        let last = fresh.checked_sub(1).map(|last| waiting[last]);
        match k - fresh {
            0 => last.map_or(f32::INFINITY, estimate_of),
            old => best
                .get(old - 1)
                .map_or(f32::INFINITY, |old| estimate_of(last.map_or(*old, |last| last.max(*old)))),
        }
    }

    /// How many candidates look no worse than this: which of equal ones are kept is not for the
    /// sketches to say.
    fn rank(&self, estimate: f32) -> u32 {
        let rank = self.best.partition_point(|candidate| estimate_of(*candidate) <= estimate);
        if estimate.is_finite() { u32::try_from(rank).unwrap_or(UNRANKED) } else { UNRANKED }
    }

    /// The ids of the candidates of the last leaf.
    fn new_ids(&self) -> impl Iterator<Item = u32> {
        self.new.iter().map(|candidate| id_of(*candidate))
    }

    /// The ids of the best candidates, best first.
    fn ids(&self) -> impl Iterator<Item = u32> {
        self.best.iter().map(|candidate| id_of(*candidate))
    }
}
