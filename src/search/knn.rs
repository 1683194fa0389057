//! One search from its beginning to its end: candidates from the forest, exact distances, what is
//! pending.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::format::item::ItemRef;
use crate::format::record::Record;
use crate::lmdb::pending::Pending;
use crate::search::brute_force::{Nearest, Scorer, compare_all, score_within};
use crate::search::budget::Budget;
use crate::search::candidates::{Candidates, estimate_of, id_of};
use crate::search::leaf_scan::{Ended, LeafScan};
use crate::search::plan::{Choice, Costs};
use crate::search::request::{LAST_COMPARED, Request};
use crate::search::residuals::Residuals;
use crate::search::scratch::Scratch;
use crate::search::{Hit, Parts, Planted, SearchPlan, SearchStats, Target};

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
) -> Result<(Vec<Hit>, SearchStats)> {
    let spec = target.items.spec;
    let admitted = admitted(target, request);
    let k = request.k.min(usize::try_from(admitted).unwrap_or(usize::MAX));
    if k == 0 {
        return Ok((Vec::new(), SearchStats::default()));
    }
    let request = &Request { k, ..*request };
    let mut run = Run {
        target,
        request,
        measure: Scorer { spec, simd: target.simd, query },
        nearest: Nearest::new(k, score_within(spec.metric, request.within)),
        residuals: Residuals::default(),
        searched: SearchStats::default(),
        clock: Clock::start(request.is_timed),
    };
    let effort = match Choice::new(request, target.record, spec, admitted) {
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

/// A query whose comparisons seem to miss more than 4 times what they may is unlike those measured.
/// Its search does 4 times more of everything, until they seem to miss no more than they may:
/// docs/trials.md, "residuals".
const UNLIKE: f64 = 4.0;
const MORE: u32 = 4;
/// The same for a filter that leaves out what is near.
const DEEPER: u32 = 16;

/// What to do after leaves have been scanned.
enum Done {
    /// Compare the candidates.
    Candidates,
    /// The same, but the filter leaves out what is near.
    Against,
    CompareAll,
}

/// A filter against the query leaves out so many times more of what is near than of all. It also
/// leaves out so many entries more.
const AGAINST: f64 = 4.0;
const AGAINST_BY: f64 = 16.0;

/// Whether a filter that admits this part of all leaves out much more of what is near.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn is_against(k: usize, (part, nearer): (f64, usize), record: &Record) -> bool {
    let copies = f64::from(1 + record.spill) * f64::from(record.trees);
    let usual = copies * k as f64 * (1.0 - part) / part;
    nearer as f64 > AGAINST * usual + AGAINST_BY
}

struct Run<'a, 't> {
    target: Target<'a, 't>,
    request: &'a Request<'a>,
    measure: Scorer<'a>,
    nearest: Nearest,
    residuals: Residuals,
    searched: SearchStats,
    clock: Clock,
}

impl<'t> Run<'_, 't> {
    /// Compares all items. What was found before is not lost if it has to stop.
    fn compare_all(&mut self) -> Result<()> {
        let (taken, before) = (self.nearest.begin_again(self.request.stop), self.nearest.compared);
        self.searched.is_partial =
            compare_all(self.target, &self.measure, self.request, &mut self.nearest)?;
        self.searched.scanned_exactly += self.nearest.compared - before;
        let has_tried = self.searched.plan == SearchPlan::Forest;
        self.searched.plan =
            if has_tried { SearchPlan::ForestThenExact } else { SearchPlan::Exact };
        if self.searched.is_partial {
            self.nearest.put_back(taken);
        }
        Ok(())
    }

    /// Compares all items after some were found to be near, which are not lost if it has to stop.
    fn compare_all_after(&mut self, candidates: &mut Candidates) -> Result<()> {
        if self.nearest.compared == 0 {
            self.compare_few(candidates)?;
        }
        self.compare_all()
    }

    /// Compares the nearest candidates of a search that may have to stop before it has better ones.
    fn compare_few(&mut self, candidates: &mut Candidates) -> Result<()> {
        if self.request.stop.is_none() {
            return Ok(());
        }
        self.compare(candidates.arranged(LAST_COMPARED, LAST_COMPARED), std::iter::empty())
    }

    fn prepare(&mut self, planted: Planted<'_, 't>, scratch: &mut Scratch) {
        let forest = planted.forest;
        scratch.prepared.prepare(
            &forest.transform,
            &self.measure.query,
            forest.leaf,
            forest.branch,
        );
        self.searched.preparing = self.clock.lap();
    }

    /// Searches the forest; and all items where comparing them takes less than going on.
    fn search_forest(
        &mut self,
        parts: &impl Parts<'t>,
        planted: Planted<'_, 't>,
        effort: Budget,
        admitted: u64,
    ) -> Result<()> {
        let pending = parts.pending()?;
        Scratch::with(|scratch| {
            self.prepare(planted, scratch);
            let mut candidates = std::mem::take(&mut scratch.candidates);
            self.residuals = std::mem::take(&mut scratch.residuals);
            let compared =
                self.look((planted, pending), scratch, (effort, admitted), &mut candidates);
            (scratch.candidates, scratch.residuals) =
                (candidates, std::mem::take(&mut self.residuals));
            compared
        })
    }

    /// Scans leaves and compares candidates; and does so again with more effort where that turns
    /// out to be too little.
    fn look(
        &mut self,
        spec: (Planted<'_, 't>, &Pending),
        scratch: &mut Scratch,
        (mut effort, admitted): (Budget, u64),
        candidates: &mut Candidates,
    ) -> Result<()> {
        let costs = Costs::new(self.target.record, self.target.items.spec, admitted);
        let mut is_thorough = false;
        loop {
            let before = self.searched.sketches;
            let done = self.scan(spec, scratch, (effort, is_thorough, admitted), candidates)?;
            #[expect(clippy::cast_precision_loss, reason = "estimates")]
            let scanned = (self.searched.sketches - before) as f64;
            self.searched.scanning += self.clock.lap();
            let more = match done {
                Done::CompareAll => return self.compare_all_after(candidates),
                Done::Against if !is_thorough => {
                    if self.is_all_cheaper(&costs, admitted, spec.1) {
                        return self.compare_all_after(candidates);
                    }
                    self.compare_few(candidates)?;
                    DEEPER
                }
                Done::Against | Done::Candidates => {
                    let most = if self.searched.is_partial { LAST_COMPARED } else { usize::MAX };
                    let candidates = candidates.arranged(most, self.request.stop.first());
                    self.compare(candidates, spec.1.live_in(self.request))?;
                    self.searched.comparing += self.clock.lap();
                    if !self.has_missed(if is_thorough { 1.0 } else { UNLIKE }) {
                        return Ok(());
                    }
                    MORE
                }
            };
            (effort, is_thorough) = (effort.times(more), true);
            #[expect(clippy::cast_precision_loss, reason = "estimates")]
            if costs.forest(effort.entries.max(scanned), 1.0, effort.rerank as f64) > costs.exact {
                return self.compare_all_after(candidates);
            }
        }
    }

    /// Whether comparing all takes no longer than to search as deep as for all that is left out.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn is_all_cheaper(&self, costs: &Costs, admitted: u64, pending: &Pending) -> bool {
        let record = self.target.record;
        let left_out = record.items.saturating_sub(admitted).saturating_add(pending.ids.len());
        let rank = usize::try_from(left_out).unwrap_or(usize::MAX).saturating_add(self.request.k);
        let deep = Budget::for_recall(rank, f64::from(self.request.recall), record);
        deep.is_out_of_reach || costs.forest(deep.entries, 1.0, deep.rerank as f64) >= costs.exact
    }

    /// Whether a search seems to have missed this many times what it may, by its comparisons.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn has_missed(&mut self, times: f64) -> bool {
        let Request { k, recall, search_k, oversampling, .. } = *self.request;
        let is_told = search_k.is_some() || oversampling.is_some();
        if is_told || self.searched.is_partial {
            return false;
        }
        let missed = self.residuals.missed(self.target.items.spec.metric, self.nearest.kth());
        missed > times * (1.0 - f64::from(recall)) * k as f64
    }

    /// Scans leaves for candidates.
    fn scan(
        &mut self,
        (planted, pending): (Planted<'_, 't>, &Pending),
        scratch: &mut Scratch,
        (effort, is_thorough, admitted): (Budget, bool, u64),
        candidates: &mut Candidates,
    ) -> Result<Done> {
        let record = self.target.record;
        // Entries that are no longer true are left out as a filter leaves out what it does not
        // admit.
        let all = record.items.saturating_add(pending.ids.len()).max(1);
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let part = admitted as f64 / all as f64;
        let is_filtered =
            (part < 1.0 || !self.request.filter.is_none()) && self.request.search_k.is_none();
        let costs = Costs::new(record, self.target.items.spec, admitted);
        let most = if is_filtered { costs.entries_for(part) } else { f64::INFINITY };
        candidates.begin(effort.rerank);
        let mut leaf_scan = LeafScan::begin(self.target, planted, pending, self.request, scratch);
        let is_known = is_filtered && !is_thorough && self.request.filter.predicate.is_none();
        let ended =
            leaf_scan.run(&effort, (most, if is_known { part } else { 0.0 }), candidates)?;
        let did = leaf_scan.searched();
        self.searched.plan = SearchPlan::Forest;
        self.searched.add(&did);
        self.searched.is_partial = ended == Ended::Stopped;
        Ok(match ended {
            Ended::Stopped => Done::Candidates,
            Ended::Against => Done::Against,
            Ended::GaveUp => Done::CompareAll,
            Ended::Exhausted if is_filtered => Done::CompareAll,
            // What is left out may be all that so many entries hold.
            Ended::Enough if is_filtered && candidates.kth(self.request.k) == f32::INFINITY => {
                Done::CompareAll
            }
            // What a predicate leaves out of all is not known.
            Ended::Enough if is_filtered && self.request.filter.predicate.is_none() => {
                let nearer = leaf_scan.left_out_within(candidates.kth(self.request.k));
                if is_against(self.request.k, (part, nearer), record) {
                    Done::Against
                } else {
                    Done::Candidates
                }
            }
            _ => Done::Candidates,
        })
    }

    /// Compares candidates, and then items that wait for a build.
    fn compare(&mut self, candidates: &[u64], pending: impl Iterator<Item = u32>) -> Result<()> {
        let Self { target, request, measure, nearest, searched, residuals, .. } = self;
        let (items, metric, stop) = (target.items, target.items.spec.metric, request.stop);
        let (taken, before) = (nearest.begin_again(stop), nearest.compared);
        residuals.clear();
        let mut estimates = candidates.iter().map(|candidate| estimate_of(*candidate));
        let ids = candidates.iter().map(|candidate| id_of(*candidate));
        searched.is_partial |= measure.rank_known(items, ids, stop, |ranked| {
            residuals.add(metric, estimates.next().unwrap_or(f32::NAN), ranked.score);
            nearest.offer(ranked);
        })?;
        let reranked = nearest.compared;
        searched.is_partial |=
            measure.rank_known(items, pending, stop, |ranked| nearest.offer(ranked))?;
        searched.reranked += reranked - before;
        searched.scanned_exactly += nearest.compared - reranked;
        if searched.is_partial {
            nearest.put_back(taken);
        }
        Ok(())
    }

    fn finish(mut self) -> (Vec<Hit>, SearchStats) {
        self.searched.bytes += self.measure.bytes(self.nearest.compared);
        let hits = self.nearest.into_hits(self.target.items.spec.metric);
        self.searched.comparing += self.clock.lap();
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
