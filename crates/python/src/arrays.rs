//! Vectors and ids from Python, copied into memory of ours while the interpreter is held.
//!
//! So no other thread can change them meanwhile, whatever their strides and alignment.

use numpy::{PyArray1, PyArray2, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt};

use crate::errors::Class;

/// Rows of numbers, one after the other.
pub(crate) struct Rows {
    pub(crate) data: Vec<f32>,
    pub(crate) count: usize,
    /// Whether a single vector was given, and not an array of rows.
    pub(crate) is_one: bool,
}

impl Rows {
    /// Rows of `dims` numbers each.
    pub(crate) fn of(values: &Bound<'_, PyAny>, dims: usize, is_packed: bool) -> PyResult<Self> {
        if !is_packed && let Some(rows) = Self::of_floats(values, dims)? {
            return Ok(rows);
        }
        let py = values.py();
        let array =
            py.import("spinney._arrays")?.call_method1("rows", (values, dims, is_packed))?;
        match Self::of_floats(&array, dims)? {
            Some(rows) => Ok(rows),
            None => Err(Class::InvalidVector.err(py, "these vectors cannot be read as float32")),
        }
    }

    /// `None` if it is no array of `f32` that can be copied as it is.
    fn of_floats(values: &Bound<'_, PyAny>, dims: usize) -> PyResult<Option<Self>> {
        let py = values.py();
        let (data, count, width, is_one) = if let Ok(array) = values.cast::<PyArray1<f32>>() {
            let Some(data) = copied(array.to_dyn()) else { return Ok(None) };
            let width = data.len();
            (data, 1, width, true)
        } else if let Ok(array) = values.cast::<PyArray2<f32>>() {
            let &[count, width] = array.shape() else { return Ok(None) };
            let Some(data) = copied(array.to_dyn()) else { return Ok(None) };
            (data, count, width, false)
        } else {
            return Ok(None);
        };
        if width != dims && count > 0 {
            let message =
                format!("vectors of {dims} numbers are expected, got {width}: pass rows of {dims}");
            let error = Class::InvalidVector.err(py, message);
            error.value(py).setattr("expected", dims)?;
            error.value(py).setattr("got", width)?;
            return Err(error);
        }
        Ok(Some(Self { data, count, is_one }))
    }

    /// The vectors, in order.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        let dims = self.data.len() / self.count.max(1);
        self.data.chunks_exact(dims.max(1))
    }
}

/// The numbers in the order of rows. `None` if they are not aligned.
fn copied(array: &Bound<'_, numpy::PyArrayDyn<f32>>) -> Option<Vec<f32>> {
    if !(array.data() as usize).is_multiple_of(align_of::<f32>()) {
        return None;
    }
    let array = array.try_readonly().ok()?;
    // Of Fortran's order, too, there are slices.
    if array.is_c_contiguous() {
        return array.as_slice().ok().map(<[f32]>::to_vec);
    }
    let is_aligned = array.strides().iter().all(|stride| stride % size_of::<f32>() as isize == 0);
    is_aligned.then(|| array.as_array().iter().copied().collect())
}

/// One id. Numpy's whole numbers will do.
pub(crate) fn id(value: &Bound<'_, PyAny>) -> PyResult<u32> {
    value.extract::<u32>().map_err(|error| {
        if error.is_instance_of::<PyOverflowError>(value.py()) {
            PyOverflowError::new_err(format!("ids must be from 0 to {}", u32::MAX))
        } else {
            error
        }
    })
}

/// One id or several, and whether it was one.
pub(crate) fn ids(values: &Bound<'_, PyAny>) -> PyResult<(Vec<u32>, bool)> {
    if is_id(values) {
        return Ok((vec![id(values)?], true));
    }
    let array = values.py().import("spinney._arrays")?.call_method1("ids", (values,))?;
    let array = array.cast_into::<PyArray1<i64>>()?;
    let array = array.try_readonly().map_err(PyErr::from)?;
    // The range was checked.
    let ids = array.as_array().iter().map(|&id| u32::try_from(id).unwrap_or(u32::MAX)).collect();
    Ok((ids, false))
}

/// Whether it is one number, as ids are.
pub(crate) fn is_id(value: &Bound<'_, PyAny>) -> bool {
    let is_int = value.is_instance_of::<PyInt>() && !value.is_instance_of::<PyBool>();
    is_int || is_scalar(value)
}

/// Whether it is one of numpy's numbers, or an array of no axis.
pub(crate) fn is_scalar(value: &Bound<'_, PyAny>) -> bool {
    value.hasattr("__index__").unwrap_or(false)
        && value.getattr("ndim").is_ok_and(|ndim| ndim.extract::<usize>().is_ok_and(|n| n == 0))
}
