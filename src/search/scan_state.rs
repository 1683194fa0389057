//! What a search through the forest has counted so far.

use crate::search::SearchStats;

/// The progress of a search through the forest.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct ScanState {
    /// Leaves taken from the descent.
    pub(crate) leaves: u64,
    /// Entries of the leaves scanned.
    pub(crate) entries: f64,
    /// How many of them the request admits, by estimate.
    pub(crate) admitted: f64,
    /// Entries that were checked one by one, and how many of them the request admits.
    pub(crate) checked: f64,
    pub(crate) passed: f64,
    /// More branches are opened from this many entries on.
    pub(crate) next_expand: f64,
    /// The smallest estimate of an entry that the request excludes.
    pub(crate) excluded: f32,
    pub(crate) stats: SearchStats,
}
