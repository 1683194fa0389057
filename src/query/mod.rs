//! The query builder, and the forms of queries.

mod batch;
mod callback;
mod examples;
mod forms;
mod groups;
mod options;
mod outcome;
mod paged;
mod rows;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::ops::ControlFlow;

use roaring::RoaringBitmap;

use crate::error::{BoxedError, Error, Result};
use crate::format::item::ItemRef;
use crate::index_spec::IndexSpec;
use crate::metric::Metric;
pub use crate::query::batch::BatchNns;
use crate::query::callback::Callback;
pub use crate::query::examples::Example;
use crate::query::groups::Groups;
pub use crate::query::outcome::{Found, InTime, Outcome, Whole};
pub use crate::query::paged::{Neighbours, Pages};
pub(crate) use crate::query::rows::check_rows;
use crate::search::paged::Stream;
use crate::search::request::{Filter, Request, Stop};
use crate::search::{Hit, SearchStats};

/// Hits that a search within a distance looks for at first, if there may be more.
const FIRST_WITHIN: usize = 64;

/// What the query builder asks of a reader, whatever the lifetime of its transaction.
pub(crate) trait Asked {
    fn spec(&self) -> IndexSpec;
    fn item(&self, id: u32) -> Result<Option<ItemRef<'_>>>;
    /// An item that was found, with its distance to another query.
    fn compare(&self, query: ItemRef<'_>, id: u32) -> Result<Hit>;
    fn search(&self, query: ItemRef<'_>, request: &Request<'_>) -> Result<(Vec<Hit>, SearchStats)>;
    fn next(&self, stream: &mut Stream, request: &Request<'_>, count: usize) -> Result<Vec<Hit>>;
}

/// A search under construction: see [`Reader::nns`](crate::Reader::nns).
///
/// The answer has exactly min(k, matching items) hits, each item once, sorted by distance and then
/// by id, with exact distances. What is approximate is only whether these are the very nearest
/// ones; so a search within a distance finds all that lie within it up to the recall aimed at, and
/// one that was stopped what it had by then.
///
/// What is asked for comes last: [`by_vector`](Self::by_vector), [`by_item`](Self::by_item),
/// [`by_any`](Self::by_any), [`by_mean`](Self::by_mean), [`by_examples`](Self::by_examples), or
/// page by page: [`pages`](Self::pages), [`neighbours`](Self::neighbours). Each goes with every
/// filter and every metric, but for means of bits.
///
/// ```
#[doc = include_str!("example.txt")]
/// let hits = reader.nns(2).filter_fn(|id| id != 1).within(5.0).by_vector(&[0.5])?;
/// assert_eq!(ids(&hits), [2, 3]);
/// assert_eq!(hits[0].distance, 1.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a search does nothing until it is told what to search for"]
pub struct Nns<'a, O = Whole> {
    asked: &'a dyn Asked,
    request: Request<'a>,
    allowed: Option<Cow<'a, RoaringBitmap>>,
    predicate: Option<Callback<'a, bool>>,
    /// What the predicate has failed with; it is not asked any more then.
    failure: RefCell<Option<BoxedError>>,
    callback: Option<Box<dyn Fn() -> ControlFlow<()> + 'a>>,
    /// Whether it has been found that it is to stop; nothing else is begun then.
    is_stopped: Cell<bool>,
    has_searched: Cell<bool>,
    groups: Option<Groups<'a>>,
    report: Option<&'a mut SearchStats>,
    outcome: PhantomData<O>,
}

impl<'a> Nns<'a> {
    pub(crate) fn new(asked: &'a dyn Asked, request: Request<'a>) -> Self {
        let (allowed, predicate, callback, groups) = (None, None, None, None);
        let (failure, is_stopped, has_searched) =
            (RefCell::new(None), Cell::new(false), Cell::new(false));
        let (report, outcome) = (None, PhantomData);
        Self {
            asked,
            request,
            allowed,
            predicate,
            failure,
            callback,
            is_stopped,
            has_searched,
            groups,
            report,
            outcome,
        }
    }
}

impl<O> Nns<'_, O> {
    fn answer(&mut self, query: ItemRef<'_>, exclude: &[u32]) -> Result<O::Answer>
    where
        O: Outcome,
    {
        let (hits, searched) = self.run(query, exclude)?;
        self.tell(&searched);
        Ok(O::answer(hits, searched.is_partial))
    }

    fn tell(&mut self, searched: &SearchStats) {
        if let Some(report) = &mut self.report {
            **report = *searched;
        }
    }

    /// Fails unless what the builder was told makes sense.
    fn check(&self) -> Result<()> {
        self.request.check()?;
        match &self.groups {
            Some(groups) if groups.most == 0 => {
                Err(Error::option("per_group", "a number from 1 up", 0))
            }
            _ => Ok(()),
        }
    }

    fn stop(&self) -> Stop<'_> {
        let callback = self.callback.as_deref();
        Stop { callback, is_stopped: Some(&self.is_stopped), ..self.request.stop }
    }

    /// Does `work` for the request with all that the builder was told. If the predicate fails
    /// meanwhile, that is the answer.
    fn with_request<T>(
        &self,
        exclude: &[u32],
        work: impl FnOnce(&Request<'_>) -> Result<T>,
    ) -> Result<T> {
        self.check()?;
        let admits = |id| self.admits(id);
        let predicate: Option<&dyn Fn(u32) -> bool> =
            if self.predicate.is_some() { Some(&admits) } else { None };
        let filter = Filter { allowed: self.allowed.as_deref(), predicate };
        let answer = work(&Request { filter, stop: self.stop(), exclude, ..self.request });
        match self.failure.take() {
            Some(error) => Err(Error::Callback(error)),
            None => answer,
        }
    }

    /// Asks the predicate. Its first failure stops the search, and leaves out whatever it is still
    /// asked about.
    fn admits(&self, id: u32) -> bool {
        if self.failure.borrow().is_some() {
            return false;
        }
        match self.predicate.as_ref().map_or(Ok(true), |predicate| predicate(id)) {
            Ok(is_admitted) => is_admitted,
            Err(error) => {
                self.failure.replace(Some(error));
                self.is_stopped.set(true);
                false
            }
        }
    }

    fn run(&self, query: ItemRef<'_>, exclude: &[u32]) -> Result<(Vec<Hit>, SearchStats)> {
        self.with_request(exclude, |request| {
            // One search may be so short that it does not ask, many of them are not.
            if request.stop.was_due() || self.has_searched.replace(true) && request.stop.is_due() {
                return Ok((
                    Vec::new(),
                    SearchStats { is_partial: true, ..SearchStats::default() },
                ));
            }
            let (hits, searched) = self.run_once(query, request)?;
            Ok((
                hits,
                SearchStats {
                    is_partial: searched.is_partial || request.stop.was_due(),
                    ..searched
                },
            ))
        })
    }

    fn run_once(
        &self,
        query: ItemRef<'_>,
        request: &Request<'_>,
    ) -> Result<(Vec<Hit>, SearchStats)> {
        let may_be_many = request.within.is_some() && request.k > FIRST_WITHIN;
        if self.groups.is_none() && !may_be_many {
            return self.asked.search(query, request);
        }
        let spec = self.asked.spec();
        let mut stream = Stream::new(&query);
        let mut hits: Vec<Hit> = Vec::new();
        let mut count = if may_be_many { FIRST_WITHIN } else { request.k };
        loop {
            let some = self.asked.next(&mut stream, request, count)?;
            // Whether what comes next is too far, as far as the search can tell.
            let mut is_beyond =
                some.is_empty() || stream.searched().is_partial || request.stop.was_due();
            for hit in some {
                match is_within(&hit, request.within, spec.metric) {
                    true => hits.push(hit),
                    false => is_beyond = true,
                }
            }
            sort(&mut hits, spec.metric);
            if let Some(groups) = &self.groups {
                groups.keep(&mut hits)?;
            }
            if is_beyond || hits.len() >= request.k {
                hits.truncate(request.k);
                return Ok((hits, stream.searched()));
            }
            count = count.saturating_mul(2);
        }
    }
}

/// Whether a hit is within a distance, if there is one.
fn is_within(hit: &Hit, within: Option<f32>, metric: Metric) -> bool {
    within.is_none_or(|within| metric.is_within(hit.distance, within))
}

/// Sorts hits as an answer has them.
fn sort(hits: &mut [Hit], metric: Metric) {
    hits.sort_unstable_by(|a, b| {
        let order = a.distance.total_cmp(&b.distance);
        let order = if metric.larger_is_nearer() { order.reverse() } else { order };
        order.then(a.id.cmp(&b.id))
    });
}
