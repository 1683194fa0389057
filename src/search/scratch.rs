//! The buffers of a search, kept for the next search of the same thread.

use std::cell::Cell;

use crate::forest::descent::{Descent, QueuedNode};
use crate::kernel::scan::Estimate;
use crate::search::candidates::Candidates;
use crate::search::filter_mask::Mask;
use crate::search::residuals::Residuals;
use crate::search::scan_state::ScanState;
use crate::search::stop_rule::StopRule;
use crate::sketch::prepared::Prepared;

/// The buffers of a search. They grow to the size that the largest search of a thread needed.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) prepared: Prepared,
    pub(crate) descent: Descent,
    pub(crate) estimates: Vec<Estimate>,
    /// What a leaf offers to the candidates.
    pub(crate) found: Vec<u64>,
    pub(crate) mask: Mask,
    pub(crate) candidates: Candidates,
    /// Estimates below the threshold of entries that a filter left out.
    pub(crate) left_out: Vec<f32>,
    pub(crate) state: ScanState,
    /// Leaves that have come out of the descent and wait to be scanned, the nearest last. Small
    /// ones are ordered by their exact centroids.
    pub(crate) waiting: Vec<QueuedNode>,
    pub(crate) leaves: StopRule,
    pub(crate) residuals: Residuals,
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

impl Scratch {
    /// Calls `work` with the scratch of this thread. A search within another gets a new one.
    pub(crate) fn with<R>(work: impl FnOnce(&mut Self) -> R) -> R {
        // While a thread ends, its scratch may be gone already.
        let mut scratch = SCRATCH.try_with(Cell::take).ok().flatten().unwrap_or_default();
        let result = work(&mut scratch);
        let _ = SCRATCH.try_with(|cell| cell.set(Some(scratch)));
        result
    }
}
