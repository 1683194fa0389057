//! Reading what is stored of a collection.

use std::collections::BTreeMap;
use std::ops::Bound;

use heed::RoTxn;
use roaring::RoaringBitmap;

use crate::error::Result;
use crate::lmdb::opening::Table;
use crate::store::collection::layout::{Layout, OfPiece, Place, Set, long_records};
use crate::store::collection::memo::Memo;
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
        // The others may be in a later piece, after sets of it.
        let mut at_most = at.clone();
        loop {
            let found = self.table.get_lower_than_or_equal_to(self.rtxn, &at_most)?;
            let (key, value) = found.ok_or_else(|| damaged(&at))?;
            match self.layout.of_piece(key) {
                Some((_, OfPiece::Item(first))) => return Ok((first, value)),
                // The items of an earlier piece come right before the sets of this one.
                Some((piece, OfPiece::Set(_))) => {
                    at_most = self.layout.set(Set::Free, piece);
                    at_most.pop();
                }
                None => return Err(damaged(&at)),
            }
        }
    }

    /// A set of ids.
    pub(crate) fn set(&self, set: Set<'_>) -> Result<RoaringBitmap> {
        let (mut ids, mut number) = (RoaringBitmap::new(), 0);
        loop {
            // From piece to piece. Where one has nothing of the set, what comes next is its number.
            let wanted = self.layout.set(set, number);
            let found = self.table.get_greater_than_or_equal_to(self.rtxn, &wanted)?;
            let Some((key, value)) = found.filter(|(key, _)| self.is_of_pieces(key)) else {
                return Ok(ids);
            };
            let (piece, _) = self.layout.of_piece(key).ok_or_else(|| damaged(key))?;
            if key == wanted {
                append(key, value, number, &mut ids)?;
            }
            number = if piece > number { piece } else { number + 1 };
        }
    }

    fn is_of_pieces(&self, key: &[u8]) -> bool {
        key.starts_with(&self.layout.pieces())
    }

    /// The ids of all items.
    pub(crate) fn all_items(&self) -> Result<RoaringBitmap> {
        let mut all = RoaringBitmap::new();
        if let Some(last) = self.meta()?.next.checked_sub(1) {
            all.insert_range(..=u32::try_from(last).unwrap_or(u32::MAX));
        }
        Ok(all - self.set(Set::Free)?)
    }

    /// Items that are not the first of their document.
    pub(crate) fn rest(&self) -> Result<RoaringBitmap> {
        match self.meta() {
            Ok(meta) if meta.documents == meta.vectors => Ok(RoaringBitmap::new()),
            // The set says it, too, where the counts are damaged.
            _ => self.set(Set::Rest),
        }
    }

    /// The first items of the documents that have their items in a set.
    pub(crate) fn firsts(&self, ids: &RoaringBitmap) -> Result<RoaringBitmap> {
        Ok(ids - self.rest()?)
    }

    /// How many documents have their items in a set.
    pub(crate) fn documents_in(&self, ids: &RoaringBitmap) -> Result<u64> {
        Ok(ids.len() - ids.intersection_len(&self.rest()?))
    }

    /// Every label with its items.
    pub(crate) fn labels(&self) -> Result<BTreeMap<&'t str, RoaringBitmap>> {
        let mut labels: BTreeMap<&str, RoaringBitmap> = BTreeMap::new();
        let mut from = self.layout.pieces();
        while let Some(piece) = self.sets_from(&from, |piece, set, key, value| {
            let Set::Label(label) = set else { return Ok(()) };
            append(key, value, piece, labels.entry(label).or_default())
        })? {
            // The items of a piece are passed by.
            let Some(next) = piece.checked_add(1) else { break };
            from = self.layout.items(next);
            from.truncate(from.len() - 1);
        }
        Ok(labels)
    }

    /// Visits the sets from a key on up to the first item. The number of its piece, if there is
    /// one.
    fn sets_from(
        &self,
        from: &[u8],
        mut visit: impl FnMut(u32, Set<'t>, &'t [u8], &'t [u8]) -> Result<()>,
    ) -> Result<Option<u32>> {
        for entry in self.entries_from(from, &self.layout.pieces())? {
            let (key, value) = entry?;
            match self.layout.of_piece(key).ok_or_else(|| damaged(key))? {
                (piece, OfPiece::Set(set)) => visit(piece, set, key, value)?,
                (piece, OfPiece::Item(_)) => return Ok(Some(piece)),
            }
        }
        Ok(None)
    }
}

/// Adds the ids of a piece to a set.
fn append(key: &[u8], value: &[u8], number: u32, ids: &mut RoaringBitmap) -> Result<()> {
    let first = number.checked_mul(piece::IDS).filter(|_| piece::is_sound(value));
    piece::append(value, first.ok_or_else(|| damaged(key))?, ids);
    Ok(())
}

/// The record of a document in the value of its entry.
pub(crate) fn record_in<'t>(
    entry: &[u8],
    value: &'t [u8],
    tail: Option<&[u8]>,
) -> Result<Option<&'t [u8]>> {
    let Some(tail) = tail else { return Ok(Some(value)) };
    for record in long_records(value) {
        let (other, record) = record.ok_or_else(|| damaged(entry))?;
        if other == tail {
            return Ok(Some(record));
        }
    }
    Ok(None)
}
