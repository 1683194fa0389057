//! Estimates from packed sketches: 32 entries per step, by table look-ups in registers.
//!
//! This is the FastScan scheme (Andre, Kermarrec, Le Scouarnec: Cache locality is not enough, VLDB 2015; Quicker ADC,
//! 2019; FAISS). A block holds one nibble per entry and position; a position's table maps the nibble to a byte, and the
//! bytes of all positions are summed per entry. The estimate is `(a + base) + b (delta * sum + bias)`, with a = 0 and
//! b = 1 for codes without factors.

use fearless_simd::{Simd, dispatch, f32x16, prelude::*, u8x64, u16x8, u16x32, u32x16};
use fearless_simd_macros::simd;

use super::Level;
use crate::format::BLOCK;
use crate::format::node::{Code, Layout};

/// Positions whose bytes fit 16-bit sums: 256 * 255 < 2^16. More are summed in groups.
const GROUP_POSITIONS: usize = 256;

/// Packed sketches and the tables they are looked up in.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Scan<'a> {
    pub(crate) layout: Layout,
    pub(crate) blocks: &'a [u8],
    pub(crate) len: usize,
    /// 16 bytes per position.
    pub(crate) tables: &'a [u8],
    pub(crate) delta: f32,
    pub(crate) bias: f32,
    pub(crate) base: f32,
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
pub(crate) fn scan(level: Level, scan: &Scan<'_>, allowed: Option<&[u32]>, threshold: f32, out: &mut Vec<Estimate>) {
    dispatch!(level, simd => scan_with(simd, scan, allowed, threshold, out));
}

#[simd]
fn scan_with<S: Simd>(simd: S, scan: &Scan<'_>, allowed: Option<&[u32]>, threshold: f32, out: &mut Vec<Estimate>) {
    let limit = f32x16::splat(simd, threshold);
    let (delta, bias) = (f32x16::splat(simd, scan.delta), f32x16::splat(simd, scan.bias));
    let base = f32x16::splat(simd, scan.base);
    for (index, block) in scan.blocks.chunks_exact(scan.layout.block_bytes()).enumerate() {
        let first = index * BLOCK;
        let wanted = wanted(scan.len, first) & allowed.map_or(u32::MAX, |words| words.get(index).copied().unwrap_or(0));
        if wanted == 0 {
            continue;
        }
        let (codes, factors) = block.split_at(scan.layout.code_bytes());
        let sums = sums(simd, codes, scan.tables);
        for half in 0..2 {
            let sum = f32x16::float_from(u32x16::from_slice(simd, &sums[16 * half..16 * half + 16]));
            let mut estimate = sum * delta + bias;
            if scan.layout.code == Code::Rotated {
                let a: f32x16<S> = u8x64::from_slice(simd, &factors[64 * half..64 * half + 64]).bitcast();
                let b: f32x16<S> = u8x64::from_slice(simd, &factors[128 + 64 * half..192 + 64 * half]).bitcast();
                estimate = (a + base) + b * estimate;
            } else {
                estimate += base;
            }
            let above = estimate.simd_gt(limit).to_bitmask();
            let mut keep = !above & u64::from(wanted >> (16 * half) & 0xFFFF);
            while keep != 0 {
                let lane = keep.trailing_zeros();
                keep &= keep - 1;
                // Entries are counted in 32 bits in the header of a node.
                #[expect(clippy::cast_possible_truncation, reason = "a node has fewer than 2^32 entries")]
                let position = (first + 16 * half) as u32 + lane;
                out.push(Estimate { position, estimate: estimate.as_slice()[lane as usize] });
            }
        }
    }
}

/// The bits of the entries of a block that exist.
#[inline(always)]
fn wanted(len: usize, first: usize) -> u32 {
    match len.saturating_sub(first) {
        rest @ 0..BLOCK => (1u32 << rest) - 1,
        _ => u32::MAX,
    }
}

/// The sum of the looked-up bytes of each entry.
#[inline(always)]
fn sums<S: Simd>(simd: S, codes: &[u8], tables: &[u8]) -> [u32; BLOCK] {
    let mut total = [0u32; BLOCK];
    for (codes, tables) in codes.chunks(16 * GROUP_POSITIONS).zip(tables.chunks(16 * GROUP_POSITIONS)) {
        let group = group_sums(simd, codes, tables);
        total.iter_mut().zip(group).for_each(|(total, sum)| *total += u32::from(sum));
    }
    total
}

/// Four positions per step: each 16-byte lane of a register holds one position of all 32 entries.
#[inline(always)]
fn group_sums<S: Simd>(simd: S, codes: &[u8], tables: &[u8]) -> [u16; BLOCK] {
    let nibble = u8x64::splat(simd, 0x0F);
    let zero = u16x32::splat(simd, 0);
    // Byte pairs are added as 16-bit numbers; the sums of the odd bytes tell what spilled from the even ones.
    let (mut low, mut low_odd, mut high, mut high_odd) = (zero, zero, zero, zero);
    for (codes, tables) in codes.chunks_exact(64).zip(tables.chunks_exact(64)) {
        let codes = u8x64::from_slice(simd, codes);
        let tables = u8x64::from_slice(simd, tables);
        let shifted: u8x64<S> = (codes.bitcast::<u16x32<S>>() >> 4).bitcast();
        let a: u16x32<S> = tables.swizzle_dyn_within_blocks(codes & nibble).bitcast();
        let b: u16x32<S> = tables.swizzle_dyn_within_blocks(shifted & nibble).bitcast();
        low += a;
        low_odd += a >> 8;
        high += b;
        high_odd += b >> 8;
    }
    let parts = [low - (low_odd << 8), low_odd, high - (high_odd << 8), high_odd];
    let mut out = [0; BLOCK];
    for (out, part) in out.chunks_exact_mut(8).zip(parts) {
        add_lanes(part).store_slice(out);
    }
    out
}

#[inline(always)]
fn add_lanes<S: Simd>(sum: u16x32<S>) -> u16x8<S> {
    let (low, high) = sum.split();
    let (a, b) = (low + high).split();
    a + b
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::levels;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

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
            let block = &scan.blocks[index * scan.layout.block_bytes()..][..scan.layout.block_bytes()];
            let sum: u32 = (0..scan.layout.positions())
                .map(|p| u32::from(scan.tables[16 * p + usize::from(nibble(block, p, j))]))
                .sum();
            let mut estimate = sum as f32 * scan.delta + scan.bias;
            if scan.layout.code == Code::Rotated {
                let float = |at: usize| {
                    let at = scan.layout.code_bytes() + 4 * at;
                    f32::from_le_bytes(block[at..at + 4].try_into().unwrap())
                };
                estimate = (float(j) + scan.base) + float(32 + j) * estimate;
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
            seed in any::<u64>(), len in 1usize..100, width in 1usize..30, log_bits in 0u32..3,
            code in prop::sample::select(vec![Code::Rotated, Code::Grid, Code::Bits]), full in any::<bool>(), masked in any::<bool>(),
        ) {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
            let bits = if code == Code::Bits { 1 } else { 1 << log_bits };
            let layout = Layout { code, bits, width: 64 * width };
            let mut blocks = Vec::new();
            for _ in 0..len.div_ceil(BLOCK) {
                blocks.extend((0..layout.code_bytes()).map(|_| if full { 0xFF } else { rng.random::<u8>() }));
                blocks.extend((layout.code_bytes()..layout.block_bytes()).step_by(4).flat_map(|_| rng.random_range(-9f32..9.0).to_le_bytes()));
            }
            let tables: Vec<u8> = (0..16 * layout.positions()).map(|_| if full { 0xFF } else { rng.random() }).collect();
            let scan = Scan { layout, blocks: &blocks, len, tables: &tables, delta: 0.37, bias: -3.0, base: 11.0 };
            let words: Vec<u32> = (0..len.div_ceil(BLOCK)).map(|_| rng.random::<u32>() & rng.random::<u32>()).collect();
            let allowed = masked.then_some(&words[..]);
            let all = scalar(&scan, None, f32::INFINITY);
            prop_assert_eq!(all.len(), len);
            for threshold in [f32::INFINITY, all[len / 2].estimate] {
                let expected = scalar(&scan, allowed, threshold);
                for level in levels() {
                    let mut out = Vec::new();
                    super::scan(level, &scan, allowed, threshold, &mut out);
                    prop_assert_eq!(&out, &expected);
                }
            }
        }
    }
}
