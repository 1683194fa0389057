//! True neighbours by brute force, in double precision.

use spinney::Metric;
use spinney::rayon::prelude::*;

/// Rows in double precision, under their ids, with their lengths.
pub struct Truth {
    metric: Metric,
    dims: usize,
    ids: Vec<u32>,
    rows: Vec<f64>,
    lengths: Vec<f64>,
}

impl Truth {
    pub fn new<'a>(metric: Metric, items: impl Iterator<Item = (u32, &'a Vec<f32>)>) -> Self {
        let (mut ids, mut rows, mut lengths, mut dims) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for (id, row) in items {
            ids.push(id);
            let wide = widen(row);
            lengths.push(dot(&wide, &wide).sqrt());
            dims = wide.len();
            rows.extend(wide);
        }
        Self { metric, dims, ids, rows, lengths }
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// The score of a row with a query: smaller is nearer. What `score` says of the hit.
    fn score(&self, at: usize, query: &[f64], length: f64) -> f64 {
        let row = &self.rows[at * self.dims..][..self.dims];
        match self.metric {
            Metric::Euclidean => sum(row, query, |a, b| (a - b) * (a - b)).sqrt(),
            Metric::Cosine => 1.0 - dot(row, query) / (self.lengths[at] * length),
            Metric::DotProduct => -dot(row, query),
            _ => sum(row, query, |a, b| (a - b).abs()),
        }
    }

    /// Every score with its id, in no order.
    pub fn scores(&self, query: &[f32]) -> Vec<(f64, u32)> {
        let query = widen(query);
        let length = dot(&query, &query).sqrt();
        self.ids.iter().enumerate().map(|(at, id)| (self.score(at, &query, length), *id)).collect()
    }

    /// The nearest, nearest first, with their ids: so many, or all.
    pub fn nearest(&self, query: &[f32], count: usize) -> Vec<(f64, u32)> {
        smallest(self.scores(query), count)
    }

    /// The scores of the nearest for each query: so many for each.
    pub fn all_nearest(
        &self,
        queries: &[Vec<f32>],
        count: impl Fn(usize) -> usize + Sync,
    ) -> Vec<Vec<f64>> {
        let nearest = |(at, query): (usize, &Vec<f32>)| {
            self.nearest(query, count(at)).into_iter().map(|(score, _)| score).collect()
        };
        queries.par_iter().enumerate().map(nearest).collect()
    }
}

/// The smallest of some scores, sorted.
pub fn smallest(mut scores: Vec<(f64, u32)>, count: usize) -> Vec<(f64, u32)> {
    let order = |a: &(f64, u32), b: &(f64, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
    if count < scores.len() {
        scores.select_nth_unstable_by(count, order);
        scores.truncate(count);
    }
    scores.sort_unstable_by(order);
    scores
}

/// The score of a distance: smaller is nearer.
pub fn score(metric: Metric, distance: f32) -> f64 {
    f64::from(if metric == Metric::DotProduct { -distance } else { distance })
}

/// Whether a distance that was rounded to `f32` is no farther than a score.
pub fn is_as_near(metric: Metric, distance: f32, truth: f64) -> bool {
    score(metric, distance) <= truth + slack(metric, truth)
}

/// Whether it is no nearer.
pub fn is_as_far(metric: Metric, distance: f32, truth: f64) -> bool {
    score(metric, distance) >= truth - slack(metric, truth)
}

/// Two sums in other orders may differ in their last bits.
fn slack(metric: Metric, truth: f64) -> f64 {
    truth.abs() * f64::from(f32::EPSILON) + if metric == Metric::Cosine { 1e-14 } else { 0.0 }
}

/// The score of a row with itself.
pub fn own_score(metric: Metric, row: &[f32]) -> f64 {
    let wide = widen(row);
    if metric == Metric::DotProduct { -dot(&wide, &wide) } else { 0.0 }
}

fn widen(row: &[f32]) -> Vec<f64> {
    row.iter().map(|x| f64::from(*x)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    sum(a, b, |a, b| a * b)
}

/// A sum in eight lanes, which compilers make wide.
#[inline(always)]
fn sum(a: &[f64], b: &[f64], term: impl Fn(f64, f64) -> f64) -> f64 {
    let (a_eights, b_eights) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 =
        a_eights.remainder().iter().zip(b_eights.remainder()).map(|(a, b)| term(*a, *b)).sum();
    let mut lanes = [0.0; 8];
    for (a, b) in a_eights.zip(b_eights) {
        for lane in 0..8 {
            lanes[lane] += term(a[lane], b[lane]);
        }
    }
    rest + lanes.iter().sum::<f64>()
}
