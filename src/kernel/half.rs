//! IEEE half precision: 1 sign bit, 5 bits of exponent, 10 of mantissa.

use fearless_simd::Simd;
#[cfg(target_arch = "x86_64")]
use fearless_simd::{f32x8, prelude::*, u16x8};

use crate::storage::Scale;

/// The nearest half, of two the even one. What is too long becomes infinite.
#[expect(clippy::cast_possible_truncation, reason = "16 bits are left after the shifts")]
pub(crate) fn narrow(x: f32) -> u16 {
    let sign = (x.to_bits() >> 16 & 0x8000) as u16;
    let magnitude = x.abs();
    let half = if magnitude.is_nan() {
        0x7E00
    } else if magnitude >= 65_520.0 {
        0x7C00
    } else if magnitude < f32::from_bits(0x3880_0000) {
        // Below 2^-14: adding 0.5 leaves the rounded multiple of 2^-24 in the mantissa.
        ((magnitude + 0.5).to_bits() - 0.5f32.to_bits()) as u16
    } else {
        let bits = magnitude.to_bits() - (112 << 23);
        ((bits + 0xFFF + (bits >> 13 & 1)) >> 13) as u16
    };
    sign | half
}

/// The value of a half, exactly.
#[inline(always)]
pub(crate) fn widen(half: u16) -> f32 {
    // The exponent has another bias: 127 instead of 15. A product moves subnormal numbers, too.
    let magnitude = f32::from_bits(u32::from(half & 0x7FFF) << 13) * f32::from_bits(239 << 23);
    // Infinite ones and those that are no numbers have all bits of the exponent.
    let magnitude = if half & 0x7C00 == 0x7C00 {
        f32::from_bits(0x7F80_0000 | u32::from(half & 0x3FF) << 13)
    } else {
        magnitude
    };
    f32::from_bits(magnitude.to_bits() | u32::from(half & 0x8000) << 16)
}

/// Decodes halves into as many floats, by the processor's conversions where it has them.
#[inline(always)]
pub(super) fn decode_halves<S: Simd>(simd: S, halves: &[u16], scale: Scale, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(avx2) = simd.level().as_avx2() {
        return decode_with_avx2(avx2, halves, scale, out);
    }
    let _ = simd;
    out.iter_mut().zip(halves).for_each(|(out, half)| *out = scale.decode(widen(*half)));
}

fearless_simd::kernel!(
    #[inline]
    fn decode_with_avx2(avx2: Avx2, halves: &[u16], scale: Scale, out: &mut [f32]) {
        let factor = f32x8::splat(avx2, scale.factor);
        let offset = f32x8::splat(avx2, scale.offset);
        let (chunks, rest) = halves.as_chunks::<8>();
        let (outs, last) = out.as_chunks_mut::<8>();
        for (out, chunk) in outs.iter_mut().zip(chunks) {
            let halves: u16x8<_> = (*chunk).simd_into(avx2);
            let floats: f32x8<_> =
                std::arch::x86_64::_mm256_cvtph_ps(halves.into()).simd_into(avx2);
            *out = (floats * factor + offset).into();
        }
        last.iter_mut().zip(rest).for_each(|(out, half)| *out = scale.decode(widen(*half)));
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_comes_back_and_every_float_goes_to_the_nearest() {
        for half in 0..=u16::MAX {
            let wide = widen(half);
            if wide.is_nan() {
                assert!(half & 0x7C00 == 0x7C00 && widen(narrow(wide)).is_nan());
                continue;
            }
            assert_eq!(narrow(wide), half, "{wide}");
            let (exponent, mantissa) = (i32::from(half >> 10 & 31), f64::from(half & 1023));
            let value = match exponent {
                0 => mantissa * 2f64.powi(-24),
                31 => f64::INFINITY,
                _ => (1.0 + mantissa / 1024.0) * 2f64.powi(exponent - 15),
            };
            assert_eq!(f64::from(wide.abs()), value);
        }
        // Between two neighbours, the nearer one; in the middle, the even one.
        for half in 0..0x7BFFu16 {
            let (low, high) = (f64::from(widen(half)), f64::from(widen(half + 1)));
            let at = |part: f64| narrow((low + (high - low) * part) as f32);
            let even = half + (half & 1);
            assert_eq!([at(0.25), at(0.5), at(0.75)], [half, even, half + 1]);
        }
        assert_eq!((narrow(65_519.9), narrow(65_520.0)), (0x7BFF, 0x7C00));
        assert_eq!((narrow(1e-45), narrow(-f32::MAX)), (0, 0xFC00));
    }
}
