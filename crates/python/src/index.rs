//! Indexes: vectors under ids.

use std::sync::Arc;

use numpy::{IntoPyArray, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use spinney::{Error, Reader, Reads, StoreSnapshot};

use crate::arrays::{self, Rows};
use crate::build::{Building, build_stats};
use crate::core::{Core, Writing};
use crate::errors::{Class, raised};
use crate::hits::PyHits;
use crate::how::{How, Kind, count};
use crate::id_set::{IdSet, Ids};
use crate::search::{Given, Question, Wanted};
use crate::snapshot::Source;
use crate::store::Store;
use crate::wait::on_thread;
use crate::write::write;

/// Vectors under ids: a handle, which reads the newest commit, or that of a snapshot.
#[pyclass(frozen, module = "spinney", name = "Index")]
pub(crate) struct Index {
    source: Source,
    pub(crate) index: spinney::Index,
}

impl Index {
    pub(crate) fn new(core: Arc<Core>, index: spinney::Index) -> Self {
        Self { source: Source::Newest(core), index }
    }

    pub(crate) fn read_from(&self, source: Source) -> Self {
        Self { source, index: self.index.clone() }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        self.source.core()
    }

    /// Reads while the interpreter is free.
    fn with_reader<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&Reader<'_>) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        let snapshot = self.source.snapshot(py)?;
        let read = py.detach(|| snapshot.with_reader(&self.index, work));
        read.map_err(|error| raised(py, error))
    }

    /// The store, to write. An error for a snapshot's index, and in a thread that is writing.
    fn store(&self, py: Python<'_>) -> PyResult<spinney::Store> {
        if let Source::At(_) = self.source {
            let message = "the index of a snapshot cannot be written: write through the store's";
            return Err(Class::InvalidOption.err(py, message));
        }
        self.core().check_writer(py)?;
        self.core().store(py)
    }

    /// While it lives, what `progress` calls may not write in this thread.
    fn writing(&self) -> Writing {
        self.core().writing(std::thread::current().id())
    }

    fn asked(&self, py: Python<'_>, wanted: Wanted, k: usize, how: How) -> PyResult<PyHits> {
        let is_reported = how.is_reported;
        let snapshot: StoreSnapshot = self.source.snapshot(py)?;
        let question = Question { wanted, k, how };
        let found = question.ask_snapshot(py, self.core(), &snapshot, &self.index)?;
        PyHits::new(py, found, is_reported)
    }
}

#[pymethods]
impl Index {
    #[getter]
    fn name(&self) -> &str {
        self.index.name()
    }

    #[getter]
    fn dims(&self) -> usize {
        self.index.dims()
    }

    #[getter]
    fn metric(&self) -> String {
        self.index.metric().to_string()
    }

    /// How vectors are stored: "f32", "f16", "i8" or "bits".
    #[getter]
    fn storage(&self, py: Python<'_>) -> PyResult<String> {
        self.with_reader(py, |reader| Ok(reader.storage().to_string()))
    }

    /// Items that wait for a build. They are found, too.
    #[getter]
    fn pending(&self, py: Python<'_>) -> PyResult<u64> {
        self.with_reader(py, |reader| Ok(reader.pending_len()))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        let len = self.with_reader(py, |reader| Ok(reader.len()))?;
        Ok(usize::try_from(len)?)
    }

    fn __contains__(&self, py: Python<'_>, id: &Bound<'_, PyAny>) -> PyResult<bool> {
        match arrays::id(id) {
            Ok(id) => self.with_reader(py, |reader| reader.contains_item(id)),
            Err(_) => Ok(false),
        }
    }

    /// Over the ids.
    fn __iter__(&self, py: Python<'_>) -> PyResult<Ids> {
        Ok(self.ids(py)?.__iter__())
    }

    fn ids(&self, py: Python<'_>) -> PyResult<IdSet> {
        Ok(IdSet(Arc::new(self.with_reader(py, |reader| reader.id_set())?)))
    }

    /// The vector of an item, or an array of those of several.
    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        ids: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (ids, is_one) = arrays::ids(ids)?;
        let (dims, count) = (self.index.dims(), ids.len());
        let rows = self.with_reader(py, |reader| {
            let mut rows = Vec::with_capacity(ids.len() * dims);
            for id in ids {
                rows.extend(reader.item_vector(id)?.ok_or(Error::ItemNotFound { id })?);
            }
            Ok(rows)
        })?;
        let rows = rows.into_pyarray(py);
        if is_one { Ok(rows.into_any()) } else { Ok(rows.reshape([count, dims])?.into_any()) }
    }

    #[pyo3(signature = (queries, k=None, **how))]
    fn search(
        &self,
        queries: &Bound<'_, PyAny>,
        k: Option<&Bound<'_, PyAny>>,
        how: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyHits> {
        let how = How::of(how, Kind::Items)?;
        let rows = Rows::of(queries, self.index.dims(), how.is_packed)?;
        self.asked(queries.py(), Wanted::Vectors(rows), hits_wanted(k)?, how)
    }

    #[pyo3(signature = (ids, k=None, **how))]
    fn search_items(
        &self,
        ids: &Bound<'_, PyAny>,
        k: Option<&Bound<'_, PyAny>>,
        how: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyHits> {
        let how = How::of(how, Kind::Items)?;
        let py = ids.py();
        let (ids, is_one) = arrays::ids(ids)?;
        self.asked(py, Wanted::Items(ids, is_one), hits_wanted(k)?, how)
    }

    #[pyo3(signature = (examples, k=None, **how))]
    fn search_any(
        &self,
        examples: &Bound<'_, PyAny>,
        k: Option<&Bound<'_, PyAny>>,
        how: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyHits> {
        let how = How::of(how, Kind::Items)?;
        let given = Given::list(examples, self.index.dims())?;
        self.asked(examples.py(), Wanted::Any(given), hits_wanted(k)?, how)
    }

    #[pyo3(signature = (positive, negative=None, k=None, **how))]
    fn search_like(
        &self,
        positive: &Bound<'_, PyAny>,
        negative: Option<&Bound<'_, PyAny>>,
        k: Option<&Bound<'_, PyAny>>,
        how: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyHits> {
        let how = How::of(how, Kind::Items)?;
        let list = |values| Given::list(values, self.index.dims());
        let negative = negative.map(list).transpose()?.unwrap_or_default();
        let wanted = Wanted::Like { positive: list(positive)?, negative };
        self.asked(positive.py(), wanted, hits_wanted(k)?, how)
    }

    /// Pages of hits, one after the other, of the commit at the call.
    #[pyo3(signature = (query, page=10, **how))]
    fn pages<'py>(
        this: &Bound<'py, Self>,
        query: &Bound<'py, PyAny>,
        page: usize,
        how: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let pages = this.py().import("spinney._pages")?.getattr("pages")?;
        pages.call((Self::held(this)?, query, page), how)
    }

    /// Neighbours one by one, of the commit at the call.
    #[pyo3(signature = (query, **how))]
    fn neighbours<'py>(
        this: &Bound<'py, Self>,
        query: &Bound<'py, PyAny>,
        how: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let neighbours = this.py().import("spinney._pages")?.getattr("neighbours")?;
        neighbours.call((Self::held(this)?, query), how)
    }

    #[pyo3(signature = (ids, vectors, *, build=true, progress=None, packed=false))]
    fn add<'py>(
        &self,
        py: Python<'py>,
        ids: Option<&Bound<'py, PyAny>>,
        vectors: &Bound<'py, PyAny>,
        build: bool,
        progress: Option<&Bound<'py, PyAny>>,
        packed: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let store = self.store(py)?;
        let added = Added::of(ids, vectors, self.index.dims(), packed)?;
        let building = build.then(|| Building::of(py, self.core(), None)).transpose()?;
        let (index, _writing) = (self.index.clone(), self.writing());
        let ids = on_thread(py, progress, move |ticker| {
            write(&store, None, ticker.stop(), |txn| {
                let ids = added.add_to(txn, &index)?;
                if let Some(building) = &building {
                    building.run(ticker, |options| index.build(txn, options))?;
                }
                Ok(ids)
            })
        })?;
        Ok(ids.into_pyarray(py).into_any())
    }

    /// Deletes items. Returns how many were there.
    fn delete(&self, py: Python<'_>, ids: &Bound<'_, PyAny>) -> PyResult<u64> {
        let store = self.store(py)?;
        let (ids, _) = arrays::ids(ids)?;
        let index = self.index.clone();
        on_thread(py, None, move |ticker| {
            write(&store, None, ticker.stop(), |txn| delete(txn, &index, &ids))
        })
    }

    #[pyo3(signature = (*, progress=None, **options))]
    fn build<'py>(
        &self,
        py: Python<'py>,
        progress: Option<&Bound<'py, PyAny>>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let store = self.store(py)?;
        let building = Building::of(py, self.core(), options)?;
        let (index, _writing) = (self.index.clone(), self.writing());
        let stats = on_thread(py, progress, move |ticker| {
            write(&store, None, ticker.stop(), |txn| {
                building.run(ticker, |options| index.build(txn, options))
            })
        })?;
        build_stats(py, &stats)
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| self.same() == other.get().same())
    }

    fn __hash__(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        self.same().hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(&self) -> String {
        let (name, dims, metric) = (self.index.name(), self.index.dims(), self.index.metric());
        format!("Index({name:?}, dims={dims}, metric=\"{metric}\")")
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        if let Source::At(_) = self.source {
            return Err(pyo3::exceptions::PyTypeError::new_err(
                "the index of a snapshot belongs to its process: pickle the store's",
            ));
        }
        let open = py.import("spinney._native")?.getattr("_open_index")?;
        let store = Bound::new(py, Store { core: Arc::clone(self.core()) })?;
        (open, (store, self.index.name())).into_pyobject(py)
    }
}

impl Index {
    /// What equal handles have in common.
    fn same(&self) -> (&std::path::Path, &str, Option<usize>) {
        let snapshot = match &self.source {
            Source::Newest(_) => None,
            Source::At(kept) => Some(Arc::as_ptr(kept) as usize),
        };
        (&self.core().path, self.index.name(), snapshot)
    }

    /// As it is now.
    fn held<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let own = this.get();
        if let Source::At(_) = own.source {
            return Ok(this.clone().into_any());
        }
        let store = Bound::new(py, Store { core: Arc::clone(own.core()) })?;
        store.call_method0("read")?.get_item(this)
    }
}

/// Vectors to add, under ids or after the highest.
pub(crate) struct Added {
    ids: Option<Vec<u32>>,
    rows: Rows,
}

impl Added {
    pub(crate) fn of(
        ids: Option<&Bound<'_, PyAny>>,
        vectors: &Bound<'_, PyAny>,
        dims: usize,
        is_packed: bool,
    ) -> PyResult<Self> {
        let py = vectors.py();
        let rows = Rows::of(vectors, dims, is_packed)?;
        let ids = match ids {
            None => None,
            Some(ids) => {
                let (ids, is_one) = arrays::ids(ids)?;
                if ids.len() != rows.count || is_one && !rows.is_one && rows.count != 1 {
                    let message = format!(
                        "{} ids need as many vectors, got {}: pass one row for each id",
                        ids.len(),
                        rows.count
                    );
                    return Err(Class::InvalidVector.err(py, message));
                }
                Some(ids)
            }
        };
        Ok(Self { ids, rows })
    }

    /// Adds them, and returns their ids.
    pub(crate) fn add_to(
        &self,
        txn: &mut spinney::WriteTxn<'_>,
        index: &spinney::Index,
    ) -> Result<Vec<i64>, Error> {
        let ids = match &self.ids {
            Some(ids) => ids.clone(),
            None => {
                let first = txn.with_reader(index, |reader| {
                    Ok::<_, Error>(reader.id_set()?.max().map_or(0, |id| u64::from(id) + 1))
                })?;
                let ids = (first..).take(self.rows.count).map(|id| {
                    u32::try_from(id).map_err(|_| Error::InvalidOption {
                        name: "ids",
                        expected: "ids of your own, as the highest possible one is taken",
                        got: "none".to_owned(),
                    })
                });
                ids.collect::<Result<_, _>>()?
            }
        };
        index.add_items(txn, &ids, &self.rows.data)?;
        Ok(ids.into_iter().map(i64::from).collect())
    }
}

/// Deletes items, and counts those that were there.
pub(crate) fn delete(
    txn: &mut spinney::WriteTxn<'_>,
    index: &spinney::Index,
    ids: &[u32],
) -> Result<u64, Error> {
    let mut deleted = 0;
    for id in ids {
        deleted += u64::from(index.del_item(txn, *id)?);
    }
    Ok(deleted)
}

/// The `k` of a search: 10 if none is given.
pub(crate) fn hits_wanted(k: Option<&Bound<'_, PyAny>>) -> PyResult<usize> {
    k.map_or(Ok(10), |k| count("k", k))
}

/// For pickles: the index of this name.
#[pyfunction]
#[pyo3(name = "_open_index")]
pub(crate) fn open_index<'py>(
    store: &Bound<'py, Store>,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    store.call_method1("index", (name,))
}
