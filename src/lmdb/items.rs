//! Reading items, with a cache of where they are in the map.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::error::Result;
use crate::format::item::item_bytes;
use crate::key::Key;
use crate::lmdb::advise::{self, Ask, PAGE};
use crate::lmdb::cache::Cache;
use crate::lmdb::item::{Cut, ItemBytes, StoredItem, missing_item};
use crate::lmdb::view::View;

/// The largest number of items whose addresses a reader caches: docs/trials.md, "look-ups".
pub(crate) const MAX_CACHED_ITEMS: usize = 1 << 18;

/// Ids between two items whose places are known, up to which the places between are guessed.
const MAX_GAP: u32 = 256;

/// The items of an index in one snapshot.
///
/// Look-ups would take most of the time of reranking: each waits for several pages that are in no
/// cache of the processor. Measured: docs/trials.md, "look-ups".
pub(crate) struct Items<'t> {
    pub(crate) view: View<'t>,
    cut: Cut,
    /// Values: whole items, or their heads.
    values: RefCell<Cache<&'t [u8]>>,
    /// Of items that are cut. It holds nothing if none are.
    tails: RefCell<Cache<&'t [u8]>>,
    /// Addresses by id of what is read within pages of LMDB: items, or tails. Noted while the
    /// system is asked ahead.
    places: RefCell<BTreeMap<u32, usize>>,
    /// Room in which items that are cut are joined.
    pub(crate) joined: Cell<Vec<u64>>,
}

impl<'t> Items<'t> {
    /// `max_cached`: items to cache, a power of two or 0.
    pub(crate) fn new(view: View<'t>, max_cached: usize) -> Self {
        Self {
            view,
            cut: Cut::new(view.spec),
            values: RefCell::new(Cache::new(max_cached)),
            tails: RefCell::new(Cache::new(max_cached)),
            places: RefCell::default(),
            joined: Cell::default(),
        }
    }

    /// Prefetches the cache slots of an item.
    pub(crate) fn prefetch(&self, id: u32) {
        self.values.borrow().prefetch(u64::from(id));
        if self.cut.is_cut() {
            self.tails.borrow().prefetch(u64::from(id));
        }
    }

    /// The bytes of an item, if they are cached.
    pub(crate) fn cached(&self, id: u32) -> Option<ItemBytes<'t>> {
        let head = self.values.borrow().get(u64::from(id))?;
        if !self.cut.is_head(head) {
            return Some(ItemBytes { head, tail: &[] });
        }
        let tail = self.tails.borrow().get(u64::from(id))?;
        Some(ItemBytes { head, tail })
    }

    /// The bytes of an item that is not [`cached`](Self::cached), if it exists. Caches them.
    pub(crate) fn look_up(&self, id: u32) -> Result<Option<ItemBytes<'t>>> {
        // Of an item that is cut, the head alone may be cached.
        let cached = if self.cut.is_cut() { self.values.borrow().get(u64::from(id)) } else { None };
        let found = if cached.is_some() { cached } else { self.look_up_value(id)? };
        let Some(head) = found else { return Ok(None) };
        if !self.cut.is_head(head) {
            self.note(id, head);
            return Ok(Some(ItemBytes { head, tail: &[] }));
        }
        let bytes = self.view.with_tail(id, head)?;
        self.tails.borrow_mut().put(u64::from(id), bytes.tail);
        self.note(id, bytes.tail);
        Ok(Some(bytes))
    }

    /// The value of an item, without its tail. Caches it.
    fn look_up_value(&self, id: u32) -> Result<Option<&'t [u8]>> {
        let value = self.view.get(Key::item(self.view.spec.index, id))?;
        if let Some(value) = value {
            self.values.borrow_mut().put(u64::from(id), value);
        }
        Ok(value)
    }

    fn note(&self, id: u32, bytes: &[u8]) {
        if advise::is_asking() {
            let mut places = self.places.borrow_mut();
            if places.len() < MAX_CACHED_ITEMS {
                places.insert(id, bytes.as_ptr().addr());
            }
        }
    }

    /// Asks the system for the pages of items, if it is asked ahead. Ascending ids take fewest
    /// calls.
    pub(crate) fn ask(&self, ids: impl Iterator<Item = u32>) -> Result<()> {
        if !advise::is_asking() {
            return Ok(());
        }
        let is_apart = item_bytes(self.view.spec) > PAGE / 2;
        let (mut apart, mut within) = (Ask::default(), Ask::default());
        for id in ids {
            if let Some(bytes) = self.cached(id) {
                apart.value(bytes.head);
                within.value(bytes.tail);
                continue;
            }
            if is_apart {
                // LMDB keeps it apart from its key: a look-up does not touch it.
                apart.value(self.look_up_value(id)?.unwrap_or_default());
            }
            // A look-up of what lies beside its key waits for it.
            if (!is_apart || self.cut.is_cut())
                && let Some(place) = self.guess(id)
            {
                within.range(place, place + 1);
            }
        }
        Ok(())
    }

    /// About where an item or a tail is that lies among others: LMDB fills pages in the order of
    /// ids. A wrong guess costs a page that nobody reads.
    fn guess(&self, id: u32) -> Option<usize> {
        let places = self.places.borrow();
        let (low_id, low) = places.range(..id).next_back()?;
        let (high_id, high) = places.range(id..).next()?;
        let (gap, span) = (high_id - low_id, high.checked_sub(*low)?);
        // Rows of one load lie close together. Others were written at another time.
        let is_near = gap <= MAX_GAP && span <= (gap as usize + 1) * PAGE;
        is_near.then(|| low + span / gap as usize * (id - low_id) as usize)
    }

    /// An item, if it exists.
    pub(crate) fn find(&self, id: u32) -> Result<Option<StoredItem<'t>>> {
        let cached = self.cached(id);
        let bytes = if cached.is_some() { cached } else { self.look_up(id)? };
        let spec = self.view.spec;
        bytes.map(|bytes| StoredItem::new(Key::item(spec.index, id), spec, bytes)).transpose()
    }

    /// An item that must exist, as other stored bytes name it.
    pub(crate) fn get(&self, id: u32) -> Result<StoredItem<'t>> {
        self.find(id)?.ok_or_else(|| missing_item(self.view.spec, id))
    }
}
