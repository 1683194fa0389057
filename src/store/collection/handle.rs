//! The handle on a collection, and what changes it.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use heed::RwTxn;

use crate::error::{Error, Result};
use crate::format::mark::Mark;
use crate::index_spec::IndexSpec;
use crate::lmdb::opening::Table;
use crate::metric::Metric;
use crate::options::{BuildOptions, BuildStats};
use crate::reader::Reader;
use crate::store::audit::entry::AuditAction;
use crate::store::collection::document::Document;
use crate::store::collection::filter::within;
use crate::store::collection::key::DocumentKey;
use crate::store::collection::labels::{Labels, check_label};
use crate::store::collection::layout::Layout;
use crate::store::collection::memo::Memo;
use crate::store::collection::plan::Plan;
use crate::store::collection::record::damaged;
use crate::store::collection::stored::Stored;
use crate::store::handle::Inner;
use crate::store::reads::Reads;
use crate::store::txn::WriteTxn;

/// A collection of documents, as [`Store::collection`](crate::Store::collection) gives it.
///
/// A document has a [key](DocumentKey), one or many vectors, a payload and labels. All of it
/// changes in the same transaction, with whatever else that changes. The handle is `Clone + Send +
/// Sync` and cheap to clone. It is good until the collection is deleted, also when the store is
/// opened again.
///
/// ```
/// use spinney::{Document, IndexOptions, Labels, Metric, Store};
/// # let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// let books = store.collection("books", &IndexOptions::new(3, Metric::Cosine))?;
/// store.write(|txn| {
///     books.put(txn, "moby-dick", &Document::new([0.9, 0.1, 0.0]).labels(["sea"]))?;
///     books.put(txn, "sea-wolf", &Document::new([0.8, 0.3, 0.1]).labels(["sea", "wolf"]))?;
///     books.put(txn, "emma", &Document::new([0.0, 0.2, 0.9]).payload("Highbury"))
/// })?;
/// let hits = books.search(&store, 2).labelled("sea").by_vector(&[0.0, 0.0, 1.0])?;
/// assert_eq!((hits[0].key.as_str(), hits.len()), (Some("sea-wolf"), 2));
/// assert_eq!(books.get(&store, "emma")?.expect("it was put").payload, b"Highbury");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Cost
/// A put or a delete rewrites a few pages beside those of the vectors, however many documents there
/// are: one for the key, one for each label that changes, one for items and counts, and the
/// branches above them in LMDB's tree.
#[derive(Clone)]
pub struct Collection {
    pub(super) name: Arc<str>,
    pub(super) number: u16,
    pub(super) dims: usize,
    pub(super) metric: Metric,
    /// That of its store's database.
    pub(super) mark: Option<Mark>,
    /// Labels that all its documents bear.
    pub(super) scope: Arc<[String]>,
}

impl Collection {
    /// Its name when the handle was made.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Components of each vector.
    #[must_use]
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// How vectors are compared.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// The labels that its documents bear: see [`scoped`](Self::scoped).
    #[must_use]
    pub fn scope(&self) -> &[String] {
        &self.scope
    }

    /// A view of the documents that bear a label, such as those of one tenant.
    ///
    /// Through it nothing else can be read, counted, found, deleted or overwritten, and what is put
    /// bears the label. A view of a view has documents that bear both labels. All views share their
    /// keys: a put says whether another document has the key. [`verify`](Self::verify) and
    /// [`build`](Self::build) are about the whole collection, so they are no calls for a tenant.
    ///
    /// ```
    /// use spinney::{Document, Error, IndexOptions, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let docs = store.collection("docs", &IndexOptions::new(1, Metric::Euclidean))?;
    /// let (ann, bob) = (docs.scoped("tenant:ann")?, docs.scoped("tenant:bob")?);
    /// store.write(|txn| ann.put(txn, "note", &Document::new([1.0])))?;
    /// assert_eq!((ann.len(&store)?, bob.len(&store)?, docs.len(&store)?), (1, 0, 1));
    /// assert!(bob.get(&store, "note")?.is_none());
    /// assert!(bob.search(&store, 5).by_vector(&[1.0])?.is_empty());
    /// let overwritten = store.write(|txn| bob.put(txn, "note", &Document::new([2.0])));
    /// assert!(matches!(overwritten, Err(Error::OutOfScope(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidOption`] unless the label has 1 to 200 bytes.
    pub fn scoped(&self, label: impl Into<String>) -> Result<Self> {
        let label = label.into();
        check_label(&label)?;
        let mut scope: Vec<String> = self.scope.to_vec();
        if !scope.contains(&label) {
            scope.push(label);
            // The same scope is the same filter, in whatever order it was made.
            scope.sort_unstable();
        }
        Ok(Self { scope: scope.into(), ..self.clone() })
    }

    /// Puts a document, in the place of the one that has the key.
    ///
    /// ```
    /// use spinney::{Document, IndexOptions, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let docs = store.collection("docs", &IndexOptions::new(2, Metric::Euclidean))?;
    /// store.write(|txn| {
    ///     docs.put(txn, "a", &Document::new([0.0, 1.0]))?;
    ///     docs.put(txn, 7u64, &Document::with_vectors([0.0, 1.0, 2.0, 3.0]).labels(["pair"]))
    /// })?;
    /// assert_eq!((docs.len(&store)?, docs.vectors_len(&store)?), (2, 3));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a key, a label, a payload or a number of vectors out of range;
    /// [`Error::Dimensions`] and what else [`Writer::add_item`](crate::Writer::add_item) says of
    /// vectors; [`Error::OutOfScope`] if the key has a document outside the scope. Nothing is
    /// changed then. [`Error::StoreCorrupted`], [`Error::Corrupted`],
    /// [`Error::OtherEnvironment`]; [`Error::IndexNotFound`] if the collection was deleted;
    /// [`Error::MapFull`], which is to be returned from the closure.
    pub fn put(
        &self,
        txn: &mut WriteTxn<'_>,
        key: impl Into<DocumentKey>,
        document: &Document,
    ) -> Result<()> {
        let key = key.into();
        self.change(txn, |plan, spec| plan.put(spec, &self.scope, &key, document))?;
        self.note(txn, AuditAction::Put, [key].iter());
        Ok(())
    }

    /// Puts many documents: all or none. Of those with the same key, the last stays.
    ///
    /// ```
    /// use spinney::{Document, IndexOptions, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let docs = store.collection("docs", &IndexOptions::new(1, Metric::Euclidean))?;
    /// let all = (0..100u64).map(|i| (i, Document::new([i as f32]).payload(format!("no. {i}"))));
    /// store.write(|txn| docs.put_many(txn, all.clone()))?;
    /// assert_eq!(docs.len(&store)?, 100);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cost
    /// Holds all documents in memory. Each piece of a label is rewritten once, so that this is much
    /// faster than as many puts.
    ///
    /// # Errors
    /// As [`put`](Self::put). Those of one document are in an [`Error::Document`].
    pub fn put_many<K, D>(
        &self,
        txn: &mut WriteTxn<'_>,
        documents: impl IntoIterator<Item = (K, D)>,
    ) -> Result<()>
    where
        K: Into<DocumentKey>,
        D: Borrow<Document>,
    {
        let documents: Vec<(DocumentKey, D)> =
            documents.into_iter().map(|(key, document)| (key.into(), document)).collect();
        self.change(txn, |plan, spec| {
            documents.iter().try_for_each(|(key, document)| {
                let put = plan.put(spec, &self.scope, key, document.borrow());
                put.map_err(|error| match error {
                    error @ (Error::Heed(_) | Error::MapFull | Error::DiskFull(_)) => error,
                    error => Error::Document(key.to_string(), Box::new(error)),
                })
            })
        })?;
        self.note(txn, AuditAction::Put, documents.iter().map(|(key, _)| key));
        Ok(())
    }

    /// Deletes a document. Whether it was there.
    ///
    /// # Errors
    /// As [`put`](Self::put), but for those of a document.
    pub fn delete(&self, txn: &mut WriteTxn<'_>, key: impl Into<DocumentKey>) -> Result<bool> {
        let key = key.into();
        let was_there = self.change(txn, |plan, _| plan.delete(&self.scope, &key))?;
        self.note(txn, AuditAction::Delete, was_there.then_some(key).iter());
        Ok(was_there)
    }

    /// Deletes all documents that a filter means. How many there were.
    ///
    /// ```
    /// use spinney::{Document, IndexOptions, Labels, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let docs = store.collection("docs", &IndexOptions::new(1, Metric::Euclidean))?;
    /// store.write(|txn| {
    ///     docs.put(txn, "a", &Document::new([1.0]).labels(["old"]))?;
    ///     docs.put(txn, "b", &Document::new([2.0]))
    /// })?;
    /// assert_eq!(store.write(|txn| docs.delete_where(txn, "old"))?, 1);
    /// assert_eq!(store.write(|txn| docs.delete_where(txn, Labels::all::<Labels>([])))?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`delete`](Self::delete); [`Error::InvalidOption`] for a label out of range.
    pub fn delete_where(&self, txn: &mut WriteTxn<'_>, filter: impl Into<Labels>) -> Result<u64> {
        let filter = within(&self.scope, Some(filter.into()));
        let deleted = self.change(txn, |plan, _| {
            let stored = plan.stored();
            let mut keys = Vec::new();
            let Some(filter) = filter else { return Ok(keys) };
            for id in stored.firsts(&*stored.meant(&filter)?)? {
                let (_, key) = stored.document_of(id)?;
                let key = DocumentKey::from(key);
                // A damaged set may have items of documents outside the scope.
                if !plan.delete(&self.scope, &key)? {
                    return Err(damaged(&stored.layout.item(id)));
                }
                keys.push(key);
            }
            Ok(keys)
        })?;
        self.note(txn, AuditAction::Delete, deleted.iter());
        Ok(deleted.len() as u64)
    }

    /// Builds now, with options of your own: see [`Writer::build`](crate::Writer::build). Without
    /// it, a write builds by itself [when much has changed](crate::Store::set_build_after).
    ///
    /// # Errors
    /// As [`Writer::build`](crate::Writer::build); [`Error::IndexNotFound`] if the collection was
    /// deleted.
    pub fn build(&self, txn: &mut WriteTxn<'_>, options: &BuildOptions<'_>) -> Result<BuildStats> {
        self.check_store(txn.store())?;
        let stats =
            txn.with_writer(self.number, &self.name, |writer, wtxn| writer.build(wtxn, options))?;
        txn.note_whole(AuditAction::Build, self.number, &self.name, 1);
        Ok(stats)
    }

    /// Tells the audit log what was done to documents.
    fn note<'k>(
        &self,
        txn: &mut WriteTxn<'_>,
        action: AuditAction,
        keys: impl ExactSizeIterator<Item = &'k DocumentKey>,
    ) {
        txn.note_documents(action, self.number, &self.name, keys.map(DocumentKey::as_bytes));
    }

    /// Plans changes, then writes them.
    fn change<'d, R>(
        &self,
        txn: &mut WriteTxn<'_>,
        work: impl FnOnce(&mut Plan<'_, 'd>, IndexSpec) -> Result<R>,
    ) -> Result<R> {
        self.check_store(txn.store())?;
        let (table, layout) = (txn.store().tables.documents, self.layout());
        txn.with_writer(self.number, &self.name, |writer, wtxn: &mut RwTxn<'_>| {
            let spec = writer.spec(wtxn)?;
            let mut plan = Plan::begin(Stored { table, layout, rtxn: wtxn, memo: None })?;
            let result = work(&mut plan, spec)?;
            let changes = plan.finish();
            changes.write(writer, wtxn)?;
            Ok(result)
        })
    }

    /// Reads, by what is stored and a reader of the vectors.
    pub(super) fn with<S: Reads, R>(
        &self,
        source: &S,
        work: impl FnOnce(&Reader<'_>, Stored<'_>) -> Result<R>,
    ) -> Result<R> {
        let inner = source.inner();
        self.check_store(inner)?;
        let table = inner.tables.documents;
        source.with_memo_of(self.number, |reader, memo| {
            work(reader, self.stored(table, reader, memo))
        })
    }

    /// What is stored, in the transaction of a reader of the vectors.
    pub(super) fn stored<'t>(
        &self,
        table: Table<'static>,
        reader: &'t Reader<'_>,
        memo: Option<&'t Memo>,
    ) -> Stored<'t> {
        Stored { table, layout: self.layout(), rtxn: reader.session().view().rtxn, memo }
    }

    fn layout(&self) -> Layout {
        Layout { number: self.number }
    }

    /// An error unless it is the store that gave the handle.
    fn check_store(&self, inner: &Inner) -> Result<()> {
        if inner.tables.db.mark() == self.mark { Ok(()) } else { Err(Error::OtherEnvironment) }
    }
}

impl fmt::Debug for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collection")
            .field("name", &self.name)
            .field("dims", &self.dims)
            .field("metric", &self.metric)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}
