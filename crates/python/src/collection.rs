//! Collections: documents under keys.

use std::ops::ControlFlow;
use std::sync::Arc;

use numpy::{IntoPyArray, PyArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyList, PyString, PyTuple};
use spinney::{Document, DocumentExample, DocumentKey, Error, Hits, Nns, StoreSnapshot};

use crate::arrays::Rows;
use crate::build::{Building, build_stats};
use crate::core::Core;
use crate::errors::{Class, raised};
use crate::hits::record;
use crate::how::{How, Kind};
use crate::index::hits_wanted;
use crate::labels;
use crate::snapshot::Source;
use crate::store::Store;
use crate::wait::on_thread;
use crate::write::write;

/// Documents under keys: a handle, which reads the newest commit, or that of a snapshot.
#[pyclass(frozen, module = "spinney", name = "Collection")]
pub(crate) struct Collection {
    source: Source,
    pub(crate) collection: spinney::Collection,
    keys: Keys,
}

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

    fn name(self) -> &'static str {
        match self {
            Self::Str => "str",
            Self::Int => "int",
            Self::Bytes => "bytes",
        }
    }

    fn read(self, key: &Bound<'_, PyAny>) -> PyResult<DocumentKey> {
        match self {
            Self::Str if key.is_instance_of::<PyString>() => Ok(key.extract::<&str>()?.into()),
            Self::Int if key.is_instance_of::<PyInt>() => Ok(key.extract::<u64>()?.into()),
            Self::Bytes if key.is_instance_of::<PyBytes>() => Ok(key.extract::<&[u8]>()?.into()),
            _ => Err(PyTypeError::new_err(format!(
                "keys of this collection are {}, got {}: see the argument keys of Store.collection",
                self.name(),
                key.get_type().name()?
            ))),
        }
    }

    /// Keys of another kind are bytes.
    fn write<'py>(self, py: Python<'py>, key: &DocumentKey) -> PyResult<Bound<'py, PyAny>> {
        let text = if self == Self::Str { key.as_str() } else { None };
        let number = if self == Self::Int { key.as_u64() } else { None };
        Ok(match (text, number) {
            (Some(text), _) => PyString::new(py, text).into_any(),
            (None, Some(number)) => number.into_pyobject(py)?.into_any(),
            (None, None) => PyBytes::new(py, key.as_bytes()).into_any(),
        })
    }
}

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

impl Collection {
    pub(crate) fn new(core: Arc<Core>, collection: spinney::Collection, keys: Keys) -> Self {
        Self { source: Source::Newest(core), collection, keys }
    }

    pub(crate) fn read_from(&self, source: Source) -> Self {
        Self { source, collection: self.collection.clone(), keys: self.keys }
    }

    pub(crate) fn key(&self, key: &Bound<'_, PyAny>) -> PyResult<DocumentKey> {
        self.keys.read(key)
    }

    fn core(&self) -> &Arc<Core> {
        self.source.core()
    }

    fn read<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&spinney::Collection, &StoreSnapshot) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        let snapshot = self.source.snapshot(py)?;
        py.detach(|| work(&self.collection, &snapshot)).map_err(|error| raised(py, error))
    }

    fn change<T: Send + 'static>(
        &self,
        py: Python<'_>,
        mut work: impl FnMut(&spinney::Collection, &mut spinney::WriteTxn<'_>) -> Result<T, Error>
        + Send
        + 'static,
    ) -> PyResult<T> {
        if let Source::At(_) = self.source {
            let message =
                "the collection of a snapshot cannot be written: write through the store's";
            return Err(Class::InvalidOption.err(py, message));
        }
        self.core().check_writer(py)?;
        let (store, collection) = (self.core().store(py)?, self.collection.clone());
        on_thread(py, None, move |ticker| {
            write(&store, None, ticker.stop(), |txn| work(&collection, txn))
        })
    }

    /// Searches, once for each of `count` rows.
    fn ask<'py>(
        &self,
        py: Python<'py>,
        k: Option<&Bound<'py, PyAny>>,
        how: &How,
        answer: impl Fn(Nns<'_, spinney::Documents<'_, StoreSnapshot>>) -> Result<Answers, Error> + Sync,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let k = hits_wanted(k)?;
        let snapshot = self.source.snapshot(py)?;
        let answers = py.detach(|| {
            let mut nns =
                how.options(self.collection.search(&snapshot, k)).payload(how.has_payload);
            if let Some(filter) = &how.labelled {
                nns = nns.labelled(filter.clone());
            }
            if how.stop.is_some() {
                nns = nns.cancel(|| match how.is_stopped(None) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                });
            }
            if let Some(function) = &how.predicate {
                nns = nns.try_filter_fn(|key| {
                    let key = Python::attach(|py| self.keys.write(py, key).map(Bound::unbind))?;
                    how.admits(function, key, None)
                });
            }
            answer(nns)
        });
        let answers = answers.map_err(|error| raised(py, error))?;
        answers.into_iter().map(|hits| self.hits(py, hits)).collect()
    }

    fn hits<'py>(
        &self,
        py: Python<'py>,
        hits: Hits<spinney::DocumentHit>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let class = py.import("spinney._records")?.getattr("DocumentHit")?;
        let hits = hits.into_iter().map(|hit| {
            let payload = hit.payload.map(|payload| PyBytes::new(py, &payload));
            class.call1((self.keys.write(py, &hit.key)?, hit.distance, payload))
        });
        Ok(PyList::new(py, hits.collect::<PyResult<Vec<_>>>()?)?.into_any())
    }
}

type Answers = Vec<Hits<spinney::DocumentHit>>;

fn first<'py>(mut answers: Vec<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
    answers.pop().ok_or_else(|| PyValueError::new_err("there was no answer"))
}

#[pymethods]
impl Collection {
    #[getter]
    fn name(&self) -> &str {
        self.collection.name()
    }

    #[getter]
    fn dims(&self) -> usize {
        self.collection.dims()
    }

    #[getter]
    fn metric(&self) -> String {
        self.collection.metric().to_string()
    }

    /// The labels that all documents in sight bear.
    #[getter]
    fn scope<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.collection.scope())
    }

    /// A view in which nothing but documents with this label can be read or changed.
    fn scoped(&self, py: Python<'_>, label: &str) -> PyResult<Self> {
        let collection = self.collection.scoped(label).map_err(|error| raised(py, error))?;
        Ok(Self { source: self.source.clone(), collection, keys: self.keys })
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        let len = self.read(py, |collection, snapshot| collection.len(snapshot))?;
        Ok(usize::try_from(len)?)
    }

    fn __contains__(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let key = self.key(key)?;
        self.read(py, |collection, snapshot| collection.contains(snapshot, key))
    }

    #[pyo3(signature = (key, vector, payload=None, labels=None))]
    fn put(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        vector: &Bound<'_, PyAny>,
        payload: Option<&Bound<'_, PyAny>>,
        labels: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let puts = Puts::one(self, key, vector, payload, labels)?;
        self.change(py, move |_, txn| puts.put(txn))
    }

    #[pyo3(signature = (keys, vectors, payloads=None, labels=None))]
    fn put_many(
        &self,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        vectors: &Bound<'_, PyAny>,
        payloads: Option<&Bound<'_, PyAny>>,
        labels: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let puts = Puts::many(self, keys, vectors, payloads, labels)?;
        self.change(py, move |_, txn| puts.put(txn))
    }

    /// Whether the document was there.
    fn delete(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let key = self.key(key)?;
        self.change(py, move |collection, txn| collection.delete(txn, key.clone()))
    }

    /// Deletes the documents that a filter means. Returns how many.
    fn delete_where(&self, py: Python<'_>, filter: &Bound<'_, PyAny>) -> PyResult<u64> {
        let filter = labels::of(filter)?;
        self.change(py, move |collection, txn| collection.delete_where(txn, filter.clone()))
    }

    #[pyo3(signature = (*, progress=None, **options))]
    fn build<'py>(
        &self,
        py: Python<'py>,
        progress: Option<&Bound<'py, PyAny>>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.core().check_writer(py)?;
        let (store, collection) = (self.core().store(py)?, self.collection.clone());
        let building = Building::of(py, self.core(), options)?;
        let stats = on_thread(py, progress, move |ticker| {
            write(&store, None, ticker.stop(), |txn| {
                building.run(ticker, |options| collection.build(txn, options))
            })
        })?;
        build_stats(py, &stats)
    }

    /// The document of this key, or ``None``.
    fn get<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let key = self.key(key)?;
        let found = self.read(py, |collection, snapshot| collection.get(snapshot, key))?;
        let Some(found) = found else { return Ok(None) };
        let fields = PyDict::new(py);
        fields.set_item("key", self.keys.write(py, &found.key)?)?;
        fields.set_item("payload", PyBytes::new(py, &found.payload))?;
        fields.set_item("labels", PyTuple::new(py, &found.labels)?)?;
        fields.set_item("vectors", found.vectors)?;
        record(py, "Document", &fields).map(Some)
    }

    /// The document of this key.
    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let missing = || Error::DocumentNotFound(key.to_string());
        self.get(py, key)?.ok_or_else(|| raised(py, missing()))
    }

    /// The vectors of a document, as a float32 array of a row each.
    fn vectors<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let named = self.key(key)?;
        let found = self.read(py, |collection, snapshot| collection.vectors(snapshot, named))?;
        let rows = found.ok_or_else(|| raised(py, Error::DocumentNotFound(key.to_string())))?;
        let (count, dims) = (rows.len() / self.dims().max(1), self.dims());
        Ok(rows.into_pyarray(py).reshape([count, dims])?.into_any())
    }

    /// How many documents a filter means.
    fn count(&self, py: Python<'_>, filter: &Bound<'_, PyAny>) -> PyResult<u64> {
        let filter = labels::of(filter)?;
        self.read(py, |collection, snapshot| collection.count(snapshot, filter))
    }

    /// All labels, with the number of documents that bear each.
    fn labels<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let labels = self.read(py, |collection, snapshot| collection.labels(snapshot))?;
        let counts = PyDict::new(py);
        labels.into_iter().try_for_each(|(label, count)| counts.set_item(label, count))?;
        Ok(counts)
    }

    /// The keys that begin with these bytes, in order.
    #[pyo3(signature = (prefix=None))]
    fn keys<'py>(
        &self,
        py: Python<'py>,
        prefix: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let prefix = prefix.map(|prefix| bytes_of(prefix)).transpose()?.unwrap_or_default();
        let keys = self.read(py, |collection, snapshot| {
            let keys = collection.keys(snapshot);
            keys.filter(|key| !matches!(key, Ok(key) if !key.as_bytes().starts_with(&prefix)))
                .collect::<Result<Vec<_>, _>>()
        })?;
        let keys = keys.iter().map(|key| self.keys.write(py, key));
        PyList::new(py, keys.collect::<PyResult<Vec<_>>>()?)
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.keys(py, None)?.try_iter()?.into_any())
    }

    /// Hits of one query as a list, or a list of them for each row.
    #[pyo3(signature = (queries, k=None, **how))]
    fn search<'py>(
        &self,
        queries: &Bound<'py, PyAny>,
        k: Option<&Bound<'py, PyAny>>,
        how: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, how) = (queries.py(), How::of(how, Kind::Documents)?);
        let rows = Rows::of(queries, self.dims(), how.is_packed)?;
        let answers = self.ask(py, k, &how, |nns| nns.by_vectors(&rows.data))?;
        if rows.is_one { first(answers) } else { Ok(PyList::new(py, answers)?.into_any()) }
    }

    /// The documents nearest to that of a key, which is left out.
    #[pyo3(signature = (key, k=None, **how))]
    fn search_key<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        k: Option<&Bound<'py, PyAny>>,
        how: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (named, how) = (self.key(key)?, How::of(how, Kind::Documents)?);
        let missing = key.to_string();
        let answers = self.ask(key.py(), k, &how, |nns| {
            let found = nns.by_key(named.clone())?;
            Ok(vec![found.ok_or_else(|| Error::DocumentNotFound(missing.clone()))?])
        })?;
        first(answers)
    }

    /// The documents nearest to any of these keys and vectors.
    #[pyo3(signature = (examples, k=None, **how))]
    fn search_any<'py>(
        &self,
        examples: &Bound<'py, PyAny>,
        k: Option<&Bound<'py, PyAny>>,
        how: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (given, how) = (self.examples(examples)?, How::of(how, Kind::Documents)?);
        let answers =
            self.ask(examples.py(), k, &how, |nns| Ok(vec![nns.by_any(&borrowed(&given))?]))?;
        first(answers)
    }

    /// The documents like the positive examples and unlike the negative ones.
    #[pyo3(signature = (positive, negative=None, k=None, **how))]
    fn search_like<'py>(
        &self,
        positive: &Bound<'py, PyAny>,
        negative: Option<&Bound<'py, PyAny>>,
        k: Option<&Bound<'py, PyAny>>,
        how: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let how = How::of(how, Kind::Documents)?;
        let negative = negative.map(|given| self.examples(given)).transpose()?.unwrap_or_default();
        let given = self.examples(positive)?;
        let answers = self.ask(positive.py(), k, &how, |nns| {
            Ok(vec![nns.by_examples(&borrowed(&given), &borrowed(&negative))?])
        })?;
        first(answers)
    }

    fn __repr__(&self) -> String {
        let (name, dims, metric) = (self.name(), self.dims(), self.metric());
        format!("Collection({name:?}, dims={dims}, metric=\"{metric}\")")
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        if let Source::At(_) = self.source {
            return Err(PyTypeError::new_err(
                "the collection of a snapshot belongs to its process: pickle the store's",
            ));
        }
        let open = py.import("spinney._native")?.getattr("_open_collection")?;
        let store = Bound::new(py, Store { core: Arc::clone(self.core()) })?;
        let scope = self.collection.scope().to_vec();
        (open, (store, self.name(), self.keys.name(), scope)).into_pyobject(py)
    }
}

/// A key or a vector, as an example.
enum Given {
    Key(DocumentKey),
    Vector(Vec<f32>),
}

fn borrowed(given: &[Given]) -> Vec<DocumentExample<'_>> {
    given.iter().map(Given::example).collect()
}

impl Given {
    fn example(&self) -> DocumentExample<'_> {
        match self {
            Self::Key(key) => DocumentExample::Key(key.clone()),
            Self::Vector(vector) => DocumentExample::Vector(vector),
        }
    }
}

impl Collection {
    fn examples(&self, values: &Bound<'_, PyAny>) -> PyResult<Vec<Given>> {
        let mut given = Vec::new();
        for value in values.try_iter()? {
            let value = value?;
            given.push(match self.key(&value) {
                Ok(key) => Given::Key(key),
                Err(_) => Given::Vector(Rows::of(&value, self.dims(), false)?.data),
            });
        }
        Ok(given)
    }
}

/// For pickles: the collection of this name.
#[pyfunction]
#[pyo3(name = "_open_collection")]
pub(crate) fn open_collection<'py>(
    store: &Bound<'py, Store>,
    name: &str,
    keys: &str,
    scope: Vec<String>,
) -> PyResult<Bound<'py, PyAny>> {
    let options = PyDict::new(store.py());
    options.set_item("keys", keys)?;
    let opened = store.call_method("collection", (name,), Some(&options))?;
    scope.iter().try_fold(opened, |view, label| view.call_method1("scoped", (label,)))
}
