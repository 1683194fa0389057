//! One search over several indexes.

use crate::error::{Error, Result};
use crate::format::item::ItemRef;
use crate::metric::Metric;
use crate::query::once::{Rules, search_once};
use crate::query::{Hits, Nns};
use crate::reader::Reader;
use crate::search::SearchStats;
use crate::search::filter::Filter;
use crate::search::interrupt::{Interrupt, InterruptState};
use crate::search::request::Request;
use crate::search::searcher::Searcher;
use crate::vector::{CheckedVector, check_rows};

/// Several indexes of equal dimensions and metric, searched as one: shards, tenants, years.
///
/// They may be of one database or of several. The calling thread searches each for the nearest `k`,
/// one after the other, and merges the answers. That costs as much as all these searches.
///
/// ```
/// # use spinney::{heed, Database, IndexOptions, Metric, Reader, Readers, Writer};
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the folder is ours alone.
/// # let env = unsafe { heed::EnvOpenOptions::new().map_size(10 << 20).max_dbs(1).open(dir.path())? };
/// # let db = Database::open_or_create(&env)?;
/// # let mut wtxn = env.write_txn()?;
/// # for (index, ids, vectors) in [(0, [1, 2], [1.0, 5.0]), (1, [1, 7], [2.0, 9.0])] {
/// #     let options = IndexOptions::new(1, Metric::Euclidean);
/// #     let writer = Writer::open_or_create(&mut wtxn, db, index, &options)?;
/// #     writer.add_items(&mut wtxn, &ids, &vectors)?;
/// # }
/// # wtxn.commit()?;
/// let rtxn = env.read_txn()?;
/// // Items 1 and 2 at 1 and 5, and others with ids 1 and 7 at 2 and 9.
/// let (a, b) = (Reader::open(&rtxn, db, 0)?, Reader::open(&rtxn, db, 1)?);
/// let hits = Readers::new([&a, &b])?.nns(3).by_vector(&[0.0])?;
/// let found: Vec<(usize, u32)> = hits.iter().map(|hit| (hit.reader, hit.id)).collect();
/// assert_eq!(found, [(0, 1), (1, 1), (0, 2)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Readers<'a> {
    searchers: Vec<&'a dyn Searcher>,
}

/// A hit of a search over several indexes.
#[derive(Copy, Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MergedHit {
    /// The reader that found it, by its position among those given to [`Readers::new`].
    pub reader: usize,
    /// The item of that index.
    pub id: u32,
    /// Its exact distance to the query; [`Metric`](crate::Metric) says what the number means.
    pub distance: f32,
}

/// Searches over several indexes: see [`Readers`].
pub struct Merged<'a> {
    searchers: Vec<&'a dyn Searcher>,
    interrupted: InterruptState,
}

impl<'a> Readers<'a> {
    /// Combines readers, in this order.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] without readers, or if they differ in dimensions or metric.
    pub fn new<'t: 'a>(readers: impl IntoIterator<Item = &'a Reader<'t>>) -> Result<Self> {
        let none = Self { searchers: Vec::new() };
        let all = readers.into_iter().try_fold(none, Self::and)?;
        if all.searchers.is_empty() {
            return Err(Error::option("readers", "at least one", 0));
        }
        Ok(all)
    }

    /// Adds one more, which may be of another transaction or database than the others.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] if it differs from the others in dimensions or metric.
    pub fn and<'t: 'a>(mut self, reader: &'a Reader<'t>) -> Result<Self> {
        let got = reader.session().spec();
        if let Some(expected) = self.searchers.first().map(|first| first.spec())
            && (expected.dims, expected.metric) != (got.dims, got.metric)
        {
            let got = format_args!(
                "{} {} and {} {}",
                expected.dims, expected.metric, got.dims, got.metric
            );
            return Err(Error::option("readers", "readers of equal dimensions and metric", got));
        }
        self.searchers.push(reader.session());
        Ok(self)
    }

    /// Starts a search for the `k` nearest neighbours in all indexes together. It has the options
    /// that all searches share: see [`Nns`]. A filter applies to the ids of each index.
    pub fn nns(&self, k: usize) -> Nns<'a, Merged<'a>> {
        let interrupted = InterruptState::default();
        Nns::with_executor(k, Merged { searchers: self.searchers.clone(), interrupted })
    }
}

/// What to search for in several indexes.
impl Nns<'_, Merged<'_>> {
    /// Finds the items of all indexes that are nearest to `vector`. Equally near ones are sorted by
    /// reader and then by id.
    ///
    /// # Errors
    /// As [`Nns::by_vector`].
    pub fn by_vector(mut self, vector: &[f32]) -> Result<Hits<MergedHit>> {
        let Some(spec) = self.executor.searchers.first().map(|first| first.spec()) else {
            return Ok(Hits::default());
        };
        self.options.check()?;
        let checked = CheckedVector::new(vector, spec)?;
        let (hits, stats) = self.merged(checked.as_item(), spec.metric)?;
        self.write_report(&stats);
        Ok(hits)
    }

    /// Finds the items of all indexes that are nearest to each of several vectors, in their order.
    ///
    /// # Shape and units
    /// `vectors`: rows of `dims` numbers each; there may be none.
    ///
    /// # Errors
    /// As [`Nns::by_vectors`].
    pub fn by_vectors(mut self, vectors: &[f32]) -> Result<Vec<Hits<MergedHit>>> {
        let Some(spec) = self.executor.searchers.first().map(|first| first.spec()) else {
            return Ok(Vec::new());
        };
        self.options.check()?;
        let mut all = SearchStats::default();
        let mut answer = |vector: &CheckedVector<'_>| {
            let (hits, stats) = self.merged(vector.as_item(), spec.metric)?;
            all.add(&stats);
            Ok(hits)
        };
        let answers = check_rows(vectors, spec)?.iter().map(&mut answer).collect();
        self.write_report(&all);
        answers
    }

    fn merged(&self, query: ItemRef<'_>, metric: Metric) -> Result<(Hits<MergedHit>, SearchStats)> {
        let Merged { searchers, interrupted } = &self.executor;
        let deadline = self.options.deadline;
        let interrupt = Interrupt { deadline, callback: None, state: Some(interrupted) };
        let request = Request {
            k: self.k,
            options: self.options,
            filter: Filter { allowed: self.allowed.as_deref(), predicate: None },
            exclude: &[],
            interrupt,
        };
        let (mut all, mut stats) = (Vec::new(), SearchStats::default());
        for (reader, searcher) in searchers.iter().enumerate() {
            if interrupt.check() {
                break;
            }
            let (hits, did) = search_once(*searcher, Rules::default(), query, &request)?;
            stats.add(&did);
            let merged = |hit: crate::Hit| MergedHit { reader, id: hit.id, distance: hit.distance };
            all.extend(hits.into_iter().map(merged));
        }
        all.sort_unstable_by(|a, b| {
            let order = metric.nearer_first(a.distance, b.distance);
            order.then(a.reader.cmp(&b.reader)).then(a.id.cmp(&b.id))
        });
        all.truncate(self.k);
        stats.is_partial |= interrupt.has_fired();
        Ok((Hits::new(all, stats.is_partial), stats))
    }
}
