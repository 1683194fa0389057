//! Whether keys, items, labels, vectors and counts agree.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::key::Kind;
use crate::lmdb::opening::Table;
use crate::lmdb::view::View;
use crate::reader::Reader;
use crate::store::collection::handle::Collection;
use crate::store::collection::iterate::visit;
use crate::store::collection::key::DocumentKey;
use crate::store::collection::layout::{Layout, OfPiece, Set};
use crate::store::collection::record::{Meta, RecordRef};
use crate::store::collection::stored::Stored;
use crate::store::reads::Reads;

/// Something of a collection that does not agree with the rest: see [`Collection::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Disagreement {
    /// Where: a document, a label or what else it is, as text.
    pub place: String,
    /// What is wrong, in words.
    pub what: String,
}

impl Collection {
    /// Reads all that is stored beside the vectors, and reports what does not agree: keys, items,
    /// labels, counts, and which vectors there are. In a scope, too, all documents are read.
    ///
    /// Whether the index of the vectors is sound is [`Reader::verify`](crate::Reader::verify)'s to
    /// say.
    ///
    /// ```
    /// use spinney::{Document, IndexOptions, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let docs = store.collection("docs", &IndexOptions::new(1, Metric::Euclidean))?;
    /// store.write(|txn| docs.put(txn, "a", &Document::new([1.0]).labels(["lang:en"])))?;
    /// assert!(docs.verify(&store)?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cost
    /// Reads the record of each document and the key of each vector; memory for the sets.
    ///
    /// # Errors
    /// As all [reading](Self::get), but for damaged bytes: these are reported.
    pub fn verify<S: Reads>(&self, source: &S) -> Result<Vec<Disagreement>> {
        self.with(source, |reader, stored| verify(reader.session().view(), stored))
    }
}

/// Checks the collection whose vectors a reader reads.
pub(crate) fn verify_collection(
    reader: &Reader<'_>,
    table: Table<'static>,
) -> Result<Vec<Disagreement>> {
    let (view, layout) = (reader.session().view(), Layout { number: reader.index() });
    verify(view, Stored { table, layout, rtxn: view.rtxn, memo: None })
}

/// Checks a collection against the index of its vectors.
fn verify(view: View<'_>, stored: Stored<'_>) -> Result<Vec<Disagreement>> {
    let mut check = Check {
        stored,
        expected: BTreeMap::new(),
        all: RoaringBitmap::new(),
        found: Vec::new(),
        documents: 0,
    };
    check.documents()?;
    check.items()?;
    check.counts()?;
    check.sets()?;
    check.vectors(view)?;
    Ok(check.found)
}

struct Check<'t> {
    stored: Stored<'t>,
    /// The sets as the records have it.
    expected: BTreeMap<Set<'t>, RoaringBitmap>,
    /// The items of all documents.
    all: RoaringBitmap,
    found: Vec<Disagreement>,
    documents: u64,
}

impl<'t> Check<'t> {
    fn report(&mut self, place: impl ToString, what: impl ToString) {
        self.found.push(Disagreement { place: place.to_string(), what: what.to_string() });
    }

    /// Turns damage into a disagreement; other errors end the check.
    fn accept<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::StoreCorrupted { key, .. }) => {
                self.report(key, "the value is damaged");
                Ok(None)
            }
            Err(error @ Error::FormatTooNew { .. }) => {
                self.report("documents", error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn documents(&mut self) -> Result<()> {
        let mut result = Ok(());
        visit(self.stored, &[], None, |key, record| {
            result = self.accept(record).and_then(|record| match record {
                Some(record) => self.document(&key, &record),
                None => Ok(()),
            });
            result.is_ok()
        })?;
        result
    }

    fn document(&mut self, key: &DocumentKey, record: &RecordRef<'t>) -> Result<()> {
        self.documents += 1;
        if let Some((first, of)) = self.accept(self.stored.document_of(record.first))?
            && (first != record.first || of != key.as_bytes())
        {
            self.report(key, "its first item is not listed as this document's");
        }
        for id in record.ids() {
            if !self.all.insert(id) {
                self.report(key, format!("item {id} is another document's, too"));
            }
        }
        self.expected.entry(Set::Rest).or_default().extend(record.ids().skip(1));
        for label in &record.labels {
            self.expected.entry(Set::Label(label)).or_default().extend(record.ids());
        }
        Ok(())
    }

    /// Each document has one entry by its item, so as many of them are all of them.
    fn items(&mut self) -> Result<()> {
        let (mut count, layout) = (0, self.stored.layout);
        for entry in self.stored.entries(&layout.number.to_be_bytes())? {
            let (key, _) = entry?;
            count += u64::from(matches!(layout.of_piece(key), Some((_, OfPiece::Item(_)))));
            if !layout.is_known(key) {
                self.report(key.escape_ascii(), "no entry of a collection has such a key");
            }
        }
        if count != self.documents {
            let what = format!("{count} are listed, and there are {} documents", self.documents);
            self.report("items", what);
        }
        Ok(())
    }

    fn sets(&mut self) -> Result<()> {
        let mut actual: BTreeMap<Set<'t>, RoaringBitmap> = BTreeMap::new();
        for set in [Set::Free, Set::Rest] {
            if let Some(ids) = self.accept(self.stored.set(set))? {
                actual.insert(set, ids);
            }
        }
        if let Some(labels) = self.accept(self.stored.labels())? {
            actual.extend(labels.into_iter().map(|(label, ids)| (Set::Label(label), ids)));
        }
        let expected = std::mem::take(&mut self.expected);
        let none = RoaringBitmap::new();
        let names: std::collections::BTreeSet<_> = expected.keys().chain(actual.keys()).collect();
        for name in names {
            let expected = expected.get(name).unwrap_or(&none);
            let actual = actual.get(name).unwrap_or(&none);
            if expected != actual {
                let (missing, more) = ((expected - actual).len(), (actual - expected).len());
                let what =
                    format!("the set lacks {missing} items, and has {more} that are not its");
                self.report(format!("{name:?}"), what);
            }
        }
        Ok(())
    }

    fn counts(&mut self) -> Result<()> {
        let meta = self.stored.meta();
        let Some(Meta { documents, vectors, next }) = self.accept(meta)? else {
            return Ok(());
        };
        if (documents, vectors) != (self.documents, self.all.len()) {
            let what = format!(
                "{documents} documents and {vectors} vectors are counted, and there are {} and {}",
                self.documents,
                self.all.len()
            );
            self.report("counts", what);
        }
        if self.all.max().is_some_and(|last| next <= last.into()) {
            self.report("counts", "ids that are to be given out are taken");
        }
        let mut free = RoaringBitmap::new();
        if let Some(last) = next.checked_sub(1) {
            free.insert_range(..=u32::try_from(last).unwrap_or(u32::MAX));
        }
        self.expected.insert(Set::Free, free - &self.all);
        Ok(())
    }

    fn vectors(&mut self, view: View<'_>) -> Result<()> {
        let mut there = RoaringBitmap::new();
        for entry in view.iter(Kind::Item)? {
            match entry {
                Ok((key, _)) => {
                    there.insert(key.id());
                }
                Err(Error::Corrupted { what, .. }) => self.report("vectors", what),
                Err(error) => return Err(error),
            }
        }
        if self.all != there {
            let (missing, more) = ((&self.all - &there).len(), (&there - &self.all).len());
            let what = format!("{missing} of documents are missing, and {more} are of no document");
            self.report("vectors", what);
        }
        Ok(())
    }
}
