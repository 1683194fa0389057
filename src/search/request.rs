//! What is asked for: how many, among which, how far, and for how long.

use std::cell::Cell;
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
        self.allowed.is_none_or(|allowed| allowed.contains(id))
            && self.predicate.is_none_or(|predicate| predicate(id))
    }
}

/// Ids that are asked for, or about, before it is asked again whether to stop.
const ASKED_AT_ONCE: u32 = 32;
/// Candidates that are compared exactly after a search was stopped, at most, and calls of a
/// predicate: what it has by then is worth as much.
pub(crate) const LAST_COMPARED: usize = 64;

/// When a search ends before it is done.
#[derive(Copy, Clone, Default)]
pub(crate) struct Stop<'a> {
    pub(crate) deadline: Option<Instant>,
    pub(crate) callback: Option<&'a dyn Fn() -> ControlFlow<()>>,
    /// Whether it was due: then it is not asked any more, and is due for good.
    pub(crate) is_stopped: Option<&'a Cell<bool>>,
}

impl<'a> Stop<'a> {
    /// Asked every few microseconds of work.
    pub(crate) fn is_due(&self) -> bool {
        let is_due = self.was_due()
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
            || self.callback.is_some_and(|callback| callback().is_break());
        if let Some(is_stopped) = self.is_stopped.filter(|_| is_due) {
            is_stopped.set(true);
        }
        is_due
    }

    /// Whether it was found to be due when it was asked last.
    pub(crate) fn was_due(&self) -> bool {
        self.is_stopped.is_some_and(Cell::get)
    }

    pub(crate) fn is_none(&self) -> bool {
        self.deadline.is_none() && self.callback.is_none()
    }

    /// How many of the nearest candidates have to be compared before the others, as it may be due
    /// then.
    pub(crate) fn first(&self) -> usize {
        if self.is_none() { usize::MAX } else { LAST_COMPARED }
    }

    /// These ids, until it is due: a predicate that is asked about them may refuse any number of
    /// them.
    pub(crate) fn limit(self, ids: impl Iterator<Item = u32>) -> impl Iterator<Item = u32> {
        let numbered = (1u64..).zip(ids);
        numbered
            .take_while(move |(number, _)| {
                !number.is_multiple_of(u64::from(ASKED_AT_ONCE)) || !self.is_due()
            })
            .map(|(_, id)| id)
    }
}

/// A predicate that a search asks until it is to stop, and a few times more.
pub(crate) struct Asking<'a> {
    predicate: Option<&'a dyn Fn(u32) -> bool>,
    stop: Stop<'a>,
    asked: Cell<u32>,
    asked_late: Cell<usize>,
}

impl<'a> Asking<'a> {
    pub(crate) fn new(request: &Request<'a>) -> Self {
        let (asked, asked_late) = (Cell::new(0), Cell::new(0));
        Self { predicate: request.filter.predicate, stop: request.stop, asked, asked_late }
    }

    pub(crate) fn is_none(&self) -> bool {
        self.predicate.is_none()
    }

    pub(crate) fn admits(&self, id: u32) -> bool {
        self.asked.set(self.asked.get().wrapping_add(1));
        if self.asked.get().is_multiple_of(ASKED_AT_ONCE) {
            self.stop.is_due();
        }
        if self.stop.was_due() {
            self.asked_late.set(self.asked_late.get() + 1);
        }
        self.asked_late.get() <= LAST_COMPARED
            && self.predicate.is_none_or(|predicate| predicate(id))
    }
}

/// What is asked for.
#[derive(Copy, Clone)]
pub(crate) struct Request<'a, F = Filter<'a>, S = Stop<'a>> {
    pub(crate) k: usize,
    pub(crate) recall: f32,
    /// Whether somebody has asked for that recall.
    pub(crate) is_recall_given: bool,
    pub(crate) search_k: Option<usize>,
    pub(crate) oversampling: Option<f32>,
    pub(crate) filter: F,
    /// A few items that are not in the answer.
    pub(crate) exclude: &'a [u32],
    /// Nothing farther than this, as the metric gives distances (for the dot product: no smaller
    /// product).
    pub(crate) within: Option<f32>,
    pub(crate) stop: S,
    pub(crate) is_exact: bool,
    /// Whether an exact search is shared among the threads of the current pool.
    pub(crate) is_parallel: bool,
    /// Whether the time of each phase is to be told.
    pub(crate) is_timed: bool,
}

/// What is asked for by several threads at once: it has no callbacks, which may belong to one
/// thread.
pub(crate) type SharedRequest<'a> = Request<'a, (), ()>;

impl<'a, F: Default, S: Default> Request<'a, F, S> {
    /// The `k` nearest of all items, with a recall of so much.
    pub(crate) fn new(k: usize, recall: f32) -> Self {
        Self {
            k,
            recall,
            is_recall_given: false,
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
        if let Some(factor) =
            self.oversampling.filter(|factor| !(factor.is_finite() && *factor >= 1.0))
        {
            return Err(Error::option("oversampling", "a finite number from 1 up", factor));
        }
        if !(self.recall > 0.0 && self.recall <= 1.0) {
            return Err(Error::option("recall", "a number above 0 and at most 1", self.recall));
        }
        if self.within.is_some_and(f32::is_nan) {
            return Err(Error::option("within", "a number", f32::NAN));
        }
        let approximate = [
            ("recall", self.is_recall_given),
            ("search_k", self.search_k.is_some()),
            ("oversampling", self.oversampling.is_some()),
        ];
        if let Some((option, _)) =
            approximate.iter().find(|(_, is_given)| self.is_exact && *is_given)
        {
            let instead =
                "an exact search compares every item and misses none, so leave out one of the two";
            return Err(Error::Incompatible { option, with: "exact", instead });
        }
        Ok(())
    }
}

impl<'a> SharedRequest<'a> {
    /// The same for one thread, which may add its callbacks.
    pub(crate) fn for_thread(self) -> Request<'a> {
        let Self {
            k,
            recall,
            is_recall_given,
            search_k,
            oversampling,
            filter: (),
            exclude,
            within,
            stop: (),
            is_exact,
            is_parallel,
            is_timed,
        } = self;
        Request {
            k,
            recall,
            is_recall_given,
            search_k,
            oversampling,
            filter: Filter::default(),
            exclude,
            within,
            stop: Stop::default(),
            is_exact,
            is_parallel,
            is_timed,
        }
    }
}

impl Request<'_> {
    /// Whether this item may be in the answer.
    pub(crate) fn admits(&self, id: u32) -> bool {
        !self.exclude.contains(&id) && self.filter.admits(id)
    }
}
