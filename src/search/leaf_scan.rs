//! From leaf to leaf: scanning sketches, nearest centroid first, until the goal of the search is
//! met.

use std::cell::Cell;

use crate::error::{Error, Result};
use crate::forest::descent::{Order, QueuedNode};
use crate::forest::open::OpenForest;
use crate::format::node::{LeafRef, NodeRef};
use crate::key::Key;
use crate::lmdb::pending::Pending;
use crate::search::SearchStats;
use crate::search::budget::{Budget, Goal};
use crate::search::candidates::Candidates;
use crate::search::request::Request;
use crate::search::scratch::Scratch;
use crate::search::session::Session;
use crate::sketch::prepared::ScanOptions;

/// Branches are opened as if so many entries more had been scanned. They are opened again when
/// entries have grown by this factor and a quarter of the lead.
///
/// So the leaves that a search scans depend on its query alone. Its goal only says when it ends, and
/// a calibration sees what searches see: docs/trials.md, "opening branches".
const LEAD_ENTRIES: f64 = 512.0;
const EXPAND_GROWTH: f64 = 1.125;
/// A filter is adverse if it admits less than an eighth of the entries expected, and more than so
/// many were expected.
const ADVERSE_RARITY: f64 = 8.0;
const ADVERSE_MIN_EXPECTED: f64 = 32.0;
/// Leaves scanned before the error of the sketches of small leaves counts as known.
const MIN_MEASURED_LEAVES: u64 = 8;
/// A leaf is small if its spread is so many times smaller than that of its branch. Sketches of
/// centroids cannot order small leaves.
const SMALL_SPREAD_RATIO: f32 = 4.0;
/// A filter makes the index smaller. The confidence wanted falls with this power of the part that
/// is admitted: docs/trials.md, "filters".
const FILTER_POWER: f64 = 0.5;

/// Whether the sketch of a leaf's centroid says too little: the leaf lies far out, or is small
/// beside the branches above leaves.
fn is_small(leaf: &NodeRef<'_>, branch_spread: f32) -> bool {
    leaf.is_local || branch_spread > SMALL_SPREAD_RATIO * leaf.spread
}

/// What takes the estimates of entries that the request admits.
pub(crate) trait Collector {
    /// Estimates above this are of no use.
    fn threshold(&self) -> f32;
    fn offer(&mut self, id: u32, estimate: f32);
}

impl Collector for Candidates {
    fn threshold(&self) -> f32 {
        Candidates::threshold(self)
    }

    fn offer(&mut self, id: u32, estimate: f32) {
        Candidates::offer(self, id, estimate);
    }
}

/// Why a search through the forest ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The goal was met.
    Enough,
    /// There are no more leaves.
    Exhausted,
    /// The filter is adverse: of what lies near, it admits much less than of all.
    Adverse,
    /// The limit of entries was reached.
    GaveUp,
    Interrupted,
}

/// When a search gives up before it meets its goal.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) max_entries: f64,
    /// The part of the entries that the filter admits, by what it admits of all; 0 if that is not
    /// known.
    pub(crate) expected_part: f64,
}

/// How far a search through the forest has come.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct ScanState {
    /// Leaves looked at, those that the filter rules out included.
    leaves: u64,
    /// Entries of these leaves, and how many of them the request admits.
    entries: f64,
    admitted: f64,
    /// How many entries were asked about one by one, and how many of them the request admits.
    asked: f64,
    yes: f64,
    /// Entries with which more branches are opened.
    reached: f64,
    /// The least estimate of an entry that the request excludes.
    excluded: f32,
    searched: SearchStats,
}

/// A leaf that has come out of the descent.
struct Next<'t> {
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
    ahead: Option<Next<'t>>,
    /// The most by which sketches of small leaves were wrong.
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
        scratch.measured.clear();
        scratch.leaves.clear();
        if let Some(allowed) = request.filter.allowed {
            // Much more than the entries that will be looked at; all of them if that is less.
            let entries = record.indexed.min(1 << 15);
            scratch.mask.begin(allowed, entries);
        }
        Self { session, forest, pending, request, scratch, ahead: None, noise: 0.0 }
    }

    /// Scans leaves until the goal of the budget is met, or a limit is reached.
    pub(crate) fn run(
        &mut self,
        budget: &Budget,
        limits: Limits,
        candidates: &mut Candidates,
    ) -> Result<Ended> {
        // With `search_k` a search keeps what was best on the way, so that more never finds less.
        let mut kept_at =
            if matches!(budget.goal, Goal::Admitted(_)) { 0.0 } else { f64::INFINITY };
        loop {
            if !self.look_ahead()? {
                return Ok(Ended::Exhausted);
            }
            let ScanState { entries, admitted, .. } = self.scratch.state;
            let Some(next) = self.ahead.take() else { return Ok(Ended::Exhausted) };
            if self.is_met(budget, candidates, next.estimate) {
                return Ok(Ended::Enough);
            }
            if self.request.interrupt.check() {
                return Ok(Ended::Interrupted);
            }
            let expected = entries * limits.expected_part;
            if expected > ADVERSE_MIN_EXPECTED && admitted * ADVERSE_RARITY < expected {
                return Ok(Ended::Adverse);
            }
            if entries > limits.max_entries {
                return Ok(Ended::GaveUp);
            }
            if entries >= kept_at {
                candidates.keep_back();
                kept_at = 2.0 * entries.max(1.0);
            }
            // Prefetches the leaf after it, if that is likely to be scanned.
            #[expect(clippy::cast_precision_loss, reason = "a leaf has few entries")]
            let then = entries + next.leaf.node.len as f64;
            if self.request.filter.is_none()
                && !self.is_likely_met(budget, candidates, then, next.estimate)
            {
                self.widen(then)?;
                self.ahead = self.next()?;
            }
            self.scan(next, candidates)?;
        }
    }

    /// Whether the goal is met after so many entries, of which the request admits so many.
    fn is_met(&self, budget: &Budget, candidates: &mut Candidates, next: f32) -> bool {
        let ScanState { entries, admitted, .. } = self.scratch.state;
        match budget.goal {
            Goal::Admitted(wanted) => admitted >= wanted && candidates.is_full(),
            Goal::Confidence(wanted) => {
                // What a predicate leaves out of all is not known.
                let filter = &self.request.filter;
                let is_filtered =
                    admitted < entries && filter.allowed.is_some() && filter.predicate.is_none();
                let part = if is_filtered { (admitted / entries).powf(FILTER_POWER) } else { 1.0 };
                let (leaves, metric, k) =
                    (&self.scratch.leaves, self.session.spec().metric, self.request.k);
                let farthest = leaves.farthest(metric, next, wanted * part);
                farthest.is_some_and(|farthest| candidates.has_within(k, farthest))
                    && leaves.confidence(metric, next, candidates.kth(k)) >= wanted * part
            }
        }
    }

    /// Whether the goal seems to be met after so many entries: a cheap hint.
    fn is_likely_met(
        &self,
        budget: &Budget,
        candidates: &Candidates,
        entries: f64,
        next: f32,
    ) -> bool {
        match budget.goal {
            Goal::Admitted(wanted) => entries >= wanted,
            Goal::Confidence(wanted) => {
                let farthest =
                    self.scratch.leaves.farthest(self.session.spec().metric, next, wanted);
                farthest.is_some_and(|farthest| candidates.kth_at_most(self.request.k) <= farthest)
            }
        }
    }

    /// Finds the next leaf, and opens the branches that takes; `false` if there is none.
    pub(crate) fn look_ahead(&mut self) -> Result<bool> {
        if self.ahead.is_none() {
            self.widen(self.scratch.state.entries)?;
            self.ahead = self.next()?;
        }
        Ok(self.ahead.is_some())
    }

    /// Scans the next leaf, if there is one.
    pub(crate) fn step<S: Collector>(&mut self, sink: &mut S) -> Result<()> {
        self.look_ahead()?;
        self.ahead.take().map_or(Ok(()), |next| self.scan(next, sink))
    }

    /// The confidence with this score of the k-th candidate.
    pub(crate) fn confidence(&self, kth: f32) -> f64 {
        let next = self.ahead.as_ref().map_or(f32::INFINITY, |next| next.estimate);
        self.scratch.leaves.confidence(self.session.spec().metric, next, kth)
    }

    /// The least estimate of an entry that the request excludes; infinite if none was met.
    pub(crate) fn excluded(&self) -> f32 {
        self.scratch.state.excluded
    }

    /// Opens the branches that so many entries call for.
    fn widen(&mut self, entries: f64) -> Result<()> {
        let Scratch { descent, prepared, state, .. } = &mut *self.scratch;
        if entries < state.reached {
            return Ok(());
        }
        state.reached = EXPAND_GROWTH * entries + LEAD_ENTRIES / 4.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "far below 2^53"
        )]
        let goal = (entries + LEAD_ENTRIES) as usize;
        descent.expand(&self.forest.nodes, prepared, goal)
    }

    /// Entries of the leaves looked at so far.
    pub(crate) fn entries(&self) -> f64 {
        self.scratch.state.entries
    }

    /// How many of the entries looked at so far were left out, and looked nearer than this.
    pub(crate) fn left_out_within(&self, estimate: f32) -> usize {
        self.scratch.left_out.iter().filter(|left_out| **left_out < estimate).count()
    }

    /// What has been done so far.
    pub(crate) fn stats(&self) -> SearchStats {
        let descent = &self.scratch.descent;
        let mut searched = self.scratch.state.searched;
        (searched.branches, searched.branch_sketches) = (descent.branches, descent.branch_sketches);
        searched.bytes += descent.bytes;
        searched
    }

    /// The nearest leaf that has not been looked at.
    ///
    /// Small leaves are ordered by their exact centroids.
    fn next(&mut self) -> Result<Option<Next<'t>>> {
        loop {
            let Scratch { descent, prepared, state, measured, .. } = &mut *self.scratch;
            let upcoming = descent.upcoming().map_or(f32::INFINITY, |met| met.estimate);
            let nearest = measured.last().filter(|_| state.leaves >= MIN_MEASURED_LEAVES);
            let is_nearest =
                nearest.is_some_and(|nearest| nearest.estimate + self.noise <= upcoming);
            let met =
                if is_nearest { None } else { descent.next_leaf(&self.forest.nodes, prepared)? };
            let is_measured = met.is_none();
            let Some(met) = met.or_else(|| measured.pop()) else { return Ok(None) };
            let key = Key::leaf(self.session.spec().index, met.tree, met.id);
            // Where the next one is, is known by the time that this one has been scanned.
            if let Some(upcoming) = descent.upcoming() {
                self.forest.nodes.prefetch_leaf(upcoming.tree, upcoming.id);
            }
            let leaf = self.forest.nodes.leaf(met.tree, met.id)?;
            if is_measured {
                return Ok(Some(Next { estimate: met.estimate, key, leaf }));
            }
            state.leaves += 1;
            if self.request.filter.allowed.is_none() {
                leaf.prefetch();
            }
            let is_small = is_small(&leaf.node, descent.spread);
            let score = if is_small { prepared.score_of_centroid(&leaf.node) } else { None };
            if score.is_none() && measured.is_empty() {
                return Ok(Some(Next { estimate: met.estimate, key, leaf }));
            }
            let estimate = score.unwrap_or(met.estimate);
            let noise = (estimate - met.estimate).abs();
            if is_small && noise.is_finite() {
                self.noise = self.noise.max(noise);
            }
            let place =
                measured.partition_point(|other| other.estimate.total_cmp(&estimate).is_gt());
            measured.insert(place, QueuedNode { estimate, ..met });
        }
    }

    fn scan<S: Collector>(&mut self, next: Next<'t>, sink: &mut S) -> Result<()> {
        let len = next.leaf.node.len;
        let ahead = self.ahead.as_ref().map_or(&[][..], |next| next.leaf.node.blocks);
        let admitted = self.estimate(&next.leaf, ahead, sink.threshold());
        let (asked, yes) = self.select(&next, sink)?;
        let state = &mut self.scratch.state;
        // Only what looks near is asked about. The answers go for the rest of the leaf. Where
        // nothing looks near, the answers so far do.
        state.asked += f64::from(asked);
        state.yes += f64::from(yes);
        let part = match (asked, state.asked > 0.0) {
            (1.., _) => f64::from(yes) / f64::from(asked),
            (0, true) => state.yes / state.asked,
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

    /// Estimates the entries of a leaf that may be wanted; returns how many of all its entries the
    /// set of the filter admits.
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
        state.searched.leaves += 1;
        state.searched.sketches += touched as u64;
        state.searched.bytes += leaf.bytes_of(touched) as u64;
        estimates.clear();
        prepared.scan(&leaf.node, ScanOptions { allowed, threshold, ahead }, estimates);
        if allowed.is_some() {
            estimates.retain(|found| {
                let is_admitted = mask.admits(found.position as usize);
                if !is_admitted {
                    left_out.push(found.estimate);
                }
                is_admitted
            });
        }
        admitted
    }

    /// Offers what was estimated and is admitted; returns how many entries were asked about, and
    /// how many of these are.
    fn select<S: Collector>(&mut self, next: &Next<'t>, sink: &mut S) -> Result<(u32, u32)> {
        let Scratch { estimates, left_out, state, .. } = &mut *self.scratch;
        let (request, pending) = (self.request, self.pending);
        let predicate = request.filter.predicate;
        let is_asking = predicate.is_some() || !pending.ids.is_empty();
        let (mut asked, mut yes) = (0u32, 0u32);
        // What was near enough when the scan began may be too far by now.
        let threshold = Cell::new(sink.threshold());
        let positions = estimates.iter().filter(|found| {
            let is_above = found.estimate > threshold.get();
            !is_above
        });
        let positions = positions.map(|found| (found.position as usize, found.estimate));
        let selected = next.leaf.set.select(positions, |id, estimate| {
            if request.exclude.contains(&id) {
                state.excluded = state.excluded.min(estimate);
                return;
            }
            if is_asking {
                let is_admitted = !pending.ids.contains(id)
                    && predicate.is_none_or(|predicate| request.interrupt.admits(predicate, id));
                (asked, yes) = (asked + 1, yes + u32::from(is_admitted));
                if !is_admitted {
                    left_out.push(estimate);
                    return;
                }
            }
            sink.offer(id, estimate);
            // What a predicate says of some goes for the leaf, and must not depend on what came
            // before them.
            if !is_asking {
                threshold.set(sink.threshold());
            }
        });
        selected.ok_or_else(|| Error::corrupted(next.key, "a leaf has fewer ids than it says"))?;
        Ok((asked, yes))
    }
}
