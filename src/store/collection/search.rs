//! Searches for documents.

use std::ops::ControlFlow;

use crate::error::{BoxedError, Error, Result};
use crate::query::callback::{Stop, either};
use crate::query::{Example, Hits, Nns};
use crate::search::Hit;
use crate::store::collection::filter::within;
use crate::store::collection::handle::Collection;
use crate::store::collection::hits::{DocumentExample, DocumentHit};
use crate::store::collection::key::DocumentKey;
use crate::store::collection::labels::Labels;
use crate::store::collection::record::damaged;
use crate::store::collection::stored::Stored;
use crate::store::reads::Reads;

type KeyFilter<'a> = Box<dyn Fn(&DocumentKey) -> Result<bool, BoxedError> + 'a>;

/// Searches for documents: see [`Collection::search`].
pub struct Documents<'a, S> {
    collection: &'a Collection,
    source: &'a S,
    filter: Option<Labels>,
    admits: Option<KeyFilter<'a>>,
    stop: Option<Stop<'a>>,
    has_payload: bool,
}

impl Collection {
    /// Starts a search for the `k` nearest documents, each counted once, by its nearest vector. The
    /// source is whatever [can be read from](Reads).
    ///
    /// The builder has the options of all searches: see [`Nns`]. It is fastest from a store or a
    /// [`StoreSnapshot`](crate::StoreSnapshot). They remember what searches have met, and the sets
    /// that filters mean.
    ///
    /// ```
    /// use spinney::{Document, IndexOptions, Labels, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let docs = store.collection("docs", &IndexOptions::new(1, Metric::Euclidean))?;
    /// store.write(|txn| {
    ///     docs.put(txn, "a", &Document::with_vectors([1.0, 2.0]).labels(["lang:en"]))?;
    ///     docs.put(txn, "b", &Document::new([3.0]).labels(["lang:de"]))?;
    ///     docs.put(txn, "c", &Document::new([9.0]).labels(["lang:en", "draft"]))
    /// })?;
    /// let hits = docs.search(&store, 2).by_vector(&[0.0])?;
    /// assert_eq!((&hits[0].key, &hits[1].key), (&"a".into(), &"b".into()));
    /// let english = docs.search(&store, 2).labelled("lang:en").recall(0.99).by_vector(&[0.0])?;
    /// assert_eq!((&english[1].key, english[1].distance), (&"c".into(), 9.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cost
    /// That of a search in the index, and two look-ups for each hit. Where documents have several
    /// vectors, the search goes on until it has found `k` of them.
    pub fn search<'a, S: Reads>(&'a self, source: &'a S, k: usize) -> Nns<'a, Documents<'a, S>> {
        let (filter, admits, stop) = (None, None, None);
        let executor =
            Documents { collection: self, source, filter, admits, stop, has_payload: false };
        Nns::with_executor(k, executor)
    }
}

/// Options of searches for documents.
///
/// Ids, as of [`filter`](Nns::filter), are those of the vectors in the index beneath.
impl<'a, S: Reads> Nns<'a, Documents<'a, S>> {
    /// Finds only documents that this filter means. With two filters, both have to.
    pub fn labelled(mut self, filter: impl Into<Labels>) -> Self {
        let filter = filter.into();
        self.executor.filter = Some(match self.executor.filter.take() {
            Some(before) => Labels::all([before, filter]),
            None => filter,
        });
        self
    }

    /// Finds only documents whose keys `admits` returns true for. With two functions, both have to.
    /// It is called for vectors that look near. If few are admitted, a label is faster.
    ///
    /// ```
    /// # use spinney::{Document, IndexOptions, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// # let store = Store::open(dir.path())?;
    /// # let docs = store.collection("docs", &IndexOptions::new(1, Metric::Euclidean))?;
    /// store.write(|txn| (0..9u64).try_for_each(|i| docs.put(txn, i, &Document::new([i as f32]))))?;
    /// let odd = docs.search(&store, 1).filter_fn(|key| key.as_u64().is_some_and(|i| i % 2 == 1));
    /// assert_eq!(odd.by_vector(&[0.0])?[0].key, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn filter_fn(self, admits: impl Fn(&DocumentKey) -> bool + 'a) -> Self {
        self.try_filter_fn(move |key| Ok::<_, std::convert::Infallible>(admits(key)))
    }

    /// As [`filter_fn`](Self::filter_fn), with a function that may fail. The first failure ends the
    /// search, which returns [`Error::Callback`].
    pub fn try_filter_fn<E>(mut self, admits: impl Fn(&DocumentKey) -> Result<bool, E> + 'a) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'a,
    {
        let before = self.executor.admits.take();
        self.executor.admits = Some(Box::new(move |key| {
            let is_admitted = before.as_ref().map_or(Ok(true), |before| before(key))?;
            Ok(is_admitted && admits(key).map_err(Into::into)?)
        }));
        self
    }

    /// Ends the search when `callback` returns [`ControlFlow::Break`], as [`Nns::cancel`] does.
    pub fn cancel(mut self, callback: impl Fn() -> ControlFlow<()> + 'a) -> Self {
        self.executor.stop = Some(either(self.executor.stop.take(), callback));
        self
    }

    /// Shares exact searches among the threads of the current rayon pool, as [`Nns::parallel`]
    /// does.
    pub fn parallel(mut self) -> Self {
        self.options.is_parallel = true;
        self
    }

    /// Whether hits have the payload of their document. Default: no.
    pub fn payload(mut self, is_wanted: bool) -> Self {
        self.executor.has_payload = is_wanted;
        self
    }
}

/// What to search for.
///
/// Besides what each call names, all fail as [`Nns::by_vector`] and as
/// [reading](Collection::get) does.
impl<S: Reads> Nns<'_, Documents<'_, S>> {
    /// Finds the documents nearest to `vector`. Equally near ones come in the order of their ids in
    /// the index beneath.
    ///
    /// # Errors
    /// As [`Nns::by_vector`]; [`Error::InvalidOption`] for a label out of range.
    pub fn by_vector(self, vector: &[f32]) -> Result<Hits<DocumentHit>> {
        self.run(|nns, found| found.hits(nns.by_vector(vector)?))
    }

    /// Finds the documents nearest to each of several vectors, in their order.
    ///
    /// # Shape and units
    /// `vectors`: rows of as many numbers as the collection has dimensions; there may be none.
    ///
    /// # Errors
    /// As [`Nns::by_vectors`].
    pub fn by_vectors(self, vectors: &[f32]) -> Result<Vec<Hits<DocumentHit>>> {
        self.run(|nns, found| {
            nns.by_vectors(vectors)?.into_iter().map(|hits| found.hits(hits)).collect()
        })
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
    /// # Errors
    /// [`Error::InvalidOption`] unless the key has 1 to 511 bytes.
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
    /// [`Error::DocumentNotFound`] for a key without a document; else as [`Nns::by_any`].
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

    /// Runs a search in the index.
    fn run<R>(self, work: impl FnOnce(Nns<'_>, &Found<'_>) -> Result<R>) -> Result<R> {
        let Self { k, options, allowed, report, executor } = self;
        let Documents { collection, source, filter, admits, stop, has_payload } = executor;
        let filter = within(&collection.scope, filter);
        collection.with(source, |reader, stored| {
            let found = Found { collection, stored, has_payload };
            let meant = filter.map(|filter| stored.meant(&filter)).transpose()?;
            let meta = stored.meta()?;
            let mut nns = Nns::new(reader.session(), k);
            nns.options = options;
            nns.report = report;
            if let Some(allowed) = allowed.as_deref() {
                nns = nns.filter(allowed);
            }
            if let Some(meant) = meant.as_deref() {
                nns = nns.filter(meant);
            }
            if let Some(stop) = stop {
                nns = nns.cancel(stop);
            }
            if let Some(admits) = admits {
                nns = nns.try_filter_fn(move |id| {
                    let (_, key) = stored.document_of(id)?;
                    admits(&DocumentKey::from(key))
                });
            }
            if meta.documents < meta.vectors {
                nns = nns.try_per_group(1, move |id| {
                    stored.document_of(id).map(|(first, _)| u64::from(first))
                });
            }
            work(nns, &found).map_err(|error| match error {
                // What failed in the functions above.
                Error::Callback(inner) => match inner.downcast::<Error>() {
                    Ok(error) => *error,
                    Err(inner) => Error::Callback(inner),
                },
                error => error,
            })
        })
    }
}

/// From items to documents.
struct Found<'t> {
    collection: &'t Collection,
    stored: Stored<'t>,
    has_payload: bool,
}

impl Found<'_> {
    fn hits(&self, hits: Hits) -> Result<Hits<DocumentHit>> {
        let is_partial = hits.is_partial();
        let documents = hits.iter().map(|hit| self.hit(hit)).collect::<Result<_>>()?;
        Ok(Hits::new(documents, is_partial))
    }

    fn hit(&self, hit: &Hit) -> Result<DocumentHit> {
        let (first, key) = self.stored.document_of(hit.id)?;
        let payload = if self.has_payload {
            let record = self.stored.record(key)?.filter(|record| record.first == first);
            Some(record.ok_or_else(|| damaged(key))?.payload.to_vec())
        } else {
            None
        };
        Ok(DocumentHit { key: DocumentKey::from(key), distance: hit.distance, payload })
    }

    fn examples<'e>(&self, examples: &[DocumentExample<'e>]) -> Result<Vec<Example<'e>>> {
        let mut all = Vec::new();
        for example in examples {
            match example {
                DocumentExample::Vector(vector) => all.push(Example::Vector(vector)),
                DocumentExample::Key(key) => {
                    let record = self.collection.record(self.stored, key)?;
                    let missing = || Error::DocumentNotFound(key.to_string());
                    all.extend(record.ok_or_else(missing)?.ids().map(Example::Item));
                }
            }
        }
        Ok(all)
    }
}
