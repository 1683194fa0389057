//! Products between the rows of two matrices, for clustering and routing.
//!
//! Rows are `width` floats, a multiple of 64. Four rows meet four rows in sixteen registers of sums, so that each value
//! loaded serves four multiplications. A pair of rows gives the same bits wherever it stands in the block.

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

#[simd]
fn products_with<S: Simd, A: Accumulate>(simd: S, op: A, a: &[f32], b: &[f32], width: usize, out: &mut [f32]) {
    let columns = b.len() / width;
    let mut out_rows = out.chunks_exact_mut(columns.max(1));
    let a_blocks = a.chunks_exact(4 * width);
    let a_rest = a_blocks.remainder();
    for block in a_blocks {
        let rows = [0, 1, 2, 3].map(|i| &block[i * width..(i + 1) * width]);
        let [Some(o0), Some(o1), Some(o2), Some(o3)] = [(); 4].map(|()| out_rows.next()) else {
            return;
        };
        four_rows(simd, op, rows, b, [o0, o1, o2, o3]);
    }
    for (row, out) in a_rest.chunks_exact(width).zip(out_rows) {
        for (other, out) in b.chunks_exact(width).zip(out) {
            *out = one_pair(simd, op, row, other);
        }
    }
}

/// Four rows against all rows of `b`.
#[inline(always)]
fn four_rows<S: Simd, A: Accumulate>(simd: S, op: A, rows: [&[f32]; 4], b: &[f32], out: [&mut [f32]; 4]) {
    let width = rows[0].len();
    let mut column = 0;
    let b_blocks = b.chunks_exact(4 * width);
    let b_rest = b_blocks.remainder();
    for block in b_blocks {
        let others = [0, 1, 2, 3].map(|j| &block[j * width..(j + 1) * width]);
        let mut sums = [[f32x16::splat(simd, 0.0); 4]; 4];
        for at in (0..width).step_by(16) {
            let y = others.map(|other| f32x16::from_slice(simd, &other[at..at + 16]));
            for (sums, row) in sums.iter_mut().zip(rows) {
                let x = f32x16::from_slice(simd, &row[at..at + 16]);
                for (sum, y) in sums.iter_mut().zip(y) {
                    *sum = op.add(x, y, *sum);
                }
            }
        }
        for i in 0..4 {
            for j in 0..4 {
                out[i][column + j] = add_lanes(sums[i][j]);
            }
        }
        column += 4;
    }
    for other in b_rest.chunks_exact(width) {
        for i in 0..4 {
            out[i][column] = one_pair(simd, op, rows[i], other);
        }
        column += 1;
    }
}

#[simd]
fn pair_with<S: Simd, A: Accumulate>(simd: S, op: A, a: &[f32], b: &[f32]) -> f32 {
    one_pair(simd, op, a, b)
}

/// One pair, in the same order of operations as in a block of sixteen.
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
                        assert_eq!(dot_out[i * n + j], dot(level, x, y));
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
