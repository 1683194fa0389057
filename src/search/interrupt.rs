//! Ending a search before it is done: deadlines and callbacks.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::Instant;

/// Ids processed between two checks: reading the clock takes longer than one id.
const IDS_PER_CHECK: u64 = 32;
/// The largest number of comparisons, and of calls of a predicate, after an interrupt. With them
/// the search returns the best of what it has scanned.
const LAST_COMPARED: usize = 64;

/// How much work of one kind was done.
#[derive(Debug, Default)]
pub(crate) struct WorkCount {
    all: Cell<u64>,
    /// That after the interrupt fired.
    late: Cell<usize>,
}

impl WorkCount {
    pub(crate) fn all(&self) -> u64 {
        self.all.get()
    }

    /// Whether there may be more: after an interrupt, up to [`LAST_COMPARED`].
    pub(crate) fn may_grow(&self) -> bool {
        self.late.get() < LAST_COMPARED
    }
}

/// What an interrupt remembers from check to check.
#[derive(Debug, Default)]
pub(crate) struct InterruptState {
    has_fired: Cell<bool>,
    /// Calls of the predicate.
    calls: WorkCount,
}

impl InterruptState {
    /// Ends the search at its next check.
    pub(crate) fn fire(&self) {
        self.has_fired.set(true);
    }
}

/// A deadline and a callback, either of which ends a search. With a state, it fires for good.
#[derive(Copy, Clone, Default)]
pub(crate) struct Interrupt<'a> {
    pub(crate) deadline: Option<Instant>,
    pub(crate) callback: Option<&'a dyn Fn() -> ControlFlow<()>>,
    pub(crate) state: Option<&'a InterruptState>,
}

impl<'a> Interrupt<'a> {
    /// Whether the search has to end. To be called every few microseconds of work.
    pub(crate) fn check(&self) -> bool {
        let has_fired = self.has_fired()
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
            || self.callback.is_some_and(|callback| callback().is_break());
        if let Some(state) = self.state.filter(|_| has_fired) {
            state.fire();
        }
        has_fired
    }

    /// Whether an earlier check has ended the search.
    pub(crate) fn has_fired(&self) -> bool {
        self.state.is_some_and(|state| state.has_fired.get())
    }

    /// Whether it can never fire.
    pub(crate) fn is_none(&self) -> bool {
        self.deadline.is_none() && self.callback.is_none()
    }

    /// How many of the best candidates to compare before all others, in case it fires meanwhile.
    pub(crate) fn compared_first(&self) -> usize {
        if self.is_none() && !self.has_fired() { usize::MAX } else { LAST_COMPARED }
    }

    /// As [`Interrupt::check`], after so many comparisons. The first [`LAST_COMPARED`] are made in
    /// any case.
    pub(crate) fn check_after(&self, compared: usize) -> bool {
        compared >= LAST_COMPARED && self.check()
    }

    /// Counts the next piece of work, and checks now and then.
    pub(crate) fn count(&self, work: &WorkCount) {
        work.all.set(work.all.get() + 1);
        if work.all.get().is_multiple_of(IDS_PER_CHECK) {
            self.check();
        }
        work.late.set(work.late.get() + usize::from(self.has_fired()));
    }

    /// These ids, until it fires. Checks by itself, as the caller may filter out any number of
    /// them.
    pub(crate) fn limit(self, ids: impl Iterator<Item = u32>) -> impl Iterator<Item = u32> {
        let is_open =
            move |(number, _): &(u64, u32)| !number.is_multiple_of(IDS_PER_CHECK) || !self.check();
        (1u64..).zip(ids).take_while(is_open).map(|(_, id)| id)
    }

    /// Calls a predicate, until it has fired and [`LAST_COMPARED`] more calls were made.
    pub(crate) fn admits(&self, predicate: &dyn Fn(u32) -> bool, id: u32) -> bool {
        let Some(state) = self.state else { return predicate(id) };
        if !state.calls.may_grow() {
            return false;
        }
        self.count(&state.calls);
        predicate(id)
    }
}
