//! What the parts of a build share, and the leaves it takes apart.

use heed::RoTxn;

use crate::error::{Error, Result};
use crate::format::item::ItemRef;
use crate::format::node::{BranchRef, LeafRef, check_seal, leaf_value};
use crate::index_spec::IndexSpec;
use crate::kernel::gemm;
use crate::kernel::layout::{Code, Layout};
use crate::key::Key;
use crate::lmdb::database::Database;
use crate::lmdb::nodes::{check_layout, known_node};
use crate::math::kmeans::Matrix;
use crate::search::Forest;
use crate::sketch::codes::Sketches;
use crate::sketch::quantizer::Quantizer;
use crate::sketch::transform::Transform;

/// What is wrong with a leaf whose ids do not ascend.
pub(crate) const UNORDERED: &str = "the ids of a leaf do not ascend";

/// The index that is built, and how its forest is laid out.
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

    /// The point of an item in work space.
    pub(crate) fn point(&self, rtxn: &RoTxn<'_>, id: u32) -> Result<Vec<f32>> {
        let mut point = vec![0.0; self.transform.width];
        self.transform.map(&self.db.known_item(rtxn, self.spec, id)?, &mut point);
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
    fn bits_of<'t>(&self, rtxn: &'t RoTxn<'_>, id: u32) -> Result<Option<ItemRef<'t>>> {
        let is_of_bits = self.leaf.code == Code::Bits;
        is_of_bits.then(|| self.db.known_item(rtxn, self.spec, id)).transpose()
    }

    /// How far a point is from a centroid, in the order that decides the leaf of an item.
    pub(crate) fn distance(&self, point: &[f32], centroid: &[f32]) -> f32 {
        gemm::distance(self.transform.simd, self.spec.metric, point, centroid)
    }

    /// Reads a leaf.
    pub(crate) fn leaf<'t>(&self, rtxn: &'t RoTxn<'_>, key: Key) -> Result<LeafRef<'t>> {
        let leaf = LeafRef::parse(key, known_node(self.db, rtxn, key)?, self.spec.dims)?;
        check_layout(key, leaf.node.layout, self.leaf)?;
        Ok(leaf)
    }

    /// Reads a branch.
    pub(crate) fn branch<'t>(&self, rtxn: &'t RoTxn<'_>, key: Key) -> Result<BranchRef<'t>> {
        let bytes = known_node(self.db, rtxn, key)?;
        let branch = BranchRef::parse(key, bytes, self.spec.dims, self.spec.metric)?;
        check_layout(key, branch.node.layout, self.branch)?;
        Ok(branch)
    }

    /// Takes a leaf out of its value.
    pub(crate) fn take_leaf(&self, rtxn: &RoTxn<'_>, key: Key) -> Result<LeafEdit> {
        check_seal(key, known_node(self.db, rtxn, key)?)?;
        let edit = LeafEdit::load(&self.leaf(rtxn, key)?);
        // Changes find their place among the ids by that order.
        if edit.ids.is_sorted_by(|a, b| a < b) {
            Ok(edit)
        } else {
            Err(Error::corrupted(key, UNORDERED))
        }
    }

    /// Reads a branch that is to be written anew.
    pub(crate) fn take_branch<'t>(&self, rtxn: &'t RoTxn<'_>, key: Key) -> Result<BranchRef<'t>> {
        check_seal(key, known_node(self.db, rtxn, key)?)?;
        self.branch(rtxn, key)
    }
}

/// A leaf taken out of its value.
#[derive(Clone, Debug)]
pub(crate) struct LeafEdit {
    /// Ascending.
    pub(crate) ids: Vec<u32>,
    pub(crate) sketches: Sketches,
    /// Whether it differs from what is stored.
    pub(crate) is_changed: bool,
}

impl LeafEdit {
    pub(crate) fn load(leaf: &LeafRef<'_>) -> Self {
        Self {
            ids: leaf.set.iter().collect(),
            sketches: Sketches::unpack(&leaf.node),
            is_changed: false,
        }
    }

    /// A new leaf of these items, ascending, around a centroid; `points` are theirs.
    pub(crate) fn new(
        context: &ForestContext<'_>,
        rtxn: &RoTxn<'_>,
        ids: Vec<u32>,
        centroid: Vec<f32>,
        points: &Matrix,
    ) -> Result<Self> {
        let mut sketches = Sketches::new(Quantizer::new(
            context.transform,
            context.leaf,
            centroid,
            &points.values,
        ));
        for (i, id) in ids.iter().enumerate() {
            sketches.insert(
                i,
                context.transform,
                points.row(i),
                context.bits_of(rtxn, *id)?.as_ref(),
            );
        }
        Ok(Self { ids, sketches, is_changed: true })
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn contains(&self, id: u32) -> bool {
        self.ids.binary_search(&id).is_ok()
    }

    pub(crate) fn centroid(&self) -> &[f32] {
        &self.sketches.quantizer.centroid
    }

    /// Adds an item at its point, unless it is here already.
    pub(crate) fn insert(
        &mut self,
        context: &ForestContext<'_>,
        rtxn: &RoTxn<'_>,
        id: u32,
        point: &[f32],
    ) -> Result<()> {
        if let Err(position) = self.ids.binary_search(&id) {
            self.sketches.insert(
                position,
                context.transform,
                point,
                context.bits_of(rtxn, id)?.as_ref(),
            );
            self.ids.insert(position, id);
            self.is_changed = true;
        }
        Ok(())
    }

    /// Removes an item; `false` if it is not here.
    pub(crate) fn remove(&mut self, id: u32) -> bool {
        let Ok(position) = self.ids.binary_search(&id) else { return false };
        self.ids.remove(position);
        self.sketches.remove(position);
        self.is_changed = true;
        true
    }

    pub(crate) fn value(&self) -> Vec<u8> {
        leaf_value(&self.sketches.pack(), &self.ids)
    }
}
