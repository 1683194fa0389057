//! One search from its beginning to its end: candidates from the forest, exact distances, what is
//! pending.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::forest::open::OpenForest;
use crate::format::item::ItemRef;
use crate::format::record::Record;
use crate::lmdb::pending::Pending;
use crate::search::brute_force::{Bounds, Nearest, Scorer, compare_all};
use crate::search::budget::Budget;
use crate::search::candidates::{Candidates, estimate_of, id_of};
use crate::search::interrupt::LAST_COMPARED;
use crate::search::leaf_scan::{Ended, LeafScan, Limits};
use crate::search::plan::{Choice, Costs};
use crate::search::request::{Options, Request};
use crate::search::residuals::Residuals;
use crate::search::scratch::Scratch;
use crate::search::session::Session;
use crate::search::{Hit, SearchPlan, SearchStats};

/// Items that a request can find, at most.
pub(crate) fn admitted(session: &Session<'_>, request: &Request<'_>) -> u64 {
    let items = session.record.items;
    request.filter.allowed.map_or(items, |allowed| allowed.len().min(items))
}

/// Pending items that exist and that a request admits, until it is interrupted.
fn live_in<'r>(
    pending: &'r Pending,
    request: &'r Request<'_>,
) -> impl Iterator<Item = u32> + use<'r> {
    request.interrupt.limit(pending.live.iter()).filter(|id| request.admits(*id))
}

/// Answers a request: the nearest `k` items that it admits, nearest first.
pub(crate) fn search(
    session: &Session<'_>,
    query: ItemRef<'_>,
    request: &Request<'_>,
) -> Result<(Vec<Hit>, SearchStats)> {
    let spec = session.spec();
    let admitted = admitted(session, request);
    let k = request.k.min(usize::try_from(admitted).unwrap_or(usize::MAX));
    if k == 0 {
        return Ok((Vec::new(), SearchStats::default()));
    }
    let request = &Request { k, ..*request };
    let costs = Costs::new(&session.record, spec, admitted);
    let mut run = Run {
        session,
        request,
        admitted,
        costs,
        scorer: Scorer { spec, simd: session.simd, query },
        nearest: Nearest::new(k, Bounds::new(spec.metric, &request.options)),
        residuals: Residuals::default(),
        stats: SearchStats::default(),
        clock: Clock::start(request.options.is_timed),
    };
    let choice = match Choice::new(request, &session.record, &costs) {
        Choice::Forest(budget) => session.forest()?.map(|open| (open, budget)),
        Choice::Exact { is_out_of_reach } => {
            run.stats.is_out_of_reach = is_out_of_reach;
            None
        }
    };
    match choice {
        None => run.compare_all()?,
        Some((open, budget)) => run.search_forest(open, budget)?,
    }
    Ok(run.finish())
}

/// A query whose comparisons seem to miss so many times what they may is unlike those measured. Its
/// search does more of everything, until they seem to miss no more than they may: docs/trials.md,
/// "residuals".
const UNLIKE_RATIO: f64 = 4.0;
const UNLIKE_EFFORT: u32 = 4;
/// How many times more a search does when its filter is adverse: it leaves out what is near.
const ADVERSE_EFFORT: u32 = 16;
/// An adverse filter leaves out so many times more of what is near than of all, and so many entries
/// more.
const ADVERSE_RATIO: f64 = 4.0;
const ADVERSE_ENTRIES: f64 = 16.0;

/// Whether a filter that admits this part of all leaves out much more of what is near.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn is_adverse(k: usize, part: f64, nearer_left_out: usize, record: &Record) -> bool {
    let copies = f64::from(1 + record.spill) * f64::from(record.trees);
    let usual = copies * k as f64 * (1.0 - part) / part;
    nearer_left_out as f64 > ADVERSE_RATIO * usual + ADVERSE_ENTRIES
}

/// What comes after a pass over leaves.
enum Next {
    Rerank,
    /// The same, and then a deeper pass: the filter is adverse.
    RerankAdverse,
    CompareAll,
}

/// One pass over leaves.
#[derive(Copy, Clone)]
struct Pass {
    budget: Budget,
    /// Whether it comes after a pass that found too little.
    is_deeper: bool,
}

impl Pass {
    fn deeper(self, times: u32) -> Self {
        Self { budget: self.budget.times(times), is_deeper: true }
    }
}

struct Run<'a, 't> {
    session: &'a Session<'t>,
    request: &'a Request<'a>,
    /// Items that the request can find, at most.
    admitted: u64,
    costs: Costs,
    scorer: Scorer<'a>,
    nearest: Nearest,
    residuals: Residuals,
    stats: SearchStats,
    clock: Clock,
}

impl<'t> Run<'_, 't> {
    /// Compares all items. If it is interrupted, what was found before stays.
    fn compare_all(&mut self) -> Result<()> {
        let taken = self.nearest.begin_again(self.request.interrupt);
        let before = self.nearest.compared;
        self.stats.is_partial =
            compare_all(self.session, &self.scorer, self.request, &mut self.nearest)?;
        self.stats.scanned_exactly += self.nearest.compared - before;
        self.stats.plan = match self.stats.plan {
            SearchPlan::Forest => SearchPlan::ForestThenExact,
            _ => SearchPlan::Exact,
        };
        if self.stats.is_partial {
            self.nearest.put_back(taken);
        }
        Ok(())
    }

    /// Compares all items after leaves have been scanned. An interrupt loses none of their best
    /// candidates.
    fn compare_all_after(&mut self, candidates: &mut Candidates) -> Result<()> {
        if self.nearest.compared == 0 {
            self.compare_few(candidates)?;
        }
        self.compare_all()
    }

    /// Compares the nearest candidates of a search that may be interrupted before it has better
    /// ones.
    fn compare_few(&mut self, candidates: &mut Candidates) -> Result<()> {
        if self.request.interrupt.is_none() {
            return Ok(());
        }
        self.compare(candidates.arranged(LAST_COMPARED, LAST_COMPARED), std::iter::empty())
    }

    /// Searches the forest, or compares all items where going on would take longer.
    fn search_forest(&mut self, open: &OpenForest<'t>, budget: Budget) -> Result<()> {
        Scratch::with(|scratch| {
            let OpenForest { forest, .. } = open;
            scratch.prepared.prepare(
                &forest.transform,
                &self.scorer.query,
                forest.leaf,
                forest.branch,
            );
            self.stats.preparing = self.clock.lap();
            // The buffers of both are lent to this search.
            let mut candidates = std::mem::take(&mut scratch.candidates);
            self.residuals = std::mem::take(&mut scratch.residuals);
            let result = self.search_leaves(open, scratch, budget, &mut candidates);
            scratch.candidates = candidates;
            scratch.residuals = std::mem::take(&mut self.residuals);
            result
        })
    }

    /// Scans leaves and reranks candidates, and again with a larger budget where that was too
    /// little.
    fn search_leaves(
        &mut self,
        open: &OpenForest<'t>,
        scratch: &mut Scratch,
        budget: Budget,
        candidates: &mut Candidates,
    ) -> Result<()> {
        let pending = self.session.pending()?;
        let mut pass = Pass { budget, is_deeper: false };
        loop {
            let before = self.stats.sketches;
            let next = self.scan(open, scratch, pass, candidates)?;
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            let scanned = (self.stats.sketches - before) as f64;
            self.stats.scanning += self.clock.lap();
            pass = match next {
                Next::CompareAll => return self.compare_all_after(candidates),
                Next::RerankAdverse if !pass.is_deeper => {
                    if self.is_exact_cheaper(pending) {
                        return self.compare_all_after(candidates);
                    }
                    self.compare_few(candidates)?;
                    pass.deeper(ADVERSE_EFFORT)
                }
                Next::RerankAdverse | Next::Rerank => {
                    let max = if self.stats.is_partial { LAST_COMPARED } else { usize::MAX };
                    let first = self.request.interrupt.compared_first();
                    let live = live_in(pending, self.request);
                    self.compare(candidates.arranged(max, first), live)?;
                    self.stats.comparing += self.clock.lap();
                    if !self.has_missed(if pass.is_deeper { 1.0 } else { UNLIKE_RATIO }) {
                        return Ok(());
                    }
                    pass.deeper(UNLIKE_EFFORT)
                }
            };
            let Budget { entries, rerank, .. } = pass.budget;
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            if self.costs.forest(entries.max(scanned), 1.0, rerank as f64) > self.costs.exact {
                return self.compare_all_after(candidates);
            }
        }
    }

    /// Whether comparing all takes no longer than to search as deep as for all that is left out.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn is_exact_cheaper(&self, pending: &Pending) -> bool {
        let record = &self.session.record;
        let left_out = record.items.saturating_sub(self.admitted).saturating_add(pending.ids.len());
        let rank = usize::try_from(left_out).unwrap_or(usize::MAX).saturating_add(self.request.k);
        let deep = Budget::for_recall(rank, f64::from(self.request.options.recall), record);
        deep.is_out_of_reach
            || self.costs.forest(deep.entries, 1.0, deep.rerank as f64) >= self.costs.exact
    }

    /// Whether the comparisons seem to have missed more than `times` what they may.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn has_missed(&self, times: f64) -> bool {
        let Options { recall, search_k, oversampling, .. } = self.request.options;
        // The caller's own budget is kept.
        if search_k.is_some() || oversampling.is_some() || self.stats.is_partial {
            return false;
        }
        let missed = self.residuals.missed(self.session.spec().metric, self.nearest.kth());
        missed > times * (1.0 - f64::from(recall)) * self.request.k as f64
    }

    /// Scans leaves for candidates.
    fn scan(
        &mut self,
        open: &OpenForest<'t>,
        scratch: &mut Scratch,
        pass: Pass,
        candidates: &mut Candidates,
    ) -> Result<Next> {
        let (record, pending) = (&self.session.record, self.session.pending()?);
        let Request { k, options, filter, .. } = self.request;
        // Entries that are no longer true are left out as a filter leaves out what it does not
        // admit.
        let all = record.items.saturating_add(pending.ids.len()).max(1);
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let part = self.admitted as f64 / all as f64;
        let is_filtered = (part < 1.0 || !filter.is_none()) && options.search_k.is_none();
        // What a predicate leaves out of all is not known.
        let is_part_known = is_filtered && filter.predicate.is_none();
        let limits = Limits {
            max_entries: if is_filtered { self.costs.entries_for(part) } else { f64::INFINITY },
            expected_part: if is_part_known && !pass.is_deeper { part } else { 0.0 },
        };
        candidates.begin(pass.budget.rerank);
        let mut leaf_scan = LeafScan::begin(self.session, open, pending, self.request, scratch);
        let ended = leaf_scan.run(&pass.budget, limits, candidates)?;
        self.stats.plan = SearchPlan::Forest;
        self.stats.add(&leaf_scan.stats());
        self.stats.is_partial = ended == Ended::Interrupted;
        Ok(match ended {
            Ended::Adverse => Next::RerankAdverse,
            Ended::GaveUp => Next::CompareAll,
            Ended::Exhausted if is_filtered => Next::CompareAll,
            // What is left out may be all that so many entries hold.
            Ended::Enough if is_filtered && candidates.kth(*k) == f32::INFINITY => Next::CompareAll,
            Ended::Enough if is_part_known => {
                let nearer = leaf_scan.left_out_within(candidates.kth(*k));
                let is_adverse = is_adverse(*k, part, nearer, record);
                if is_adverse { Next::RerankAdverse } else { Next::Rerank }
            }
            Ended::Enough | Ended::Exhausted | Ended::Interrupted => Next::Rerank,
        })
    }

    /// Compares candidates, and then items that wait for a build.
    fn compare(&mut self, candidates: &[u64], pending: impl Iterator<Item = u32>) -> Result<()> {
        let Self { session, request, scorer, nearest, stats, residuals, .. } = self;
        let (items, metric, interrupt) = (&session.items, session.spec().metric, request.interrupt);
        let taken = nearest.begin_again(interrupt);
        let before = nearest.compared;
        residuals.clear();
        let mut estimates = candidates.iter().map(|candidate| estimate_of(*candidate));
        let ids = candidates.iter().map(|candidate| id_of(*candidate));
        stats.is_partial |= scorer.rank_known(items, ids, interrupt, |ranked| {
            residuals.add(metric, estimates.next().unwrap_or(f32::NAN), ranked.score);
            nearest.offer(ranked);
        })?;
        let reranked = nearest.compared;
        stats.is_partial |=
            scorer.rank_known(items, pending, interrupt, |ranked| nearest.offer(ranked))?;
        stats.reranked += reranked - before;
        stats.scanned_exactly += nearest.compared - reranked;
        if stats.is_partial {
            nearest.put_back(taken);
        }
        Ok(())
    }

    fn finish(mut self) -> (Vec<Hit>, SearchStats) {
        self.stats.bytes += self.scorer.bytes(self.nearest.compared);
        let hits = self.nearest.into_hits(self.session.spec().metric);
        self.stats.comparing += self.clock.lap();
        (hits, self.stats)
    }
}

/// Times the phases of a search, if a report wants them.
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
