//! The filters of each query, and what counts as a right answer under them.

use std::thread;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};

use super::args::Kind;
use crate::Result;
use crate::input::{Rows, TIE};

/// Which of its neighbours the point is that a query's correlated filter lies around.
const NEIGHBOUR: usize = 5;

/// A query as all its cells need it.
pub struct Case {
    /// To each item.
    distances: Vec<f64>,
    /// All items, nearest to the query first.
    order: Vec<u32>,
    /// All items, nearest first to its neighbour.
    around: Vec<u32>,
}

/// A query under one filter.
pub struct Filtered {
    pub ours: spinney::roaring::RoaringBitmap,
    pub theirs: roaring::RoaringBitmap,
    /// The distances of what is admitted, nearest first; not more than anybody asks for.
    nearest: Vec<f64>,
}

/// Compares each query and its neighbour with every item, a share of the queries on each thread.
pub fn cases(items: &Rows, queries: &Rows) -> Result<Vec<Case>> {
    let threads = thread::available_parallelism()?.get();
    let share = queries.len().div_ceil(threads);
    let case = |query: usize| {
        let (distances, order) = ranked(items, queries, query);
        let neighbour = order[(NEIGHBOUR - 1).min(order.len() - 1)] as usize;
        let (_, around) = ranked(items, items, neighbour);
        Case { distances, order, around }
    };
    let mut cases: Vec<Option<Case>> = queries.iter().map(|_| None).collect();
    thread::scope(|scope| {
        for (number, cases) in cases.chunks_mut(share).enumerate() {
            scope.spawn(move || {
                for (query, slot) in (number * share..).zip(cases) {
                    *slot = Some(case(query));
                }
            });
        }
    });
    Ok(cases.into_iter().flatten().collect())
}

/// The distances of all items to a point, and the items, nearest first.
fn ranked(items: &Rows, points: &Rows, point: usize) -> (Vec<f64>, Vec<u32>) {
    let distances: Vec<f64> =
        (0..items.len()).map(|item| items.distance(item, points, point)).collect();
    let mut order: Vec<u32> = (0..).take(items.len()).collect();
    order.sort_unstable_by(|a, b| distances[*a as usize].total_cmp(&distances[*b as usize]));
    (distances, order)
}

impl Case {
    /// Filters the query; `k` is the most that is asked for.
    pub fn filtered(&self, number: usize, kind: Kind, percent: f64, k: usize) -> Filtered {
        let items = self.order.len();
        let count = ((items as f64 * percent / 100.0).round() as usize).clamp(1, items);
        let admitted: Vec<u32> = match kind {
            Kind::Random => {
                let mut random =
                    Xoshiro256PlusPlus::seed_from_u64(number as u64 ^ percent.to_bits());
                let mut ids: Vec<u32> = (0..)
                    .take(items)
                    .filter(|_| random.random_bool((percent / 100.0).min(1.0)))
                    .collect();
                if ids.is_empty() {
                    ids.push(random.next_u32() % items as u32);
                }
                ids
            }
            Kind::Correlated => self.around[..count].to_vec(),
            Kind::Anti => self.order[items - count..].to_vec(),
        };
        let mut nearest: Vec<f64> =
            admitted.iter().map(|id| self.distances[*id as usize]).collect();
        nearest.sort_unstable_by(f64::total_cmp);
        nearest.truncate(k);
        Filtered { ours: admitted.iter().collect(), theirs: admitted.iter().collect(), nearest }
    }

    /// How many of an answer are as near as the k-th nearest of what is admitted.
    pub fn right(&self, filtered: &Filtered, k: usize, answer: &mut Vec<u32>) -> usize {
        answer.sort_unstable();
        answer.dedup();
        let k = filtered.wanted(k);
        let limit = filtered.nearest[k - 1] * (1.0 + TIE) + 1e-9;
        let near = answer.iter().filter(|id| self.distances[**id as usize] <= limit);
        near.filter(|id| filtered.ours.contains(**id)).count().min(k)
    }
}

impl Filtered {
    /// How many hits there can be.
    pub fn wanted(&self, k: usize) -> usize {
        k.min(self.nearest.len())
    }
}
