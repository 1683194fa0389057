//! Options with functions of the caller's, which the thread that searches calls.

use std::convert::Infallible;
use std::ops::ControlFlow;

use crate::query::callback::{both, either};
use crate::query::groups::{Groups, Wanted};
use crate::query::nns::Nns;

/// Functions that the searching thread calls, and threads for an exact search.
impl<'a> Nns<'a> {
    /// Finds only items for which `admits` returns true. With two predicates, both have to.
    ///
    /// It is called for items that look near, or for all items where all are compared. It may be
    /// called more than once for an item. Together with a [`filter`](Self::filter), it may be
    /// called for ids of that set that are no items. If few items are admitted, a set is faster, as
    /// its size is known beforehand.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// assert_eq!(ids(&reader.nns(10).filter_fn(|id| id != 2).by_vector(&[0.0])?), [1, 3, 9]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn filter_fn(self, admits: impl Fn(u32) -> bool + 'a) -> Self {
        self.try_filter_fn(move |id| Ok::<_, Infallible>(admits(id)))
    }

    /// As [`filter_fn`](Self::filter_fn), with a predicate that may fail, such as a look-up in a
    /// table of yours.
    ///
    /// The first failure ends the search, which returns [`Error::Callback`](crate::Error::Callback)
    /// with that error. The predicate is not called again.
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

    /// Finds at most `max_hits` hits of each group, where `group` returns the group of an item. A
    /// later call replaces an earlier one.
    ///
    /// The search goes on until it has `k` hits or has seen all items. So it takes long if a few
    /// groups hold most items.
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

    /// As [`per_group`](Self::per_group), with a function that may fail. Its first failure ends the
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

    /// Finds the nearest `k` groups, with up to `max_hits` hits of each: `k` counts groups instead
    /// of hits. The hits are sorted by distance, whatever their group. A later call replaces an
    /// earlier one, and [`per_group`](Self::per_group).
    ///
    /// The search goes on until all `k` groups are full, or until it has seen all items. So it
    /// takes long if a group has fewer items than `max_hits`: bound it by [`within`](Self::within)
    /// or a [deadline](Self::deadline).
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

    /// As [`groups`](Self::groups), with a function that may fail. Its first failure ends the
    /// search, as that of a [predicate](Self::try_filter_fn) does.
    pub fn try_groups<E>(self, max_hits: usize, group: impl Fn(u32) -> Result<u64, E> + 'a) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.with_groups(max_hits, Wanted::Groups, group)
    }

    /// Finds only the nearest hit of each unit, beside what groups were asked for before.
    pub(crate) fn once_each<E>(mut self, unit: impl Fn(u32) -> Result<u64, E> + 'a) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match &mut self.executor.groups {
            Some(groups) => {
                groups.unit = Some(Box::new(move |id| unit(id).map_err(Into::into)));
                self
            }
            None => self.try_per_group(1, unit),
        }
    }

    pub(crate) fn with_groups<E>(
        mut self,
        max_hits: usize,
        wanted: Wanted,
        group: impl Fn(u32) -> Result<u64, E> + 'a,
    ) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let group = Box::new(move |id| group(id).map_err(Into::into));
        self.executor.groups = Some(Groups { max_hits, wanted, among: None, group, unit: None });
        self
    }

    /// Ends the search when `callback` returns [`ControlFlow::Break`]. The answer has what was
    /// found by then, and [is partial](crate::Hits::is_partial).
    ///
    /// It is called as often as the clock is read for a [`deadline`](Self::deadline), by the thread
    /// that searches. It is not called again once it has ended the search. It can be combined with
    /// a deadline and with other callbacks: the first to fire ends the search.
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
        self.executor.callback = Some(either(self.executor.callback.take(), callback));
        self
    }

    /// Shares exact searches among the threads of the current rayon pool: [requested](Self::exact)
    /// ones, and those that the search chose.
    ///
    /// The calling thread reads the items in order and calls all callbacks. Other searches are not
    /// shared. Nor are those in a set of fewer than three quarters of the items: these are looked
    /// up one by one.
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
