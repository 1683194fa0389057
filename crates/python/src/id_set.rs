//! Sets of ids, and what else can filter a search.

use std::sync::Arc;

use numpy::{IntoPyArray, PyArray1, PyArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyRange};
use spinney::roaring::RoaringBitmap;

use crate::arrays;
use crate::errors::Class;

/// A set of ids: a Roaring bitmap, which cannot be changed.
#[pyclass(frozen, module = "spinney", name = "IdSet")]
#[derive(Clone)]
pub(crate) struct IdSet(pub(crate) Arc<RoaringBitmap>);

impl IdSet {
    fn new(ids: RoaringBitmap) -> Self {
        Self(Arc::new(ids))
    }

    /// The set that a filter means.
    pub(crate) fn of(values: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(set) = values.cast::<Self>() {
            return Ok(set.get().clone());
        }
        if let Ok(mask) = values.cast::<PyArray1<bool>>() {
            let mask = mask.try_readonly().map_err(PyErr::from)?;
            let ids = (0u32..).zip(mask.as_array()).filter(|(_, admits)| **admits);
            return Ok(Self::new(ids.map(|(id, _)| id).collect()));
        }
        if let Ok(range) = values.cast::<PyRange>()
            && range.getattr("step")?.extract::<i64>()? == 1
        {
            let (first, end) = (range.getattr("start")?, range.getattr("stop")?);
            let (first, end): (i64, i64) = (first.extract()?, end.extract()?);
            if first >= end {
                return Ok(Self::new(RoaringBitmap::new()));
            }
            let last = arrays::id(&(end - 1).into_pyobject(values.py())?.into_any())?;
            let first = arrays::id(&first.into_pyobject(values.py())?.into_any())?;
            let mut ids = RoaringBitmap::new();
            ids.insert_range(first..=last);
            return Ok(Self::new(ids));
        }
        // The bitmaps of pyroaring.
        if let Ok(bytes) = values.call_method0("serialize")
            && let Ok(bytes) = bytes.cast::<PyBytes>()
        {
            return read(values.py(), bytes.as_bytes());
        }
        let (ids, is_one) = arrays::ids(values)?;
        if is_one {
            return Err(PyTypeError::new_err("a filter is a set of ids: pass [id]"));
        }
        Ok(Self::new(ids.into_iter().collect()))
    }
}

fn read(py: Python<'_>, bytes: &[u8]) -> PyResult<IdSet> {
    match RoaringBitmap::deserialize_from(bytes) {
        Ok(ids) => Ok(IdSet::new(ids)),
        Err(error) => Err(Class::InvalidOption.err(
            py,
            format!(
                "these bytes are no Roaring bitmap of 32 bits ({error}): write them with to_bytes"
            ),
        )),
    }
}

#[pymethods]
impl IdSet {
    #[new]
    #[pyo3(signature = (ids = None, /))]
    fn py_new(ids: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        ids.map_or_else(|| Ok(Self::new(RoaringBitmap::new())), Self::of)
    }

    /// The set that ``to_bytes`` or another Roaring library wrote, in the portable format.
    #[staticmethod]
    fn from_bytes(py: Python<'_>, data: &[u8]) -> PyResult<Self> {
        read(py, data)
    }

    /// The set in the portable format of Roaring bitmaps.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let mut bytes = Vec::with_capacity(self.0.serialized_size());
        self.0.serialize_into(&mut bytes)?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// The ids in ascending order, as an int64 array.
    fn to_array<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        self.0.iter().map(i64::from).collect::<Vec<_>>().into_pyarray(py)
    }

    fn __len__(&self) -> usize {
        usize::try_from(self.0.len()).unwrap_or(usize::MAX)
    }

    fn __contains__(&self, id: &Bound<'_, PyAny>) -> bool {
        id.extract::<u32>().is_ok_and(|id| self.0.contains(id))
    }

    pub(crate) fn __iter__(&self) -> Ids {
        Ids { ids: Arc::clone(&self.0), next: std::sync::Mutex::new(0) }
    }

    fn __and__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self::new(&*self.0 & &*Self::of(other)?.0))
    }

    fn __or__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self::new(&*self.0 | &*Self::of(other)?.0))
    }

    fn __sub__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self::new(&*self.0 - &*Self::of(other)?.0))
    }

    fn __xor__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self::new(&*self.0 ^ &*Self::of(other)?.0))
    }

    fn __rand__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.__and__(other)
    }

    fn __ror__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.__or__(other)
    }

    fn __rsub__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self::new(&*Self::of(other)?.0 - &*self.0))
    }

    fn __rxor__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.__xor__(other)
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| *self.0 == *other.get().0)
    }

    fn __hash__(&self) -> u64 {
        // Equal sets have equal ones.
        self.0.iter().fold(self.0.len(), |hash, id| hash.rotate_left(5) ^ u64::from(id))
    }

    fn __repr__(&self) -> String {
        let first: Vec<String> = self.0.iter().take(5).map(|id| id.to_string()).collect();
        let more = if self.0.len() > 5 { ", ..." } else { "" };
        format!("IdSet([{}{more}], len={})", first.join(", "), self.0.len())
    }

    fn __reduce__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyBytes>,))> {
        let make = py.get_type::<Self>().getattr("from_bytes")?;
        Ok((make, (self.to_bytes(py)?,)))
    }
}

/// The ids of a set, one by one.
#[pyclass(frozen, module = "spinney")]
pub(crate) struct Ids {
    ids: Arc<RoaringBitmap>,
    /// The next may be this one.
    next: std::sync::Mutex<u64>,
}

#[pymethods]
impl Ids {
    fn __iter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __next__(&self) -> Option<u32> {
        let mut next = self.next.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let from = u32::try_from(*next).ok()?;
        let id = self.ids.range(from..).next()?;
        *next = u64::from(id) + 1;
        Some(id)
    }
}
