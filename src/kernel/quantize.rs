//! The code of a vector on a b-bit grid.

use fearless_simd::prelude::*;
use fearless_simd::{Simd, dispatch, f32x16};
use fearless_simd_macros::simd;

use crate::kernel::simd::Level;

/// How well a grid fits a vector r: u is the grid point nearest to `r / step`, levels centred on 0.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub(crate) struct Fit {
    /// `<u, r>`.
    pub(crate) product: f32,
    /// `|u|^2`.
    pub(crate) squared_norm: f32,
}

/// Writes the codes of `r` for this step, `0..2^bits`, as floats, and returns how well they fit.
///
/// Code k stands for the level `k - (2^bits - 1) / 2`. `inverse` is 1 / step per dimension, or one
/// for all.
pub(crate) fn quantize(simd: Level, r: &[f32], inverse: f32, bits: u8, codes: &mut [f32]) -> Fit {
    dispatch!(simd, simd => quantize_with(simd, r, inverse, bits, codes))
}

#[simd]
fn quantize_with<S: Simd>(simd: S, r: &[f32], inverse: f32, bits: u8, codes: &mut [f32]) -> Fit {
    let top = f32::from((1u8 << bits) - 1);
    let (zero, top_lanes) = (f32x16::splat(simd, 0.0), f32x16::splat(simd, top));
    let centre = f32x16::splat(simd, top * 0.5);
    // floor(x + 2^b / 2) maps [k - 2^b / 2, k + 1 - 2^b / 2) to k.
    let shift = f32x16::splat(simd, (top + 1.0) * 0.5);
    let inverse = f32x16::splat(simd, inverse);
    let (mut product, mut squared_norm) = (zero, zero);
    for (r, codes) in r.chunks_exact(16).zip(codes.chunks_exact_mut(16)) {
        let r = f32x16::from_slice(simd, r);
        let code = (r * inverse + shift).floor().max(zero).min(top_lanes);
        let u = code - centre;
        product += u * r;
        squared_norm += u * u;
        code.store_slice(codes);
    }
    Fit { product: add_lanes(product.as_slice()), squared_norm: add_lanes(squared_norm.as_slice()) }
}

/// Adds 16 lanes in one fixed order.
#[inline(always)]
fn add_lanes(lanes: &[f32]) -> f32 {
    let mut sums = [0.0; 4];
    for lanes in lanes.chunks_exact(4) {
        sums.iter_mut().zip(lanes).for_each(|(sum, lane)| *sum += lane);
    }
    (sums[0] + sums[2]) + (sums[1] + sums[3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_nearest_levels_and_equal_at_every_level() {
        let r: Vec<f32> = (0..128u8).map(|i| (f32::from(i) - 64.0) * 0.11 + 0.013).collect();
        for bits in [1, 2, 4] {
            let top = f32::from((1u8 << bits) - 1);
            let mut reference = None;
            for simd in crate::kernel::simd::all() {
                let mut codes = vec![-1.0; r.len()];
                let fit = quantize(simd, &r, 0.8, bits, &mut codes);
                let mut exact = (0.0, 0.0);
                for (r, code) in r.iter().zip(&codes) {
                    let nearest = (r * 0.8 + top / 2.0).round().clamp(0.0, top);
                    assert!((code - nearest).abs() < 1e-3, "{r} has code {code}, not {nearest}");
                    let u = f64::from(code - top / 2.0);
                    exact = (exact.0 + u * f64::from(*r), exact.1 + u * u);
                }
                assert!((f64::from(fit.product) - exact.0).abs() < 1e-2);
                assert!((f64::from(fit.squared_norm) - exact.1).abs() < 1e-2);
                assert_eq!(*reference.get_or_insert((fit, codes.clone())), (fit, codes));
            }
        }
    }
}
