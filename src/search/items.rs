//! Reading items; a reader looks each up in LMDB once, as long as it remembers.

use std::cell::RefCell;

use heed::RoTxn;

use crate::cache::Cache;
use crate::database::{Database, ItemOf, missing_item};
use crate::error::Result;
use crate::format::item::ItemRef;

/// Items that a reader knows the places of, at most: 12 MiB of them.
pub(crate) const MOST_KNOWN: usize = 1 << 18;

/// The items of an index in one snapshot.
///
/// Most of the time that reranking would take is spent on look-ups: pages on the way to an item, and the keys around it, are
/// in no cache of the processor.
pub(crate) struct Items<'t> {
    pub(crate) db: Database,
    pub(crate) rtxn: &'t RoTxn<'t>,
    pub(crate) of: ItemOf,
    known: RefCell<Cache<ItemRef<'t>>>,
}

impl<'t> Items<'t> {
    /// `most`: items to remember, a power of two or 0.
    pub(crate) fn new(db: Database, rtxn: &'t RoTxn<'t>, of: ItemOf, most: usize) -> Self {
        Self { db, rtxn, of, known: RefCell::new(Cache::new(most)) }
    }

    /// An item, if it exists.
    pub(crate) fn find(&self, id: u32) -> Result<Option<ItemRef<'t>>> {
        let known = self.known.borrow().get(u64::from(id));
        if known.is_some() {
            return Ok(known);
        }
        let item = self.db.item(self.rtxn, self.of, id)?;
        if let Some(item) = item {
            self.known.borrow_mut().put(u64::from(id), item);
        }
        Ok(item)
    }

    /// An item that other stored bytes say exists.
    pub(crate) fn get(&self, id: u32) -> Result<ItemRef<'t>> {
        self.find(id)?.ok_or_else(|| missing_item(self.of, id))
    }
}
