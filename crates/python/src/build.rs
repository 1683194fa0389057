//! Options of builds, and what they did.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use spinney::rayon::ThreadPool;
use spinney::{BuildOptions, BuildStats, Error};

use crate::core::Core;
use crate::hits::record;
use crate::how::count;
use crate::wait::Ticker;

/// Options of a build, none of which is borrowed.
#[derive(Default)]
pub(crate) struct Building {
    trees: Option<usize>,
    spill: Option<bool>,
    leaf_size: Option<usize>,
    sketch_bits: Option<u8>,
    seed: Option<u64>,
    rebuild: bool,
    memory: Option<u64>,
    temp_dir: Option<PathBuf>,
    pool: Option<Arc<ThreadPool>>,
}

impl Building {
    pub(crate) fn of(
        py: Python<'_>,
        core: &Core,
        given: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let mut building = Self::default();
        let mut threads = core.threads;
        for (name, value) in given.into_iter().flatten() {
            if value.is_none() {
                continue;
            }
            match name.cast::<PyString>()?.to_str()? {
                "trees" => building.trees = Some(count("trees", &value)?),
                "spill" => building.spill = Some(value.extract()?),
                "leaf_size" => building.leaf_size = Some(count("leaf_size", &value)?),
                "sketch_bits" => building.sketch_bits = Some(value.extract()?),
                "seed" => building.seed = Some(value.extract()?),
                "rebuild" => building.rebuild = value.extract()?,
                "memory" => building.memory = Some(value.extract()?),
                "temp_dir" => building.temp_dir = Some(value.extract()?),
                "threads" => threads = count("threads", &value)?.max(1),
                other => {
                    let message = format!("build() got an unexpected keyword argument '{other}'");
                    return Err(PyTypeError::new_err(message));
                }
            }
        }
        building.pool = Some(core.pool(py, threads)?);
        Ok(building)
    }

    /// Builds, and tells of the progress.
    pub(crate) fn run<R: Send>(
        &self,
        ticker: &Ticker<R>,
        build: impl FnOnce(&BuildOptions<'_>) -> Result<BuildStats, Error>,
    ) -> Result<BuildStats, Error> {
        let report = |progress: &spinney::Progress| ticker.report(progress);
        let mut options = BuildOptions::default().progress(&report).rebuild(self.rebuild);
        if let Some(trees) = self.trees {
            options = options.trees(trees);
        }
        if let Some(spill) = self.spill {
            options = options.spill(spill);
        }
        if let Some(entries) = self.leaf_size {
            options = options.leaf_size(entries);
        }
        if let Some(bits) = self.sketch_bits {
            options = options.sketch_bits(bits);
        }
        if let Some(seed) = self.seed {
            options = options.seed(seed);
        }
        if let Some(bytes) = self.memory {
            options = options.memory(bytes);
        }
        if let Some(folder) = &self.temp_dir {
            options = options.temp_dir(folder);
        }
        if let Some(pool) = &self.pool {
            options = options.thread_pool(pool);
        }
        build(&options)
    }
}

/// As the dataclass of this name.
pub(crate) fn build_stats<'py>(py: Python<'py>, stats: &BuildStats) -> PyResult<Bound<'py, PyAny>> {
    let fields = PyDict::new(py);
    fields.set_item("method", format!("{:?}", stats.method).to_lowercase())?;
    fields.set_item("items", stats.items)?;
    fields.set_item("trees", stats.trees)?;
    fields.set_item("items_added", stats.items_added)?;
    fields.set_item("items_removed", stats.items_removed)?;
    fields.set_item("leaves", stats.leaves)?;
    fields.set_item("branches", stats.branches)?;
    fields.set_item("bytes_written", stats.bytes_written)?;
    record(py, "BuildStats", &fields)
}
