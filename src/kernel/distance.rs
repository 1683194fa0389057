//! Exact distances between vectors as they are stored.
//!
//! What is not stored as floats is decoded first, some components at a time. So the distance is
//! that of the decoded vectors, to the last bit. Components are widened to `f64` and added in 32
//! lanes, component `i` in lane `i % 32`, without fused operations. The lanes are added in one
//! fixed order. So a distance has the same bits on
//! every machine. Its relative error is far below that of the `f32` it is rounded to. Reranking
//! waits for memory, not for this arithmetic.

use fearless_simd::prelude::*;
use fearless_simd::{Simd, dispatch, f32x16, f64x8};
use fearless_simd_macros::simd;

use crate::kernel::decode::decode_from;
use crate::kernel::simd::Level;
use crate::metric::Metric;
use crate::storage::Components;

const LANES: usize = 32;
/// Components that are decoded at once: a word of bits.
const DECODED: usize = 64;

/// The distance of two stored vectors, as [`Metric`] defines it. `squared_norms` is the product of
/// those of both.
pub(crate) fn between(
    simd: Level,
    metric: Metric,
    a: Components<'_>,
    b: Components<'_>,
    squared_norms: f64,
) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "at most 65,536 bits")]
    if let (Components::Bits(x), Components::Bits(y)) = (a, b) {
        return hamming(simd, x, y) as f64;
    }
    match metric {
        Metric::Cosine => {
            // sqrt(n n) is n: a vector is at distance 0 from itself.
            let cosine = sum(simd, Dot, a, b) / squared_norms.sqrt();
            (1.0 - cosine).clamp(0.0, 2.0)
        }
        Metric::DotProduct => sum(simd, Dot, a, b),
        Metric::Manhattan => sum(simd, Manhattan, a, b),
        _ => sum(simd, SquaredEuclidean, a, b).sqrt(),
    }
}

/// `sum x_i^2`.
pub(crate) fn squared_norm(simd: Level, x: Components<'_>) -> f64 {
    match x {
        Components::Bits(words) => words.iter().map(|word| f64::from(word.count_ones())).sum(),
        x => sum(simd, Dot, x, x),
    }
}

fn sum<T: Term>(simd: Level, term: T, a: Components<'_>, b: Components<'_>) -> f64 {
    match (a, b) {
        (Components::Floats(a), Components::Floats(b)) => {
            dispatch!(simd, simd => sum_with(simd, term, a, b))
        }
        (a, b) => dispatch!(simd, simd => sum_decoded(simd, term, a, b)),
    }
}

/// `sum a_i b_i`. Slices of different lengths are compared up to the shorter one.
pub(crate) fn dot(simd: Level, a: &[f32], b: &[f32]) -> f64 {
    dispatch!(simd, simd => sum_with(simd, Dot, a, b))
}

/// The count of bits that differ.
pub(crate) fn hamming(simd: Level, a: &[u64], b: &[u64]) -> u64 {
    dispatch!(simd, simd => hamming_with(simd, a, b))
}

/// What is summed over the components.
trait Term: Copy {
    fn term<S: Simd>(self, a: f64x8<S>, b: f64x8<S>) -> f64x8<S>;
}

#[derive(Copy, Clone)]
struct Dot;
#[derive(Copy, Clone)]
struct SquaredEuclidean;
#[derive(Copy, Clone)]
struct Manhattan;

impl Term for Dot {
    #[inline(always)]
    fn term<S: Simd>(self, a: f64x8<S>, b: f64x8<S>) -> f64x8<S> {
        a * b
    }
}

impl Term for SquaredEuclidean {
    #[inline(always)]
    fn term<S: Simd>(self, a: f64x8<S>, b: f64x8<S>) -> f64x8<S> {
        let difference = a - b;
        difference * difference
    }
}

impl Term for Manhattan {
    #[inline(always)]
    fn term<S: Simd>(self, a: f64x8<S>, b: f64x8<S>) -> f64x8<S> {
        (a - b).abs()
    }
}

#[simd]
fn sum_with<S: Simd, T: Term>(simd: S, term: T, a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [f64x8::splat(simd, 0.0); 4];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (a_rest, b_rest) = (a_chunks.remainder(), b_chunks.remainder());
    for (a, b) in a_chunks.zip(b_chunks) {
        step(simd, term, a, b, &mut sums);
    }
    if !a_rest.is_empty() && a.len() == b.len() {
        // The padding adds exact zeros under every term.
        let (mut a, mut b) = ([0.0; LANES], [0.0; LANES]);
        a[..a_rest.len()].copy_from_slice(a_rest);
        b[..b_rest.len()].copy_from_slice(b_rest);
        step(simd, term, &a, &b, &mut sums);
    }
    total(sums)
}

/// As [`sum_with`] of the decoded components: lanes and their order are the same.
#[simd]
fn sum_decoded<S: Simd, T: Term>(simd: S, term: T, a: Components<'_>, b: Components<'_>) -> f64 {
    let mut sums = [f64x8::splat(simd, 0.0); 4];
    let (mut x, mut y) = ([0.0; DECODED], [0.0; DECODED]);
    let len = a.len().min(b.len());
    let whole = len - len % DECODED;
    for first in (0..whole).step_by(DECODED) {
        let x = decoded(simd, a, first, &mut x);
        let y = decoded(simd, b, first, &mut y);
        step(simd, term, &x[..LANES], &y[..LANES], &mut sums);
        step(simd, term, &x[LANES..], &y[LANES..], &mut sums);
    }
    if whole < len {
        // The padding adds exact zeros under every term.
        (x, y) = ([0.0; DECODED], [0.0; DECODED]);
        decode_from(simd, a, whole, &mut x[..len - whole]);
        decode_from(simd, b, whole, &mut y[..len - whole]);
        step(simd, term, &x[..LANES], &y[..LANES], &mut sums);
        step(simd, term, &x[LANES..], &y[LANES..], &mut sums);
    }
    total(sums)
}

/// As many components from `first` on as are decoded at once; floats are where they are.
#[inline(always)]
fn decoded<'b, S: Simd>(
    simd: S,
    components: Components<'b>,
    first: usize,
    buffer: &'b mut [f32; DECODED],
) -> &'b [f32] {
    if let Components::Floats(floats) = components {
        return &floats[first..first + DECODED];
    }
    decode_from(simd, components, first, buffer);
    buffer
}

#[inline(always)]
fn step<S: Simd, T: Term>(simd: S, term: T, a: &[f32], b: &[f32], sums: &mut [f64x8<S>; 4]) {
    for half in 0..2 {
        let (a_low, a_high) = f32x16::from_slice(simd, &a[16 * half..16 * half + 16]).widen();
        let (b_low, b_high) = f32x16::from_slice(simd, &b[16 * half..16 * half + 16]).widen();
        sums[2 * half] += term.term(a_low, b_low);
        sums[2 * half + 1] += term.term(a_high, b_high);
    }
}

#[inline(always)]
fn total<S: Simd>(sums: [f64x8<S>; 4]) -> f64 {
    let mut lanes = [0.0; LANES];
    for (lanes, sum) in lanes.chunks_exact_mut(8).zip(sums) {
        sum.store_slice(lanes);
    }
    add_lanes(lanes)
}

/// Adds the lanes pairwise: 32, 16, 8, 4, 2, 1.
#[inline(always)]
fn add_lanes(mut lanes: [f64; LANES]) -> f64 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

#[simd]
fn hamming_with<S: Simd>(_simd: S, a: &[u64], b: &[u64]) -> u64 {
    a.iter().zip(b).map(|(a, b)| u64::from((a ^ b).count_ones())).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::decode::decode_one;
    use crate::kernel::encode;

    fn scalar(a: &[f32], b: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
        let mut lanes = [0.0; LANES];
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            lanes[i % LANES] += term(f64::from(*a), f64::from(*b));
        }
        add_lanes(lanes)
    }

    proptest! {
        #[test]
        fn every_level_gives_the_bits_of_the_scalar_twin(
            pairs in prop::collection::vec((-1e6f32..1e6, -1e6f32..1e6), 0..200),
            words in prop::collection::vec((any::<u64>(), any::<u64>()), 0..40),
        ) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let (u, v): (Vec<u64>, Vec<u64>) = words.into_iter().unzip();
            let (halves, of_halves) = encode::halves(&b);
            let (bytes, of_bytes) = encode::bytes(&b);
            let (signs, of_signs) = encode::signs(&b);
            let stored = [
                Components::Floats(&b),
                Components::Halves(&halves, of_halves),
                Components::Bytes(&bytes, of_bytes),
                Components::Signs { words: &signs, dims: b.len(), scale: of_signs },
            ];
            let query = Components::Floats(&a);
            for (simd, x) in crate::kernel::simd::all().into_iter().flat_map(|simd| stored.map(|x| (simd, x))) {
                let b: Vec<f32> = (0..x.len()).map(|i| decode_one(x, i)).collect();
                prop_assert_eq!(sum(simd, Dot, query, x), scalar(&a, &b, |a, b| a * b));
                prop_assert_eq!(sum(simd, SquaredEuclidean, query, x), scalar(&a, &b, |a, b| (a - b) * (a - b)));
                prop_assert_eq!(sum(simd, Manhattan, query, x), scalar(&a, &b, |a, b| (a - b).abs()));
                // A stored item is a query, too.
                prop_assert_eq!(sum(simd, Dot, x, x), scalar(&b, &b, |a, b| a * b));
                prop_assert_eq!(sum(simd, SquaredEuclidean, x, x), 0.0);
            }
            for simd in crate::kernel::simd::all() {
                let expected: u64 = u.iter().zip(&v).map(|(u, v)| u64::from((u ^ v).count_ones())).sum();
                prop_assert_eq!(hamming(simd, &u, &v), expected);
            }
        }
    }
}
