//! Many queries with the same options, shared among threads.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

use crate::error::Result;
use crate::index_spec::IndexSpec;
use crate::query::buffers::rows;
use crate::query::callback::{SharedCallback, both};
use crate::query::{Hits, Nns};
use crate::reader::Reader;
use crate::search::searcher::Searcher;
use crate::search::{SearchStats, spare};
use crate::snapshot::Snapshot;
use crate::vector::CheckedVector;

/// What is done for each of many queries, with the reader of the thread that does it.
pub(crate) type Work<'w> = dyn Fn(&Reader<'_>, usize) -> Result<()> + Sync + 'w;
/// Does some work for each of `0..count`.
type Each<'a> = Box<dyn FnMut(usize, &Work<'_>) -> Result<()> + 'a>;

/// Searches of a [`Snapshot`] or a [`StoreSnapshot`](crate::StoreSnapshot), shared among the
/// threads of a pool.
///
/// Each query gets the answer of a single search with the same options, whatever the number of
/// threads. For queries with options or examples of their own, use [`Snapshot::each`]. The times of
/// a [report](Nns::report) are sums over the threads.
pub struct Many<'a> {
    spec: IndexSpec,
    /// Shares work among threads.
    each: Each<'a>,
    predicate: Option<SharedCallback<'a, bool>>,
}

impl Snapshot<'_> {
    /// Starts a search for the `k` nearest neighbours of each of many queries, with the options of
    /// [`Nns`]: see [`Many`].
    ///
    /// # Cost
    /// That of as many single searches, shared among the threads. In each call, each thread begins
    /// with a new [`Reader`], without any cache. So a few hundred queries in one call are better
    /// than a few.
    pub fn nns(&mut self, k: usize) -> Nns<'_, Many<'_>> {
        let spec = self.spec();
        let each = |count, work: &Work<'_>| self.each(count, work).map(|_| ());
        Nns::with_executor(k, Many::new(spec, each))
    }
}

impl<'a> Many<'a> {
    /// `each` does some work for each of `0..count`, by as many threads as there are.
    pub(crate) fn new(
        spec: IndexSpec,
        each: impl FnMut(usize, &Work<'_>) -> Result<()> + 'a,
    ) -> Self {
        Self { spec, each: Box::new(each), predicate: None }
    }
}

/// Predicates that several threads call at once.
impl<'a> Nns<'a, Many<'a>> {
    /// Finds only items for which `admits` returns true, as [`Nns::filter_fn`] does. Several
    /// threads call it at once.
    pub fn filter_fn(self, admits: impl Fn(u32) -> bool + Sync + 'a) -> Self {
        self.try_filter_fn(move |id| Ok::<_, Infallible>(admits(id)))
    }

    /// Finds only items for which `admits` returns true, as [`Nns::try_filter_fn`] does. Several
    /// threads call it at once, so some may call it after it has failed.
    pub fn try_filter_fn<E>(mut self, admits: impl Fn(u32) -> Result<bool, E> + Sync + 'a) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'a,
    {
        let before = self.executor.predicate.take();
        self.executor.predicate = Some(Box::new(both(before, admits)));
        self
    }
}

/// What many threads search for.
impl Nns<'_, Many<'_>> {
    /// Finds the items nearest to each of several vectors, in their order.
    ///
    /// # Shape and units
    /// `vectors`: rows of `dims` numbers each; there may be none.
    ///
    /// # Errors
    /// [`Error::QueriesShape`](crate::Error::QueriesShape) if the last row is not whole; else as
    /// [`Nns::by_vector`], for the first vector that fails. All vectors are checked before the
    /// first search. A position in an error counts from the start of `vectors`.
    pub fn by_vectors(self, vectors: &[f32]) -> Result<Vec<Hits>> {
        self.options.check()?;
        let checked = crate::vector::check_rows(vectors, self.executor.spec)?;
        self.share(checked.len(), |nns, _, i| nns.run(checked[i].as_item(), &[], &[]))
    }

    /// Finds the items nearest to each of several items, which is left out, in their order. `None`
    /// stands for an id that is no item.
    ///
    /// # Errors
    /// As [`Nns::by_item`], for the first item that fails.
    pub fn by_items(self, ids: &[u32]) -> Result<Vec<Option<Hits>>> {
        self.options.check()?;
        self.share(ids.len(), |nns, reader, i| match reader.session().query_item(ids[i])? {
            Some(item) => {
                nns.run(item.view()?, &[ids[i]], &[]).map(|(hits, stats)| (Some(hits), stats))
            }
            None => Ok((None, SearchStats::default())),
        })
    }

    /// As [`by_vectors`](Self::by_vectors), with the answers written to memory of the caller's: see
    /// [`Nns::by_vectors_into`].
    ///
    /// # Errors
    /// As [`Nns::by_vectors_into`]. After an error of a search, some rows are written.
    pub fn by_vectors_into(
        self,
        vectors: &[f32],
        ids: &mut [u32],
        distances: &mut [f32],
    ) -> Result<()> {
        self.options.check()?;
        let spec = self.executor.spec;
        let rows: Vec<_> = rows(vectors, spec, self.k, ids, distances)?
            .map(|(vector, row)| (vector, Mutex::new(Some(row))))
            .collect();
        self.share(rows.len(), |nns, _, i| {
            let (vector, row) = &rows[i];
            let query = CheckedVector::new(vector, spec)?;
            let (hits, stats) = nns.run(query.as_item(), &[], &[])?;
            if let Some(row) = taken(row) {
                row.write(&hits);
            }
            spare::give(hits.into_vec());
            Ok(((), stats))
        })?;
        Ok(())
    }

    /// Runs `search` for each of `0..count`, with a builder that has these options.
    pub(crate) fn share<R: Send>(
        self,
        count: usize,
        search: impl Fn(Nns<'_>, &Reader<'_>, usize) -> Result<(R, SearchStats)> + Sync,
    ) -> Result<Vec<R>> {
        let Self { k, options, allowed, report, executor: Many { mut each, predicate, .. } } = self;
        let (allowed, predicate) = (allowed.as_deref(), predicate.as_deref());
        let found: Vec<_> = (0..count).map(|_| Mutex::new(None)).collect();
        each(count, &|reader, i| {
            let mut nns = Nns::new(reader.session(), k);
            nns.options = options;
            if i > 0 {
                nns = nns.after_others();
            }
            if let Some(allowed) = allowed {
                nns = nns.filter(allowed);
            }
            let answer = match predicate {
                Some(admits) => search(nns.try_filter_fn(admits), reader, i),
                None => search(nns, reader, i),
            }?;
            *found[i].lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
            Ok(())
        })?;
        let mut all = SearchStats::default();
        // Each was searched for, as there was no error.
        let answers = found.iter().filter_map(taken).map(|(answer, stats)| {
            all.add(&stats);
            answer
        });
        let answers = answers.collect();
        if let Some(report) = report {
            *report = all;
        }
        Ok(answers)
    }
}

fn taken<T>(cell: &Mutex<Option<T>>) -> Option<T> {
    cell.lock().unwrap_or_else(PoisonError::into_inner).take()
}
