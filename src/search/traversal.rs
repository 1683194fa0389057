//! From leaf to leaf: scanning sketches, nearest centroid first, until the effort is met.

use super::candidates::{Candidate, Candidates};
use super::effort::Effort;
use super::filter::Mask;
use super::pending::Pending;
use super::{Forest, Request, Searched, Target};
use crate::error::{Error, Result};
use crate::format::Key;
use crate::format::node::LeafRef;
use crate::kernel::scan::Estimate;
use crate::sketch::query::Prepared;
use crate::tree::descent::{Descent, Order, Roots, check_layout, known_node};

/// One search through the forest.
pub(crate) struct Traversal<'a> {
    target: Target<'a>,
    forest: &'a Forest,
    pending: &'a Pending,
    request: &'a Request<'a>,
    prepared: Prepared,
    descent: Descent<'a>,
    estimates: Vec<Estimate>,
    mask: Mask,
    /// Leaves looked at, those that the filter rules out included, and how many the forest has.
    visited: u64,
    leaves: u64,
    searched: Searched,
}

impl<'a> Traversal<'a> {
    pub(crate) fn new(
        target: Target<'a>,
        forest: &'a Forest,
        pending: &'a Pending,
        request: &'a Request<'a>,
        prepared: Prepared,
    ) -> Self {
        let Target { db, rtxn, of, record, .. } = target;
        let roots = Roots { db, rtxn, of, branch: forest.branch };
        Self {
            target,
            forest,
            pending,
            request,
            prepared,
            descent: Descent::new(roots, Order::Score, record.trees().map(|(tree, record)| (tree, *record))),
            estimates: Vec::new(),
            mask: Mask::default(),
            visited: 0,
            leaves: record.trees().map(|(_, tree)| u64::from(tree.next_leaf)).sum(),
            searched: Searched::default(),
        }
    }

    /// Scans leaves until the effort is met and returns the best candidates.
    pub(crate) fn run(&mut self, effort: Effort) -> Result<Candidates> {
        let mut candidates = Candidates::new(effort.rerank);
        let mut spent = 0usize;
        self.descent.reach(&mut self.prepared, effort.budget)?;
        let mut ahead = None;
        while spent < effort.budget || !candidates.is_full() {
            let Some(leaf) = ahead.take().map_or_else(|| self.next(), |leaf| Ok(Some(leaf)))? else { break };
            // The next leaf is on its way from memory while this one is scanned, if it will be scanned in any case.
            if self.request.filter.is_none() && spent.saturating_add(leaf.1.node.len) < effort.budget {
                ahead = self.next()?;
            }
            spent = spent.saturating_add(self.scan(leaf, &mut candidates, |_| ())?);
        }
        Ok(candidates)
    }

    /// Scans leaves as [`Traversal::run`] does with this budget, and tells of each candidate before how many sketches its
    /// leaf was scanned.
    pub(crate) fn watch(
        &mut self,
        budget: usize,
        candidates: &mut Candidates,
        mut see: impl FnMut(u32, usize),
    ) -> Result<()> {
        let mut spent = 0usize;
        self.descent.reach(&mut self.prepared, budget)?;
        while spent < budget {
            let Some(leaf) = self.next()? else { break };
            let before = spent;
            spent = spent.saturating_add(self.scan(leaf, candidates, |id| see(id, before))?);
        }
        Ok(())
    }

    /// What has been done so far.
    pub(crate) fn searched(&self) -> Searched {
        Searched { branches: self.descent.branches, branch_sketches: self.descent.branch_sketches, ..self.searched }
    }

    /// The nearest leaf that has not been looked at.
    fn next(&mut self) -> Result<Option<(Key, LeafRef<'a>)>> {
        let Some(met) = self.descent.next_leaf(&mut self.prepared)? else { return Ok(None) };
        let key = Key::leaf(self.target.of.index, met.tree, met.id);
        self.visited += 1;
        if self.visited > self.leaves {
            return Err(Error::corrupted(key, "this leaf or one of its like is reached on two ways"));
        }
        let leaf = LeafRef::parse(key, known_node(self.target.db, self.target.rtxn, key)?, self.target.of.dims)?;
        leaf.node.touch();
        Ok(Some((key, leaf)))
    }

    /// Scans a leaf; tells how many of its entries the filter admits.
    fn scan(
        &mut self,
        (key, leaf): (Key, LeafRef<'a>),
        candidates: &mut Candidates,
        mut see: impl FnMut(u32),
    ) -> Result<usize> {
        check_layout(key, leaf.node.layout, self.forest.leaf)?;
        let (mut admitted, mut touched, mut allowed) = (leaf.node.len, leaf.node.len, None);
        if let Some(filter) = self.request.filter {
            self.mask.fill(leaf.set, filter);
            (admitted, touched, allowed) = (self.mask.admitted, self.mask.touched, Some(&self.mask.words[..]));
            if admitted == 0 {
                return Ok(0);
            }
        }
        self.searched.leaves += 1;
        self.searched.sketches += touched.min(leaf.node.len) as u64;
        self.estimates.clear();
        self.prepared.scan(&leaf.node, allowed, candidates.threshold(), &mut self.estimates);
        let (request, pending) = (self.request, self.pending);
        let positions = self.estimates.iter().map(|found| (found.position as usize, found.estimate));
        let selected = leaf.set.select(positions, |id, estimate| {
            if request.exclude != Some(id) && !pending.ids.contains(id) {
                candidates.offer(Candidate { id, estimate });
                see(id);
            }
        });
        selected.map(|()| admitted).ok_or_else(|| Error::corrupted(key, "a leaf has fewer ids than it says"))
    }
}
