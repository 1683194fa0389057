//! Repairing a damaged collection: all else follows from the records of documents and the vectors.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::options::{BuildOptions, IndexOptions};
use crate::repair::Repair;
use crate::store::audit::entry::AuditKey;
use crate::store::collection::iterate::visit;
use crate::store::collection::key::DocumentKey;
use crate::store::collection::layout::{Layout, OfPiece, Place, Set, long_records, long_value};
use crate::store::collection::open::expect_collection;
use crate::store::collection::piece;
use crate::store::collection::plan::Changes;
use crate::store::collection::record::{Meta, RecordRef, damaged};
use crate::store::collection::stored::Stored;
use crate::store::collection::verify::{Disagreement, verify_collection};
use crate::store::handle::{Store, not_found, taken};
use crate::writer::Writer;

/// What [`Store::repair_collection`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct CollectionRepair {
    /// What was done to the index of the vectors.
    pub index: Repair,
    /// What did not agree then. Empty: nothing else was done.
    pub found: Vec<Disagreement>,
    /// Documents that are gone, in the order of their keys: their record or one of their vectors
    /// could not be read, or others have their vectors. A document is missing here if nothing that
    /// can be read names it.
    pub lost: Vec<DocumentKey>,
    /// Vectors that were deleted because no document has them: those of lost documents, too.
    pub vectors_deleted: u64,
}

impl Store {
    /// Makes a damaged collection whole again: rebuilds the index of its vectors, then labels,
    /// counts and whatever else follows from the documents that can be read.
    ///
    /// Documents whose record and vectors are whole stay as they are. Others are deleted and named
    /// in the answer. A snapshot that was taken before shows what is left of them:
    ///
    /// ```
    /// use spinney::{BuildOptions, Document, IndexOptions, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let options = IndexOptions::new(1, Metric::Euclidean);
    /// let docs = store.collection("docs", &options)?;
    /// store.write(|txn| docs.put(txn, "a", &Document::new([1.0]).payload("text")))?;
    /// let before = store.snapshot()?;
    /// let repair = store.repair_collection("docs", &options, &BuildOptions::default())?;
    /// for key in &repair.lost {
    ///     if let Ok(Some(document)) = docs.get(&before, key) {
    ///         println!("{key}: {} bytes of payload are left", document.payload.len());
    ///     }
    /// }
    /// assert!(repair.found.is_empty() && docs.verify(&store)?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Where records and labels say different things, records are believed. Of two documents that
    /// claim a vector, it is that of the one against which less speaks. Bytes that were changed into
    /// others that make sense cannot be told: payloads and components have no check.
    ///
    /// # Cost
    /// That of two verifications, and of a build if the index is damaged; within one write
    /// transaction. Memory for the sets, and for what will be written.
    ///
    /// # Errors
    /// [`Error::NameNotFound`]; [`Error::NameTaken`] if the name is an index's, or another name is
    /// of the same index; [`Error::FormatTooNew`] if a newer version has written the counts;
    /// [`Error::StoreCorrupted`] if there are vectors and nothing else at all; those of
    /// [`Writer::repair`] and [`write`](Self::write).
    pub fn repair_collection(
        &self,
        name: &str,
        options: &IndexOptions,
        build: &BuildOptions<'_>,
    ) -> Result<CollectionRepair> {
        let tables = self.inner.tables;
        self.write(|txn| {
            let entry = tables.catalog.get(txn.as_heed(), name)?.ok_or_else(|| not_found(name))?;
            expect_collection(entry, name)?;
            let number = entry.number;
            for other in tables.catalog.iter(txn.as_heed())? {
                // Names that are damaged do not matter here.
                let Ok((other, entry)) = other else { continue };
                if entry.number == number && other != name {
                    return Err(taken(&other));
                }
            }
            let (table, layout) = (tables.documents, Layout { number });
            let counts = layout.meta();
            let meta = table.get(txn.as_heed(), &counts)?;
            if let Some(Err(error @ Error::FormatTooNew { .. })) =
                meta.map(|bytes| Meta::parse(&counts, bytes))
            {
                return Err(error);
            }
            let index = txn.run(|wtxn| Writer::repair(wtxn, tables.db, number, options, build))?;
            let mut repair = CollectionRepair { index, ..CollectionRepair::default() };
            let changes = {
                let reader = txn.reader_of(number)?;
                repair.found = verify_collection(&reader, table)?;
                let stored = Stored { table, layout, rtxn: txn.as_heed(), memo: None };
                let is_sound = repair.found.is_empty();
                (!is_sound).then(|| mend(stored, reader.id_set()?)).transpose()?
            };
            if let Some((changes, lost)) = changes {
                repair.vectors_deleted = changes.items.len() as u64;
                repair.lost = lost;
                let name = Arc::from(name);
                txn.with_writer(number, &name, |writer, wtxn| changes.write(writer, wtxn))?;
            }
            if repair.index.violations_found > 0 || !repair.found.is_empty() {
                let lost = repair.lost.iter().map(|key| AuditKey::Key(key.as_bytes().to_vec()));
                txn.note_repair(number, name, lost);
            }
            Ok(repair)
        })
    }
}

/// How much speaks against a document. Of two that claim a vector, the one with less has it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Doubt {
    /// How many things say otherwise than its record.
    against: usize,
    /// Whether its first item names no document.
    is_unnamed: bool,
}

struct Mend<'t> {
    stored: Stored<'t>,
    /// Items that there are.
    there: RoaringBitmap,
    /// The items that name documents.
    naming: RoaringBitmap,
    /// Of these, the ones whose document does not begin there.
    strays: BTreeMap<u32, &'t [u8]>,
    /// Items that are not the first of their document, as far as that can be read.
    rest: Option<RoaringBitmap>,
    /// The items of documents that are kept, and how many documents that are.
    kept: RoaringBitmap,
    documents: u64,
    /// The sets as the kept records have it.
    sets: BTreeMap<Set<'t>, RoaringBitmap>,
    lost: BTreeSet<DocumentKey>,
    /// Entries of long keys of which something is lost.
    long: BTreeSet<Vec<u8>>,
    /// Entries of the table as they will be. `None` for those that will be gone.
    entries: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// What makes a collection whole, and the documents that are lost by it.
fn mend(stored: Stored<'_>, there: RoaringBitmap) -> Result<(Changes<'static>, Vec<DocumentKey>)> {
    let mut mend = Mend {
        stored,
        there,
        naming: RoaringBitmap::new(),
        strays: BTreeMap::new(),
        rest: stored.set(Set::Rest).ok(),
        kept: RoaringBitmap::new(),
        documents: 0,
        sets: BTreeMap::new(),
        lost: BTreeSet::new(),
        long: BTreeSet::new(),
        entries: BTreeMap::new(),
    };
    mend.read_items()?;
    mend.read_records()?;
    mend.lose()?;
    mend.write_sets()?;
    let items = (&mend.there - &mend.kept).iter().map(|id| (id, None)).collect();
    let changes = Changes { table: stored.table, entries: mend.entries, items };
    Ok((changes, mend.lost.into_iter().collect()))
}

impl<'t> Mend<'t> {
    /// Which items name which documents. Entries that are of no kind will be gone.
    fn read_items(&mut self) -> Result<()> {
        let layout = self.stored.layout;
        let mut is_empty = true;
        for entry in self.stored.entries(&layout.number.to_be_bytes())? {
            let (at, value) = entry?;
            is_empty = false;
            if let Some((_, OfPiece::Item(first))) = layout.of_piece(at) {
                self.naming.insert(first);
                let record = self.stored.record(value);
                if !matches!(record, Ok(Some(record)) if record.first == first) {
                    self.strays.insert(first, value);
                }
            } else if !layout.is_known(at) {
                self.entries.insert(at.to_vec(), None);
            }
        }
        // So are the vectors of an index that a damaged name takes for a collection.
        if is_empty && !self.there.is_empty() {
            return Err(damaged(&layout.meta()));
        }
        Ok(())
    }

    /// Keeps the documents that are whole: the least doubtful first, as no two share a vector.
    fn read_records(&mut self) -> Result<()> {
        let named: BTreeSet<&[u8]> = self.strays.values().copied().collect();
        let (mut doubtful, mut result) = (Vec::new(), Ok(()));
        visit(self.stored, &[], None, |key, record| {
            let is_named = named.contains(key.as_bytes());
            result = self.meet(key, record, is_named).map(|doubted| doubtful.extend(doubted));
            result.is_ok()
        })?;
        result?;
        doubtful.sort_by_key(|(doubt, ..)| *doubt);
        for (_, key, record) in doubtful {
            if self.kept.range_cardinality(record.ids()) > 0 {
                self.lost.insert(key);
            } else {
                self.keep(&record);
                let item = self.stored.layout.item(record.first);
                self.entries.insert(item, Some(key.as_bytes().to_vec()));
            }
        }
        Ok(())
    }

    /// Keeps a document that nothing speaks against, and returns a doubtful one.
    fn meet(
        &mut self,
        key: DocumentKey,
        record: Result<RecordRef<'t>>,
        is_named: bool,
    ) -> Result<Option<(Doubt, DocumentKey, RecordRef<'t>)>> {
        let Ok(record) = record else {
            let Place { entry, tail } = self.stored.layout.document(key.as_bytes());
            // What is left of an entry of long keys may be no key, unless an item names it.
            if tail.is_some() && !is_named {
                self.long.insert(entry);
            } else {
                self.lost.insert(key);
            }
            return Ok(None);
        };
        match self.doubt(&key, &record, is_named)? {
            // Two of these share no vector: one would begin among the other's.
            Some(doubt) if doubt == Doubt::default() => self.keep(&record),
            Some(doubt) => return Ok(Some((doubt, key, record))),
            None => {
                self.lost.insert(key);
            }
        }
        Ok(None)
    }

    /// What speaks against a document; `None` if a vector of it is missing.
    fn doubt(
        &self,
        key: &DocumentKey,
        record: &RecordRef<'_>,
        is_named: bool,
    ) -> Result<Option<Doubt>> {
        if !self.there.contains_range(record.ids()) {
            return Ok(None);
        }
        let first = self.stored.get(&self.stored.layout.item(record.first))?;
        let others = self.naming.range_cardinality(record.ids()) > u64::from(first.is_some());
        let is_rest = |rest: &RoaringBitmap| {
            !rest.contains(record.first)
                && rest.range_cardinality(record.ids()) + 1 == u64::from(record.vectors)
        };
        let against = [
            is_named,
            others,
            first.is_some_and(|first| first != key.as_bytes()),
            !self.rest.as_ref().is_none_or(is_rest),
        ];
        let against = against.into_iter().filter(|is_so| *is_so).count();
        Ok(Some(Doubt { against, is_unnamed: first.is_none() }))
    }

    fn keep(&mut self, record: &RecordRef<'t>) {
        self.documents += 1;
        self.kept.insert_range(record.ids());
        self.sets.entry(Set::Rest).or_default().extend(record.ids().skip(1));
        for label in &record.labels {
            self.sets.entry(Set::Label(label)).or_default().insert_range(record.ids());
        }
    }

    /// Takes lost documents out of the table, and what items say of others than those kept.
    fn lose(&mut self) -> Result<()> {
        let Self { stored, strays, kept, lost, entries, long, .. } = self;
        let layout = stored.layout;
        for (first, key) in strays {
            let is_unknown = !matches!(stored.record(key), Ok(Some(_)));
            let key = DocumentKey::from(*key);
            if is_unknown && key.check().is_ok() && !kept.contains(*first) {
                lost.insert(key);
            }
            entries.entry(layout.item(*first)).or_insert(None);
        }
        for key in lost.iter().map(DocumentKey::as_bytes) {
            if let Ok(Some(record)) = stored.record(key) {
                let item = layout.item(record.first);
                if stored.get(&item)? == Some(key) {
                    entries.entry(item).or_insert(None);
                }
            }
            let Place { entry, tail } = layout.document(key);
            if tail.is_some() {
                long.insert(entry);
            } else {
                entries.insert(entry, None);
            }
        }
        for entry in std::mem::take(long) {
            let (head, _) = Layout::head_of(&entry);
            let value = stored.get(&entry)?.unwrap_or_default();
            let records = long_records(value).map_while(|record| record);
            let left: Vec<_> = records
                .filter(|(tail, record)| {
                    let key = DocumentKey::from([head, *tail].concat());
                    RecordRef::parse(&entry, record).is_ok() && !lost.contains(&key)
                })
                .collect();
            let value = long_value(left);
            entries.insert(entry, value);
        }
        Ok(())
    }

    /// Changes sets and counts to what the kept documents say.
    fn write_sets(&mut self) -> Result<()> {
        let Self { stored, kept, documents, sets, entries, .. } = self;
        let (layout, vectors) = (stored.layout, kept.len());
        let next = kept.max().map_or(0, |last| u64::from(last) + 1);
        let mut free = RoaringBitmap::new();
        if let Some(last) = kept.max() {
            free.insert_range(..=last);
        }
        sets.insert(Set::Free, free - &*kept);
        for (set, ids) in sets.iter() {
            let mut pieces: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
            for id in ids {
                let (number, at) = piece::place(id);
                piece::insert(pieces.entry(number).or_default(), at);
            }
            for (number, piece) in pieces {
                let key = layout.set(*set, number);
                if stored.get(&key)? != Some(&piece) {
                    entries.insert(key, Some(piece));
                }
            }
        }
        for entry in stored.entries(&layout.pieces())? {
            let (key, _) = entry?;
            let Some((number, OfPiece::Set(set))) = layout.of_piece(key) else { continue };
            let is_there =
                sets.get(&set).is_some_and(|ids| ids.range_cardinality(piece::ids(number)) > 0);
            if !is_there {
                entries.insert(key.to_vec(), None);
            }
        }
        let meta = Meta { documents: *documents, vectors, next };
        entries.insert(layout.meta(), Some(meta.to_bytes()));
        Ok(())
    }
}
