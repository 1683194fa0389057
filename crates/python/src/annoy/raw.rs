//! What `spinney.annoy` does with an `AnnoyIndex` beyond Annoy's interface.

use std::sync::Arc;

use numpy::{IntoPyArray, PyArrayMethods};
use pyo3::exceptions::{PyException, PyOSError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::annoy::AnnoyIndex;
use crate::annoy::args::{refused, unable};
use crate::annoy::folder::Folder;
use crate::annoy::metric::{Metric, is_zero};
use crate::annoy::state::{Ready, Source, State};

pub(crate) fn in_use() -> PyErr {
    PyException::new_err("the index is being built by another thread")
}

/// Adds a vector that was checked.
pub(crate) fn add(py: Python<'_>, of: &AnnoyIndex, id: u32, row: &[f32]) -> PyResult<()> {
    let mut taken = of.shared.take(py)?;
    if let State::Filling(filling) = &mut taken.state {
        let filling = Arc::get_mut(filling).ok_or_else(in_use)?;
        // It may write to its file.
        let added = if filling.target.is_some() {
            py.detach(|| filling.add(id, row))
        } else {
            filling.add(id, row)
        };
        return added.map_err(|error| refused(py, error));
    }
    if !of.is_updatable {
        return Err(PyException::new_err("You can't add an item to a loaded index"));
    }
    let ours = taken.editable(py)?;
    let added = py.detach(|| {
        ours.change(|txn, index, facts| {
            facts.items = facts.items.max(u64::from(id) + 1);
            if of.metric == Metric::Angular && is_zero(row) {
                index.del_item(txn, id)?;
                facts.zeros.insert(id);
                return Ok(());
            }
            facts.zeros.remove(id);
            index.add_item(txn, id, row)
        })
    });
    let (ours, ()) = added.map_err(|error| refused(py, error))?;
    taken.state = State::Ready(Ready::built(ours, false));
    Ok(())
}

/// Adds a vector under any id that fits 32 bits without a sign.
#[pyfunction]
#[pyo3(name = "_annoy_add")]
pub(crate) fn add_wide(
    index: &Bound<'_, AnnoyIndex>,
    id: u32,
    vector: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let of = index.get();
    let row = crate::annoy::args::vector(vector, of.dims, of.metric)?;
    add(index.py(), of, id, &row)
}

/// The seed of the next builds; `None` for the default.
#[pyfunction]
#[pyo3(name = "_annoy_seed")]
pub(crate) fn set_seed(index: &Bound<'_, AnnoyIndex>, seed: Option<u64>) {
    *index.get().seed() = seed;
}

/// The ids of all items, as an int64 array.
#[pyfunction]
#[pyo3(name = "_annoy_ids")]
pub(crate) fn ids<'py>(index: &Bound<'py, AnnoyIndex>) -> PyResult<Bound<'py, PyAny>> {
    let (py, of) = (index.py(), index.get());
    let found = match of.shared.source(py)? {
        Some(source) => py.detach(|| source.ids()),
        None => match &*of.shared.lock() {
            State::Filling(filling) => filling.ids(),
            state => state.source().map_or(Ok(Vec::new()), Source::ids),
        },
    };
    let ids: Vec<i64> =
        found.map_err(|error| refused(py, error))?.into_iter().map(i64::from).collect();
    Ok(ids.into_pyarray(py).into_any())
}

/// The vectors of these items, as a float32 array of (n, f).
#[pyfunction]
#[pyo3(name = "_annoy_rows")]
pub(crate) fn rows<'py>(
    index: &Bound<'py, AnnoyIndex>,
    ids: Vec<u32>,
) -> PyResult<Bound<'py, PyAny>> {
    let (py, of) = (index.py(), index.get());
    let source = of.shared.source(py)?;
    let mut rows = Vec::with_capacity(ids.len() * of.dims);
    for &id in &ids {
        rows.extend(of.stored(py, id, source.as_ref())?);
    }
    Ok(rows.into_pyarray(py).reshape([ids.len(), of.dims])?.into_any())
}

/// The bytes of a file that has all there is in the index, which has to be built.
#[pyfunction]
#[pyo3(name = "_annoy_to_bytes")]
pub(crate) fn to_bytes<'py>(index: &Bound<'py, AnnoyIndex>) -> PyResult<Bound<'py, PyBytes>> {
    let (py, of) = (index.py(), index.get());
    let Some(source) = of.shared.source(py)? else {
        return Err(PyOSError::new_err("You can't save an index that hasn't been built"));
    };
    if let Source::Annoys(file) = &source {
        return Ok(PyBytes::new(py, file.bytes()));
    }
    let folder = Folder::temporary().map_err(|error| unable(py, "Unable to open", &error))?;
    let path = folder.join("copy");
    py.detach(|| source.copy_to(&path)).map_err(|error| refused(py, error))?;
    let bytes = std::fs::read(&path).map_err(|error| unable(py, "Unable to read", &error))?;
    Ok(PyBytes::new(py, &bytes))
}

/// Takes what `_annoy_to_bytes` gave in the place of all there is in the index.
#[pyfunction]
#[pyo3(name = "_annoy_from_bytes")]
pub(crate) fn take_bytes(index: &Bound<'_, AnnoyIndex>, bytes: &[u8]) -> PyResult<()> {
    let (py, of) = (index.py(), index.get());
    let mut taken = of.shared.take(py)?;
    let folder = Folder::temporary().map_err(|error| unable(py, "Unable to open", &error))?;
    let path = folder.join("index");
    std::fs::write(&path, bytes).map_err(|error| unable(py, "Unable to write", &error))?;
    let opened = Source::open(&path, of.metric, of.dims, Some(Arc::new(folder)), false);
    let source = opened.map_err(|error| refused(py, error))?;
    taken.state = State::Ready(Ready { source, loaded: None, is_in_file: false });
    Ok(())
}

/// Of the file of an index: where it was loaded from or None, its bytes, and whether it is there.
#[pyfunction]
#[pyo3(name = "_annoy_file")]
pub(crate) fn file<'py>(index: &Bound<'py, AnnoyIndex>) -> PyResult<Bound<'py, PyTuple>> {
    let (py, of) = (index.py(), index.get());
    let (path, bytes, is_built) = match &*of.shared.lock() {
        State::Ready(ready) => (ready.loaded.clone(), ready.source.file_bytes(), true),
        State::Busy(Some(source), _) => (None, source.file_bytes(), true),
        State::Busy(None, _) | State::Filling(_) => (None, 0, false),
    };
    (path, bytes, is_built).into_pyobject(py)
}
