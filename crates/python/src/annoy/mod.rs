//! `AnnoyIndex`: a drop-in for that of Annoy 1.17.3, over an index of ours.

mod args;
mod batch;
mod file;
mod filling;
mod folder;
mod map;
mod metric;
mod ours;
pub(crate) mod raw;
mod state;
mod walk;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyException, PyFutureWarning, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use spinney::BuildStats;
use spinney::rayon::ThreadPool;

use crate::annoy::args::{Int, Name, answer, check_metric, known_id, new_id, refused};
use crate::annoy::filling::{Build, Filling, build};
use crate::annoy::metric::Metric;
use crate::annoy::ours::{Effort, Query};
use crate::annoy::state::{Ready, Shared, Source, State, check_place};
use crate::wait::on_thread;

// Measured: docs/trials.md, "Effort of `AnnoyIndex`".
/// The target recall where no other effort was asked for.
const RECALL: f32 = 0.999;
/// More hits than this are searched for with as many comparisons as Annoy makes.
const MANY: i32 = 100;
/// How many trees stand for `n_trees=-1`.
const TREES: u32 = 10;
const MAX_DIMS: i32 = 65_536;

/// Vectors under ids, built once and searched by many: Annoy's interface over an index of ours.
#[pyclass(frozen, subclass, module = "spinney.annoy", name = "AnnoyIndex")]
pub(crate) struct AnnoyIndex {
    dims: usize,
    metric: Metric,
    is_updatable: bool,
    shared: Shared,
    /// Of what the user asked for; NaN if for nothing.
    recall: AtomicU32,
    seed: Mutex<Option<u64>>,
    is_verbose: AtomicBool,
    pool: Mutex<Option<(u32, Arc<ThreadPool>)>>,
}

impl AnnoyIndex {
    /// An id of an item that may be there.
    fn known(&self, py: Python<'_>, id: i64) -> PyResult<(u32, Option<Source>)> {
        let source = self.shared.source(py)?;
        let items = match &source {
            Some(source) => source.items(),
            None => self.items(),
        };
        Ok((known_id(id, items)?, source))
    }

    fn items(&self) -> u64 {
        match &*self.shared.lock() {
            State::Filling(filling) => filling.items,
            state => state.source().map_or(0, Source::items),
        }
    }

    /// The vector of an item; zeros for a hole.
    fn stored(&self, py: Python<'_>, id: u32, source: Option<&Source>) -> PyResult<Vec<f32>> {
        let found = match source {
            Some(source) => source.vector(id),
            None => match &*self.shared.lock() {
                State::Filling(filling) => filling.vector(id, self.dims),
                state => state.source().map_or(Ok(None), |source| source.vector(id)),
            },
        };
        let found = found.map_err(|error| refused(py, error))?;
        Ok(found.unwrap_or_else(|| vec![0.0; self.dims]))
    }

    /// How thorough a search for `n` hits is. `None` if it finds nothing.
    fn effort(&self, n: i32, search_k: i32, trees: usize) -> Option<Effort> {
        let recall = f32::from_bits(self.recall.load(Ordering::Relaxed));
        Some(match search_k {
            0 => return None,
            -1 if !recall.is_nan() => Effort::Recall(recall),
            -1 if n < 0 => Effort::All,
            -1 if n <= MANY => Effort::Recall(RECALL),
            -1 => Effort::SearchK(usize::try_from(n).unwrap_or(0).saturating_mul(trees)),
            search_k => usize::try_from(search_k).map_or(Effort::All, Effort::SearchK),
        })
    }

    fn nearest(
        &self,
        py: Python<'_>,
        source: Option<Source>,
        query: Query<'_>,
        n: i32,
        search_k: i32,
    ) -> PyResult<Vec<(u32, f64)>> {
        let found = match source {
            None => return Ok(Vec::new()),
            Some(Source::Annoys(file)) => py.detach(|| {
                let vector = match query {
                    Query::Vector(vector) => vector.to_vec(),
                    Query::Item(id) => file.vector(id).unwrap_or_default(),
                };
                Ok(walk::nearest(&file, &vector, n, search_k))
            }),
            Some(Source::Ours(ours)) => {
                let trees = ours.facts.trees as usize;
                let Some(effort) = self.effort(n, search_k, trees) else { return Ok(Vec::new()) };
                let count = usize::try_from(n).unwrap_or(usize::MAX);
                py.detach(|| ours.nearest(query, count, effort))
            }
        };
        found.map_err(|error| refused(py, error))
    }

    /// `None` stands for the default.
    fn seed(&self) -> MutexGuard<'_, Option<u64>> {
        self.seed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Threads of this process, made when first asked for.
    fn threads(&self, count: usize) -> PyResult<Arc<ThreadPool>> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let process = std::process::id();
        if let Some((owner, pool)) = &*pool {
            if *owner != process {
                // Its threads are the parent's, and cannot be ended here.
                std::mem::forget(Arc::clone(pool));
            } else if pool.current_num_threads() == count {
                return Ok(Arc::clone(pool));
            }
        }
        let made = spinney::rayon::ThreadPoolBuilder::new().num_threads(count).build();
        let made = Arc::new(made.map_err(|error| PyException::new_err(error.to_string()))?);
        *pool = Some((process, Arc::clone(&made)));
        Ok(made)
    }

    fn wanted(&self, trees: i32, jobs: i32) -> PyResult<Build> {
        let trees = match trees {
            -1 => TREES,
            trees => u32::try_from(trees)
                .map_err(|_| PyValueError::new_err("n_trees takes -1, or 0 and more"))?,
        };
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = match jobs {
            -1 => all(),
            jobs => usize::try_from(jobs)
                .ok()
                .filter(|&jobs| jobs > 0)
                .ok_or_else(|| PyValueError::new_err("n_jobs takes -1, or 1 and more"))?,
        };
        let seed = *self.seed();
        let pool = self.threads(threads)?;
        Ok(Build { metric: self.metric, dims: self.dims, trees, seed, pool })
    }

    /// Builds what was built before and changed since.
    fn build_again(&self, py: Python<'_>, wanted: Build) -> PyResult<()> {
        let mut taken = self.shared.take(py)?;
        let ours = taken.editable(py)?;
        let (ours, stats) = on_thread(py, None, move |ticker| {
            ours.change(|txn, index, facts| {
                facts.trees = wanted.trees;
                build(&wanted, &|progress| ticker.report(progress), |options| {
                    index.build(txn, options)
                })
            })
        })?;
        taken.state = State::Ready(Ready::built(ours, false));
        self.tell(&stats);
        Ok(())
    }

    fn tell(&self, stats: &BuildStats) {
        if self.is_verbose.load(Ordering::Relaxed) {
            let (items, leaves, branches) = (stats.items, stats.leaves, stats.branches);
            eprintln!("built {items} items in {leaves} leaves and {branches} branches");
        }
    }
}

#[pymethods]
impl AnnoyIndex {
    #[new]
    #[pyo3(signature = (f, metric=Name(None), *, updatable=false))]
    fn new(py: Python<'_>, f: Int, metric: Name, updatable: bool) -> PyResult<Self> {
        let Some(dims) = usize::try_from(f.0).ok().filter(|_| (1..=MAX_DIMS).contains(&f.0)) else {
            return Err(PyValueError::new_err(format!("f takes 1 to {MAX_DIMS}, got {}", f.0)));
        };
        if metric.0.is_none() {
            let message = c"The default argument for metric will be removed in future version of \
                            Annoy. Please pass metric='angular' explicitly.";
            PyErr::warn(py, &py.get_type::<PyFutureWarning>(), message, 1)?;
        }
        Ok(Self {
            dims,
            metric: check_metric(metric.0.as_deref().unwrap_or("angular"))?,
            is_updatable: updatable,
            shared: Shared::default(),
            recall: AtomicU32::new(f32::NAN.to_bits()),
            seed: Mutex::default(),
            is_verbose: AtomicBool::new(false),
            pool: Mutex::default(),
        })
    }

    /// Classes beneath may call it with what they were given.
    #[pyo3(signature = (*_args, **_kwargs))]
    fn __init__(&self, _args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) {}

    /// The length of the vectors.
    #[getter]
    fn f(&self) -> usize {
        self.dims
    }

    /// The name of the metric.
    #[getter]
    fn metric(&self) -> &'static str {
        self.metric.name()
    }

    /// Whether items can be changed after a build, a save and a load.
    #[getter]
    fn updatable(&self) -> bool {
        self.is_updatable
    }

    /// The share of the true neighbours that searches with `search_k=-1` find.
    #[getter]
    fn recall(&self) -> f32 {
        let recall = f32::from_bits(self.recall.load(Ordering::Relaxed));
        if recall.is_nan() { RECALL } else { recall }
    }

    #[setter]
    fn set_recall(&self, recall: f32) -> PyResult<()> {
        if !(recall > 0.0 && recall <= 1.0) {
            let message = format!("recall takes a number above 0 and at most 1, got {recall}");
            return Err(PyValueError::new_err(message));
        }
        self.recall.store(recall.to_bits(), Ordering::Relaxed);
        Ok(())
    }

    /// Adds a vector under an id, or puts it in the place of an earlier one.
    fn add_item(&self, i: Int, vector: &Bound<'_, PyAny>) -> PyResult<()> {
        let id = new_id(i)?;
        let row = args::vector(vector, self.dims, self.metric)?;
        raw::add(vector.py(), self, id, &row)
    }

    /// Deletes an item of an updatable index. Whether it was there.
    fn delete_item(&self, py: Python<'_>, i: i64) -> PyResult<bool> {
        if !self.is_updatable {
            let message = "You can't delete an item unless the index is made with updatable=True";
            return Err(PyException::new_err(message));
        }
        let (id, _) = self.known(py, i)?;
        let mut taken = self.shared.take(py)?;
        if let State::Filling(filling) = &mut taken.state {
            let filling = Arc::get_mut(filling).ok_or_else(raw::in_use)?;
            return filling.delete(id).map_err(|error| refused(py, error));
        }
        let ours = taken.editable(py)?;
        let deleted = py.detach(|| {
            ours.change(|txn, index, facts| Ok(index.del_item(txn, id)? || facts.zeros.remove(id)))
        });
        let (ours, was_there) = deleted.map_err(|error| refused(py, error))?;
        taken.state = State::Ready(Ready::built(ours, false));
        Ok(was_there)
    }

    /// Builds the index. `n_trees` is remembered, and `n_jobs` are the threads that build.
    #[pyo3(signature = (n_trees, n_jobs=Int(-1)), text_signature = "($self, n_trees, n_jobs=-1)")]
    fn build(&self, py: Python<'_>, n_trees: Int, n_jobs: Int) -> PyResult<bool> {
        let wanted = self.wanted(n_trees.0, n_jobs.0)?;
        let mut taken = self.shared.take(py)?;
        if let State::Ready(ready) = &taken.state {
            if self.is_updatable {
                drop(taken);
                return self.build_again(py, wanted).map(|()| true);
            }
            let kind = if ready.loaded.is_some() { "loaded" } else { "built" };
            return Err(PyException::new_err(format!("You can't build a {kind} index")));
        }
        let filling = Arc::clone(taken.filling("")?);
        let (built, stats) = on_thread(py, None, move |ticker| {
            filling.build(&wanted, &|progress| ticker.report(progress))
        })?;
        let target = taken.filling("")?.target.clone();
        if let Some(target) = &target
            && let Err(error) = built.move_to(target)
        {
            // Nothing is lost: the build can be tried again.
            let mut filling = Filling::of(Arc::new(built));
            filling.target = Some(target.clone());
            taken.state = State::Filling(Arc::new(filling));
            return Err(refused(py, error));
        }
        // Who reads nothing else has the file open to be written.
        taken.state = State::default();
        let built = if self.is_updatable && target.is_none() {
            built
        } else {
            py.detach(|| built.seal(target.as_deref())).map_err(|error| refused(py, error))?
        };
        taken.state = State::Ready(Ready::built(built, target.is_some()));
        self.tell(&stats);
        Ok(true)
    }

    /// Takes the build back, so that items can be added.
    fn unbuild(&self, py: Python<'_>) -> PyResult<bool> {
        let mut taken = self.shared.take(py)?;
        if let State::Ready(ready) = &taken.state {
            let Source::Ours(ours) = &ready.source else {
                return Err(PyException::new_err("You can't unbuild a loaded index"));
            };
            if ready.loaded.is_some() {
                return Err(PyException::new_err("You can't unbuild a loaded index"));
            }
            taken.state = State::Filling(Arc::new(Filling::of(Arc::clone(ours))));
        }
        Ok(true)
    }

    /// Saves the index in a file, in place of what was there, and loads it.
    #[pyo3(signature = (r#fn, prefault=Int(0)), text_signature = "($self, fn, prefault=False)")]
    fn save(&self, py: Python<'_>, r#fn: PathBuf, prefault: Int) -> PyResult<bool> {
        // A child of the process that built it opens it for itself.
        self.shared.source(py)?;
        let mut taken = self.shared.take(py)?;
        let ready = taken.ready()?;
        if ready.is_in_file {
            return Ok(true);
        }
        let source = ready.source;
        py.detach(|| source.copy_to(&r#fn)).map_err(|error| refused(py, error))?;
        let loaded = Ready::load(py, &r#fn, self.metric, self.dims, prefault.0 != 0)?;
        taken.state = State::Ready(loaded);
        Ok(true)
    }

    /// Opens a file of ours, or one that Annoy saved.
    #[pyo3(signature = (r#fn, prefault=Int(0)), text_signature = "($self, fn, prefault=False)")]
    fn load(&self, py: Python<'_>, r#fn: PathBuf, prefault: Int) -> PyResult<bool> {
        let mut taken = self.shared.take(py)?;
        let loaded = Ready::load(py, &r#fn, self.metric, self.dims, prefault.0 != 0)?;
        taken.state = State::Ready(loaded);
        Ok(true)
    }

    /// Forgets all: items, file, and seed.
    fn unload(&self, py: Python<'_>) -> PyResult<bool> {
        let mut taken = self.shared.take(py)?;
        taken.state = State::default();
        *self.seed() = None;
        Ok(true)
    }

    /// The index will be built in this file, with little memory, and needs not be saved.
    #[pyo3(signature = (r#fn))]
    fn on_disk_build(&self, py: Python<'_>, r#fn: PathBuf) -> PyResult<bool> {
        let mut taken = self.shared.take(py)?;
        check_place(py, &r#fn)?;
        let path = std::path::absolute(&r#fn)?;
        let filling = Filling::in_file(path, self.metric, self.dims);
        taken.state = State::Filling(Arc::new(filling.map_err(|error| refused(py, error))?));
        Ok(true)
    }

    /// The nearest items to an item, itself among them.
    #[pyo3(signature = (i, n, search_k=Int(-1), include_distances=Int(0)),
        text_signature = "($self, i, n, search_k=-1, include_distances=False)")]
    fn get_nns_by_item<'py>(
        &self,
        py: Python<'py>,
        i: i64,
        n: Int,
        search_k: Int,
        include_distances: Int,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (id, source) = self.known(py, i)?;
        let hits = self.nearest(py, source, Query::Item(id), n.0, search_k.0)?;
        answer(py, &hits, include_distances.0 != 0)
    }

    /// The nearest items to a vector.
    #[pyo3(signature = (vector, n, search_k=Int(-1), include_distances=Int(0)),
        text_signature = "($self, vector, n, search_k=-1, include_distances=False)")]
    fn get_nns_by_vector<'py>(
        &self,
        vector: &Bound<'py, PyAny>,
        n: Int,
        search_k: Int,
        include_distances: Int,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = vector.py();
        let query = args::vector(vector, self.dims, self.metric)?;
        let source = self.shared.source(py)?;
        let hits = self.nearest(py, source, Query::Vector(&query), n.0, search_k.0)?;
        answer(py, &hits, include_distances.0 != 0)
    }

    /// The nearest items to each row of an array, found by several threads: ids as int64 and
    /// distances as float64, -1 and NaN where there is no hit.
    #[pyo3(signature = (vectors, n, search_k=Int(-1)),
        text_signature = "($self, vectors, n, search_k=-1)")]
    fn nns_batch<'py>(
        &self,
        vectors: &Bound<'py, PyAny>,
        n: Int,
        search_k: Int,
    ) -> PyResult<Bound<'py, PyTuple>> {
        batch::nns(vectors, self, n.0, search_k.0)
    }

    /// The vector of an item; zeros if there is none.
    #[pyo3(signature = (i, /))]
    fn get_item_vector<'py>(&self, py: Python<'py>, i: i64) -> PyResult<Bound<'py, PyList>> {
        let (id, source) = self.known(py, i)?;
        let vector = self.stored(py, id, source.as_ref())?;
        PyList::new(py, vector.iter().map(|&x| f64::from(x)))
    }

    /// The distance between two items, or their product under dot.
    #[pyo3(signature = (i, j, /))]
    fn get_distance(&self, py: Python<'_>, i: i64, j: i64) -> PyResult<f64> {
        let ((i, _), (j, source)) = (self.known(py, i)?, self.known(py, j)?);
        let (a, b) = (self.stored(py, i, source.as_ref())?, self.stored(py, j, source.as_ref())?);
        Ok(self.metric.distance(&a, &b))
    }

    /// One more than the highest id.
    fn get_n_items(&self) -> u64 {
        self.items()
    }

    /// As many as were asked for; 0 before the build.
    fn get_n_trees(&self) -> usize {
        self.shared.lock().source().map_or(0, Source::trees)
    }

    /// Whether builds tell on the standard error stream what they did.
    #[pyo3(signature = (v, /))]
    fn verbose(&self, v: Int) -> bool {
        self.is_verbose.store(v.0 != 0, Ordering::Relaxed);
        true
    }

    /// The seed of the next builds. 0 is the default.
    #[pyo3(signature = (s, /))]
    fn set_seed(&self, s: Int) {
        *self.seed() = (s.0 != 0).then_some(i64::from(s.0).cast_unsigned());
    }

    fn __reduce__<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let (py, own) = (this.py(), this.get());
        let path = match &*own.shared.lock() {
            State::Ready(Ready { loaded: Some(path), .. }) => path.clone(),
            _ => {
                let message = "cannot pickle an AnnoyIndex that is not loaded: save it first";
                return Err(PyTypeError::new_err(message));
            }
        };
        let given = f32::from_bits(own.recall.load(Ordering::Relaxed));
        let recall = (!given.is_nan()).then_some(given);
        let state = (this.get_type(), own.dims, own.metric(), path, own.is_updatable, recall);
        (py.import("spinney.annoy")?.getattr("_reload")?, state).into_pyobject(py)
    }
}
