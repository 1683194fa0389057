//! Putting numbers in their place among a few that are in order.

use fearless_simd::prelude::*;
use fearless_simd::{Simd, dispatch, u32x16, u64x8};
use fearless_simd_macros::simd;

use crate::kernel::simd::Level;

/// Numbers that are moved at once.
const LANES: usize = 8;
/// A mask of halves has two bits for each number. These are those of the lower halves.
const LOWER: u64 = 0x5555;

/// Puts each number in its place among `nearest`, the least `max` of all, in ascending order.
///
/// With `may_repeat`, of numbers with the same lower half only the least is kept.
pub(crate) fn insert_all(
    simd: Level,
    nearest: &mut Vec<u64>,
    max: usize,
    numbers: &[u64],
    may_repeat: bool,
) {
    dispatch!(simd, simd => insert_all_with(simd, nearest, max, numbers, may_repeat));
}

#[simd]
fn insert_all_with<S: Simd>(
    simd: S,
    nearest: &mut Vec<u64>,
    max: usize,
    numbers: &[u64],
    may_repeat: bool,
) {
    for number in numbers.iter().copied() {
        let is_full = nearest.len() >= max;
        if is_full && nearest.last().is_none_or(|last| *last <= number) {
            continue;
        }
        if may_repeat && has_lower_half(simd, nearest, number) {
            let of_same = nearest.iter().position(|known| lower_half(*known) == lower_half(number));
            insert(
                simd,
                nearest.get_mut(..=of_same.unwrap_or_default()).unwrap_or_default(),
                number,
            );
            continue;
        }
        if !is_full {
            nearest.push(u64::MAX);
        }
        insert(simd, nearest, number);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
fn lower_half(number: u64) -> u32 {
    number as u32
}

#[inline(always)]
fn has_lower_half<S: Simd>(simd: S, numbers: &[u64], wanted: u64) -> bool {
    let halves = u32x16::splat(simd, lower_half(wanted));
    let (chunks, rest) = numbers.as_chunks::<LANES>();
    let mut found = 0;
    for chunk in chunks {
        let known: u32x16<S> = u64x8::from_slice(simd, chunk).bitcast();
        found |= known.simd_eq(halves).to_bitmask();
    }
    rest.iter()
        .fold(found & LOWER != 0, |found, known| found | (lower_half(*known) == lower_half(wanted)))
}

/// Puts a number in its place among those in order. The largest of all goes.
///
/// There is no branch: the processor could not guess where the place is. Whole chunks are read as
/// the insertion before wrote them. Else reads would wait for writes.
#[inline(always)]
fn insert<S: Simd>(simd: S, numbers: &mut [u64], number: u64) {
    // What comes to a place is the least of what was there and of what is pushed on from before.
    let whole = numbers.len() / LANES * LANES;
    for place in (whole.max(1)..numbers.len()).rev() {
        numbers[place] = numbers[place].min(numbers[place - 1].max(number));
    }
    let inserted = u64x8::splat(simd, number);
    let (chunks, rest) = numbers.as_chunks_mut::<LANES>();
    let Some(first) = chunks.len().checked_sub(1) else {
        return rest.iter_mut().take(1).for_each(|first| *first = number.min(*first));
    };
    let mut here = u64x8::from_slice(simd, &chunks[first]);
    for place in (0..chunks.len()).rev() {
        let before = match place.checked_sub(1) {
            Some(before) => u64x8::from_slice(simd, &chunks[before]),
            None => u64x8::splat(simd, 0),
        };
        let pushed = before.slide::<{ LANES - 1 }>(here).max(inserted);
        here.min(pushed).store_slice(&mut chunks[place]);
        here = before;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_keeps_what_sorting_would_keep(
            numbers in prop::collection::vec((0u32..60, 0u32..1000), 0..300),
            max in 1usize..200,
            may_repeat: bool,
            parts in 1usize..40,
        ) {
            let numbers: Vec<u64> = (0u32..).zip(numbers).map(|(i, (id, score))| {
                u64::from(score) << 32 | u64::from(if may_repeat { id } else { i })
            }).collect();
            let mut least = HashMap::new();
            for number in &numbers {
                let slot = least.entry(lower_half(*number)).or_insert(*number);
                *slot = (*slot).min(*number);
            }
            let mut expected: Vec<u64> = least.into_values().collect();
            expected.sort_unstable();
            expected.truncate(max);
            for simd in crate::kernel::simd::all() {
                let mut nearest = Vec::new();
                numbers.chunks(parts).for_each(|some| insert_all(simd, &mut nearest, max, some, may_repeat));
                prop_assert_eq!(&nearest, &expected);
            }
        }
    }
}
