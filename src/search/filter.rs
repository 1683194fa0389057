//! Filters: which entries of a leaf they admit.

use roaring::RoaringBitmap;

use crate::format::BLOCK;
use crate::format::set::SetRef;

/// Entries of a leaf that a filter admits, one bit each.
#[derive(Debug, Default)]
pub(crate) struct Mask {
    pub(crate) words: Vec<u32>,
    /// How many entries it admits.
    pub(crate) admitted: usize,
    /// Entries of the blocks that have to be scanned.
    pub(crate) touched: usize,
}

impl Mask {
    /// Intersects the ids of a leaf with the filter.
    pub(crate) fn fill(&mut self, set: SetRef<'_>, filter: &RoaringBitmap) {
        self.words.clear();
        self.words.resize(set.len().div_ceil(BLOCK), 0);
        self.admitted = 0;
        for (position, _) in set.iter().enumerate().filter(|(_, id)| filter.contains(*id)) {
            if let Some(word) = self.words.get_mut(position / BLOCK) {
                *word |= 1 << (position % BLOCK);
                self.admitted += 1;
            }
        }
        self.touched = BLOCK * self.words.iter().filter(|word| **word != 0).count();
    }
}
