//! From leaf to leaf: scanning sketches, nearest centroid first, until the effort is met.

use super::effort::Effort;
use super::pending::Pending;
use super::scratch::Scratch;
use super::{Planted, Request, Searched, Target};
use crate::error::{Error, Result};
use crate::format::Key;
use crate::format::node::LeafRef;
use crate::tree::descent::Order;

/// One search through the forest.
pub(crate) struct Traversal<'a, 't> {
    target: Target<'a, 't>,
    planted: Planted<'a, 't>,
    pending: &'a Pending,
    request: &'a Request<'a>,
    scratch: &'a mut Scratch,
    /// Leaves looked at, those that the filter rules out included, and how many the forest has.
    visited: u64,
    leaves: u64,
    searched: Searched,
}

impl<'a, 't> Traversal<'a, 't> {
    /// Begins a search for the query that is prepared in `scratch`, for the `keep` best candidates.
    pub(crate) fn new(
        target: Target<'a, 't>,
        planted: Planted<'a, 't>,
        pending: &'a Pending,
        request: &'a Request<'a>,
        scratch: &'a mut Scratch,
        keep: usize,
    ) -> Self {
        let record = target.record;
        scratch.descent.begin(Order::Score, record.trees().map(|(tree, record)| (tree, *record)));
        scratch.candidates.begin(keep);
        let leaves = record.trees().map(|(_, tree)| u64::from(tree.next_leaf)).sum();
        Self { target, planted, pending, request, scratch, visited: 0, leaves, searched: Searched::default() }
    }

    /// Scans leaves until the effort is met. The best candidates are in the scratch then.
    pub(crate) fn run(&mut self, effort: Effort) -> Result<()> {
        let mut spent = 0usize;
        self.reach(effort.budget)?;
        let mut ahead = None;
        while spent < effort.budget || !self.scratch.candidates.is_full() {
            let Some(leaf) = ahead.take().map_or_else(|| self.next(), |leaf| Ok(Some(leaf)))? else { break };
            // The next leaf is on its way from memory while this one is scanned, if it will be scanned in any case.
            if self.request.filter.is_none() && spent.saturating_add(leaf.1.node.len) < effort.budget {
                ahead = self.next()?;
            }
            spent = spent.saturating_add(self.scan(leaf, |_| ())?);
        }
        Ok(())
    }

    /// Scans leaves as [`Traversal::run`] does with this budget, and tells of each candidate before how many sketches its
    /// leaf was scanned.
    pub(crate) fn watch(&mut self, budget: usize, mut see: impl FnMut(u32, usize)) -> Result<()> {
        let mut spent = 0usize;
        self.reach(budget)?;
        while spent < budget {
            let Some(leaf) = self.next()? else { break };
            let before = spent;
            spent = spent.saturating_add(self.scan(leaf, |id| see(id, before))?);
        }
        Ok(())
    }

    fn reach(&mut self, budget: usize) -> Result<()> {
        let Scratch { descent, prepared, .. } = &mut *self.scratch;
        descent.reach(self.planted.nodes, prepared, budget)
    }

    /// What has been done so far.
    pub(crate) fn searched(&self) -> Searched {
        let descent = &self.scratch.descent;
        let mut searched = self.searched;
        (searched.branches, searched.branch_sketches) = (descent.branches, descent.branch_sketches);
        searched.bytes += descent.bytes;
        searched
    }

    /// The nearest leaf that has not been looked at.
    fn next(&mut self) -> Result<Option<(Key, LeafRef<'t>)>> {
        let Scratch { descent, prepared, .. } = &mut *self.scratch;
        let Some(met) = descent.next_leaf(self.planted.nodes, prepared)? else { return Ok(None) };
        let key = Key::leaf(self.target.items.of.index, met.tree, met.id);
        self.visited += 1;
        if self.visited > self.leaves {
            return Err(Error::corrupted(key, "this leaf or one of its like is reached on two ways"));
        }
        let leaf = self.planted.nodes.leaf(met.tree, met.id)?;
        leaf.node.prefetch();
        Ok(Some((key, leaf)))
    }

    /// Scans a leaf; tells how many of its entries the filter admits.
    fn scan(&mut self, (key, leaf): (Key, LeafRef<'t>), mut see: impl FnMut(u32)) -> Result<usize> {
        let Scratch { prepared, mask, estimates, candidates, .. } = &mut *self.scratch;
        let (mut admitted, mut touched, mut allowed) = (leaf.node.len, leaf.node.len, None);
        if let Some(filter) = self.request.filter {
            mask.fill(leaf.set, filter);
            (admitted, touched, allowed) = (mask.admitted, mask.touched.min(leaf.node.len), Some(&mask.words[..]));
            if admitted == 0 {
                return Ok(0);
            }
        }
        self.searched.leaves += 1;
        self.searched.sketches += touched as u64;
        self.searched.bytes += leaf.bytes_of(touched) as u64;
        estimates.clear();
        prepared.scan(&leaf.node, allowed, candidates.threshold(), estimates);
        let (request, pending) = (self.request, self.pending);
        let positions = estimates.iter().map(|found| (found.position as usize, found.estimate));
        let selected = leaf.set.select(positions, |id, estimate| {
            if request.exclude != Some(id) && !pending.ids.contains(id) {
                candidates.offer(id, estimate);
                see(id);
            }
        });
        selected.map(|()| admitted).ok_or_else(|| Error::corrupted(key, "a leaf has fewer ids than it says"))
    }
}
