//! Filters: which entries of a leaf a set of allowed ids admits.

use roaring::RoaringBitmap;

use crate::format::BLOCK;
use crate::format::set::SetRef;

/// Ids in a row of which one bit each is kept, at most: 512 KiB. Beyond, the set is asked itself.
const MOST_BITS: u64 = 1 << 22;
/// Ids of the set that are written as bits, for each entry that will probably be looked at, at most: every one of them is
/// written, whether it is met or not.
const BITS_PER_ENTRY: u64 = 4;

/// Entries of a leaf that a set admits, one bit each.
#[derive(Debug, Default)]
pub(crate) struct Mask {
    pub(crate) words: Vec<u32>,
    /// How many entries it admits.
    pub(crate) admitted: usize,
    /// Entries of the blocks that have to be scanned.
    pub(crate) touched: usize,
    /// The set itself as bits, from id `first` on; none if it is too large.
    bits: Vec<u64>,
    first: u32,
    has_bits: bool,
}

impl Mask {
    /// Prepares for a set of which about `entries` entries of leaves will be asked for.
    pub(crate) fn begin(&mut self, allowed: &RoaringBitmap, entries: u64) {
        self.has_bits = false;
        let (Some(min), Some(max)) = (allowed.min(), allowed.max()) else { return };
        self.first = min / 64 * 64;
        let span = u64::from(max - self.first) + 1;
        if span > MOST_BITS || allowed.len() > entries.saturating_mul(BITS_PER_ENTRY) {
            return;
        }
        self.bits.clear();
        self.bits.resize(usize::try_from(span.div_ceil(64)).unwrap_or(0), 0);
        for id in allowed {
            let at = id - self.first;
            if let Some(word) = self.bits.get_mut(at as usize / 64) {
                *word |= 1 << (at % 64);
            }
        }
        self.has_bits = true;
    }

    /// Intersects the ids of a leaf with the set.
    pub(crate) fn fill(&mut self, set: SetRef<'_>, allowed: &RoaringBitmap) {
        self.words.clear();
        self.words.resize(set.len().div_ceil(BLOCK), 0);
        self.admitted = 0;
        let (words, admitted) = (&mut self.words, &mut self.admitted);
        let mut admit = |position: usize, is_admitted: bool| {
            if let Some(word) = words.get_mut(position / BLOCK) {
                *word |= u32::from(is_admitted) << (position % BLOCK);
                *admitted += usize::from(is_admitted);
            }
        };
        if self.has_bits {
            let (bits, first) = (&self.bits, self.first);
            set.for_each(|position, id| {
                let at = id.wrapping_sub(first);
                let word = bits.get(at as usize / 64).copied().unwrap_or(0);
                admit(position, word >> (at % 64) & 1 == 1);
            });
        } else {
            set.for_each(|position, id| admit(position, allowed.contains(id)));
        }
        self.touched = BLOCK * self.words.iter().filter(|word| **word != 0).count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::set::write_set;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_and_the_set_itself_admit_the_same(
            ids in prop::collection::btree_set(0u32..200_000, 0..300),
            allowed in prop::collection::btree_set(0u32..200_000, 0..3000),
            shift in prop::sample::select(vec![0u32, 65_500, u32::MAX - 200_000]),
        ) {
            let ids: Vec<u32> = ids.into_iter().map(|id| id + shift).collect();
            // Half of the ids, too, so that some are allowed.
            let halves = ids.iter().copied().step_by(2);
            let allowed: RoaringBitmap = allowed.into_iter().map(|id| id + shift).chain(halves).collect();
            let mut bytes = Vec::new();
            write_set(&mut bytes, &ids);
            let set = SetRef::parse(&bytes).unwrap();
            for entries in [0, u64::MAX] {
                let mut mask = Mask::default();
                mask.begin(&allowed, entries);
                mask.fill(set, &allowed);
                for (position, id) in ids.iter().enumerate() {
                    let is_admitted = mask.words[position / BLOCK] >> (position % BLOCK) & 1 == 1;
                    prop_assert_eq!(is_admitted, allowed.contains(*id));
                }
                prop_assert_eq!(mask.admitted, ids.iter().filter(|id| allowed.contains(**id)).count());
            }
        }
    }
}
