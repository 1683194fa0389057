//! Collections: documents under keys.

pub(crate) mod keys;
pub(crate) mod puts;
mod search;

use std::sync::Arc;

use numpy::{IntoPyArray, PyArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use spinney::{DocumentKey, Error, StoreSnapshot, StoredDocument};

use crate::arrays::Rows;
use crate::build::{Building, build_stats};
use crate::collection::keys::{Keys, prefix_of};
use crate::collection::puts::Puts;
use crate::collection::search::borrowed;
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

    /// As it is now.
    fn held<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let own = this.get();
        if let Source::At(_) = own.source {
            return Ok(this.clone().into_any());
        }
        let store = Bound::new(this.py(), Store { core: Arc::clone(own.core()) })?;
        store.call_method0("read")?.get_item(this)
    }

    fn document<'py>(
        &self,
        py: Python<'py>,
        found: &StoredDocument,
    ) -> PyResult<Bound<'py, PyAny>> {
        let fields = PyDict::new(py);
        fields.set_item("key", self.keys.write(py, &found.key)?)?;
        fields.set_item("payload", PyBytes::new(py, &found.payload))?;
        fields.set_item("labels", PyTuple::new(py, &found.labels)?)?;
        fields.set_item("vectors", found.vectors)?;
        record(py, "Document", &fields)
    }

    fn read<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&spinney::Collection, &StoreSnapshot) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        let snapshot = self.source.snapshot(py)?;
        py.detach(|| work(&self.collection, &snapshot)).map_err(|error| raised(py, error))
    }

    /// An error for a snapshot's collection.
    fn check_newest(&self, py: Python<'_>) -> PyResult<()> {
        let message = "the collection of a snapshot cannot be written: write through the store's";
        match self.source {
            Source::Newest(_) => Ok(()),
            Source::At(_) => Err(Class::InvalidOption.err(py, message)),
        }
    }

    fn change<T: Send + 'static>(
        &self,
        py: Python<'_>,
        mut work: impl FnMut(&spinney::Collection, &mut spinney::WriteTxn<'_>) -> Result<T, Error>
        + Send
        + 'static,
    ) -> PyResult<T> {
        self.check_newest(py)?;
        self.core().check_writer(py)?;
        let (store, collection) = (self.core().store(py)?, self.collection.clone());
        on_thread(py, None, move |ticker| {
            write(&store, None, ticker.stop(), |txn| work(&collection, txn))
        })
    }
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
        self.check_newest(py)?;
        self.core().check_writer(py)?;
        let (store, collection) = (self.core().store(py)?, self.collection.clone());
        let building = Building::of(py, self.core(), options)?;
        // What `progress` calls may not write in this thread.
        let _writing = self.core().writing(std::thread::current().id());
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
        found.map(|found| self.document(py, &found)).transpose()
    }

    /// The documents of these keys, with ``None`` for those that are not there.
    fn get_many<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<Option<Bound<'py, PyAny>>>> {
        let keys = keys.try_iter()?.map(|key| self.key(&key?)).collect::<PyResult<Vec<_>>>()?;
        let found = self.read(py, |collection, snapshot| {
            keys.into_iter().map(|key| collection.get(snapshot, key)).collect::<Result<Vec<_>, _>>()
        })?;
        let documents = found.iter();
        documents
            .map(|found| found.as_ref().map(|found| self.document(py, found)).transpose())
            .collect()
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
        let prefix = prefix.map(prefix_of).transpose()?.unwrap_or_default();
        let keys = self.read(py, |collection, snapshot| {
            collection.keys_with_prefix(snapshot, &prefix).collect::<Result<Vec<_>, _>>()
        })?;
        let keys = keys.iter().map(|key| self.keys.write(py, key));
        PyList::new(py, keys.collect::<PyResult<Vec<_>>>()?)
    }

    /// The documents whose keys begin with these bytes, in order, of the commit at the call.
    #[pyo3(signature = (prefix=None))]
    fn documents<'py>(
        this: &Bound<'py, Self>,
        prefix: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let documents = this.py().import("spinney._pages")?.getattr("documents")?;
        documents.call1((Self::held(this)?, prefix))
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
        if rows.is_one {
            self.ask(py, hits_wanted(k)?, &how, |nns| nns.by_vector(&rows.data))
        } else {
            self.ask_rows(py, hits_wanted(k)?, &how, &rows)
        }
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
        self.ask(key.py(), hits_wanted(k)?, &how, move |nns| {
            nns.by_key(named)?.ok_or(Error::DocumentNotFound(missing))
        })
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
        self.ask(examples.py(), hits_wanted(k)?, &how, |nns| nns.by_any(&borrowed(&given)))
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
        self.ask(positive.py(), hits_wanted(k)?, &how, |nns| {
            nns.by_examples(&borrowed(&given), &borrowed(&negative))
        })
    }

    /// Pages of hits, one after the other, of the commit at the call.
    #[pyo3(signature = (query, page=10, **how))]
    fn pages<'py>(
        this: &Bound<'py, Self>,
        query: &Bound<'py, PyAny>,
        page: usize,
        how: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let pages = this.py().import("spinney._pages")?.getattr("document_pages")?;
        pages.call((Self::held(this)?, query, page), how)
    }

    /// Documents one by one, of the commit at the call.
    #[pyo3(signature = (query, **how))]
    fn neighbours<'py>(
        this: &Bound<'py, Self>,
        query: &Bound<'py, PyAny>,
        how: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let neighbours = this.py().import("spinney._pages")?.getattr("document_neighbours")?;
        neighbours.call((Self::held(this)?, query), how)
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
