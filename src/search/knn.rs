//! One search from query to hits: scan leaves, rerank candidates, compare pending items.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::forest::open::OpenForest;
use crate::format::item::ItemRef;
use crate::format::record::Record;
use crate::lmdb::pending::Pending;
use crate::search::brute_force::compare_all;
use crate::search::budget::Budget;
use crate::search::candidates::{Candidates, estimate_of, id_of};
use crate::search::leaf_scan::{Ended, LeafScan, Limits};
use crate::search::plan::{Choice, Costs};
use crate::search::request::{Options, Request};
use crate::search::rerank::{Bounds, Nearest, Scorer};
use crate::search::residuals::Residuals;
use crate::search::scratch::Scratch;
use crate::search::session::Session;
use crate::search::{Hit, SearchPlan, SearchStats};

/// The largest number of items that a request can find.
pub(crate) fn admitted(session: &Session<'_>, request: &Request<'_>) -> u64 {
    let items = session.record.items;
    request.filter.allowed.map_or(items, |allowed| allowed.len().min(items))
}

/// Pending items that exist and that the request admits. Ends early if it is interrupted.
fn live_in<'r>(
    pending: &'r Pending,
    request: &'r Request<'_>,
) -> impl Iterator<Item = u32> + use<'r> {
    request.interrupt.limit(pending.live.iter()).filter(|id| request.admits(*id))
}

/// Finds the nearest `k` items that the request admits, nearest first.
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

/// A query is unlike the measured ones if it seems to miss this many times what the target allows.
/// Then deeper passes follow, until it misses no more than that: docs/trials.md, "residuals".
const UNLIKE_RATIO: f64 = 4.0;
/// The budget of such a deeper pass, as a multiple of the one before.
const UNLIKE_BUDGET_FACTOR: u32 = 4;
/// The budget of a deeper pass with an adverse filter, as a multiple of the first one:
/// docs/trials.md, "residuals".
const ADVERSE_BUDGET_FACTOR: u32 = 16;
/// A filter is adverse if it leaves out this many times the near entries that its selectivity
/// explains: docs/trials.md, "choices that were not swept".
const ADVERSE_RATIO: f64 = 4.0;
/// And this many more, as a few may be chance.
const ADVERSE_ENTRIES: f64 = 16.0;

/// Whether a filter left out many more near entries than its selectivity explains.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn is_adverse(k: usize, selectivity: f64, nearer_left_out: usize, record: &Record) -> bool {
    let copies = f64::from(1 + record.spill) * f64::from(record.trees);
    let usual = copies * k as f64 * (1.0 - selectivity) / selectivity;
    nearer_left_out as f64 > ADVERSE_RATIO * usual + ADVERSE_ENTRIES
}

/// What comes after a pass over leaves.
enum AfterPass {
    Rerank,
    /// Scan more leaves before reranking, as the filter is adverse.
    RerankAdverse,
    CompareAll,
}

/// One pass over leaves.
#[derive(Copy, Clone)]
struct Pass {
    budget: Budget,
    /// Whether an earlier pass found too little.
    is_deeper: bool,
}

impl Pass {
    fn deeper(self, factor: u32) -> Self {
        Self { budget: self.budget.times(factor), is_deeper: true }
    }
}

struct Run<'a, 't> {
    session: &'a Session<'t>,
    request: &'a Request<'a>,
    /// The largest number of items that the request can find.
    admitted: u64,
    costs: Costs,
    scorer: Scorer<'a>,
    nearest: Nearest,
    residuals: Residuals,
    stats: SearchStats,
    clock: Clock,
}

impl<'t> Run<'_, 't> {
    /// Compares all items. An interrupt leaves the hits found before.
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

    /// Compares all items after a pass over leaves. Reranks the best candidates first, in case an
    /// interrupt ends the comparison of all.
    fn compare_all_after(&mut self, candidates: &mut Candidates) -> Result<()> {
        if self.nearest.compared == 0 {
            self.compare_few(candidates)?;
        }
        self.compare_all()
    }

    /// Reranks the best candidates of a search that may be interrupted, so that it has hits by
    /// then.
    fn compare_few(&mut self, candidates: &mut Candidates) -> Result<()> {
        if self.request.interrupt.is_none() {
            return Ok(());
        }
        let first = self.request.interrupt.compared_first();
        self.compare(candidates.arranged(first, first), std::iter::empty())
    }

    /// Searches the forest. Compares all items once that takes less than going on.
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
            // Taken out, as the scratch is borrowed for the scan.
            let mut candidates = std::mem::take(&mut scratch.candidates);
            self.residuals = std::mem::take(&mut scratch.residuals);
            let result = self.search_leaves(open, scratch, budget, &mut candidates);
            scratch.candidates = candidates;
            scratch.residuals = std::mem::take(&mut self.residuals);
            result
        })
    }

    /// Scans leaves and reranks candidates, in passes of growing budget until one is enough.
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
            let sketches_before = self.stats.sketches;
            let next = self.scan(open, scratch, pass, candidates)?;
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            let scanned = (self.stats.sketches - sketches_before) as f64;
            self.stats.scanning += self.clock.lap();
            pass = match next {
                AfterPass::CompareAll => return self.compare_all_after(candidates),
                AfterPass::RerankAdverse if !pass.is_deeper => {
                    if self.is_exact_cheaper(pending) {
                        return self.compare_all_after(candidates);
                    }
                    self.compare_few(candidates)?;
                    pass.deeper(ADVERSE_BUDGET_FACTOR)
                }
                AfterPass::RerankAdverse | AfterPass::Rerank => {
                    let first = self.request.interrupt.compared_first();
                    let max = if self.stats.is_partial { first } else { usize::MAX };
                    let live = live_in(pending, self.request);
                    self.compare(candidates.arranged(max, first), live)?;
                    self.stats.comparing += self.clock.lap();
                    // After a deeper pass the query is known to be unlike: the target itself
                    // counts.
                    if !self.has_missed(if pass.is_deeper { 1.0 } else { UNLIKE_RATIO }) {
                        return Ok(());
                    }
                    pass.deeper(UNLIKE_BUDGET_FACTOR)
                }
            };
            let Budget { entries, rerank, .. } = pass.budget;
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            if self.costs.forest(entries.max(scanned), 1.0, rerank as f64) > self.costs.exact {
                return self.compare_all_after(candidates);
            }
        }
    }

    /// Whether comparing all costs no more than a search for everything left out and `k` more.
    ///
    /// That is the worst case of an adverse filter: all that it leaves out is nearer.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn is_exact_cheaper(&self, pending: &Pending) -> bool {
        let record = &self.session.record;
        let left_out = record.items.saturating_sub(self.admitted).saturating_add(pending.ids.len());
        let rank = usize::try_from(left_out).unwrap_or(usize::MAX).saturating_add(self.request.k);
        let deep = Budget::for_recall(rank, f64::from(self.request.options.recall), record);
        deep.is_out_of_reach
            || self.costs.forest(deep.entries, 1.0, deep.rerank as f64) >= self.costs.exact
    }

    /// Whether the residuals show more missed neighbours than `ratio` times what the target allows.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn has_missed(&mut self, ratio: f64) -> bool {
        let Options { recall, search_k, oversampling, .. } = self.request.options;
        // A budget of the caller's is final.
        if search_k.is_some() || oversampling.is_some() || self.stats.is_partial {
            return false;
        }
        let missed = self.residuals.missed(self.session.spec().metric, self.nearest.kth());
        missed > ratio * (1.0 - f64::from(recall)) * self.request.k as f64
    }

    /// One pass over leaves, which gathers candidates.
    fn scan(
        &mut self,
        open: &OpenForest<'t>,
        scratch: &mut Scratch,
        pass: Pass,
        candidates: &mut Candidates,
    ) -> Result<AfterPass> {
        let (record, pending) = (&self.session.record, self.session.pending()?);
        let Request { k, options, filter, .. } = self.request;
        // Pending ids are left out of leaves as a filter leaves out ids, so they count as filtered.
        let all = record.items.saturating_add(pending.ids.len()).max(1);
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let selectivity = self.admitted as f64 / all as f64;
        let is_filtered = (selectivity < 1.0 || !filter.is_none()) && options.search_k.is_none();
        // The selectivity of a predicate is unknown before it is called.
        let is_selectivity_known = is_filtered && filter.predicate.is_none();
        let limits = Limits {
            max_entries: if is_filtered {
                self.costs.entries_for(selectivity)
            } else {
                f64::INFINITY
            },
            selectivity: if is_selectivity_known && !pass.is_deeper { selectivity } else { 0.0 },
        };
        candidates.begin(pass.budget.rerank);
        let mut leaf_scan = LeafScan::begin(self.session, open, pending, self.request, scratch);
        let ended = leaf_scan.run(&pass.budget, limits, candidates)?;
        self.stats.plan = SearchPlan::Forest;
        self.stats.add(&leaf_scan.stats());
        self.stats.is_partial = ended == Ended::Interrupted;
        Ok(match ended {
            Ended::Adverse => AfterPass::RerankAdverse,
            Ended::GaveUp => AfterPass::CompareAll,
            Ended::Exhausted if is_filtered => AfterPass::CompareAll,
            // Fewer than k candidates: the filter may leave out nearly all that is near.
            Ended::Enough if is_filtered && candidates.kth(*k) == f32::INFINITY => {
                AfterPass::CompareAll
            }
            Ended::Enough if is_selectivity_known => {
                let nearer = leaf_scan.left_out_within(candidates.kth(*k));
                let is_adverse = is_adverse(*k, selectivity, nearer, record);
                if is_adverse { AfterPass::RerankAdverse } else { AfterPass::Rerank }
            }
            Ended::Enough | Ended::Exhausted | Ended::Interrupted => AfterPass::Rerank,
        })
    }

    /// Compares candidates and then pending items, and notes the residuals of the candidates.
    ///
    /// Begins with no hits. If it is interrupted, earlier hits are added again.
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

/// Times the phases of a search, if there is a report to fill: reading the clock takes time.
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
