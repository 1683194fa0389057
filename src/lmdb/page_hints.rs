//! Where items were when they were last looked up: hints that outlive the transaction.
//!
//! Of a look-up in LMDB that finds its item in no cache of the processor, most of the time goes
//! into waiting for the page that holds it: for its translation, for its header, for the keys that
//! a binary search compares, one after the other. A reader remembers where its items are, but a new
//! one, or one that meets an item for the first time, does not know. So the pages of items are kept
//! here, for all readers of the process, and those that a search will want are sent for all at
//! once.
//!
//! In trials with an AMD EPYC, searches for 10 nearest with a recall of .95 by a new reader took 32
//! us instead of 40 among 100,000 vectors of sift and 104 instead of 121 among 1,000,000; those by
//! a reader that had answered 20,000 others, 80 instead of 95.
//!
//! Pages move when something on them is written, a group of ids may lie on two of them, and the
//! same index of two environments shares its slots: what is kept here is a hint, which is never
//! read through.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::format::item::item_bytes;
use crate::index_spec::IndexSpec;
use crate::kernel::prefetch::prefetch_address;

/// Bytes of a page of LMDB where this matters: that of the operating system.
const PAGE: usize = 4096;
/// Of these, bytes of the header and of each node's offset.
const PAGE_HEADER: usize = 16;
const OFFSET: usize = 2;
/// Bytes of a node before its value: its header and our key.
const NODE_HEADER: usize = 8 + 8;
/// The largest node that LMDB puts on a page with others; larger values have pages of their own,
/// which nothing searches.
const MAX_NODE: usize = (PAGE - PAGE_HEADER) / 2 - OFFSET;
/// Nodes of a page whose keys are sent for, at most.
const MAX_KEYS: usize = 8;
/// Slots: 4 MiB, of which those count that have been written to.
const SLOTS: usize = 1 << 19;

/// The page of each group of ids, or zero. What is below a page's address tells groups apart that
/// share a slot.
static PAGES: [AtomicUsize; SLOTS] = [const { AtomicUsize::new(0) }; SLOTS];

/// The places of the items of an index.
#[derive(Copy, Clone, Debug)]
pub(crate) struct PageHints {
    /// Bytes of a node; zero if items have pages of their own.
    node: usize,
    /// Ids of a group, as a power of two: as many as are on a page, or fewer.
    shift: u32,
    /// From each key that is sent for to the next.
    step: usize,
    /// Where the groups of this index begin.
    first: usize,
}

impl PageHints {
    pub(crate) fn new(spec: IndexSpec) -> Self {
        let node = NODE_HEADER + item_bytes(spec);
        let on_a_page = ((PAGE - PAGE_HEADER) / (node + OFFSET)).max(1);
        // Far from each other, as the groups of an index are next to each other (Fibonacci
        // hashing).
        let first = usize::from(spec.index).wrapping_mul(0x9E37_79B1);
        let step = node * on_a_page.div_ceil(MAX_KEYS);
        Self { node: if node > MAX_NODE { 0 } else { node }, shift: on_a_page.ilog2(), step, first }
    }

    fn slot(&self, id: u32) -> (&'static AtomicUsize, usize) {
        let group = (id as usize >> self.shift).wrapping_add(self.first);
        (&PAGES[group % SLOTS], group / SLOTS % PAGE)
    }

    /// Sends for what is known of where an item is.
    pub(crate) fn prefetch(&self, id: u32) {
        if self.node > 0 {
            prefetch_address(std::ptr::from_ref(self.slot(id).0).addr());
        }
    }

    /// The address of the page on which the items of this group were found last.
    fn page(&self, id: u32) -> Option<usize> {
        let (slot, tag) = self.slot(id);
        let known = slot.load(Ordering::Relaxed);
        let page = known & !(PAGE - 1);
        (self.node != 0 && page != 0 && known % PAGE == tag).then_some(page)
    }

    /// Sends for what a search of the page of an item reads, if it is known.
    pub(crate) fn prefetch_page(&self, id: u32) {
        let Some(page) = self.page(id) else { return };
        prefetch_address(page);
        // Nodes lie at the end of a page, one before the other.
        let mut at = PAGE;
        while at >= self.step + PAGE_HEADER {
            at -= self.step;
            prefetch_address(page + at);
        }
    }

    /// Keeps where an item was found.
    pub(crate) fn remember(&self, id: u32, bytes: &[u8]) {
        let (slot, tag) = self.slot(id);
        let known = bytes.as_ptr().addr() & !(PAGE - 1) | tag;
        // Writing what is there already would take the line from other processors.
        if self.node > 0 && slot.load(Ordering::Relaxed) != known {
            slot.store(known, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Metric;

    /// An index of its own for each test, as all share the slots.
    fn places(index: u16, dims: usize) -> PageHints {
        PageHints::new(IndexSpec { index, dims, metric: Metric::Euclidean })
    }

    #[test]
    fn the_page_that_was_remembered_last_is_told_to_its_group_alone() {
        let places = places(51_001, 128);
        // Seven nodes of 544 bytes are on a page: groups of four ids.
        assert_eq!((places.shift, places.step), (2, 544));
        let pages = vec![0u8; 4 * PAGE];
        let address = |at: usize| pages[at..].as_ptr().addr() & !(PAGE - 1);
        assert_eq!(places.page(8), None);
        places.remember(8, &pages[10..20]);
        places.remember(12, &pages[2 * PAGE..]);
        assert_eq!([8, 9, 11].map(|id| places.page(id)), [Some(address(10)); 3]);
        assert_eq!(places.page(7), None);
        places.remember(11, &pages[PAGE + 10..]);
        assert_eq!(
            [8, 12].map(|id| places.page(id)),
            [Some(address(PAGE + 10)), Some(address(2 * PAGE))]
        );
        // Ids that share a slot do not take each other's page for theirs.
        let other = u32::try_from(4 * SLOTS).unwrap() + 8;
        assert!(std::ptr::eq(places.slot(8).0, places.slot(other).0));
        assert_eq!(places.page(other), None);
        places.remember(other, &pages[..1]);
        assert_eq!([8, other].map(|id| places.page(id)), [None, Some(address(0))]);
    }

    #[test]
    fn any_id_of_any_index_and_any_address_will_do() {
        let bytes = [0u8; 64];
        for (index, dims) in [(51_002, 1), (u16::MAX, 380), (51_004, 381), (51_003, 65_535)] {
            let places = places(index, dims);
            for id in [0, 1, u32::MAX] {
                places.remember(id, &bytes[id as usize % 7..]);
                places.prefetch(id);
                places.prefetch_page(id);
            }
            // Values with pages of their own are not on the page that names them.
            assert_eq!(places.page(1).is_some(), dims < 502, "{dims}");
        }
    }
}
