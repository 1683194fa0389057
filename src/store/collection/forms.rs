//! What to search for among documents.

use crate::error::Result;
use crate::query::{Example, Hits, Nns};
use crate::snapshot::batch::{Many, Work};
use crate::store::collection::filter::within;
use crate::store::collection::found::{Found, told};
use crate::store::collection::hits::{DocumentExample, DocumentHit};
use crate::store::collection::key::DocumentKey;
use crate::store::collection::paged::{DocumentNeighbours, DocumentPages};
use crate::store::collection::search::Documents;
use crate::store::reads::Reads;
use crate::vector::check_rows;

/// What to search for.
///
/// Besides what each call names, all fail as [`Nns::by_vector`] and as
/// [reading](crate::Collection::get) does.
impl<'a, S: Reads> Nns<'a, Documents<'a, S>> {
    /// Finds the documents nearest to `vector`. Equally near ones come in the order of their ids in
    /// the index beneath.
    ///
    /// # Errors
    /// As [`Nns::by_vector`]; [`Error::InvalidOption`](crate::Error::InvalidOption) for a label out of range.
    pub fn by_vector(self, vector: &[f32]) -> Result<Hits<DocumentHit>> {
        self.run(|nns, found| found.hits(nns.by_vector(vector)?))
    }

    /// Finds the documents nearest to each of several vectors, in their order.
    ///
    /// From a [`Store`](crate::Store) or a [`StoreSnapshot`](crate::StoreSnapshot), the threads of
    /// the current rayon pool share them. Each gets the same answer, whatever the number of threads.
    /// With functions over keys or to cancel, this thread searches alone, as it alone may call them.
    /// Others do as if [`Nns::parallel`] had not been asked for.
    ///
    /// ```
    /// # use spinney::{Document, IndexOptions, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// # let store = Store::open(dir.path())?;
    /// # let docs = store.collection("docs", &IndexOptions::new(1, Metric::Euclidean))?;
    /// store.write(|txn| (0..9u64).try_for_each(|i| docs.put(txn, i, &Document::new([i as f32]))))?;
    /// let answers = docs.search(&store, 1).by_vectors(&[2.1, 6.9])?; // two rows of one dimension
    /// assert_eq!((&answers[0][0].key, &answers[1][0].key), (&2.into(), &7.into()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Shape and units
    /// `vectors`: rows of as many numbers as the collection has dimensions; there may be none.
    ///
    /// # Errors
    /// As [`Nns::by_vectors`].
    pub fn by_vectors(self, vectors: &[f32]) -> Result<Vec<Hits<DocumentHit>>> {
        let Documents { source, admits, stop, groups, .. } = &self.executor;
        if admits.is_some() || stop.is_some() || groups.is_some() {
            return self.run(|nns, found| {
                nns.by_vectors(vectors)?.into_iter().map(|hits| found.hits(hits)).collect()
            });
        }
        let source = *source;
        match source.pinned()? {
            Some(snapshot) => self.share(&snapshot, vectors),
            None => self.share(source, vectors),
        }
    }

    /// Searches in one commit, by several threads if it lets them.
    fn share<T: Reads>(self, source: &T, vectors: &[f32]) -> Result<Vec<Hits<DocumentHit>>> {
        let Self { k, mut options, allowed, report, executor } = self;
        let Documents { collection, filter, has_payload, .. } = executor;
        options.check()?;
        // One thread each is as much as there is.
        options.is_parallel = false;
        let filter = within(&collection.scope, filter);
        let (meant, spec) = collection.with(source, |reader, stored| {
            let meant = filter.map(|filter| stored.meant(&filter)).transpose()?;
            Ok((meant, reader.session().spec()))
        })?;
        let rows = check_rows(vectors, spec)?;
        let number = collection.number;
        let each = |count, work: &Work<'_>| source.each_of(number, count, work);
        let mut many = Nns::with_executor(k, Many::new(spec, each));
        (many.options, many.report) = (options, report);
        for allowed in allowed.as_deref().into_iter().chain(meant.as_deref()) {
            many = many.filter(allowed);
        }
        let table = source.inner().tables.documents;
        let answers = many.share(rows.len(), |nns, reader, i| {
            let stored = collection.stored(table, reader, None);
            let found = Found { collection, stored, has_payload };
            let (hits, stats) = found.count_once(nns)?.run(rows[i].as_item(), &[], &[])?;
            Ok((found.hits(hits)?, stats))
        });
        answers.map_err(told)
    }

    /// Finds the documents nearest to any vector of a document, which is left out. `None` if there
    /// is no such document.
    ///
    /// ```
    /// # use spinney::{Document, IndexOptions, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// # let store = Store::open(dir.path())?;
    /// # let docs = store.collection("docs", &IndexOptions::new(1, Metric::Euclidean))?;
    /// store.write(|txn| {
    ///     docs.put(txn, "a", &Document::with_vectors([1.0, 8.0]))?;
    ///     docs.put(txn, "b", &Document::new([2.5]))?;
    ///     docs.put(txn, "c", &Document::new([9.0]))
    /// })?;
    /// let hits = docs.search(&store, 1).by_key("a")?.expect("it was put");
    /// assert_eq!((&hits[0].key, hits[0].distance), (&"c".into(), 1.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cost
    /// One search for each vector of the document, as [`Nns::by_any`] makes them.
    ///
    /// # Errors
    /// [`Error::InvalidOption`](crate::Error::InvalidOption) unless the key has 1 to 511 bytes.
    pub fn by_key(self, key: impl Into<DocumentKey>) -> Result<Option<Hits<DocumentHit>>> {
        let key = key.into();
        self.run(|nns, found| {
            let Some(record) = found.collection.record(found.stored, &key)? else {
                return Ok(None);
            };
            if record.vectors == 1 {
                let hits = nns.by_item(record.first)?;
                return hits.map(|hits| found.hits(hits)).transpose();
            }
            let items: Vec<Example<'_>> = record.ids().map(Example::Item).collect();
            found.hits(nns.by_any(&items)?).map(Some)
        })
    }

    /// Finds the documents nearest to any of several examples.
    ///
    /// # Errors
    /// [`Error::DocumentNotFound`](crate::Error::DocumentNotFound) for a key without a document; else as [`Nns::by_any`].
    pub fn by_any(self, examples: &[DocumentExample<'_>]) -> Result<Hits<DocumentHit>> {
        self.run(|nns, found| found.hits(nns.by_any(&found.examples(examples)?)?))
    }

    /// Finds the documents nearest to the mean of several examples, which are left out. A document
    /// of several vectors counts as so many examples.
    ///
    /// # Errors
    /// As [`by_any`](Self::by_any) and [`Nns::by_mean`].
    pub fn by_mean(self, examples: &[DocumentExample<'_>]) -> Result<Hits<DocumentHit>> {
        self.by_examples(examples, &[])
    }

    /// Finds documents that are like the positive examples and unlike the negative ones, as
    /// [`Nns::by_examples`] does.
    ///
    /// # Errors
    /// As [`by_mean`](Self::by_mean).
    pub fn by_examples(
        self,
        positive: &[DocumentExample<'_>],
        negative: &[DocumentExample<'_>],
    ) -> Result<Hits<DocumentHit>> {
        self.run(|nns, found| {
            let (positive, negative) = (found.examples(positive)?, found.examples(negative)?);
            found.hits(nns.by_examples(&positive, &negative)?)
        })
    }

    /// Finds the documents nearest to an example page by page, `k` each, as [`Nns::pages`] does:
    /// each comes once, by the nearest of its vectors, and in the end all have come.
    ///
    /// All pages are of one commit: that of the source, or the newest of a [`Store`](crate::Store),
    /// whose pages LMDB cannot use again meanwhile.
    ///
    /// ```
    /// # use spinney::{Document, IndexOptions, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// # let store = Store::open(dir.path())?;
    /// # let docs = store.collection("docs", &IndexOptions::new(1, Metric::Euclidean))?;
    /// store.write(|txn| {
    ///     docs.put(txn, "a", &Document::with_vectors([1.0, 2.0]))?;
    ///     docs.put(txn, "b", &Document::new([3.0]))?;
    ///     docs.put(txn, "c", &Document::new([4.0]))
    /// })?;
    /// let mut pages = docs.search(&store, 2).pages(&[0.0])?;
    /// let (first, second) = (pages.next_page()?, pages.next_page()?);
    /// assert_eq!((&first[0].key, &first[1].key), (&"a".into(), &"b".into()));
    /// assert_eq!((&second[0].key, second.len()), (&"c".into(), 1));
    /// assert!(pages.next_page()?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cost
    /// As [`Nns::pages`], for the vectors of the documents that come.
    ///
    /// # Errors
    /// As [`by_any`](Self::by_any); [`Error::Incompatible`](crate::Error::Incompatible) with groups, and for the key of a
    /// document of several vectors.
    pub fn pages<'e>(
        self,
        example: impl Into<DocumentExample<'e>>,
    ) -> Result<DocumentPages<'a, S>> {
        DocumentPages::new(self, example.into())
    }

    /// Iterates over the documents nearest to an example, at most `k`, as [`Nns::neighbours`] does.
    /// It searches only as far as the iterator is read.
    ///
    /// # Errors
    /// As [`pages`](Self::pages).
    pub fn neighbours<'e>(
        self,
        example: impl Into<DocumentExample<'e>>,
    ) -> Result<DocumentNeighbours<'a, S>> {
        DocumentNeighbours::new(self, example.into())
    }

    /// Runs a search in the index.
    fn run<R>(mut self, work: impl FnOnce(Nns<'_>, &Found<'_>) -> Result<R>) -> Result<R> {
        let Documents { collection, source, ref mut filter, .. } = self.executor;
        let filter = within(&collection.scope, filter.take());
        self.ask(source, filter.as_ref(), |nns, found| work(found.count_once(nns)?, found))
    }
}
