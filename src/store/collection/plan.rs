//! Changes of a collection, computed before anything is written: what fails has changed nothing.

use std::collections::BTreeMap;

use heed::RwTxn;
use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::index_spec::IndexSpec;
use crate::lmdb::opening::Table;
use crate::store::collection::document::Document;
use crate::store::collection::key::DocumentKey;
use crate::store::collection::labels::checked;
use crate::store::collection::layout::{OfPiece, Place, Set, parse_long, with_long};
use crate::store::collection::piece;
use crate::store::collection::record::{ALL_IDS, Meta, RecordRef, damaged};
use crate::store::collection::stored::{Stored, record_in};
use crate::vector::CheckedVector;
use crate::writer::Writer;

/// What will be changed, over what is stored.
pub(crate) struct Plan<'t, 'd> {
    stored: Stored<'t>,
    meta: Meta,
    /// What is stored of it.
    was: Meta,
    /// Entries of the table as they will be. `None` for those that will be gone.
    entries: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Items as they will be.
    items: BTreeMap<u32, Option<&'d [f32]>>,
}

/// A plan that is ready to be written.
pub(crate) struct Changes<'d> {
    pub(crate) table: Table<'static>,
    pub(crate) entries: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    pub(crate) items: BTreeMap<u32, Option<&'d [f32]>>,
}

/// What a document was before.
struct Old {
    first: u32,
    vectors: u32,
    labels: Vec<String>,
}

impl Old {
    fn ids(&self) -> impl Iterator<Item = u32> + use<> {
        self.first..=self.first.saturating_add(self.vectors.saturating_sub(1))
    }
}

impl<'t, 'd> Plan<'t, 'd> {
    pub(crate) fn begin(stored: Stored<'t>) -> Result<Self> {
        let meta = stored.meta()?;
        Ok(Self { stored, meta, was: meta, entries: BTreeMap::new(), items: BTreeMap::new() })
    }

    pub(crate) fn stored(&self) -> Stored<'t> {
        self.stored
    }

    /// Puts a document, or replaces the one of this key.
    pub(crate) fn put(
        &mut self,
        spec: IndexSpec,
        scope: &[String],
        key: &DocumentKey,
        document: &'d Document,
    ) -> Result<()> {
        key.check()?;
        let labels = checked(document.labels.iter().chain(scope))?;
        let rows = document.rows(spec.dims)?;
        rows.clone().try_for_each(|row| CheckedVector::to_store(row, spec).map(|_| ()))?;
        // The number of rows was checked, too.
        let vectors = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let old = self.old(key)?;
        if old.as_ref().is_some_and(|old| !scope.iter().all(|label| old.labels.contains(label))) {
            return Err(Error::OutOfScope(key.to_string()));
        }
        let first = match old {
            Some(old) if old.vectors == vectors => {
                let is_new = |label: &&&str| !old.labels.iter().any(|old| old == **label);
                for label in labels.iter().filter(is_new) {
                    self.change_set(Set::Label(label), old.ids(), true)?;
                }
                for label in old.labels.iter().filter(|old| !labels.contains(&old.as_str())) {
                    self.change_set(Set::Label(label), old.ids(), false)?;
                }
                old.first
            }
            old => {
                if let Some(old) = old {
                    self.forget(&old)?;
                }
                let first = self.take_ids(vectors)?;
                let new = Old { first, vectors, labels: Vec::new() };
                self.change_set(Set::Rest, new.ids().skip(1), true)?;
                for label in &labels {
                    self.change_set(Set::Label(label), new.ids(), true)?;
                }
                self.entries.insert(self.stored.layout.item(first), Some(key.as_bytes().to_vec()));
                self.meta.documents += 1;
                self.meta.vectors += u64::from(vectors);
                first
            }
        };
        self.items.extend((first..=u32::MAX).zip(rows.map(Some)));
        let record = RecordRef { first, vectors, labels, payload: &document.payload };
        let bytes = record.to_bytes();
        self.set_record(key, Some(bytes))
    }

    /// Deletes a document, if it is there and bears the labels of the scope.
    pub(crate) fn delete(&mut self, scope: &[String], key: &DocumentKey) -> Result<bool> {
        key.check()?;
        let Some(old) = self.old(key)? else { return Ok(false) };
        if !scope.iter().all(|label| old.labels.contains(label)) {
            return Ok(false);
        }
        self.forget(&old)?;
        self.set_record(key, None)?;
        Ok(true)
    }

    pub(crate) fn finish(mut self) -> Changes<'d> {
        if self.meta != self.was {
            self.entries.insert(self.stored.layout.meta(), Some(self.meta.to_bytes()));
        }
        Changes { table: self.stored.table, entries: self.entries, items: self.items }
    }

    fn get(&self, entry: &[u8]) -> Result<Option<&[u8]>> {
        match self.entries.get(entry) {
            Some(planned) => Ok(planned.as_deref()),
            None => self.stored.get(entry),
        }
    }

    fn old(&self, key: &DocumentKey) -> Result<Option<Old>> {
        let Place { entry, tail } = self.stored.layout.document(key.as_bytes());
        let Some(value) = self.get(&entry)? else { return Ok(None) };
        let Some(bytes) = record_in(&entry, value, tail)? else { return Ok(None) };
        let record = RecordRef::parse(&entry, bytes)?;
        let labels = record.labels.iter().map(|label| (*label).to_owned()).collect();
        Ok(Some(Old { first: record.first, vectors: record.vectors, labels }))
    }

    fn set_record(&mut self, key: &DocumentKey, record: Option<Vec<u8>>) -> Result<()> {
        let Place { entry, tail } = self.stored.layout.document(key.as_bytes());
        let value = match tail {
            None => record,
            Some(tail) => {
                let value = self.get(&entry)?;
                let records = value.map(|value| parse_long(value).ok_or_else(|| damaged(&entry)));
                with_long(&records.transpose()?.unwrap_or_default(), tail, record.as_deref())
            }
        };
        self.entries.insert(entry, value);
        Ok(())
    }

    /// Takes the items of a document out of everything. Its record stays.
    fn forget(&mut self, old: &Old) -> Result<()> {
        self.change_set(Set::Free, old.ids(), true)?;
        self.change_set(Set::Rest, old.ids().skip(1), false)?;
        for label in &old.labels {
            self.change_set(Set::Label(label), old.ids(), false)?;
        }
        self.entries.insert(self.stored.layout.item(old.first), None);
        self.items.extend(old.ids().map(|id| (id, None)));
        self.meta.documents = self.meta.documents.saturating_sub(1);
        self.meta.vectors = self.meta.vectors.saturating_sub(old.vectors.into());
        Ok(())
    }

    /// Puts ids into a set, or takes them out.
    fn change_set(
        &mut self,
        set: Set<'_>,
        ids: impl Iterator<Item = u32>,
        is_in: bool,
    ) -> Result<()> {
        for id in ids {
            let (key, at) = self.stored.layout.place(set, id);
            if !self.entries.contains_key(&key) {
                let piece = self.stored.get(&key)?.map(<[u8]>::to_vec);
                if piece.as_ref().is_some_and(|piece| !piece::is_sound(piece)) {
                    return Err(damaged(&key));
                }
                self.entries.insert(key.clone(), piece);
            }
            let Some(planned) = self.entries.get_mut(&key) else { continue };
            let piece = planned.get_or_insert_default();
            if is_in {
                piece::insert(piece, at);
            } else {
                piece::remove(piece, at);
            }
            if piece.is_empty() {
                *planned = None;
            }
        }
        Ok(())
    }

    /// Ids in a row that no item has.
    ///
    /// They are given out in order, and when all have been, those of deleted documents are again.
    fn take_ids(&mut self, count: u32) -> Result<u32> {
        let next = self.meta.next;
        if let Some(first) = u32::try_from(next).ok().filter(|_| ALL_IDS - next >= count.into()) {
            self.meta.next += u64::from(count);
            return Ok(first);
        }
        let Some(first) = first_run(&self.free()?, count) else {
            let expected = "as many as the collection has free ids in a row";
            return Err(Error::option("vectors", expected, count));
        };
        self.change_set(Set::Free, (first..=u32::MAX).take(count as usize), false)?;
        Ok(first)
    }

    /// The free ids as they will be.
    fn free(&self) -> Result<RoaringBitmap> {
        let mut free = self.stored.set(Set::Free)?;
        for (key, piece) in &self.entries {
            let Some((number, OfPiece::Set(Set::Free))) = self.stored.layout.of_piece(key) else {
                continue;
            };
            let ids = piece::ids(number);
            free.remove_range(ids.clone());
            piece::append(piece.as_deref().unwrap_or_default(), *ids.start(), &mut free);
        }
        Ok(free)
    }
}

/// The first of the first so many ids in a row.
fn first_run(ids: &RoaringBitmap, count: u32) -> Option<u32> {
    let mut first: Option<u32> = None;
    for id in ids {
        let begin = first.filter(|_| id > 0 && ids.contains(id - 1)).unwrap_or(id);
        if id - begin + 1 >= count {
            return Some(begin);
        }
        first = Some(begin);
    }
    None
}

impl Changes<'_> {
    /// Writes all of it. Only LMDB can fail once something is written.
    pub(crate) fn write(&self, writer: Writer, wtxn: &mut RwTxn<'_>) -> Result<()> {
        writer.change_items(wtxn, &self.items)?;
        for (key, value) in &self.entries {
            match value {
                Some(value) => self.table.put(wtxn, key, value)?,
                None => {
                    self.table.delete(wtxn, key)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_run_that_is_long_enough() {
        let ids: RoaringBitmap = [1, 3, 4, 7, 8, 9, u32::MAX - 1, u32::MAX].into_iter().collect();
        let found = [1, 2, 3, 4].map(|count| first_run(&ids, count));
        assert_eq!(found, [Some(1), Some(3), Some(7), None]);
        assert_eq!(first_run(&RoaringBitmap::new(), 1), None);
        let last: RoaringBitmap = [0, u32::MAX - 1, u32::MAX].into_iter().collect();
        assert_eq!(first_run(&last, 2), Some(u32::MAX - 1));
    }
}
