//! Leaf centroids from a sample: hierarchical k-means, then one pass that lets every row choose
//! among all leaves.

use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use crate::error::Result;
use crate::forest::route::Router;
use crate::kernel::simd::Level;
use crate::math::kmeans::{Matrix, assign, kmeans, members, sample, split};
use crate::metric::Metric;

/// Rows per centroid that k-means looks at; more do not place centroids better.
const ROWS_PER_CENTROID: usize = 64;
/// A group with so many times the rows of an equal share is cut. k-means of a group takes the
/// square of its rows. Rows that coincide can be in one group, and so can all rows but outliers
/// from which k-means began. Groups of usual data are smaller.
const LARGE: usize = 4;

/// A leaf with so many times its share of the rows is divided by so many centroids. What is too
/// large still is divided again, so many times at most. Each time tells one scale from the next.
const LARGE_LEAF: usize = 4;
const CENTROIDS_AT_ONCE: usize = 8;
const MAX_SCALES: usize = 16;

/// About `leaves` leaf centroids for the rows of `sample_rows`, grouped under coarse centroids.
///
/// Greedy descent of nested clusters loses recall (figures of the prototype that this design rests
/// on), and so do centroids that only saw their own branch: on 200,000 x 384 rows, routing each to
/// its nearest leaf took recall from .62 to .92, and one more Lloyd pass over all leaves to .96.
///
/// More passes do not pay (trials, three seeds each): on 100,000 vectors of sift and of minilm two,
/// three and five of them with a beam of 4 to 6 took as many sketches for a recall of .95 as one,
/// within the 3 percent that seeds differ by.
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
    let coarse_len = if leaves <= 48 { 1 } else { leaves.isqrt() };
    let coarse = subsampled_kmeans(simd, sample_rows, coarse_len, seed);
    let groups = cut(
        simd,
        sample_rows,
        members(&assign(simd, sample_rows, &coarse), coarse.len()),
        coarse_len,
        seed,
    );
    let steps = groups.len() as u64 + 2;
    let done = AtomicU64::new(1);
    report(1, steps)?;
    let fine = groups
        .par_iter()
        .enumerate()
        .map(|(i, rows)| {
            // As many leaves as the group's share of the rows, rounded to the nearest, at least
            // one.
            let share = (rows.len() * leaves + sample_rows.len() / 2) / sample_rows.len().max(1);
            let seed = seed ^ (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let centroids = subsampled_kmeans(simd, &sample_rows.gather(rows), share.max(1), seed);
            // Reports may come out of order here; what is done never shrinks in the eyes of the
            // caller, who takes one at a time and skips late ones.
            report(done.fetch_add(1, Ordering::SeqCst) + 1, steps)?;
            Ok(centroids)
        })
        .collect::<Result<Vec<Matrix>>>()?;
    // Centroids are means, which minimise squared distances: this pass uses them under every
    // metric.
    let mut router = Router::new(simd, &fine);
    let members = router.refine(sample_rows);
    divide_large(simd, &mut router, sample_rows, &members, (leaves.max(1), coarse_len), seed);
    report(steps, steps)?;
    Ok(router.with_metric(metric))
}

/// Cuts groups that are too large for one of so many.
fn cut(
    simd: Level,
    points: &Matrix,
    groups: Vec<Vec<u32>>,
    count: usize,
    seed: u64,
) -> Vec<Vec<u32>> {
    let share = points.len().div_ceil(count);
    let cut = |rows: Vec<u32>| {
        if rows.len() <= LARGE * share {
            return vec![rows];
        }
        let parts = split(simd, &points.gather(&rows), LARGE / 2 * share, seed);
        parts.into_iter().map(|part| part.into_iter().map(|i| rows[i as usize]).collect()).collect()
    };
    groups.into_iter().flat_map(cut).collect()
}

/// Puts several leaves in the place of each that has many times its share of the rows.
///
/// Where scales differ, k-means spends its centroids on what is far, and what is near is left to a
/// few. Rows have to choose among the leaves that there will be in the end, for both copies: leaves
/// that are cut later have none near them.
fn divide_large(
    simd: Level,
    router: &mut Router,
    rows: &Matrix,
    members: &[Vec<u32>],
    (leaves, groups): (usize, usize),
    seed: u64,
) {
    let share = rows.len().div_ceil(leaves);
    let is_large = |rows: &&Vec<u32>| rows.len() > LARGE_LEAF * share;
    if members.iter().any(|rows| is_large(&rows)) {
        let before = router.leaves.clone();
        router.replace(LARGE * leaves / groups, |leaf| {
            match members.get(leaf as usize).filter(is_large) {
                Some(own) => divide(simd, rows, own, share, seed ^ u64::from(leaf) << 32),
                None => before.gather(&[leaf]),
            }
        });
        router.refine(rows);
    }
}

/// Centroids of rows, none of more than a few shares unless rows coincide. Takes a few centroids at
/// once, as k-means of all of them would take the square of the rows.
fn divide(simd: Level, rows: &Matrix, own: &[u32], share: usize, seed: u64) -> Matrix {
    let (mut todo, mut done) = (vec![(own.to_vec(), 0)], Matrix::new(rows.width));
    while let Some((own, scale)) = todo.pop() {
        let part = rows.gather(&own);
        if own.len() <= LARGE_LEAF * share || scale == MAX_SCALES {
            done.push(&part.mean());
            continue;
        }
        let count = own.len().div_ceil(share).min(CENTROIDS_AT_ONCE);
        let centroids = subsampled_kmeans(simd, &part, count, seed ^ own.len() as u64);
        let parts = members(&assign(simd, &part, &centroids), centroids.len());
        // Rows that coincide cannot be divided.
        let deeper = if centroids.len() == 1 { MAX_SCALES } else { scale + 1 };
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        todo.extend(
            parts.map(|part| (part.into_iter().map(|i| own[i as usize]).collect(), deeper)),
        );
    }
    done
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
                largest <= LARGE * LEAVES / COARSE + 1,
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
