//! One search with a filter: deeper and deeper, until the rank of the last hit is known and the effort for it is met.
//!
//! See [`super::depth`] for how the rank is told. Where that is small, a search ends as one without a filter does: when what is
//! near beside the next leaf gives it the [`assurance`](super::assurance) that so many neighbours take, whichever of them are
//! admitted. In a trial, beside a fixed effort, with filters that admit most of what is near, the recall of 1 neighbour
//! rose from .933 to .943 in 17 percent less time (sift) and in 7 percent less (minilm), that of 10 from .944 to .946 in 4 percent
//! less (minilm; `filters` bench of the peers, 300 queries).

use super::assurance::{NEAR, ease};
use super::depth::Depth;
use super::effort::Effort;
use super::plan::Costs;
use super::request::{Asking, LAST_COMPARED};
use super::run::Run;
use super::scratch::Scratch;
use super::traversal::{Ended, Traversal};
use super::{Parts, Plan, Planted, Searched, Target};
use crate::error::Result;

/// The part of the usual effort of a search without a filter after which is looked first how it stands: one in so many.
const FIRST: usize = 4;
/// Entries that are kept while a search goes deeper, for each that is to be compared by what is known so far.
const SLACK: f32 = 2.0;
/// Where a filter leaves out what is near, so many times fewer hits than it would have if it had nothing to do with the query.
const AGAINST: f64 = 4.0;
/// Hits that it would have, at least, before that says something.
const EXPECTED: f64 = 8.0;
/// The part of the time of comparing all that may go into looking for a first k hits.
const SOUGHT: f64 = 0.25;
/// What going on against the filter takes, beside what it takes once: all that was met is looked through again for each rank.
/// Filters of the farthest 75 and 90 percent of SIFT took 1.7 and 1.5 times an exact scan without it for k = 1, and .9 to 1.0 with
/// it (`peers --bin filters --filters anti`, two runs).
const AGAIN: f64 = 3.0;
/// The rank of a hit by its own estimate, for that by the estimates of all, which makes a search go on.
const FARTHER: f64 = 1.2;
/// Ranks for which a search goes on, at most.
const ROUNDS: usize = 8;

/// What is known after some scanning.
struct Found {
    ended: Ended,
    /// The rank of the last hit.
    rank: usize,
    /// Entries, nearest first, among which it is compared what is admitted.
    entries: f32,
    /// Whether what is near the query is left out, so that estimates that are too small make the first hits.
    is_against: bool,
}

impl<'t> Run<'_, 't> {
    /// Searches as deep as the filter makes necessary.
    pub(super) fn search_filtered(
        &mut self,
        parts: &impl Parts<'t>,
        planted: Planted<'_, 't>,
        effort: Effort,
        admitted: u64,
    ) -> Result<()> {
        let pending = parts.pending()?;
        let costs = Costs::new(self.target.record, self.target.items.of, admitted);
        Scratch::with(|scratch| {
            self.prepare(planted, scratch);
            let (mut depth, mut ids) = (std::mem::take(&mut scratch.depth), std::mem::take(&mut scratch.ids));
            depth.begin();
            let mut traversal = Traversal::begin(self.target, planted, pending, self.request, scratch);
            let done = self.go_deeper((&mut traversal, &mut depth), &mut ids, effort, costs);
            let Searched { preparing, scanning, reranked, is_partial, .. } = self.searched;
            self.searched =
                Searched { plan: Plan::Forest, preparing, scanning, reranked, is_partial, ..traversal.searched() };
            (scratch.depth, scratch.ids) = (depth, ids);
            if done? {
                return self.compare(std::iter::empty(), pending.live_in(self.request));
            }
            let taken = self.nearest.take();
            self.compare_all()?;
            if self.searched.is_partial {
                self.nearest.put_back(taken);
            }
            Ok(())
        })
    }

    /// Scans and compares; `false` if comparing all that is admitted takes less than going on.
    fn go_deeper(
        &mut self,
        (traversal, depth): (&mut Traversal<'_, 't>, &mut Depth),
        ids: &mut Vec<u32>,
        mut effort: Effort,
        costs: Costs,
    ) -> Result<bool> {
        // Some are assured of their hits early.
        if effort.is_measured() {
            effort.budget = (effort.budget / FIRST).max(1);
        }
        let mut rank = 0;
        let asking = Asking::new(self.request);
        let admits = |id: u32| asking.admits(id);
        let predicate: Option<&dyn Fn(u32) -> bool> = if asking.is_none() { None } else { Some(&admits) };
        for _ in 0..ROUNDS {
            let found = self.deepen((traversal, depth), predicate, effort, costs, rank)?;
            self.searched.scanning += self.clock.lap();
            let Some(found) = found else { return Ok(false) };
            self.searched.is_partial |= found.ended == Ended::Stopped;
            let most = if self.searched.is_partial { LAST_COMPARED } else { usize::MAX };
            depth.nearest((self.request.k, found.entries, self.request.stop.first()), predicate, ids);
            self.compare(ids.iter().copied().take(most), std::iter::empty())?;
            if !found.is_against || self.searched.is_partial {
                break;
            }
            depth.keep_back(ids);
            // The first hits by estimate are those whose estimates are too small. What the hits turned out to be tells more.
            rank = depth.rank_of(self.nearest.iter());
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            if rank as f64 <= FARTHER * found.rank as f64 {
                break;
            }
        }
        Ok(true)
    }

    /// Scans until the effort for the rank of the k-th hit is met, which is known not to be smaller than some rank; `None` if
    /// comparing all that is admitted takes less than going on.
    #[expect(clippy::cast_precision_loss, reason = "estimates")]
    fn deepen(
        &self,
        (traversal, depth): (&mut Traversal<'_, 't>, &mut Depth),
        predicate: Option<&dyn Fn(u32) -> bool>,
        mut effort: Effort,
        costs: Costs,
        least_rank: usize,
    ) -> Result<Option<Found>> {
        let Target { record, items, .. } = self.target;
        let admitted = (costs.admitted / record.items.max(1) as f64).min(1.0);
        loop {
            let mut ended = traversal.run(&effort, depth, |_| true)?;
            let standing = depth.standing(self.request.k, predicate);
            if self.request.stop.was_due() {
                ended = Ended::Stopped;
            }
            let mut rank = standing.rank.max(least_rank);
            let expected = admitted * rank as f64;
            let is_against = expected > EXPECTED && expected > AGAINST * standing.hits as f64;
            let is_full = standing.hits >= self.request.k;
            if is_against && !is_full {
                // Without k hits, what is known of their rank is only that it is not smaller.
                rank = rank.saturating_mul(8);
            }
            let last = is_against.then_some(self.request.k);
            let deeper = Effort::for_rank(rank, last, self.request, record, items.of.metric);
            let compared = deeper.rerank as f32 * standing.copies;
            let entries = traversal.entries();
            let ease = if is_full && deeper.is_measured() {
                ease(items.of.metric, traversal.upcoming(), depth.nth(rank.min(NEAR)))
            } else {
                0.0
            };
            if ended == Ended::Stopped || is_full && deeper.is_assured(entries, || ease) {
                return Ok(Some(Found { ended, rank, entries: compared, is_against }));
            }
            let part = if is_against { admitted } else { f64::from(standing.part) };
            let next = deeper.next_budget(entries, ease, if is_against { 16.0 } else { 3.0 });
            let rest = costs.forest(next.max(deeper.budget) as f64 - entries, part, deeper.rerank as f64 * part);
            let rest = if is_against { AGAIN * rest } else { rest };
            let most = if is_full { costs.exact } else { SOUGHT * costs.exact };
            if rest > most || ended == Ended::Exhausted && !is_full {
                return Ok(None);
            }
            if ended == Ended::Exhausted {
                return Ok(Some(Found { ended, rank, entries: compared, is_against }));
            }
            if is_full {
                depth.tighten(SLACK * compared);
            }
            effort.budget = next;
        }
    }
}
