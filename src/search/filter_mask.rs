//! Filters: which entries of a leaf a set of allowed ids admits.

use roaring::RoaringBitmap;

use crate::format::id_set::{Containers, IdSetRef};
use crate::kernel::layout::BLOCK;

/// The largest range of ids of which a copy is kept, one bit each: 512 KiB. Beyond that, each id is
/// looked up in the set.
const MAX_BITS: u64 = 1 << 22;
/// The set is copied only if it has at most this many bytes for each entry to be scanned: copying
/// takes time for the whole set.
const MAX_BYTES_PER_ENTRY: u64 = 8;

/// Entries of a leaf that a set admits, one bit each.
#[derive(Debug, Default)]
pub(crate) struct Mask {
    pub(crate) words: Vec<u32>,
    /// How many entries it admits.
    pub(crate) admitted: usize,
    /// Entries of the blocks that hold an admitted one: those to scan.
    pub(crate) touched: usize,
    /// All entries of these blocks, as bits; set by [`Mask::touch`].
    pub(crate) touching: Vec<u32>,
    /// A copy of the set, one bit for each id from `first` on; stale unless `has_bits`.
    bits: Vec<u64>,
    serialized: Vec<u8>,
    first: u32,
    has_bits: bool,
}

impl Mask {
    /// Prepares for a set against which about `entries` entries of leaves will be checked.
    pub(crate) fn begin(&mut self, allowed: &RoaringBitmap, entries: u64) {
        self.has_bits = false;
        let (Some(min), Some(max)) = (allowed.min(), allowed.max()) else { return };
        self.first = min / 64 * 64;
        let span = u64::from(max - self.first) + 1;
        let bytes = allowed.serialized_size() as u64;
        if span > MAX_BITS || bytes > entries.saturating_mul(MAX_BYTES_PER_ENTRY) {
            return;
        }
        self.bits.clear();
        self.bits.resize(usize::try_from(span.div_ceil(64)).unwrap_or(0), 0);
        if !self.copy_containers(allowed) {
            allowed.iter().for_each(|id| self.set(id));
        }
        self.has_bits = true;
    }

    /// Copies the set container by container, which is faster than its iterator: docs/trials.md,
    /// "filter masks". Returns `false` if the set has run containers.
    fn copy_containers(&mut self, allowed: &RoaringBitmap) -> bool {
        let mut bytes = std::mem::take(&mut self.serialized);
        bytes.clear();
        let written = allowed.serialize_into(&mut bytes).is_ok();
        let set = if written { Containers::parse(&bytes) } else { None };
        if let Some(set) = set {
            set.write_bits(self.first, &mut self.bits);
        }
        let is_done = set.is_some();
        self.serialized = bytes;
        is_done
    }

    fn set(&mut self, id: u32) {
        let offset = id - self.first;
        if let Some(word) = self.bits.get_mut(offset as usize / 64) {
            *word |= 1 << (offset % 64);
        }
    }

    /// Marks all entries of each block that holds an admitted entry; at least the first block.
    ///
    /// A whole block costs as much as one entry. What is left out shows whether a filter is
    /// adverse.
    pub(crate) fn touch(&mut self) {
        self.touching.clear();
        self.touching.extend(self.words.iter().map(|word| if *word == 0 { 0 } else { u32::MAX }));
        if self.touched == 0
            && let Some(first) = self.touching.first_mut()
        {
            *first = u32::MAX;
            self.touched = BLOCK;
        }
    }

    /// Whether the set admits the entry at a position.
    pub(crate) fn admits(&self, position: usize) -> bool {
        self.words.get(position / BLOCK).is_some_and(|word| word >> (position % BLOCK) & 1 == 1)
    }

    /// Intersects the ids of a leaf with the set.
    pub(crate) fn fill(&mut self, set: IdSetRef<'_>, allowed: &RoaringBitmap) {
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
                let offset = id.wrapping_sub(first);
                let word = bits.get(offset as usize / 64).copied().unwrap_or(0);
                admit(position, word >> (offset % 64) & 1 == 1);
            });
        } else {
            set.for_each(|position, id| admit(position, allowed.contains(id)));
        }
        self.touched = BLOCK * self.words.iter().filter(|word| **word != 0).count();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::id_set::write_set;

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
            let set = IdSetRef::parse(&bytes).unwrap();
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
