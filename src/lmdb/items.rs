//! Reading items, with a cache of where they are in the map.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::error::Result;
use crate::format::item::{ItemRef, item_bytes};
use crate::key::Key;
use crate::lmdb::advise::{self, Ask, PAGE};
use crate::lmdb::cache::Cache;
use crate::lmdb::database::missing_item;
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
    cache: RefCell<Cache<&'t [u8]>>,
    /// Addresses of items by id, noted while the system is asked ahead.
    places: RefCell<BTreeMap<u32, usize>>,
}

impl<'t> Items<'t> {
    /// `max_cached`: items to cache, a power of two or 0.
    pub(crate) fn new(view: View<'t>, max_cached: usize) -> Self {
        Self { view, cache: RefCell::new(Cache::new(max_cached)), places: RefCell::default() }
    }

    /// Prefetches the cache slots of an item.
    pub(crate) fn prefetch(&self, id: u32) {
        self.cache.borrow().prefetch(u64::from(id));
    }

    /// The bytes of an item, if they are cached.
    pub(crate) fn cached(&self, id: u32) -> Option<&'t [u8]> {
        self.cache.borrow().get(u64::from(id))
    }

    /// The bytes of an item, if it exists.
    pub(crate) fn find_bytes(&self, id: u32) -> Result<Option<&'t [u8]>> {
        let cached = self.cached(id);
        if cached.is_some() { Ok(cached) } else { self.look_up(id) }
    }

    /// The bytes of an item that is not [`cached`](Self::cached), if it exists. Caches them.
    pub(crate) fn look_up(&self, id: u32) -> Result<Option<&'t [u8]>> {
        let bytes = self.view.get(Key::item(self.view.spec.index, id))?;
        if let Some(bytes) = bytes {
            self.cache.borrow_mut().put(u64::from(id), bytes);
            let mut places = self.places.borrow_mut();
            if advise::is_asking() && places.len() < MAX_CACHED_ITEMS {
                places.insert(id, bytes.as_ptr().addr());
            }
        }
        Ok(bytes)
    }

    /// Asks the system for the pages of items, if it is asked ahead. Ascending ids take fewest
    /// calls.
    pub(crate) fn ask(&self, ids: impl Iterator<Item = u32>) -> Result<()> {
        if !advise::is_asking() {
            return Ok(());
        }
        let mut ask = Ask::default();
        for id in ids {
            if let Some(bytes) = self.cached(id) {
                ask.value(bytes);
            } else if item_bytes(self.view.spec) > PAGE / 2 {
                // LMDB keeps it apart from its key: a look-up does not touch it.
                ask.value(self.look_up(id)?.unwrap_or_default());
            } else if let Some(place) = self.guess(id) {
                ask.range(place, place + 1);
            }
        }
        Ok(())
    }

    /// About where an item is that lies among others: LMDB fills pages in the order of ids. A wrong
    /// guess costs a page that nobody reads.
    fn guess(&self, id: u32) -> Option<usize> {
        let places = self.places.borrow();
        let (low_id, low) = places.range(..id).next_back()?;
        let (high_id, high) = places.range(id..).next()?;
        let (gap, span) = (high_id - low_id, high.checked_sub(*low)?);
        // Rows of one load lie close together. Others were written at another time.
        let is_near = gap <= MAX_GAP && span <= (gap as usize + 1) * PAGE;
        is_near.then(|| low + span / gap as usize * (id - low_id) as usize)
    }

    /// An item from its bytes.
    pub(crate) fn parse(&self, id: u32, bytes: &'t [u8]) -> Result<ItemRef<'t>> {
        let spec = self.view.spec;
        ItemRef::parse(Key::item(spec.index, id), bytes, spec)
    }

    /// An item, if it exists.
    pub(crate) fn find(&self, id: u32) -> Result<Option<ItemRef<'t>>> {
        self.find_bytes(id)?.map(|bytes| self.parse(id, bytes)).transpose()
    }

    /// An item that must exist, as other stored bytes name it.
    pub(crate) fn get(&self, id: u32) -> Result<ItemRef<'t>> {
        self.find(id)?.ok_or_else(|| missing_item(self.view.spec, id))
    }
}
