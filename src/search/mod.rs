//! Searching: choose a plan, gather candidates, rerank them by exact distance, merge what is
//! pending.

pub(crate) mod brute_force;
pub(crate) mod budget;
pub(crate) mod candidates;
pub(crate) mod filter_mask;
pub(crate) mod knn;
pub(crate) mod leaf_scan;
pub(crate) mod paged;
pub(crate) mod plan;
pub(crate) mod request;
mod residuals;
pub(crate) mod scratch;
pub(crate) mod stop_rule;

use std::time::Duration;

use heed::RoTxn;

use crate::error::Result;
use crate::format::origin::parse_origin;
use crate::format::record::Record;
use crate::format::width;
use crate::index_spec::IndexSpec;
use crate::kernel::layout::Layout;
use crate::kernel::simd::Level;
use crate::key::Key;
use crate::lmdb::database::Database;
use crate::lmdb::items::Items;
use crate::lmdb::nodes::Nodes;
use crate::lmdb::pending::Pending;
use crate::sketch::quantizer::{branch_layout, leaf_layout};
use crate::sketch::transform::Transform;

/// Indexes of at most this many items are scanned exactly: that takes less time than a descent.
pub(crate) const EXACT_ITEMS: u64 = 1_000;

/// One answer of a search.
#[derive(Copy, Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Hit {
    /// The item.
    pub id: u32,
    /// Its exact distance to the query; [`Metric`](crate::Metric) says what the number means.
    pub distance: f32,
}

/// How a search found its answer, from the least work to the most: see [`SearchStats::plan`].
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum SearchPlan {
    /// There was nothing to look for: no items, or none wanted.
    #[default]
    Nothing,
    /// The leaves of the forest that are nearest to the query were scanned, and the best of their
    /// items compared.
    Forest,
    /// Every item that the request admits was compared.
    Exact,
    /// The forest was tried, found to take longer than comparing all that the request admits, and
    /// given up for that.
    ForestThenExact,
}

/// What a search did: see [`Nns::report`](crate::Nns::report).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct SearchStats {
    /// How the answer was found; of several searches in one, as of [`by_any`](crate::Nns::by_any),
    /// that which did most.
    pub plan: SearchPlan,
    /// Branches whose sketches were scanned.
    pub branches: u64,
    /// Sketches scanned in branches.
    pub branch_sketches: u64,
    /// Leaves whose sketches were scanned.
    pub leaves: u64,
    /// Sketches scanned in leaves; an item is counted in each leaf and tree in which it was met.
    pub sketches: u64,
    /// Vectors that were compared exactly because of their sketches.
    pub reranked: u64,
    /// Vectors that were compared exactly without a sketch: pending items, small filters, exact
    /// searches.
    pub scanned_exactly: u64,
    /// Bytes of the nodes and of the vectors that were read. Of a leaf that a filter restricts,
    /// only those of the blocks of sketches that it left count.
    pub bytes: u64,
    /// Time from the call until the query was ready to be compared with sketches.
    pub preparing: Duration,
    /// Time for descending through branches and scanning leaves.
    pub scanning: Duration,
    /// Time for comparing vectors exactly, and for sorting the answer.
    pub comparing: Duration,
    /// Whether the search was stopped before it was done.
    pub is_partial: bool,
    /// Whether all items were compared because the forest does not reach the recall aimed at, as
    /// its calibration found.
    pub is_out_of_reach: bool,
}

impl SearchStats {
    /// Adds what another search did.
    pub(crate) fn add(&mut self, other: &Self) {
        self.plan = self.plan.max(other.plan);
        self.branches += other.branches;
        self.branch_sketches += other.branch_sketches;
        self.leaves += other.leaves;
        self.sketches += other.sketches;
        self.reranked += other.reranked;
        self.scanned_exactly += other.scanned_exactly;
        self.bytes += other.bytes;
        self.preparing += other.preparing;
        self.scanning += other.scanning;
        self.comparing += other.comparing;
        self.is_partial |= other.is_partial;
        self.is_out_of_reach |= other.is_out_of_reach;
    }
}

/// The forest as queries need it: what is computed from the record and the origin alone.
#[derive(Debug)]
pub(crate) struct Forest {
    pub(crate) transform: Transform,
    pub(crate) leaf: Layout,
    pub(crate) branch: Layout,
}

impl Forest {
    /// Reads the origin and prepares the space of a built index: O(dims).
    pub(crate) fn read(
        db: Database,
        rtxn: &RoTxn<'_>,
        spec: IndexSpec,
        record: &Record,
    ) -> Result<Self> {
        let key = Key::origin(spec.index);
        let origin = parse_origin(key, db.get(rtxn, key)?.unwrap_or_default(), spec.dims)?;
        Ok(Self::new(Transform::new(spec.metric, origin.to_vec(), record.seed), record))
    }

    /// Its nodes in a snapshot, of which it will remember as many as `most` of each kind: a power
    /// of two, or 0.
    pub(crate) fn nodes<'t>(
        &self,
        spec: (Database, &'t RoTxn<'t>, IndexSpec),
        most: usize,
    ) -> Nodes<'t> {
        Nodes::new(spec, self.leaf, self.branch, most)
    }

    /// The layouts that the record gives the nodes of a forest in this space.
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

/// The forest as one snapshot has it.
#[derive(Copy, Clone)]
pub(crate) struct Planted<'a, 't> {
    pub(crate) forest: &'a Forest,
    pub(crate) nodes: &'a Nodes<'t>,
}

/// The index that is searched.
#[derive(Copy, Clone)]
pub(crate) struct Target<'a, 't> {
    pub(crate) items: &'a Items<'t>,
    pub(crate) record: &'a Record,
    pub(crate) simd: Level,
}

/// An index as a reader holds it: the parts of it that searches share are computed at the first
/// one.
pub(crate) trait Parts<'t> {
    /// The forest, or `None` if the index was never built.
    fn planted(&self) -> Result<Option<Planted<'_, 't>>>;
    /// The pending marks.
    fn pending(&self) -> Result<&Pending>;
}
