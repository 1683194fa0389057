//! k-means, deterministic and parallel.
//!
//! Results depend on the seed alone. Rows are assigned independently of each other, and each
//! centroid is a sum over its rows in order. So the number of threads cannot change a bit.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rayon::prelude::*;

use crate::kernel::gemm;
use crate::kernel::gemm::Panels;
use crate::kernel::simd::Level;
use crate::kernel::threshold::{Scores, below};
use crate::math::matrix::{Matrix, mean};

/// Rows that one task assigns: enough to amortise the task, few enough to balance.
const ROWS_PER_TASK: usize = 256;
/// Rows that decide where more rows are cut in two: docs/trials.md, "choices that were not swept".
const CUT_SAMPLE: usize = 2048;
/// Rounds of k-means: docs/trials.md, "choices that were not swept".
const ITERATIONS: usize = 8;

/// Half the squared norm of each row: `half_norm - <x, row>` orders rows by distance from x.
pub(crate) fn half_norms(simd: Level, rows: &[f32], width: usize) -> Vec<f32> {
    rows.chunks_exact(width).map(|row| 0.5 * gemm::dot(simd, row, row)).collect()
}

/// The nearest of `centroids` for each row of `points`; ties go to the lower number.
pub(crate) fn assign(simd: Level, points: &Matrix, centroids: &Matrix) -> Vec<u32> {
    let norms = half_norms(simd, &centroids.values, centroids.width);
    let panels = Panels::new(&centroids.values, centroids.width);
    points
        .values
        .par_chunks(ROWS_PER_TASK * points.width)
        .flat_map_iter(|rows| {
            let rows: Vec<&[f32]> = rows.chunks_exact(points.width).collect();
            let mut products = vec![0.0; rows.len() * centroids.len()];
            gemm::dots(simd, &rows, &panels, &mut products);
            let scores = |products| Scores { norms: &norms, products, sign: -1.0 };
            products
                .chunks_exact(centroids.len())
                .map(|products| nearest(simd, scores(products)))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The number of the smallest score, the lowest of equals.
fn nearest(simd: Level, scores: Scores<'_>) -> u32 {
    let mut best = (0, f32::INFINITY);
    below(simd, scores, best.1, |row, score| {
        if score < best.1 {
            best = (row, score);
        }
        best.1
    });
    #[expect(clippy::cast_possible_truncation, reason = "centroids are counted in 32 bits")]
    let nearest = best.0 as u32;
    nearest
}

/// Row numbers by cluster, ascending within each.
pub(crate) fn members(assigned: &[u32], clusters: usize) -> Vec<Vec<u32>> {
    let mut members = vec![Vec::new(); clusters];
    for (row, cluster) in (0u32..).zip(assigned) {
        members[*cluster as usize].push(row);
    }
    members
}

/// Moves each centroid to the mean of its rows; one without rows stays.
pub(crate) fn update(points: &Matrix, members: &[Vec<u32>], centroids: &mut Matrix) {
    let width = points.width;
    centroids
        .values
        .par_chunks_mut(width)
        .zip(members)
        .filter(|(_, rows)| !rows.is_empty())
        .for_each(|(c, rows)| {
            c.copy_from_slice(&mean(rows.iter().map(|i| points.row(*i as usize)), width));
        });
}

/// `k` distinct row numbers of `n`, ascending.
pub(crate) fn sample(n: usize, k: usize, seed: u64) -> Vec<u32> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut rows: Vec<u32> = rand::seq::index::sample(&mut rng, n, k.min(n))
        .into_iter()
        .filter_map(|i| u32::try_from(i).ok())
        .collect();
    rows.sort_unstable();
    rows
}

/// At most `k` centroids of `points` by Lloyd's algorithm from randomly chosen rows.
///
/// A centroid that loses all its rows restarts at a row of the largest cluster. Where too many rows
/// coincide, fewer than `k` centroids come back, but at least one if there are rows.
pub(crate) fn kmeans(simd: Level, points: &Matrix, k: usize, seed: u64) -> Matrix {
    let mut centroids = points.gather(&sample(points.len(), k, seed));
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ 1);
    for round in 0..=ITERATIONS {
        let mut members = members(&assign(simd, points, &centroids), centroids.len());
        if round == ITERATIONS {
            let kept = (0u32..)
                .zip(&members)
                .filter(|(_, rows)| !rows.is_empty())
                .map(|(i, _)| i)
                .collect::<Vec<_>>();
            return centroids.gather(&kept);
        }
        reseed(&mut members, &mut rng);
        update(points, &members, &mut centroids);
    }
    centroids
}

/// Gives each empty cluster one row of the largest.
fn reseed(members: &mut [Vec<u32>], rng: &mut Xoshiro256PlusPlus) {
    for empty in 0..members.len() {
        if !members[empty].is_empty() {
            continue;
        }
        let largest =
            (0..members.len()).max_by_key(|i| (members[*i].len(), usize::MAX - i)).unwrap_or(empty);
        if members[largest].len() > 1 {
            let row = rng.random_range(0..members[largest].len());
            let row = members[largest].swap_remove(row);
            members[empty].push(row);
        }
    }
}

/// Cuts rows into groups of at most `max`, near rows together: 2-means again and again, and by
/// order where rows coincide. Groups hold row numbers, ascending.
pub(crate) fn split(simd: Level, points: &Matrix, max: usize, seed: u64) -> Vec<Vec<u32>> {
    let max = max.max(1);
    let all: Vec<u32> = (0u32..).take(points.len()).collect();
    let (mut todo, mut done) = (vec![all], Vec::new());
    while let Some(rows) = todo.pop() {
        if rows.len() <= max {
            done.push(rows);
            continue;
        }
        let seed =
            seed ^ u64::from(rows[0]).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ rows.len() as u64;
        let part = points.gathered(&rows);
        let centroids = match rows.len() {
            ..=CUT_SAMPLE => kmeans(simd, &part, 2, seed),
            len => kmeans(simd, &part.gather(&sample(len, CUT_SAMPLE, seed)), 2, seed),
        };
        let assigned = assign(simd, &part, &centroids);
        let (mut left, mut right): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
        for (row, side) in rows.iter().zip(assigned) {
            if side == 0 { left.push(*row) } else { right.push(*row) }
        }
        // A cut that leaves next to nothing on one side would be repeated without end on the other.
        if left.len().min(right.len()) < (rows.len() / 16).max(1) {
            right = rows;
            left = right.drain(..right.len() / 2).collect();
        }
        todo.push(right);
        todo.push(left);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::simd;

    fn blobs(n: usize, k: usize, width: usize) -> Matrix {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
        let centres: Vec<f32> = (0..k * width).map(|_| rng.random_range(-10.0..10.0)).collect();
        let mut points = Matrix::new(width);
        for i in 0..n {
            let centre = &centres[i % k * width..][..width];
            points.push(
                &centre.iter().map(|c| c + rng.random_range(-0.1..0.1)).collect::<Vec<f32>>(),
            );
        }
        points
    }

    #[test]
    fn split_keeps_every_row_once_in_groups_that_fit_and_that_are_near() {
        let points = blobs(1000, 10, 64);
        let groups = split(simd::detect(), &points, 120, 1);
        let mut all: Vec<u32> = groups.concat();
        assert!(groups.iter().all(|group| group.len() <= 120 && group.is_sorted()));
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
        let pure =
            groups.iter().filter(|group| group.iter().all(|row| row % 10 == group[0] % 10)).count();
        assert!(pure * 10 >= groups.len() * 8, "{pure} of {} groups are of one blob", groups.len());
    }

    #[test]
    fn identical_rows_are_cut_by_order() {
        let points = Matrix { values: vec![3.5; 5000 * 64], width: 64 };
        let groups = split(simd::detect(), &points, 256, 9);
        assert!(groups.iter().all(|group| group.len() <= 256 && group.len() > 64));
        assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), 5000);
        assert_eq!(kmeans(simd::detect(), &points, 7, 1).len(), 1);
        // So few rows that a sixteenth of them is less than one.
        for max in 1..12 {
            let few = Matrix { values: vec![3.5; 12 * 64], width: 64 };
            assert!(
                split(simd::detect(), &few, max, 9)
                    .iter()
                    .all(|group| (1..=max).contains(&group.len())),
                "{max}"
            );
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let points = blobs(3000, 50, 128);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| kmeans(simd::detect(), &points, 64, 3))
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(8));
        assert!(one.len() > 40);
    }
}
