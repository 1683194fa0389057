//! Reading items, with a cache of where they are in the map.

use std::cell::RefCell;

use crate::error::Result;
use crate::format::item::ItemRef;
use crate::key::Key;
use crate::lmdb::cache::Cache;
use crate::lmdb::database::missing_item;
use crate::lmdb::view::View;

/// The largest number of items whose addresses a reader caches: docs/trials.md, "look-ups".
pub(crate) const MAX_CACHED_ITEMS: usize = 1 << 18;

/// The items of an index in one snapshot.
///
/// Look-ups would take most of the time of reranking: each waits for several pages that are in no
/// cache of the processor. Measured: docs/trials.md, "look-ups".
pub(crate) struct Items<'t> {
    pub(crate) view: View<'t>,
    cache: RefCell<Cache<&'t [u8]>>,
}

impl<'t> Items<'t> {
    /// `max_cached`: items to cache, a power of two or 0.
    pub(crate) fn new(view: View<'t>, max_cached: usize) -> Self {
        Self { view, cache: RefCell::new(Cache::new(max_cached)) }
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
        }
        Ok(bytes)
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
