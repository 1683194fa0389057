//! One search from its beginning to its end: candidates from the forest, exact distances, what is pending.

use std::time::{Duration, Instant};

use super::candidates::Candidates;
use super::effort::{Effort, Goal};
use super::exact::{Measure, Nearest, compare_all, score_within};
use super::pending::Pending;
use super::plan::{Choice, Costs};
use super::request::{LAST_COMPARED, Request};
use super::scratch::Scratch;
use super::traversal::{Ended, Traversal};
use super::{Hit, Parts, Plan, Planted, Searched, Target};
use crate::error::Result;
use crate::format::item::ItemRef;
use crate::format::record::Record;

/// Items that a request can find, at most.
pub(crate) fn admitted(target: Target<'_, '_>, request: &Request<'_>) -> u64 {
    let items = target.record.items;
    request.filter.allowed.map_or(items, |allowed| allowed.len().min(items))
}

/// Answers a request: the nearest `k` items that it admits, nearest first.
pub(crate) fn search<'t>(
    target: Target<'_, 't>,
    parts: &impl Parts<'t>,
    query: ItemRef<'_>,
    request: &Request<'_>,
) -> Result<(Vec<Hit>, Searched)> {
    let of = target.items.of;
    let admitted = admitted(target, request);
    let k = request.k.min(usize::try_from(admitted).unwrap_or(usize::MAX));
    if k == 0 {
        return Ok((Vec::new(), Searched::default()));
    }
    let request = &Request { k, ..*request };
    let mut run = Run {
        target,
        request,
        measure: Measure { of, level: target.level, query },
        nearest: Nearest::new(k, score_within(of.metric, request.within)),
        searched: Searched::default(),
        clock: Clock::start(request.is_timed),
    };
    let effort = match Choice::new(request, target.record, of, admitted) {
        Choice::Forest(effort) => parts.planted()?.map(|planted| (planted, effort)),
        Choice::Exact { is_out_of_reach } => {
            run.searched.is_out_of_reach = is_out_of_reach;
            None
        }
    };
    match effort {
        None => run.compare_all()?,
        Some((planted, effort)) => run.search_forest(parts, planted, effort, admitted)?,
    }
    Ok(run.finish())
}

/// What to do after leaves have been scanned.
enum Done {
    /// Compare the candidates.
    Candidates,
    /// Search deeper, as the filter leaves out what is near.
    Against,
    CompareAll,
}

/// A filter against the query leaves out so many times more of what is near than of all. It also leaves out so many entries
/// more.
const AGAINST: f64 = 4.0;
const AGAINST_BY: f64 = 16.0;

/// Whether a filter that admits this part of all items leaves out much more of those nearer than the k-th hit.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn is_against(k: usize, (part, nearer): (f64, usize), record: &Record) -> bool {
    let copies = f64::from(1 + record.spill) * f64::from(record.trees);
    let usual = copies * k as f64 * (1.0 - part) / part;
    nearer as f64 > AGAINST * usual + AGAINST_BY
}

struct Run<'a, 't> {
    target: Target<'a, 't>,
    request: &'a Request<'a>,
    measure: Measure<'a>,
    nearest: Nearest,
    searched: Searched,
    clock: Clock,
}

impl<'t> Run<'_, 't> {
    fn compare_all(&mut self) -> Result<()> {
        self.searched.is_partial = compare_all(self.target, &self.measure, self.request, &mut self.nearest)?;
        self.searched.scanned_exactly = self.nearest.compared - self.searched.reranked;
        let has_tried = self.searched.plan == Plan::Forest;
        self.searched.plan = if has_tried { Plan::ForestThenExact } else { Plan::Exact };
        Ok(())
    }

    /// Compares all items after some were found to be near, which are not lost if it has to stop.
    fn compare_all_after(&mut self, candidates: &mut Candidates) -> Result<()> {
        if self.request.stop.is_none() {
            return self.compare_all();
        }
        self.compare(candidates.ids(LAST_COMPARED, LAST_COMPARED), std::iter::empty())?;
        let taken = self.nearest.take();
        self.compare_all()?;
        if self.searched.is_partial {
            self.nearest.put_back(taken);
        }
        Ok(())
    }

    fn prepare(&mut self, planted: Planted<'_, 't>, scratch: &mut Scratch) {
        let forest = planted.forest;
        scratch.prepared.prepare(&forest.space, &self.measure.query, forest.leaf, forest.branch);
        self.searched.preparing = self.clock.lap();
    }

    /// Searches the forest; and all items where comparing them takes less than going on.
    fn search_forest(
        &mut self,
        parts: &impl Parts<'t>,
        planted: Planted<'_, 't>,
        effort: Effort,
        admitted: u64,
    ) -> Result<()> {
        let pending = parts.pending()?;
        Scratch::with(|scratch| {
            self.prepare(planted, scratch);
            let mut candidates = std::mem::take(&mut scratch.candidates);
            let mut done = self.scan((planted, pending), scratch, (effort, admitted), &mut candidates);
            if matches!(done, Ok(Done::Against)) {
                let deep = self.deep(admitted, pending);
                done = deep.map_or(Ok(Done::CompareAll), |deep| {
                    self.scan((planted, pending), scratch, (deep, admitted), &mut candidates)
                });
            }
            self.searched.scanning = self.clock.lap();
            let compared = match done {
                Ok(Done::Candidates) => {
                    let most = if self.searched.is_partial { LAST_COMPARED } else { usize::MAX };
                    self.compare(candidates.ids(most, self.request.stop.first()), pending.live_in(self.request))
                }
                Ok(_) => self.compare_all_after(&mut candidates),
                Err(error) => Err(error),
            };
            scratch.candidates = candidates;
            compared
        })
    }

    /// Scans leaves for candidates.
    fn scan(
        &mut self,
        (planted, pending): (Planted<'_, 't>, &Pending),
        scratch: &mut Scratch,
        (effort, admitted): (Effort, u64),
        candidates: &mut Candidates,
    ) -> Result<Done> {
        let record = self.target.record;
        // Entries that are no longer true are left out as a filter leaves out what it does not admit.
        let all = record.items.saturating_add(pending.ids.len()).max(1);
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let part = admitted as f64 / all as f64;
        let is_filtered = (part < 1.0 || !self.request.filter.is_none()) && self.request.search_k.is_none();
        let costs = Costs::new(record, self.target.items.of, admitted);
        let most = if is_filtered { costs.entries_for(part) } else { f64::INFINITY };
        candidates.begin(effort.rerank);
        let mut traversal = Traversal::begin(self.target, planted, pending, self.request, scratch);
        let ended = traversal.run(&effort, most, candidates)?;
        let did = traversal.searched();
        self.searched.plan = Plan::Forest;
        self.searched.add(&did);
        self.searched.is_partial = ended == Ended::Stopped;
        let is_deep = matches!(effort.goal, Goal::Entries(_));
        Ok(match ended {
            Ended::Stopped => Done::Candidates,
            Ended::GaveUp => Done::CompareAll,
            Ended::Exhausted if is_filtered => Done::CompareAll,
            // What is left out may be all that so many entries hold.
            Ended::Enough if is_filtered && candidates.kth(self.request.k) == f32::INFINITY => Done::CompareAll,
            Ended::Enough if is_filtered && !is_deep => {
                let nearer = traversal.left_out_within(candidates.kth(self.request.k));
                if is_against(self.request.k, (part, nearer), record) { Done::Against } else { Done::Candidates }
            }
            _ => Done::Candidates,
        })
    }

    /// The effort of a search whose filter leaves out what is near the query: that for the nearest of all items, as many as it
    /// wants and are left out. None if comparing all takes less.
    fn deep(&self, admitted: u64, pending: &Pending) -> Option<Effort> {
        let record = self.target.record;
        let left_out = record.items.saturating_sub(admitted).saturating_add(pending.ids.len());
        let left_out = usize::try_from(left_out).unwrap_or(usize::MAX);
        let rank = self.request.k.saturating_add(left_out);
        let deep = Effort::for_rank(rank, self.request, record);
        let costs = Costs::new(record, self.target.items.of, admitted);
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let time = costs.forest(deep.entries, 1.0, deep.rerank as f64);
        (!deep.is_out_of_reach && time < costs.exact).then_some(deep)
    }

    /// Compares candidates, and then items that wait for a build.
    fn compare(&mut self, ids: impl Iterator<Item = u32>, pending: impl Iterator<Item = u32>) -> Result<()> {
        let Self { target, request, measure, nearest, searched, .. } = self;
        searched.is_partial |= measure.rank_known(target.items, ids, request.stop, |ranked| nearest.offer(ranked))?;
        searched.reranked = nearest.compared;
        searched.is_partial |=
            measure.rank_known(target.items, pending, request.stop, |ranked| nearest.offer(ranked))?;
        searched.scanned_exactly = nearest.compared - searched.reranked;
        Ok(())
    }

    fn finish(mut self) -> (Vec<Hit>, Searched) {
        self.searched.bytes += self.measure.bytes(self.nearest.compared);
        let hits = self.nearest.into_hits(self.target.items.of.metric);
        self.searched.comparing = self.clock.lap();
        (hits, self.searched)
    }
}

/// Measures the phases of a search, if somebody wants to know.
struct Clock(Option<Instant>);

impl Clock {
    fn start(is_wanted: bool) -> Self {
        Self(is_wanted.then(Instant::now))
    }

    /// The time since the last lap.
    fn lap(&mut self) -> Duration {
        let Some(before) = &mut self.0 else { return Duration::ZERO };
        let now = Instant::now();
        now - std::mem::replace(before, now)
    }
}
