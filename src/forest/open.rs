//! The forest of an index as searches and builds need it.

use std::borrow::Cow;

use crate::error::Result;
use crate::format::origin::parse_origin;
use crate::format::record::Record;
use crate::format::width;
use crate::index_spec::IndexSpec;
use crate::kernel::layout::Layout;
use crate::key::Key;
use crate::lmdb::nodes::Nodes;
use crate::lmdb::view::View;
use crate::sketch::quantizer::{branch_layout, leaf_layout};
use crate::sketch::transform::Transform;

/// What is computed from the record and the origin alone.
#[derive(Clone, Debug)]
pub(crate) struct Forest {
    pub(crate) transform: Transform,
    pub(crate) leaf: Layout,
    pub(crate) branch: Layout,
}

impl Forest {
    /// Reads the origin and prepares the transform of a built index: O(dims).
    pub(crate) fn read(view: View<'_>, record: &Record) -> Result<Self> {
        let spec = view.spec;
        let key = Key::origin(spec.index, record.generation);
        let origin = parse_origin(key, view.get(key)?.unwrap_or_default(), spec.dims)?;
        Ok(Self::new(Transform::new(spec.metric, origin.to_vec(), record.seed), record))
    }

    /// With the layouts that the record gives nodes.
    pub(crate) fn new(transform: Transform, record: &Record) -> Self {
        let leaf = leaf_layout(transform.metric, transform.width, record.sketch_bits);
        let branch = branch_layout(transform.metric, transform.width, record.branch_bits);
        Self { transform, leaf, branch }
    }
}

/// The layout of the leaves of an index.
pub(crate) fn layout_of_leaves(spec: IndexSpec, record: &Record) -> Layout {
    leaf_layout(spec.metric, width(spec.dims), record.sketch_bits)
}

/// A forest with its nodes in one snapshot.
pub(crate) struct OpenForest<'t> {
    pub(crate) forest: Cow<'t, Forest>,
    pub(crate) nodes: Nodes<'t>,
}

impl<'t> OpenForest<'t> {
    /// `max_cached`: nodes of each kind to remember.
    pub(crate) fn new(view: View<'t>, forest: Cow<'t, Forest>, max_cached: usize) -> Self {
        let nodes = Nodes::new(view, forest.leaf, forest.branch, max_cached);
        Self { forest, nodes }
    }
}
