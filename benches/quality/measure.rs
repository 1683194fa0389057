//! How good an index is: what it scans for a recall, and what it finds by default.

use rayon::prelude::*;
use spinney::{Nns, Reader, SearchStats};

use crate::Result;
use crate::world::World;

const K: usize = 10;
/// The recall at which costs are compared.
pub const TARGET: f64 = 0.95;
/// Queries that one task answers.
const SHARE: usize = 25;
/// Items that are asked for themselves.
const SELF_QUERIES: usize = 2_000;
/// How far beyond the k-th true distance a hit may lie, relatively, and count as tied with it.
const TIE: f32 = 1e-6;

/// Queries and the distances of their k-th true neighbours.
pub struct Truth {
    queries: Vec<Vec<f32>>,
    kth: Vec<f32>,
}

/// Mean recall and mean sketches scanned.
#[derive(Copy, Clone, Debug)]
pub struct Point {
    pub recall: f64,
    pub sketches: f64,
}

/// What was measured on one index.
#[derive(Copy, Clone, Debug)]
pub struct Quality {
    /// Sketches scanned for a recall of [`TARGET`]; not a number if that is out of reach.
    pub at_target: f64,
    pub default: Point,
    pub leaves: u64,
    /// Entries per leaf, as a part of the leaf size.
    pub fill: f64,
    /// Items that a search for their own vector does not find first, as a part of those asked.
    pub missed: f64,
}

impl Truth {
    pub fn new(world: &World, queries: Vec<Vec<f32>>) -> Result<Self> {
        let kth = each(world, &queries, |reader, query| {
            let hits = reader.nns(K).exact().by_vector(query)?;
            Ok(hits.last().map_or(f32::INFINITY, |hit| hit.distance))
        })?;
        Ok(Self { queries, kth })
    }

    /// Recall and cost of all queries.
    fn run(
        &self,
        world: &World,
        tune: impl for<'a> Fn(Nns<'a>) -> Nns<'a> + Sync,
    ) -> Result<Point> {
        let numbered: Vec<(usize, &[f32])> =
            self.queries.iter().map(Vec::as_slice).enumerate().collect();
        let found = each(world, &numbered, |reader, (i, query)| {
            let mut searched = SearchStats::default();
            let hits = tune(reader.nns(K)).report(&mut searched).by_vector(query)?;
            let kth = self.kth[*i];
            let right =
                hits.iter().filter(|hit| hit.distance <= kth + TIE * kth.abs()).count().min(K);
            Ok((right as f64 / K as f64, searched.sketches as f64))
        })?;
        let count = found.len().max(1) as f64;
        let (recall, sketches) =
            found.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        Ok(Point { recall: recall / count, sketches: sketches / count })
    }

    /// Sketches scanned at the recall that is aimed at: bisection, then a straight line between the
    /// last two points.
    fn at_target(&self, world: &World) -> Result<f64> {
        let run = |search_k: usize| self.run(world, move |nns| nns.search_k(search_k));
        let (mut low, mut high) = (8, 16);
        let (mut below, mut above) = (run(low)?, run(high)?);
        while above.recall < TARGET {
            if high >= 4 * world.live.len() {
                return Ok(f64::NAN);
            }
            (low, below) = (high, above);
            high *= 2;
            above = run(high)?;
        }
        while high - low > 1 + high / 64 {
            let middle = usize::midpoint(low, high);
            let point = run(middle)?;
            if point.recall < TARGET {
                (low, below) = (middle, point)
            } else {
                (high, above) = (middle, point)
            }
        }
        let part = (TARGET - below.recall) / (above.recall - below.recall).max(1e-9);
        Ok(below.sketches + part.clamp(0.0, 1.0) * (above.sketches - below.sketches))
    }

    pub fn quality(&self, world: &World) -> Result<Quality> {
        let rtxn = world.env.read_txn()?;
        let stats = Reader::open(&rtxn, world.db, 0)?.stats()?;
        drop(rtxn);
        let copies = stats.trees as f64 * if stats.spill { 2.0 } else { 1.0 };
        let entries = stats.items as f64 * copies;
        Ok(Quality {
            at_target: self.at_target(world)?,
            default: self.run(world, |nns| nns)?,
            leaves: stats.leaves,
            fill: entries / stats.leaves.max(1) as f64 / stats.leaf_size.max(1) as f64,
            missed: missed(world)?,
        })
    }
}

/// The part of the items that do not find themselves.
fn missed(world: &World) -> Result<f64> {
    let every = world.live.len().div_ceil(SELF_QUERIES).max(1);
    let asked: Vec<(&u32, &Vec<f32>)> = world.live.iter().step_by(every).collect();
    let found = each(world, &asked, |reader, (id, row)| {
        let hit = reader.nns(1).by_vector(row)?.first().copied();
        Ok(hit.is_some_and(|hit| hit.id == **id || hit.distance <= TIE))
    })?;
    Ok(found.iter().filter(|found| !**found).count() as f64 / found.len().max(1) as f64)
}

/// Applies `f` to all inputs, on all threads, each share in a read transaction of its own.
fn each<T: Sync, R: Send>(
    world: &World,
    inputs: &[T],
    f: impl Fn(&Reader<'_>, &T) -> spinney::Result<R> + Sync,
) -> Result<Vec<R>> {
    let shares: Vec<Vec<R>> = inputs
        .par_chunks(SHARE)
        .map(|share| {
            let rtxn = world.env.read_txn()?;
            let reader = Reader::open(&rtxn, world.db, 0)?;
            share.iter().map(|input| f(&reader, input)).collect()
        })
        .collect::<spinney::Result<_>>()?;
    Ok(shares.into_iter().flatten().collect())
}
