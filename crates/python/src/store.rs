//! Stores.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use spinney::{AuditKey, BackupOptions, Error};

use crate::collection::Collection;
use crate::collection::keys::Keys;
use crate::core::Core;
use crate::errors::raised;
use crate::hits::record;
use crate::how::seconds;
use crate::index::Index;
use crate::options::{OpenOptions, asked};
use crate::snapshot::Snapshot;
use crate::wait::on_thread;
use crate::write::WriteTxn;

/// A file of indexes and collections. A context manager that closes it.
#[pyclass(frozen, module = "spinney", name = "Store")]
pub(crate) struct Store {
    pub(crate) core: Arc<Core>,
}

impl Store {
    /// Calls the library with the store, while the interpreter is free.
    fn call<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&spinney::Store) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        let store = self.core.store(py)?;
        py.detach(|| work(&store)).map_err(|error| raised(py, error))
    }

    /// As `call`, for what writes: signals are looked after.
    fn change<T: Send + 'static>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&spinney::Store) -> Result<T, Error> + Send + 'static,
    ) -> PyResult<T> {
        self.core.check_writer(py)?;
        let store = self.core.store(py)?;
        on_thread(py, None, move |_| work(&store))
    }
}

#[pymethods]
impl Store {
    #[new]
    #[pyo3(signature = (path, *, map_size=None, read_only=false, sealed=false, single_file=false,
        create=true, threads=None, max_readers=1024, durability="full"))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        map_size: Option<usize>,
        read_only: bool,
        sealed: bool,
        single_file: bool,
        create: bool,
        threads: Option<usize>,
        max_readers: u32,
        durability: &str,
    ) -> PyResult<Self> {
        let options = OpenOptions {
            map_size,
            read_only,
            sealed,
            single_file,
            create,
            threads,
            max_readers,
            durability: durability.to_owned(),
        };
        Ok(Self { core: Arc::new(options.open(py, path)?) })
    }

    #[pyo3(signature = (name, dims=None, metric=None, *, storage=None))]
    fn index(
        &self,
        py: Python<'_>,
        name: &str,
        dims: Option<usize>,
        metric: Option<&str>,
        storage: Option<&str>,
    ) -> PyResult<Index> {
        let found = self.call(py, |store| store.open_index(name))?;
        let known = found.map(|found| (found.dims(), found.metric()));
        let options = asked(py, name, known, dims, metric, storage)?;
        let name = name.to_owned();
        let open = move |store: &spinney::Store| store.index(&name, &options);
        // What is there needs no transaction of its own. It says what does not fit.
        let index = if known.is_some() { self.call(py, open)? } else { self.change(py, open)? };
        Ok(Index::new(Arc::clone(&self.core), index))
    }

    #[pyo3(signature = (name, dims=None, metric=None, *, storage=None, keys="str"))]
    fn collection(
        &self,
        py: Python<'_>,
        name: &str,
        dims: Option<usize>,
        metric: Option<&str>,
        storage: Option<&str>,
        keys: &str,
    ) -> PyResult<Collection> {
        let keys = Keys::of(keys, py)?;
        let found = self.call(py, |store| store.open_collection(name))?;
        let known = found.map(|found| (found.dims(), found.metric()));
        let options = asked(py, name, known, dims, metric, storage)?;
        let name = name.to_owned();
        let open = move |store: &spinney::Store| store.collection(&name, &options);
        // What is there needs no transaction of its own. It says what does not fit.
        let collection =
            if known.is_some() { self.call(py, open)? } else { self.change(py, open)? };
        Ok(Collection::new(Arc::clone(&self.core), collection, keys))
    }

    fn indexes(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.call(py, spinney::Store::indexes)
    }

    fn collections(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.call(py, spinney::Store::collections)
    }

    /// Deletes the index or collection of this name. Whether it was there.
    fn drop(&self, py: Python<'_>, name: String) -> PyResult<bool> {
        self.change(py, move |store| {
            if store.collections()?.contains(&name) {
                store.delete_collection(&name)
            } else {
                store.delete_index(&name)
            }
        })
    }

    fn rename(&self, py: Python<'_>, name: String, new_name: String) -> PyResult<()> {
        self.change(py, move |store| store.rename(&name, &new_name))
    }

    #[pyo3(signature = (name, pending))]
    fn set_build_after(&self, py: Python<'_>, name: String, pending: Option<u32>) -> PyResult<()> {
        self.change(py, move |store| store.set_build_after(&name, pending))
    }

    #[pyo3(signature = (*, timeout=None))]
    fn write(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<WriteTxn> {
        let limit = timeout.map(|timeout| seconds("timeout", timeout)).transpose()?;
        WriteTxn::begin(py, &self.core, limit)
    }

    fn read(&self, py: Python<'_>) -> PyResult<Snapshot> {
        Snapshot::begin(py, &self.core)
    }

    #[pyo3(signature = (path, *, compact=false, overwrite=false))]
    fn backup<'py>(
        &self,
        py: Python<'py>,
        path: PathBuf,
        compact: bool,
        overwrite: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let options = BackupOptions::default().compact(compact).overwrite(overwrite);
        let backup = self.change(py, move |store| store.backup_with(path, &options))?;
        let fields = PyDict::new(py);
        fields.set_item("bytes", backup.bytes)?;
        fields.set_item("txn_id", backup.txn_id)?;
        record(py, "Backup", &fields)
    }

    /// Makes a store of a backup at a path where nothing is, and opens it.
    #[staticmethod]
    #[pyo3(signature = (backup, path, *, single_file=false))]
    fn restore(
        py: Python<'_>,
        backup: PathBuf,
        path: PathBuf,
        single_file: bool,
    ) -> PyResult<Self> {
        let options = OpenOptions {
            map_size: None,
            read_only: false,
            sealed: false,
            single_file,
            create: true,
            threads: None,
            max_readers: 1024,
            durability: "full".to_owned(),
        };
        let made = path.clone();
        let restored = on_thread(py, None, move |_| {
            let options = spinney::Store::options().single_file(single_file);
            spinney::Store::restore(backup, made, &options)
        })?;
        let opened = options.open(py, path)?;
        py.detach(|| drop(restored));
        Ok(Self { core: Arc::new(opened) })
    }

    /// What is wrong with the store, in words; nothing if it is sound.
    fn verify(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let found = self.change(py, |store| store.verify())?;
        let of_index = found.indexes.iter().flat_map(|index| {
            let name = index.name.clone().unwrap_or_else(|| index.number.to_string());
            index
                .found
                .violations
                .iter()
                .map(move |found| format!("{} in index {name:?}", found.what))
        });
        Ok(found.faults.iter().cloned().chain(of_index).collect())
    }

    /// Rebuilds a damaged index or collection from what can be read. Returns the ids of vectors and
    /// the keys of documents that were lost.
    #[pyo3(signature = (name, dims, metric, *, storage=None))]
    fn repair<'py>(
        &self,
        py: Python<'py>,
        name: String,
        dims: usize,
        metric: &str,
        storage: Option<&str>,
    ) -> PyResult<(Vec<u32>, Bound<'py, PyList>)> {
        let options = asked(py, &name, None, Some(dims), Some(metric), storage)?;
        let is_collection = self.call(py, spinney::Store::collections)?.contains(&name);
        let repaired = self.change(py, move |store| {
            let build = spinney::BuildOptions::default();
            if is_collection {
                let repair = store.repair_collection(&name, &options, &build)?;
                return Ok((repair.index.lost, repair.lost));
            }
            Ok((store.repair(&name, &options, &build)?.lost, Vec::new()))
        })?;
        let (ids, keys) = repaired;
        let keys = keys.iter().map(|key| PyBytes::new(py, key.as_bytes()));
        Ok((ids, PyList::new(py, keys)?))
    }

    /// Reads the nodes, and vectors up to so many bytes, into memory. Returns the bytes read.
    #[pyo3(signature = (max_item_bytes=u64::MAX))]
    fn warm(&self, py: Python<'_>, max_item_bytes: u64) -> PyResult<u64> {
        let warmed = self.change(py, move |store| store.warm(max_item_bytes))?;
        Ok(warmed.branch_bytes + warmed.leaf_bytes + warmed.item_bytes)
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let stats = self.call(py, spinney::Store::stats)?;
        let fields = PyDict::new(py);
        fields.set_item("file_bytes", stats.file_bytes)?;
        fields.set_item("page_bytes", stats.page_bytes)?;
        fields.set_item("free_pages", stats.free_pages)?;
        fields.set_item("map_bytes", stats.map_bytes)?;
        fields.set_item("last_commit", stats.last_commit)?;
        fields.set_item("pending", stats.pending)?;
        fields.set_item("readers", stats.readers)?;
        let oldest = stats.oldest_reader;
        fields.set_item("oldest_reader_age", oldest.map(|oldest| oldest.age.as_secs_f64()))?;
        fields.set_item("oldest_reader_lag", oldest.map(|oldest| oldest.lag))?;
        record(py, "StoreStats", &fields)
    }

    /// The same store, whose commits bear this name in the audit log.
    fn acting_as(&self, py: Python<'_>, actor: &str) -> PyResult<Self> {
        let store = self.call(py, |store| store.acting_as(actor))?;
        let options = self.core.options.clone();
        Ok(Self { core: Arc::new(Core::new(store, self.core.threads, options)) })
    }

    fn set_audit(&self, py: Python<'_>, yes: bool) -> PyResult<()> {
        self.change(py, move |store| store.set_audit(yes))
    }

    #[getter]
    fn is_audited(&self, py: Python<'_>) -> PyResult<bool> {
        self.call(py, spinney::Store::is_audited)
    }

    /// The entries of the audit log from this number on.
    #[pyo3(signature = (first=1))]
    fn audit_log<'py>(&self, py: Python<'py>, first: u64) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let entries =
            self.call(py, |store| store.audit_log(first)?.collect::<Result<Vec<_>, _>>())?;
        let mut records = Vec::with_capacity(entries.len());
        for entry in entries {
            let mut changes = Vec::new();
            for change in &entry.changes {
                let keys: Vec<_> = change
                    .keys
                    .iter()
                    .map(|key| match key {
                        AuditKey::Id(id) => Ok(id.into_pyobject(py)?.into_any()),
                        AuditKey::Key(key) => Ok(PyBytes::new(py, key).into_any()),
                        _ => Ok(py.None().into_bound(py)),
                    })
                    .collect::<PyResult<_>>()?;
                let action = snake_case(&format!("{:?}", change.action));
                changes.push((action, &change.name, change.count, PyTuple::new(py, keys)?));
            }
            let fields = PyDict::new(py);
            fields.set_item("sequence", entry.sequence)?;
            let time = Duration::from_millis(entry.time_ms).as_secs_f64();
            fields.set_item("time", time)?;
            fields.set_item("actor", &entry.actor)?;
            fields.set_item("changes", PyTuple::new(py, changes)?)?;
            records.push(record(py, "AuditEntry", &fields)?);
        }
        Ok(records)
    }

    /// Deletes the entries of the audit log that are older than so many seconds. Returns how many.
    fn trim_audit(&self, py: Python<'_>, older_than: &Bound<'_, PyAny>) -> PyResult<u64> {
        let age = seconds("older_than", older_than)?;
        let before = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        self.change(py, move |store| store.trim_audit(before))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.core.close(py)
    }

    #[getter]
    fn closed(&self) -> bool {
        self.core.is_closed()
    }

    #[getter]
    fn path(&self) -> PathBuf {
        self.core.path.clone()
    }

    #[getter]
    fn last_txn_id(&self, py: Python<'_>) -> PyResult<usize> {
        self.call(py, |store| Ok(store.snapshot()?.txn_id()))
    }

    fn __enter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    /// An exception goes on, even if the store cannot be closed.
    #[pyo3(signature = (raised, *_rest))]
    fn __exit__(
        &self,
        py: Python<'_>,
        raised: &Bound<'_, PyAny>,
        _rest: &Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        let closed = self.core.close(py);
        if raised.is_none() { closed } else { Ok(()) }
    }

    fn __repr__(&self) -> String {
        let closed = if self.core.is_closed() { ", closed" } else { "" };
        format!("Store({:?}{closed})", self.core.path)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let open = py.import("spinney._native")?.getattr("_reopen")?;
        let options = self.core.options.to_dict(py)?;
        (open, (self.core.path.clone(), options)).into_pyobject(py)
    }
}

/// `PutDocument` is "put_document".
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

/// For pickles: the store of this path and these options.
#[pyfunction]
#[pyo3(name = "_reopen")]
pub(crate) fn reopen<'py>(
    py: Python<'py>,
    path: PathBuf,
    options: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    py.get_type::<Store>().call((path,), Some(options))
}
