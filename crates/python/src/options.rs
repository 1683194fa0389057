//! Options of stores and of indexes.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use spinney::{Durability, IndexOptions, Metric, Storage};

use crate::core::Core;
use crate::errors::{Class, raised};

/// How a store was opened, to open it again.
#[derive(Clone)]
pub(crate) struct OpenOptions {
    pub(crate) map_size: Option<usize>,
    pub(crate) read_only: bool,
    pub(crate) sealed: bool,
    pub(crate) single_file: bool,
    pub(crate) create: bool,
    pub(crate) threads: Option<usize>,
    pub(crate) max_readers: u32,
    pub(crate) durability: String,
}

impl OpenOptions {
    pub(crate) fn open(&self, py: Python<'_>, path: PathBuf) -> PyResult<Core> {
        let threads = match self.threads {
            Some(0) => return Err(Class::InvalidOption.err(py, "threads takes 1 or more, got 0")),
            Some(threads) => threads,
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let durability = match self.durability.as_str() {
            "full" => Durability::Full,
            "lose-last" => Durability::LoseLastCommit,
            "none" => Durability::None,
            other => {
                let message =
                    format!("durability takes \"full\", \"lose-last\" or \"none\", got {other:?}");
                return Err(Class::InvalidOption.err(py, message));
            }
        };
        let mut options = spinney::Store::options()
            .read_only(self.read_only)
            .sealed(self.sealed)
            .single_file(self.single_file)
            .create(self.create)
            .readers(self.max_readers)
            .search_threads(threads.saturating_mul(2).max(16))
            .durability(durability);
        if let Some(bytes) = self.map_size {
            options = options.map_limit(bytes);
        }
        let store = py.detach(|| options.open(path)).map_err(|error| raised(py, error))?;
        Ok(Core::new(store, threads, self.clone()))
    }

    pub(crate) fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let options = PyDict::new(py);
        options.set_item("map_size", self.map_size)?;
        options.set_item("read_only", self.read_only)?;
        options.set_item("sealed", self.sealed)?;
        options.set_item("single_file", self.single_file)?;
        // Where a pickle is read, the store may not be there.
        options.set_item("create", false)?;
        options.set_item("threads", self.threads)?;
        options.set_item("max_readers", self.max_readers)?;
        options.set_item("durability", &self.durability)?;
        Ok(options)
    }
}

/// What an index or a collection is to be. An error if neither it nor its dimensions are known.
pub(crate) fn asked(
    py: Python<'_>,
    name: &str,
    found: Option<(usize, Metric)>,
    dims: Option<usize>,
    metric: Option<&str>,
    storage: Option<&str>,
) -> PyResult<IndexOptions> {
    let invalid = |message: String| Class::InvalidOption.err(py, message);
    let Some(dims) = dims.or(found.map(|(dims, _)| dims)) else {
        let message = format!(
            "nothing in this store has the name {name:?}: pass dims and metric to create it"
        );
        return Err(Class::NotFound.err(py, message));
    };
    let metric: Metric = match (metric, found) {
        (Some(name), _) => name.parse().map_err(|error| invalid(format!("{error}")))?,
        (None, Some((_, metric))) => metric,
        (None, None) => {
            let message =
                "a new index needs a metric: pass metric=\"cosine\", or another of spinney.METRICS";
            return Err(invalid(message.to_owned()));
        }
    };
    let options = IndexOptions::new(dims, metric);
    storage.map_or(Ok(options), |storage| Ok(options.storage(storage_of(py, storage)?)))
}

pub(crate) fn storage_of(py: Python<'_>, name: &str) -> PyResult<Storage> {
    Ok(match name {
        "f32" => Storage::F32,
        "f16" => Storage::F16,
        "i8" => Storage::I8,
        "bits" => Storage::Bits,
        other => {
            let message =
                format!("storage takes \"f32\", \"f16\", \"i8\" or \"bits\", got {other:?}");
            return Err(Class::InvalidOption.err(py, message));
        }
    })
}
