//! Estimates from packed sketches: 32 entries per step, by table look-ups in registers.
//!
//! This is the FastScan scheme (Andre, Kermarrec, Le Scouarnec: Cache locality is not enough, VLDB
//! 2015; Quicker ADC, 2019; FAISS). A block holds one nibble per entry and position; a position's
//! table maps the nibble to a byte, and the bytes of all positions are summed per entry. The
//! estimate is `(along a + base) + b (delta * sum + bias)`, with a = 0 and b = 1 for codes without
//! factors.
//!
//! Measured: docs/trials.md, "Scan".

use fearless_simd::prelude::*;
use fearless_simd::{Simd, dispatch, f32x16, u8x64, u16x16, u16x32, u32x16};
use fearless_simd_macros::simd;

use crate::kernel::layout::{BLOCK, Code, Layout};
use crate::kernel::lut::TOP;
use crate::kernel::prefetch::prefetch;
use crate::kernel::simd::Level;

/// Positions whose bytes fit 16-bit sums. More are summed in groups.
const GROUP_POSITIONS: usize = 512;
const _: () = assert!(
    GROUP_POSITIONS * TOP as usize <= u16::MAX as usize && 2 * TOP as usize <= u8::MAX as usize
);

/// Packed sketches and the tables they are looked up in.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Scan<'a> {
    pub(crate) layout: Layout,
    pub(crate) blocks: &'a [u8],
    pub(crate) len: usize,
    /// 16 bytes per position, none above [`TOP`].
    pub(crate) tables: &'a [u8],
    pub(crate) delta: f32,
    pub(crate) bias: f32,
    pub(crate) base: f32,
    /// Times a.
    pub(crate) along: f32,
    /// What will be scanned next: a part of it is prefetched with each block.
    pub(crate) ahead: &'a [u8],
}

/// An entry whose estimate does not exceed the threshold.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) position: u32,
    pub(crate) estimate: f32,
}

/// Appends the entries whose estimate is not above `threshold`, in order of position.
///
/// `allowed` has one bit per entry, 32 to a word; blocks without a bit are not touched.
pub(crate) fn scan(
    simd: Level,
    scan: &Scan<'_>,
    allowed: Option<&[u32]>,
    threshold: f32,
    out: &mut Vec<Estimate>,
) {
    dispatch!(simd, simd => scan_with(simd, scan, allowed, threshold, out));
}

#[simd]
fn scan_with<S: Simd>(
    simd: S,
    scan: &Scan<'_>,
    allowed: Option<&[u32]>,
    threshold: f32,
    out: &mut Vec<Estimate>,
) {
    let limit = f32x16::splat(simd, threshold);
    let (delta, bias) = (f32x16::splat(simd, scan.delta), f32x16::splat(simd, scan.bias));
    let (base, along) = (f32x16::splat(simd, scan.base), f32x16::splat(simd, scan.along));
    let (block_bytes, code_bytes) = (scan.layout.block_bytes(), scan.layout.code_bytes());
    let has_factors = scan.layout.code == Code::Rotated;
    let mut ahead = scan.ahead;
    for (index, block) in scan.blocks.chunks_exact(block_bytes).enumerate() {
        let first = index * BLOCK;
        let (next, after) = ahead.split_at(block_bytes.min(ahead.len()));
        ahead = after;
        prefetch(next);
        let wanted = wanted(scan.len, first)
            & allowed.map_or(u32::MAX, |words| words.get(index).copied().unwrap_or(0));
        if wanted == 0 {
            continue;
        }
        let (codes, factors) = block.split_at(code_bytes);
        let (low, high) = sums(simd, codes, scan.tables);
        let mut low = f32x16::float_from(low) * delta + bias;
        let mut high = f32x16::float_from(high) * delta + bias;
        if has_factors {
            let (a, b) = factors.split_at(2 * BLOCK);
            let ((a_low, a_high), (b_low, b_high)) = (floats(simd, a), floats(simd, b));
            low = (a_low * along + base) + b_low * low;
            high = (a_high * along + base) + b_high * high;
        } else {
            low += base;
            high += base;
        }
        let above = low.simd_gt(limit).to_bitmask() | high.simd_gt(limit).to_bitmask() << 16;
        #[expect(clippy::cast_possible_truncation, reason = "32 entries")]
        let keep = !(above as u32) & wanted;
        // Few blocks have an entry that is near enough, once some leaves have been scanned: one
        // branch for all 32.
        if keep != 0 {
            let mut estimates = [0.0; BLOCK];
            low.store_slice(&mut estimates[..16]);
            high.store_slice(&mut estimates[16..]);
            push(first, keep, &estimates, out);
        }
    }
    prefetch(ahead);
}

/// Appends the entries of a block whose bits are set.
#[inline(always)]
fn push(first: usize, mut keep: u32, estimates: &[f32; BLOCK], out: &mut Vec<Estimate>) {
    out.reserve(BLOCK);
    while keep != 0 {
        let lane = keep.trailing_zeros();
        keep &= keep - 1;
        // Entries are counted in 32 bits in the header of a node.
        #[expect(clippy::cast_possible_truncation, reason = "a node has fewer than 2^32 entries")]
        let position = first as u32 + lane;
        out.push(Estimate { position, estimate: estimates[lane as usize % BLOCK] });
    }
}

/// The floats of which 32 factors are the upper halves.
#[inline(always)]
fn floats<S: Simd>(simd: S, factors: &[u8]) -> (f32x16<S>, f32x16<S>) {
    let halves: u16x32<S> = u8x64::from_slice(simd, &factors[..2 * BLOCK]).bitcast();
    let (low, high) = halves.widen();
    ((low << 16).bitcast(), (high << 16).bitcast())
}

/// The sum of the looked-up bytes of each entry. What is longer than a group takes a loop of its
/// own, so that the usual sketch goes without.
#[inline(always)]
fn sums<S: Simd>(simd: S, codes: &[u8], tables: &[u8]) -> (u32x16<S>, u32x16<S>) {
    const GROUP: usize = 16 * GROUP_POSITIONS;
    let (mut low, mut high) = group_sums(simd, &codes[..GROUP.min(codes.len())], tables);
    let rest = codes.chunks(GROUP).zip(tables.chunks(GROUP));
    if codes.len() > GROUP {
        for (codes, tables) in rest.skip(1) {
            let (more_low, more_high) = group_sums(simd, codes, tables);
            (low, high) = (low + more_low, high + more_high);
        }
    }
    (low, high)
}

/// Eight positions per step: each 16-byte lane of a register holds one position of all 32 entries.
#[inline(always)]
fn group_sums<S: Simd>(simd: S, codes: &[u8], tables: &[u8]) -> (u32x16<S>, u32x16<S>) {
    let nibble = u8x64::splat(simd, 0x0F);
    let zero = u16x32::splat(simd, 0);
    // Byte pairs are added as 16-bit numbers. The sums of the odd bytes give the carries of the
    // even ones.
    let (mut low, mut low_odd, mut high, mut high_odd) = (zero, zero, zero, zero);
    for (codes, tables) in codes.chunks_exact(128).zip(tables.chunks_exact(128)) {
        let ((c0, c1), (t0, t1)) = (codes.split_at(64), tables.split_at(64));
        let (c0, c1) = (u8x64::from_slice(simd, c0), u8x64::from_slice(simd, c1));
        let (t0, t1) = (u8x64::from_slice(simd, t0), u8x64::from_slice(simd, t1));
        // No byte overflows: see `TOP`.
        let a =
            t0.swizzle_dyn_within_blocks(c0 & nibble) + t1.swizzle_dyn_within_blocks(c1 & nibble);
        let (c0, c1): (u16x32<S>, u16x32<S>) = (c0.bitcast(), c1.bitcast());
        let (c0, c1): (u8x64<S>, u8x64<S>) = ((c0 >> 4).bitcast(), (c1 >> 4).bitcast());
        let b =
            t0.swizzle_dyn_within_blocks(c0 & nibble) + t1.swizzle_dyn_within_blocks(c1 & nibble);
        let (a, b): (u16x32<S>, u16x32<S>) = (a.bitcast(), b.bitcast());
        low += a;
        low_odd += a >> 8;
        high += b;
        high_odd += b >> 8;
    }
    let low = halves(low - (low_odd << 8), low_odd);
    let high = halves(high - (high_odd << 8), high_odd);
    low.combine(high).widen()
}

/// The sums of the four lanes of each, one after the other.
#[inline(always)]
fn halves<S: Simd>(a: u16x32<S>, b: u16x32<S>) -> u16x16<S> {
    let ((a0, a1), (b0, b1)) = (a.split(), b.split());
    let ((a0, a1), (b0, b1)) = ((a0 + a1).split(), (b0 + b1).split());
    a0.combine(b0) + a1.combine(b1)
}

/// The bits of the entries of a block that exist.
#[inline(always)]
fn wanted(len: usize, first: usize) -> u32 {
    match len.saturating_sub(first) {
        rest @ 0..BLOCK => (1u32 << rest) - 1,
        _ => u32::MAX,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::sketch::quantizer::bfloat16;

    /// The nibble of an entry, straight from the words of the specification.
    fn nibble(block: &[u8], position: usize, entry: usize) -> u8 {
        let bytes = &block[16 * position..16 * position + 16];
        let (j, odd) = (entry % 8, entry / 8 % 2);
        let byte = bytes[2 * j + odd];
        if entry < 16 { byte & 15 } else { byte >> 4 }
    }

    fn scalar(scan: &Scan<'_>, allowed: Option<&[u32]>, threshold: f32) -> Vec<Estimate> {
        let mut out = Vec::new();
        for entry in 0..scan.len {
            let (index, j) = (entry / BLOCK, entry % BLOCK);
            let block =
                &scan.blocks[index * scan.layout.block_bytes()..][..scan.layout.block_bytes()];
            let sum: u32 = (0..scan.layout.positions())
                .map(|p| u32::from(scan.tables[16 * p + usize::from(nibble(block, p, j))]))
                .sum();
            let mut estimate = sum as f32 * scan.delta + scan.bias;
            if scan.layout.code == Code::Rotated {
                let float = |at: usize| {
                    let at = scan.layout.code_bytes() + 2 * at;
                    f32::from_le_bytes([0, 0, block[at], block[at + 1]])
                };
                estimate = (float(j) * scan.along + scan.base) + float(32 + j) * estimate;
            } else {
                estimate += scan.base;
            }
            let is_allowed = allowed.is_none_or(|words| words[index] >> j & 1 == 1);
            let is_above = estimate > threshold;
            if is_allowed && !is_above {
                out.push(Estimate { position: u32::try_from(entry).unwrap(), estimate });
            }
        }
        out
    }

    proptest! {
        #[test]
        fn every_level_gives_the_answers_of_the_scalar_twin(
            seed in any::<u64>(), len in 1usize..100, width in 1usize..40, log_bits in 0u32..3,
            code in prop::sample::select(vec![Code::Rotated, Code::Grid, Code::Bits]), full in any::<bool>(), masked in any::<bool>(),
        ) {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
            let bits = if code == Code::Bits { 1 } else { 1 << log_bits };
            let layout = Layout { code, bits, width: 64 * width };
            let mut blocks = Vec::new();
            for _ in 0..len.div_ceil(BLOCK) {
                blocks.extend((0..layout.code_bytes()).map(|_| if full { 0xFF } else { rng.random::<u8>() }));
                blocks.extend((layout.code_bytes()..layout.block_bytes()).step_by(2).flat_map(|_| bfloat16(rng.random_range(-9f32..9.0)).to_le_bytes()));
            }
            let tables: Vec<u8> = (0..16 * layout.positions()).map(|_| if full { TOP } else { rng.random_range(0..=TOP) }).collect();
            let scan = Scan { layout, blocks: &blocks, len, tables: &tables, delta: 0.37, bias: -3.0, base: 11.0, along: 0.7, ahead: &blocks };
            let words: Vec<u32> = (0..len.div_ceil(BLOCK)).map(|_| rng.random::<u32>() & rng.random::<u32>()).collect();
            let allowed = masked.then_some(&words[..]);
            let all = scalar(&scan, None, f32::INFINITY);
            prop_assert_eq!(all.len(), len);
            for threshold in [f32::INFINITY, all[len / 2].estimate] {
                let expected = scalar(&scan, allowed, threshold);
                for simd in crate::kernel::simd::all() {
                    let mut out = Vec::new();
                    super::scan(simd, &scan, allowed, threshold, &mut out);
                    prop_assert_eq!(&out, &expected);
                }
            }
        }
    }
}
