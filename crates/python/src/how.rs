//! How to search: the keyword arguments that all searches share.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use spinney::{Labels, Nns};

use crate::errors::Class;
use crate::id_set::IdSet;
use crate::labels;

/// What a search was asked for beside `k`.
#[derive(Default)]
pub(crate) struct How {
    recall: Option<f32>,
    search_k: Option<usize>,
    oversampling: Option<f32>,
    is_exact: bool,
    within: Option<f32>,
    beyond: Option<f32>,
    allowed: Option<IdSet>,
    deadline: Option<Instant>,
    pub(crate) predicate: Option<Py<PyAny>>,
    pub(crate) group: Option<Group>,
    pub(crate) per_group: usize,
    pub(crate) labelled: Option<Labels>,
    pub(crate) has_payload: bool,
    pub(crate) threads: Option<usize>,
    pub(crate) is_reported: bool,
    pub(crate) is_packed: bool,
    /// Ends the search from without.
    pub(crate) stop: Option<Stop>,
}

/// Which group an item is in.
pub(crate) enum Group {
    /// By id.
    Array(Vec<i64>),
    Function(Py<PyAny>),
}

/// Ends the searches that it was given to.
#[pyclass(frozen, module = "spinney._native")]
#[derive(Clone, Default)]
pub(crate) struct Stop(pub(crate) Arc<AtomicBool>);

#[pymethods]
impl Stop {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Ends the searches now.
    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Which keyword arguments a kind of search takes beside those of all.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Items,
    Documents,
}

impl How {
    pub(crate) fn of(given: Option<&Bound<'_, PyDict>>, kind: Kind) -> PyResult<Self> {
        let mut how = Self { per_group: 1, ..Self::default() };
        let Some(given) = given else { return Ok(how) };
        for (name, value) in given {
            let name = name.cast::<PyString>()?.to_str()?.to_owned();
            if !value.is_none() {
                how.set(&name, &value, kind)?;
            }
        }
        Ok(how)
    }

    fn set(&mut self, name: &str, value: &Bound<'_, PyAny>, kind: Kind) -> PyResult<()> {
        match (name, kind) {
            ("recall", _) => self.recall = Some(value.extract()?),
            ("search_k", _) => self.search_k = Some(count(name, value)?),
            ("oversampling", _) => self.oversampling = Some(value.extract()?),
            ("exact", _) => self.is_exact = value.is_truthy()?,
            ("within", _) => self.within = Some(value.extract()?),
            ("beyond", _) => self.beyond = Some(value.extract()?),
            ("timeout", _) => self.deadline = Some(after(value)?),
            ("predicate", _) => self.predicate = Some(function(name, value)?),
            ("threads", _) => self.threads = Some(count(name, value)?.max(1)),
            ("report", Kind::Items) => self.is_reported = value.is_truthy()?,
            ("packed", _) => self.is_packed = value.is_truthy()?,
            ("stop", _) => self.stop = Some(value.cast::<Stop>()?.get().clone()),
            ("allowed", Kind::Items) => self.allowed = Some(IdSet::of(value)?),
            ("group", Kind::Items) => self.group = Some(Group::of(value)?),
            ("group", Kind::Documents) => {
                self.group = Some(Group::Function(function(name, value)?))
            }
            ("per_group", _) => self.per_group = count(name, value)?,
            ("labelled", Kind::Documents) => self.labelled = Some(labels::of(value)?),
            ("payload", Kind::Documents) => self.has_payload = value.is_truthy()?,
            _ => {
                let message = format!("search() got an unexpected keyword argument '{name}'");
                return Err(PyTypeError::new_err(message));
            }
        }
        Ok(())
    }

    /// The options that all kinds of searches have.
    pub(crate) fn options<'a, E>(&'a self, mut nns: Nns<'a, E>) -> Nns<'a, E> {
        if let Some(recall) = self.recall {
            nns = nns.recall(recall);
        }
        if let Some(sketches) = self.search_k {
            nns = nns.search_k(sketches);
        }
        if let Some(factor) = self.oversampling {
            nns = nns.oversampling(factor);
        }
        if self.is_exact {
            nns = nns.exact();
        }
        if let Some(distance) = self.within {
            nns = nns.within(distance);
        }
        if let Some(distance) = self.beyond {
            nns = nns.beyond(distance);
        }
        if let Some(allowed) = &self.allowed {
            nns = nns.filter(&allowed.0);
        }
        nns.deadline(self.deadline)
    }

    /// The options of searches for items.
    pub(crate) fn for_items<'a>(&'a self, nns: Nns<'a>, stop: Option<&'a AtomicBool>) -> Nns<'a> {
        let mut nns = self.options(nns);
        if stop.is_some() || self.stop.is_some() {
            nns = nns.cancel(move || {
                if self.is_stopped(stop) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
        }
        if let Some(admits) = &self.predicate {
            nns = nns.try_filter_fn(move |id| self.admits(admits, id, stop));
        }
        if let Some(group) = &self.group {
            nns = nns.try_per_group(self.per_group, |id| group.number(id));
        }
        nns
    }

    /// Asks a function of Python whether it admits a key or an id. Nothing is admitted once the
    /// search is to end: these functions take most of its time.
    pub(crate) fn admits<K: for<'py> IntoPyObject<'py>>(
        &self,
        function: &Py<PyAny>,
        key: K,
        stop: Option<&AtomicBool>,
    ) -> PyResult<bool> {
        if self.is_stopped(stop) {
            return Ok(false);
        }
        Python::attach(|py| function.bind(py).call1((key,))?.is_truthy())
    }

    /// Whether the search is to end.
    pub(crate) fn is_stopped(&self, stop: Option<&AtomicBool>) -> bool {
        let own = self.stop.as_ref().map(|stop| &*stop.0);
        own.into_iter().chain(stop).any(|flag| flag.load(Ordering::Relaxed))
    }
}

impl Group {
    fn of(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if value.is_callable() {
            return Ok(Self::Function(value.clone().unbind()));
        }
        let array = value.py().import("spinney._arrays")?.call_method1("groups", (value,))?;
        Ok(Self::Array(array.extract()?))
    }

    #[expect(clippy::cast_sign_loss, reason = "a number for another")]
    fn number(&self, id: u32) -> PyResult<u64> {
        match self {
            Self::Array(groups) => match groups.get(id as usize) {
                Some(group) => Ok(*group as u64),
                None => Python::attach(|py| {
                    let message = format!(
                        "item {id} has no group, as the array ends at {}: give one for each id",
                        groups.len()
                    );
                    Err(Class::InvalidOption.err(py, message))
                }),
            },
            Self::Function(function) => Self::ask(function, id),
        }
    }

    /// The group that a function gives an id or a key.
    #[expect(clippy::cast_sign_loss, reason = "a number for another")]
    pub(crate) fn ask<K>(function: &Py<PyAny>, key: K) -> PyResult<u64>
    where
        K: for<'py> IntoPyObject<'py>,
    {
        Python::attach(|py| Ok(function.bind(py).call1((key,))?.extract::<i64>()? as u64))
    }
}

/// A number of things: 0 or more.
pub(crate) fn count(name: &str, value: &Bound<'_, PyAny>) -> PyResult<usize> {
    let number: i64 = value.extract()?;
    usize::try_from(number).map_err(|_| {
        let message = format!("{name} takes 0 or more, got {number}");
        Class::InvalidOption.err(value.py(), message)
    })
}

/// So many seconds from now.
pub(crate) fn seconds(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds: f64 = value.extract()?;
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        let message = format!("{name} takes seconds, 0 or more, got {seconds}");
        Class::InvalidOption.err(value.py(), message)
    })
}

fn after(value: &Bound<'_, PyAny>) -> PyResult<Instant> {
    let wait = seconds("timeout", value)?;
    let now = Instant::now();
    // What is too far away for the clock is far enough.
    Ok(now.checked_add(wait).unwrap_or(now + Duration::from_secs(1 << 30)))
}

fn function(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    if value.is_callable() {
        return Ok(value.clone().unbind());
    }
    Err(PyTypeError::new_err(format!("{name} must be a function")))
}
