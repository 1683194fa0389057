//! Components as they are stored, as numbers. All levels give the same bits: each component is
//! rounded after the product and after the sum: see
//! [`Scale::decode`](crate::storage::Scale::decode).

use fearless_simd::{Simd, dispatch};
use fearless_simd_macros::simd;

use crate::kernel::half::decode_halves;
use crate::kernel::simd::Level;
use crate::storage::Components;

/// Writes the components from the first on to `out`, as many as there are or as it has room for.
pub(crate) fn decode(simd: Level, components: Components<'_>, out: &mut [f32]) {
    dispatch!(simd, simd => decode_with(simd, components, out))
}

#[simd]
fn decode_with<S: Simd>(simd: S, components: Components<'_>, out: &mut [f32]) {
    decode_from(simd, components, 0, out);
}

/// Writes the components from `first` on, a multiple of 64 unless they end with `out`.
#[inline(always)]
pub(super) fn decode_from<S: Simd>(
    simd: S,
    components: Components<'_>,
    first: usize,
    out: &mut [f32],
) {
    match components {
        Components::Floats(floats) => {
            let rest = floats.get(first..).unwrap_or_default();
            out.iter_mut().zip(rest).for_each(|(out, x)| *out = *x);
        }
        Components::Halves(codes, scale) => {
            let rest = codes.get(first..).unwrap_or_default();
            let room = out.len().min(rest.len());
            decode_halves(simd, &rest[..room], scale, &mut out[..room]);
        }
        Components::Bytes(codes, scale) => {
            let rest = codes.get(first..).unwrap_or_default();
            out.iter_mut().zip(rest).for_each(|(out, code)| *out = scale.decode(f32::from(*code)));
        }
        Components::Signs { words, dims, scale } => {
            let levels = [scale.decode(-1.0), scale.decode(1.0)];
            let room = out.len().min(dims.saturating_sub(first));
            write_bits(words, first, levels, &mut out[..room]);
        }
        Components::Bits(words) => write_bits(words, first, [0.0, 1.0], out),
    }
}

/// Writes one of two levels for each bit from `first` on.
#[inline(always)]
fn write_bits(words: &[u64], first: usize, [low, high]: [f32; 2], out: &mut [f32]) {
    let words = words.get(first / 64..).unwrap_or_default();
    for (out, word) in out.chunks_mut(64).zip(words) {
        for (i, out) in out.iter_mut().enumerate() {
            *out = if word >> i & 1 == 1 { high } else { low };
        }
    }
}

/// Components as numbers, one by one: the scalar twin of [`decode`].
#[cfg(test)]
pub(crate) fn decode_one(components: Components<'_>, i: usize) -> f32 {
    let bit = |words: &[u64]| words[i / 64] >> (i % 64) & 1 == 1;
    match components {
        Components::Floats(floats) => floats[i],
        Components::Halves(codes, scale) => scale.decode(crate::kernel::half::widen(codes[i])),
        Components::Bytes(codes, scale) => scale.decode(f32::from(codes[i])),
        Components::Signs { words, scale, .. } => scale.decode(if bit(words) { 1.0 } else { -1.0 }),
        Components::Bits(words) => f32::from(u8::from(bit(words))),
    }
}
