//! As many rows as are asked for: those of the files first, then perturbed copies of them.

use std::path::Path;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};
use spinney::Metric;

use crate::Result;
use crate::files::VectorFile;
use crate::sets::SetName;

/// What is added to the components of a copy, as a part of their standard deviation over all rows.
/// Near enough to the original to be of its cluster, and far enough not to be its duplicate.
const NOISE: f32 = 0.2;
/// Rows of a made-up set.
const MADE_UP_ROWS: usize = 20_000;
/// Clusters that they lie in.
const MADE_UP_CLUSTERS: usize = 400;
/// Rows of it that count as those of another source.
const HELD_OUT: usize = 1_000;

/// A set of rows without end. Row `i` is the same at every run.
pub struct Rows {
    /// The components of a row.
    pub dims: usize,
    /// What they are compared by.
    pub metric: Metric,
    values: Vec<f32>,
    deviation: f32,
    origin: String,
}

impl Rows {
    /// The set in `folder`, or one that is made up if it is not there. Rows of another source than
    /// those trained on come last, as new ones often are.
    ///
    /// # Errors
    /// If the files cannot be read or have other dimensions.
    pub fn open(folder: Option<&Path>, set: SetName) -> Result<Self> {
        let (mut rows, held_out) = Self::open_for_queries(folder, set)?;
        rows.values.extend(held_out);
        Ok(rows.count())
    }

    /// As [`Rows::open`], but with the rows of the other source apart: none of the rows is a copy
    /// of them.
    ///
    /// # Errors
    /// As [`Rows::open`].
    pub fn open_for_queries(folder: Option<&Path>, set: SetName) -> Result<(Self, Vec<f32>)> {
        let (dims, metric) = (set.dims(), set.metric());
        let file = |part: &str| folder.map_or(Ok(None), |folder| set.find(folder, part));
        let (values, held_out, origin) = match (file("train")?, file("test")?) {
            (Some(train), Some(test)) => (read(train, dims)?, read(test, dims)?, "files"),
            _ => {
                let mut values = made_up(dims);
                let held_out = values.split_off(MADE_UP_ROWS * dims);
                (values, held_out, "no files of this set: made-up clusters")
            }
        };
        let rows = Self { dims, metric, values, deviation: 0.0, origin: origin.to_owned() };
        Ok((rows.count(), held_out))
    }

    /// Computes how far apart the rows are, and describes them in `origin`.
    fn count(mut self) -> Self {
        self.deviation = deviation(&self.values, self.dims);
        let origin = self.origin.split(',').next().unwrap_or_default();
        let (rows, dims, metric) = (self.values.len() / self.dims, self.dims, self.metric);
        self.origin = format!("{origin}, {rows} rows of {dims} dimensions, {metric}");
        self
    }

    /// Where the rows are from, how many there are, and how they are compared.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// How many rows there are that are not copies: at least one.
    #[expect(clippy::len_without_is_empty, reason = "there are always rows")]
    pub fn len(&self) -> usize {
        self.values.len() / self.dims
    }

    /// Row `i`; rows beyond those of the files are copies of any of these.
    pub fn row(&self, i: u32) -> Vec<f32> {
        let at = i as usize * self.dims;
        if let Some(row) = self.values.get(at..at + self.dims) {
            return row.to_vec();
        }
        let mut random = Xoshiro256PlusPlus::seed_from_u64(u64::from(i));
        let at = random.random_range(0..self.values.len() / self.dims) * self.dims;
        let noise = NOISE * self.deviation;
        self.values[at..at + self.dims]
            .iter()
            .map(|value| value + noise * normal(&mut random))
            .collect()
    }
}

fn read(mut file: VectorFile, dims: usize) -> Result<Vec<f32>> {
    if file.dims() != dims {
        let (path, got) = (file.path().display(), file.dims());
        return Err(format!("{path}: expected {dims} dimensions, got {got}").into());
    }
    Ok(file.read(file.rows())?)
}

/// Clusters of clusters: rows around centres that are around the origin.
fn made_up(dims: usize) -> Vec<f32> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(0);
    let centres: Vec<f32> = (0..MADE_UP_CLUSTERS * dims).map(|_| normal(&mut random)).collect();
    let mut values = Vec::with_capacity((MADE_UP_ROWS + HELD_OUT) * dims);
    for _ in 0..MADE_UP_ROWS + HELD_OUT {
        let at = random.random_range(0..MADE_UP_CLUSTERS) * dims;
        values.extend(centres[at..at + dims].iter().map(|value| value + 0.5 * normal(&mut random)));
    }
    values
}

/// About a normal deviate: the sum of four uniform ones, which is quick to make and close enough
/// for noise.
fn normal(random: &mut Xoshiro256PlusPlus) -> f32 {
    let bits = random.next_u64();
    let sum: u64 = (0..4).map(|i| bits >> (16 * i) & 0xffff).sum();
    // Four uniform numbers from 0 to 1 have a mean of 2 and a variance of 1/3.
    (sum as f32 / 65_536.0 - 2.0) * 1.732
}

/// The standard deviation of the components, around the mean of each dimension.
fn deviation(values: &[f32], dims: usize) -> f32 {
    let rows = (values.len() / dims) as f32;
    let (mut sums, mut squares) = (vec![0.0f64; dims], 0.0f64);
    for row in values.chunks_exact(dims) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += f64::from(*value);
            squares += f64::from(*value).powi(2);
        }
    }
    let of_means: f64 = sums.iter().map(|sum| sum * sum / f64::from(rows)).sum();
    #[expect(clippy::cast_possible_truncation, reason = "noise need not be exact")]
    let variance = ((squares - of_means) / (f64::from(rows) * dims as f64)) as f32;
    variance.max(0.0).sqrt()
}
