//! Many queries with the same options, shared among threads.

use std::convert::Infallible;

use crate::error::Result;
use crate::query::callback::{SharedCallback, both};
use crate::query::{Hits, Nns};
use crate::reader::Reader;
use crate::search::SearchStats;
use crate::search::searcher::Searcher;
use crate::snapshot::Snapshot;

/// Searches of a [`Snapshot`], shared among the threads of its pool.
///
/// Each query gets the answer of a single search with the same options, whatever the number of
/// threads. For queries with options or examples of their own, use [`Snapshot::each`]. The times of
/// a [report](Nns::report) are sums over the threads.
pub struct Many<'a, 'e> {
    snapshot: &'a mut Snapshot<'e>,
    predicate: Option<SharedCallback<'a, bool>>,
}

impl<'e> Snapshot<'e> {
    /// Starts a search for the `k` nearest neighbours of each of many queries, with the options of
    /// [`Nns`]: see [`Many`].
    ///
    /// # Cost
    /// That of as many single searches, shared among the threads. In each call, each thread begins
    /// with a new [`Reader`], without any cache. So a few hundred queries in one call are better
    /// than a few.
    pub fn nns<'a>(&'a mut self, k: usize) -> Nns<'a, Many<'a, 'e>> {
        Nns::with_executor(k, Many::new(self))
    }
}

impl<'a, 'e> Many<'a, 'e> {
    fn new(snapshot: &'a mut Snapshot<'e>) -> Self {
        Self { snapshot, predicate: None }
    }
}

/// Predicates that several threads call at once.
impl<'a, 'e> Nns<'a, Many<'a, 'e>> {
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
impl Nns<'_, Many<'_, '_>> {
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
        let checked = crate::vector::check_rows(vectors, self.executor.snapshot.spec())?;
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

    fn share<R: Send>(
        self,
        count: usize,
        search: impl Fn(&Nns<'_>, &Reader<'_>, usize) -> Result<(R, SearchStats)> + Sync,
    ) -> Result<Vec<R>> {
        let Self { k, options, allowed, report, executor: Many { snapshot, predicate } } = self;
        let (allowed, predicate) = (allowed.as_deref(), predicate.as_deref());
        let found = snapshot.each(count, |reader, i| {
            let mut nns = Nns::new(reader.session(), k);
            nns.options = options;
            if i > 0 {
                nns = nns.after_others();
            }
            if let Some(allowed) = allowed {
                nns = nns.filter(allowed);
            }
            match predicate {
                Some(admits) => search(&nns.try_filter_fn(admits), reader, i),
                None => search(&nns, reader, i),
            }
        })?;
        let mut all = SearchStats::default();
        let answers = found.into_iter().map(|(answer, stats)| {
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
