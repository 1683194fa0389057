//! What searches for items return.

use numpy::{IntoPyArray, PyArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyTuple};
use spinney::{Hit, SearchStats};

use crate::search::Found;

/// The hits of a search: ids and distances.
#[pyclass(frozen, module = "spinney", name = "Hits")]
pub(crate) struct PyHits {
    /// int64: (m,), or (n, width) with -1 where there is no hit.
    #[pyo3(get)]
    ids: Py<PyAny>,
    /// float32, of the same shape, with NaN where there is no hit.
    #[pyo3(get)]
    distances: Py<PyAny>,
    counts: Vec<i64>,
    /// Whether a search was stopped before it was done.
    #[pyo3(get)]
    is_partial: bool,
    report: Option<SearchStats>,
}

impl PyHits {
    pub(crate) fn new(py: Python<'_>, found: Found, is_reported: bool) -> PyResult<Self> {
        let Found { hits, is_one, width, is_partial, stats } = found;
        let rows: Vec<&[Hit]> =
            hits.iter().map(|hits| hits.as_deref().unwrap_or_default()).collect();
        let counts = rows.iter().map(|row| row.len() as i64).collect();
        let report = is_reported.then_some(stats);
        if is_one {
            let row = rows.first().copied().unwrap_or_default();
            let ids: Vec<i64> = row.iter().map(|hit| i64::from(hit.id)).collect();
            let distances: Vec<f32> = row.iter().map(|hit| hit.distance).collect();
            let ids = ids.into_pyarray(py).into_any().unbind();
            let distances = distances.into_pyarray(py).into_any().unbind();
            return Ok(Self { ids, distances, counts, is_partial, report });
        }
        let places = rows.len() * width;
        let (mut ids, mut distances) = (vec![-1i64; places], vec![f32::NAN; places]);
        let places =
            ids.chunks_exact_mut(width.max(1)).zip(distances.chunks_exact_mut(width.max(1)));
        for (row, (ids, distances)) in rows.iter().zip(places) {
            for ((hit, id), distance) in row.iter().zip(ids).zip(distances) {
                (*id, *distance) = (i64::from(hit.id), hit.distance);
            }
        }
        let shape = [rows.len(), width];
        let ids = ids.into_pyarray(py).reshape(shape)?.into_any().unbind();
        let distances = distances.into_pyarray(py).reshape(shape)?.into_any().unbind();
        Ok(Self { ids, distances, counts, is_partial, report })
    }
}

#[pymethods]
impl PyHits {
    /// How many hits each search has, as an int64 array.
    #[getter]
    fn counts<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.counts.clone().into_pyarray(py).into_any()
    }

    /// What the searches did, if ``report=True`` asked for it.
    #[getter]
    fn report<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.report.as_ref().map(|stats| searched(py, stats)).transpose()
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.ids.bind(py).len()
    }

    /// ``ids, distances = hits``
    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        PyTuple::new(py, [&self.ids, &self.distances])?.try_iter()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let (ids, distances) = (self.ids.bind(py).repr()?, self.distances.bind(py).repr()?);
        let partial = if self.is_partial { ", is_partial=True" } else { "" };
        Ok(format!("Hits(ids={ids}, distances={distances}{partial})"))
    }

    #[new]
    fn from_arrays(
        py: Python<'_>,
        ids: Py<PyAny>,
        distances: Py<PyAny>,
        counts: Vec<i64>,
        is_partial: bool,
    ) -> PyResult<Self> {
        if !ids.bind(py).getattr("shape")?.eq(distances.bind(py).getattr("shape")?)? {
            return Err(PyValueError::new_err("ids and distances must have the same shape"));
        }
        Ok(Self { ids, distances, counts, is_partial, report: None })
    }

    fn __reduce__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let parts = (&self.ids, &self.distances, self.counts.clone(), self.is_partial);
        Ok((py.get_type::<Self>().into_any(), parts.into_pyobject(py)?))
    }
}

/// As the dataclass of this name.
fn searched<'py>(py: Python<'py>, stats: &SearchStats) -> PyResult<Bound<'py, PyAny>> {
    let fields = PyDict::new(py);
    fields.set_item("plan", format!("{:?}", stats.plan).to_lowercase())?;
    fields.set_item("branches", stats.branches)?;
    fields.set_item("branch_sketches", stats.branch_sketches)?;
    fields.set_item("leaves", stats.leaves)?;
    fields.set_item("sketches", stats.sketches)?;
    fields.set_item("reranked", stats.reranked)?;
    fields.set_item("scanned_exactly", stats.scanned_exactly)?;
    fields.set_item("bytes", stats.bytes)?;
    fields.set_item("is_partial", stats.is_partial)?;
    fields.set_item("is_out_of_reach", stats.is_out_of_reach)?;
    record(py, "Searched", &fields)
}

/// A dataclass of `spinney._records` with these fields.
pub(crate) fn record<'py>(
    py: Python<'py>,
    name: &str,
    fields: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    py.import("spinney._records")?.getattr(name)?.call((), Some(fields))
}
