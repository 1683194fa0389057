//! Searching: choose a plan, gather candidates, rerank them by exact distance, merge what is
//! pending.

pub(crate) mod brute_force;
pub(crate) mod budget;
pub(crate) mod candidates;
pub(crate) mod filter;
pub(crate) mod filter_mask;
pub(crate) mod interrupt;
pub(crate) mod knn;
pub(crate) mod leaf_scan;
pub(crate) mod paged;
pub(crate) mod plan;
pub(crate) mod request;
mod residuals;
pub(crate) mod scratch;
pub(crate) mod session;
pub(crate) mod stop_rule;

use std::time::Duration;

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
