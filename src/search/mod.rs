//! Searching: choose a plan, gather candidates, rerank them by exact distance, add pending items.

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
pub(crate) mod rerank;
mod residuals;
pub(crate) mod scan_state;
pub(crate) mod scratch;
pub(crate) mod searcher;
pub(crate) mod session;
pub(crate) mod spare;
pub(crate) mod stop_rule;

use std::time::Duration;

/// Indexes of at most this many items are searched exactly: that takes less time than a descent.
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

/// How a search found its answer, in order of work: see [`SearchStats::plan`].
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum SearchPlan {
    /// There was nothing to search: the index is empty, the filter is, or `k` is 0.
    #[default]
    Nothing,
    /// The leaves nearest to the query were scanned, and their best candidates compared exactly.
    Forest,
    /// Every item that the filter admits was compared exactly.
    Exact,
    /// The forest was scanned at first. Then going on would have taken longer than comparing every
    /// item that the filter admits, so that was done.
    ForestThenExact,
}

/// What a search did: see [`Nns::report`](crate::Nns::report).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct SearchStats {
    /// How the answer was found. Where one call makes several searches, as
    /// [`by_any`](crate::Nns::by_any) does, the plan that takes most work.
    pub plan: SearchPlan,
    /// Branches whose sketches were scanned.
    pub branches: u64,
    /// Sketches scanned in branches.
    pub branch_sketches: u64,
    /// Leaves whose sketches were scanned.
    pub leaves: u64,
    /// Sketches scanned in leaves. An item counts once for each scanned leaf that holds it.
    pub sketches: u64,
    /// Candidates compared exactly: vectors chosen by their sketches.
    pub reranked: u64,
    /// Vectors compared exactly without a sketch: pending items, those of small filters and of
    /// exact searches.
    pub scanned_exactly: u64,
    /// Bytes of nodes and vectors that were read. Blocks of sketches that a filter rules out do not
    /// count.
    pub bytes: u64,
    /// Time for preparing the query for its comparison with sketches.
    pub preparing: Duration,
    /// Time for opening branches and scanning leaves.
    pub scanning: Duration,
    /// Time for comparing vectors exactly and sorting the hits.
    pub comparing: Duration,
    /// Whether the search was stopped before it was done.
    pub is_partial: bool,
    /// Whether all items were compared because the forest does not reach the target recall. Its
    /// calibration measured that.
    pub is_out_of_reach: bool,
}

impl SearchStats {
    /// Adds the statistics of another search, as those of several that are one to their caller.
    ///
    /// ```
    /// use spinney::SearchStats;
    /// let mut all = SearchStats::default();
    /// all.add(&SearchStats::default());
    /// assert_eq!(all, SearchStats::default());
    /// ```
    pub fn add(&mut self, other: &Self) {
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
