//! One commit, for as long as it is held.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use spinney::StoreSnapshot;

use crate::collection::Collection;
use crate::core::{Core, Held};
use crate::errors::{Class, raised};
use crate::index::Index;

/// All indexes and collections as they were at one commit. A context manager.
#[pyclass(frozen, module = "spinney", name = "Snapshot")]
pub(crate) struct Snapshot(Arc<Kept>);

/// A snapshot, until it is closed.
pub(crate) struct Kept {
    pub(crate) core: Arc<Core>,
    snapshot: Mutex<Option<(StoreSnapshot, Held)>>,
}

/// What an index or a collection is read from.
#[derive(Clone)]
pub(crate) enum Source {
    /// The newest commit at each call.
    Newest(Arc<Core>),
    At(Arc<Kept>),
}

impl Kept {
    fn get(&self, py: Python<'_>) -> PyResult<StoreSnapshot> {
        self.core.check_process(py)?;
        let kept = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((snapshot, _)) => Ok(snapshot.clone()),
            None => Err(Class::Closed.err(py, "the snapshot was closed: take another")),
        }
    }

    fn take(&self) -> Option<(StoreSnapshot, Held)> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let taken = self.take();
        // In a child it would give back the slot of the parent.
        if !self.core.is_of_this_process() {
            std::mem::forget(taken);
        }
    }
}

impl Source {
    pub(crate) fn core(&self) -> &Arc<Core> {
        match self {
            Self::Newest(core) => core,
            Self::At(kept) => &kept.core,
        }
    }

    pub(crate) fn snapshot(&self, py: Python<'_>) -> PyResult<StoreSnapshot> {
        match self {
            Self::Newest(core) => core.store(py)?.snapshot().map_err(|error| raised(py, error)),
            Self::At(kept) => kept.get(py),
        }
    }
}

impl Snapshot {
    pub(crate) fn begin(py: Python<'_>, core: &Arc<Core>) -> PyResult<Self> {
        let snapshot = Source::Newest(Arc::clone(core)).snapshot(py)?;
        let kept =
            Kept { snapshot: Mutex::new(Some((snapshot, core.hold()))), core: Arc::clone(core) };
        Ok(Self(Arc::new(kept)))
    }
}

#[pymethods]
impl Snapshot {
    /// The index or collection as it was at this commit.
    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        of: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.0.get(py)?;
        let source = Source::At(Arc::clone(&self.0));
        if let Ok(index) = of.cast::<Index>() {
            return Ok(Bound::new(py, index.get().read_from(source))?.into_any());
        }
        if let Ok(collection) = of.cast::<Collection>() {
            return Ok(Bound::new(py, collection.get().read_from(source))?.into_any());
        }
        Err(pyo3::exceptions::PyTypeError::new_err("a snapshot takes an Index or a Collection"))
    }

    #[getter]
    fn txn_id(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.0.get(py)?.txn_id())
    }

    /// For how many seconds it has kept pages from being used again.
    #[getter]
    fn age(&self, py: Python<'_>) -> PyResult<f64> {
        Ok(self.0.get(py)?.age().as_secs_f64())
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.core.check_process(py)?;
        let taken = self.0.take();
        py.detach(|| drop(taken));
        Ok(())
    }

    fn __enter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    #[pyo3(signature = (*_raised))]
    fn __exit__(&self, py: Python<'_>, _raised: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(pyo3::exceptions::PyTypeError::new_err(
            "a snapshot belongs to its process: pickle the store or the index",
        ))
    }
}
