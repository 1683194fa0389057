//! Products between the rows of two matrices, for clustering and routing.
//!
//! Rows are `width` floats, a multiple of 64. Products of matrices take 16 or 32 rows of one side by side, a few rows of the
//! other at a time. A pair of rows gives the same bits wherever it stands.

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

/// Rows of `b` in the lanes of one vector.
const LANES: usize = 16;

/// Panel by panel: rows of `b` stand in the lanes, so that sums need not be added across lanes in the end.
///
/// As many sums are kept in registers as there are, so that few loads feed them: on an Intel Xeon (one thread, products of 256
/// or 1,228 rows with 40, and of 256 with 1,000, of 128 and of 384 floats) 12 rows with 32 columns reach 126 to 175 GFlop/s with
/// AVX-512, where four rows reached 107 to 158; and 6 rows with 16 columns 75 to 103 with AVX2, where four with 32 reached 53 to
/// 57. A last panel of half as many columns takes a third off where there are 40.
#[simd]
fn products_with<S: Simd, A: Accumulate>(simd: S, op: A, a: &[f32], b: &[f32], width: usize, out: &mut [f32]) {
    let has_wide_registers = <S::f32s as SimdBase<S>>::LEN >= LANES;
    let columns = b.len() / width;
    let mut panel = vec![0.0; if has_wide_registers { 2 * LANES } else { LANES } * width];
    let mut first = 0;
    while first < columns {
        let is_wide = has_wide_registers && columns - first > LANES;
        let lanes = if is_wide { 2 * LANES } else { LANES };
        let end = columns.min(first + lanes);
        let panel = &mut panel[..lanes * width];
        fill(panel, &b[first * width..end * width], width);
        let out = out.chunks_exact_mut(columns).map(|row| &mut row[first..end]);
        match (has_wide_registers, is_wide) {
            (true, true) => panel_with::<12, 2, S, A>(simd, op, a, panel, out),
            (true, false) => panel_with::<16, 1, S, A>(simd, op, a, panel, out),
            (false, _) => panel_with::<6, 1, S, A>(simd, op, a, panel, out),
        }
        first = end;
    }
}

/// Puts up to as many rows side by side as the panel has lanes; what is left of the lanes is of no concern.
fn fill(panel: &mut [f32], rows: &[f32], width: usize) {
    let lanes = panel.len() / width;
    for (lane, row) in rows.chunks_exact(width).enumerate() {
        for (step, x) in panel.chunks_exact_mut(lanes).zip(row) {
            step[lane] = *x;
        }
    }
}

/// All rows of `a` against the rows of a panel of so many vectors, `ROWS` of them at a time; `out` has a slice for each.
#[inline(always)]
fn panel_with<'o, const ROWS: usize, const VECTORS: usize, S: Simd, A: Accumulate>(
    simd: S,
    op: A,
    a: &[f32],
    panel: &[f32],
    mut out: impl Iterator<Item = &'o mut [f32]>,
) {
    let width = panel.len() / (LANES * VECTORS);
    let blocks = a.chunks_exact(ROWS * width);
    let rest = blocks.remainder();
    for block in blocks {
        let rows: [&[f32]; ROWS] = std::array::from_fn(|i| &block[i * width..(i + 1) * width]);
        let sums = panel_sums::<ROWS, VECTORS, S, A>(simd, op, rows, panel);
        sums.iter().zip(out.by_ref()).for_each(|(sums, out)| store(sums, out));
    }
    for (row, out) in rest.chunks_exact(width).zip(out) {
        let [sums] = panel_sums::<1, VECTORS, S, A>(simd, op, [row], panel);
        store(&sums, out);
    }
}

/// Writes as many sums as there is room for.
#[inline(always)]
fn store<const VECTORS: usize, S: Simd>(sums: &[f32x16<S>; VECTORS], out: &mut [f32]) {
    for (sums, out) in sums.iter().zip(out.chunks_mut(LANES)) {
        match <&mut [f32; LANES]>::try_from(&mut *out) {
            Ok(out) => sums.store_slice(out),
            Err(_) => out.iter_mut().zip(sums.as_slice()).for_each(|(out, sum)| *out = *sum),
        }
    }
}

/// A few rows against all rows of a panel.
#[inline(always)]
fn panel_sums<const ROWS: usize, const VECTORS: usize, S: Simd, A: Accumulate>(
    simd: S,
    op: A,
    rows: [&[f32]; ROWS],
    panel: &[f32],
) -> [[f32x16<S>; VECTORS]; ROWS] {
    let mut sums = [[f32x16::splat(simd, 0.0); VECTORS]; ROWS];
    for (at, step) in panel.chunks_exact(LANES * VECTORS).enumerate() {
        let vectors: [f32x16<S>; VECTORS] =
            std::array::from_fn(|i| f32x16::from_slice(simd, &step[i * LANES..(i + 1) * LANES]));
        for (sums, row) in sums.iter_mut().zip(rows) {
            let x = f32x16::splat(simd, row[at]);
            sums.iter_mut().zip(vectors).for_each(|(sum, vector)| *sum = op.add(x, vector, *sum));
        }
    }
    sums
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
        for (m, n, width) in [(1, 1, 64), (3, 5, 64), (13, 33, 128), (9, 7, 192), (41, 16, 64), (25, 71, 64)] {
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
