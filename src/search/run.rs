//! One search from its beginning to its end: candidates from the forest, exact distances, what is pending.

use std::time::{Duration, Instant};

use super::effort::Effort;
use super::exact::{Measure, Nearest, compare_all, score_within};
use super::plan::Choice;
use super::request::{LAST_COMPARED, Request};
use super::scratch::Scratch;
use super::traversal::{Ended, Traversal};
use super::{Hit, Parts, Plan, Planted, Searched, Target};
use crate::error::Result;
use crate::format::item::ItemRef;

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

pub(super) struct Run<'a, 't> {
    pub(super) target: Target<'a, 't>,
    pub(super) request: &'a Request<'a>,
    pub(super) measure: Measure<'a>,
    pub(super) nearest: Nearest,
    pub(super) searched: Searched,
    pub(super) clock: Clock,
}

impl<'t> Run<'_, 't> {
    pub(super) fn compare_all(&mut self) -> Result<()> {
        self.searched.is_partial = compare_all(self.target, &self.measure, self.request, &mut self.nearest)?;
        self.searched.scanned_exactly = self.nearest.compared - self.searched.reranked;
        let has_tried = self.searched.plan == Plan::Forest;
        self.searched.plan = if has_tried { Plan::ForestThenExact } else { Plan::Exact };
        Ok(())
    }

    pub(super) fn prepare(&mut self, planted: Planted<'_, 't>, scratch: &mut Scratch) {
        let forest = planted.forest;
        scratch.prepared.prepare(&forest.space, &self.measure.query, forest.leaf, forest.branch);
        self.searched.preparing = self.clock.lap();
    }

    fn search_forest(&mut self, parts: &impl Parts<'t>, planted: Planted<'_, 't>, effort: Effort) -> Result<()> {
        let pending = parts.pending()?;
        Scratch::with(|scratch| {
            self.prepare(planted, scratch);
            let mut candidates = std::mem::take(&mut scratch.candidates);
            candidates.begin(effort.rerank, effort.near(self.request.k));
            let mut traversal = Traversal::begin(self.target, planted, pending, self.request, scratch);
            let ended = traversal.run(&effort, &mut candidates, |candidates| candidates.is_full());
            let preparing = self.searched.preparing;
            self.searched =
                Searched { plan: Plan::Forest, preparing, scanning: self.clock.lap(), ..traversal.searched() };
            let compared = match ended {
                Ok(ended) => {
                    self.searched.is_partial = ended == Ended::Stopped;
                    let most = if self.searched.is_partial { LAST_COMPARED } else { usize::MAX };
                    self.compare(candidates.ids(most, self.request.stop.first()), pending.live_in(self.request))
                }
                Err(error) => Err(error),
            };
            scratch.candidates = candidates;
            compared
        })
    }

    /// Compares candidates, and then items that wait for a build.
    pub(super) fn compare(&mut self, ids: impl Iterator<Item = u32>, pending: impl Iterator<Item = u32>) -> Result<()> {
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
pub(super) struct Clock(Option<Instant>);

impl Clock {
    fn start(is_wanted: bool) -> Self {
        Self(is_wanted.then(Instant::now))
    }

    /// The time since the last lap.
    pub(super) fn lap(&mut self) -> Duration {
        let Some(before) = &mut self.0 else { return Duration::ZERO };
        let now = Instant::now();
        now - std::mem::replace(before, now)
    }
}
