//! Errors of the library as exceptions of `spinney._errors`.

use pyo3::prelude::*;
use pyo3::types::PyType;
use spinney::{Error, heed};

/// The classes with two bases, which only Python can write.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Class {
    InvalidVector,
    InvalidOption,
    Mismatch,
    NotFound,
    Storage,
    StoreNotFound,
    MapFull,
    Corrupted,
    Format,
    Cancelled,
    Busy,
    Forked,
    Closed,
}

impl Class {
    fn of(self, py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
        let class = py.import("spinney._errors")?.getattr(format!("{self:?}Error"))?;
        Ok(class.cast_into()?)
    }

    /// An exception with this message.
    pub(crate) fn err(self, py: Python<'_>, message: impl Into<String>) -> PyErr {
        match self.of(py) {
            Ok(class) => PyErr::from_type(class, message.into()),
            Err(error) => error,
        }
    }
}

/// The exception for an error of the library, with what is known of it as attributes.
pub(crate) fn raised(py: Python<'_>, error: Error) -> PyErr {
    let error = match error {
        Error::Callback(source) => match source.downcast::<PyErr>() {
            Ok(own) => return *own,
            Err(source) => Error::Callback(source),
        },
        error => error,
    };
    let raised = class_of(&error).err(py, error.to_string());
    // The exception matters more than what decorates it.
    let _ = decorate(raised.value(py), &error);
    raised
}

fn class_of(error: &Error) -> Class {
    match error {
        Error::Row { source, .. } | Error::Document(_, source) => class_of(source),
        Error::Dimensions { .. }
        | Error::VectorsShape { .. }
        | Error::QueriesShape { .. }
        | Error::BufferShape { .. }
        | Error::NonFinite { .. }
        | Error::ZeroVector
        | Error::NormOverflow { .. }
        | Error::NotABit { .. } => Class::InvalidVector,
        Error::MetricMismatch { .. }
        | Error::DimensionsMismatch { .. }
        | Error::StorageMismatch { .. }
        | Error::OtherEnvironment
        | Error::OpenOtherwise(_) => Class::Mismatch,
        Error::IndexNotFound { .. }
        | Error::ItemNotFound { .. }
        | Error::NameNotFound(_)
        | Error::DocumentNotFound(_) => Class::NotFound,
        Error::StoreNotFound(_) => Class::StoreNotFound,
        Error::MapFull => Class::MapFull,
        Error::Corrupted { .. }
        | Error::StoreCorrupted { .. }
        | Error::Truncated { .. }
        | Error::DamagedCopy(..) => Class::Corrupted,
        Error::FormatTooNew { .. } | Error::ForeignTable { .. } => Class::Format,
        Error::Cancelled | Error::BuildSuperseded => Class::Cancelled,
        Error::Busy { .. }
        | Error::NestedWrite
        | Error::NotWithinWrite(_)
        | Error::MapInUse { .. }
        | Error::MapResized
        | Error::InUse(..)
        | Error::OpenElsewhere(_)
        | Error::ReadersFull => Class::Busy,
        Error::Forked { .. } => Class::Forked,
        Error::Heed(_)
        | Error::DiskFull(_)
        | Error::File { .. }
        | Error::TemporaryFile { .. }
        | Error::RemoteFileSystem(..)
        | Error::AlreadyThere(_)
        | Error::ReadOnly => Class::Storage,
        // What is left is what was asked for.
        _ => Class::InvalidOption,
    }
}

fn decorate(value: &Bound<'_, PyAny>, error: &Error) -> PyResult<()> {
    match error {
        Error::Row { row, id, source } => {
            value.setattr("row", row)?;
            value.setattr("id", id)?;
            decorate(value, source)
        }
        Error::Document(key, source) => {
            value.setattr("key", key)?;
            decorate(value, source)
        }
        Error::Dimensions { expected, got } => {
            value.setattr("expected", expected)?;
            value.setattr("got", got)
        }
        Error::DimensionsMismatch { expected, got, .. } => {
            value.setattr("expected", expected)?;
            value.setattr("got", got)
        }
        Error::MetricMismatch { expected, got, .. } => {
            value.setattr("expected", expected.to_string())?;
            value.setattr("got", got.to_string())
        }
        Error::NonFinite { position, value: found } | Error::NotABit { position, value: found } => {
            value.setattr("position", position)?;
            value.setattr("value", found)
        }
        Error::Corrupted { key, .. } => value.setattr("key", key.as_slice()),
        Error::Heed(heed::Error::Io(source))
        | Error::DiskFull(heed::Error::Io(source))
        | Error::File { source, .. }
        | Error::TemporaryFile { source, .. } => value.setattr("errno", source.raw_os_error()),
        _ => Ok(()),
    }
}
