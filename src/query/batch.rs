//! Many queries of one kind, by many threads.

use std::borrow::Cow;
use std::convert::Infallible;

use roaring::RoaringBitmap;

use crate::error::Result;
use crate::format::item::ItemRef;
use crate::query::Nns;
use crate::query::callback::{SharedCallback, both};
use crate::query::options::narrowed;
use crate::query::rows::check_rows;
use crate::reader::Reader;
use crate::search::request::SharedRequest;
use crate::search::session::Searcher;
use crate::search::{Hit, SearchStats};
use crate::snapshot::Snapshot;

/// Searches under construction, to be shared among the threads of a pool: see [`Snapshot::nns`].
///
/// Each query is answered as [`Nns`] answers it with the same options, whatever the number of
/// threads. All have these options; [`Snapshot::each`] does any searches, each with options of its
/// own, such as a filter, a deadline or several examples.
#[must_use = "a search does nothing until it is told what to search for"]
pub struct BatchNns<'a, 'e> {
    snapshot: &'a mut Snapshot<'e>,
    request: SharedRequest<'a>,
    allowed: Option<Cow<'a, RoaringBitmap>>,
    predicate: Option<SharedCallback<'a, bool>>,
    report: Option<&'a mut SearchStats>,
}

/// Options.
impl<'a, 'e> BatchNns<'a, 'e> {
    pub(crate) fn new(snapshot: &'a mut Snapshot<'e>, request: SharedRequest<'a>) -> Self {
        Self { snapshot, request, allowed: None, predicate: None, report: None }
    }

    /// The part of the true neighbours to be found, as [`Nns::recall`].
    pub fn recall(mut self, target: f32) -> Self {
        (self.request.recall, self.request.is_recall_given) = (target, true);
        self
    }

    /// How many leaf sketches each search scans at least, as [`Nns::search_k`].
    pub fn search_k(mut self, sketches: usize) -> Self {
        self.request.search_k = Some(sketches);
        self
    }

    /// How many vectors are compared exactly, as a multiple of `k`, as [`Nns::oversampling`].
    pub fn oversampling(mut self, factor: f32) -> Self {
        self.request.oversampling = Some(factor);
        self
    }

    /// Only items of this set are found, as [`Nns::filter`].
    pub fn filter(mut self, allowed: &'a RoaringBitmap) -> Self {
        self.allowed = Some(narrowed(self.allowed, allowed));
        self
    }

    /// Only items of which `admits` says so are found, as [`Nns::filter_fn`]. It is asked by
    /// several threads at once.
    pub fn filter_fn(self, admits: impl Fn(u32) -> bool + Sync + 'a) -> Self {
        self.try_filter_fn(move |id| Ok::<_, Infallible>(admits(id)))
    }

    /// Only items of which `admits` says so are found, as [`Nns::try_filter_fn`]. It is asked by
    /// several threads at once. So it may be asked by others after it has failed.
    pub fn try_filter_fn<E>(mut self, admits: impl Fn(u32) -> Result<bool, E> + Sync + 'a) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'a,
    {
        self.predicate = Some(Box::new(both(self.predicate.take(), admits)));
        self
    }

    /// Only items within this distance are found, as [`Nns::within`].
    pub fn within(mut self, distance: f32) -> Self {
        self.request.within = Some(distance);
        self
    }

    /// Compares every item exactly, as [`Nns::exact`].
    pub fn exact(mut self) -> Self {
        self.request.is_exact = true;
        self
    }

    /// Writes what all searches did together into `report`. Times are sums over the threads.
    pub fn report(mut self, report: &'a mut SearchStats) -> Self {
        (self.report, self.request.is_timed) = (Some(report), true);
        self
    }
}

/// What to search for.
impl BatchNns<'_, '_> {
    /// Finds the items nearest to each of some vectors, in their order.
    ///
    /// # Shape and units
    /// `vectors`: rows of `dims` numbers, one after the other; there may be none.
    ///
    /// # Errors
    /// [`Error::QueriesShape`](crate::Error::QueriesShape) if the rows are not whole; else as
    /// [`Nns::by_vector`], for the first vector that fails. All vectors are checked before the
    /// first search, and a position in an error is one in `vectors`.
    pub fn by_vectors(self, vectors: &[f32]) -> Result<Vec<Vec<Hit>>> {
        self.request.check()?;
        let checked = check_rows(vectors, self.snapshot.spec())?;
        self.answer(checked.len(), |nns, _, i| nns.run(checked[i].as_item(), &[]))
    }

    /// Finds the items nearest to each of some items, itself excluded, in their order; `None` for
    /// each that is no item.
    ///
    /// # Errors
    /// As [`Nns::by_item`], for the first item that fails.
    pub fn by_items(self, ids: &[u32]) -> Result<Vec<Option<Vec<Hit>>>> {
        self.request.check()?;
        self.answer(ids.len(), |nns, reader, i| {
            let item: Option<ItemRef<'_>> = reader.session().query_item(ids[i])?;
            item.map_or_else(
                || Ok((None, SearchStats::default())),
                |item| nns.run(item, &[ids[i]]).map(|(hits, searched)| (Some(hits), searched)),
            )
        })
    }

    fn answer<R: Send>(
        self,
        count: usize,
        search: impl Fn(&Nns<'_>, &Reader<'_>, usize) -> Result<(R, SearchStats)> + Sync,
    ) -> Result<Vec<R>> {
        let Self { snapshot, request, allowed, predicate, report } = self;
        let (allowed, predicate) = (allowed.as_deref(), predicate.as_deref());
        let found = snapshot.each(count, |reader, i| {
            let nns = Nns::new(reader.session(), request.for_thread());
            let nns = if let Some(allowed) = allowed { nns.filter(allowed) } else { nns };
            match predicate {
                Some(admits) => search(&nns.try_filter_fn(admits), reader, i),
                None => search(&nns, reader, i),
            }
        })?;
        let mut all = SearchStats::default();
        let answers = found.into_iter().map(|(answer, searched)| {
            all.add(&searched);
            answer
        });
        let answers = answers.collect();
        if let Some(report) = report {
            *report = all;
        }
        Ok(answers)
    }
}
