//! The forms of queries: by vector, by item, by examples, in pages, many at once.

use crate::error::Result;
use crate::format::item::ItemRef;
use crate::query::examples::{Example, Examples, Gathered, point_of};
use crate::query::groups::Wanted;
use crate::query::hits::Hits;
use crate::query::nns::Nns;
use crate::query::paged::{Neighbours, Pages};
use crate::search::{Hit, SearchStats};
use crate::vector::{CheckedVector, check_rows};

/// Page by page.
impl<'a> Nns<'a> {
    /// Finds the nearest neighbours of an example page by page, `k` hits each.
    ///
    /// Each page goes on where the last one ended. Each item comes once, and in the end all have
    /// come. An item that the first searches miss comes with a later page. Only with
    /// [`within`](Self::within) it may not come, as the pages end at the first hit that is too far.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let mut pages = reader.nns(3).pages(&[0.0])?;
    /// assert_eq!(ids(&pages.next_page()?), [1, 2, 3]);
    /// assert_eq!(ids(&pages.next_page()?), [9]);
    /// assert!(pages.next_page()?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`by_vector`](Self::by_vector); [`Error::ItemNotFound`](crate::Error::ItemNotFound);
    /// [`Error::Incompatible`](crate::Error::Incompatible) with
    /// [`per_group`](Self::per_group) or [`groups`](Self::groups).
    ///
    /// # Cost
    /// When its hits have run out, a new search finds twice as many. So all pages together take
    /// about as long as two searches for as many hits. With [`exact`](Self::exact), each of these
    /// searches compares all items.
    pub fn pages<'e>(self, example: impl Into<Example<'e>>) -> Result<Pages<'a>> {
        Pages::new(self, example.into())
    }

    /// Iterates over the nearest neighbours of an example, at most `k`. It searches only as far as
    /// the iterator is read.
    ///
    /// They come as in [`pages`](Self::pages) of growing length: nearest first, except for items
    /// that a search missed at first.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// for hit in reader.nns(usize::MAX).neighbours(&[0.0])? {
    ///     let hit = hit?;
    ///     if hit.distance > 2.5 {
    ///         break;
    ///     }
    ///     assert!(hit.id <= 2);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`pages`](Self::pages).
    pub fn neighbours<'e>(self, example: impl Into<Example<'e>>) -> Result<Neighbours<'a>> {
        Neighbours::new(self, example.into())
    }
}

/// What to search for.
impl Nns<'_> {
    /// Finds the items nearest to `vector`.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let hits = reader.nns(2).by_vector(&[2.25])?;
    /// assert_eq!(ids(&hits), [2, 3]);
    /// assert_eq!(hits[1].distance, 0.75);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Dimensions`](crate::Error::Dimensions),
    /// [`Error::NonFinite`](crate::Error::NonFinite),
    /// [`Error::ZeroVector`](crate::Error::ZeroVector),
    /// [`Error::NormOverflow`](crate::Error::NormOverflow) or
    /// [`Error::NotABit`](crate::Error::NotABit) if the vector does not suit the index;
    /// [`Error::InvalidOption`](crate::Error::InvalidOption);
    /// [`Error::Incompatible`](crate::Error::Incompatible);
    /// [`Error::Callback`](crate::Error::Callback); [`Error::Corrupted`](crate::Error::Corrupted).
    pub fn by_vector(mut self, vector: &[f32]) -> Result<Hits> {
        let checked = CheckedVector::new(vector, self.searcher().spec())?;
        self.answer(checked.as_item(), &[])
    }

    /// Finds the items nearest to an item, which is left out. `None` if there is no such item.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// assert_eq!(ids(&reader.nns(1).by_item(9)?.expect("item 9 exists")), [3]);
    /// assert!(reader.nns(1).by_item(77)?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidOption`](crate::Error::InvalidOption);
    /// [`Error::Incompatible`](crate::Error::Incompatible);
    /// [`Error::Callback`](crate::Error::Callback); [`Error::Corrupted`](crate::Error::Corrupted).
    pub fn by_item(mut self, id: u32) -> Result<Option<Hits>> {
        self.check()?;
        match self.searcher().query_item(id)? {
            Some(item) => self.answer(item.view()?, &[id]).map(Some),
            None => Ok(None),
        }
    }

    /// Finds the items nearest to any of several examples. The distance of a hit is that to the
    /// nearest example.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let hits = reader.nns(2).by_any(&[1u32.into(), (&[8.5]).into()])?; // item 1, and a vector
    /// assert_eq!(ids(&hits), [9, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`by_vector`](Self::by_vector); [`Error::ItemNotFound`](crate::Error::ItemNotFound);
    /// [`Error::InvalidOption`](crate::Error::InvalidOption) without examples.
    ///
    /// # Cost
    /// One search for each, and comparisons of each with the hits: `k` times as many as there are
    /// examples, at most. With [`groups`](Self::groups), two searches for each. With
    /// [`beyond`](Self::beyond), whatever is found is compared with each.
    pub fn by_any(mut self, examples: &[Example<'_>]) -> Result<Hits> {
        self.check()?;
        let examples = Examples::new(self.searcher(), examples)?;
        let (mut found, mut stats) = Default::default();
        self.find_groups(&examples, &mut found, &mut stats)?;
        let all = self.gather(&examples, &mut found, &mut stats)?;
        let hits = examples.compare_all(self.searcher(), all, self.interrupt(), &mut stats)?;
        self.write_report(&stats);
        Ok(Hits::new(hits, stats.is_partial))
    }

    /// The answers to all examples as one, with what was `found` before for each.
    fn gather(
        &self,
        examples: &Examples,
        found: &mut Vec<Vec<Hit>>,
        stats: &mut SearchStats,
    ) -> Result<Gathered> {
        found.resize_with(examples.queries.len(), Vec::new);
        for (query, found) in examples.queries.iter().zip(found.iter_mut()) {
            let (hits, did) = self.run(query.as_item(), &examples.items, &examples.queries)?;
            found.extend(hits);
            stats.add(&did);
        }
        let mut all = Gathered::new(found, self.searcher().spec().metric);
        match &self.executor.groups {
            Some(groups) => all.hits = groups.answer(&mut all.hits, self.k)?.0,
            None => all.hits.truncate(self.k),
        }
        Ok(all)
    }

    /// Finds the groups that are nearest to several examples. Then the search for each example
    /// looks among these, though other groups may be nearer to it.
    fn find_groups(
        &mut self,
        examples: &Examples,
        found: &mut Vec<Vec<Hit>>,
        stats: &mut SearchStats,
    ) -> Result<()> {
        let Some(groups) = self.executor.groups.as_mut() else { return Ok(()) };
        if groups.wanted == Wanted::Hits || examples.queries.len() < 2 {
            return Ok(());
        }
        let max_hits = std::mem::replace(&mut groups.max_hits, 1);
        let nearest = self.gather(examples, found, stats)?.hits;
        if let Some(groups) = &mut self.executor.groups {
            groups.max_hits = max_hits;
            let of = |hit: &Hit| groups.group_of(hit.id);
            groups.among = Some(nearest.iter().map(of).collect::<Result<_>>()?);
        }
        Ok(())
    }

    /// Finds the items nearest to the mean of several examples, and leaves these out. Distances are
    /// to the mean.
    ///
    /// Under the cosine metric, only the directions of the examples count.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let hits = reader.nns(1).by_mean(&[1u32.into(), 2u32.into()])?; // the nearest to 1.5
    /// assert_eq!((hits[0].id, hits[0].distance), (3, 1.5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`by_any`](Self::by_any); [`Error::NotForMetric`](crate::Error::NotForMetric) under the
    /// Hamming metric, as bits have no mean.
    pub fn by_mean(self, examples: &[Example<'_>]) -> Result<Hits> {
        self.by_examples(examples, &[])
    }

    /// Finds items that are like the positive examples and unlike the negative ones.
    ///
    /// They are nearest to the point p + (p - n), where p and n are the means of the examples.
    /// Distances are to that point. All examples are left out.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// // More like 3, less like 2: the nearest to 3 + (3 - 2).
    /// let hits = reader.nns(1).by_examples(&[3u32.into()], &[2u32.into()])?;
    /// assert_eq!((hits[0].id, hits[0].distance), (1, 3.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`by_mean`](Self::by_mean).
    pub fn by_examples(
        mut self,
        positive: &[Example<'_>],
        negative: &[Example<'_>],
    ) -> Result<Hits> {
        self.check()?;
        let spec = self.searcher().spec();
        let (point, items) = point_of(self.searcher(), positive, negative)?;
        let checked = CheckedVector::new(&point, spec)?;
        self.answer(checked.as_item(), &items)
    }
}

/// Many queries with the same options, one after the other.
///
/// A [`Snapshot`](crate::Snapshot) shares them among threads. With its
/// [`each`](crate::Snapshot::each), every query can have its own options.
impl Nns<'_> {
    /// Finds the items nearest to each of several vectors, as [`by_vector`](Self::by_vector) does,
    /// in their order.
    ///
    /// A [`report`](Self::report) sums up all of them. Once one is [stopped](Self::deadline), those
    /// after it find nothing.
    ///
    /// # Shape and units
    /// `vectors`: rows of `dims` numbers each; there may be none.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let answers = reader.nns(2).by_vectors(&[0.0, 8.0])?; // two rows of one dimension
    /// assert_eq!((ids(&answers[0]), ids(&answers[1])), (vec![1, 2], vec![9, 3]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::QueriesShape`](crate::Error::QueriesShape) if the last row is not whole; else as
    /// [`by_vector`](Self::by_vector). All vectors are checked before the first search. A position
    /// in an error counts from the start of `vectors`.
    pub fn by_vectors(mut self, vectors: &[f32]) -> Result<Vec<Hits>> {
        self.check()?;
        let checked = check_rows(vectors, self.searcher().spec())?;
        let mut all = SearchStats::default();
        let answers =
            checked.iter().map(|vector| self.add_answer(vector.as_item(), &[], &mut all)).collect();
        self.write_report(&all);
        answers
    }

    /// Finds the items nearest to each of several items, as [`by_item`](Self::by_item) does, in
    /// their order. `None` stands for an id that is no item.
    ///
    /// ```
    #[doc = include_str!("example.txt")]
    /// let answers = reader.nns(1).by_items(&[1, 77])?;
    /// assert_eq!(answers[0].as_deref().map(ids), Some(vec![2]));
    /// assert!(answers[1].is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`by_item`](Self::by_item).
    pub fn by_items(mut self, ids: &[u32]) -> Result<Vec<Option<Hits>>> {
        self.check()?;
        let mut all = SearchStats::default();
        let answer = |id: &u32| match self.searcher().query_item(*id)? {
            Some(item) => self.add_answer(item.view()?, &[*id], &mut all).map(Some),
            None => Ok(None),
        };
        let answers = ids.iter().map(answer).collect();
        self.write_report(&all);
        answers
    }

    fn add_answer(
        &self,
        query: ItemRef<'_>,
        exclude: &[u32],
        all: &mut SearchStats,
    ) -> Result<Hits> {
        let (hits, stats) = self.run(query, exclude, &[])?;
        all.add(&stats);
        Ok(hits)
    }
}
