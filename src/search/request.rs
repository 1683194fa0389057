//! What is asked for: how many, among which, how far, and for how long.

use std::ops::ControlFlow;
use std::time::Instant;

use roaring::RoaringBitmap;

/// Which items may be in the answer.
#[derive(Copy, Clone, Default)]
pub(crate) struct Filter<'a> {
    pub(crate) allowed: Option<&'a RoaringBitmap>,
    pub(crate) predicate: Option<&'a dyn Fn(u32) -> bool>,
}

impl Filter<'_> {
    pub(crate) fn is_none(&self) -> bool {
        self.allowed.is_none() && self.predicate.is_none()
    }

    pub(crate) fn admits(&self, id: u32) -> bool {
        self.allowed.is_none_or(|allowed| allowed.contains(id)) && self.predicate.is_none_or(|predicate| predicate(id))
    }
}

/// When a search ends before it is done.
#[derive(Copy, Clone, Default)]
pub(crate) struct Stop<'a> {
    pub(crate) deadline: Option<Instant>,
    pub(crate) callback: Option<&'a dyn Fn() -> ControlFlow<()>>,
}

impl Stop<'_> {
    /// Asked every few microseconds of work.
    pub(crate) fn is_due(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
            || self.callback.is_some_and(|callback| callback().is_break())
    }
}

/// What is asked for.
#[derive(Copy, Clone)]
pub(crate) struct Request<'a> {
    pub(crate) k: usize,
    pub(crate) recall: f32,
    pub(crate) search_k: Option<usize>,
    pub(crate) oversampling: Option<f32>,
    pub(crate) filter: Filter<'a>,
    /// A few items that are not in the answer.
    pub(crate) exclude: &'a [u32],
    /// Nothing farther than this, as the metric gives distances (for the dot product: no smaller product).
    pub(crate) within: Option<f32>,
    pub(crate) stop: Stop<'a>,
    pub(crate) is_exact: bool,
    /// Whether an exact search is shared among the threads of the current pool.
    pub(crate) is_parallel: bool,
    /// Whether the time of each phase is to be told.
    pub(crate) is_timed: bool,
}

impl Request<'_> {
    /// The `k` nearest of all items, with a recall of so much.
    pub(crate) fn new(k: usize, recall: f32) -> Self {
        Self {
            k,
            recall,
            search_k: None,
            oversampling: None,
            filter: Filter::default(),
            exclude: &[],
            within: None,
            stop: Stop::default(),
            is_exact: false,
            is_parallel: false,
            is_timed: false,
        }
    }

    /// Whether this item may be in the answer.
    pub(crate) fn admits(&self, id: u32) -> bool {
        !self.exclude.contains(&id) && self.filter.admits(id)
    }
}
