//! Documents to put.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use spinney::{Document, DocumentKey, Error};

use crate::arrays::Rows;
use crate::collection::Collection;

/// Documents to put.
pub(crate) struct Puts {
    collection: spinney::Collection,
    documents: Vec<(DocumentKey, Document)>,
}

impl Puts {
    pub(crate) fn one(
        of: &Collection,
        key: &Bound<'_, PyAny>,
        vector: &Bound<'_, PyAny>,
        payload: Option<&Bound<'_, PyAny>>,
        labels: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let document = document(of, vector, payload, labels)?;
        Ok(Self { collection: of.collection.clone(), documents: vec![(of.key(key)?, document)] })
    }

    /// Of arrays and lists of the same length. Labels may be one list for all.
    pub(crate) fn many(
        of: &Collection,
        keys: &Bound<'_, PyAny>,
        vectors: &Bound<'_, PyAny>,
        payloads: Option<&Bound<'_, PyAny>>,
        labels: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let keys: Vec<_> = keys.try_iter()?.collect::<PyResult<_>>()?;
        let vectors = each("vectors", vectors, keys.len())?;
        let payloads = payloads.map(|all| each("payloads", all, keys.len())).transpose()?;
        let labels = labels.map(|all| each("labels", all, keys.len())).transpose()?;
        let mut documents = Vec::with_capacity(keys.len());
        for (row, (key, vector)) in keys.iter().zip(&vectors).enumerate() {
            let payload = payloads.as_ref().and_then(|all| all.get(row));
            let labels = labels.as_ref().and_then(|all| all.get(row));
            documents.push((of.key(key)?, document(of, vector, payload, labels)?));
        }
        Ok(Self { collection: of.collection.clone(), documents })
    }

    pub(crate) fn put(&self, txn: &mut spinney::WriteTxn<'_>) -> Result<(), Error> {
        self.collection
            .put_many(txn, self.documents.iter().map(|(key, document)| (key.clone(), document)))
    }
}

fn each<'py>(
    name: &str,
    values: &Bound<'py, PyAny>,
    count: usize,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let values: Vec<_> = values.try_iter()?.collect::<PyResult<_>>()?;
    if values.len() == count {
        return Ok(values);
    }
    Err(PyValueError::new_err(format!("{count} keys need as many {name}, got {}", values.len())))
}

fn document(
    of: &Collection,
    vector: &Bound<'_, PyAny>,
    payload: Option<&Bound<'_, PyAny>>,
    labels: Option<&Bound<'_, PyAny>>,
) -> PyResult<Document> {
    let rows = Rows::of(vector, of.collection.dims(), false)?;
    let document =
        if rows.is_one { Document::new(rows.data) } else { Document::with_vectors(rows.data) };
    let document = match payload {
        Some(payload) => document.payload(bytes_of(payload)?),
        None => document,
    };
    let labels = match labels {
        Some(labels) if labels.is_instance_of::<PyString>() => {
            return Err(PyTypeError::new_err("labels are a list of strings, got one string"));
        }
        Some(labels) => {
            let labels = labels.try_iter()?.map(|label| label?.extract::<String>());
            labels.collect::<PyResult<Vec<_>>>()?
        }
        None => Vec::new(),
    };
    Ok(document.labels(labels))
}

/// Bytes as they are, text as UTF-8, and all else as JSON.
fn bytes_of(payload: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(bytes) = payload.cast::<PyBytes>() {
        return Ok(bytes.as_bytes().to_vec());
    }
    if let Ok(text) = payload.cast::<PyString>() {
        return Ok(text.to_str()?.as_bytes().to_vec());
    }
    if payload.is_none() {
        return Ok(Vec::new());
    }
    let json = payload.py().import("json")?.call_method1("dumps", (payload,))?;
    Ok(json.extract::<String>()?.into_bytes())
}
