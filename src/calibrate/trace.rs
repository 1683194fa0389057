//! Which confidence, and how many comparisons, reach which recall: measured on queries whose true
//! neighbours are known.
//!
//! Each query runs as a search does, leaf by leaf. A search meets a neighbour if it ends with more
//! confidence than it had before the neighbour's leaf. So what a recall takes is the quantile of
//! these numbers over all neighbours of all queries. A second run notes how many candidates look
//! better than each neighbour when a search ends with that: of these, the number of comparisons is
//! a quantile. Some comparisons more may reach the recall with less confidence, which is the
//! quantile of those that are compared.
//!
//! A query that is an item is not one of its own neighbours. But searches have to find it, by its
//! own vector, more often than any recall asks for: what that takes is the least that every search
//! does.

use rayon::prelude::*;

use crate::error::Result;
use crate::format::item::ItemRef;
use crate::format::record::{CALIBRATED_RECALLS, Calibration, OperatingPoint, calibrated_ks};
use crate::lmdb::pending::Pending;
use crate::search::candidates::{estimate_of, id_of, insert, make_room, packed};
use crate::search::leaf_scan::{Collector, LeafScan};
use crate::search::request::{DEFAULT_RECALL, Request};
use crate::search::scratch::Scratch;
use crate::search::session::Session;

/// Candidates among which a neighbour has to be by its sketch, for each that is asked for, and at
/// least.
const CANDIDATES_PER_NEIGHBOUR: usize = 4;
const MIN_CANDIDATES: usize = 1024;
/// New candidates are merged when they are one in so many of those that are kept.
const MERGED_AT_ONCE: usize = 64;
/// The part of what may be missed that may be missed because too few vectors are compared exactly.
const LOST_TO_RERANK: f64 = 0.25;
/// Comparisons beyond the neighbours themselves, at least: sketches do not tell apart what lies
/// close together.
const MIN_BEYOND: u32 = 7;
/// The next larger number of neighbours takes some confidence, and comparisons beyond the
/// neighbours. Each number takes at least these parts of both. Usual data take somewhat more:
/// docs/trials.md, "fewer neighbours".
const OF_MORE: [(f32, f32); 3] = [(0.7, 0.3), (0.35, 0.1), (0.3, 0.1)];
/// The part of all items that have to be found by their own vectors. A search for one neighbour
/// wants so many times the confidence and the comparisons that took: docs/trials.md, "own vectors".
const FOUND_BY_ITSELF: f64 = 0.999;
const OWN_LEEWAY: f32 = 4.0;
/// One of so many queries is asked for the largest number of neighbours, and for the next largest.
/// They need the fewest queries: each tells of many neighbours, and takes the longest.
const ASKED_FOR_MOST: usize = 16;
const ASKED_FOR_MANY: usize = 4;

/// How many of the calibrated numbers of neighbours the `i`-th of some queries is asked for.
/// Queries come in the order of their ids, which may be that of the data. So those that are asked
/// for most are spread over all.
pub(crate) fn asked_ks(i: usize, items: u64) -> usize {
    let all = calibrated_ks(items).len();
    match i {
        _ if i.is_multiple_of(ASKED_FOR_MOST) => all,
        _ if i.is_multiple_of(ASKED_FOR_MANY) => all - 1,
        _ => all - 2,
    }
}

/// Which of the nearest items belong to the k nearest: all of the first few, and of the next few,
/// which are equally far, as many as are lacking.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) k: usize,
    pub(crate) nearer: usize,
    pub(crate) as_near: usize,
}

impl Cut {
    /// The least of the values that the k nearest may have, if these are the values of the items.
    fn values<T: Copy>(self, values: &[T], order: impl Fn(&T, &T) -> std::cmp::Ordering) -> Vec<T> {
        let mut values = values[..self.as_near].to_vec();
        values[self.nearer..].sort_unstable_by(order);
        values.truncate(self.k);
        values
    }
}

/// The nearest items of a query.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrueNeighbours {
    /// Nearest first.
    pub(crate) ids: Vec<u32>,
    /// One for each calibrated number of neighbours that the query is asked for.
    pub(crate) cuts: Vec<Cut>,
    /// Items with the very vector of the query, which say nothing about others.
    pub(crate) hidden: Pending,
}

/// A query with what it should find.
#[derive(Copy, Clone)]
pub(crate) struct TraceQuery<'a> {
    pub(crate) query: ItemRef<'a>,
    /// The item that the query is.
    pub(crate) own: Option<u32>,
    pub(crate) near: &'a TrueNeighbours,
    /// Items that searches do not meet in the forest, or that say nothing about others.
    pub(crate) hidden: &'a Pending,
}

/// With which confidence a query has met what it should find; infinite if it has not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Confidences {
    /// For each number of neighbours, the confidence before each near item is met.
    all: Vec<Vec<f32>>,
    /// The same of those that are the nearest so many.
    of_ks: Vec<Vec<f32>>,
    /// The same for the item that the query is, if one neighbour is asked for.
    own: f32,
}

/// Rank of a neighbour that is not met, or that more candidates look better than are kept.
const UNSEEN: u32 = u32::MAX;

/// What a query has found when it ends with some confidence.
#[derive(Clone, Debug)]
pub(crate) struct Reached {
    entries: f64,
    /// How many candidates look better than each neighbour, and the confidence before it was met.
    met: Vec<(u32, f32)>,
    /// How many look better than the item that the query is.
    own_rank: u32,
}

/// The confidence for each calibrated number of neighbours and recall, and that which finds the
/// items that queries are.
pub(crate) type RecallGoals = Vec<[RecallGoal; CALIBRATED_RECALLS.len()]>;

#[derive(Copy, Clone, Debug)]
pub(crate) struct RecallGoal {
    confidence: f64,
    own: f64,
    /// How many times more than the items that queries are took is wanted for them.
    leeway: f32,
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
        let mut walk = Walk { leaf_scan, ranking, near, order, confidence };
        let copies = u64::from(session.record.trees) * u64::from(1 + session.record.spill);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let most = (copies * session.record.indexed) as f64 / 2.0;
        loop {
            walk.ranking.wait();
            let has_more = walk.leaf_scan.look_ahead()?;
            walk.update(has_more);
            let is_over = !has_more || walk.leaf_scan.entries() > most;
            if !visit(&mut walk) || is_over {
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
        let at = self.order.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.order[at].1)
    }
}

/// Looks for the neighbours of a query, and tells the confidence before each is met.
pub(crate) fn confidences<'t>(session: &Session<'t>, asked: TraceQuery<'_>) -> Result<Confidences> {
    let len = asked.near.ids.len();
    let mut found: Vec<Vec<f32>> = vec![vec![f32::INFINITY; len]; asked.near.cuts.len()];
    let (mut left, mut before) = (len, vec![0.0; asked.near.cuts.len()]);
    let mut own = asked.own.map(|_| f32::INFINITY);
    let mut is_met = vec![false; len];
    walk(session, asked, |walk| {
        for id in walk.ranking.new_ids() {
            let Some(at) = walk.place(id).filter(|at| !std::mem::replace(&mut is_met[*at], true))
            else {
                continue;
            };
            left -= 1;
            for (found, before) in found.iter_mut().zip(&before) {
                #[expect(clippy::cast_possible_truncation, reason = "saturates")]
                let before = *before as f32;
                found[at] = before;
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
    let of_ks = cuts.map(|(cut, found)| cut.values(found, f32::total_cmp)).collect();
    Ok(Confidences { of_ks, all: found, own: own.unwrap_or(0.0) })
}

/// Looks for the neighbours of a query again. Tells what it has found when it ends with each of the
/// goals.
pub(crate) fn reached<'t>(
    session: &Session<'t>,
    asked: TraceQuery<'_>,
    (found, goals): (&Confidences, &RecallGoals),
) -> Result<Vec<Vec<Reached>>> {
    let cuts = &asked.near.cuts;
    let mut reached: Vec<Vec<Reached>> = vec![Vec::new(); cuts.len()];
    let mut ranks = Vec::new();
    walk(session, asked, |walk| {
        let mut is_ranked = false;
        let mut is_over = true;
        for (at, cut) in cuts.iter().enumerate() {
            while let Some(goal) =
                goals[at].get(reached[at].len()).filter(|goal| goal.confidence.is_finite())
            {
                if walk.confidence[at] < goal.confidence {
                    is_over = false;
                    break;
                }
                if !std::mem::replace(&mut is_ranked, true) {
                    ranks.clear();
                    ranks.resize(walk.near.ids.len(), UNSEEN);
                    walk.ranking.merge();
                    for (rank, id) in (0u32..).zip(walk.ranking.ids()) {
                        walk.place(id).into_iter().for_each(|at| ranks[at] = rank);
                    }
                }
                let met: Vec<(u32, f32)> =
                    ranks.iter().copied().zip(found.all[at].iter().copied()).collect();
                let met = cut.values(&met, |a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
                let own_rank =
                    asked.own.map_or(0, |_| walk.ranking.rank(walk.leaf_scan.excluded()));
                reached[at].push(Reached { entries: walk.leaf_scan.entries(), met, own_rank });
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
    /// Ids met while merging: a hash table.
    met: Vec<u64>,
}

impl Collector for Ranking {
    fn threshold(&self) -> f32 {
        self.best.get(self.keep - 1).map_or(f32::INFINITY, |last| estimate_of(*last))
    }

    fn offer(&mut self, id: u32, estimate: f32) {
        self.new.push(packed(id, estimate));
    }
}

impl Ranking {
    fn new(keep: usize) -> Self {
        let (best, new, waiting, merged, met) = Default::default();
        Self { keep, best, new, waiting, merged, met }
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
        let Self { keep, best, waiting, merged, met, .. } = self;
        merged.clear();
        make_room(met, best.len() + waiting.len());
        let (mut old, mut fresh) = (best.iter().peekable(), waiting.iter().peekable());
        while merged.len() < *keep {
            let is_fresh =
                fresh.peek().is_some_and(|fresh| old.peek().is_none_or(|old| fresh < old));
            let Some(next) = (if is_fresh { fresh.next() } else { old.next() }) else { break };
            if insert(met, id_of(*next)) {
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
        if estimate.is_finite() { u32::try_from(rank).unwrap_or(UNSEEN) } else { UNSEEN }
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

/// The number at a place among sorted ones that lies after this part of them; none if that is after
/// the last.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "counts of neighbours"
)]
fn quantile<T: Copy>(sorted: &[T], part: f64) -> Option<T> {
    let place = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(place.max(1) - 1).copied()
}

/// The part of all items that searches which aim at this recall have to find by their own vectors.
fn found_by_itself(recall: f64) -> f64 {
    if recall >= f64::from(DEFAULT_RECALL) - f64::from(f32::EPSILON) {
        FOUND_BY_ITSELF
    } else {
        recall
    }
}

/// What queries have to find so that others find this part of their k nearest: they are a sample,
/// which may be lucky by its standard error. That of one query falls with the number of its
/// neighbours. They lie together, so that it falls less.
#[expect(clippy::cast_precision_loss, reason = "at most some thousand")]
fn surely(recall: f64, (queries, k): (usize, usize)) -> f64 {
    let sample = queries as f64 * (k as f64).sqrt();
    let error = (recall * (1.0 - recall) / sample.max(1.0)).sqrt();
    recall + error.min((1.0 - recall) / 2.0)
}

/// The confidence for each number of neighbours and recall, a part of what may be missed left to
/// comparisons.
pub(crate) fn goals(all: &[Confidences]) -> RecallGoals {
    let ks = all.iter().map(|query| query.of_ks.len()).max().unwrap_or(0);
    let sorted = |mut numbers: Vec<f32>| {
        numbers.par_sort_unstable_by(f32::total_cmp);
        numbers
    };
    let own = sorted(all.iter().map(|query| query.own).collect());
    let goal = |of_k: usize| {
        let asked: Vec<&Vec<f32>> = all.iter().filter_map(|query| query.of_ks.get(of_k)).collect();
        let (queries, k) = (asked.len(), asked.first().map_or(1, |numbers| numbers.len()));
        let numbers = sorted(asked.into_iter().flatten().copied().collect());
        CALIBRATED_RECALLS.map(|recall| {
            let part = 1.0 - (1.0 - surely(recall, (queries, k))) * (1.0 - LOST_TO_RERANK);
            let least = quantile(&numbers, part).unwrap_or(f32::INFINITY);
            // As few queries tell little of what is so rare. More neighbours take more anyway.
            let leeway =
                if of_k == 0 && found_by_itself(recall) > recall { OWN_LEEWAY } else { 1.0 };
            let own = quantile(&own, found_by_itself(recall)).unwrap_or(0.0) * leeway;
            // A search that ends with one of these has not scanned the leaf before which it had it.
            let [own, confidence] = [own, least.max(own)].map(|least| f64::from(least.next_up()));
            RecallGoal { confidence, own, leeway }
        })
    };
    (0..ks).map(goal).collect()
}

/// What each recall takes, from what queries have found with these goals. `items` is the size of
/// the forest.
#[expect(clippy::cast_possible_truncation, reason = "at most some thousand queries")]
pub(crate) fn fit(
    goals: &RecallGoals,
    all: &[Vec<Vec<Reached>>],
    items: u64,
    is_of_queries: bool,
) -> Calibration {
    let mut calibration = Calibration::default();
    (calibration.items, calibration.queries) = (items, all.len() as u32);
    calibration.is_of_queries = u32::from(is_of_queries);
    for (of_k, (row, k)) in calibration.points.iter_mut().zip(calibrated_ks(items)).enumerate() {
        let asked: Vec<&[Reached]> =
            all.iter().filter_map(|query| query.get(of_k)).map(Vec::as_slice).collect();
        for (of_recall, (point, recall)) in row.iter_mut().zip(CALIBRATED_RECALLS).enumerate() {
            let goal = goals
                .get(of_k)
                .map(|goals| goals[of_recall])
                .filter(|goal| goal.confidence.is_finite());
            let reached: Vec<&Reached> =
                asked.iter().filter_map(|of_k| of_k.get(of_recall)).collect();
            let point_of = |goal| point_of(goal, (&reached, asked.len()), (k, recall));
            *point = goal.and_then(point_of).unwrap_or(OperatingPoint::OUT_OF_REACH);
        }
    }
    // What the user's own queries were measured to take needs no guess about others.
    if !is_of_queries {
        hold_together(&mut calibration);
    }
    calibration.points.iter_mut().for_each(|row| rise(row));
    calibration
}

/// What a recall of k neighbours takes, from what so many queries have reached; none if that is not
/// reached.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "estimates"
)]
fn point_of(
    goal: RecallGoal,
    (reached, asked): (&[&Reached], usize),
    (k, recall): (usize, f64),
) -> Option<OperatingPoint> {
    let mut met: Vec<(u32, f32)> =
        reached.iter().flat_map(|reached| reached.met.iter().copied()).collect();
    // A query that did not come so far has scanned all that it may: it counts as one that has found
    // nothing.
    met.resize(met.len() + (asked - reached.len()) * k, (UNSEEN, f32::INFINITY));
    met.sort_unstable_by_key(|(rank, _)| *rank);
    let mut own_ranks: Vec<u32> = reached.iter().map(|reached| reached.own_rank).collect();
    own_ranks.sort_unstable();
    let own = quantile(&own_ranks, found_by_itself(recall)).unwrap_or(0);
    let own = if own == UNSEEN { own } else { ((own + 1) as f32 * goal.leeway) as u32 - 1 };
    let part = surely(recall, (asked, k));
    // As many as are wanted are compared in any case.
    let last = quantile(&met, part)?.0.max(own).max(k as u32 - 1);
    if last == UNSEEN {
        return None;
    }
    let compared = met.partition_point(|(rank, _)| *rank <= last);
    let mut numbers: Vec<f32> = met[..compared].iter().map(|(_, confidence)| *confidence).collect();
    numbers.sort_unstable_by(f32::total_cmp);
    let enough =
        f64::from(quantile(&numbers, part * met.len() as f64 / compared as f64)?.next_up());
    let confidence = enough.max(goal.own).min(goal.confidence) as f32;
    let entries = reached.iter().map(|reached| reached.entries).sum::<f64>() / reached.len() as f64;
    Some(OperatingPoint { confidence, rerank: last + 1, entries: entries.ceil() as u32 })
}

/// More recall takes no less of anything. What reaches more reaches less, too, where so few
/// comparisons were not told.
fn rise(row: &mut [OperatingPoint]) {
    for at in (1..row.len()).rev() {
        if !row[at - 1].confidence.is_finite() {
            row[at - 1] = row[at];
        }
    }
    for at in 1..row.len() {
        let (less, more) = (row[at - 1], &mut row[at]);
        more.confidence = more.confidence.max(less.confidence);
        (more.rerank, more.entries) =
            (more.rerank.max(less.rerank), more.entries.max(less.entries));
    }
}

/// What the nearest neighbours take is at least a part of what more of them take. Items that all
/// lie beside a twin would teach that the nearest leaf is enough. Queries that have no twin take
/// what the neighbours beyond it do.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "estimates"
)]
fn hold_together(calibration: &mut Calibration) {
    let ks = calibration.ks();
    for (points, k) in calibration.points.iter_mut().zip(ks) {
        for point in points.iter_mut().filter(|point| point.confidence.is_finite()) {
            point.rerank = point.rerank.max(k as u32 + MIN_BEYOND);
        }
    }
    for (at, (confidence, rerank)) in OF_MORE.into_iter().enumerate().rev() {
        let [(fewer, few), (more, many)] = [at, at + 1].map(|at| (calibration.points[at], ks[at]));
        for (of_recall, (fewer, more)) in fewer.into_iter().zip(more).enumerate() {
            // What the forest reaches for few is not lost because it does not for many.
            if more.confidence.is_finite() && fewer.confidence.is_finite() {
                let beyond = few as f32 + rerank * more.rerank.saturating_sub(many as u32) as f32;
                let point = &mut calibration.points[at][of_recall];
                point.confidence = fewer.confidence.max(confidence * more.confidence);
                point.rerank = fewer.rerank.max(beyond as u32);
            }
        }
    }
}
