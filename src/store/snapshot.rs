//! One commit of a store, for as long as it is held, searched by any thread.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use heed::RoTxn;

use crate::error::{Error, Result};
use crate::lmdb::tasks;
use crate::query::Nns;
use crate::reader::Reader;
use crate::snapshot::batch::{Many, Work};
use crate::store::collection::memo::Memo;
use crate::store::handle::Inner;
use crate::store::index::Index;
use crate::store::live::{PAUSE, after};
use crate::store::owned::Lane;

/// One commit of a [`Store`](crate::Store): all its indexes and collections as they were then.
///
/// It owns its transactions and is `Clone + Send + Sync + 'static`, so it can be kept in a server,
/// moved into a thread, or taken anew for each request. As long as nothing is committed, all
/// snapshots of a store share what its readers remember.
///
/// As long as a snapshot lives, LMDB cannot reuse the pages of its commit: drop it when it is no
/// longer needed.
///
/// ```
/// use spinney::{IndexOptions, Metric, Store};
/// # let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// let docs = store.index("docs", &IndexOptions::new(2, Metric::Euclidean))?;
/// store.write(|txn| docs.add_items(txn, &[1, 2], &[0.0, 0.0, 3.0, 4.0]))?;
/// let snapshot = store.snapshot()?;
/// let thread = std::thread::spawn(move || {
///     snapshot.with_reader(&docs, |reader| reader.nns(1).by_vector(&[3.0, 3.0]))
/// });
/// assert_eq!(thread.join().unwrap()?[0].id, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct StoreSnapshot {
    /// Dropped before the store, which may be its last holder.
    lanes: Arc<Lanes>,
    store: Arc<Inner>,
}

/// Transactions of one commit, each with its readers.
pub(crate) struct Lanes {
    commit: usize,
    began: Instant,
    free: Mutex<Free>,
    freed: Condvar,
    memo: Memo,
}

struct Free {
    /// The warmest last.
    lanes: Vec<Lane>,
    /// How many there are, with those in use.
    count: usize,
    used: Instant,
}

/// A lane in use.
struct Taken<'l> {
    lanes: &'l Lanes,
    /// There until it is given back.
    lane: Option<Lane>,
}

impl Lanes {
    /// Of the newest commit.
    pub(crate) fn open(store: &Inner) -> Result<Self> {
        let first = Lane::new(store.environment.read_owned()?);
        let now = Instant::now();
        Ok(Self {
            commit: first.commit(),
            began: now,
            free: Mutex::new(Free { lanes: vec![first], count: 1, used: now }),
            freed: Condvar::new(),
            memo: Memo::default(),
        })
    }

    pub(crate) fn commit(&self) -> usize {
        self.commit
    }

    /// How long nobody has searched.
    pub(crate) fn idle(&self) -> Duration {
        self.lock().used.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lane that was used last, or opens another. `None` if all are in use.
    fn try_take(&self, store: &Inner) -> Result<Option<Taken<'_>>> {
        let mut free = self.lock();
        if let Some(lane) = free.lanes.pop() {
            return Ok(Some(Taken::new(self, lane)));
        }
        if free.count >= store.environment.options.search_threads {
            return Ok(None);
        }
        free.count += 1;
        drop(free);
        match store.environment.read_again().map(|another| another.map(Lane::new)) {
            Ok(Some(lane)) if lane.commit() == self.commit => {
                return Ok(Some(Taken::new(self, lane)));
            }
            // LMDB opens no older commit: those that are open have to do.
            Ok(Some(_)) | Err(Error::ReadersFull) => self.lock().count = usize::MAX,
            other => {
                let mut free = self.lock();
                free.count = free.count.saturating_sub(1);
                other?;
            }
        }
        Ok(self.lock().lanes.pop().map(|lane| Taken::new(self, lane)))
    }

    /// As [`try_take`](Self::try_take), and waits for a lane.
    fn take(&self, store: &Inner) -> Result<Taken<'_>> {
        store.environment.check_process()?;
        let patience = store.environment.options.patience;
        let end = after(patience);
        loop {
            if let Some(taken) = self.try_take(store)? {
                return Ok(taken);
            }
            let free = self.lock();
            if !free.lanes.is_empty() {
                continue;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Busy { waited: patience });
            }
            // Nobody tells when the map has moved.
            drop(self.freed.wait_timeout(free, left.min(PAUSE)));
        }
    }
}

impl<'l> Taken<'l> {
    fn new(lanes: &'l Lanes, lane: Lane) -> Self {
        Self { lanes, lane: Some(lane) }
    }

    /// `None` never, as only dropping takes it out.
    fn lane(&mut self) -> Result<&mut Lane> {
        self.lane.as_mut().ok_or(Error::Busy { waited: Duration::ZERO })
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut free = self.lanes.lock();
        free.lanes.extend(self.lane.take());
        free.used = Instant::now();
        drop(free);
        self.lanes.freed.notify_one();
    }
}

impl StoreSnapshot {
    pub(crate) fn new(store: Arc<Inner>, lanes: Arc<Lanes>) -> Self {
        Self { lanes, store }
    }

    pub(crate) fn store(&self) -> &Inner {
        &self.store
    }

    pub(crate) fn memo(&self) -> &Memo {
        &self.lanes.memo
    }

    /// LMDB's number of the commit: greater than that of any earlier one.
    #[must_use]
    pub fn txn_id(&self) -> usize {
        self.lanes.commit
    }

    /// How long the pages of this commit have been kept from being reused.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.lanes.began.elapsed()
    }

    /// Works with a transaction of this commit: for tables of your own.
    ///
    /// # Errors
    /// [`Error::Busy`] if all [`search_threads`](crate::StoreOptions::search_threads) stay in use;
    /// [`Error::ReadersFull`]; [`Error::Forked`]; and what `work` returns.
    pub fn with_txn<R, E: From<Error>>(
        &self,
        work: impl FnOnce(&RoTxn<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        self.lanes.take(&self.store)?.lane()?.with_txn(work)
    }

    /// Works with a reader of an index. Other threads may do so at the same time.
    ///
    /// A call within `work` takes another transaction: use the reader that is given.
    ///
    /// # Errors
    /// As [`with_txn`](Self::with_txn) and [`Reader::open`], and what `work` returns.
    pub fn with_reader<R, E: From<Error>>(
        &self,
        index: &Index,
        work: impl FnOnce(&Reader<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        index.check(&self.store)?;
        self.with_reader_of(index.number(), work)
    }

    pub(crate) fn with_reader_of<R, E: From<Error>>(
        &self,
        index: u16,
        work: impl FnOnce(&Reader<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        let db = self.store.tables.db;
        self.lanes.take(&self.store)?.lane()?.with_reader(db, index, work)?
    }

    /// Calls `work` for each of `0..count` with a reader of an index, shared among the threads of
    /// the current rayon pool. Returns the results in that order.
    ///
    /// # Errors
    /// As [`with_reader`](Self::with_reader): that of the failed task with the smallest number.
    pub fn each<R: Send>(
        &self,
        index: &Index,
        count: usize,
        work: impl Fn(&Reader<'_>, usize) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        index.check(&self.store)?;
        self.each_reader(index.number(), count, work)
    }

    /// As [`each`](Self::each), for an index that is of this store.
    pub(crate) fn each_reader<R: Send>(
        &self,
        index: u16,
        count: usize,
        work: impl Fn(&Reader<'_>, usize) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let mut taken = vec![self.lanes.take(&self.store)?];
        while taken.len() < rayon::current_num_threads().min(count) {
            let another = self.lanes.try_take(&self.store)?;
            let Some(another) = another else { break };
            taken.push(another);
        }
        let db = self.store.tables.db;
        tasks::share(&mut taken, count, |taken, tasks| {
            let done = taken.lane().and_then(|lane| {
                lane.with_reader(db, index, |reader| tasks.work_off(|task| work(reader, task)))
            });
            done.unwrap_or_else(|error| vec![(0, Err(error))])
        })
    }
}

impl StoreSnapshot {
    /// Starts a search for the `k` nearest neighbours of each of many queries, shared among the
    /// threads of the current rayon pool: see [`Many`]. Their readers stay warm.
    ///
    /// ```
    /// use spinney::{IndexOptions, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let docs = store.index("docs", &IndexOptions::new(2, Metric::Euclidean))?;
    /// store.write(|txn| docs.add_items(txn, &[1, 2], &[0.0, 0.0, 3.0, 4.0]))?;
    /// let (mut ids, mut distances) = ([0; 2], [0.0; 2]);
    /// let queries = [0.0, 1.0, 3.0, 3.0]; // two queries, row after row
    /// store.snapshot()?.nns(&docs, 1)?.by_vectors_into(&queries, &mut ids, &mut distances)?;
    /// assert_eq!((ids, distances), ([1, 2], [1.0, 1.0]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`with_reader`](Self::with_reader).
    pub fn nns(&self, index: &Index, k: usize) -> Result<Nns<'_, Many<'_>>> {
        let spec = self.with_reader(index, |reader| Ok::<_, Error>(reader.session().spec()))?;
        let index = index.number();
        let each = move |count, work: &Work<'_>| self.each_reader(index, count, work).map(|_| ());
        Ok(Nns::with_executor(k, Many::new(spec, each)))
    }
}

impl fmt::Debug for StoreSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreSnapshot").field("txn_id", &self.txn_id()).finish_non_exhaustive()
    }
}
