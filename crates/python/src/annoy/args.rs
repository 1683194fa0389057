//! Arguments as Annoy takes them, with its errors.

use std::io::ErrorKind;

use numpy::{PyArray1, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::{PyIndexError, PyOSError, PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyList, PyTuple};
use spinney::Error;

use crate::annoy::metric::Metric;
use crate::errors::raised;

/// A whole number that a C `int` can hold.
#[derive(Copy, Clone)]
pub(crate) struct Int(pub(crate) i32);

impl<'py> FromPyObject<'_, 'py> for Int {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        int(value.extract()?).map(Self)
    }
}

fn int(number: i64) -> PyResult<i32> {
    i32::try_from(number).map_err(|_| {
        let side = if number > 0 { "greater than maximum" } else { "less than minimum" };
        PyOverflowError::new_err(format!("signed integer is {side}"))
    })
}

/// An id that may be an item's, of which there are so many.
pub(crate) fn known_id(id: i64, items: u64) -> PyResult<u32> {
    match u32::try_from(id) {
        Ok(id) if u64::from(id) < items => Ok(id),
        _ => {
            new_id(Int(int(id)?))?;
            Err(PyIndexError::new_err("Item index larger than the largest item index"))
        }
    }
}

/// The name of a metric, if one was given.
pub(crate) struct Name(pub(crate) Option<String>);

impl<'py> FromPyObject<'_, 'py> for Name {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(Some(value.extract()?)))
    }
}

/// The greatest length of a vector that the index beneath can compare.
const MAX_NORM: f64 = (1u64 << 60) as f64;

/// The numbers of a vector. Arrays are copied, and all else is asked for each number.
pub(crate) fn vector(value: &Bound<'_, PyAny>, dims: usize, metric: Metric) -> PyResult<Vec<f32>> {
    let vector = match numbers(value, dims)? {
        Some(vector) => vector,
        None => {
            check_length(value.len()?, dims)?;
            let of = |place: usize| Ok(single(value.get_item(place)?.extract()?));
            (0..dims).map(of).collect::<PyResult<_>>()?
        }
    };
    prepared(value.py(), vector, metric)
}

/// A vector that can be compared: under hamming, all above a half is a one.
pub(crate) fn prepared(py: Python<'_>, mut vector: Vec<f32>, metric: Metric) -> PyResult<Vec<f32>> {
    check(py, &vector, metric)?;
    if metric == Metric::Hamming {
        vector.iter_mut().for_each(|x| *x = f32::from(u8::from(*x > 0.5)));
    }
    Ok(vector)
}

/// The metric of this name.
pub(crate) fn check_metric(name: &str) -> PyResult<Metric> {
    Metric::of(name).ok_or_else(|| PyValueError::new_err("No such metric"))
}

/// The numbers of what needs not be asked for each of them.
fn numbers(value: &Bound<'_, PyAny>, dims: usize) -> PyResult<Option<Vec<f32>>> {
    if let Ok(list) = value.cast_exact::<PyList>() {
        check_length(list.len(), dims)?;
        let mut vector = Vec::with_capacity(dims);
        for number in list.iter() {
            match number.cast_exact::<PyFloat>() {
                Ok(number) => vector.push(single(number.value())),
                Err(_) => vector.push(single(number.extract()?)),
            }
        }
        // A number that runs code of its own may have changed the list.
        check_length(vector.len(), dims)?;
        return Ok(Some(vector));
    }
    if let Ok(array) = value.cast::<PyArray1<f32>>() {
        return copied(array, dims, |x| x);
    }
    if let Ok(array) = value.cast::<PyArray1<f64>>() {
        return copied(array, dims, single);
    }
    Ok(None)
}

/// The nearest number of single precision.
#[allow(clippy::cast_possible_truncation)]
fn single(number: f64) -> f32 {
    number as f32
}

/// `None` if the numbers are not aligned.
fn copied<T: numpy::Element + Copy>(
    array: &Bound<'_, PyArray1<T>>,
    dims: usize,
    of: impl Fn(T) -> f32,
) -> PyResult<Option<Vec<f32>>> {
    check_length(array.len(), dims)?;
    let is_aligned = (array.data() as usize).is_multiple_of(align_of::<T>())
        && array.strides().iter().all(|stride| stride % size_of::<T>() as isize == 0);
    let Some(array) = is_aligned.then(|| array.try_readonly().ok()).flatten() else {
        return Ok(None);
    };
    Ok(Some(match array.as_slice() {
        Ok(slice) => slice.iter().map(|&x| of(x)).collect(),
        Err(_) => array.as_array().iter().map(|&x| of(x)).collect(),
    }))
}

fn check_length(got: usize, dims: usize) -> PyResult<()> {
    if got == dims {
        return Ok(());
    }
    Err(PyIndexError::new_err(format!("Vector has wrong length (expected {dims}, got {got})")))
}

/// An error for numbers that cannot be compared.
fn check(py: Python<'_>, vector: &[f32], metric: Metric) -> PyResult<()> {
    let squares: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    if squares <= MAX_NORM * MAX_NORM {
        return Ok(());
    }
    let place = vector.iter().copied().enumerate().find(|(_, value)| !value.is_finite());
    match place {
        Some((position, value)) => Err(raised(py, Error::NonFinite { position, value })),
        None if metric == Metric::Hamming => Ok(()),
        None => Err(raised(py, Error::NormOverflow { got: squares.sqrt(), max: MAX_NORM })),
    }
}

/// The exception for an error of the system, in Annoy's words.
pub(crate) fn unable(py: Python<'_>, what: &str, error: &std::io::Error) -> PyErr {
    let Some(number) = error.raw_os_error() else {
        let raised = PyOSError::new_err(error.to_string());
        // As below.
        let _ = raised.value(py).setattr("is_mismatch", error.kind() == ErrorKind::InvalidInput);
        return raised;
    };
    let text = error.to_string();
    let reason = text.split(" (os error").next().unwrap_or_default();
    let raised = PyOSError::new_err(format!("{what}: {reason} ({number})"));
    // The exception matters more than what decorates it.
    let _ = raised.value(py).setattr("errno", number);
    raised
}

/// The exception for an error about a file: whatever is wrong with it is an `OSError`.
pub(crate) fn refused(py: Python<'_>, error: Error) -> PyErr {
    match error {
        Error::File { source, .. } => unable(py, "Unable to open", &source),
        Error::Heed(spinney::heed::Error::Io(source)) => unable(py, "Unable to write", &source),
        Error::NonFinite { .. }
        | Error::NormOverflow { .. }
        | Error::InvalidOption { .. }
        | Error::Cancelled
        | Error::Callback(_)
        | Error::Busy { .. }
        | Error::Forked { .. } => raised(py, error),
        error => {
            let raised = raised(py, error);
            if raised.is_instance_of::<PyOSError>(py) {
                return raised;
            }
            PyOSError::new_err(raised.value(py).to_string())
        }
    }
}

/// An id of an item to add.
pub(crate) fn new_id(id: Int) -> PyResult<u32> {
    id.0.try_into().map_err(|_| PyIndexError::new_err("Item index can not be negative"))
}

/// Ids, or ids and distances, as Annoy returns them.
pub(crate) fn answer<'py>(
    py: Python<'py>,
    hits: &[(u32, f64)],
    with_distances: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let ids = PyList::new(py, hits.iter().map(|(id, _)| *id))?;
    if !with_distances {
        return Ok(ids.into_any());
    }
    let distances = PyList::new(py, hits.iter().map(|(_, distance)| *distance))?;
    Ok(PyTuple::new(py, [ids, distances])?.into_any())
}
