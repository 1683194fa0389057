//! The native module of the Python package: `spinney._native`.
//!
//! It copies what Python gives, calls the library while the interpreter is free, and moves what is
//! found into arrays. How things are called and what they mean is the library's.

mod annoy;
mod arrays;
mod build;
mod collection;
mod core;
mod errors;
mod hits;
mod how;
mod id_set;
mod index;
mod labels;
mod options;
mod search;
mod snapshot;
mod store;
mod wait;
mod write;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::annoy::AnnoyIndex;
    #[pymodule_export]
    use crate::annoy::raw::{add_wide, file, ids, rows, set_seed, take_bytes, to_bytes};
    #[pymodule_export]
    use crate::collection::Collection;
    #[pymodule_export]
    use crate::collection::open_collection;
    #[pymodule_export]
    use crate::hits::PyHits;
    #[pymodule_export]
    use crate::how::Stop;
    #[pymodule_export]
    use crate::id_set::IdSet;
    #[pymodule_export]
    use crate::index::Index;
    #[pymodule_export]
    use crate::index::open_index;
    #[pymodule_export]
    use crate::labels::Labels;
    #[pymodule_export]
    use crate::snapshot::Snapshot;
    #[pymodule_export]
    use crate::store::Store;
    #[pymodule_export]
    use crate::store::reopen;
    #[pymodule_export]
    use crate::write::WriteTxn;

    #[pymodule_init]
    fn init(module: &super::Bound<'_, super::PyModule>) -> super::PyResult<()> {
        use super::PyModuleMethods;
        crate::wait::imported();
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
