//! Scanning leaves, nearest centroid first, until the goal of the search is reached.

use crate::error::{Error, Result};
use crate::forest::descent::{Order, QueuedNode};
use crate::forest::open::OpenForest;
use crate::format::node::{LeafRef, NodeRef};
use crate::key::Key;
use crate::lmdb::pending::Pending;
use crate::math::scored::packed;
use crate::search::SearchStats;
use crate::search::budget::{Budget, Goal};
use crate::search::candidates::Candidates;
use crate::search::request::Request;
use crate::search::scan_state::ScanState;
use crate::search::scratch::Scratch;
use crate::search::session::Session;
use crate::sketch::prepared::ScanOptions;

/// Branches are opened as if this many more entries had been scanned.
///
/// So the order of leaves depends on the query alone, not on the goal. That is why a calibration
/// sees the leaves that searches see: docs/trials.md, "opening branches".
const LEAD_ENTRIES: f64 = 512.0;
/// More branches are opened when the entries have grown by this factor and a quarter of the lead.
/// This and the constants of adverse filters are in docs/trials.md, "choices that were not swept".
const EXPAND_GROWTH: f64 = 1.125;
/// A filter is adverse if it admits less than one in this many of the entries expected.
const ADVERSE_RARITY: f64 = 8.0;
/// That is checked once this many admitted entries were expected: fewer may be missing by chance.
const ADVERSE_MIN_EXPECTED: f64 = 32.0;
/// Leaves to take from the descent before the largest error of their sketches counts as known:
/// docs/trials.md, "own vectors".
const MIN_MEASURED_LEAVES: u64 = 8;
/// A leaf is small if its spread is this many times smaller than that of its branch. Sketches are
/// too coarse to order the centroids of small leaves. Not swept either.
const SMALL_SPREAD_RATIO: f32 = 4.0;
/// A filter makes the index smaller, so less confidence is needed: by this power of its
/// selectivity. Measured: docs/trials.md, "filters".
const FILTER_POWER: f64 = 0.5;

/// Whether the sketch of a leaf's centroid is too coarse: the leaf is small, or lies far out.
fn is_small(leaf: &NodeRef<'_>, branch_spread: f32) -> bool {
    leaf.is_local || branch_spread > SMALL_SPREAD_RATIO * leaf.spread
}

/// Collects the estimates of entries that the request admits.
pub(crate) trait Collector {
    /// Estimates above this need not be offered.
    fn threshold(&self) -> f32;
    /// Offers ids with their estimates, as [`packed`] numbers.
    fn offer_all(&mut self, found: &[u64]);
}

impl Collector for Candidates {
    fn threshold(&self) -> f32 {
        Candidates::threshold(self)
    }

    fn offer_all(&mut self, found: &[u64]) {
        Candidates::offer_all(self, found);
    }
}

/// Why a search through the forest ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The goal was reached.
    Enough,
    /// There are no more leaves.
    Exhausted,
    /// The filter is adverse: it admits many fewer near entries than its selectivity suggests.
    Adverse,
    /// The limit of entries was reached.
    GaveUp,
    Interrupted,
}

/// When a search gives up before it reaches its goal.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) max_entries: f64,
    /// The part of all entries that the filter admits; 0 if that is not to be checked.
    pub(crate) selectivity: f64,
}

/// A leaf to scan.
struct NextLeaf<'t> {
    estimate: f32,
    key: Key,
    leaf: LeafRef<'t>,
}

/// One search through the forest.
pub(crate) struct LeafScan<'a, 't> {
    session: &'a Session<'t>,
    forest: &'a OpenForest<'t>,
    pending: &'a Pending,
    request: &'a Request<'a>,
    scratch: &'a mut Scratch,
    /// The leaf to scan next, once it has been looked up.
    ahead: Option<NextLeaf<'t>>,
    /// The largest error of the sketches of small leaves so far.
    noise: f32,
}

impl<'a, 't> LeafScan<'a, 't> {
    /// Begins a search for the query that is prepared in `scratch`.
    pub(crate) fn begin(
        session: &'a Session<'t>,
        forest: &'a OpenForest<'t>,
        pending: &'a Pending,
        request: &'a Request<'a>,
        scratch: &'a mut Scratch,
    ) -> Self {
        let record = &session.record;
        scratch.descent.begin(Order::Score, record.trees().map(|(tree, record)| (tree, *record)));
        scratch.state = ScanState { excluded: f32::INFINITY, ..ScanState::default() };
        scratch.left_out.clear();
        scratch.waiting.clear();
        scratch.leaves.begin(record.calibration.source);
        if let Some(allowed) = request.filter.allowed {
            // Far more entries than most searches scan: enough to pay for preparing a usual filter.
            let entries = record.indexed.min(1 << 15);
            scratch.mask.begin(allowed, entries);
        }
        Self { session, forest, pending, request, scratch, ahead: None, noise: 0.0 }
    }

    /// Scans leaves until the goal of the budget or a limit is reached.
    pub(crate) fn run(
        &mut self,
        budget: &Budget,
        limits: Limits,
        candidates: &mut Candidates,
    ) -> Result<Ended> {
        // With `search_k`, the best on the way are kept at each doubling: a larger `search_k` must
        // not lose hits of a smaller one.
        let mut next_keep =
            if matches!(budget.goal, Goal::Admitted(_)) { 0.0 } else { f64::INFINITY };
        loop {
            if !self.look_ahead()? {
                return Ok(Ended::Exhausted);
            }
            let ScanState { entries, admitted, .. } = self.scratch.state;
            let Some(next) = self.ahead.take() else { return Ok(Ended::Exhausted) };
            let wanted = self.wanted(budget);
            let farthest = self.farthest(wanted, next.estimate);
            if self.is_goal_reached(wanted, farthest, candidates, next.estimate) {
                return Ok(Ended::Enough);
            }
            if self.request.interrupt.check() {
                return Ok(Ended::Interrupted);
            }
            let expected = entries * limits.selectivity;
            if expected > ADVERSE_MIN_EXPECTED && admitted * ADVERSE_RARITY < expected {
                return Ok(Ended::Adverse);
            }
            if entries > limits.max_entries {
                return Ok(Ended::GaveUp);
            }
            if entries >= next_keep {
                candidates.keep_back();
                next_keep = 2.0 * entries.max(1.0);
            }
            // Looks up the leaf after it, which the scan prefetches, if it will likely be scanned.
            #[expect(clippy::cast_precision_loss, reason = "a leaf has few entries")]
            let entries_after = entries + next.leaf.node.len as f64;
            if self.request.filter.is_none()
                && !self.is_goal_likely_reached(wanted, farthest, candidates, entries_after)
            {
                self.open_branches(entries_after)?;
                self.ahead = self.next()?;
            }
            self.scan(next, candidates)?;
        }
    }

    /// The goal of the budget, of entries such as the filter admits.
    fn wanted(&self, budget: &Budget) -> Goal {
        let ScanState { entries, admitted, .. } = self.scratch.state;
        // A predicate is called for near entries only, so it says nothing about all.
        let filter = &self.request.filter;
        let is_filtered =
            admitted < entries && filter.allowed.is_some() && filter.predicate.is_none();
        match budget.goal {
            Goal::Confidence(wanted) if is_filtered => {
                Goal::Confidence(wanted * (admitted / entries).powf(FILTER_POWER))
            }
            goal => goal,
        }
    }

    /// A score beyond which no k-th candidate reaches the goal. The next leaf has this estimate.
    /// `None` if no score reaches it.
    fn farthest(&self, wanted: Goal, next: f32) -> Option<f32> {
        match wanted {
            Goal::Admitted(_) => None,
            Goal::Confidence(wanted) => {
                self.scratch.leaves.farthest(self.session.spec().metric, next, wanted)
            }
        }
    }

    /// Whether the goal is reached, if the next leaf has this estimate.
    fn is_goal_reached(
        &self,
        wanted: Goal,
        farthest: Option<f32>,
        candidates: &mut Candidates,
        next: f32,
    ) -> bool {
        let (metric, k) = (self.session.spec().metric, self.request.k);
        match wanted {
            Goal::Admitted(wanted) => self.scratch.state.admitted >= wanted && candidates.is_full(),
            // The first check is cheap, the second is exact.
            Goal::Confidence(wanted) => {
                farthest.is_some_and(|farthest| candidates.has_within(k, farthest))
                    && self.scratch.leaves.confidence(metric, next, candidates.kth(k)) >= wanted
            }
        }
    }

    /// Whether the goal will likely be reached after this many entries. Cheap, and only a hint.
    fn is_goal_likely_reached(
        &self,
        wanted: Goal,
        farthest: Option<f32>,
        candidates: &Candidates,
        entries: f64,
    ) -> bool {
        match wanted {
            Goal::Admitted(wanted) => entries >= wanted,
            Goal::Confidence(_) => {
                farthest.is_some_and(|farthest| candidates.kth_at_most(self.request.k) <= farthest)
            }
        }
    }

    /// Looks up the next leaf, and opens branches for it. Returns `false` if there is none.
    pub(crate) fn look_ahead(&mut self) -> Result<bool> {
        if self.ahead.is_none() {
            self.open_branches(self.scratch.state.entries)?;
            self.ahead = self.next()?;
        }
        Ok(self.ahead.is_some())
    }

    /// Scans the next leaf, if there is one.
    pub(crate) fn step<S: Collector>(&mut self, collector: &mut S) -> Result<()> {
        self.look_ahead()?;
        self.ahead.take().map_or(Ok(()), |next| self.scan(next, collector))
    }

    /// The confidence of the search, if its k-th candidate has this score.
    pub(crate) fn confidence(&self, kth: f32) -> f64 {
        let next = self.ahead.as_ref().map_or(f32::INFINITY, |next| next.estimate);
        self.scratch.leaves.confidence(self.session.spec().metric, next, kth)
    }

    /// Whether the query lies far outside its nearest leaf: see [`crate::search::stop_rule`].
    pub(crate) fn is_far_outside(&self) -> bool {
        self.scratch.leaves.is_far_outside()
    }

    /// The smallest estimate of an entry that the request excludes; infinite if none was scanned.
    pub(crate) fn excluded(&self) -> f32 {
        self.scratch.state.excluded
    }

    /// Opens the branches needed after this many entries.
    fn open_branches(&mut self, entries: f64) -> Result<()> {
        let Scratch { descent, prepared, state, .. } = &mut *self.scratch;
        if entries < state.next_expand {
            return Ok(());
        }
        state.next_expand = EXPAND_GROWTH * entries + LEAD_ENTRIES / 4.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "far below 2^53"
        )]
        let goal = (entries + LEAD_ENTRIES) as usize;
        descent.expand(&self.forest.nodes, prepared, goal)
    }

    /// Entries of the leaves scanned so far.
    pub(crate) fn entries(&self) -> f64 {
        self.scratch.state.entries
    }

    /// How many of the entries that were left out have an estimate below this.
    pub(crate) fn left_out_within(&self, estimate: f32) -> usize {
        self.scratch.left_out.iter().filter(|left_out| **left_out < estimate).count()
    }

    /// The statistics so far.
    pub(crate) fn stats(&self) -> SearchStats {
        let descent = &self.scratch.descent;
        let mut stats = self.scratch.state.stats;
        (stats.branches, stats.branch_sketches) = (descent.branches, descent.branch_sketches);
        stats.bytes += descent.bytes;
        stats
    }

    /// The nearest leaf that has not been scanned.
    ///
    /// The descent orders leaves by the sketches of their centroids. Small leaves are ordered
    /// by their exact centroids instead, and wait until the descent has nothing nearer.
    fn next(&mut self) -> Result<Option<NextLeaf<'t>>> {
        loop {
            let Scratch { descent, prepared, state, waiting, .. } = &mut *self.scratch;
            let upcoming = descent.upcoming().map_or(f32::INFINITY, |node| node.estimate);
            let nearest = waiting.last().filter(|_| state.leaves >= MIN_MEASURED_LEAVES);
            // The sketch of the upcoming leaf may be wrong by as much as earlier ones were.
            let is_nearest =
                nearest.is_some_and(|nearest| nearest.estimate + self.noise <= upcoming);
            let node =
                if is_nearest { None } else { descent.next_leaf(&self.forest.nodes, prepared)? };
            let is_from_waiting = node.is_none();
            let Some(node) = node.or_else(|| waiting.pop()) else { return Ok(None) };
            let key = Key::leaf(self.session.spec().index, node.tree, node.id);
            // While this leaf is scanned, the pages of the next one are found. What is cached of
            // the one after it arrives.
            let mut upcoming = descent.next_two();
            if let Some(next) = upcoming.next() {
                self.forest.nodes.touch_leaf(next.tree, next.id);
            }
            if let Some(after) = upcoming.next() {
                self.forest.nodes.prefetch_leaf(after.tree, after.id);
            }
            drop(upcoming);
            let leaf = self.forest.nodes.leaf(node.tree, node.id)?;
            if is_from_waiting {
                return Ok(Some(NextLeaf { estimate: node.estimate, key, leaf }));
            }
            state.leaves += 1;
            if self.request.filter.allowed.is_none() {
                leaf.prefetch();
            }
            let is_small = is_small(&leaf.node, descent.spread);
            let score = if is_small { prepared.score_of_centroid(&leaf.node) } else { None };
            if score.is_none() && waiting.is_empty() {
                return Ok(Some(NextLeaf { estimate: node.estimate, key, leaf }));
            }
            let estimate = score.unwrap_or(node.estimate);
            let noise = (estimate - node.estimate).abs();
            if is_small && noise.is_finite() {
                self.noise = self.noise.max(noise);
            }
            let slot = waiting.partition_point(|other| other.estimate.total_cmp(&estimate).is_gt());
            waiting.insert(slot, QueuedNode { estimate, ..node });
        }
    }

    fn scan<S: Collector>(&mut self, next: NextLeaf<'t>, collector: &mut S) -> Result<()> {
        let len = next.leaf.node.len;
        let ahead = self.ahead.as_ref().map_or(&[][..], |next| next.leaf.node.blocks);
        let admitted = self.estimate(&next.leaf, ahead, collector.threshold());
        let (checked, passed) = self.select(&next, collector)?;
        let state = &mut self.scratch.state;
        // The admitted part of a leaf is estimated from its checked entries, else from all checked
        // so far.
        state.checked += f64::from(checked);
        state.passed += f64::from(passed);
        let part = match (checked, state.checked > 0.0) {
            (1.., _) => f64::from(passed) / f64::from(checked),
            (0, true) => state.passed / state.checked,
            (0, false) => 1.0,
        };
        #[expect(clippy::cast_precision_loss, reason = "a leaf has few entries")]
        let (entries, admitted) = (len as f64, admitted as f64 * part);
        state.entries += entries;
        state.admitted += admitted;
        let metric = self.session.spec().metric;
        self.scratch.leaves.push(metric, next.estimate, admitted, next.leaf.node.spread);
        Ok(())
    }

    /// Estimates the entries of a leaf, except those that the set of the filter rules out. Returns
    /// how many of all its entries that set admits.
    fn estimate(&mut self, leaf: &LeafRef<'t>, ahead: &[u8], threshold: f32) -> usize {
        let Scratch { prepared, mask, estimates, left_out, state, .. } = &mut *self.scratch;
        let len = leaf.node.len;
        let (mut admitted, mut touched, mut allowed) = (len, len, None);
        if let Some(filter) = self.request.filter.allowed {
            mask.fill(leaf.set, filter);
            mask.touch();
            (admitted, touched, allowed) =
                (mask.admitted, mask.touched.min(len), Some(&mask.touching[..]));
        }
        state.stats.leaves += 1;
        state.stats.sketches += touched as u64;
        state.stats.bytes += leaf.bytes_of(touched) as u64;
        estimates.clear();
        prepared.scan(&leaf.node, ScanOptions { allowed, threshold, ahead }, estimates);
        if allowed.is_some() {
            estimates.retain(|entry| {
                let is_admitted = mask.admits(entry.position as usize);
                if !is_admitted {
                    left_out.push(entry.estimate);
                }
                is_admitted
            });
        }
        admitted
    }

    /// Offers the estimated entries that the request admits. Returns how many were checked one by
    /// one, and how many of them passed.
    fn select<S: Collector>(
        &mut self,
        next: &NextLeaf<'t>,
        collector: &mut S,
    ) -> Result<(u32, u32)> {
        let Scratch { estimates, found, left_out, state, .. } = &mut *self.scratch;
        let (request, pending) = (self.request, self.pending);
        let predicate = request.filter.predicate;
        let is_checking = predicate.is_some() || !pending.ids.is_empty();
        let (mut checked, mut passed) = (0u32, 0u32);
        found.clear();
        let positions = estimates.iter().map(|entry| (entry.position as usize, entry.estimate));
        let selected = next.leaf.set.select(positions, |id, estimate| {
            if request.exclude.contains(&id) {
                state.excluded = state.excluded.min(estimate);
                return;
            }
            if is_checking {
                let is_admitted = !pending.ids.contains(id)
                    && predicate.is_none_or(|predicate| request.interrupt.admits(predicate, id));
                (checked, passed) = (checked + 1, passed + u32::from(is_admitted));
                if !is_admitted {
                    left_out.push(estimate);
                    return;
                }
            }
            found.push(packed(id, estimate));
        });
        selected.ok_or_else(|| Error::corrupted(next.key, "a leaf has fewer ids than it says"))?;
        collector.offer_all(found);
        Ok((checked, passed))
    }
}
