//! Filters by label.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// Documents by the labels that they bear. A string is those that bear it.
#[pyclass(frozen, module = "spinney", name = "Labels")]
#[derive(Clone)]
pub(crate) struct Labels(spinney::Labels);

pub(crate) fn of(value: &Bound<'_, PyAny>) -> PyResult<spinney::Labels> {
    if let Ok(label) = value.cast::<PyString>() {
        return Ok(label.to_str()?.into());
    }
    match value.cast::<Labels>() {
        Ok(filter) => Ok(filter.get().0.clone()),
        Err(_) => Err(PyTypeError::new_err(
            "a filter by label is a string or Labels: see Labels.all, any and not_",
        )),
    }
}

fn each(filters: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<Vec<spinney::Labels>> {
    filters.iter().map(|filter| of(&filter)).collect()
}

#[pymethods]
impl Labels {
    #[new]
    fn new(label: &Bound<'_, PyAny>) -> PyResult<Self> {
        of(label).map(Self)
    }

    /// Documents that all of these mean; of none, all documents.
    #[staticmethod]
    #[pyo3(signature = (*filters))]
    fn all(filters: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<Self> {
        Ok(Self(spinney::Labels::all(each(filters)?)))
    }

    /// Documents that at least one of these means; of none, no document.
    #[staticmethod]
    #[pyo3(signature = (*filters))]
    fn any(filters: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<Self> {
        Ok(Self(spinney::Labels::any(each(filters)?)))
    }

    /// Documents that this does not mean.
    #[staticmethod]
    fn not_(filter: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self(spinney::Labels::not(of(filter)?)))
    }

    fn __and__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self(spinney::Labels::all([self.0.clone(), of(other)?])))
    }

    fn __or__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self(spinney::Labels::any([self.0.clone(), of(other)?])))
    }

    fn __rand__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.__and__(other)
    }

    fn __ror__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.__or__(other)
    }

    fn __invert__(&self) -> Self {
        Self(spinney::Labels::not(self.0.clone()))
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| self.0 == other.get().0)
    }

    fn __hash__(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(&self) -> String {
        format!("{:?}", self.0)
    }
}
