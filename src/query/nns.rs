//! The query builder.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;

use roaring::RoaringBitmap;

use crate::error::BoxedError;
use crate::query::callback::{Callback, Stop};
use crate::query::groups::Groups;
use crate::search::SearchStats;
use crate::search::interrupt::InterruptState;
use crate::search::request::Options;
use crate::search::searcher::Searcher;

/// A search under construction: see [`Reader::nns`](crate::Reader::nns).
///
/// The answer has exactly min(k, matching items) hits, each item once, with exact distances. They
/// are sorted by distance and then by id. Only *which* items are found is approximate, up to the
/// target [`recall`](Self::recall). So a search within a distance may miss some items there. A
/// search that was stopped may return fewer hits.
///
/// Call the options first, and last what to search for: [`by_vector`](Self::by_vector),
/// [`by_item`](Self::by_item), [`by_any`](Self::by_any), [`by_mean`](Self::by_mean),
/// [`by_examples`](Self::by_examples), or page by page [`pages`](Self::pages) and
/// [`neighbours`](Self::neighbours). All work with every filter and every metric, except that bits
/// have no mean.
///
/// [Single searches](Single), [many by several threads](crate::Snapshot::nns), one search over
/// [several indexes](crate::Readers) and [searches for documents](crate::Documents) share these
/// options: `recall`, `search_k`, `oversampling`,
/// `exact`, `filter`, `filter_serialized`, `within`, `beyond`, `deadline` and `report`. Groups,
/// pages, `cancel` and `parallel` are for single searches and for documents, `filter_fn` for all but
/// several indexes.
///
/// ```
#[doc = include_str!("example.txt")]
/// let hits = reader.nns(2).filter_fn(|id| id != 1).within(5.0).by_vector(&[0.5])?;
/// assert_eq!(ids(&hits), [2, 3]);
/// assert_eq!(hits[0].distance, 1.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a search does nothing without what to search for"]
pub struct Nns<'a, E = Single<'a>> {
    pub(crate) k: usize,
    pub(crate) options: Options,
    pub(crate) allowed: Option<Cow<'a, RoaringBitmap>>,
    pub(crate) report: Option<&'a mut SearchStats>,
    /// What runs the searches: one reader, many threads or several indexes.
    pub(crate) executor: E,
}

impl<E> Nns<'_, E> {
    pub(crate) fn with_executor(k: usize, executor: E) -> Self {
        let (options, allowed) = (Options::default(), None);
        Self { k, options, allowed, report: None, executor }
    }

    pub(crate) fn write_report(&mut self, stats: &SearchStats) {
        if let Some(report) = &mut self.report {
            **report = *stats;
        }
    }
}

impl<E> fmt::Debug for Nns<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let allowed = self.allowed.as_ref().map(|allowed| allowed.len());
        f.debug_struct("Nns")
            .field("k", &self.k)
            .field("options", &self.options)
            .field("allowed", &allowed)
            .finish_non_exhaustive()
    }
}

/// Searches of one [`Reader`](crate::Reader), one after the other, by the calling thread.
pub struct Single<'a> {
    pub(super) searcher: &'a dyn Searcher,
    pub(super) predicate: Option<Callback<'a, bool>>,
    /// The first error of the predicate. It is not called again.
    pub(super) failure: RefCell<Option<BoxedError>>,
    pub(super) callback: Option<Stop<'a>>,
    pub(super) interrupted: InterruptState,
    /// Whether a search has begun: the first one need not check the interrupt beforehand.
    pub(super) has_searched: Cell<bool>,
    pub(super) groups: Option<Groups<'a>>,
}
