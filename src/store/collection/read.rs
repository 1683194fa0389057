//! What can be read of a collection, but for searches.

use crate::error::Result;
use crate::lmdb::item::missing_item;
use crate::store::collection::document::StoredDocument;
use crate::store::collection::filter::within;
use crate::store::collection::handle::Collection;
use crate::store::collection::key::DocumentKey;
use crate::store::collection::labels::Labels;
use crate::store::collection::record::RecordRef;
use crate::store::collection::stored::Stored;
use crate::store::reads::Reads;

/// Reading. The source is whatever [can be read from](Reads): the store, a snapshot, a transaction.
///
/// Besides what each call names, all fail as the source does, and with these:
/// [`Error::OtherEnvironment`] if the source is of another store; [`Error::IndexNotFound`] if the
/// collection was deleted, or is not there yet; [`Error::StoreCorrupted`] and [`Error::Corrupted`]
/// for damaged bytes.
///
/// [`Error::OtherEnvironment`]: crate::Error::OtherEnvironment
/// [`Error::IndexNotFound`]: crate::Error::IndexNotFound
/// [`Error::StoreCorrupted`]: crate::Error::StoreCorrupted
/// [`Error::Corrupted`]: crate::Error::Corrupted
impl Collection {
    /// The document of a key: its payload and labels. [`vectors`](Self::vectors) has its vectors.
    ///
    /// ```
    /// use spinney::{Document, IndexOptions, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let docs = store.collection("docs", &IndexOptions::new(1, Metric::Euclidean))?;
    /// store.write(|txn| docs.put(txn, "a", &Document::new([1.0]).payload("text")))?;
    /// assert_eq!(docs.get(&store, "a")?.expect("it was put").payload, b"text");
    /// assert!(docs.get(&store, "b")?.is_none() && docs.contains(&store, "a")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidOption`](crate::Error::InvalidOption) unless the key has 1 to 511 bytes.
    pub fn get<S: Reads>(
        &self,
        source: &S,
        key: impl Into<DocumentKey>,
    ) -> Result<Option<StoredDocument>> {
        let key = key.into();
        self.with(source, |_, stored| {
            let record = self.record(stored, &key)?;
            Ok(record.map(|record| StoredDocument::new(key.clone(), &record)))
        })
    }

    /// The vectors of a document as they are stored, one after the other.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn vectors<S: Reads>(
        &self,
        source: &S,
        key: impl Into<DocumentKey>,
    ) -> Result<Option<Vec<f32>>> {
        let key = key.into();
        self.with(source, |reader, stored| {
            let Some(record) = self.record(stored, &key)? else { return Ok(None) };
            let mut vectors = Vec::with_capacity(record.vectors as usize * reader.dims());
            for id in record.ids() {
                let vector = reader.item_vector(id)?;
                vectors.extend(vector.ok_or_else(|| missing_item(reader.session().spec(), id))?);
            }
            Ok(Some(vectors))
        })
    }

    /// Whether there is a document of this key.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn contains<S: Reads>(&self, source: &S, key: impl Into<DocumentKey>) -> Result<bool> {
        let key = key.into();
        self.with(source, |_, stored| Ok(self.record(stored, &key)?.is_some()))
    }

    /// How many documents there are.
    ///
    /// # Cost
    /// O(1); in a scope, that of [`count`](Self::count).
    ///
    /// # Errors
    /// As all reading.
    pub fn len<S: Reads>(&self, source: &S) -> Result<u64> {
        self.with(source, |_, stored| match within(&self.scope, None) {
            None => Ok(stored.meta()?.documents),
            Some(scope) => stored.documents_in(&*stored.meant(&scope)?),
        })
    }

    /// Whether there are no documents.
    ///
    /// # Errors
    /// As all reading.
    pub fn is_empty<S: Reads>(&self, source: &S) -> Result<bool> {
        Ok(self.len(source)? == 0)
    }

    /// How many vectors the documents have.
    ///
    /// # Cost
    /// As [`len`](Self::len).
    ///
    /// # Errors
    /// As all reading.
    pub fn vectors_len<S: Reads>(&self, source: &S) -> Result<u64> {
        self.with(source, |_, stored| match within(&self.scope, None) {
            None => Ok(stored.meta()?.vectors),
            Some(scope) => Ok(stored.meant(&scope)?.len()),
        })
    }

    /// How many documents a filter means.
    ///
    /// # Cost
    /// Reads the sets of its labels, some bits for each document that bears one.
    ///
    /// # Errors
    /// [`Error::InvalidOption`](crate::Error::InvalidOption) for a label out of range.
    pub fn count<S: Reads>(&self, source: &S, filter: impl Into<Labels>) -> Result<u64> {
        let filter = within(&self.scope, Some(filter.into()));
        self.with(source, |_, stored| match &filter {
            Some(filter) => stored.documents_in(&*stored.meant(filter)?),
            None => Ok(0),
        })
    }

    /// All labels, in the order of their bytes, with how many documents bear each.
    ///
    /// ```
    /// use spinney::{Document, IndexOptions, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let docs = store.collection("docs", &IndexOptions::new(1, Metric::Euclidean))?;
    /// store.write(|txn| {
    ///     docs.put(txn, "a", &Document::new([1.0]).labels(["lang:en", "draft"]))?;
    ///     docs.put(txn, "b", &Document::new([2.0]).labels(["lang:en"]))
    /// })?;
    /// assert_eq!(docs.labels(&store)?, [("draft".to_owned(), 1), ("lang:en".to_owned(), 2)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cost
    /// Reads the sets of all labels, in a scope, too.
    ///
    /// # Errors
    /// As all reading.
    pub fn labels<S: Reads>(&self, source: &S) -> Result<Vec<(String, u64)>> {
        self.with(source, |_, stored| {
            let scope = within(&self.scope, None).map(|scope| stored.meant(&scope)).transpose()?;
            let rest = stored.rest()?;
            let mut labels = Vec::new();
            for (label, mut ids) in stored.labels()? {
                if let Some(scope) = &scope {
                    ids &= &**scope;
                }
                ids -= &rest;
                if !ids.is_empty() {
                    labels.push((label.to_owned(), ids.len()));
                }
            }
            labels.sort_unstable();
            Ok(labels)
        })
    }

    /// The record of a document in the scope.
    pub(super) fn record<'t>(
        &self,
        stored: Stored<'t>,
        key: &DocumentKey,
    ) -> Result<Option<RecordRef<'t>>> {
        key.check()?;
        Ok(stored.record(key.as_bytes())?.filter(|record| record.bears(&self.scope)))
    }
}
