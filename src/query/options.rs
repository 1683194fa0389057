//! Options of all searches.

use std::borrow::Cow;
use std::time::Instant;

use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::query::nns::Nns;
use crate::search::SearchStats;

/// Which items may be found. These options can be combined: each leaves out more items.
impl<'a, E> Nns<'a, E> {
    /// Finds only items of this set, which may contain ids that are no items. With two sets, only
    /// items in both.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let allowed = RoaringBitmap::from([2, 9, 1_000]);
    /// assert_eq!(ids(&reader.nns(10).filter(&allowed).by_vector(&[0.0])?), [2, 9]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cost
    /// The cheaper of two ways: comparing all items of the set, or searching the forest. The
    /// [report](Self::report) has which. Of a leaf without an item of the set, at most one block of
    /// sketches is scanned. A set that leaves out what is near the query takes longer: 16 times the
    /// budget, or a comparison of all its items.
    pub fn filter(mut self, allowed: &'a RoaringBitmap) -> Self {
        self.allowed = Some(match self.allowed {
            Some(before) => Cow::Owned(before.as_ref() & allowed),
            None => Cow::Borrowed(allowed),
        });
        self
    }

    /// As [`filter`](Self::filter), with a set in the portable serialisation of [Roaring
    /// bitmaps](https://github.com/RoaringBitmap/RoaringFormatSpec), which libraries of many
    /// languages write.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let mut bytes = Vec::new();
    /// RoaringBitmap::from([2, 9]).serialize_into(&mut bytes)?;
    /// assert_eq!(ids(&reader.nns(10).filter_serialized(&bytes)?.by_vector(&[0.0])?), [2, 9]);
    /// assert!(reader.nns(10).filter_serialized(&bytes[1..]).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidOption`] if the bytes are not exactly one such set.
    pub fn filter_serialized(mut self, bytes: &[u8]) -> Result<Self> {
        let mut rest = bytes;
        let allowed = RoaringBitmap::deserialize_from(&mut rest).map_err(|error| {
            Error::option("filter", "a portable serialised Roaring bitmap", error)
        })?;
        if !rest.is_empty() {
            let got = format_args!("{} bytes after its end", rest.len());
            return Err(Error::option("filter", "a portable serialised Roaring bitmap", got));
        }
        self.allowed = Some(Cow::Owned(match self.allowed {
            Some(before) => before.as_ref() & allowed,
            None => allowed,
        }));
        Ok(self)
    }

    /// Finds only items within this distance, in the unit of the metric. Under the dot product:
    /// with at least this product. A later call replaces an earlier one.
    ///
    /// `nns(usize::MAX).within(d)` finds all items within `d`, up to the target recall.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// assert_eq!(ids(&reader.nns(usize::MAX).within(2.5).by_vector(&[0.0])?), [1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn within(mut self, distance: f32) -> Self {
        self.options.within = Some(distance);
        self
    }

    /// Finds only items at this distance or farther, in the unit of the metric. Under the dot
    /// product: with at most this product. With [`within`](Self::within), those between both
    /// bounds, which are included. A later call replaces an earlier one.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let ring = reader.nns(10).beyond(1.5).within(5.0);
    /// assert_eq!(ids(&ring.by_vector(&[0.0])?), [2, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cost
    /// The search finds nearer items as well and leaves them out. It costs as much as a search
    /// for all of these and `k` more.
    pub fn beyond(mut self, distance: f32) -> Self {
        self.options.beyond = Some(distance);
        self
    }
}

/// How thorough the search is.
impl<'a, E> Nns<'a, E> {
    /// The part of the true neighbours to find, on average over queries: above 0 and at most 1. The
    /// default is 0.95. With 1, every item is compared exactly.
    ///
    /// A build measures on some of its items how much work reaches which recall, for up to 1,000
    /// neighbours. Later builds correct that by a few probes, and measure anew when a third of the
    /// items has changed. If your queries differ from the items, let
    /// [`Writer::calibrate`](crate::Writer::calibrate) measure on some of them.
    ///
    /// A search ends when the leaves that are left are too far away for its hits. So queries whose
    /// neighbours lie close together take less. A search that notices that it missed too much goes
    /// on with four times the budget, unless [`search_k`](Self::search_k) or
    /// [`oversampling`](Self::oversampling) is given.
    ///
    /// If there are at most a thousand items, all are compared. The same holds if `k` is more than
    /// an eighth of them, or if the forest cannot reach the target. In these two cases
    /// [`SearchStats::is_out_of_reach`](crate::SearchStats::is_out_of_reach) is set.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let quick = reader.nns(2).recall(0.8).by_vector(&[0.0])?;
    /// let thorough = reader.nns(2).recall(0.99).by_vector(&[0.0])?;
    /// # assert_eq!(quick, thorough);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recall(mut self, target: f32) -> Self {
        (self.options.recall, self.options.is_recall_given) = (target, true);
        self
    }

    /// The smallest number of leaf sketches to scan, in place of the target recall. Only entries
    /// that the filter admits count. 0 is the fastest and least thorough search; more finds more
    /// and takes longer.
    ///
    /// If comparing the whole set of a [`filter`](Self::filter) is cheaper, that is done instead.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// assert_eq!(ids(&reader.nns(1).search_k(5_000).by_vector(&[8.0])?), [9]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn search_k(mut self, sketches: usize) -> Self {
        self.options.search_k = Some(sketches);
        self
    }

    /// How many candidates to compare exactly, as a multiple of `k`, at least 1. For pages, it is a
    /// multiple of the hits so far.
    ///
    /// The default is what the target recall needs. With [`search_k`](Self::search_k), the default
    /// is 8 for sketches of 1 bit, 4 for 2 bits and 3 for 4 bits, and at least `k` + 14 candidates.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// assert_eq!(ids(&reader.nns(1).oversampling(20.0).by_vector(&[8.0])?), [9]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn oversampling(mut self, factor: f32) -> Self {
        self.options.oversampling = Some(factor);
        self
    }

    /// Compares every item exactly, so that no neighbour is missed. O(items).
    ///
    /// It cannot be combined with [`recall`](Self::recall), [`search_k`](Self::search_k) or
    /// [`oversampling`](Self::oversampling).
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// assert_eq!(ids(&reader.nns(2).exact().by_vector(&[8.0])?), [9, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn exact(mut self) -> Self {
        self.options.is_exact = true;
        self
    }
}

/// How long the search takes, and what it reports.
impl<'a, E> Nns<'a, E> {
    /// Ends the search at this time, or at an earlier deadline of another call. The answer has what
    /// was found by then, and [is partial](crate::Hits::is_partial). `None` is no limit.
    ///
    /// The clock is read after each leaf, and after a few dozen vectors or calls of a predicate:
    /// usually every few microseconds. [Parallel](Nns::parallel) searches read it after 16,384
    /// items. After the deadline, at most about a hundred of the best candidates are compared, for
    /// each example of [`by_any`](Nns::by_any). Of many searches in one call, those not begun find
    /// nothing.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let hits = reader.nns(2).deadline(Instant::now() + Duration::from_secs(5)).by_vector(&[0.0])?;
    /// if hits.is_partial() {
    ///     eprintln!("the nearest of what was looked at:");
    /// }
    /// assert_eq!(hits[0].id, 1);
    /// let limit: Option<Duration> = None; // as the request says
    /// let limit = limit.map(|limit| Instant::now() + limit);
    /// assert!(!reader.nns(2).deadline(limit).by_vector(&[0.0])?.is_partial());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn deadline(mut self, at: impl Into<Option<Instant>>) -> Self {
        let before = self.options.deadline;
        self.options.deadline = before.into_iter().chain(at.into()).min();
        self
    }

    /// Writes the statistics of the search into `report`.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let mut report = SearchStats::default();
    /// reader.nns(2).report(&mut report).by_vector(&[0.0])?;
    /// assert_eq!((report.plan, report.scanned_exactly), (SearchPlan::Exact, 4)); // few items are compared one by one
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn report(mut self, report: &'a mut SearchStats) -> Self {
        self.report = Some(report);
        self.options.is_timed = true;
        self
    }
}
