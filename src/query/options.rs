//! Options of all searches.

use std::borrow::Cow;
use std::time::Instant;

use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::query::Nns;
use crate::search::SearchStats;

/// Which items may be found. All of these go together: each that is added leaves out more.
impl<'a, E> Nns<'a, E> {
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
        self.allowed = Some(match self.allowed {
            Some(before) => Cow::Owned(before.as_ref() & allowed),
            None => Cow::Borrowed(allowed),
        });
        self
    }

    /// As [`filter`](Self::filter), by a set in the portable serialisation of [Roaring
    /// bitmaps](https://github.com/RoaringBitmap/RoaringFormatSpec), as other languages and
    /// processes write it.
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
    /// [`Error::InvalidOption`] if the bytes are not one such set, whole and nothing else.
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
        self.options.within = Some(distance);
        self
    }

    /// Only items at this distance or farther are found; under the dot product those of this
    /// product or a smaller one. With [`within`](Self::within), those between the two, the bounds
    /// included. A later call takes the place of an earlier one.
    ///
    /// The search finds what is nearer, too, and leaves it out: it costs what finding so many
    /// neighbours more costs.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let ring = reader.nns(10).beyond(1.5).within(5.0);
    /// assert_eq!(ids(&ring.by_vector(&[0.0])?), [2, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn beyond(mut self, distance: f32) -> Self {
        self.options.beyond = Some(distance);
        self
    }
}

/// How well the search finds them.
impl<'a, E> Nns<'a, E> {
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
        (self.options.recall, self.options.is_recall_given) = (target, true);
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
        self.options.search_k = Some(sketches);
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
        self.options.oversampling = Some(factor);
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
        self.options.is_exact = true;
        self
    }
}

/// For how long it searches, and what it reports.
impl<'a, E> Nns<'a, E> {
    /// Ends the search at this time, or at an earlier one that was set before. The answer is what
    /// was found by then, and [says so](crate::Hits::is_partial). `None` is no limit.
    ///
    /// The clock is read after each leaf and after every few dozen vectors, or calls of a
    /// predicate: most often every few microseconds; by [`parallel`](Nns::parallel) searches after
    /// every 16,384 items. Then the nearest of what has been scanned are compared: about a hundred
    /// comparisons, and as many calls of a predicate, at most; by [`by_any`](Nns::by_any), as many
    /// with each example. Of several searches in one, those that were not begun find nothing.
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
        self.report = Some(report);
        self.options.is_timed = true;
        self
    }
}
