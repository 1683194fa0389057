//! Write transactions, each on a thread of its own: LMDB's lock belongs to the thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use numpy::IntoPyArray;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use spinney::{Error, Reader, Reads, Writer};

use crate::arrays::{self, Rows};
use crate::build::{Building, build_stats};
use crate::collection::Collection;
use crate::collection::puts::Puts;
use crate::core::{Core, Held, Writing};
use crate::errors::{Class, raised};
use crate::hits::PyHits;
use crate::how::{How, Kind};
use crate::index::{Added, Index, delete, hits_wanted};
use crate::labels;
use crate::search::{Question, Wanted};
use crate::wait::{Ticker, Waiter, beside_global_pool, pair};

/// How long a call waits for its turn before it looks whether it is still wanted.
const PAUSE: Duration = Duration::from_millis(100);

type Job = Box<dyn FnOnce(&mut spinney::WriteTxn<'_>) + Send>;

enum Order {
    Run(Job),
    Commit,
}

/// The write transaction of a store. A context manager that commits, or aborts on an exception.
#[pyclass(frozen, module = "spinney", name = "WriteTxn")]
pub(crate) struct WriteTxn {
    core: Arc<Core>,
    open: Mutex<Option<Open>>,
    /// The threads that wait for a call; and its own, which may call functions of Python.
    callers: Mutex<Vec<ThreadId>>,
}

/// A call of a thread, until it is over.
struct Call<'a>(&'a WriteTxn);

struct Open {
    orders: Sender<Order>,
    ended: Waiter<Result<(), Error>>,
    /// Neither who began it nor its own thread may wait for another.
    _writing: [Writing; 2],
    _held: Held,
}

/// Writes as soon as others have, unless `stop` is set before.
pub(crate) fn write<R>(
    store: &spinney::Store,
    limit: Option<Duration>,
    stop: &AtomicBool,
    mut work: impl FnMut(&mut spinney::WriteTxn<'_>) -> Result<R, Error>,
) -> Result<R, Error> {
    let began = Instant::now();
    loop {
        let left = limit.map_or(PAUSE, |limit| limit.saturating_sub(began.elapsed()).min(PAUSE));
        let waited = match store.write_within(left, &mut work) {
            Err(Error::Busy { .. }) => began.elapsed(),
            done => return done,
        };
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        if limit.is_some_and(|limit| waited >= limit) {
            return Err(Error::Busy { waited });
        }
    }
}

/// The thread of a transaction: it does what it is told until it is told to commit.
fn run(
    store: spinney::Store,
    limit: Option<Duration>,
    orders: Receiver<Order>,
    begun: &Ticker<Result<ThreadId, Error>>,
    ended: &Ticker<Result<(), Error>>,
) {
    let mut was_begun = false;
    let has_begun = &mut was_begun;
    let work = move |txn: &mut spinney::WriteTxn<'_>| {
        if *has_begun {
            // What was done in the smaller map is gone.
            return Err(Error::MapFull);
        }
        *has_begun = true;
        begun.done(Ok(std::thread::current().id()));
        loop {
            match orders.recv() {
                Ok(Order::Run(job)) => job(txn),
                Ok(Order::Commit) => return Ok(()),
                // Nobody has the transaction any more.
                Err(_) => return Err(Error::Cancelled),
            }
        }
    };
    // Who waits may close the store next: it ends here.
    let result = beside_global_pool(move || write(&store, limit, begun.stop(), work));
    match result.and_then(|result| result) {
        Err(error) if !was_begun => begun.done(Err(error)),
        result => ended.done(result),
    }
}

impl WriteTxn {
    pub(crate) fn begin(
        py: Python<'_>,
        core: &Arc<Core>,
        limit: Option<Duration>,
    ) -> PyResult<Self> {
        core.check_writer(py)?;
        let store = core.store(py)?;
        let (orders, received) = channel();
        let ((begun, mut beginning), (end, ended)) = (pair(), pair());
        std::thread::Builder::new()
            .name("spinney writer".into())
            .spawn(move || run(store, limit, received, &begun, &end))?;
        let held = core.hold();
        let own = match beginning.wait(py, None) {
            Ok(own) => own.map_err(|error| raised(py, error))?,
            Err(interrupt) => {
                drop(orders);
                ended.wait_for_end();
                return Err(interrupt);
            }
        };
        let _writing = [core.writing(std::thread::current().id()), core.writing(own)];
        let open = Open { orders, ended, _writing, _held: held };
        let (open, callers) = (Mutex::new(Some(open)), Mutex::new(vec![own]));
        Ok(Self { core: Arc::clone(core), open, callers })
    }

    /// An error in a function that a call to the transaction calls: it would wait for itself.
    fn enter(&self, py: Python<'_>) -> PyResult<Call<'_>> {
        self.core.check_process(py)?;
        let current = std::thread::current().id();
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if !callers.contains(&current) {
            callers.push(current);
            return Ok(Call(self));
        }
        drop(callers);
        let message = "the transaction is at work, and waits for this function: use it after the call that is running";
        Err(Class::Busy.err(py, message))
    }

    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closed(py: Python<'_>) -> PyErr {
        Class::Closed.err(py, "the transaction has ended: begin another with Store.write()")
    }

    /// Does something in the transaction, on its thread.
    fn call<T: Send + 'static>(
        &self,
        py: Python<'_>,
        progress: Option<&Bound<'_, PyAny>>,
        work: impl FnOnce(&mut spinney::WriteTxn<'_>, &Ticker<Result<T, Error>>) -> Result<T, Error>
        + Send
        + 'static,
    ) -> PyResult<T> {
        let _call = self.enter(py)?;
        let (ticker, mut waiter) = pair();
        let job: Job = Box::new(move |txn| {
            let result = work(txn, &ticker);
            ticker.done(result);
        });
        let sent =
            self.open().as_ref().is_some_and(|open| open.orders.send(Order::Run(job)).is_ok());
        if !sent {
            return Err(Self::closed(py));
        }
        waiter.wait(py, progress)?.map_err(|error| raised(py, error))
    }

    /// Ends the transaction. `false` if it has ended.
    fn end(&self, py: Python<'_>, is_committed: bool) -> PyResult<bool> {
        let _call = self.enter(py)?;
        let Some(open) = self.open().take() else { return Ok(false) };
        let Open { orders, mut ended, _writing, _held } = open;
        if is_committed {
            // If the thread has ended, the answer tells why.
            let _ = orders.send(Order::Commit);
        }
        drop(orders);
        match ended.wait(py, None)? {
            Err(Error::Cancelled) if !is_committed => Ok(true),
            result => result.map(|()| true).map_err(|error| raised(py, error)),
        }
    }
}

impl Drop for WriteTxn {
    fn drop(&mut self) {
        let Some(open) = self.open().take() else { return };
        if !self.core.is_of_this_process() {
            // Its thread is the parent's.
            std::mem::forget(open);
            return;
        }
        let Open { orders, ended, _writing, _held } = open;
        drop(orders);
        // It has nothing to do any more. The store can be closed when it has ended.
        ended.wait_for_end();
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let current = std::thread::current().id();
        let mut callers = self.0.callers.lock().unwrap_or_else(PoisonError::into_inner);
        callers.retain(|caller| *caller != current);
    }
}

/// The index that was given.
fn index_of(of: &Bound<'_, PyAny>) -> PyResult<spinney::Index> {
    match of.cast::<Index>() {
        Ok(index) => Ok(index.get().index.clone()),
        Err(_) => Err(PyTypeError::new_err("an Index is expected first")),
    }
}

#[pymethods]
impl WriteTxn {
    #[pyo3(signature = (index, ids, vectors, *, packed=false))]
    fn add<'py>(
        &self,
        py: Python<'py>,
        index: &Bound<'py, PyAny>,
        ids: Option<&Bound<'py, PyAny>>,
        vectors: &Bound<'py, PyAny>,
        packed: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let index = index_of(index)?;
        let added = Added::of(ids, vectors, index.dims(), packed)?;
        let ids = self.call(py, None, move |txn, _| added.add_to(txn, &index))?;
        Ok(ids.into_pyarray(py).into_any())
    }

    /// Deletes items of an index, or a document of a collection. Returns how many were there.
    fn delete(
        &self,
        py: Python<'_>,
        of: &Bound<'_, PyAny>,
        ids: &Bound<'_, PyAny>,
    ) -> PyResult<u64> {
        if let Ok(collection) = of.cast::<Collection>() {
            let (collection, key) =
                (collection.get().collection.clone(), collection.get().key(ids)?);
            return self.call(py, None, move |txn, _| Ok(collection.delete(txn, key)?.into()));
        }
        let (index, (ids, _)) = (index_of(of)?, arrays::ids(ids)?);
        self.call(py, None, move |txn, _| delete(txn, &index, &ids))
    }

    /// Deletes all items of an index.
    fn clear(&self, py: Python<'_>, index: &Bound<'_, PyAny>) -> PyResult<()> {
        let index = index_of(index)?;
        self.call(py, None, move |txn, _| index.clear(txn))
    }

    #[pyo3(signature = (of, *, progress=None, **options))]
    fn build<'py>(
        &self,
        py: Python<'py>,
        of: &Bound<'py, PyAny>,
        progress: Option<&Bound<'py, PyAny>>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let building = Building::of(py, &self.core, options)?;
        let stats = if let Ok(collection) = of.cast::<Collection>() {
            let collection = collection.get().collection.clone();
            self.call(py, progress, move |txn, ticker| {
                building.run(ticker, |options| collection.build(txn, options))
            })?
        } else {
            let index = index_of(of)?;
            self.call(py, progress, move |txn, ticker| {
                building.run(ticker, |options| index.build(txn, options))
            })?
        };
        build_stats(py, &stats)
    }

    /// Measures the recall of an index on queries like those to come: see ``recall``. Whether it
    /// has a forest to measure.
    fn calibrate(
        &self,
        py: Python<'_>,
        index: &Bound<'_, PyAny>,
        queries: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let index = index_of(index)?;
        let rows = Rows::of(queries, index.dims(), false)?;
        let db = self.core.store(py)?.database();
        self.call(py, None, move |txn, _| {
            let writer = Writer::open(txn.as_heed(), db, index.number())?;
            writer.calibrate(txn.as_heed_mut(), &rows.data)
        })
    }

    /// Stores the vectors of an index in another way. Returns how many were changed.
    fn convert(&self, py: Python<'_>, index: &Bound<'_, PyAny>, storage: &str) -> PyResult<u64> {
        let (index, storage) = (index_of(index)?, crate::options::storage_of(py, storage)?);
        self.call(py, None, move |txn, _| index.convert(txn, storage))
    }

    #[pyo3(signature = (collection, key, vector, payload=None, labels=None))]
    fn put(
        &self,
        py: Python<'_>,
        collection: &Bound<'_, Collection>,
        key: &Bound<'_, PyAny>,
        vector: &Bound<'_, PyAny>,
        payload: Option<&Bound<'_, PyAny>>,
        labels: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let puts = Puts::one(collection.get(), key, vector, payload, labels)?;
        self.call(py, None, move |txn, _| puts.put(txn))
    }

    #[pyo3(signature = (collection, keys, vectors, payloads=None, labels=None))]
    fn put_many(
        &self,
        py: Python<'_>,
        collection: &Bound<'_, Collection>,
        keys: &Bound<'_, PyAny>,
        vectors: &Bound<'_, PyAny>,
        payloads: Option<&Bound<'_, PyAny>>,
        labels: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let puts = Puts::many(collection.get(), keys, vectors, payloads, labels)?;
        self.call(py, None, move |txn, _| puts.put(txn))
    }

    /// Deletes the documents that a filter means. Returns how many.
    fn delete_where(
        &self,
        py: Python<'_>,
        collection: &Bound<'_, Collection>,
        filter: &Bound<'_, PyAny>,
    ) -> PyResult<u64> {
        let (collection, filter) = (collection.get().collection.clone(), labels::of(filter)?);
        self.call(py, None, move |txn, _| collection.delete_where(txn, filter))
    }

    /// Searches an index as it is in this transaction.
    #[pyo3(signature = (index, queries, k=None, **how))]
    fn search(
        &self,
        index: &Bound<'_, PyAny>,
        queries: &Bound<'_, PyAny>,
        k: Option<&Bound<'_, PyAny>>,
        how: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyHits> {
        let (py, index) = (queries.py(), index_of(index)?);
        let how = How::of(how, Kind::Items)?;
        let wanted = Wanted::Vectors(Rows::of(queries, index.dims(), how.is_packed)?);
        let (k, is_reported) = (hits_wanted(k)?, how.is_reported);
        let question = Question { wanted, k, how };
        let found = self.call(py, None, move |txn, ticker| {
            txn.with_reader(&index, |reader| question.ask(reader, ticker.stop()))
        })?;
        PyHits::new(py, found, is_reported)
    }

    /// How many items an index has in this transaction.
    fn len(&self, py: Python<'_>, index: &Bound<'_, PyAny>) -> PyResult<u64> {
        let index = index_of(index)?;
        self.call(py, None, move |txn, _| {
            txn.with_reader(&index, |reader: &Reader<'_>| Ok(reader.len()))
        })
    }

    /// The name that the audit log gives to who writes.
    fn set_actor(&self, py: Python<'_>, actor: String) -> PyResult<()> {
        self.call(py, None, move |txn, _| txn.set_actor(&actor))
    }

    fn commit(&self, py: Python<'_>) -> PyResult<()> {
        if self.end(py, true)? { Ok(()) } else { Err(Self::closed(py)) }
    }

    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        if self.end(py, false)? { Ok(()) } else { Err(Self::closed(py)) }
    }

    fn __enter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    /// One that was committed or aborted within its block is left as it is.
    #[pyo3(signature = (raised, *_rest))]
    fn __exit__(
        &self,
        py: Python<'_>,
        raised: &Bound<'_, PyAny>,
        _rest: &Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        self.end(py, raised.is_none()).map(drop)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("a transaction belongs to its process and cannot be pickled"))
    }
}
