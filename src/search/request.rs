//! What a search has to find: number, options, filter, interrupt.

use std::time::Instant;

use crate::error::{Error, Result};
use crate::search::filter::Filter;
use crate::search::interrupt::Interrupt;

/// The target recall of a search if the caller gives none.
pub(crate) const DEFAULT_RECALL: f32 = 0.95;

/// The options of a search that are plain data, so that threads can share them.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Options {
    pub(crate) recall: f32,
    /// Whether the caller chose the recall.
    pub(crate) is_recall_given: bool,
    /// The smallest number of leaf sketches to scan.
    pub(crate) search_k: Option<usize>,
    /// Candidates to rerank, as a multiple of `k`.
    pub(crate) oversampling: Option<f32>,
    /// The outer bound: no hit is farther than this distance (dot product: no product is smaller).
    pub(crate) within: Option<f32>,
    /// The inner bound: no hit is nearer than this distance.
    pub(crate) beyond: Option<f32>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) is_exact: bool,
    /// Whether an exact search is shared among the threads of the current pool.
    pub(crate) is_parallel: bool,
    /// Whether the time of each phase is measured.
    pub(crate) is_timed: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            recall: DEFAULT_RECALL,
            is_recall_given: false,
            search_k: None,
            oversampling: None,
            within: None,
            beyond: None,
            deadline: None,
            is_exact: false,
            is_parallel: false,
            is_timed: false,
        }
    }
}

impl Options {
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
        for (option, value) in [("within", self.within), ("beyond", self.beyond)] {
            if value.is_some_and(f32::is_nan) {
                return Err(Error::option(option, "a number", f32::NAN));
            }
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

/// How many neighbours to find, among which items, and when to stop.
#[derive(Copy, Clone)]
pub(crate) struct Request<'a> {
    pub(crate) k: usize,
    pub(crate) options: Options,
    pub(crate) filter: Filter<'a>,
    /// Items that are left out of the answer: the examples searched for.
    pub(crate) exclude: &'a [u32],
    pub(crate) interrupt: Interrupt<'a>,
}

impl Request<'_> {
    /// The `k` nearest of all items.
    pub(crate) fn new(k: usize) -> Self {
        Self {
            k,
            options: Options::default(),
            filter: Filter::default(),
            exclude: &[],
            interrupt: Interrupt::default(),
        }
    }

    /// Whether this item may be in the answer.
    pub(crate) fn admits(&self, id: u32) -> bool {
        !self.exclude.contains(&id) && self.filter.admits(id)
    }
}
