//! What is asked for: how many, among which, how far, and for how long.

use std::ops::ControlFlow;
use std::time::Instant;

use roaring::RoaringBitmap;

use crate::error::{Error, Result};

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
pub(crate) struct Request<'a, F = Filter<'a>, S = Stop<'a>> {
    pub(crate) k: usize,
    pub(crate) recall: f32,
    pub(crate) search_k: Option<usize>,
    pub(crate) oversampling: Option<f32>,
    pub(crate) filter: F,
    /// A few items that are not in the answer.
    pub(crate) exclude: &'a [u32],
    /// Nothing farther than this, as the metric gives distances (for the dot product: no smaller product).
    pub(crate) within: Option<f32>,
    pub(crate) stop: S,
    pub(crate) is_exact: bool,
    /// Whether an exact search is shared among the threads of the current pool.
    pub(crate) is_parallel: bool,
    /// Whether the time of each phase is to be told.
    pub(crate) is_timed: bool,
}

/// What is asked for by several threads at once: it has no callbacks, which may belong to one thread.
pub(crate) type SharedRequest<'a> = Request<'a, Option<&'a RoaringBitmap>, ()>;

impl<'a, F: Default, S: Default> Request<'a, F, S> {
    /// The `k` nearest of all items, with a recall of so much.
    pub(crate) fn new(k: usize, recall: f32) -> Self {
        Self {
            k,
            recall,
            search_k: None,
            oversampling: None,
            filter: F::default(),
            exclude: &[],
            within: None,
            stop: S::default(),
            is_exact: false,
            is_parallel: false,
            is_timed: false,
        }
    }
}

impl<F, S> Request<'_, F, S> {
    /// Fails unless each option has a value in its range.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(factor) = self.oversampling.filter(|factor| !(factor.is_finite() && *factor >= 1.0)) {
            return Err(Error::option("oversampling", "a finite number from 1 up", factor));
        }
        if !(self.recall > 0.0 && self.recall <= 1.0) {
            return Err(Error::option("recall", "a number above 0 and at most 1", self.recall));
        }
        if self.within.is_some_and(f32::is_nan) {
            return Err(Error::option("within", "a number", f32::NAN));
        }
        Ok(())
    }
}

impl<'a> SharedRequest<'a> {
    /// The same for one thread, which may add its callbacks.
    pub(crate) fn of_one(self) -> Request<'a> {
        let Self {
            k,
            recall,
            search_k,
            oversampling,
            filter,
            exclude,
            within,
            stop: (),
            is_exact,
            is_parallel,
            is_timed,
        } = self;
        let (filter, stop) = (Filter { allowed: filter, predicate: None }, Stop::default());
        Request { k, recall, search_k, oversampling, filter, exclude, within, stop, is_exact, is_parallel, is_timed }
    }
}

impl Request<'_> {
    /// Whether this item may be in the answer.
    pub(crate) fn admits(&self, id: u32) -> bool {
        !self.exclude.contains(&id) && self.filter.admits(id)
    }
}
