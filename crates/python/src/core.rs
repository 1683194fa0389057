//! What the objects of one opened store share.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::ThreadId;

use pyo3::prelude::*;
use spinney::rayon::{ThreadPool, ThreadPoolBuilder};

use crate::errors::Class;
use crate::options::OpenOptions;

/// A thread of a process for which a write transaction of the store at a path is open.
type Writer = (u32, ThreadId, PathBuf);

static WRITERS: Mutex<Vec<Writer>> = Mutex::new(Vec::new());

/// A store, until it is closed.
pub(crate) struct Core {
    pub(crate) path: PathBuf,
    pub(crate) threads: usize,
    pub(crate) options: OpenOptions,
    process: u32,
    store: RwLock<Option<spinney::Store>>,
    /// By their number of threads.
    pools: Mutex<HashMap<usize, Arc<ThreadPool>>>,
    /// Snapshots and transactions that are open.
    held: AtomicUsize,
}

/// A thread that would wait for itself if it asked for the write transaction, as long as this lives.
pub(crate) struct Writing(Writer);

/// A snapshot or a transaction, for as long as it lives.
pub(crate) struct Held(Arc<Core>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    pub(crate) fn new(store: spinney::Store, threads: usize, options: OpenOptions) -> Self {
        Self {
            path: store.path().to_owned(),
            threads,
            options,
            process: std::process::id(),
            store: RwLock::new(Some(store)),
            pools: Mutex::default(),
            held: AtomicUsize::new(0),
        }
    }

    pub(crate) fn is_of_this_process(&self) -> bool {
        std::process::id() == self.process
    }

    /// An error in a child of the process that opened the store: its threads are not there.
    pub(crate) fn check_process(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_of_this_process() {
            return Ok(());
        }
        Err(Class::Forked.err(
            py,
            format!(
                "the store was opened by process {}, and this is a child of it: start processes by spawn or forkserver, and \
                 open the store in each",
                self.process
            ),
        ))
    }

    /// The store. An error if it was closed.
    pub(crate) fn store(&self, py: Python<'_>) -> PyResult<spinney::Store> {
        self.check_process(py)?;
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner).clone();
        store.ok_or_else(|| {
            Class::Closed.err(py, format!("the store {:?} was closed: open it again", self.path))
        })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.store.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    pub(crate) fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.check_process(py)?;
        let held = self.held.load(Ordering::SeqCst);
        if held > 0 {
            let message =
                format!("{held} snapshots or transactions of the store are open: close them first");
            return Err(Class::Closed.err(py, message));
        }
        let store = self.store.write().unwrap_or_else(PoisonError::into_inner).take();
        lock(&self.pools).clear();
        py.detach(|| drop(store));
        Ok(())
    }

    /// Threads to share a batch, made when first asked for.
    pub(crate) fn pool(&self, py: Python<'_>, threads: usize) -> PyResult<Arc<ThreadPool>> {
        // A function of Python that a search calls may search, too. The thread of the pool that
        // calls it then waits, and all of them may.
        let is_nested = spinney::rayon::current_thread_index().is_some();
        let kept = lock(&self.pools).get(&threads).filter(|_| !is_nested).cloned();
        if let Some(pool) = kept {
            return Ok(pool);
        }
        let made = ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = Arc::new(made.map_err(|error| Class::Storage.err(py, error.to_string()))?);
        if !is_nested {
            lock(&self.pools).insert(threads, Arc::clone(&pool));
        }
        Ok(pool)
    }

    /// An error if a write transaction is open for this thread: it would wait for itself.
    pub(crate) fn check_writer(&self, py: Python<'_>) -> PyResult<()> {
        self.check_process(py)?;
        if lock(&WRITERS).contains(&self.writer(std::thread::current().id())) {
            let message = "this thread has a write transaction already: write through it, and commit or abort it first";
            return Err(Class::Busy.err(py, message));
        }
        Ok(())
    }

    /// Tells that a write transaction is open for a thread.
    pub(crate) fn writing(&self, thread: ThreadId) -> Writing {
        lock(&WRITERS).push(self.writer(thread));
        Writing(self.writer(thread))
    }

    fn writer(&self, thread: ThreadId) -> Writer {
        // A child has the list of its parent, but none of its transactions.
        (std::process::id(), thread, self.path.clone())
    }

    pub(crate) fn hold(self: &Arc<Self>) -> Held {
        self.held.fetch_add(1, Ordering::SeqCst);
        Held(Arc::clone(self))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut writers = lock(&WRITERS);
        if let Some(own) = writers.iter().position(|writer| *writer == self.0) {
            writers.swap_remove(own);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::SeqCst);
    }
}
