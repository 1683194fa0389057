//! Which effort reaches which recall: measured on queries whose true neighbours are known.
//!
//! Each query runs as a search does, and goes on from one budget of a ladder to the next, until all its true neighbours are
//! found. What is kept of each neighbour is how many candidates look better by their sketches *with that budget*: fewer than
//! with a larger one, so that a rank taken at the end would overstate what few comparisons lose. All queries climb the same
//! ladder. Its steps tell what recall each budget had with any number of comparisons, and between two of them the logarithm
//! of what is missed is nearly a straight line in that of the budget. Which leaves a search scans does not depend on its
//! budget, so that this is what searches find.
//!
//! The same climb tells which [`assurance`] a search has to end with: it says when each query
//! would have ended, and what it had found by then.

use rayon::prelude::*;

use super::assurance::{self, NEAR, ease};
use super::candidates::{estimate_of, id_of, insert, make_room, packed};
use super::effort::line;
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

/// Where the steps of the ladder become wider. Budgets of a few leaves find more with every leaf, by leaps; there small steps
/// tell where, and cost little.
const FEW_LEAVES: usize = 512;

/// The budgets with which queries run, at least two, the last of which is `cap` if that is not too small.
pub(crate) fn ladder(cap: usize) -> Vec<usize> {
    let cap = cap.max(FIRST_BUDGET + 1);
    let next = |budget: &usize| Some(budget.saturating_add(budget / if *budget < FEW_LEAVES { 8 } else { 6 }));
    std::iter::successors(Some(FIRST_BUDGET), next).take_while(|budget| *budget < cap).chain([cap]).collect()
}

/// How good the true neighbours of one query look, budget by budget.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Observed {
    pub(super) neighbours: usize,
    /// For each step and each calibrated k the [`assurance`] that the search has then; it never falls.
    pub(super) assured: Vec<Assured>,
    /// For each step of the ladder and each neighbour how many candidates look better; [`UNSEEN`] if it is not met, or too
    /// many do. Ends with the first step at which all neighbours are among the candidates.
    pub(super) ranks: Vec<u16>,
}

/// What a search is assured of at a step of the ladder.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Assured {
    /// Leaves looked at, and their entries.
    pub(super) leaves: u64,
    pub(super) entries: f64,
    /// For each calibrated k.
    pub(super) of_ks: [f64; CALIBRATED_KS.len()],
}

pub(super) const UNSEEN: u16 = u16::MAX;

impl Observed {
    /// The ranks of the nearest `k` with the budget of a step.
    pub(super) fn ranks(&self, step: usize, k: usize) -> &[u16] {
        let rows = self.ranks.len() / self.neighbours.max(1);
        let from = step.min(rows.saturating_sub(1)) * self.neighbours;
        self.ranks.get(from..from + k.min(self.neighbours)).unwrap_or_default()
    }
}

/// Looks for the true neighbours (nearest first) of one query, with the budgets of a ladder.
pub(crate) fn observe<'t>(
    target: Target<'_, 't>,
    (planted, pending): (Planted<'_, 't>, &Pending),
    query: &ItemRef<'_>,
    exclude: Option<u32>,
    truth: &[u32],
    ladder: &[usize],
) -> Result<Observed> {
    let request = Request { exclude: exclude.as_slice(), ..Request::new(truth.len(), 1.0) };
    let mut order: Vec<(u32, usize)> = truth.iter().copied().zip(0..).collect();
    order.sort_unstable();
    // What waits for a build is always compared exactly.
    let mut row = vec![UNSEEN; truth.len()];
    for (_, at) in order.iter().filter(|(id, _)| pending.ids.contains(*id)) {
        row[*at] = 0;
    }
    // Most candidates are none of them, which one bit tells.
    let mut hints = [false; 1024];
    truth.iter().for_each(|id| hints[*id as usize % 1024] = true);
    let metric = target.items.of.metric;
    let (mut ranks, mut assured, mut ranking) = (Vec::new(), Vec::new(), Ranking::default());
    Scratch::with(|scratch| {
        let forest = planted.forest;
        scratch.prepared.prepare(&forest.space, query, forest.leaf, forest.branch);
        let mut traversal = Traversal::begin(target, planted, pending, &request, scratch);
        for budget in ladder {
            traversal.spend(*budget, &mut ranking)?;
            let from = ranks.len();
            ranks.extend_from_slice(&row);
            for (rank, id) in (0u16..).zip(ranking.ranked()) {
                if hints[id as usize % 1024]
                    && let Ok(at) = order.binary_search_by_key(&id, |(id, _)| *id)
                {
                    ranks[from + order[at].1] = rank;
                }
            }
            let (entries, upcoming) = (traversal.entries(), traversal.upcoming());
            let before = assured.last().map_or([0.0f64; CALIBRATED_KS.len()], |before: &Assured| before.of_ks);
            let at = |i: usize| entries * ease(metric, upcoming, ranking.near(CALIBRATED_KS[i]));
            let of_ks = std::array::from_fn(|i| before[i].max(at(i)));
            assured.push(Assured { leaves: traversal.leaves(), entries, of_ks });
            if !ranks[from..].contains(&UNSEEN) {
                break;
            }
        }
        Ok(Observed { neighbours: truth.len(), assured, ranks })
    })
}

/// The best [`KEPT`] candidates, each item once, sorted again at each step of the ladder: only what is new is.
#[derive(Default)]
struct Ranking {
    /// Estimate above id, ascending.
    best: Vec<u64>,
    new: Vec<u64>,
    merged: Vec<u64>,
    /// Ids met while merging: a hash table.
    met: Vec<u64>,
}

impl Sink for Ranking {
    fn threshold(&self) -> f32 {
        self.best.get(KEPT - 1).map_or(f32::INFINITY, |last| estimate_of(*last))
    }

    fn offer(&mut self, id: u32, estimate: f32) {
        let new = packed(id, estimate);
        if self.best.len() == KEPT && self.best.last() <= Some(&new) {
            return;
        }
        self.new.push(new);
        if self.new.len() > KEPT {
            self.merge();
        }
    }
}

impl Ranking {
    fn merge(&mut self) {
        let Self { best, new, merged, met } = self;
        new.sort_unstable();
        merged.clear();
        make_room(met, best.len() + new.len());
        let (mut old, mut fresh) = (best.iter().peekable(), new.iter().peekable());
        while merged.len() < KEPT {
            let next = if fresh.peek().is_some_and(|fresh| old.peek().is_none_or(|old| fresh < old)) {
                fresh.next()
            } else {
                old.next()
            };
            let Some(next) = next else { break };
            if insert(met, id_of(*next)) {
                merged.push(*next);
            }
        }
        std::mem::swap(best, merged);
        new.clear();
    }

    /// The estimate of the k-th candidate, or of the last that is told if that comes before; infinite if there are fewer. As
    /// of the last ranking.
    fn near(&self, k: usize) -> f32 {
        self.best.get(k.min(NEAR) - 1).map_or(f32::INFINITY, |near| estimate_of(*near))
    }

    /// The ids of the best candidates, best first.
    fn ranked(&mut self) -> impl Iterator<Item = u32> {
        if !self.new.is_empty() {
            self.merge();
        }
        self.best.iter().map(|candidate| id_of(*candidate))
    }
}

/// The effort for each recall, from what was observed of many queries. `items` is the size of the forest.
#[expect(clippy::cast_possible_truncation, reason = "at most some thousand queries")]
pub(crate) fn fit(observed: &[Observed], ladder: &[usize], items: u64, is_of_queries: bool) -> Calibration {
    let mut calibration = Calibration::default();
    (calibration.items, calibration.queries) = (items, observed.len() as u32);
    calibration.is_of_queries = u32::from(is_of_queries);
    let rows = calibration.reach.par_iter_mut().zip(&mut calibration.assurance);
    rows.zip(CALIBRATED_KS).enumerate().for_each(|(of_k, ((reach, assurance), k))| {
        let asked = observed.iter().enumerate().filter(|(i, _)| k <= asked_for(*i, observed.len()));
        let asked: Vec<&Observed> = asked.map(|(_, query)| query).collect();
        Curves::new(&asked, ladder, k).fit_row(k, reach);
        *assurance = assurance::fit(&asked, (of_k, k), reach);
    });
    calibration
}

/// The recall of k neighbours by budget and number of comparisons.
struct Curves<'a> {
    ladder: &'a [usize],
    /// For each step how many of all neighbours have a rank of less than 0, 1, ..., [`KEPT`].
    better: Vec<Vec<u32>>,
    all: usize,
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "counts of neighbours, and saturating estimates"
)]
impl<'a> Curves<'a> {
    fn new(asked: &[&Observed], ladder: &'a [usize], k: usize) -> Self {
        let at_step = |step: usize| {
            let mut better = vec![0u32; KEPT + 1];
            let ranks = asked.iter().flat_map(|query| query.ranks(step, k));
            ranks.filter(|rank| **rank != UNSEEN).for_each(|rank| better[usize::from(*rank) + 1] += 1);
            (1..better.len()).for_each(|i| better[i] += better[i - 1]);
            better
        };
        let all = asked.iter().map(|query| query.neighbours.min(k)).sum::<usize>().max(1);
        Self { ladder, better: (0..ladder.len()).map(at_step).collect(), all }
    }

    /// The logarithms of the budget of a step and of what it misses with so many comparisons.
    fn at(&self, step: usize, reranked: usize) -> (f64, f64) {
        let missed = self.all - self.better[step][reranked.min(KEPT)] as usize;
        ((self.ladder[step] as f64).ln(), self.none().max((missed as f64).ln() - (self.all as f64).ln()))
    }

    /// What counts as nothing missed: half of a neighbour. The logarithm of none is of no use.
    fn none(&self) -> f64 {
        0.5f64.ln() - (self.all as f64).ln()
    }

    /// The logarithm of the least budget with which no more than this is missed; `None` if it is out of reach of the ladder.
    fn budget(&self, missed: f64, reranked: usize) -> Option<f64> {
        let missed = missed.max(self.none());
        let step = (0..self.ladder.len()).find(|step| self.at(*step, reranked).1 <= missed)?;
        let Some(before) = step.checked_sub(1) else { return Some(self.at(step, reranked).0) };
        let ((x0, y0), (x1, y1)) = (self.at(before, reranked), self.at(step, reranked));
        Some(line(&[y1, y0], &[x1, x0], missed))
    }

    /// The least number of comparisons with which no more than this is missed, given the logarithm of a budget.
    fn reranked(&self, missed: f64, budget: f64) -> Option<usize> {
        let missed = missed.max(self.none());
        let upper = self.ladder.partition_point(|known| (*known as f64).ln() < budget).clamp(1, self.ladder.len() - 1);
        let is_enough = |reranked: &usize| {
            let ((x0, y0), (x1, y1)) = (self.at(upper - 1, *reranked), self.at(upper, *reranked));
            line(&[x0, x1], &[y0, y1], budget) <= missed
        };
        (1..=KEPT).find(is_enough)
    }

    fn fit_row(&self, k: usize, row: &mut [Reach; CALIBRATED_RECALLS.len()]) {
        for (i, recall) in CALIBRATED_RECALLS.into_iter().enumerate() {
            let before = i.checked_sub(1).map_or(Reach::default(), |i| row[i]);
            let may_miss = 1.0 - recall;
            // As many comparisons as keep their part of what may be missed, then as many sketches as that leaves to them.
            let scanned = self.budget((may_miss * (1.0 - LOST_TO_RERANK)).ln(), KEPT);
            let last = (self.ladder[self.ladder.len() - 1] as f64).ln();
            let reranked = self.reranked(may_miss.ln(), scanned.unwrap_or(last));
            let reranked = reranked.unwrap_or(before.reranked as usize).max(k);
            let sketches = match self.budget(may_miss.ln(), reranked) {
                Some(budget) => budget.exp().ceil() as u32,
                // Out of reach of the ladder: as far again as from half of it.
                None => before.sketches.max(FIRST_BUDGET as u32).saturating_mul(2),
            };
            row[i] = Reach {
                sketches: sketches.max(before.sketches),
                reranked: u32::try_from(reranked).unwrap_or(u32::MAX).max(before.reranked),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn rankings_keep_what_sorting_would_keep(
            steps in prop::collection::vec(prop::collection::vec((0u32..3000, -500i16..500), 0..3000), 1..6),
        ) {
            let (mut ranking, mut best) = (Ranking::default(), BTreeMap::new());
            for (id, estimate) in steps.iter().flatten() {
                let slot = best.entry(*id).or_insert(*estimate);
                *slot = (*slot).min(*estimate);
            }
            let mut expected: Vec<(i16, u32)> = best.into_iter().map(|(id, estimate)| (estimate, id)).collect();
            expected.sort_unstable();
            expected.truncate(KEPT);
            for step in steps {
                step.into_iter().for_each(|(id, estimate)| ranking.offer(id, f32::from(estimate)));
                ranking.ranked().for_each(drop);
            }
            prop_assert_eq!(ranking.ranked().collect::<Vec<_>>(), expected.into_iter().map(|it| it.1).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_budget_is_the_least_that_was_tried() {
        let ladder = ladder(1_000);
        // All neighbours are in the nearest leaf.
        let found = Observed { neighbours: 10, ranks: (0..10).collect(), assured: Vec::new() };
        let calibration = fit(&vec![found; 200], &ladder, 10_000, false);
        for reach in &calibration.reach[..2] {
            assert!(reach.iter().all(|reach| reach.sketches as usize == FIRST_BUDGET), "{reach:?}");
        }
    }

    #[test]
    fn any_cap_and_nothing_observed_give_a_calibration() {
        for cap in [0, 1, FIRST_BUDGET, FIRST_BUDGET + 1, 1_000_000] {
            let ladder = ladder(cap);
            assert!(ladder.len() >= 2 && ladder.is_sorted_by(|a, b| a < b), "{ladder:?}");
            for neighbours in [0, 100] {
                let nothing = Observed { neighbours, ranks: Vec::new(), assured: Vec::new() };
                let calibration = fit(&[nothing.clone(), nothing], &ladder, 10_000, false);
                assert!(calibration.reach.as_flattened().iter().all(|reach| reach.sketches > 0));
            }
        }
    }

    #[test]
    fn efforts_lie_between_the_budgets_below_and_above() {
        let ladder = ladder(1_000);
        // Half of the neighbours are met with the first budget, all with the third.
        let rows = [[0, 1, UNSEEN, UNSEEN], [0, 1, UNSEEN, UNSEEN], [0, 1, 2, 3]].concat();
        let observed = Observed { neighbours: 4, ranks: rows, assured: Vec::new() };
        let calibration = fit(&vec![observed; 200], &ladder, 10_000, false);
        let row = &calibration.reach[1];
        assert_eq!(row[0].sketches as usize, FIRST_BUDGET);
        assert!(row[1..].iter().all(|reach| (ladder[1]..=ladder[2]).contains(&(reach.sketches as usize))), "{row:?}");
        assert!(row.is_sorted_by_key(|reach| reach.sketches));
    }

    #[test]
    fn ranks_count_with_the_budget_that_is_spent() {
        // A neighbour that is met first and looks worse and worse calls for no comparisons that small budgets do not need,
        // though so few queries tell nothing of what is missed once in a thousand times.
        let ladder = ladder(200);
        let ranks = (0..).take(ladder.len()).map(|step| if step == 0 { 0 } else { 100 * step });
        let observed = Observed { neighbours: 1, ranks: ranks.collect(), assured: Vec::new() };
        let calibration = fit(&[observed], &ladder, 10_000, false);
        let expected = Reach { sketches: 64, reranked: 1 };
        assert!(calibration.reach[0].iter().all(|reach| *reach == expected), "{calibration:?}");
    }
}
