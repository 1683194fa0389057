//! The builder of searches for documents, and its options.

use std::convert::Infallible;
use std::ops::ControlFlow;

use crate::error::{BoxedError, Result};
use crate::query::Nns;
use crate::query::callback::{Stop, either};
use crate::query::groups::Wanted;
use crate::store::collection::handle::Collection;
use crate::store::collection::key::DocumentKey;
use crate::store::collection::labels::Labels;
use crate::store::reads::Reads;

/// A function of the caller's that is called with keys.
type KeyCallback<'a, T> = Box<dyn Fn(&DocumentKey) -> Result<T, BoxedError> + 'a>;

/// Searches for documents: see [`Collection::search`].
///
/// They have all options of [`Nns`] and all forms, with keys in the place of ids, but for two:
/// `by_vectors_into`, as keys have no buffers, and `by_items`. Many searches [by key](Nns::by_key)
/// can be shared among threads of the caller's over a [`StoreSnapshot`](crate::StoreSnapshot).
pub struct Documents<'a, S> {
    pub(super) collection: &'a Collection,
    pub(super) source: &'a S,
    pub(super) filter: Option<Labels>,
    pub(super) admits: Option<KeyCallback<'a, bool>>,
    pub(super) stop: Option<Stop<'a>>,
    pub(super) groups: Option<KeyGroups<'a>>,
    pub(super) has_payload: bool,
}

/// The option to group documents by their keys.
pub(super) struct KeyGroups<'a> {
    pub(super) max_hits: usize,
    pub(super) wanted: Wanted,
    pub(super) group: KeyCallback<'a, u64>,
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
        let executor = Documents {
            collection: self,
            source,
            filter: None,
            admits: None,
            stop: None,
            groups: None,
            has_payload: false,
        };
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
        self.try_filter_fn(move |key| Ok::<_, Infallible>(admits(key)))
    }

    /// As [`filter_fn`](Self::filter_fn), with a function that may fail. The first failure ends the
    /// search, which returns [`Error::Callback`](crate::Error::Callback).
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

    /// Finds at most `max_hits` documents of each group, where `group` returns the group of a key,
    /// as [`Nns::per_group`] does. A later call replaces an earlier one.
    ///
    /// ```
    /// # use spinney::{Document, IndexOptions, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// # let store = Store::open(dir.path())?;
    /// # let docs = store.collection("docs", &IndexOptions::new(1, Metric::Euclidean))?;
    /// store.write(|txn| (0..9u64).try_for_each(|i| docs.put(txn, i, &Document::new([i as f32]))))?;
    /// let hits = docs
    ///     .search(&store, 3)
    ///     .per_group(1, |key| key.as_u64().unwrap_or_default() / 4)
    ///     .by_vector(&[0.0])?;
    /// assert_eq!(hits.iter().map(|hit| hit.distance).collect::<Vec<_>>(), [0.0, 4.0, 8.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn per_group(self, max_hits: usize, group: impl Fn(&DocumentKey) -> u64 + 'a) -> Self {
        self.try_per_group(max_hits, move |key| Ok::<_, Infallible>(group(key)))
    }

    /// As [`per_group`](Self::per_group), with a function that may fail. Its first failure ends the
    /// search, which returns [`Error::Callback`](crate::Error::Callback).
    pub fn try_per_group<E>(
        self,
        max_hits: usize,
        group: impl Fn(&DocumentKey) -> Result<u64, E> + 'a,
    ) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'a,
    {
        self.with_key_groups(max_hits, Wanted::Hits, group)
    }

    /// Finds the nearest `k` groups, with up to `max_hits` documents of each, as [`Nns::groups`]
    /// does. A later call replaces an earlier one, and [`per_group`](Self::per_group).
    pub fn groups(self, max_hits: usize, group: impl Fn(&DocumentKey) -> u64 + 'a) -> Self {
        self.try_groups(max_hits, move |key| Ok::<_, Infallible>(group(key)))
    }

    /// As [`groups`](Self::groups), with a function that may fail. Its first failure ends the
    /// search, which returns [`Error::Callback`](crate::Error::Callback).
    pub fn try_groups<E>(
        self,
        max_hits: usize,
        group: impl Fn(&DocumentKey) -> Result<u64, E> + 'a,
    ) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'a,
    {
        self.with_key_groups(max_hits, Wanted::Groups, group)
    }

    fn with_key_groups<E>(
        mut self,
        max_hits: usize,
        wanted: Wanted,
        group: impl Fn(&DocumentKey) -> Result<u64, E> + 'a,
    ) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'a,
    {
        let group: KeyCallback<'a, u64> = Box::new(move |key| group(key).map_err(Into::into));
        self.executor.groups = Some(KeyGroups { max_hits, wanted, group });
        self
    }
}
