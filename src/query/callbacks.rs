//! Options with functions of the caller's, which the thread that searches calls.

use std::convert::Infallible;
use std::ops::ControlFlow;

use crate::query::Nns;
use crate::query::callback::both;
use crate::query::groups::{Groups, Wanted};

/// Functions that the searching thread calls, and threads for an exact search.
impl<'a> Nns<'a> {
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
        let before = self.executor.predicate.take();
        self.executor.predicate = Some(Box::new(both(before, admits)));
        self
    }

    /// At most `max_hits` hits of each group, which `group` tells of an item. A later call takes the
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
    pub fn per_group(self, max_hits: usize, group: impl Fn(u32) -> u64 + 'a) -> Self {
        self.try_per_group(max_hits, move |id| Ok::<_, Infallible>(group(id)))
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
        self,
        max_hits: usize,
        group: impl Fn(u32) -> Result<u64, E> + 'a,
    ) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.with_groups(max_hits, Wanted::Hits, group)
    }

    /// The nearest `k` groups, with up to `max_hits` hits of each: `k` counts groups instead of
    /// hits. The hits come sorted by distance, whatever their group. A later call takes the place
    /// of an earlier one, and of [`per_group`](Self::per_group).
    ///
    /// The search goes on until all groups are full, or all items were looked at. So groups of
    /// fewer items take long: bound them by [`within`](Self::within) or a
    /// [deadline](Self::deadline).
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let author = |id: u32| u64::from(id / 3); // items 1 and 2 are by one, 3 and 9 by others
    /// assert_eq!(ids(&reader.nns(2).groups(2, author).by_vector(&[0.0])?), [1, 2, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn groups(self, max_hits: usize, group: impl Fn(u32) -> u64 + 'a) -> Self {
        self.try_groups(max_hits, move |id| Ok::<_, Infallible>(group(id)))
    }

    /// As [`groups`](Self::groups), by a function that may fail. Its first failure ends the
    /// search, as that of a [predicate](Self::try_filter_fn) does.
    pub fn try_groups<E>(self, max_hits: usize, group: impl Fn(u32) -> Result<u64, E> + 'a) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.with_groups(max_hits, Wanted::Groups, group)
    }

    fn with_groups<E>(
        mut self,
        max_hits: usize,
        wanted: Wanted,
        group: impl Fn(u32) -> Result<u64, E> + 'a,
    ) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let group = Box::new(move |id| group(id).map_err(Into::into));
        self.executor.groups = Some(Groups { max_hits, wanted, among: None, group });
        self
    }

    /// Ends the search when `callback` returns [`ControlFlow::Break`]. The answer is what was found
    /// by then, and [says so](crate::Hits::is_partial).
    ///
    /// It is called as often as the clock is read for a [`deadline`](Self::deadline), by the thread
    /// that searches, and not again after it has ended the search. Goes together with a deadline
    /// and with other callbacks, of which the first to break counts.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let is_wanted = std::sync::atomic::AtomicBool::new(true); // another thread may clear it
    /// let callback = || match is_wanted.load(std::sync::atomic::Ordering::Relaxed) {
    ///     true => ControlFlow::Continue(()),
    ///     false => ControlFlow::Break(()),
    /// };
    /// let hits = reader.nns(2).cancel(callback).by_vector(&[0.0])?;
    /// assert_eq!((ids(&hits), hits.is_partial()), (vec![1, 2], false));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cancel(mut self, callback: impl Fn() -> ControlFlow<()> + 'a) -> Self {
        self.executor.callback = Some(match self.executor.callback.take() {
            Some(before) => {
                Box::new(
                    move || {
                        if before().is_break() { ControlFlow::Break(()) } else { callback() }
                    },
                )
            }
            None => Box::new(callback),
        });
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
        self.options.is_parallel = true;
        self
    }
}
