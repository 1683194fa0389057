//! Products between the rows of two matrices, for clustering and routing.
//!
//! Rows are `width` floats, a multiple of 64. Products of matrices take 16 or 32 rows of one matrix
//! side by side ([`Panels`]). They take a few rows of the other at a time. A pair of rows gives the
//! same bits wherever it stands.

use fearless_simd::prelude::*;
use fearless_simd::{Simd, dispatch, f32x16};
use fearless_simd_macros::simd;

use crate::kernel::simd::Level;
use crate::metric::Metric;

/// Writes the inner product of row `i` of `rows` and row `j` of `panels` to `out[i * len + j]`. The
/// panels have `len` rows.
pub(crate) fn dots(simd: Level, rows: &[&[f32]], panels: &Panels, out: &mut [f32]) {
    dispatch!(simd, simd => products_with(simd, Multiply, rows, panels, out));
}

/// As [`dots`], but writes the Manhattan distance of row `i` of `rows` and row `j` of `panels`.
pub(crate) fn manhattans(simd: Level, rows: &[&[f32]], panels: &Panels, out: &mut [f32]) {
    dispatch!(simd, simd => products_with(simd, AbsoluteDifference, rows, panels, out));
}

/// As [`dots`], but writes the squared distance of row `i` of `rows` and row `j` of `panels`.
pub(crate) fn squared_euclideans(simd: Level, rows: &[&[f32]], panels: &Panels, out: &mut [f32]) {
    dispatch!(simd, simd => products_with(simd, SquaredDifference, rows, panels, out));
}

/// `sum a_i b_i` in single precision.
pub(crate) fn dot(simd: Level, a: &[f32], b: &[f32]) -> f32 {
    dispatch!(simd, simd => pair_with(simd, Multiply, a, b))
}

/// `sum a_i b_i` in single precision without fused operations: the same bits at every level.
/// Factors of sketches are computed with it, so that any machine can check them.
pub(crate) fn plain_dot(simd: Level, a: &[f32], b: &[f32]) -> f32 {
    dispatch!(simd, simd => pair_with(simd, PlainMultiply, a, b))
}

/// `sum (a_i - b_i)^2` in single precision.
pub(crate) fn squared_euclidean(simd: Level, a: &[f32], b: &[f32]) -> f32 {
    dispatch!(simd, simd => pair_with(simd, SquaredDifference, a, b))
}

/// How far a point is from a centroid: what decides the leaf of an item.
pub(crate) fn distance(simd: Level, metric: Metric, point: &[f32], centroid: &[f32]) -> f32 {
    let kernel = if metric.is_squared() { squared_euclidean } else { manhattan };
    kernel(simd, point, centroid)
}

/// `sum |a_i - b_i|` in single precision.
pub(crate) fn manhattan(simd: Level, a: &[f32], b: &[f32]) -> f32 {
    dispatch!(simd, simd => pair_with(simd, AbsoluteDifference, a, b))
}

/// Adds a row to sums in double precision: the same bits at every level.
pub(crate) fn add_to(simd: Level, sums: &mut [f64], row: &[f32]) {
    dispatch!(simd, simd => add_to_with(simd, sums, row));
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

/// Rows in the lanes of one vector.
const LANES: usize = 16;
/// Rows of a panel; a last one of at most [`LANES`] is half as wide.
const PANEL: usize = 2 * LANES;

/// Rows that many others are multiplied with, made ready once: they stand in the lanes, 32 side by
/// side, so that sums need not be added across lanes in the end.
#[derive(Clone, Debug)]
pub(crate) struct Panels {
    /// Panel after panel, each component after component. What is left of the last one's lanes is
    /// zero.
    values: Vec<f32>,
    width: usize,
    len: usize,
}

impl Panels {
    pub(crate) fn new(rows: &[f32], width: usize) -> Self {
        let len = rows.len() / width;
        let lanes = len.next_multiple_of(LANES);
        let mut values = vec![0.0; lanes * width];
        let panels = values.chunks_mut(PANEL * width);
        for (panel, rows) in panels.zip(rows.chunks(PANEL * width)) {
            let lanes = panel.len() / width;
            for (lane, row) in rows.chunks_exact(width).enumerate() {
                panel.chunks_exact_mut(lanes).zip(row).for_each(|(step, x)| step[lane] = *x);
            }
        }
        Self { values, width, len }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// Goes panel by panel. AVX-512 and AVX2 have registers for as many sums, so few loads feed them.
/// Measured: docs/trials.md, "Products of rows".
#[simd]
fn products_with<S: Simd, A: Accumulate>(
    simd: S,
    op: A,
    rows: &[&[f32]],
    panels: &Panels,
    out: &mut [f32],
) {
    let has_wide_registers = <S::f32s as SimdBase<S>>::LEN >= LANES;
    let (width, len) = (panels.width, panels.len);
    for (index, panel) in panels.values.chunks(PANEL * width).enumerate() {
        let first = index * PANEL;
        let part = |lane: usize| PanelLanes { panel, lane, first: first + lane, len };
        match (has_wide_registers, panel.len() == PANEL * width) {
            (true, true) => part(0).fill::<12, 2, PANEL, S, A>(simd, op, rows, out),
            (true, false) => part(0).fill::<16, 1, LANES, S, A>(simd, op, rows, out),
            (false, true) => {
                part(0).fill::<6, 1, PANEL, S, A>(simd, op, rows, out);
                part(LANES).fill::<6, 1, PANEL, S, A>(simd, op, rows, out);
            }
            (false, false) => part(0).fill::<6, 1, LANES, S, A>(simd, op, rows, out),
        }
    }
}

/// Some lanes of a panel, from one on.
#[derive(Copy, Clone)]
struct PanelLanes<'a> {
    panel: &'a [f32],
    lane: usize,
    /// The column of the first lane, among so many.
    first: usize,
    len: usize,
}

impl PanelLanes<'_> {
    /// All rows against so many vectors of a panel that has `STRIDE` lanes, `ROWS` of them at a
    /// time.
    #[inline(always)]
    fn fill<
        const ROWS: usize,
        const VECTORS: usize,
        const STRIDE: usize,
        S: Simd,
        A: Accumulate,
    >(
        self,
        simd: S,
        op: A,
        rows: &[&[f32]],
        out: &mut [f32],
    ) {
        let PanelLanes { first, len, .. } = self;
        let end = len.min(first + LANES * VECTORS);
        let mut out = out.chunks_exact_mut(len).map(|row| &mut row[first..end]);
        let (blocks, rest) = rows.as_chunks::<ROWS>();
        for block in blocks {
            let sums = panel_sums::<ROWS, VECTORS, STRIDE, S, A>(simd, op, block, self);
            sums.iter().zip(out.by_ref()).for_each(|(sums, out)| store(sums, out));
        }
        for (row, out) in rest.iter().zip(out) {
            let [sums] = panel_sums::<1, VECTORS, STRIDE, S, A>(simd, op, &[*row], self);
            store(&sums, out);
        }
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

/// A few rows against some lanes of a panel.
#[inline(always)]
fn panel_sums<
    const ROWS: usize,
    const VECTORS: usize,
    const STRIDE: usize,
    S: Simd,
    A: Accumulate,
>(
    simd: S,
    op: A,
    rows: &[&[f32]; ROWS],
    PanelLanes { panel, lane: first, .. }: PanelLanes<'_>,
) -> [[f32x16<S>; VECTORS]; ROWS] {
    let mut sums = [[f32x16::splat(simd, 0.0); VECTORS]; ROWS];
    let (steps, _) = panel.as_chunks::<STRIDE>();
    // With one known length for all rows, the loop checks no bounds.
    let rows: [&[f32]; ROWS] = std::array::from_fn(|i| &rows[i][..steps.len()]);
    for (at, step) in steps.iter().enumerate() {
        let vectors: [f32x16<S>; VECTORS] = std::array::from_fn(|i| {
            f32x16::from_slice(simd, &step[first + i * LANES..first + (i + 1) * LANES])
        });
        for (sums, row) in sums.iter_mut().zip(rows) {
            let x = f32x16::splat(simd, row[at]);
            sums.iter_mut().zip(vectors).for_each(|(sum, vector)| *sum = op.add(x, vector, *sum));
        }
    }
    sums
}

#[simd]
fn add_to_with<S: Simd>(_simd: S, sums: &mut [f64], row: &[f32]) {
    // Left to the compiler, which has the instructions of the level here.
    sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
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
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};

    use super::*;

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
        assert!(
            crate::kernel::simd::all().into_iter().all(|simd| plain_dot(simd, &a, &b) == expected)
        );
    }

    #[test]
    fn blocks_agree_with_pairs_and_with_double_precision() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        for (m, n, width) in [
            (1, 1, 64),
            (3, 5, 64),
            (13, 33, 128),
            (9, 7, 192),
            (41, 16, 64),
            (13, 23, 64),
            (25, 55, 64),
        ] {
            let mut random = |rows: usize| {
                (0..rows * width).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>()
            };
            let (a, b) = (random(m), random(n));
            for simd in crate::kernel::simd::all() {
                let (mut dot_out, mut l1_out) = (vec![f32::NAN; m * n], vec![f32::NAN; m * n]);
                let (rows, panels): (Vec<&[f32]>, _) =
                    (a.chunks(width).collect(), Panels::new(&b, width));
                dots(simd, &rows, &panels, &mut dot_out);
                manhattans(simd, &rows, &panels, &mut l1_out);
                for i in 0..m {
                    for j in 0..n {
                        let (x, y) = (&a[i * width..][..width], &b[j * width..][..width]);
                        let exact: f64 =
                            x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
                        let l1: f64 = x.iter().zip(y).map(|(x, y)| f64::from((x - y).abs())).sum();
                        let mut alone = [f32::NAN];
                        dots(simd, &[x], &Panels::new(y, width), &mut alone);
                        assert_eq!(dot_out[i * n + j], alone[0]);
                        assert!((f64::from(dot(simd, x, y)) - exact).abs() < 1e-4);
                        assert!((f64::from(dot_out[i * n + j]) - exact).abs() < 1e-4);
                        assert!((f64::from(l1_out[i * n + j]) - l1).abs() < 1e-3);
                        let l2: f64 =
                            x.iter().zip(y).map(|(x, y)| f64::from((x - y) * (x - y))).sum();
                        assert!((f64::from(squared_euclidean(simd, x, y)) - l2).abs() < 1e-4);
                    }
                }
            }
        }
    }
}
