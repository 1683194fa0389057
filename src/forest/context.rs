//! The index whose forest is built, measured or verified, and how that forest is laid out.

use heed::RoTxn;

use crate::error::Result;
use crate::forest::open::Forest;
use crate::format::item::ItemRef;
use crate::format::node::{BranchRef, LeafRef, check_seal};
use crate::index_spec::IndexSpec;
use crate::kernel::gemm;
use crate::kernel::layout::{Code, Layout};
use crate::key::Key;
use crate::lmdb::database::Database;
use crate::lmdb::item::StoredItem;
use crate::lmdb::nodes::{known_node, read_branch, read_leaf};
use crate::lmdb::view::View;
use crate::math::matrix::Matrix;
use crate::sketch::transform::Transform;

/// The index, and how its forest is laid out.
#[derive(Copy, Clone)]
pub(crate) struct ForestContext<'a> {
    pub(crate) db: Database,
    pub(crate) spec: IndexSpec,
    pub(crate) transform: &'a Transform,
    pub(crate) leaf: Layout,
    pub(crate) branch: Layout,
    pub(crate) leaf_size: usize,
}

impl<'a> ForestContext<'a> {
    pub(crate) fn new(db: Database, spec: IndexSpec, forest: &'a Forest, leaf_size: usize) -> Self {
        Self {
            db,
            spec,
            transform: &forest.transform,
            leaf: forest.leaf,
            branch: forest.branch,
            leaf_size,
        }
    }

    /// The index as a transaction shows it.
    pub(crate) fn view<'t>(&self, rtxn: &'t RoTxn<'t>) -> View<'t> {
        View::new(self.db, rtxn, self.spec)
    }

    /// The point of an item in work space.
    pub(crate) fn point(&self, rtxn: &RoTxn<'_>, id: u32) -> Result<Vec<f32>> {
        let mut point = vec![0.0; self.transform.width];
        self.transform.map(&self.db.known_item(rtxn, self.spec, id)?.view()?, &mut point);
        Ok(point)
    }

    /// The points of items in work space.
    pub(crate) fn points(&self, rtxn: &RoTxn<'_>, ids: &[u32]) -> Result<Matrix> {
        let mut rows = Matrix {
            values: vec![0.0; ids.len() * self.transform.width],
            width: self.transform.width,
        };
        let mut slots = rows.values.chunks_exact_mut(rows.width);
        let put = |item: &ItemRef<'_>| {
            slots.next().into_iter().for_each(|row| self.transform.map(item, row))
        };
        self.db.visit_items(rtxn, self.spec, ids, put)?;
        Ok(rows)
    }

    /// The item of which a code of bits is made; `None` where codes are made of points.
    pub(crate) fn bits_of<'t>(
        &self,
        rtxn: &'t RoTxn<'_>,
        id: u32,
    ) -> Result<Option<StoredItem<'t>>> {
        let is_of_bits = self.leaf.code == Code::Bits;
        is_of_bits.then(|| self.db.known_item(rtxn, self.spec, id)).transpose()
    }

    /// How far a point is from a centroid, in the order that decides the leaf of an item.
    pub(crate) fn distance(&self, point: &[f32], centroid: &[f32]) -> f32 {
        gemm::distance(self.transform.simd, self.spec.metric, point, centroid)
    }

    /// Reads a leaf.
    pub(crate) fn leaf<'t>(&self, rtxn: &'t RoTxn<'_>, key: Key) -> Result<LeafRef<'t>> {
        read_leaf(self.view(rtxn), key, self.leaf)
    }

    /// Reads a branch.
    pub(crate) fn branch<'t>(&self, rtxn: &'t RoTxn<'_>, key: Key) -> Result<BranchRef<'t>> {
        read_branch(self.view(rtxn), key, self.branch)
    }

    /// Reads a leaf that is to be written anew. So its bytes must be as they were written.
    pub(crate) fn sealed_leaf<'t>(&self, rtxn: &'t RoTxn<'_>, key: Key) -> Result<LeafRef<'t>> {
        check_seal(key, known_node(self.view(rtxn), key)?)?;
        self.leaf(rtxn, key)
    }

    /// Reads a branch that is to be written anew.
    pub(crate) fn sealed_branch<'t>(&self, rtxn: &'t RoTxn<'_>, key: Key) -> Result<BranchRef<'t>> {
        check_seal(key, known_node(self.view(rtxn), key)?)?;
        self.branch(rtxn, key)
    }
}
