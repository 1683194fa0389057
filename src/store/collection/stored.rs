//! Reading what is stored of a collection.

use std::ops::Bound;

use heed::RoTxn;
use roaring::RoaringBitmap;

use crate::error::Result;
use crate::lmdb::opening::Table;
use crate::store::collection::filter::Memo;
use crate::store::collection::layout::{Layout, Place, Set, first_of_piece, parse_long};
use crate::store::collection::piece;
use crate::store::collection::record::{Meta, RecordRef, damaged};

/// A collection in one transaction.
#[derive(Copy, Clone)]
pub(crate) struct Stored<'t> {
    pub(crate) table: Table<'static>,
    pub(crate) layout: Layout,
    pub(crate) rtxn: &'t RoTxn<'t>,
    /// Sets that were read of this commit, where they are kept.
    pub(crate) memo: Option<&'t Memo>,
}

/// An entry of the table.
pub(crate) type Entry<'t> = (&'t [u8], &'t [u8]);

impl<'t> Stored<'t> {
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<&'t [u8]>> {
        Ok(self.table.get(self.rtxn, key)?)
    }

    pub(crate) fn meta(&self) -> Result<Meta> {
        let key = self.layout.meta();
        Meta::parse(&key, self.get(&key)?.ok_or_else(|| damaged(&key))?)
    }

    /// The entries whose keys begin so, in their order.
    pub(crate) fn entries(
        &self,
        prefix: &[u8],
    ) -> Result<impl Iterator<Item = Result<Entry<'t>>> + use<'t>> {
        Ok(self.table.prefix_iter(self.rtxn, prefix)?.map(|entry| Ok(entry?)))
    }

    /// The entries from a key on, as long as their keys begin so.
    pub(crate) fn entries_from(
        &self,
        first: &[u8],
        prefix: &[u8],
    ) -> Result<impl Iterator<Item = Result<Entry<'t>>> + use<'t>> {
        let prefix = prefix.to_vec();
        let range = (Bound::Included(first), Bound::Unbounded);
        let entries = self.table.range(self.rtxn, &range)?.map(|entry| Ok(entry?));
        Ok(entries.take_while(move |entry: &Result<Entry<'t>>| {
            entry.as_ref().map_or(true, |(key, _)| key.starts_with(&prefix))
        }))
    }

    pub(crate) fn record(&self, key: &[u8]) -> Result<Option<RecordRef<'t>>> {
        let Place { entry, tail } = self.layout.document(key);
        let value = self.get(&entry)?;
        let bytes = value.map_or(Ok(None), |value| record_in(&entry, value, tail))?;
        bytes.map(|bytes| RecordRef::parse(&entry, bytes)).transpose()
    }

    /// The document of an item: the id of its first item, and its key.
    pub(crate) fn document_of(&self, id: u32) -> Result<(u32, &'t [u8])> {
        let at = self.layout.item(id);
        // Most items are the first of their document, and LMDB finds these with less ado.
        if let Some(key) = self.get(&at)? {
            return Ok((id, key));
        }
        let found = self.table.get_lower_than_or_equal_to(self.rtxn, &at)?;
        let document =
            found.and_then(|(entry, key)| self.layout.id_of(entry).map(|first| (first, key)));
        document.ok_or_else(|| damaged(&at))
    }

    /// A set of items.
    pub(crate) fn set(&self, set: Set<'_>) -> Result<RoaringBitmap> {
        let (prefix, mut ids) = (self.layout.set(set), RoaringBitmap::new());
        for entry in self.entries(&prefix)? {
            let (key, value) = entry?;
            // The label may be the beginning of no other, as its length comes first.
            let first = key.strip_prefix(&*prefix).and_then(first_of_piece);
            append(key, value, first, &mut ids)?;
        }
        Ok(ids)
    }

    /// How many documents have their items in a set.
    pub(crate) fn documents_in(&self, ids: &RoaringBitmap) -> Result<u64> {
        let meta = self.meta()?;
        if meta.documents == meta.vectors {
            return Ok(ids.len());
        }
        Ok(ids.len() - ids.intersection_len(&self.set(Set::Rest)?))
    }

    /// Every label with its items, in no particular order.
    pub(crate) fn labels(&self) -> Result<Vec<(&'t str, RoaringBitmap)>> {
        let mut labels: Vec<(&str, RoaringBitmap)> = Vec::new();
        for entry in self.entries(&self.layout.labels())? {
            let (key, value) = entry?;
            let (label, first) = Layout::label_of(key).ok_or_else(|| damaged(key))?;
            if labels.last().is_none_or(|(last, _)| *last != label) {
                labels.push((label, RoaringBitmap::new()));
            }
            if let Some((_, ids)) = labels.last_mut() {
                append(key, value, Some(first), ids)?;
            }
        }
        Ok(labels)
    }
}

/// Adds the ids of a piece to a set.
fn append(key: &[u8], value: &[u8], first: Option<u32>, ids: &mut RoaringBitmap) -> Result<()> {
    let first = first.filter(|_| piece::is_sound(value)).ok_or_else(|| damaged(key))?;
    piece::append(value, first, ids);
    Ok(())
}

/// The record of a document in the value of its entry.
pub(crate) fn record_in<'t>(
    entry: &[u8],
    value: &'t [u8],
    tail: Option<&[u8]>,
) -> Result<Option<&'t [u8]>> {
    let Some(tail) = tail else { return Ok(Some(value)) };
    let records = parse_long(value).ok_or_else(|| damaged(entry))?;
    Ok(records.into_iter().find(|(other, _)| *other == tail).map(|(_, record)| record))
}
