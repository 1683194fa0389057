//! The fast Walsh-Hadamard transform: the arithmetic of the rotation.

use fearless_simd::{Simd, dispatch, f32x16, prelude::*};
use fearless_simd_macros::simd;

use super::Level;

/// Replaces `x`, whose length is a power of two from 16 up, by H x, in which H H = `x.len()` times the identity.
pub(crate) fn transform(level: Level, x: &mut [f32]) {
    dispatch!(level, simd => transform_with(simd, x));
}

#[simd]
fn transform_with<S: Simd>(simd: S, x: &mut [f32]) {
    for chunk in x.chunks_exact_mut(16) {
        small(chunk);
    }
    let mut half = 16;
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

/// The first four levels, within 16 neighbours; simple enough for the compiler to keep in registers.
#[inline(always)]
fn small(x: &mut [f32]) {
    let mut y = [0.0f32; 16];
    y.copy_from_slice(&x[..16]);
    for log in 0..4 {
        let before = y;
        for i in 0..16 {
            let other = before[i ^ (1 << log)];
            y[i] = if i >> log & 1 == 0 { before[i] + other } else { other - before[i] };
        }
    }
    x[..16].copy_from_slice(&y);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::levels;

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
        for log in 4..12 {
            let n = 1usize << log;
            let x: Vec<f32> = (0..n).map(|i| ((i * i + 3 * i) % 101) as f32 - 50.0).collect();
            let mut expected = x.clone();
            scalar(&mut expected);
            for level in levels() {
                let mut y = x.clone();
                transform(level, &mut y);
                assert_eq!(y, expected);
                transform(level, &mut y);
                assert!(x.iter().zip(&y).all(|(x, y)| x * n as f32 == *y));
            }
        }
    }
}
