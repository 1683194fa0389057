//! The vectors of a scenario: a real set from a folder, or synthetic clusters.

use std::path::Path;

use bench_kit::Result;
use bench_kit::sets::SetName;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use spinney::Metric;

pub type Rng = Xoshiro256PlusPlus;

/// Length of the noise on copies of rows, as a part of the length of the row.
const NOISE: f32 = 0.25;
/// Directions in which synthetic rows vary much around their centre.
const LATENT: usize = 20;
const CENTRES: usize = 128;

/// Rows to index, and queries of the same kind that are none of them.
pub struct Set {
    pub name: &'static str,
    pub metric: Metric,
    pub dims: usize,
    rows: Vec<f32>,
    queries: Vec<f32>,
}

impl Set {
    /// Reads a set from the folder of sets.
    pub fn read(folder: &Path, set: SetName) -> Result<Self> {
        let (mut train, mut test) = (set.open(folder, "train")?, set.open(folder, "test")?);
        let (rows, queries) = (train.read(train.rows())?, test.read(test.rows())?);
        Ok(Self { name: set.name(), metric: set.metric(), dims: train.dims(), rows, queries })
    }

    /// Clusters of unequal size, each spread along few directions.
    pub fn synthetic(dims: usize, rows: usize, queries: usize) -> Self {
        let mut rng = Rng::seed_from_u64(11);
        let centres = gaussian(CENTRES * dims, &mut rng);
        let bases = gaussian(8 * LATENT * dims, &mut rng);
        let mut draw = |count: usize| {
            let mut out = Vec::with_capacity(count * dims);
            for _ in 0..count {
                // The product of two uniform numbers: some centres draw many rows, some few.
                let skewed = rng.random::<f32>() * rng.random::<f32>();
                let centre = share(CENTRES, skewed);
                let basis = &bases[centre % 8 * LATENT * dims..][..LATENT * dims];
                let mut row = centres[centre * dims..][..dims].to_vec();
                let latent = gaussian(LATENT, &mut rng);
                for (direction, weight) in basis.chunks_exact(dims).zip(latent) {
                    row.iter_mut().zip(direction).for_each(|(x, y)| *x += 0.25 * weight * y);
                }
                row.iter_mut().zip(gaussian(dims, &mut rng)).for_each(|(x, y)| *x += 0.1 * y);
                out.extend(row);
            }
            out
        };
        let (rows, queries) = (draw(rows), draw(queries));
        Self { name: "synthetic", metric: Metric::Euclidean, dims, rows, queries }
    }

    /// Row `i`; beyond the last, rows come again under noise, different each time.
    pub fn row(&self, i: usize) -> Vec<f32> {
        let count = self.rows.len() / self.dims;
        let row = &self.rows[i % count * self.dims..][..self.dims];
        if i < count { row.to_vec() } else { noisy(row, &mut Rng::seed_from_u64(i as u64)) }
    }

    pub fn queries(&self) -> Vec<Vec<f32>> {
        self.queries.chunks_exact(self.dims).map(<[f32]>::to_vec).collect()
    }

    /// The mean length of rows.
    pub fn length(&self) -> f32 {
        let rows = self.rows.chunks_exact(self.dims).take(1_000);
        rows.clone().map(length).sum::<f32>() / rows.count().max(1) as f32
    }
}

/// Number `part` (from 0 to 1) of `count`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part of a small count"
)]
pub fn share(count: usize, part: f32) -> usize {
    ((count as f32 * part) as usize).min(count.saturating_sub(1))
}

/// A row under noise.
pub fn noisy(row: &[f32], rng: &mut Rng) -> Vec<f32> {
    let noise = gaussian(row.len(), rng);
    let scale = NOISE * length(row) / length(&noise).max(f32::MIN_POSITIVE);
    row.iter().zip(noise).map(|(x, y)| x + scale * y).collect()
}

pub fn length(row: &[f32]) -> f32 {
    row.iter().map(|x| x * x).sum::<f32>().sqrt()
}

/// Nearly normal numbers: sums of uniform ones.
pub fn gaussian(count: usize, rng: &mut Rng) -> Vec<f32> {
    (0..count)
        .map(|_| (0..6).map(|_| rng.random_range(-1.0..1.0f32)).sum::<f32>() / 2f32.sqrt())
        .collect()
}
