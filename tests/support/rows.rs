//! Rows: how they lie, and their ids.

use rand::RngExt;
use spinney::Metric;

use super::Rng;

/// How vectors lie.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Spread {
    Clusters,
    Uniform,
    /// Each vector about ten times.
    Duplicates,
    Identical,
    /// A quarter of the vectors are zero, where the metric allows it.
    Zeros,
}

pub const SPREADS: [Spread; 5] =
    [Spread::Clusters, Spread::Uniform, Spread::Duplicates, Spread::Identical, Spread::Zeros];

/// Nearly normal, of variance 1.
pub fn normal(rng: &mut Rng) -> f32 {
    let sum: f32 = (0..4).map(|_| rng.random_range(-1.0f32..1.0)).sum();
    sum * 0.866
}

/// One vector, uniform in its range.
pub fn uniform(rng: &mut Rng, metric: Metric, dims: usize) -> Vec<f32> {
    let mut row: Vec<f32> = match metric {
        Metric::Hamming => (0..dims).map(|_| f32::from(u8::from(rng.random::<bool>()))).collect(),
        _ => (0..dims).map(|_| rng.random_range(-1.0..1.0)).collect(),
    };
    if metric == Metric::Cosine && row.iter().all(|x| *x == 0.0) {
        row[0] = 1.0;
    }
    row
}

/// A vector near another.
pub fn near(rng: &mut Rng, metric: Metric, centre: &[f32]) -> Vec<f32> {
    let mut row: Vec<f32> = match metric {
        Metric::Hamming => {
            centre.iter().map(|x| if rng.random_bool(0.1) { 1.0 - x } else { *x }).collect()
        }
        _ => centre.iter().map(|x| x + 0.3 * normal(rng)).collect(),
    };
    if metric == Metric::Cosine && row.iter().all(|x| *x == 0.0) {
        row[0] = 1.0;
    }
    row
}

/// `n` vectors, in an order that says nothing.
pub fn vectors(
    rng: &mut Rng,
    metric: Metric,
    dims: usize,
    n: usize,
    spread: Spread,
) -> Vec<Vec<f32>> {
    let models = match spread {
        Spread::Clusters => n / 50 + 1,
        Spread::Duplicates => n / 10 + 1,
        _ => 1,
    };
    let models: Vec<Vec<f32>> = (0..models).map(|_| uniform(rng, metric, dims)).collect();
    let one = |_| {
        let model = &models[rng.random_range(0..models.len())];
        match spread {
            Spread::Clusters => near(rng, metric, model),
            Spread::Duplicates | Spread::Identical => model.clone(),
            Spread::Zeros if metric != Metric::Cosine && rng.random_bool(0.25) => vec![0.0; dims],
            Spread::Zeros | Spread::Uniform => uniform(rng, metric, dims),
        }
    };
    (0..n).map(one).collect()
}

/// `n` different ids, ascending: from 0 up, or anywhere from 0 to `u32::MAX`, both ends included.
pub fn ids(rng: &mut Rng, n: usize, sparse: bool) -> Vec<u32> {
    if !sparse {
        return (0u32..).take(n).collect();
    }
    let mut ids: std::collections::BTreeSet<u32> = [0, u32::MAX].into_iter().take(n).collect();
    while ids.len() < n {
        ids.insert(rng.random());
    }
    ids.into_iter().collect()
}

/// A row near one of eight centres, which are the same for all; bits for Hamming.
pub fn clustered_row(metric: Metric, dims: usize, rng: &mut Rng) -> Vec<f32> {
    let centre = f32::from(rng.random_range(0..8u8));
    let mut component = |d: usize| {
        let middle = (centre * 1.7 + d as f32 * 0.9).sin();
        match metric {
            Metric::Hamming => f32::from(u8::from(rng.random_range(-1.0..1.0) < middle)),
            _ => 3.0 * middle + rng.random_range(-1.0..1.0f32),
        }
    };
    (0..dims).map(&mut component).collect()
}

/// `n` of these, row after row.
pub fn clustered_rows(metric: Metric, dims: usize, n: usize, rng: &mut Rng) -> Vec<f32> {
    (0..n).flat_map(|_| clustered_row(metric, dims, rng)).collect()
}
