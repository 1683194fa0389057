//! What a search needs besides its result, kept for the next search of the same thread.

use std::cell::Cell;

use crate::forest::descent::{Descent, QueuedNode};
use crate::kernel::scan::Estimate;
use crate::search::candidates::Candidates;
use crate::search::filter_mask::Mask;
use crate::search::leaf_scan::ScanState;
use crate::search::residuals::Residuals;
use crate::search::stop_rule::StopRule;
use crate::sketch::prepared::Prepared;

/// The buffers of a search. They grow to what the largest search of a thread needed.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) prepared: Prepared,
    pub(crate) descent: Descent,
    pub(crate) estimates: Vec<Estimate>,
    pub(crate) mask: Mask,
    pub(crate) candidates: Candidates,
    /// Estimates of entries that a filter left out and that looked near enough.
    pub(crate) left_out: Vec<f32>,
    pub(crate) state: ScanState,
    /// Leaves that have come out of the descent and wait, the nearest last. Small ones are placed
    /// by their centroids.
    pub(crate) measured: Vec<QueuedNode>,
    pub(crate) leaves: StopRule,
    pub(crate) residuals: Residuals,
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

impl Scratch {
    /// Lends the scratch of this thread, or a new one within another search of the same thread.
    pub(crate) fn with<R>(work: impl FnOnce(&mut Self) -> R) -> R {
        // A thread that is ending has none any more.
        let mut scratch = SCRATCH.try_with(Cell::take).ok().flatten().unwrap_or_default();
        let result = work(&mut scratch);
        let _ = SCRATCH.try_with(|cell| cell.set(Some(scratch)));
        result
    }
}
