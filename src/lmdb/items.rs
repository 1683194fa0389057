//! Reading items; a reader looks each up in LMDB once, as long as it remembers.

use std::cell::RefCell;

use crate::error::Result;
use crate::format::item::ItemRef;
use crate::key::Key;
use crate::lmdb::cache::Cache;
use crate::lmdb::database::missing_item;
use crate::lmdb::view::View;

/// Items that a reader knows the places of, at most: 12 MiB of them.
pub(crate) const MAX_CACHED_ITEMS: usize = 1 << 18;

/// The items of an index in one snapshot.
///
/// Most of the time that reranking would take is spent on look-ups: pages on the way to an item,
/// and the keys around it, are in no cache of the processor.
pub(crate) struct Items<'t> {
    pub(crate) view: View<'t>,
    known: RefCell<Cache<&'t [u8]>>,
}

impl<'t> Items<'t> {
    /// `most`: items to remember, a power of two or 0.
    pub(crate) fn new(view: View<'t>, most: usize) -> Self {
        Self { view, known: RefCell::new(Cache::new(most)) }
    }

    /// Prefetches what is remembered of where an item is.
    pub(crate) fn prefetch(&self, id: u32) {
        self.known.borrow().prefetch(u64::from(id));
    }

    /// The bytes of an item that was looked up before.
    pub(crate) fn remembered(&self, id: u32) -> Option<&'t [u8]> {
        self.known.borrow().get(u64::from(id))
    }

    /// The bytes of an item, if it exists.
    pub(crate) fn find_bytes(&self, id: u32) -> Result<Option<&'t [u8]>> {
        let known = self.remembered(id);
        if known.is_some() { Ok(known) } else { self.look_up(id) }
    }

    /// The bytes of an item that is not [`remembered`](Self::remembered), if it exists.
    pub(crate) fn look_up(&self, id: u32) -> Result<Option<&'t [u8]>> {
        let bytes = self.view.get(Key::item(self.view.spec.index, id))?;
        if let Some(bytes) = bytes {
            self.known.borrow_mut().put(u64::from(id), bytes);
        }
        Ok(bytes)
    }

    /// An item by its bytes.
    pub(crate) fn parse(&self, id: u32, bytes: &'t [u8]) -> Result<ItemRef<'t>> {
        let spec = self.view.spec;
        ItemRef::parse(Key::item(spec.index, id), bytes, spec)
    }

    /// An item, if it exists.
    pub(crate) fn find(&self, id: u32) -> Result<Option<ItemRef<'t>>> {
        self.find_bytes(id)?.map(|bytes| self.parse(id, bytes)).transpose()
    }

    /// An item that other stored bytes say exists.
    pub(crate) fn get(&self, id: u32) -> Result<ItemRef<'t>> {
        self.find(id)?.ok_or_else(|| missing_item(self.view.spec, id))
    }
}
