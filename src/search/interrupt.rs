//! When a search ends before it is done.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::Instant;

/// Ids processed between two checks.
const IDS_PER_CHECK: u32 = 32;
/// Candidates that are compared after a search was interrupted, and calls of a predicate, at most.
/// So it returns the best of what it has scanned.
pub(crate) const LAST_COMPARED: usize = 64;

/// What an interrupt remembers from check to check.
#[derive(Debug, Default)]
pub(crate) struct InterruptState {
    has_fired: Cell<bool>,
    /// Calls of the predicate, and those after it fired.
    calls: Cell<u32>,
    late_calls: Cell<usize>,
}

impl InterruptState {
    /// Ends the search at its next check.
    pub(crate) fn fire(&self) {
        self.has_fired.set(true);
    }
}

/// A deadline and a callback, either of which ends a search. Once it has fired, it stays so.
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

    /// How many of the nearest candidates are compared before the others, as it may fire then.
    pub(crate) fn compared_first(&self) -> usize {
        if self.is_none() { usize::MAX } else { LAST_COMPARED }
    }

    /// These ids, until it fires. A predicate may refuse any number of them.
    pub(crate) fn limit(self, ids: impl Iterator<Item = u32>) -> impl Iterator<Item = u32> {
        let is_open = move |(number, _): &(u64, u32)| {
            !number.is_multiple_of(u64::from(IDS_PER_CHECK)) || !self.check()
        };
        (1u64..).zip(ids).take_while(is_open).map(|(_, id)| id)
    }

    /// Calls a predicate until it fires, and a few times more.
    pub(crate) fn admits(&self, predicate: &dyn Fn(u32) -> bool, id: u32) -> bool {
        let Some(state) = self.state else { return predicate(id) };
        state.calls.set(state.calls.get().wrapping_add(1));
        if state.calls.get().is_multiple_of(IDS_PER_CHECK) {
            self.check();
        }
        if self.has_fired() {
            state.late_calls.set(state.late_calls.get() + 1);
        }
        state.late_calls.get() <= LAST_COMPARED && predicate(id)
    }
}
