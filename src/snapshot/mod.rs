//! Searching an index in one snapshot by many threads.

pub(crate) mod batch;

use heed::{Env, RoTxn, WithoutTls};
use rayon::ThreadPool;

use crate::error::Result;
use crate::index_spec::IndexSpec;
use crate::lmdb::database::Database;
use crate::lmdb::tasks;
use crate::lmdb::workers::open_all;
use crate::metric::Metric;
use crate::reader::Reader;
use crate::storage::Storage;

/// An index in one snapshot of the database, searched by all threads of a rayon pool.
///
/// In LMDB, two threads must not use a read transaction at once. So each worker has one of its own.
/// All are of the same snapshot, with the same [`txn_id`](Self::txn_id), whatever is committed
/// meanwhile.
///
/// The environment must be opened with `read_txn_without_tls`, which lets a transaction move from
/// thread to thread. It needs a reader slot for each worker (`max_readers`, by default 126).
///
/// ```
/// # use spinney::{heed, Database, IndexOptions, Metric, Reader, Snapshot, Writer};
/// # let dir = tempfile::tempdir()?;
/// # let mut options = heed::EnvOpenOptions::new().read_txn_without_tls();
/// # // SAFETY: the folder is ours alone.
/// # let env = unsafe { options.map_size(10 << 20).max_dbs(1).open(dir.path())? };
/// # let db = Database::open_or_create(&env)?;
/// # let mut wtxn = env.write_txn()?;
/// # let writer = Writer::open_or_create(&mut wtxn, db, 0, &IndexOptions::new(2, Metric::Euclidean))?;
/// # writer.add_items(&mut wtxn, &[1, 2, 3], &[0.0, 0.0, 3.0, 4.0, 9.0, 9.0])?;
/// # wtxn.commit()?;
/// let mut snapshot = Snapshot::open(&env, db, 0)?;
/// let answers = snapshot.nns(2).by_vectors(&[0.0, 0.0, 9.0, 8.0])?; // two queries, row after row
/// assert_eq!((answers[0][0].id, answers[0][0].distance), (1, 0.0));
/// assert_eq!((answers[1][0].id, answers[1][0].distance), (3, 1.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Calls use the transactions one at a time, so none can begin within another:
///
/// ```compile_fail
/// # use spinney::Snapshot;
/// fn misuse(mut snapshot: Snapshot<'_>) {
///     snapshot.each(2, |_, _| snapshot.nns(1).by_items(&[1])).unwrap();
/// }
/// ```
///
/// As long as a snapshot lives, LMDB cannot reuse its pages: drop it when it is no longer needed.
pub struct Snapshot<'e> {
    /// One for each worker; never empty.
    txns: Vec<RoTxn<'e, WithoutTls>>,
    pool: Option<&'e ThreadPool>,
    db: Database,
    spec: IndexSpec,
    len: u64,
    txn_id: usize,
}

impl<'e> Snapshot<'e> {
    /// Opens an index in the newest snapshot, for the threads of the current rayon pool.
    ///
    /// # Errors
    /// As [`Reader::open`]; [`Error::ReadersFull`](crate::Error::ReadersFull) if there are fewer
    /// free reader slots than threads; [`Error::MapResized`](crate::Error::MapResized).
    ///
    /// # Cost
    /// A read transaction for each thread, less than a microsecond. If something is committed
    /// meanwhile, those opened before are opened again.
    pub fn open(env: &'e Env<WithoutTls>, db: Database, index: u16) -> Result<Self> {
        Self::with_workers(env, db, index, None)
    }

    /// As [`Snapshot::open`], for the threads of this pool. They do the work, whichever thread
    /// makes the calls.
    ///
    /// ```
    /// # use spinney::{heed, rayon, Database, IndexOptions, Metric, Reader, Snapshot, Writer};
    /// # let dir = tempfile::tempdir()?;
    /// # let mut options = heed::EnvOpenOptions::new().read_txn_without_tls();
    /// # // SAFETY: the folder is ours alone.
    /// # let env = unsafe { options.map_size(10 << 20).max_dbs(1).open(dir.path())? };
    /// # let db = Database::open_or_create(&env)?;
    /// # let mut wtxn = env.write_txn()?;
    /// # let writer = Writer::open_or_create(&mut wtxn, db, 0, &IndexOptions::new(2, Metric::Euclidean))?;
    /// # writer.add_items(&mut wtxn, &[1, 2, 3], &[0.0, 0.0, 3.0, 4.0, 9.0, 9.0])?;
    /// # wtxn.commit()?;
    /// let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build()?;
    /// let mut snapshot = Snapshot::open_in(&env, db, 0, &pool)?;
    /// assert_eq!(snapshot.workers(), 3);
    /// let answers = snapshot.nns(1).by_items(&[1, 2, 77])?;
    /// assert_eq!(answers[0].as_ref().map(|hits| hits[0].id), Some(2));
    /// assert!(answers[2].is_none()); // there is no item 77
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::open`].
    pub fn open_in(
        env: &'e Env<WithoutTls>,
        db: Database,
        index: u16,
        pool: &'e ThreadPool,
    ) -> Result<Self> {
        Self::with_workers(env, db, index, Some(pool))
    }

    fn with_workers(
        env: &'e Env<WithoutTls>,
        db: Database,
        index: u16,
        pool: Option<&'e ThreadPool>,
    ) -> Result<Self> {
        let workers = pool.map_or_else(rayon::current_num_threads, ThreadPool::current_num_threads);
        let (first, mut txns) = open_all(workers, || Ok(env.read_txn()?))?;
        let reader = Reader::open(&first, db, index)?;
        let (spec, len, txn_id) = (reader.session().spec(), reader.len(), first.id());
        drop(reader);
        txns.push(first);
        Ok(Self { txns, pool, db, spec, len, txn_id })
    }

    /// Components of each vector.
    #[must_use]
    pub fn dims(&self) -> usize {
        self.spec.dims
    }

    /// How vectors are compared.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.spec.metric
    }

    /// How vectors are stored.
    #[must_use]
    pub fn storage(&self) -> Storage {
        self.spec.storage
    }

    /// The number of this index.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.spec.index
    }

    /// How many items there are. O(1).
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no items. O(1).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// LMDB's number of the last transaction that was committed before this snapshot: `RoTxn::id`
    /// of its transactions. No other snapshot of the environment has it.
    #[must_use]
    pub fn txn_id(&self) -> usize {
        self.txn_id
    }

    /// How many threads can work at once.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.txns.len()
    }

    /// Calls `work` for each number in `0..count`, shared among the threads. Returns the results in
    /// that order.
    ///
    /// Each thread has a reader of its own, whose cache serves all its tasks. Tasks begin in order,
    /// each on any of the threads.
    ///
    /// ```
    /// # use spinney::{heed, Database, IndexOptions, Metric, Reader, Snapshot, Writer};
    /// # let dir = tempfile::tempdir()?;
    /// # let mut options = heed::EnvOpenOptions::new().read_txn_without_tls();
    /// # // SAFETY: the folder is ours alone.
    /// # let env = unsafe { options.map_size(10 << 20).max_dbs(1).open(dir.path())? };
    /// # let db = Database::open_or_create(&env)?;
    /// # let mut wtxn = env.write_txn()?;
    /// # let writer = Writer::open_or_create(&mut wtxn, db, 0, &IndexOptions::new(1, Metric::Euclidean))?;
    /// # writer.add_items(&mut wtxn, &[1, 2, 3], &[1.0, 2.0, 5.0])?;
    /// # wtxn.commit()?;
    /// // How far each item is from its nearest neighbour.
    /// let ids = [1, 2, 3];
    /// let gaps = Snapshot::open(&env, db, 0)?.each(ids.len(), |reader, i| {
    ///     let hits = reader.nns(1).by_item(ids[i])?.unwrap_or_default();
    ///     Ok(hits.first().map_or(f32::INFINITY, |hit| hit.distance))
    /// })?;
    /// assert_eq!(gaps, [1.0, 1.0, 3.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The error of the failed task with the smallest number. After an error no further task
    /// begins, and those already begun end.
    pub fn each<R: Send>(
        &mut self,
        count: usize,
        work: impl Fn(&Reader<'_>, usize) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let Self { txns, pool, db, spec, .. } = self;
        let mut share = || {
            tasks::share(txns, count, |txn, tasks| {
                let txn: &RoTxn<'_> = txn;
                let mut reader = None;
                tasks.work_off(|task| match &reader {
                    Some(reader) => work(reader, task),
                    None => work(reader.insert(Reader::open(txn, *db, spec.index)?), task),
                })
            })
        };
        match pool {
            Some(pool) => pool.install(share),
            None => share(),
        }
    }

    pub(crate) fn spec(&self) -> IndexSpec {
        self.spec
    }
}
