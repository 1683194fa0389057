//! Leaf centroids from a sample: hierarchical k-means, then one pass that lets every row choose
//! among all leaves.

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use crate::error::Result;
use crate::forest::route::Router;
use crate::kernel::simd::Level;
use crate::math::kmeans::{assign, kmeans, members, sample, split};
use crate::math::matrix::Matrix;
use crate::metric::Metric;

/// Rows per centroid that k-means looks at: docs/trials.md, "choices that were not swept".
const ROWS_PER_CENTROID: usize = 64;
/// A group with so many times the rows of an equal share is cut. The time of its k-means grows with
/// the square of its rows. Rows that coincide can be in one group, and so can all rows but outliers
/// from which k-means began. Groups of usual data are smaller: docs/trials.md, "build time on
/// crafted data".
const LARGE_GROUP: usize = 4;

/// A leaf with so many times its share of the rows is divided by so many centroids. What is too
/// large still is divided again, so many times at most. Each time separates one scale from the
/// next: docs/trials.md, "build time on crafted data".
const LARGE_LEAF: usize = 4;
const CENTROIDS_AT_ONCE: usize = 8;
const MAX_SCALES: usize = 16;

/// About `leaves` leaf centroids for the rows of `sample_rows`, grouped under coarse centroids.
///
/// Centroids that only saw the rows of their own group lose recall. So one Lloyd pass over all
/// leaves follows. Measured: docs/trials.md, "training centroids".
///
/// Calls `report` with the steps that are done and their number, from any thread; ends when it
/// fails.
pub(crate) fn train(
    simd: Level,
    metric: Metric,
    sample_rows: &Matrix,
    leaves: usize,
    seed: u64,
    report: &(impl Fn(u64, u64) -> Result<()> + Sync),
) -> Result<Router> {
    let groups = if leaves <= 48 { 1 } else { leaves.isqrt() };
    let trainer = Trainer { simd, rows: sample_rows, leaves, groups, seed };
    let groups = trainer.groups();
    let steps = groups.len() as u64 + 2;
    let done = AtomicU64::new(1);
    report(1, steps)?;
    let fine = groups
        .par_iter()
        .enumerate()
        .map(|(i, rows)| {
            // Leaves in proportion to the rows of the group, at least one.
            let share = (rows.len() * leaves + sample_rows.len() / 2) / sample_rows.len().max(1);
            let seed = seed ^ (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let centroids = subsampled_kmeans(simd, &sample_rows.gather(rows), share.max(1), seed);
            // Reports may come out of order here. The caller skips late ones.
            report(done.fetch_add(1, Ordering::SeqCst) + 1, steps)?;
            Ok(centroids)
        })
        .collect::<Result<Vec<Matrix>>>()?;
    // Centroids are means, which minimise squared distances: this pass uses them under every
    // metric.
    let mut router = Router::new(simd, &fine);
    let members = router.refine(sample_rows);
    trainer.divide_large(&mut router, &members);
    report(steps, steps)?;
    Ok(router.with_metric(metric))
}

/// Rows for which so many leaves are to be trained, in so many coarse groups.
struct Trainer<'a> {
    simd: Level,
    rows: &'a Matrix,
    leaves: usize,
    groups: usize,
    seed: u64,
}

impl Trainer<'_> {
    /// The rows of each coarse group.
    fn groups(&self) -> Vec<Vec<u32>> {
        let coarse = subsampled_kmeans(self.simd, self.rows, self.groups, self.seed);
        let groups = members(&assign(self.simd, self.rows, &coarse), coarse.len());
        groups.into_iter().flat_map(|rows| self.cut(rows)).collect()
    }

    /// Cuts a group that is too large.
    fn cut(&self, rows: Vec<u32>) -> Vec<Vec<u32>> {
        let share = self.rows.len().div_ceil(self.groups);
        if rows.len() <= LARGE_GROUP * share {
            return vec![rows];
        }
        let parts =
            split(self.simd, &self.rows.gathered(&rows), LARGE_GROUP / 2 * share, self.seed);
        parts.into_iter().map(|part| part.into_iter().map(|i| rows[i as usize]).collect()).collect()
    }

    /// Puts several leaves in the place of each that has many times its share of the rows.
    ///
    /// Where scales differ, k-means spends its centroids on what is far, and leaves few for what is
    /// near. Rows have to choose among the final leaves, for both copies: leaves that are cut later
    /// have none near them.
    fn divide_large(&self, router: &mut Router, members: &[Vec<u32>]) {
        let share = self.rows.len().div_ceil(self.leaves.max(1));
        let is_large = |rows: &&Vec<u32>| rows.len() > LARGE_LEAF * share;
        if members.iter().any(|rows| is_large(&rows)) {
            let before = router.leaves.clone();
            router.replace(LARGE_GROUP * self.leaves.max(1) / self.groups, |leaf| {
                match members.get(leaf as usize).filter(is_large) {
                    Some(own) => self.divide(own, share, self.seed ^ u64::from(leaf) << 32),
                    None => before.gather(&[leaf]),
                }
            });
            router.refine(self.rows);
        }
    }

    /// Centroids of some rows, none of more than a few shares unless rows coincide. Takes a few
    /// centroids at once, as k-means of all of them would take the square of the rows.
    fn divide(&self, rows: &[u32], share: usize, seed: u64) -> Matrix {
        let (mut todo, mut done) = (vec![(rows.to_vec(), 0)], Matrix::new(self.rows.width));
        while let Some((rows, scale)) = todo.pop() {
            let points = self.rows.gathered(&rows);
            if rows.len() <= LARGE_LEAF * share || scale == MAX_SCALES {
                done.push(&points.mean());
                continue;
            }
            let count = rows.len().div_ceil(share).min(CENTROIDS_AT_ONCE);
            let centroids = subsampled_kmeans(self.simd, &points, count, seed ^ rows.len() as u64);
            let parts = members(&assign(self.simd, &points, &centroids), centroids.len());
            // Rows that coincide cannot be divided.
            let deeper = if centroids.len() == 1 { MAX_SCALES } else { scale + 1 };
            for part in parts.into_iter().filter(|part| !part.is_empty()) {
                todo.push((part.into_iter().map(|i| rows[i as usize]).collect(), deeper));
            }
        }
        done
    }
}

fn subsampled_kmeans(simd: Level, points: &Matrix, k: usize, seed: u64) -> Matrix {
    let rows = k.saturating_mul(ROWS_PER_CENTROID);
    if rows < points.len() {
        kmeans(simd, &points.gather(&sample(points.len(), rows, seed)), k, seed)
    } else {
        kmeans(simd, points, k, seed)
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::kernel::simd;

    const ROWS: usize = 8192;
    const LEAVES: usize = 256;
    const COARSE: usize = 16;
    const SEED: u64 = 3;

    /// Rows of numbers in -1..1, each row times what `scale` says.
    fn scaled(scale: impl Fn(usize) -> f32) -> Matrix {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(6);
        let values =
            (0..ROWS * 64).map(|at| scale(at / 64) * rng.random_range(-1.0..1.0f32)).collect();
        Matrix { values, width: 64 }
    }

    /// No group is so large that k-means of it takes the square of all rows.
    #[test]
    fn no_data_put_all_leaves_in_one_group() {
        let looked_at: Vec<u32> = sample(ROWS, COARSE * ROWS_PER_CENTROID, SEED);
        let begun_at: Vec<u32> =
            sample(looked_at.len(), COARSE, SEED).iter().map(|i| looked_at[*i as usize]).collect();
        let far = |rows: &[u32]| {
            scaled(|row| if rows.iter().any(|it| *it as usize == row) { 1e4 } else { 1.0 })
        };
        let families = [
            ("usual", scaled(|_| 1.0)),
            ("all identical", scaled(|_| 0.0)),
            ("99 percent identical", scaled(|row| if row % 100 == 0 { 1.0 } else { 0.0 })),
            ("half identical", scaled(|row| if row % 2 == 0 { 1.0 } else { 0.0 })),
            ("outliers at the rows that k-means begins from", far(&begun_at)),
            ("outliers at all rows that it looks at", far(&looked_at)),
            ("nested scales", scaled(|row| 10f32.powi(-(row as i32 % 12)))),
        ];
        for (family, rows) in families {
            let router =
                train(simd::detect(), Metric::Euclidean, &rows, LEAVES, SEED, &|_, _| Ok(()))
                    .unwrap();
            let largest = router.starts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
            assert!(
                largest <= LARGE_GROUP * LEAVES / COARSE + 1,
                "{family}: a group of {largest} of {LEAVES} leaves"
            );
            let (groups, leaves) = (router.starts.len() - 1, router.leaves.len());
            assert!(
                groups <= 2 * COARSE && leaves <= 2 * LEAVES,
                "{family}: {groups} groups, {leaves} leaves"
            );
        }
    }
}
