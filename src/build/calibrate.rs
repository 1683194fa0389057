//! Measuring the recall of a forest: on its own items after a bulk build, on a user's queries, and on a few items at each
//! incremental build.

use std::collections::HashSet;
use std::ops::Range;

use heed::{RoTxn, RwTxn};

use super::parallel::Workers;
use super::points::Points;
use super::site::Site;
use crate::cluster::{Matrix, half_norms, sample};
use crate::database::{Database, ItemOf};
use crate::error::Result;
use crate::format::item::ItemRef;
use crate::format::record::{Calibration, NO_CORRECTION, Record};
use crate::format::{Key, Kind};
use crate::kernel::matrix::{self, Panels};
use crate::kernel::select::{Scores, below};
use crate::kernel::{Level, level};
use crate::metric::Metric;
use crate::options::BuildPhase;
use crate::search::calibration::{NEIGHBOURS, Observed, asked_for, fit, ladder, observe};
use crate::search::effort::{DEFAULT_RECALL, Effort};
use crate::search::items::Items;
use crate::search::pending::Pending;
use crate::search::request::Request;
use crate::search::run::search;
use crate::search::{EXACT_ITEMS, Forest, Hit, Parts, Planted, Target};
use crate::tree::route::by_score;

/// Multiplications for all comparisons of a calibration, about: some seconds of one thread at most for a million items.
const WORK: usize = 25_000_000_000;
/// Queries, whatever the work: fewer are too few to tell .95 from .97, more do not tell more.
const QUERIES: std::ops::RangeInclusive<usize> = 128..=1000;
/// Items for each query, at least: small indexes are built in milliseconds and should be measured in as many.
const ITEMS_PER_QUERY: usize = 10;
/// Items that are compared with all queries at once.
const CHUNK: usize = 256;
/// Parts of the items, each for one task.
const PARTS: usize = 16;
/// How many times the usual effort for a recall@100 of .8 is spent on a query at most.
const CAP: usize = 8;

/// Items asked for at random and their true neighbours.
pub(crate) struct Truth {
    queries: Vec<u32>,
    neighbours: Vec<Vec<u32>>,
}

/// Whether searches of this index would go by a calibration.
pub(crate) fn is_of_use(metric: Metric, items: u64) -> bool {
    // Distances of bits are whole numbers, and many neighbours as near as the last one would count as missed.
    items > EXACT_ITEMS && metric != Metric::Hamming
}

/// Finds the true neighbours of some items, all other items compared.
pub(crate) fn truth(workers: &mut Workers<'_>, all: Points<'_>) -> Result<Truth> {
    let (site, ids) = (all.site, all.ids);
    let affordable = (WORK / (ids.len() * site.space.width).max(1)).min(ids.len() / ITEMS_PER_QUERY);
    let count = affordable.clamp(*QUERIES.start(), *QUERIES.end());
    let mut queries: Vec<u32> = sample(ids.len(), count, 2).into_iter().map(|i| ids[i as usize]).collect();
    let mut points = site.points(workers.own(), &queries)?;
    if keep_distinct(&mut queries, &points) {
        points = site.points(workers.own(), &queries)?;
    }
    site.space.move_back(&mut points.values);
    let near = neighbours(workers, all, &points)?;
    let others = |(i, (query, near)): (usize, (&u32, Vec<u32>))| {
        near.into_iter().filter(|id| id != query).take(asked_for(i, queries.len())).collect()
    };
    let neighbours = queries.iter().zip(near).enumerate().map(others).collect();
    Ok(Truth { queries, neighbours })
}

/// Drops what has the very point of a query before it; returns whether there was such. Thousands of copies of one vector, all
/// of them found at once, would make up for the neighbours that the rest misses.
fn keep_distinct(queries: &mut Vec<u32>, points: &Matrix) -> bool {
    let mut seen = HashSet::new();
    let mut rows = points.values.chunks_exact(points.width).map(bytemuck::cast_slice::<f32, u8>);
    let all = queries.len();
    queries.retain(|_| rows.next().is_none_or(|row| seen.insert(row)));
    queries.len() < all
}

/// The nearest items of a query so far.
struct Best {
    near: Vec<(f32, u32)>,
    wanted: usize,
    farthest: f32,
}

impl Best {
    /// Of the `i`-th of some queries one more is wanted than it is asked for: it may be among them itself.
    fn of(i: usize, queries: usize) -> Self {
        Self { near: Vec::new(), wanted: asked_for(i, queries) + 1, farthest: f32::INFINITY }
    }

    fn offer(&mut self, score: f32, id: u32) {
        self.near.push((score, id));
        if self.near.len() >= 4 * self.wanted {
            self.prune();
        }
    }

    /// Offers items that have these scores.
    fn offer_all(&mut self, level: Level, ids: &[u32], scores: Scores<'_>) {
        below(level, scores, self.farthest, |at, score| {
            if score < self.farthest {
                self.offer(score, ids[at]);
            }
            self.farthest
        });
    }

    fn prune(&mut self) {
        if self.near.len() >= self.wanted {
            let (_, last, _) = self.near.select_nth_unstable_by(self.wanted - 1, by_score);
            self.farthest = last.0;
            self.near.truncate(self.wanted);
        }
    }

    fn into_ids(mut self) -> Vec<u32> {
        self.prune();
        self.near.sort_unstable_by(by_score);
        self.near.into_iter().map(|(_, id)| id).collect()
    }
}

/// The nearest items of each query, and one more, nearest first: all pairs are compared. For the
/// queries see [`Space::map_query`](crate::sketch::space::Space::map_query).
fn neighbours(workers: &mut Workers<'_>, all: Points<'_>, queries: &Matrix) -> Result<Vec<Vec<u32>>> {
    let part = all.ids.len().div_ceil(PARTS).max(CHUNK);
    let parts = all.ids.len().div_ceil(part);
    let found = workers.map(BuildPhase::Calibrating, parts, |rtxn, task| {
        nearest_of(all, rtxn, task * part..all.ids.len().min((task + 1) * part), queries)
    })?;
    let mut all: Vec<Best> = (0..queries.len()).map(|i| Best::of(i, queries.len())).collect();
    for part in found {
        all.iter_mut().zip(part).for_each(|(all, best)| all.near.extend(best.near));
    }
    Ok(all.into_iter().map(Best::into_ids).collect())
}

/// The nearest of the items at some places to each query.
fn nearest_of(all: Points<'_>, rtxn: &RoTxn<'_>, part: Range<usize>, queries: &Matrix) -> Result<Vec<Best>> {
    let site = all.site;
    let (level, width, metric) = (site.space.level, site.space.width, site.of.metric);
    let mut best: Vec<Best> = (0..queries.len()).map(|i| Best::of(i, queries.len())).collect();
    let rows: Vec<&[f32]> = queries.values.chunks_exact(width).collect();
    let mut products = Vec::new();
    for first in part.clone().step_by(CHUNK) {
        let places = first..part.end.min(first + CHUNK);
        let points = all.within(rtxn, places.clone())?;
        let ids = &all.ids[places];
        let panels = Panels::new(&points, width);
        products.resize(queries.len() * ids.len(), 0.0);
        // A score is half the squared distance up to what is the same for all items, or the distance itself.
        let (norms, sign) = match metric {
            Metric::Manhattan => (vec![0.0; ids.len()], 1.0),
            Metric::DotProduct => (vec![0.0; ids.len()], -1.0),
            _ => (half_norms(level, &points, width), -1.0),
        };
        if metric == Metric::Manhattan {
            matrix::manhattans(level, &rows, &panels, &mut products);
        } else {
            matrix::dots(level, &rows, &panels, &mut products);
        }
        for (best, products) in best.iter_mut().zip(products.chunks_exact(ids.len())) {
            best.offer_all(level, ids, Scores { norms: &norms, products, sign });
        }
    }
    best.iter_mut().for_each(Best::prune);
    Ok(best)
}

/// Sketches that a query is given at most.
fn cap(record: &Record, metric: Metric) -> usize {
    let request = Request::new(NEIGHBOURS, 0.8);
    let mut uncalibrated = *record;
    uncalibrated.calibration = Calibration::default();
    let usual = Effort::new(&request, &uncalibrated, metric);
    let copies = usize::from(record.trees) * (1 + usize::from(record.spill));
    let all = usize::try_from(record.indexed).unwrap_or(usize::MAX).saturating_mul(copies);
    usual.budget.saturating_mul(CAP).min(all).max(1)
}

/// Measures a forest that has been written.
pub(crate) fn measure(
    db: Database,
    wtxn: &RwTxn<'_>,
    of: ItemOf,
    record: &Record,
    truth: &Truth,
) -> Result<Calibration> {
    let mut workers = Workers::new(wtxn, None)?;
    let forest = Forest::read(db, workers.own(), of, record)?;
    let (pending, ladder) = (Pending::default(), ladder(cap(record, of.metric)));
    let observed = workers.share(truth.queries.len(), |rtxn, i| {
        let items = Items::new(db, rtxn, of, 0);
        let target = Target { items: &items, record, level: level() };
        let (query, nodes) = (items.get(truth.queries[i])?, forest.nodes((db, rtxn, of), 0));
        let planted = Planted { forest: &forest, nodes: &nodes };
        observe(target, (planted, &pending), &query, Some(truth.queries[i]), &truth.neighbours[i], &ladder)
    })?;
    Ok(fit(&observed, &ladder, record.indexed, false))
}

/// Measures the forest there is on these queries.
pub(crate) fn measure_on(
    db: Database,
    wtxn: &RwTxn<'_>,
    of: ItemOf,
    record: &Record,
    queries: &[ItemRef<'_>],
) -> Result<Calibration> {
    let mut workers = Workers::new(wtxn, None)?;
    let own = wtxn.nested_read_txn()?;
    let forest = Forest::read(db, &own, of, record)?;
    let site = Site::new(db, of, &forest, record.leaf_size as usize);
    let mut points = Matrix { values: vec![0.0; queries.len() * forest.space.width], width: forest.space.width };
    for (query, point) in queries.iter().zip(points.values.chunks_exact_mut(points.width)) {
        forest.space.map_query(query, point);
    }
    let ids = db
        .iter(&own, of.index, Kind::Item)?
        .map(|entry| entry.map(|(key, _)| key.id()))
        .collect::<Result<Vec<u32>>>()?;
    let mut truth = neighbours(&mut workers, Points::new(site, &ids, None), &points)?;
    truth.iter_mut().enumerate().for_each(|(i, near)| near.truncate(asked_for(i, queries.len())));
    let (pending, ladder) = (Pending::read(db, &own, of)?, ladder(cap(record, of.metric)));
    let observed: Vec<Observed> = workers.share(queries.len(), |rtxn, i| {
        let items = Items::new(db, rtxn, of, 0);
        let target = Target { items: &items, record, level: level() };
        let planted = Planted { forest: &forest, nodes: &forest.nodes((db, rtxn, of), 0) };
        observe(target, (planted, &pending), &queries[i], None, &truth[i], &ladder)
    })?;
    Ok(fit(&observed, &ladder, record.indexed, true))
}

/// Neighbours that a probe asks for, and how many times the usual effort tells which they should be.
const PROBED: usize = 10;
const THOROUGH: f64 = 8.0;
/// What a probe remembers of its first search for its second, in nodes of each kind and in items.
const PROBE_KNOWS: usize = 1 << 12;
/// How much of what a probe lacks in recall is added to the effort. With it some hundred probes correct an effort that is
/// half of what it should be, and chance moves it by a tenth.
const GAIN: f64 = 0.125;
/// The same for all probes of one build together, and the most by which one build multiplies the effort.
const MOST_GAIN: f64 = 2.0;
const MOST_STEP: f64 = 1.25;
/// The correction is within these bounds, in 1,024ths.
const CORRECTIONS: std::ops::RangeInclusive<f64> = 64.0..=16_384.0;

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

/// Asks a few items for their neighbours, with the usual effort and with much more, and corrects the effort by what that
/// tells about recall. Work in proportion to `probes`.
pub(crate) fn corrected(
    workers: &mut Workers<'_>,
    (site, forest): (&Site<'_>, &Forest),
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
        let planted = Planted { forest, nodes: &forest.nodes((site.db, rtxn, site.of), PROBE_KNOWS) };
        let stored = Stored { planted, changed: &changed };
        probe(site, rtxn, record, &stored, u32::try_from(at).unwrap_or(0))
    })?;
    let lacking: Vec<f64> = lacking.into_iter().flatten().collect();
    if lacking.is_empty() {
        return Ok(record.calibration.correction);
    }
    // All probes saw the same effort: it moves once, by what they lack on average.
    #[expect(clippy::cast_precision_loss, reason = "at most some dozens")]
    let (count, sum) = (lacking.len() as f64, lacking.iter().sum::<f64>());
    let step = (1.0 + (GAIN * count).min(MOST_GAIN) * sum / count).clamp(1.0 / MOST_STEP, MOST_STEP);
    // What the user's queries need is not for items to lower.
    let least = if record.calibration.is_of_queries == 1 { f64::from(NO_CORRECTION) } else { *CORRECTIONS.start() };
    let moved = (f64::from(correction) * step).clamp(least, *CORRECTIONS.end());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within bounds")]
    Ok(if moved.is_finite() { moved.round() as u32 } else { NO_CORRECTION })
}

/// How much recall the first item at or after an id lacks with the usual effort; `None` if there is none to ask.
fn probe<'t>(
    site: &Site<'_>,
    rtxn: &'t RoTxn<'t>,
    record: &Record,
    stored: &Stored<'_, 't>,
    at: u32,
) -> Result<Option<f64>> {
    let (db, of) = (site.db, site.of);
    // Ids run from 0 up to about the number of items as a rule.
    let top = db.last_id(rtxn, of.index, Kind::Item)?;
    let Some(at) = top.map(|top| u32::try_from(u64::from(at) % (u64::from(top) + 1)).unwrap_or(0)) else {
        return Ok(None);
    };
    let next = db.iter_from(rtxn, Key::item(of.index, at))?.next().transpose()?;
    let is_of_use = |key: &Key| *key == Key::item(of.index, key.id()) && !stored.changed.ids.contains(key.id());
    let Some((key, bytes)) = next.filter(|(key, _)| is_of_use(key)) else { return Ok(None) };
    let query = ItemRef::parse(key, bytes, of.dims, of.metric)?;
    let items = Items::new(db, rtxn, of, PROBE_KNOWS);
    let target = Target { items: &items, record, level: level() };
    let exclude = [key.id()];
    let usual = Request { exclude: &exclude, ..Request::new(PROBED, DEFAULT_RECALL) };
    let effort = Effort::new(&usual, record, of.metric);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "saturating estimates"
    )]
    let thorough = {
        // An effort that is too small already must not tell what is true.
        let shrunk = (f64::from(NO_CORRECTION) / f64::from(record.calibration.correction())).max(1.0);
        let budget = effort.budget as f64 * shrunk * THOROUGH;
        // Fewer than what would make the search an exact one, which sees items that the usual one does not.
        let rerank = (effort.rerank as f64 * THOROUGH / 2.0).min(record.indexed as f64 / 4.0);
        let oversampling = Some((rerank / PROBED as f64).max(1.0) as f32);
        Request { search_k: Some(budget as usize), oversampling, ..usual }
    };
    let (truth, _) = search(target, stored, query, &thorough)?;
    let (hits, searched) = search(target, stored, query, &usual)?;
    // An exact search tells nothing.
    let farthest = truth.last().filter(|_| searched.sketches > 0).map(|hit: &Hit| hit.distance);
    let Some(farthest) = farthest else { return Ok(None) };
    let is_found = |hit: &&Hit| match of.metric {
        Metric::DotProduct => hit.distance >= farthest,
        _ => hit.distance <= farthest,
    };
    #[expect(clippy::cast_precision_loss, reason = "ten at most")]
    let recall = hits.iter().filter(is_found).count() as f64 / truth.len() as f64;
    Ok(Some(f64::from(DEFAULT_RECALL) - recall))
}
