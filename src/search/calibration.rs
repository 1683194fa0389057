//! Which effort reaches which recall: measured on queries whose true neighbours are known.
//!
//! Each query runs as a search does, with a budget that grows by a third until all its true neighbours are found or the cap is
//! reached. What is kept of each neighbour is the budget from which on it is found, and how many candidates look better by
//! their sketches. Both together tell, for any recall, how many sketches to scan and how many vectors to compare exactly.

use super::candidates::Candidates;
use super::request::Request;
use super::scratch::Scratch;
use super::traversal::{Sink, Traversal};
use super::{Planted, Target};
use crate::error::Result;
use crate::format::item::ItemRef;
use crate::format::record::{CALIBRATED_KS, CALIBRATED_RECALLS, Calibration, Reach};
use crate::search::pending::Pending;

/// Neighbours of a query that are looked for, at most.
pub(crate) const NEIGHBOURS: usize = CALIBRATED_KS[CALIBRATED_KS.len() - 1];
/// Candidates among which a neighbour has to be by its sketch.
const KEPT: usize = 1024;
/// The budget that a query starts with.
const FIRST_BUDGET: usize = 64;
/// The part of what may be missed that may be missed because too few vectors are compared exactly.
const LOST_TO_RERANK: f64 = 0.25;
/// One of so many queries is asked for the largest k.
const FEWER: usize = 4;

/// How many neighbours the `i`-th of some queries is asked for. The largest k needs the fewest queries: each tells of many
/// neighbours, and takes the longest.
pub(crate) fn asked_for(i: usize, queries: usize) -> usize {
    if i < queries.div_ceil(FEWER) { NEIGHBOURS } else { CALIBRATED_KS[CALIBRATED_KS.len() - 2] }
}

/// When a true neighbour is found.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    /// The least budget with which its leaf is scanned; `u32::MAX` if none was enough.
    pub(crate) budget: u32,
    /// Candidates that look better at the end; `u32::MAX` if too many do.
    pub(crate) rank: u32,
}

const NEVER: Found = Found { budget: u32::MAX, rank: u32::MAX };

/// Looks for the true neighbours (nearest first) of one query, with up to `cap` sketches.
pub(crate) fn observe<'t>(
    target: Target<'_, 't>,
    (planted, pending): (Planted<'_, 't>, &Pending),
    query: &ItemRef<'_>,
    exclude: Option<u32>,
    truth: &[u32],
    cap: usize,
) -> Result<Vec<Found>> {
    let request = Request { exclude: exclude.as_slice(), ..Request::new(truth.len(), 1.0) };
    let mut order: Vec<(u32, usize)> = truth.iter().copied().zip(0..).collect();
    order.sort_unstable();
    let mut found = vec![NEVER; truth.len()];
    // What waits for a build is always compared exactly.
    for (_, at) in order.iter().filter(|(id, _)| pending.ids.contains(*id)) {
        found[*at] = Found { budget: 0, rank: 0 };
    }
    let mut watch = Watch {
        candidates: Candidates::default(),
        hints: [false; 1024],
        order,
        found,
        before: 0.0,
        budget: 0,
        spent: 0.0,
    };
    truth.iter().for_each(|id| watch.hints[*id as usize % 1024] = true);
    let mut budget = FIRST_BUDGET.min(cap);
    Scratch::with(|scratch| {
        let forest = planted.forest;
        scratch.prepared.prepare(&forest.space, query, forest.leaf, forest.branch);
        loop {
            watch.begin(budget);
            Traversal::begin(target, planted, pending, &request, scratch).watch(
                budget,
                &mut watch,
                Watch::set_spent,
            )?;
            if budget >= cap || watch.found.iter().all(|found| found.budget < u32::MAX) {
                return Ok(watch.into_found());
            }
            budget = budget.saturating_add(budget / 3).min(cap);
        }
    })
}

/// Sees when true neighbours are found.
struct Watch {
    candidates: Candidates,
    /// Most candidates are no neighbours, which one bit tells.
    hints: [bool; 1024],
    /// The neighbours by id, each with its rank.
    order: Vec<(u32, usize)>,
    found: Vec<Found>,
    /// The budget before this one.
    before: f64,
    budget: u32,
    spent: f64,
}

impl Watch {
    fn begin(&mut self, budget: usize) {
        self.candidates.begin(KEPT);
        self.before = f64::from(self.budget);
        self.budget = u32::try_from(budget).unwrap_or(u32::MAX);
    }

    fn set_spent(&mut self, spent: f64) {
        self.spent = spent;
    }

    fn rank_of(&self, id: u32) -> Option<usize> {
        let is_likely = self.hints[id as usize % 1024];
        let at = is_likely.then(|| self.order.binary_search_by_key(&id, |(id, _)| *id).ok()).flatten()?;
        Some(self.order[at].1)
    }

    fn into_found(mut self) -> Vec<Found> {
        let mut candidates = std::mem::take(&mut self.candidates);
        for (rank, id) in (0u32..).zip(candidates.ranked()) {
            if let Some(at) = self.rank_of(id) {
                self.found[at].rank = rank;
            }
        }
        self.found
    }
}

impl Sink for Watch {
    fn threshold(&self) -> f32 {
        self.candidates.threshold()
    }

    fn offer(&mut self, id: u32, estimate: f32) {
        self.candidates.offer(id, estimate);
        if let Some(at) = self.rank_of(id) {
            // One that the budget before did not find, though its turn came earlier now, is under a branch that only a larger
            // budget opens. The next smaller one may be too small: branches step at the same budget for nearly all queries.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "less than the budget")]
            let needed = if self.spent >= self.before { self.spent as u32 + 1 } else { self.budget };
            self.found[at].budget = self.found[at].budget.min(needed);
        }
    }
}

/// The effort for each recall, from what was observed of many queries. `items` is the size of the forest.
#[expect(clippy::cast_possible_truncation, reason = "at most a thousand queries")]
pub(crate) fn fit(observed: &[Vec<Found>], items: u64, is_of_queries: bool) -> Calibration {
    let mut calibration = Calibration::default();
    (calibration.items, calibration.queries) = (items, observed.len() as u32);
    calibration.is_of_queries = u32::from(is_of_queries);
    for (k, row) in CALIBRATED_KS.into_iter().zip(&mut calibration.reach) {
        let asked = observed.iter().enumerate().filter(|(i, _)| k <= asked_for(*i, observed.len()));
        let found: Vec<Found> = asked.flat_map(|(_, query)| query.iter().take(k).copied()).collect();
        fit_row(&found, k, row);
    }
    calibration
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "counts of neighbours, and saturating estimates"
)]
fn fit_row(found: &[Found], k: usize, row: &mut [Reach; CALIBRATED_RECALLS.len()]) {
    // A sketch that is quite wrong is missed: no number of comparisons is worth chasing it.
    let mut ranks: Vec<u32> = found.iter().map(|found| found.rank).filter(|rank| *rank < KEPT as u32).collect();
    ranks.sort_unstable();
    let at = |part: f64, len: usize| ((part * len as f64).ceil() as usize).clamp(1, len.max(1)) - 1;
    for (i, recall) in CALIBRATED_RECALLS.into_iter().enumerate() {
        let rank = ranks.get(at(1.0 - LOST_TO_RERANK * (1.0 - recall), ranks.len())).copied().unwrap_or(0);
        let reranked = (rank + 1).max(k as u32);
        let mut budgets: Vec<u32> = found.iter().filter(|found| found.rank <= rank).map(|found| found.budget).collect();
        budgets.sort_unstable();
        let needed = at(recall, found.len());
        let before = i.checked_sub(1).map_or(Reach::default(), |i| row[i]);
        let sketches = match budgets.get(needed) {
            Some(budget) if *budget < u32::MAX => *budget,
            // Out of reach of the cap: as far again as from half of it.
            _ => before.sketches.max(FIRST_BUDGET as u32).saturating_mul(2),
        };
        row[i] = Reach { sketches: sketches.max(before.sketches), reranked: reranked.max(before.reranked) };
    }
}
