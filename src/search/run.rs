//! One search from its beginning to its end: candidates from the forest, exact distances, what is pending.

use std::time::{Duration, Instant};

use super::depth::Depth;
use super::effort::Effort;
use super::exact::{Measure, Nearest, compare_all, score_within};
use super::plan::{Choice, Costs};
use super::request::Request;
use super::scratch::Scratch;
use super::traversal::{Ended, Traversal};
use super::{Hit, Parts, Plan, Planted, Searched, Target};
use crate::error::Result;
use crate::format::item::ItemRef;

/// Candidates that are compared exactly after a search was stopped, at most: what it has by then is worth as much.
const LAST_COMPARED: usize = 64;
/// Entries that are kept while a search goes deeper, for each that is to be compared by what is known so far.
const SLACK: f32 = 2.0;

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
    let planted = match Choice::new(request, target.record, of, admitted) {
        Choice::Forest(effort) => parts.planted()?.map(|planted| (planted, effort)),
        Choice::Exact => None,
    };
    match planted {
        None => run.compare_all()?,
        // Who says how much to search gets it, with a filter, too.
        Some((planted, effort)) if request.filter.is_none() || request.search_k.is_some() => {
            run.search_forest(parts, planted, effort)?;
        }
        Some((planted, effort)) => run.search_filtered(parts, planted, effort, admitted)?,
    }
    Ok(run.finish())
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

    fn search_forest(&mut self, parts: &impl Parts<'t>, planted: Planted<'_, 't>, effort: Effort) -> Result<()> {
        let pending = parts.pending()?;
        Scratch::with(|scratch| {
            let forest = planted.forest;
            scratch.prepared.prepare(&forest.space, &self.measure.query, forest.leaf, forest.branch);
            self.searched.preparing = self.clock.lap();
            let mut candidates = std::mem::take(&mut scratch.candidates);
            candidates.begin(effort.rerank);
            let mut traversal = Traversal::begin(self.target, planted, pending, self.request, scratch);
            let ended = traversal.run(&effort, &mut candidates, |candidates| candidates.is_full());
            let preparing = self.searched.preparing;
            self.searched =
                Searched { plan: Plan::Forest, preparing, scanning: self.clock.lap(), ..traversal.searched() };
            let compared = match ended {
                Ok(ended) => {
                    self.searched.is_partial = ended == Ended::Stopped;
                    let most = if self.searched.is_partial { LAST_COMPARED } else { usize::MAX };
                    let live = pending.live.iter().filter(|id| self.request.admits(*id));
                    self.compare(candidates.ids(most), live)
                }
                Err(error) => Err(error),
            };
            scratch.candidates = candidates;
            compared
        })
    }

    /// Searches as deep as the filter makes necessary; see [`super::depth`].
    fn search_filtered(
        &mut self,
        parts: &impl Parts<'t>,
        planted: Planted<'_, 't>,
        effort: Effort,
        admitted: u64,
    ) -> Result<()> {
        let pending = parts.pending()?;
        let costs = Costs::new(self.target.record, self.target.items.of, admitted);
        Scratch::with(|scratch| {
            let forest = planted.forest;
            scratch.prepared.prepare(&forest.space, &self.measure.query, forest.leaf, forest.branch);
            self.searched.preparing = self.clock.lap();
            let mut depth = std::mem::take(&mut scratch.depth);
            depth.begin();
            let mut traversal = Traversal::begin(self.target, planted, pending, self.request, scratch);
            let end = self.deepen(&mut traversal, &mut depth, effort, costs);
            let preparing = self.searched.preparing;
            self.searched =
                Searched { plan: Plan::Forest, preparing, scanning: self.clock.lap(), ..traversal.searched() };
            let compared = match end {
                Ok(None) => self.compare_all(),
                Ok(Some((ended, entries))) => {
                    self.searched.is_partial = ended == Ended::Stopped;
                    let mut ids = std::mem::take(&mut scratch.ids);
                    depth.nearest((self.request.k, entries), self.request.filter.predicate, &mut ids);
                    let most = if self.searched.is_partial { LAST_COMPARED } else { usize::MAX };
                    let live = pending.live.iter().filter(|id| self.request.admits(*id));
                    let compared = self.compare(ids.iter().copied().take(most), live);
                    scratch.ids = ids;
                    compared
                }
                Err(error) => Err(error),
            };
            scratch.depth = depth;
            compared
        })
    }

    /// Scans until the effort for the rank of the k-th hit is met. Returns why it ended and how many of the nearest entries
    /// are to be compared; `None` if comparing all that is admitted takes less than going on.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "estimates"
    )]
    fn deepen(
        &self,
        traversal: &mut Traversal<'_, 't>,
        depth: &mut Depth,
        mut effort: Effort,
        costs: Costs,
    ) -> Result<Option<(Ended, f32)>> {
        let Target { record, items, .. } = self.target;
        loop {
            let ended = traversal.run(&effort, depth, |_| true)?;
            let standing = depth.standing(self.request.k, self.request.filter.predicate);
            let deeper = Effort::for_rank(standing.rank, self.request, record, items.of.metric);
            let compared = deeper.rerank as f32 * standing.copies;
            let entries = traversal.entries();
            if ended == Ended::Stopped || standing.is_full && deeper.budget as f64 <= entries {
                return Ok(Some((ended, compared)));
            }
            let part = f64::from(standing.part);
            let rest = costs.forest(deeper.budget as f64 - entries, part, deeper.rerank as f64 * part);
            // Without k hits, what is known of their rank is only that it is not smaller.
            if rest > costs.exact || ended == Ended::Exhausted && !standing.is_full {
                return Ok(None);
            }
            if ended == Ended::Exhausted {
                return Ok(Some((ended, compared)));
            }
            if standing.is_full {
                depth.tighten(SLACK * compared);
            }
            // Step by step, since the rank is an estimate; each time at least half as much again.
            let entries = entries as usize;
            let (least, most) = (entries / 2 * 3, entries * 3);
            effort.budget = deeper.budget.clamp(least, most);
        }
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
