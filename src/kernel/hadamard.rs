//! The fast Walsh-Hadamard transform: the arithmetic of the rotation.

use std::ops::Range;

use fearless_simd::prelude::*;
use fearless_simd::{Simd, dispatch, f32x16};
use fearless_simd_macros::simd;

use crate::kernel::simd::Level;

/// Multiplies `x` by `signs`, of the same length. Then it replaces `part` of `x` by `scale` H
/// `part`. The length of `part` is a power of two from 32 up, and H H is that length times the
/// identity.
pub(crate) fn round(simd: Level, x: &mut [f32], signs: &[f32], part: Range<usize>, scale: f32) {
    dispatch!(simd, simd => round_with(simd, x, signs, part, scale));
}

#[simd]
fn round_with<S: Simd>(simd: S, x: &mut [f32], signs: &[f32], part: Range<usize>, scale: f32) {
    for (x, signs) in x.chunks_exact_mut(16).zip(signs.chunks_exact(16)) {
        (f32x16::from_slice(simd, x) * f32x16::from_slice(simd, signs)).store_slice(x);
    }
    let part = &mut x[part];
    transform_with(simd, part);
    let scale = f32x16::splat(simd, scale);
    part.chunks_exact_mut(16).for_each(|x| (f32x16::from_slice(simd, x) * scale).store_slice(x));
}

#[inline(always)]
fn transform_with<S: Simd>(simd: S, x: &mut [f32]) {
    for block in x.chunks_exact_mut(32) {
        let (low, high) = block.split_at_mut(16);
        let (u, v) = small(f32x16::from_slice(simd, low), f32x16::from_slice(simd, high));
        u.store_slice(low);
        v.store_slice(high);
    }
    let mut half = 32;
    while half < x.len() {
        for pair in x.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.chunks_exact_mut(16).zip(high.chunks_exact_mut(16)) {
                let (u, v) = (f32x16::from_slice(simd, a), f32x16::from_slice(simd, b));
                (u + v).store_slice(a);
                (u - v).store_slice(b);
            }
        }
        half *= 2;
    }
}

/// The first five levels, within 32 neighbours. Each moves the sums of even and odd positions to
/// the front, and the differences to the back. That rotates the bits of the positions by one. After
/// five levels they are in order again.
#[inline(always)]
fn small<S: Simd>(mut low: f32x16<S>, mut high: f32x16<S>) -> (f32x16<S>, f32x16<S>) {
    for _ in 0..5 {
        let (even, odd) = low.deinterleave(high);
        (low, high) = (even + odd, even - odd);
    }
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(x: &mut [f32]) {
        let mut half = 1;
        while half < x.len() {
            for start in (0..x.len()).step_by(2 * half) {
                for i in start..start + half {
                    (x[i], x[i + half]) = (x[i] + x[i + half], x[i] - x[i + half]);
                }
            }
            half *= 2;
        }
    }

    #[test]
    fn every_level_gives_the_bits_of_the_scalar_twin_and_twice_is_the_identity() {
        for log in 5..12 {
            let n = 1usize << log;
            let x: Vec<f32> = (0..n).map(|i| ((i * i + 3 * i) % 101) as f32 - 50.0).collect();
            let mut expected = x.clone();
            scalar(&mut expected);
            for simd in crate::kernel::simd::all() {
                let mut y = x.clone();
                let ones = vec![1.0; n];
                round(simd, &mut y, &ones, 0..n, 1.0);
                assert_eq!(y, expected);
                round(simd, &mut y, &ones, 0..n, 1.0);
                assert!(x.iter().zip(&y).all(|(x, y)| x * n as f32 == *y));
            }
        }
    }
}
