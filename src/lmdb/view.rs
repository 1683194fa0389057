//! One index in one transaction.

use std::ops::RangeInclusive;

use heed::RoTxn;

use crate::error::Result;
use crate::index_spec::IndexSpec;
use crate::key::{Key, Kind};
use crate::lmdb::database::{Database, Entries};
use crate::lmdb::item::{ItemBytes, ItemEntries, StoredItem, Tails};

/// What reading an index takes: database, transaction and spec.
#[derive(Copy, Clone)]
pub(crate) struct View<'t> {
    pub(crate) db: Database,
    pub(crate) rtxn: &'t RoTxn<'t>,
    pub(crate) spec: IndexSpec,
}

impl<'t> View<'t> {
    pub(crate) fn new(db: Database, rtxn: &'t RoTxn<'t>, spec: IndexSpec) -> Self {
        Self { db, rtxn, spec }
    }

    pub(crate) fn get(&self, key: Key) -> Result<Option<&'t [u8]>> {
        self.db.get(self.rtxn, key)
    }

    /// All entries of one kind, by ascending key.
    pub(crate) fn iter(&self, kind: Kind) -> Result<Entries<'t>> {
        self.db.iter(self.rtxn, self.spec.index, kind)
    }

    /// The entries of one kind that these trees have, by ascending key.
    pub(crate) fn iter_trees(&self, kind: Kind, trees: &RangeInclusive<u8>) -> Result<Entries<'t>> {
        self.db.range(self.rtxn, Key::trees(self.spec.index, kind, trees))
    }

    /// An item, if it exists.
    pub(crate) fn item(&self, id: u32) -> Result<Option<StoredItem<'t>>> {
        self.db.item(self.rtxn, self.spec, id)
    }

    /// The bytes of an item, if it exists.
    pub(crate) fn item_bytes(&self, id: u32) -> Result<Option<ItemBytes<'t>>> {
        self.db.item_bytes(self.rtxn, self.spec, id)
    }

    /// An item's value, and its tail if it has one.
    pub(crate) fn with_tail(&self, id: u32, value: &'t [u8]) -> Result<ItemBytes<'t>> {
        self.db.with_tail(self.rtxn, self.spec, id, value)
    }

    /// Whether a tail belongs to an item.
    pub(crate) fn has_head(&self, tail: Key) -> Result<bool> {
        self.db.has_head(self.rtxn, self.spec, tail)
    }

    /// All items, by ascending id.
    pub(crate) fn items(&self) -> Result<ItemEntries<'t>> {
        self.db.items_from(self.rtxn, self.spec, 0)
    }

    /// The tails of all items.
    pub(crate) fn tails(&self) -> Result<Tails<'t>> {
        self.db.tails_from(self.rtxn, self.spec, 0)
    }

    /// The ids of all items, ascending.
    pub(crate) fn ids(&self) -> Result<impl Iterator<Item = Result<u32>> + use<'t>> {
        Ok(self.iter(Kind::Item)?.map(|entry| entry.map(|(key, _)| key.id())))
    }
}
