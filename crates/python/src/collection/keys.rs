//! Keys of documents: text, numbers or bytes.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use spinney::DocumentKey;

use crate::arrays::is_id;
use crate::errors::Class;

/// What keys are in Python.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    Str,
    Int,
    Bytes,
}

impl Keys {
    pub(crate) fn of(name: &str, py: Python<'_>) -> PyResult<Self> {
        match name {
            "str" => Ok(Self::Str),
            "int" => Ok(Self::Int),
            "bytes" => Ok(Self::Bytes),
            other => {
                let message = format!("keys takes \"str\", \"int\" or \"bytes\", got {other:?}");
                Err(Class::InvalidOption.err(py, message))
            }
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Str => "str",
            Self::Int => "int",
            Self::Bytes => "bytes",
        }
    }

    pub(crate) fn read(self, key: &Bound<'_, PyAny>) -> PyResult<DocumentKey> {
        match self {
            Self::Str if key.is_instance_of::<PyString>() => Ok(key.extract::<&str>()?.into()),
            Self::Int if is_id(key) => Ok(key.extract::<u64>()?.into()),
            Self::Bytes if key.is_instance_of::<PyBytes>() => Ok(key.extract::<&[u8]>()?.into()),
            _ => Err(PyTypeError::new_err(format!(
                "keys of this collection are {}, got {}: see the argument keys of Store.collection",
                self.name(),
                key.get_type().name()?
            ))),
        }
    }

    /// Keys of another kind are bytes.
    pub(crate) fn write<'py>(
        self,
        py: Python<'py>,
        key: &DocumentKey,
    ) -> PyResult<Bound<'py, PyAny>> {
        let text = if self == Self::Str { key.as_str() } else { None };
        let number = if self == Self::Int { key.as_u64() } else { None };
        Ok(match (text, number) {
            (Some(text), _) => PyString::new(py, text).into_any(),
            (None, Some(number)) => number.into_pyobject(py)?.into_any(),
            (None, None) => PyBytes::new(py, key.as_bytes()).into_any(),
        })
    }
}

/// What keys begin with: bytes, or text.
pub(crate) fn prefix_of(prefix: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(bytes) = prefix.cast::<PyBytes>() {
        return Ok(bytes.as_bytes().to_vec());
    }
    match prefix.cast::<PyString>() {
        Ok(text) => Ok(text.to_str()?.as_bytes().to_vec()),
        Err(_) => Err(PyTypeError::new_err("a prefix of keys is text or bytes")),
    }
}
