//! The true neighbours of some queries: all items are compared with each.

use std::collections::HashSet;
use std::ops::Range;

use heed::RoTxn;

use crate::error::Result;
use crate::forest::points::Points;
use crate::format::record::calibrated_ks;
use crate::kernel::gemm::{self, Panels};
use crate::kernel::simd::Level;
use crate::kernel::threshold::{Scores, below};
use crate::lmdb::pending::Pending;
use crate::lmdb::workers::Workers;
use crate::math::kmeans::sample;
use crate::math::matrix::Matrix;
use crate::math::scored::{Scored, estimate_of, id_of, packed};
use crate::math::top_k::TopK;
use crate::progress::BuildPhase;

/// Multiplications for all comparisons of a calibration, about. The constants of this file are in
/// docs/trials.md, "choices that were not swept".
const MAX_PRODUCTS: usize = 25_000_000_000;
/// Queries, whatever the work: fewer cannot distinguish near recalls.
const QUERIES: std::ops::RangeInclusive<usize> = 128..=1000;
/// Items for each query, at least: small indexes are built in milliseconds and should be measured
/// in as many.
const ITEMS_PER_QUERY: usize = 10;
/// Items that are looked at for each query, so that enough are left where most are copies of one
/// another.
const OFFERED: usize = 4;
/// Items that are compared with all queries at once.
const ITEMS_AT_ONCE: usize = 256;
/// Parts of the items, each for one task.
const PARTS: usize = 16;
/// Neighbours kept per neighbour asked for, so that ties are seen; and the least of them.
const KEPT: usize = 2;
const MIN_KEPT: usize = 64;
/// By what part distances may differ that count as equal: they are computed in single precision.
const EQUAL: f32 = 1e-4;

/// One of so many queries is asked for the largest number of neighbours, and for the next largest.
/// They need the fewest queries: each has many neighbours, and takes the longest.
const ASKED_FOR_MOST: usize = 16;
const ASKED_FOR_MANY: usize = 4;

/// The k nearest under ties: all `nearer`, and any of the `as_near` that fill up.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) k: usize,
    pub(crate) nearer: usize,
    pub(crate) as_near: usize,
}

impl Cut {
    /// The least of the values that the k nearest may have, if these are the values of the items.
    pub(super) fn values<T: Copy>(
        self,
        values: &[T],
        order: impl Fn(&T, &T) -> std::cmp::Ordering,
    ) -> Vec<T> {
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

/// Items asked for at random and their true neighbours.
pub(crate) struct Truth {
    pub(crate) queries: Vec<u32>,
    pub(crate) neighbours: Vec<TrueNeighbours>,
}

/// Finds the true neighbours of some items, all other items compared.
pub(crate) fn truth(workers: &mut Workers<'_>, all: Points<'_>) -> Result<Truth> {
    let (context, ids) = (all.context, all.ids);
    let affordable = (MAX_PRODUCTS / (ids.len() * context.transform.width).max(1))
        .min(ids.len() / ITEMS_PER_QUERY);
    let count = affordable.clamp(*QUERIES.start(), *QUERIES.end());
    let mut queries: Vec<u32> =
        sample(ids.len(), OFFERED * count, 2).into_iter().map(|i| ids[i as usize]).collect();
    let points = context.points(&workers.own, &queries)?;
    keep_distinct(&mut queries, &points);
    // Any part of them would do, but for the first ids: these may all be of one kind.
    let (offered, count) = (queries.len(), count.min(queries.len()));
    let queries: Vec<u32> = (0..count).map(|i| queries[i * offered / count]).collect();
    let mut points = context.points(&workers.own, &queries)?;
    context.transform.move_back(&mut points.values);
    let near = neighbours(workers, all, &points)?;
    let all = near.into_iter().zip(&queries).enumerate();
    let neighbours = all
        .map(|(i, (near, own))| true_neighbours(near, Some(*own), asked(i, ids.len())))
        .collect();
    Ok(Truth { queries, neighbours })
}

/// Drops what has the very point of a query before it. Thousands of copies of one vector are found
/// at once. They would make up for the neighbours that the rest misses.
fn keep_distinct(queries: &mut Vec<u32>, points: &Matrix) {
    let mut seen = HashSet::new();
    let mut rows = points.values.chunks_exact(points.width).map(bytemuck::cast_slice::<f32, u8>);
    queries.retain(|_| rows.next().is_none_or(|row| seen.insert(row)));
}

/// The numbers of neighbours that the `i`-th of some queries is asked for.
///
/// Queries come in the order of their ids, which may be that of the data. So those that are asked
/// for most are spread over all.
pub(crate) fn asked(i: usize, items: usize) -> Vec<usize> {
    let ks = calibrated_ks(items as u64);
    let count = match i {
        _ if i.is_multiple_of(ASKED_FOR_MOST) => ks.len(),
        _ if i.is_multiple_of(ASKED_FOR_MANY) => ks.len() - 1,
        _ => ks.len() - 2,
    };
    ks[..count].to_vec()
}

/// What of the nearest items, sorted, a query is asked for.
pub(crate) fn true_neighbours(
    near: Vec<Scored>,
    own: Option<u32>,
    ks: Vec<usize>,
) -> TrueNeighbours {
    let mut neighbours = TrueNeighbours::default();
    let mut others = Vec::with_capacity(near.len());
    let own_score = near.iter().find(|item| Some(item.id) == own).map(|item| item.score);
    for Scored { score, id } in near {
        // What lies where the query does says nothing about the items around it.
        match own_score {
            _ if own == Some(id) => {}
            Some(own_score) if own_score == score => _ = neighbours.hidden.ids.insert(id),
            _ => others.push(Scored { score, id }),
        }
    }
    let limit = |k: usize, sign: f32| {
        let last = others[k - 1].score;
        last + sign * EQUAL * last.abs()
    };
    for k in ks {
        let k = k.min(others.len());
        if k > 0 {
            let nearer = others.partition_point(|item| item.score < limit(k, -1.0));
            let as_near = others.partition_point(|item| item.score <= limit(k, 1.0));
            neighbours.cuts.push(Cut { k, nearer, as_near });
        }
    }
    let len = neighbours.cuts.iter().map(|cut| cut.as_near).max().unwrap_or(0);
    neighbours.ids = others[..len].iter().map(|item| item.id).collect();
    neighbours
}

/// Keeps the nearest items of the `i`-th of some queries. One more is kept than it is asked for:
/// the query may be an item itself.
fn nearest_of_query(i: usize, items: usize) -> TopK {
    let max = asked(i, items).into_iter().max().unwrap_or(1);
    TopK::of_different(Vec::new(), (KEPT * max).max(MIN_KEPT) + 1, f32::INFINITY)
}

/// Offers items that have these scores.
fn offer_all(nearest: &mut TopK, simd: Level, ids: &[u32], scores: Scores<'_>) {
    below(simd, scores, nearest.threshold(), |i, score| {
        if score < nearest.threshold() {
            nearest.offer(packed(ids[i], score));
        }
        nearest.threshold()
    });
}

/// The nearest items of each query, nearest first: all pairs are compared. For the queries see
/// [`Transform::map_query`](crate::sketch::transform::Transform::map_query).
pub(crate) fn neighbours(
    workers: &mut Workers<'_>,
    all: Points<'_>,
    queries: &Matrix,
) -> Result<Vec<Vec<Scored>>> {
    let items = all.ids.len();
    let part = items.div_ceil(PARTS).max(ITEMS_AT_ONCE);
    let parts = items.div_ceil(part);
    let found = workers.map(BuildPhase::Calibrating, parts, |rtxn, task| {
        nearest_of(all, rtxn, task * part..items.min((task + 1) * part), queries)
    })?;
    let mut nearest: Vec<TopK> = (0..queries.len()).map(|i| nearest_of_query(i, items)).collect();
    for part in found {
        for (all, part) in nearest.iter_mut().zip(part) {
            part.iter().for_each(|item| all.offer(item));
        }
    }
    let scored = |item: &u64| Scored { score: estimate_of(*item), id: id_of(*item) };
    Ok(nearest.into_iter().map(|all| all.into_sorted().iter().map(scored).collect()).collect())
}

/// The nearest of the items at some places to each query.
fn nearest_of(
    all: Points<'_>,
    rtxn: &RoTxn<'_>,
    part: Range<usize>,
    queries: &Matrix,
) -> Result<Vec<TopK>> {
    let context = all.context;
    let (simd, width, metric) =
        (context.transform.simd, context.transform.width, context.spec.metric);
    let mut nearest: Vec<TopK> =
        (0..queries.len()).map(|i| nearest_of_query(i, all.ids.len())).collect();
    let rows: Vec<&[f32]> = queries.values.chunks_exact(width).collect();
    let mut products = Vec::new();
    // Differences are squared one by one: squares of lengths would cancel where items lie close
    // together.
    let kernel = match metric {
        _ if metric.is_inner_product() => gemm::dots,
        _ if metric.is_squared() => gemm::squared_euclideans,
        _ => gemm::manhattans,
    };
    // The products are the scores, but for their sign.
    let (norms, sign) = ([0.0; ITEMS_AT_ONCE], metric.score_sign());
    for first in part.clone().step_by(ITEMS_AT_ONCE) {
        let places = first..part.end.min(first + ITEMS_AT_ONCE);
        let points = all.of_range(rtxn, places.clone())?;
        let ids = &all.ids[places];
        let panels = Panels::new(&points, width);
        products.resize(queries.len() * ids.len(), 0.0);
        kernel(simd, &rows, &panels, &mut products);
        for (nearest, products) in nearest.iter_mut().zip(products.chunks_exact(ids.len())) {
            let scores = Scores { norms: &norms[..ids.len()], products, sign };
            offer_all(nearest, simd, ids, scores);
        }
    }
    Ok(nearest)
}
