//! Items as LMDB holds them. Only this room knows that long values are cut: the others get them
//! whole.

use std::iter::Peekable;

use heed::{RoTxn, RwTxn};

use crate::error::{Error, Result};
use crate::format::cut::head_bytes;
use crate::format::item::{ItemRef, item_bytes};
use crate::index_spec::IndexSpec;
use crate::kernel::prefetch::{prefetch, touch};
use crate::key::{Key, Kind};
use crate::lmdb::database::{Database, Entries};

/// Entries that are passed by for each item that is wanted, at most: more, and looking each up by
/// its key is faster.
const WALK: usize = 3;

/// The bytes of an item as they are stored: a whole value, or the head and the tail of a cut one.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ItemBytes<'t> {
    /// The value under the key of the item.
    pub(crate) head: &'t [u8],
    /// Empty if the item is not cut, or if its tail is missing.
    pub(crate) tail: &'t [u8],
}

impl<'t> ItemBytes<'t> {
    /// How many bytes there are.
    pub(crate) const fn len(self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// Prefetches where their pages are.
    #[inline]
    pub(crate) fn touch(self) {
        touch(self.head);
        touch(self.tail);
    }

    /// Prefetches all of them.
    #[inline]
    pub(crate) fn prefetch(self) {
        prefetch(self.head);
        prefetch(self.tail);
    }

    /// The item. One that is cut is joined in `buffer`, whose room is used again.
    #[inline]
    pub(crate) fn view<'b>(
        self,
        key: Key,
        spec: IndexSpec,
        buffer: &'b mut Vec<u64>,
    ) -> Result<ItemRef<'b>>
    where
        't: 'b,
    {
        let bytes = if self.tail.is_empty() { self.head } else { self.join(key, spec, buffer)? };
        ItemRef::parse(key, bytes, spec)
    }

    fn join(self, key: Key, spec: IndexSpec, buffer: &mut Vec<u64>) -> Result<&mut [u8]> {
        if self.len() != item_bytes(spec) {
            return Err(Error::corrupted(key, "the tail of an item has not the length of its end"));
        }
        buffer.resize(self.len().div_ceil(size_of::<u64>()), 0);
        let joined: &mut [u8] = bytemuck::cast_slice_mut(buffer);
        // Both lengths fit: the room is made for their sum.
        let (head, tail) = joined.split_at_mut(self.head.len());
        head.copy_from_slice(self.head);
        tail.copy_from_slice(self.tail);
        Ok(joined)
    }
}

/// An item that has been looked up, in the map or joined.
pub(crate) struct StoredItem<'t> {
    key: Key,
    spec: IndexSpec,
    in_place: &'t [u8],
    /// The whole item, if it is cut; else empty.
    joined: Vec<u64>,
}

impl<'t> StoredItem<'t> {
    pub(crate) fn new(key: Key, spec: IndexSpec, bytes: ItemBytes<'t>) -> Result<Self> {
        let mut joined = Vec::new();
        if !bytes.tail.is_empty() {
            bytes.join(key, spec, &mut joined)?;
        }
        Ok(Self { key, spec, in_place: bytes.head, joined })
    }

    /// An item of which these are all bytes.
    pub(crate) const fn whole(key: Key, spec: IndexSpec, bytes: &'t [u8]) -> Self {
        Self { key, spec, in_place: bytes, joined: Vec::new() }
    }

    /// The whole value.
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.joined.is_empty() { self.in_place } else { bytemuck::cast_slice(&self.joined) }
    }

    /// The item, checked.
    pub(crate) fn view(&self) -> Result<ItemRef<'_>> {
        ItemRef::parse(self.key, self.bytes(), self.spec)
    }

    /// The item, checked but for its norm.
    pub(crate) fn view_components(&self) -> Result<ItemRef<'_>> {
        ItemRef::parse_components(self.key, self.bytes(), self.spec)
    }
}

/// The items of an index, by ascending id.
pub(crate) struct ItemEntries<'t> {
    values: Entries<'t>,
    tails: Tails<'t>,
}

impl<'t> Iterator for ItemEntries<'t> {
    type Item = Result<(Key, ItemBytes<'t>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.values.next()?;
        Some(entry.and_then(|(key, head)| Ok((key, self.tails.complete(key, head)?))))
    }
}

impl<'t> ItemEntries<'t> {
    /// Goes on to an item, if it exists.
    fn reach(&mut self, key: Key) -> Result<Option<ItemBytes<'t>>> {
        loop {
            match self.next().transpose()? {
                Some((passed, _)) if passed.to_bytes() < key.to_bytes() => {}
                found => return Ok(found.filter(|found| found.0 == key).map(|found| found.1)),
            }
        }
    }
}

/// A walk over the tails of an index, beside a walk over its values.
pub(crate) struct Tails<'t> {
    cut: Cut,
    /// None if there are none.
    entries: Option<Peekable<Entries<'t>>>,
}

impl<'t> Tails<'t> {
    /// An item of this value, which comes after all those asked for.
    #[inline]
    pub(crate) fn complete(&mut self, key: Key, head: &'t [u8]) -> Result<ItemBytes<'t>> {
        if !self.cut.is_head(head) {
            return Ok(ItemBytes { head, tail: &[] });
        }
        Ok(ItemBytes { head, tail: self.of(key.id())? })
    }

    /// Empty if there is none.
    fn of(&mut self, id: u32) -> Result<&'t [u8]> {
        let is_due = |entry: &Result<(Key, &[u8])>| match entry {
            Ok((key, _)) => key.id() <= id,
            Err(_) => true,
        };
        let Some(entries) = &mut self.entries else { return Ok(&[]) };
        while let Some(entry) = entries.next_if(is_due) {
            let (key, tail) = entry?;
            if key.id() == id {
                return Ok(tail);
            }
        }
        Ok(&[])
    }
}

/// Where the items of an index are cut.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Cut {
    /// Bytes of a head; more than any value has, if items are not cut.
    head: usize,
}

impl Cut {
    pub(crate) const fn new(spec: IndexSpec) -> Self {
        let len = item_bytes(spec);
        let head = head_bytes(len);
        Self { head: if head < len { head } else { usize::MAX } }
    }

    /// Whether the items of this index are cut when they are written.
    pub(crate) const fn is_cut(self) -> bool {
        self.head != usize::MAX
    }

    /// Whether a value has a tail. Versions before this one wrote whole what is cut now.
    #[inline]
    pub(crate) const fn is_head(self, value: &[u8]) -> bool {
        value.len() == self.head
    }
}

/// Reading items.
impl Database {
    /// An item's value, and its tail if it has one.
    pub(crate) fn with_tail<'t>(
        &self,
        rtxn: &'t RoTxn<'_>,
        spec: IndexSpec,
        id: u32,
        head: &'t [u8],
    ) -> Result<ItemBytes<'t>> {
        let is_cut = Cut::new(spec).is_head(head);
        let tail = if is_cut { self.get(rtxn, Key::tail(spec.index, id))? } else { None };
        Ok(ItemBytes { head, tail: tail.unwrap_or_default() })
    }

    /// Whether a tail belongs to an item.
    pub(crate) fn has_head(&self, rtxn: &RoTxn<'_>, spec: IndexSpec, tail: Key) -> Result<bool> {
        let value = self.get(rtxn, Key::item(spec.index, tail.id()))?;
        let is_cut = value.is_some_and(|value| Cut::new(spec).is_head(value));
        Ok(is_cut && tail == Key::tail(spec.index, tail.id()))
    }

    /// The bytes of an item, if it exists.
    pub(crate) fn item_bytes<'t>(
        &self,
        rtxn: &'t RoTxn<'_>,
        spec: IndexSpec,
        id: u32,
    ) -> Result<Option<ItemBytes<'t>>> {
        let value = self.get(rtxn, Key::item(spec.index, id))?;
        value.map(|value| self.with_tail(rtxn, spec, id, value)).transpose()
    }

    /// An item of an index, if it exists.
    pub(crate) fn item<'t>(
        &self,
        rtxn: &'t RoTxn<'_>,
        spec: IndexSpec,
        id: u32,
    ) -> Result<Option<StoredItem<'t>>> {
        let bytes = self.item_bytes(rtxn, spec, id)?;
        bytes.map(|bytes| StoredItem::new(Key::item(spec.index, id), spec, bytes)).transpose()
    }

    /// An item that other stored bytes say exists.
    pub(crate) fn known_item<'t>(
        &self,
        rtxn: &'t RoTxn<'_>,
        spec: IndexSpec,
        id: u32,
    ) -> Result<StoredItem<'t>> {
        self.item(rtxn, spec, id)?.ok_or_else(|| missing_item(spec, id))
    }

    /// The items of an index from an id on, by ascending id.
    pub(crate) fn items_from<'t>(
        &self,
        rtxn: &'t RoTxn<'_>,
        spec: IndexSpec,
        first: u32,
    ) -> Result<ItemEntries<'t>> {
        let last = Key::range(spec.index, Kind::Item).1;
        let values = self.range(rtxn, (Key::item(spec.index, first), last))?;
        Ok(ItemEntries { values, tails: self.tails_from(rtxn, spec, first)? })
    }

    /// The tails of an index from an id on.
    pub(crate) fn tails_from<'t>(
        &self,
        rtxn: &'t RoTxn<'_>,
        spec: IndexSpec,
        first: u32,
    ) -> Result<Tails<'t>> {
        let (cut, last) = (Cut::new(spec), Key::range(spec.index, Kind::Tail).1);
        let entries = || self.range(rtxn, (Key::tail(spec.index, first), last));
        let entries = if cut.is_cut() { Some(entries()?.peekable()) } else { None };
        Ok(Tails { cut, entries })
    }

    /// Visits items that other stored bytes say exist, in this order.
    pub(crate) fn visit_items(
        &self,
        rtxn: &RoTxn<'_>,
        spec: IndexSpec,
        ids: &[u32],
        mut visit: impl FnMut(&ItemRef<'_>),
    ) -> Result<()> {
        let is_dense = match (ids.first(), ids.last()) {
            (Some(first), Some(last)) => {
                last.saturating_sub(*first) as usize <= WALK * ids.len()
                    && ids.is_sorted_by(|a, b| a < b)
            }
            _ => false,
        };
        let mut entries = if is_dense { Some(self.items_from(rtxn, spec, ids[0])?) } else { None };
        let mut joined = Vec::new();
        for id in ids {
            let key = Key::item(spec.index, *id);
            let found = match &mut entries {
                Some(entries) => entries.reach(key)?,
                None => self.item_bytes(rtxn, spec, *id)?,
            };
            let bytes = found.ok_or_else(|| missing_item(spec, *id))?;
            visit(&bytes.view(key, spec, &mut joined)?);
        }
        Ok(())
    }
}

/// Writing items.
impl Database {
    /// Deletes an item whole; `false` if there is none.
    pub(crate) fn delete_item(
        &self,
        wtxn: &mut RwTxn<'_>,
        spec: IndexSpec,
        id: u32,
    ) -> Result<bool> {
        if Cut::new(spec).is_cut() {
            self.delete(wtxn, Key::tail(spec.index, id))?;
        }
        self.delete(wtxn, Key::item(spec.index, id))
    }
}

/// Puts items, and appends what comes after all others of the database.
#[derive(Default)]
pub(crate) struct ItemPutter {
    /// The key that was appended last; nothing comes after it then.
    appended: Option<Key>,
}

impl ItemPutter {
    /// Puts an item of which these are all bytes; cuts it if it is to be cut.
    pub(crate) fn put(
        &mut self,
        db: Database,
        wtxn: &mut RwTxn<'_>,
        key: Key,
        value: &[u8],
    ) -> Result<()> {
        let (head, tail) = value.split_at(head_bytes(value.len()));
        self.put_part(db, wtxn, key, head)?;
        if tail.is_empty() {
            return Ok(());
        }
        self.put_part(db, wtxn, Key::tail(key.index(), key.id()), tail)
    }

    fn put_part(
        &mut self,
        db: Database,
        wtxn: &mut RwTxn<'_>,
        key: Key,
        value: &[u8],
    ) -> Result<()> {
        // Of all that is put here, only items and their tails can come after these.
        let is_last = match self.appended {
            Some(last) => last.to_bytes() < key.to_bytes(),
            None => db.is_last(wtxn, key)?,
        };
        if !is_last {
            return db.put(wtxn, key, value);
        }
        self.appended = Some(key);
        db.append(wtxn, key, value)
    }
}

/// What is wrong when an item is missing that other stored bytes say exists.
pub(crate) fn missing_item(spec: IndexSpec, id: u32) -> Error {
    Error::corrupted(Key::item(spec.index, id), "other entries name this item, and it is missing")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lmdb::database::temporary;
    use crate::storage::Components;
    use crate::{IndexOptions, Metric, Writer};

    #[test]
    fn items_are_visited_in_the_order_asked_for_and_a_missing_one_is_an_error() {
        // Whole and cut.
        [2, 1024].into_iter().for_each(visit_of);
    }

    fn visit_of(dims: usize) {
        let (_folder, env) = temporary(1);
        let db = Database::open_or_create(&env).unwrap();
        let mut wtxn = env.write_txn().unwrap();
        let writer =
            Writer::open_or_create(&mut wtxn, db, 3, &IndexOptions::new(dims, Metric::Euclidean))
                .unwrap();
        let present: Vec<u32> = (0..100).filter(|id| id % 3 != 0).chain([u32::MAX - 1]).collect();
        for id in &present {
            let mut vector = vec![1.0; dims];
            #[expect(clippy::cast_precision_loss, reason = "what is not exact is the same twice")]
            vector.iter_mut().take(1).for_each(|x| *x = *id as f32);
            writer.add_item(&mut wtxn, *id, &vector).unwrap();
        }
        let spec = IndexSpec::plain(3, dims, Metric::Euclidean);
        let visit = |ids: &[u32]| {
            let mut visited = Vec::new();
            db.visit_items(&wtxn, spec, ids, |item| {
                let Components::Floats(floats) = item.components else {
                    panic!("floats were added")
                };
                visited.push(floats[0]);
            })
            .map(|()| visited)
        };
        #[expect(clippy::cast_precision_loss, reason = "what is not exact is the same twice")]
        for ids in [&present[..], &present[..60], &[98, 1, 50][..], &[4, 7, 7, 8], &[5], &[]] {
            assert_eq!(visit(ids).unwrap(), ids.iter().map(|id| *id as f32).collect::<Vec<f32>>());
        }
        for ids in [&[1, 2, 3, 4][..], &[98, 3], &[99], &[u32::MAX]] {
            assert!(matches!(visit(ids), Err(Error::Corrupted { .. })), "{ids:?}");
        }
    }
}
