//! How a search is done: among which items, how well, and for how long.

use std::borrow::Cow;
use std::convert::Infallible;
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::time::Instant;

use roaring::RoaringBitmap;

use crate::query::callback::both;
use crate::query::groups::Groups;
use crate::query::{InTime, Nns};
use crate::search::SearchStats;

/// Which items may be found. All of these go together: each that is added leaves out more.
impl<'a, O> Nns<'a, O> {
    /// Only items of this set are found; ids in it that are no items do no harm. Of two sets, what
    /// is in both.
    ///
    /// Whether the items of the set are compared one by one or the forest is searched is decided by
    /// what takes less; the [report](Self::report) tells which. Where the set leaves out what is
    /// near the query, the forest is searched 16 times as hard. If that would take longer, the
    /// items of the set are compared after all. Of a leaf without a member, a few sketches are
    /// scanned at most.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let allowed = RoaringBitmap::from([2, 9, 1_000]);
    /// assert_eq!(ids(&reader.nns(10).filter(&allowed).by_vector(&[0.0])?), [2, 9]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn filter(mut self, allowed: &'a RoaringBitmap) -> Self {
        self.allowed = Some(narrowed(self.allowed, allowed));
        self
    }

    /// Only items of which `admits` says so are found. Of two predicates, what both admit.
    ///
    /// It is asked of items that look near, or of all where every item is compared, and perhaps
    /// more than once of one; together with a [`filter`](Self::filter), of any id of that, items or
    /// not. How many it admits in all is not known beforehand, so that a set is the faster filter
    /// where few items are admitted.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// assert_eq!(ids(&reader.nns(10).filter_fn(|id| id != 2).by_vector(&[0.0])?), [1, 3, 9]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn filter_fn(self, admits: impl Fn(u32) -> bool + 'a) -> Self {
        self.try_filter_fn(move |id| Ok::<_, Infallible>(admits(id)))
    }

    /// As [`filter_fn`](Self::filter_fn), by a predicate that may fail, such as a look-up in a
    /// table of yours.
    ///
    /// The first failure ends the search: it returns [`Error::Callback`](crate::Error::Callback)
    /// with that error. Nothing is asked after it.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// use spinney::Error;
    /// // Which items are public, as a table of yours says.
    /// let table = std::collections::HashMap::from([(1, false), (2, true), (3, true), (9, true)]);
    /// let is_public = |id: u32| table.get(&id).copied().ok_or_else(|| format!("the table lacks {id}"));
    /// assert_eq!(ids(&reader.nns(2).try_filter_fn(is_public).by_vector(&[0.0])?), [2, 3]);
    ///
    /// let is_public = |id: u32| if id == 9 { Err(std::fmt::Error) } else { Ok(true) };
    /// let error = reader.nns(2).try_filter_fn(is_public).by_vector(&[8.0]).unwrap_err();
    /// assert!(matches!(error, Error::Callback(error) if error.is::<std::fmt::Error>()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_filter_fn<E>(mut self, admits: impl Fn(u32) -> Result<bool, E> + 'a) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'a,
    {
        self.predicate = Some(Box::new(both(self.predicate.take(), admits)));
        self
    }

    /// Only items within this distance, as the metric gives it, are found; under the dot product
    /// those of this product or a larger one. `nns(usize::MAX).within(d)` finds all of them, up to
    /// the recall aimed at. A later call takes the place of an earlier one.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// assert_eq!(ids(&reader.nns(usize::MAX).within(2.5).by_vector(&[0.0])?), [1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn within(mut self, distance: f32) -> Self {
        self.request.within = Some(distance);
        self
    }

    /// At most `most` hits of each group, which `group` tells of an item. A later call takes the
    /// place of an earlier one.
    ///
    /// The search goes on until `k` hits are found or all items were looked at, so that few groups
    /// of many items take long.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let author = |id: u32| u64::from(id / 3); // items 1 and 2 are by one, 3 and 9 by others
    /// assert_eq!(ids(&reader.nns(2).per_group(1, author).by_vector(&[0.0])?), [1, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn per_group(self, most: usize, group: impl Fn(u32) -> u64 + 'a) -> Self {
        self.try_per_group(most, move |id| Ok::<_, Infallible>(group(id)))
    }

    /// As [`per_group`](Self::per_group), by a function that may fail. Its first failure ends the
    /// search, as that of a [predicate](Self::try_filter_fn) does.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let authors = std::collections::HashMap::from([(1, 0), (2, 0), (3, 1)]);
    /// let author = |id: u32| authors.get(&id).copied().ok_or_else(|| format!("{id} has no author"));
    /// assert_eq!(ids(&reader.nns(2).filter_fn(|id| id < 9).try_per_group(1, author).by_vector(&[0.0])?), [1, 3]);
    /// let error = reader.nns(2).try_per_group(1, author).by_vector(&[9.0]).unwrap_err();
    /// assert!(matches!(error, spinney::Error::Callback(error) if error.to_string() == "9 has no author"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_per_group<E>(
        mut self,
        most: usize,
        group: impl Fn(u32) -> Result<u64, E> + 'a,
    ) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.groups =
            Some(Groups { most, group: Box::new(move |id| group(id).map_err(Into::into)) });
        self
    }
}

/// How well the search finds them.
impl<'a, O> Nns<'a, O> {
    /// The part of the true neighbours to be found, on average over queries like those that the
    /// index was calibrated with: above 0, and at most 1, which compares every item exactly. The
    /// default is 0.95.
    ///
    /// A build measures what reaches which recall, on some of the items, against exact search. It
    /// does so for 1, 10, 100 and 1,000 neighbours (an eighth of the items at most). Later builds
    /// look again at a few items and correct it, and measure again when a third has changed. A
    /// search ends when its hits are near beside the leaves that are left. So queries whose
    /// neighbours lie close together take less than others. One that finds that it compared too
    /// little goes on, with four times as much of everything. With `search_k` or `oversampling` it
    /// does not. For more than an eighth of the items, all are compared. So they are where the
    /// forest was found not to reach the target.
    /// [`SearchStats::is_out_of_reach`](crate::SearchStats::is_out_of_reach) tells either.
    /// [`Writer::calibrate`](crate::Writer::calibrate) measures on queries of yours instead. An
    /// index of up to a thousand items is always compared whole.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let quick = reader.nns(2).recall(0.8).by_vector(&[0.0])?;
    /// let thorough = reader.nns(2).recall(0.99).by_vector(&[0.0])?;
    /// # assert_eq!(quick, thorough);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recall(mut self, target: f32) -> Self {
        (self.request.recall, self.request.is_recall_given) = (target, true);
        self
    }

    /// How many leaf sketches the search scans at least, counting only items that the filter
    /// admits; 0 is as few as it goes. This takes the place of the effort for the recall aimed at,
    /// and may be less. More finds more and takes longer. Where the whole set of a
    /// [`filter`](Self::filter) takes less to compare, all of it is.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// assert_eq!(ids(&reader.nns(1).search_k(5_000).by_vector(&[8.0])?), [9]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn search_k(mut self, sketches: usize) -> Self {
        self.request.search_k = Some(sketches);
        self
    }

    /// How many vectors are compared exactly, as a multiple of `k` (at least 1); of pages, of all
    /// hits so far. The default is what the recall aimed at needs. With
    /// [`search_k`](Self::search_k) it is at least 8 for sketches of 1 bit, 4 for 2 and 3 for 4. It
    /// is also at least 14 vectors more than `k`.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// assert_eq!(ids(&reader.nns(1).oversampling(20.0).by_vector(&[8.0])?), [9]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn oversampling(mut self, factor: f32) -> Self {
        self.request.oversampling = Some(factor);
        self
    }

    /// Compares every item exactly: slow and always right. O(items). Misses nothing and scans no
    /// sketches, so that [`recall`](Self::recall), [`search_k`](Self::search_k) and
    /// [`oversampling`](Self::oversampling) do not go together with it.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// assert_eq!(ids(&reader.nns(2).exact().by_vector(&[8.0])?), [9, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn exact(mut self) -> Self {
        self.request.is_exact = true;
        self
    }

    /// Shares an exact search among the threads of the current rayon pool, whether [asked
    /// for](Self::exact) or planned. One of them reads the items in order; callbacks are called by
    /// the thread that asks. Other searches are not shared, nor is a search among a set of fewer
    /// than three quarters of the items, which are looked up one by one.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// assert_eq!(ids(&reader.nns(2).exact().parallel().by_vector(&[8.0])?), [9, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn parallel(mut self) -> Self {
        self.request.is_parallel = true;
        self
    }
}

/// For how long it searches, and what it tells.
impl<'a, O> Nns<'a, O> {
    /// Ends the search at this time, or at an earlier one that was set before, and returns what it
    /// has found by then: see [`Found`](crate::Found). `None` is no limit. The answer is of the
    /// same type, so that an optional limit is passed on as it is.
    ///
    /// It is looked at the clock after each leaf and after every few dozen vectors, or calls of a
    /// predicate: most often every few microseconds; by [`parallel`](Self::parallel) searches after
    /// every 16,384 items. After that, the nearest of what has been scanned takes about a hundred
    /// comparisons at most, and as many calls of a predicate; the hits of [`by_any`](Self::by_any),
    /// as many with each example. Of several searches in one, those that were not begun find
    /// nothing.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let found = reader.nns(2).deadline(Instant::now() + Duration::from_secs(5)).by_vector(&[0.0])?;
    /// if found.is_partial {
    ///     eprintln!("the nearest of what was looked at:");
    /// }
    /// assert_eq!(found.hits[0].id, 1);
    /// let limit: Option<Duration> = None; // as the request says
    /// let found = reader.nns(2).deadline(limit.map(|limit| Instant::now() + limit)).by_vector(&[0.0])?;
    /// assert!(!found.is_partial);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn deadline(self, at: impl Into<Option<Instant>>) -> Nns<'a, InTime> {
        let mut nns = self.in_time();
        let before = nns.request.stop.deadline;
        nns.request.stop.deadline = before.into_iter().chain(at.into()).min();
        nns
    }

    /// Ends the search when `callback` returns [`ControlFlow::Break`], and returns what it has
    /// found by then: see [`Found`](crate::Found).
    ///
    /// It is called as often as a [`deadline`](Self::deadline) is looked at, by the thread that
    /// searches, and not again after it has ended the search. Goes together with a deadline and
    /// with other callbacks, of which the first to break counts.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let is_wanted = std::sync::atomic::AtomicBool::new(true); // another thread may clear it
    /// let callback = || match is_wanted.load(std::sync::atomic::Ordering::Relaxed) {
    ///     true => ControlFlow::Continue(()),
    ///     false => ControlFlow::Break(()),
    /// };
    /// let found = reader.nns(2).cancel(callback).by_vector(&[0.0])?;
    /// assert_eq!((ids(&found.hits), found.is_partial), (vec![1, 2], false));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cancel(self, callback: impl Fn() -> ControlFlow<()> + 'a) -> Nns<'a, InTime> {
        let mut nns = self.in_time();
        nns.callback = Some(match nns.callback.take() {
            Some(before) => {
                Box::new(
                    move || if before().is_break() { ControlFlow::Break(()) } else { callback() },
                )
            }
            None => Box::new(callback),
        });
        nns
    }

    fn in_time(self) -> Nns<'a, InTime> {
        let Self {
            searcher,
            request,
            allowed,
            predicate,
            failure,
            callback,
            is_stopped,
            has_searched,
            groups,
            ..
        } = self;
        let (report, outcome) = (self.report, PhantomData);
        Nns {
            searcher,
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

    /// Writes what the search did into `report`. Times of its phases are zero in searches that go
    /// on without a filter: `pages`, `neighbours`, [`within`](Self::within) a distance,
    /// [`per_group`](Self::per_group).
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let mut report = SearchStats::default();
    /// reader.nns(2).report(&mut report).by_vector(&[0.0])?;
    /// assert_eq!((report.plan, report.scanned_exactly), (SearchPlan::Exact, 4)); // few items are compared one by one
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn report(mut self, report: &'a mut SearchStats) -> Self {
        (self.report, self.request.is_timed) = (Some(report), true);
        self
    }
}

/// What is in a set and in another one that was there before.
pub(super) fn narrowed<'a>(
    before: Option<Cow<'a, RoaringBitmap>>,
    allowed: &'a RoaringBitmap,
) -> Cow<'a, RoaringBitmap> {
    before.map_or(Cow::Borrowed(allowed), |before| Cow::Owned(before.as_ref() & allowed))
}
