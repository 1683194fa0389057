//! Products between the rows of two matrices, for clustering and routing.
//!
//! Rows are `width` floats, a multiple of 64. Products of matrices take 32 rows of one side by side, four rows of the other
//! at a time. A pair of rows gives the same bits wherever it stands.

use fearless_simd::{Simd, dispatch, f32x16, prelude::*};
use fearless_simd_macros::simd;

use super::Level;

/// Writes the inner product of row `i` of `a` and row `j` of `b` to `out[i * rows(b) + j]`.
pub(crate) fn dots(level: Level, a: &[f32], b: &[f32], width: usize, out: &mut [f32]) {
    dispatch!(level, simd => products_with(simd, Multiply, a, b, width, out));
}

/// Writes the Manhattan distance of row `i` of `a` and row `j` of `b` to `out[i * rows(b) + j]`.
pub(crate) fn manhattans(level: Level, a: &[f32], b: &[f32], width: usize, out: &mut [f32]) {
    dispatch!(level, simd => products_with(simd, AbsoluteDifference, a, b, width, out));
}

/// `sum a_i b_i` in single precision.
pub(crate) fn dot(level: Level, a: &[f32], b: &[f32]) -> f32 {
    dispatch!(level, simd => pair_with(simd, Multiply, a, b))
}

/// `sum a_i b_i` in single precision without fused operations: the same bits at every level. Factors of sketches are
/// computed with it, so that any machine can check them.
pub(crate) fn plain_dot(level: Level, a: &[f32], b: &[f32]) -> f32 {
    dispatch!(level, simd => pair_with(simd, PlainMultiply, a, b))
}

/// `sum (a_i - b_i)^2` in single precision.
pub(crate) fn squared_euclidean(level: Level, a: &[f32], b: &[f32]) -> f32 {
    dispatch!(level, simd => pair_with(simd, SquaredDifference, a, b))
}

trait Accumulate: Copy {
    fn add<S: Simd>(self, a: f32x16<S>, b: f32x16<S>, sum: f32x16<S>) -> f32x16<S>;
}

#[derive(Copy, Clone)]
struct Multiply;
#[derive(Copy, Clone)]
struct PlainMultiply;
#[derive(Copy, Clone)]
struct AbsoluteDifference;
#[derive(Copy, Clone)]
struct SquaredDifference;

impl Accumulate for Multiply {
    #[inline(always)]
    fn add<S: Simd>(self, a: f32x16<S>, b: f32x16<S>, sum: f32x16<S>) -> f32x16<S> {
        a.mul_add(b, sum)
    }
}

impl Accumulate for PlainMultiply {
    #[inline(always)]
    fn add<S: Simd>(self, a: f32x16<S>, b: f32x16<S>, sum: f32x16<S>) -> f32x16<S> {
        sum + a * b
    }
}

impl Accumulate for AbsoluteDifference {
    #[inline(always)]
    fn add<S: Simd>(self, a: f32x16<S>, b: f32x16<S>, sum: f32x16<S>) -> f32x16<S> {
        sum + (a - b).abs()
    }
}

impl Accumulate for SquaredDifference {
    #[inline(always)]
    fn add<S: Simd>(self, a: f32x16<S>, b: f32x16<S>, sum: f32x16<S>) -> f32x16<S> {
        let difference = a - b;
        difference.mul_add(difference, sum)
    }
}

/// Columns of a panel: the registers of sums of one row.
const PANEL: usize = 32;

/// Panel by panel: the rows of `b` stand in the lanes, so that sums need not be added across lanes in the end.
#[simd]
fn products_with<S: Simd, A: Accumulate>(simd: S, op: A, a: &[f32], b: &[f32], width: usize, out: &mut [f32]) {
    let columns = b.len() / width;
    let mut panel = vec![0.0; PANEL * width];
    for (first, others) in (0..columns).step_by(PANEL).zip(b.chunks(PANEL * width)) {
        fill(&mut panel, others, width);
        let lanes = first..columns.min(first + PANEL);
        let mut out_rows = out.chunks_exact_mut(columns).map(|row| &mut row[lanes.clone()]);
        let blocks = a.chunks_exact(4 * width);
        let rest = blocks.remainder();
        for block in blocks {
            let rows = [0, 1, 2, 3].map(|i| &block[i * width..(i + 1) * width]);
            let sums = panel_sums(simd, op, rows, &panel);
            sums.iter().zip(out_rows.by_ref()).for_each(|(sums, out)| out.copy_from_slice(&sums[..out.len()]));
        }
        for (row, out) in rest.chunks_exact(width).zip(out_rows) {
            let [sums] = panel_sums(simd, op, [row], &panel);
            out.copy_from_slice(&sums[..out.len()]);
        }
    }
}

/// Puts up to [`PANEL`] rows side by side; what is left of the lanes is of no concern.
fn fill(panel: &mut [f32], rows: &[f32], width: usize) {
    for (lane, row) in rows.chunks_exact(width).enumerate() {
        for (step, x) in panel.chunks_exact_mut(PANEL).zip(row) {
            step[lane] = *x;
        }
    }
}

/// A few rows against all rows of a panel.
#[inline(always)]
fn panel_sums<const ROWS: usize, S: Simd, A: Accumulate>(
    simd: S,
    op: A,
    rows: [&[f32]; ROWS],
    panel: &[f32],
) -> [[f32; PANEL]; ROWS] {
    let mut sums = [[f32x16::splat(simd, 0.0); 2]; ROWS];
    for (at, step) in panel.chunks_exact(PANEL).enumerate() {
        let (low, high) = (f32x16::from_slice(simd, &step[..16]), f32x16::from_slice(simd, &step[16..]));
        for (sums, row) in sums.iter_mut().zip(rows) {
            let x = f32x16::splat(simd, row[at]);
            sums[0] = op.add(x, low, sums[0]);
            sums[1] = op.add(x, high, sums[1]);
        }
    }
    sums.map(|[low, high]| {
        let mut all = [0.0; PANEL];
        all[..16].copy_from_slice(low.as_slice());
        all[16..].copy_from_slice(high.as_slice());
        all
    })
}

#[simd]
fn pair_with<S: Simd, A: Accumulate>(simd: S, op: A, a: &[f32], b: &[f32]) -> f32 {
    one_pair(simd, op, a, b)
}

#[inline(always)]
fn one_pair<S: Simd, A: Accumulate>(simd: S, op: A, a: &[f32], b: &[f32]) -> f32 {
    let mut sum = f32x16::splat(simd, 0.0);
    for (a, b) in a.chunks_exact(16).zip(b.chunks_exact(16)) {
        sum = op.add(f32x16::from_slice(simd, a), f32x16::from_slice(simd, b), sum);
    }
    add_lanes(sum)
}

#[inline(always)]
fn add_lanes<S: Simd>(sum: f32x16<S>) -> f32 {
    let (low, high) = sum.split();
    let (a, b) = (low + high).split();
    let [w, x, y, z] = *(a + b).as_array();
    (w + y) + (x + z)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::levels;
    use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

    #[test]
    fn plain_products_have_the_same_bits_at_every_level() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        let mut random = || (0..192).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>();
        let (a, b) = (random(), random());
        let mut lanes = [0.0f32; 16];
        (0..192).for_each(|i| lanes[i % 16] += a[i] * b[i]);
        (0..8).for_each(|i| lanes[i] += lanes[i + 8]);
        (0..4).for_each(|i| lanes[i] += lanes[i + 4]);
        let expected = (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
        assert!(levels().into_iter().all(|level| plain_dot(level, &a, &b) == expected));
    }

    #[test]
    fn blocks_agree_with_pairs_and_with_double_precision() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        for (m, n, width) in [(1, 1, 64), (3, 5, 64), (4, 4, 128), (9, 7, 192), (6, 13, 64)] {
            let mut random = |rows: usize| (0..rows * width).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>();
            let (a, b) = (random(m), random(n));
            for level in levels() {
                let (mut dot_out, mut l1_out) = (vec![f32::NAN; m * n], vec![f32::NAN; m * n]);
                dots(level, &a, &b, width, &mut dot_out);
                manhattans(level, &a, &b, width, &mut l1_out);
                for i in 0..m {
                    for j in 0..n {
                        let (x, y) = (&a[i * width..][..width], &b[j * width..][..width]);
                        let exact: f64 = x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
                        let l1: f64 = x.iter().zip(y).map(|(x, y)| f64::from((x - y).abs())).sum();
                        let mut alone = [f32::NAN];
                        dots(level, x, y, width, &mut alone);
                        assert_eq!(dot_out[i * n + j], alone[0]);
                        assert!((f64::from(dot(level, x, y)) - exact).abs() < 1e-4);
                        assert!((f64::from(dot_out[i * n + j]) - exact).abs() < 1e-4);
                        assert!((f64::from(l1_out[i * n + j]) - l1).abs() < 1e-3);
                        let l2: f64 = x.iter().zip(y).map(|(x, y)| f64::from((x - y) * (x - y))).sum();
                        assert!((f64::from(squared_euclidean(level, x, y)) - l2).abs() < 1e-4);
                    }
                }
            }
        }
    }
}
