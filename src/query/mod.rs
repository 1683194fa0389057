//! The query builder, and the forms of queries.

mod batch;
mod examples;
mod groups;
mod outcome;
mod pages;
mod rows;

use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::time::Instant;

use roaring::RoaringBitmap;

use crate::database::ItemOf;
use crate::error::{Error, Result};
use crate::format::item::ItemRef;
use crate::metric::Metric;
use crate::search::request::{Filter, Request, Stop};
use crate::search::stream::Stream;
use crate::search::{Hit, Searched};
use crate::vector::CheckedVector;
use examples::{Examples, point_of};
use groups::Groups;

pub use batch::BatchNns;
pub use examples::Example;
pub use outcome::{Found, InTime, Outcome, Whole};
pub use pages::{Neighbours, Pages};

/// Hits that a search within a distance looks for at first, if there may be more.
const FIRST_WITHIN: usize = 64;

/// What the query builder asks of a reader, whatever the lifetime of its transaction.
pub(crate) trait Asked {
    fn of(&self) -> ItemOf;
    fn item(&self, id: u32) -> Result<Option<ItemRef<'_>>>;
    /// An item that was found, with its distance to another query.
    fn compare(&self, query: ItemRef<'_>, id: u32) -> Result<Hit>;
    fn search(&self, query: ItemRef<'_>, request: &Request<'_>) -> Result<(Vec<Hit>, Searched)>;
    fn next(&self, stream: &mut Stream, request: &Request<'_>, count: usize) -> Result<Vec<Hit>>;
}

/// A search under construction: see [`Reader::nns`](crate::Reader::nns).
///
/// The answer has exactly min(k, matching items) hits, each item once, sorted by distance and then by id, with exact
/// distances. What is approximate is only whether these are the very nearest ones.
///
/// What is asked for comes last: [`by_vector`](Self::by_vector), [`by_item`](Self::by_item), [`by_any`](Self::by_any),
/// [`by_mean`](Self::by_mean), [`by_examples`](Self::by_examples), or page by page: [`pages`](Self::pages),
/// [`neighbours`](Self::neighbours). Each goes with every filter and every metric, but for means of bits.
///
/// ```
/// # use spinney::{heed, Database, Example, IndexOptions, Metric, Reader, Writer};
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the folder is ours alone.
/// # let env = unsafe { heed::EnvOpenOptions::new().map_size(10 << 20).max_dbs(1).open(dir.path())? };
/// # let db = Database::open_or_create(&env)?;
/// # let mut wtxn = env.write_txn()?;
/// # let writer = Writer::open_or_create(db, &mut wtxn, 0, &IndexOptions::new(1, Metric::Euclidean))?;
/// # writer.add_items(&mut wtxn, &[1, 2, 3, 4], &[1.0, 2.0, 3.0, 4.0])?;
/// # wtxn.commit()?;
/// # let rtxn = env.read_txn()?;
/// let reader = Reader::open(&rtxn, db, 0)?;
/// let ids = |hits: Vec<spinney::Hit>| hits.iter().map(|hit| hit.id).collect::<Vec<_>>();
/// let even = spinney::roaring::RoaringBitmap::from([2, 4, 999]);
/// assert_eq!(ids(reader.nns(10).filter(&even).by_vector(&[0.0])?), [2, 4]);
/// assert_eq!(ids(reader.nns(10).filter_fn(|id| id != 2).within(3.0).by_vector(&[0.0])?), [1, 3]);
/// assert_eq!(ids(reader.nns(1).by_item(4)?.expect("item 4 exists")), [3]);
/// assert!(reader.nns(1).by_item(77)?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a search does nothing until it is told what to search for"]
pub struct Nns<'a, O = Whole> {
    asked: &'a dyn Asked,
    request: Request<'a>,
    predicate: Option<Box<dyn Fn(u32) -> bool + 'a>>,
    callback: Option<Box<dyn Fn() -> ControlFlow<()> + 'a>>,
    groups: Option<Groups<'a>>,
    report: Option<&'a mut Searched>,
    outcome: PhantomData<O>,
}

impl<'a> Nns<'a> {
    pub(crate) fn new(asked: &'a dyn Asked, request: Request<'a>) -> Self {
        let (predicate, callback, groups) = (None, None, None);
        Self { asked, request, predicate, callback, groups, report: None, outcome: PhantomData }
    }

    /// The nearest neighbours of an example page by page, `k` hits each, for as long as the reader lives.
    ///
    /// A page goes on where the last one ended: nothing comes twice, and in the end everything has come. An item that the
    /// recall aimed at lets the search miss at first comes with a later page, before what is farther.
    ///
    /// ```
    /// # use spinney::{heed, Database, IndexOptions, Metric, Reader, Writer};
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the folder is ours alone.
    /// # let env = unsafe { heed::EnvOpenOptions::new().map_size(10 << 20).max_dbs(1).open(dir.path())? };
    /// # let db = Database::open_or_create(&env)?;
    /// # let mut wtxn = env.write_txn()?;
    /// # let writer = Writer::open_or_create(db, &mut wtxn, 0, &IndexOptions::new(1, Metric::Euclidean))?;
    /// # writer.add_items(&mut wtxn, &[1, 2, 3], &[1.0, 2.0, 3.0])?;
    /// # wtxn.commit()?;
    /// # let rtxn = env.read_txn()?;
    /// # let reader = Reader::open(&rtxn, db, 0)?;
    /// let mut pages = reader.nns(2).pages(&[0.0])?;
    /// let ids = |hits: Vec<spinney::Hit>| hits.iter().map(|hit| hit.id).collect::<Vec<_>>();
    /// assert_eq!(ids(pages.next_page()?), [1, 2]);
    /// assert_eq!(ids(pages.next_page()?), [3]);
    /// assert!(pages.next_page()?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`by_vector`](Self::by_vector); [`Error::ItemNotFound`]; [`Error::InvalidOption`] together with
    /// [`per_group`](Self::per_group).
    ///
    /// # Cost
    /// All pages up to one take about as long as one search for as many hits.
    pub fn pages<'e>(self, of: impl Into<Example<'e>>) -> Result<Pages<'a>> {
        Pages::new(self, of.into())
    }

    /// The nearest neighbours of an example one by one, `k` at most, each looked for when its turn comes.
    ///
    /// They come as [`pages`](Self::pages) of growing length do: nearest first, but for what is found late.
    ///
    /// ```
    /// # use spinney::{heed, Database, IndexOptions, Metric, Reader, Writer};
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the folder is ours alone.
    /// # let env = unsafe { heed::EnvOpenOptions::new().map_size(10 << 20).max_dbs(1).open(dir.path())? };
    /// # let db = Database::open_or_create(&env)?;
    /// # let mut wtxn = env.write_txn()?;
    /// # let writer = Writer::open_or_create(db, &mut wtxn, 0, &IndexOptions::new(1, Metric::Euclidean))?;
    /// # writer.add_items(&mut wtxn, &[1, 2, 3], &[1.0, 2.0, 3.0])?;
    /// # wtxn.commit()?;
    /// # let rtxn = env.read_txn()?;
    /// # let reader = Reader::open(&rtxn, db, 0)?;
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
    pub fn neighbours<'e>(self, of: impl Into<Example<'e>>) -> Result<Neighbours<'a>> {
        Neighbours::new(self, of.into())
    }
}

/// Options.
impl<'a, O> Nns<'a, O> {
    /// Ends the search at this time, and returns what it has found by then: see [`Found`].
    ///
    /// It is looked at the clock after each leaf and after some vectors: every few microseconds.
    ///
    /// ```
    /// # use spinney::{heed, Database, IndexOptions, Metric, Reader, Writer};
    /// # use std::time::{Duration, Instant};
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the folder is ours alone.
    /// # let env = unsafe { heed::EnvOpenOptions::new().map_size(10 << 20).max_dbs(1).open(dir.path())? };
    /// # let db = Database::open_or_create(&env)?;
    /// # let mut wtxn = env.write_txn()?;
    /// # let writer = Writer::open_or_create(db, &mut wtxn, 0, &IndexOptions::new(1, Metric::Euclidean))?;
    /// # writer.add_items(&mut wtxn, &[1, 2, 3, 4], &[1.0, 2.0, 3.0, 4.0])?;
    /// # wtxn.commit()?;
    /// # let rtxn = env.read_txn()?;
    /// # let reader = Reader::open(&rtxn, db, 0)?;
    /// let found = reader.nns(2).deadline(Instant::now() + Duration::from_secs(5)).by_vector(&[0.0])?;
    /// if found.is_partial {
    ///     eprintln!("the nearest of what was looked at:");
    /// }
    /// assert_eq!(found.hits[0].id, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn deadline(self, at: Instant) -> Nns<'a, InTime> {
        let mut nns = self.in_time();
        nns.request.stop.deadline = Some(at);
        nns
    }

    /// Ends the search when `callback` returns [`ControlFlow::Break`], and returns what it has found by then: see [`Found`].
    ///
    /// It is called after each leaf and after some vectors, every few microseconds, by the thread that searches. Goes
    /// together with a deadline.
    pub fn cancel(self, callback: impl Fn() -> ControlFlow<()> + 'a) -> Nns<'a, InTime> {
        let mut nns = self.in_time();
        nns.callback = Some(Box::new(callback));
        nns
    }

    fn in_time(self) -> Nns<'a, InTime> {
        let Self { asked, request, predicate, callback, groups, report, .. } = self;
        Nns { asked, request, predicate, callback, groups, report, outcome: PhantomData }
    }

    /// The part of the true neighbours to be found, on average over queries like those that the index was calibrated with:
    /// above 0, and at most 1, which compares every item exactly. The default is 0.95.
    ///
    /// A bulk build measures on its own items, against exact search, what effort reaches which recall for 1, 10 and 100
    /// neighbours; later builds look again at a few items and correct it. A search for up to 100 neighbours at a target of
    /// up to .995 ends when its hits are near beside the leaves that are left, so that queries whose neighbours lie close
    /// together take less than others (not page by page, nor where a filter leaves out what is near).
    /// [`Writer::calibrate`](crate::Writer::calibrate) measures on queries of yours instead. Under the Hamming metric, and
    /// in an index of fewer than a thousand items, a bulk build does not measure; later builds correct the effort all the
    /// same.
    pub fn recall(mut self, target: f32) -> Self {
        self.request.recall = target;
        self
    }

    /// How many leaf sketches the search scans at least, counting only items that the filter admits, whatever the recall
    /// aimed at. More finds more and takes longer.
    pub fn search_k(mut self, sketches: usize) -> Self {
        self.request.search_k = Some(sketches);
        self
    }

    /// How many vectors are compared exactly, as a multiple of `k` (at least 1). The default is what the recall aimed at
    /// needs; with [`search_k`](Self::search_k) it depends on the bits of the sketches: 8 for 1 bit, 4 for 2, 3 for 4, and 14
    /// more than `k` at least.
    pub fn oversampling(mut self, factor: f32) -> Self {
        self.request.oversampling = Some(factor);
        self
    }

    /// Only items of this set are found; ids in it that are no items do no harm.
    ///
    /// Whether the items of the set are compared one by one or the forest is searched is decided by what takes less; the
    /// [report](Self::report) tells which. The forest is searched as deep as if all that is nearer than the answer and not in
    /// the set were wanted, too. Where that is a large part of the index, the items of the set are compared after all. Of a leaf
    /// without a member, a few sketches are scanned at most.
    pub fn filter(mut self, allowed: &'a RoaringBitmap) -> Self {
        self.request.filter.allowed = Some(allowed);
        self
    }

    /// Only items of which `admits` says so are found. Goes together with [`filter`](Self::filter).
    ///
    /// It is asked of items that look near, nearest first; `pages` and `neighbours` may ask more than once of one. How many it admits in all is not known
    /// beforehand, so that a set is the faster filter where few items are admitted.
    pub fn filter_fn(mut self, admits: impl Fn(u32) -> bool + 'a) -> Self {
        self.predicate = Some(Box::new(admits));
        self
    }

    /// Only items within this distance, as the metric gives it, are found; under the dot product those of this product or a
    /// larger one. `nns(usize::MAX).within(d)` finds all of them, up to the recall aimed at.
    pub fn within(mut self, distance: f32) -> Self {
        self.request.within = Some(distance);
        self
    }

    /// At most `most` hits of each group, which `group` tells of an item.
    ///
    /// The search goes on until `k` hits are found or all items were looked at, so that few groups of many items take long.
    ///
    /// ```
    /// # use spinney::{heed, Database, IndexOptions, Metric, Reader, Writer};
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the folder is ours alone.
    /// # let env = unsafe { heed::EnvOpenOptions::new().map_size(10 << 20).max_dbs(1).open(dir.path())? };
    /// # let db = Database::open_or_create(&env)?;
    /// # let mut wtxn = env.write_txn()?;
    /// # let writer = Writer::open_or_create(db, &mut wtxn, 0, &IndexOptions::new(1, Metric::Euclidean))?;
    /// # writer.add_items(&mut wtxn, &[1, 2, 3, 4], &[1.0, 2.0, 3.0, 4.0])?;
    /// # wtxn.commit()?;
    /// # let rtxn = env.read_txn()?;
    /// # let reader = Reader::open(&rtxn, db, 0)?;
    /// let author = |id: u32| u64::from(id / 3); // items 1 and 2 are by one, 3 and 4 by another
    /// let hits = reader.nns(2).per_group(1, author).by_vector(&[0.0])?;
    /// assert_eq!((hits[0].id, hits[1].id), (1, 3));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn per_group(mut self, most: usize, group: impl Fn(u32) -> u64 + 'a) -> Self {
        self.groups = Some(Groups { most, group: Box::new(group) });
        self
    }

    /// Compares every item exactly: slow and always right. O(items).
    pub fn exact(mut self) -> Self {
        self.request.is_exact = true;
        self
    }

    /// Shares an exact search among the threads of the current rayon pool. One of them reads the items in order; callbacks
    /// are called by the thread that asks.
    pub fn parallel(mut self) -> Self {
        self.request.is_parallel = true;
        self
    }

    /// Writes what the search did into `report`.
    pub fn report(mut self, report: &'a mut Searched) -> Self {
        (self.report, self.request.is_timed) = (Some(report), true);
        self
    }
}

/// What to search for.
impl<O: Outcome> Nns<'_, O> {
    /// Finds the items nearest to `vector`.
    ///
    /// # Errors
    /// [`Error::Dimensions`], [`Error::NonFinite`], [`Error::ZeroVector`], [`Error::NormOverflow`] or
    /// [`Error::NotABit`] if the vector does not suit the index; [`Error::InvalidOption`]; [`Error::Corrupted`].
    pub fn by_vector(mut self, vector: &[f32]) -> Result<O::Answer> {
        let ItemOf { dims, metric, .. } = self.asked.of();
        let checked = CheckedVector::new(vector, dims, metric)?;
        self.answer(checked.as_item(), &[])
    }

    /// Finds the items nearest to an item, itself excluded; `None` if there is no such item.
    ///
    /// # Errors
    /// [`Error::InvalidOption`]; [`Error::Corrupted`].
    pub fn by_item(mut self, id: u32) -> Result<Option<O::Answer>> {
        match self.asked.item(id)? {
            Some(item) => self.answer(item, &[id]).map(Some),
            None => Ok(None),
        }
    }

    /// Finds the items nearest to any of some examples: the distance of a hit is that to the nearest of them.
    ///
    /// ```
    /// # use spinney::{heed, Database, IndexOptions, Metric, Reader, Writer};
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the folder is ours alone.
    /// # let env = unsafe { heed::EnvOpenOptions::new().map_size(10 << 20).max_dbs(1).open(dir.path())? };
    /// # let db = Database::open_or_create(&env)?;
    /// # let mut wtxn = env.write_txn()?;
    /// # let writer = Writer::open_or_create(db, &mut wtxn, 0, &IndexOptions::new(1, Metric::Euclidean))?;
    /// # writer.add_items(&mut wtxn, &[1, 2, 3, 9], &[1.0, 2.0, 3.0, 9.0])?;
    /// # wtxn.commit()?;
    /// # let rtxn = env.read_txn()?;
    /// # let reader = Reader::open(&rtxn, db, 0)?;
    /// let hits = reader.nns(2).by_any(&[1u32.into(), (&[8.5]).into()])?; // item 1, and a vector
    /// assert_eq!((hits[0].id, hits[1].id), (9, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`by_vector`](Self::by_vector); [`Error::ItemNotFound`]; [`Error::InvalidOption`] without examples.
    ///
    /// # Cost
    /// One search for each, and comparisons of each with what was found for the others.
    pub fn by_any(mut self, examples: &[Example<'_>]) -> Result<O::Answer> {
        let examples = Examples::new(self.asked, examples)?;
        let (mut found, mut searched): (Vec<Vec<Hit>>, Searched) = Default::default();
        for query in &examples.queries {
            let (hits, did) = self.run(query.as_item(), &examples.items)?;
            found.push(hits);
            searched.add(&did);
        }
        let mut all = examples.merge(self.asked, found, &mut searched)?;
        if let Some(groups) = &self.groups {
            groups.keep(&mut all);
        }
        all.truncate(self.request.k);
        self.tell(&searched);
        Ok(O::answer(all, searched.is_partial))
    }

    /// Finds the items nearest to the mean of some examples, these excluded; distances are to the mean.
    ///
    /// Under the cosine metric each example counts by its direction alone.
    ///
    /// # Errors
    /// As [`by_any`](Self::by_any); [`Error::NotForMetric`] under the Hamming metric, as bits have no mean.
    pub fn by_mean(self, examples: &[Example<'_>]) -> Result<O::Answer> {
        self.by_examples(examples, &[])
    }

    /// Finds the items that are like the positive examples and unlike the negative ones, these and those excluded: the
    /// nearest to p + (p - n), in which p and n are their means. Distances are to that point.
    ///
    /// ```
    /// # use spinney::{heed, Database, IndexOptions, Metric, Reader, Writer};
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the folder is ours alone.
    /// # let env = unsafe { heed::EnvOpenOptions::new().map_size(10 << 20).max_dbs(1).open(dir.path())? };
    /// # let db = Database::open_or_create(&env)?;
    /// # let mut wtxn = env.write_txn()?;
    /// # let writer = Writer::open_or_create(db, &mut wtxn, 0, &IndexOptions::new(1, Metric::Euclidean))?;
    /// # writer.add_items(&mut wtxn, &[1, 2, 3, 9], &[1.0, 2.0, 3.0, 9.0])?;
    /// # wtxn.commit()?;
    /// # let rtxn = env.read_txn()?;
    /// # let reader = Reader::open(&rtxn, db, 0)?;
    /// // More like 3, less like 2: the nearest to 3 + (3 - 2).
    /// let hits = reader.nns(1).by_examples(&[3u32.into()], &[2u32.into()])?;
    /// assert_eq!((hits[0].id, hits[0].distance), (1, 3.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`by_mean`](Self::by_mean).
    pub fn by_examples(mut self, positive: &[Example<'_>], negative: &[Example<'_>]) -> Result<O::Answer> {
        let of = self.asked.of();
        let (point, items) = point_of(self.asked, positive, negative)?;
        let checked = CheckedVector::new(&point, of.dims, of.metric)?;
        self.answer(checked.as_item(), &items)
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

    fn tell(&mut self, searched: &Searched) {
        if let Some(report) = &mut self.report {
            **report = *searched;
        }
    }

    /// The request with all that the builder was told.
    fn request<'r>(&'r self, exclude: &'r [u32]) -> Result<Request<'r>> {
        let request = &self.request;
        request.check()?;
        if self.groups.as_ref().is_some_and(|groups| groups.most == 0) {
            return Err(Error::option("per_group", "a number from 1 up", 0));
        }
        Ok(Request {
            filter: Filter { predicate: self.predicate.as_deref(), ..request.filter },
            stop: Stop { callback: self.callback.as_deref(), ..request.stop },
            exclude,
            ..*request
        })
    }

    fn run(&self, query: ItemRef<'_>, exclude: &[u32]) -> Result<(Vec<Hit>, Searched)> {
        let request = self.request(exclude)?;
        let may_be_many = request.within.is_some() && request.k > FIRST_WITHIN;
        if self.groups.is_none() && !may_be_many {
            return self.asked.search(query, &request);
        }
        let of = self.asked.of();
        let mut stream = Stream::new(&query);
        let mut hits: Vec<Hit> = Vec::new();
        let mut count = if may_be_many { FIRST_WITHIN } else { request.k };
        loop {
            let some = self.asked.next(&mut stream, &request, count)?;
            // Whether what comes next is too far, as far as the search can tell.
            let mut is_beyond = some.is_empty() || stream.searched(of).is_partial;
            for hit in some {
                match is_within(&hit, request.within, of.metric) {
                    true => hits.push(hit),
                    false => is_beyond = true,
                }
            }
            sort(&mut hits, of.metric);
            if let Some(groups) = &self.groups {
                groups.keep(&mut hits);
            }
            if is_beyond || hits.len() >= request.k {
                hits.truncate(request.k);
                return Ok((hits, stream.searched(of)));
            }
            count = count.saturating_mul(2);
        }
    }
}

/// Whether a hit is within a distance, if there is one.
fn is_within(hit: &Hit, within: Option<f32>, metric: Metric) -> bool {
    match metric {
        Metric::DotProduct => within.is_none_or(|within| hit.distance >= within),
        _ => within.is_none_or(|within| hit.distance <= within),
    }
}

/// Sorts hits as an answer has them.
fn sort(hits: &mut [Hit], metric: Metric) {
    hits.sort_unstable_by(|a, b| {
        let order = a.distance.total_cmp(&b.distance);
        let order = if metric == Metric::DotProduct { order.reverse() } else { order };
        order.then(a.id.cmp(&b.id))
    });
}
