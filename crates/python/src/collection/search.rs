//! Searches for documents.

use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use spinney::{
    DocumentExample, DocumentHit, DocumentKey, Documents, Error, Hits, Nns, StoreSnapshot,
};

use crate::arrays::Rows;
use crate::collection::Collection;
use crate::errors::raised;
use crate::how::{Group, How};
use crate::search::in_pool;

/// Rows that are searched for between two looks at signals.
const AT_ONCE: usize = 256;

type Builder<'a> = Nns<'a, Documents<'a, StoreSnapshot>>;

/// A key or a vector, as an example.
pub(super) enum Given {
    Key(DocumentKey),
    Vector(Vec<f32>),
}

pub(super) fn borrowed(given: &[Given]) -> Vec<DocumentExample<'_>> {
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
    pub(super) fn examples(&self, values: &Bound<'_, PyAny>) -> PyResult<Vec<Given>> {
        if let Ok(key) = self.key(values) {
            return Ok(vec![Given::Key(key)]);
        }
        let mut given = Vec::new();
        for value in values.try_iter()? {
            let value = value?;
            given.push(match self.key(&value) {
                Ok(key) => Given::Key(key),
                Err(_) => Given::Vector(Rows::of(&value, self.collection.dims(), false)?.data),
            });
        }
        Ok(given)
    }

    /// A search with these options. Once `stop` is set, functions of Python are called no more.
    fn nns<'a>(
        &'a self,
        snapshot: &'a StoreSnapshot,
        k: usize,
        how: &'a How,
        stop: Option<&'a AtomicBool>,
    ) -> Builder<'a> {
        let mut nns = how.options(self.collection.search(snapshot, k)).payload(how.has_payload);
        if let Some(filter) = &how.labelled {
            nns = nns.labelled(filter.clone());
        }
        if how.stop.is_some() {
            nns = nns.cancel(|| match how.is_stopped(None) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            });
        }
        let written =
            |key: &DocumentKey| Python::attach(|py| self.keys.write(py, key).map(Bound::unbind));
        if let Some(function) = &how.predicate {
            nns = nns.try_filter_fn(move |key| how.admits(function, written(key)?, stop));
        }
        if let Some(Group::Function(group)) = &how.group {
            nns = nns.try_per_group(how.per_group, move |key| Group::ask(group, written(key)?));
        }
        nns
    }

    /// One search: its hits as a list.
    pub(super) fn ask<'py>(
        &self,
        py: Python<'py>,
        k: usize,
        how: &How,
        answer: impl FnOnce(Builder<'_>) -> Result<Hits<DocumentHit>, Error> + Send,
    ) -> PyResult<Bound<'py, PyAny>> {
        let snapshot = self.source.snapshot(py)?;
        let hits = py.detach(|| answer(self.nns(&snapshot, k, how, None)));
        self.hits(py, hits.map_err(|error| raised(py, error))?)
    }

    /// A search for each row, shared among threads: a list of lists.
    pub(super) fn ask_rows<'py>(
        &self,
        py: Python<'py>,
        k: usize,
        how: &How,
        rows: &Rows,
    ) -> PyResult<Bound<'py, PyAny>> {
        let snapshot = self.source.snapshot(py)?;
        let pool = self.core().pool(py, how.threads.unwrap_or(self.core().threads))?;
        let numbers = AT_ONCE * self.collection.dims().max(1);
        let mut all = Vec::with_capacity(rows.count);
        // Without rows, too, there are options to be checked.
        for some in rows.data.chunks(numbers).chain(rows.data.is_empty().then_some(&[][..])) {
            let stop = AtomicBool::new(false);
            let work = || self.nns(&snapshot, k, how, Some(&stop)).by_vectors(some);
            for hits in in_pool(py, &pool, &stop, work)? {
                all.push(self.hits(py, hits)?);
            }
        }
        Ok(PyList::new(py, all)?.into_any())
    }

    fn hits<'py>(&self, py: Python<'py>, hits: Hits<DocumentHit>) -> PyResult<Bound<'py, PyAny>> {
        let class = py.import("spinney._records")?.getattr("DocumentHit")?;
        let hits = hits.into_iter().map(|hit| {
            let payload = hit.payload.map(|payload| PyBytes::new(py, &payload));
            class.call1((self.keys.write(py, &hit.key)?, hit.distance, payload))
        });
        Ok(PyList::new(py, hits.collect::<PyResult<Vec<_>>>()?)?.into_any())
    }
}
