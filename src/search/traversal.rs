//! From leaf to leaf: scanning sketches, nearest centroid first, until the effort is met.

use std::cell::Cell;

use super::assurance::ease;
use super::candidates::Candidates;
use super::effort::Effort;
use super::pending::Pending;
use super::request::Request;
use super::scratch::Scratch;
use super::{Planted, Searched, Target};
use crate::error::{Error, Result};
use crate::format::Key;
use crate::format::node::LeafRef;
use crate::sketch::query::Look;
use crate::tree::descent::Order;

/// Branches are opened as for so many entries more than have been looked at, and again when there are so many times as many
/// and a quarter of these more.
///
/// So which leaves a search scans depends on its query alone, and its effort only on when it ends: a calibration that goes on
/// from budget to budget sees what searches see, and what is easy to find takes fewer branches. Beside opening at once what
/// the whole effort calls for, searches for 10 of 100,000 vectors with a recall of .90, .95 and .99 read 7, 7 and 6 percent
/// less (sift) or 3, 2 and 3 percent less (minilm), for 10 of 1,000,000 of sift 9, 6 and 7 percent, with recalls nearer to
/// their targets (less by up to .007). Leads of 256 to 2,048 read about as much; a lead and half the entries
/// 6 to 17 percent more, a lead and one and a half times the entries up to 5 percent more. Trials, one seed.
const LEAD: f64 = 512.0;
const STEP: f64 = 1.125;

/// What takes the estimates of entries that the filter admits.
pub(crate) trait Sink {
    /// Estimates above this are of no use.
    fn threshold(&self) -> f32;
    fn offer(&mut self, id: u32, estimate: f32);

    /// The estimate of the last candidate that is wanted, infinite if there is none yet; `None` if that is not told.
    fn near(&self) -> Option<f32> {
        None
    }

    /// Whether it takes what the set leaves out, too, and asks a predicate itself.
    const COUNTS_LEFT_OUT: bool = false;

    /// Takes the estimate of an entry that the set leaves out and that stands for so many.
    fn leave_out(&mut self, _estimate: f32, _entries: f32) {}
}

impl Sink for Candidates {
    fn threshold(&self) -> f32 {
        Candidates::threshold(self)
    }

    fn offer(&mut self, id: u32, estimate: f32) {
        Candidates::offer(self, id, estimate);
    }

    fn near(&self) -> Option<f32> {
        Some(Candidates::near(self))
    }
}

/// Why a search through the forest ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The effort was met.
    Enough,
    /// There are no more leaves.
    Exhausted,
    /// The caller wanted it.
    Stopped,
}

/// How far a search through the forest has come.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Leaves looked at, those that the filter rules out included.
    leaves: u64,
    /// Entries of these leaves, and how many of them the filter admits.
    pub(crate) entries: f64,
    pub(crate) admitted: f64,
    /// How many entries a predicate was asked of, and how many of them it admits.
    asked: f64,
    yes: f64,
    /// Entries with which more branches are opened.
    reached: f64,
    /// The estimate of the last leaf that came out of the descent.
    last: f32,
    searched: Searched,
}

/// A leaf that has come out of the descent.
struct Next<'t> {
    estimate: f32,
    key: Key,
    leaf: LeafRef<'t>,
}

/// One search through the forest, or a part of it.
pub(crate) struct Traversal<'a, 't> {
    target: Target<'a, 't>,
    planted: Planted<'a, 't>,
    pending: &'a Pending,
    request: &'a Request<'a>,
    scratch: &'a mut Scratch,
}

impl<'a, 't> Traversal<'a, 't> {
    /// Begins a search for the query that is prepared in `scratch`.
    pub(crate) fn begin(
        target: Target<'a, 't>,
        planted: Planted<'a, 't>,
        pending: &'a Pending,
        request: &'a Request<'a>,
        scratch: &'a mut Scratch,
    ) -> Self {
        let record = target.record;
        scratch.descent.begin(Order::Score, record.trees().map(|(tree, record)| (tree, *record)));
        scratch.progress = Progress::default();
        if let Some(allowed) = request.filter.allowed {
            // Much more than the entries that will be looked at; all of them if that is less.
            let entries = record.indexed.min(1 << 15);
            scratch.mask.begin(allowed, entries);
        }
        Self::go_on(target, planted, pending, request, scratch)
    }

    /// Goes on with the search that `scratch` holds.
    pub(crate) fn go_on(
        target: Target<'a, 't>,
        planted: Planted<'a, 't>,
        pending: &'a Pending,
        request: &'a Request<'a>,
        scratch: &'a mut Scratch,
    ) -> Self {
        Self { target, planted, pending, request, scratch }
    }

    /// Scans leaves until the effort is met and `is_full` says that enough has been found.
    pub(crate) fn run<S: Sink>(
        &mut self,
        effort: &Effort,
        sink: &mut S,
        is_full: impl Fn(&mut S) -> bool,
    ) -> Result<Ended> {
        let mut ahead: Option<Next<'t>> = None;
        loop {
            let Progress { entries, admitted, .. } = self.scratch.progress;
            let upcoming = ahead.as_ref().map_or_else(|| self.upcoming(), |next| next.estimate);
            if self.is_met(effort, sink, (entries, admitted), upcoming) && is_full(sink) {
                return Ok(Ended::Enough);
            }
            if self.request.stop.is_due() {
                return Ok(Ended::Stopped);
            }
            self.widen(entries)?;
            let Some(next) = ahead.take().map_or_else(|| self.next(), |next| Ok(Some(next)))? else {
                return Ok(Ended::Exhausted);
            };
            // The leaf after it is on its way from memory while this one is scanned, if it will be scanned as far as is known.
            #[expect(clippy::cast_precision_loss, reason = "a leaf has few entries")]
            let entries = entries + next.leaf.node.len as f64;
            if self.request.filter.is_none() && !self.is_met(effort, sink, (entries, entries), next.estimate) {
                self.widen(entries)?;
                ahead = self.next()?;
            }
            self.scan(next, ahead.as_ref().map_or(&[], |next| next.leaf.node.blocks), sink)?;
        }
    }

    /// Whether the effort is met after so many entries, of which the filter admits so many.
    fn is_met<S: Sink>(&self, effort: &Effort, sink: &S, (entries, admitted): (f64, f64), upcoming: f32) -> bool {
        match sink.near().filter(|_| self.request.filter.is_none()) {
            Some(near) => effort.is_assured(entries, || ease(self.target.items.of.metric, upcoming, near)),
            None => effort.is_met(entries, admitted),
        }
    }

    /// How far the next leaf is, by its sketch.
    pub(crate) fn upcoming(&mut self) -> f32 {
        let last = self.scratch.progress.last;
        self.scratch.descent.upcoming().map_or(last, |met| met.estimate)
    }

    /// Scans leaves as [`Traversal::run`] does with this budget, however little has been found then.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    pub(crate) fn spend<S: Sink>(&mut self, budget: usize, sink: &mut S) -> Result<()> {
        while self.scratch.progress.entries < budget as f64 {
            self.widen(self.entries())?;
            let Some(leaf) = self.next()? else { break };
            self.scan(leaf, &[], sink)?;
        }
        Ok(())
    }

    /// Opens the branches that so many entries call for.
    fn widen(&mut self, entries: f64) -> Result<()> {
        let Scratch { descent, prepared, progress, .. } = &mut *self.scratch;
        if entries < progress.reached {
            return Ok(());
        }
        progress.reached = STEP * entries + LEAD / 4.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "far below 2^53")]
        let goal = (entries + LEAD) as usize;
        descent.reach(self.planted.nodes, prepared, goal)
    }

    /// Entries of the leaves looked at so far.
    pub(crate) fn entries(&self) -> f64 {
        self.scratch.progress.entries
    }

    /// Leaves looked at so far.
    pub(crate) fn leaves(&self) -> u64 {
        self.scratch.progress.leaves
    }

    /// What has been done so far.
    pub(crate) fn searched(&self) -> Searched {
        let descent = &self.scratch.descent;
        let mut searched = self.scratch.progress.searched;
        (searched.branches, searched.branch_sketches) = (descent.branches, descent.branch_sketches);
        searched.bytes += descent.bytes;
        searched
    }

    /// The nearest leaf that has not been looked at.
    fn next(&mut self) -> Result<Option<Next<'t>>> {
        let Scratch { descent, prepared, progress, .. } = &mut *self.scratch;
        let Some(met) = descent.next_leaf(self.planted.nodes, prepared)? else { return Ok(None) };
        let key = Key::leaf(self.target.items.of.index, met.tree, met.id);
        // Where the next one is, is known by the time that this one has been scanned.
        if let Some(upcoming) = descent.upcoming() {
            self.planted.nodes.prefetch_leaf(upcoming.tree, upcoming.id);
        }
        progress.leaves += 1;
        progress.last = met.estimate;
        let leaf = self.planted.nodes.leaf(met.tree, met.id)?;
        if self.request.filter.allowed.is_none() {
            leaf.prefetch();
        }
        Ok(Some(Next { estimate: met.estimate, key, leaf }))
    }

    #[expect(clippy::cast_precision_loss, reason = "a leaf has few entries")]
    fn scan<S: Sink>(&mut self, Next { key, leaf, .. }: Next<'t>, ahead: &[u8], sink: &mut S) -> Result<()> {
        let Scratch { prepared, mask, estimates, progress, .. } = &mut *self.scratch;
        let len = leaf.node.len;
        let (mut admitted, mut touched, mut allowed) = (len, len, None);
        progress.entries += len as f64;
        if let Some(filter) = self.request.filter.allowed {
            mask.fill(leaf.set, filter);
            if mask.admitted == 0 && !S::COUNTS_LEFT_OUT {
                return Ok(());
            }
            if S::COUNTS_LEFT_OUT {
                mask.touch();
            }
            let blocks = if S::COUNTS_LEFT_OUT { &mask.touching } else { &mask.words };
            (admitted, touched, allowed) = (mask.admitted, mask.touched.min(len), Some(&blocks[..]));
        }
        progress.searched.leaves += 1;
        progress.searched.sketches += touched as u64;
        progress.searched.bytes += leaf.bytes_of(touched) as u64;
        estimates.clear();
        let look = Look { allowed, threshold: sink.threshold(), ahead };
        prepared.scan(&leaf.node, look, estimates);
        if S::COUNTS_LEFT_OUT && allowed.is_some() {
            // What is left out in the blocks that were scanned stands for all that is.
            let each = (len - admitted) as f32 / touched.saturating_sub(admitted).max(1) as f32;
            estimates.retain(|found| {
                let is_admitted = mask.admits(found.position as usize);
                if !is_admitted {
                    sink.leave_out(found.estimate, each);
                }
                is_admitted
            });
        }
        let (request, pending) = (self.request, self.pending);
        let predicate = request.filter.predicate.filter(|_| !S::COUNTS_LEFT_OUT);
        let (mut asked, mut yes) = (0u32, 0u32);
        // What was near enough when the scan began may be too far by now.
        let threshold = Cell::new(sink.threshold());
        let positions = estimates.iter().filter(|found| {
            let is_above = found.estimate > threshold.get();
            !is_above
        });
        let positions = positions.map(|found| (found.position as usize, found.estimate));
        let selected = leaf.set.select(positions, |id, estimate| {
            if request.exclude.contains(&id) || pending.ids.contains(id) {
                return;
            }
            if let Some(predicate) = predicate {
                let is_admitted = predicate(id);
                (asked, yes) = (asked + 1, yes + u32::from(is_admitted));
                if !is_admitted {
                    return;
                }
            }
            sink.offer(id, estimate);
            // What a predicate says of some goes for the leaf, and must not depend on what came before them.
            if predicate.is_none() {
                threshold.set(sink.threshold());
            }
        });
        selected.ok_or_else(|| Error::corrupted(key, "a leaf has fewer ids than it says"))?;
        if S::COUNTS_LEFT_OUT {
            progress.admitted += len as f64;
            return Ok(());
        }
        // A predicate is asked of entries that look near only; what it says of them goes for the rest of the leaf, and what it
        // has said so far for a leaf in which nothing looks near.
        progress.asked += f64::from(asked);
        progress.yes += f64::from(yes);
        let part = match (asked, progress.asked > 0.0) {
            (1.., _) => f64::from(yes) / f64::from(asked),
            (0, true) => progress.yes / progress.asked,
            (0, false) => 1.0,
        };
        progress.admitted += admitted as f64 * part;
        Ok(())
    }
}
