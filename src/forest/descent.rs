//! Best-first descent from the roots to the leaves whose centroids are nearest to a point.
//!
//! Height by height, the nearest branches are opened until what hangs under them is several times
//! the goal. Then the leaves of all trees found so come out of one queue, nearest first. The goal
//! grows as a search goes on, and when the leaves run out. In the end the whole forest has been
//! searched.
//!
//! Other orders and sizes of branches were measured: docs/trials.md, "descent".

use crate::error::{Error, Result};
use crate::forest::seen::Seen;
use crate::format::record::TreeRecord;
use crate::kernel::scan::Estimate;
use crate::key::Key;
use crate::lmdb::advise;
use crate::lmdb::nodes::Nodes;
use crate::math::queue::LazyQueue;
use crate::sketch::prepared::{Prepared, ScanOptions};

/// Entries under the branches opened just above the leaves, for each entry of the goal. It is
/// multiplied by the fourth root of the number of leaves. For each height further up they are four
/// times as many.
///
/// More take sketches of branches. Fewer miss leaves under a branch whose centroid is far, of which
/// a forest with more branches has more: docs/trials.md, "descent".
const COVER: f64 = 2.5;
/// Branches of each height that a search opens at least. An item that is asked for by its own
/// vector may lie under any of the first few: docs/trials.md, "own vectors".
const MIN_OPENED: usize = 8;
/// Nodes that are asked for at once when a file is not in memory: docs/trials.md, "asking ahead".
const ASKED: usize = 8;

/// In which order nodes are nearest.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// By the score of the metric: what searches want.
    Score,
    /// By the distance of centroids: what decides the leaf of an item. Differs under the dot
    /// product only.
    Distance,
}

/// A node that a descent has found and not opened.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) struct QueuedNode {
    pub(crate) estimate: f32,
    pub(crate) tree: u8,
    pub(crate) id: u32,
    /// The branch above it; its own id for a root.
    pub(crate) parent: u32,
}

/// Nodes of one height, nearest first.
#[derive(Debug, Default)]
struct Frontier {
    queue: LazyQueue<QueuedNode>,
    /// Entries under the nodes of this height that have been opened.
    covered: usize,
    /// How many these are; of leaves, how many have come out.
    opened: usize,
}

/// One descent. Its buffers serve the next one, too.
#[derive(Debug, Default)]
pub(crate) struct Descent {
    is_by_distance: bool,
    /// By height; leaves are at 0. Those from `height` on are left over from another forest.
    frontiers: Vec<Frontier>,
    height: usize,
    estimates: Vec<Estimate>,
    seen: Seen,
    goal: usize,
    /// Entries under opened branches for each entry of the goal.
    cover: usize,
    /// Branches opened, with the branches above them; kept for builds only.
    above: Vec<(u32, u32)>,
    pub(crate) branches: u64,
    pub(crate) branch_sketches: u64,
    /// Bytes of the branches.
    pub(crate) bytes: u64,
    /// The largest of the squared distances of the middle leaf from the centroid of each opened
    /// branch just above leaves.
    pub(crate) spread: f32,
}

impl Descent {
    /// Begins at the roots of these trees, each with its number.
    pub(crate) fn begin(&mut self, order: Order, trees: impl Iterator<Item = (u8, TreeRecord)>) {
        advise::begin_work();
        self.is_by_distance = order == Order::Distance;
        (self.height, self.goal) = (0, 1);
        self.seen.clear();
        (self.branches, self.branch_sketches, self.bytes, self.spread) = (0, 0, 0, 0.0);
        self.above.clear();
        for frontier in &mut self.frontiers {
            frontier.queue.clear();
            (frontier.covered, frontier.opened) = (0, 0);
        }
        let mut leaves = 0.0;
        for (tree, record) in trees {
            leaves += f64::from(record.leaves);
            let height = record.height as usize;
            self.height = self.height.max(height + 1);
            if self.frontiers.len() < self.height {
                self.frontiers.resize_with(self.height, Frontier::default);
            }
            let root = QueuedNode { estimate: 0.0, tree, id: record.root, parent: record.root };
            self.frontiers[height].queue.push(root.estimate, root);
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small number"
        )]
        let cover = (COVER * leaves.sqrt().sqrt()).ceil() as usize;
        self.cover = cover;
    }

    /// Opens branches, from the top down, until enough for `goal` entries hangs under those of each
    /// height.
    pub(crate) fn expand(
        &mut self,
        nodes: &Nodes<'_>,
        prepared: &mut Prepared,
        goal: usize,
    ) -> Result<()> {
        self.goal = goal.max(1);
        for height in (1..self.height).rev() {
            let cover = self.goal.saturating_mul(self.cover << (2 * (height - 1)).min(32));
            let min_opened = if self.is_by_distance { 0 } else { MIN_OPENED };
            while self.frontiers[height].covered < cover
                || self.frontiers[height].opened < min_opened
            {
                self.ask_branches(nodes, height)?;
                let Some(nearest) = self.frontiers[height].queue.pop() else { break };
                let weight = self.open(nodes, prepared, nearest, height)?;
                let frontier = &mut self.frontiers[height];
                (frontier.covered, frontier.opened) =
                    (frontier.covered.saturating_add(weight), frontier.opened + 1);
            }
        }
        Ok(())
    }

    /// The nearest leaf that has not come out yet; `None` when there are no more in the forest.
    /// Widens the descent when those found have run out.
    pub(crate) fn next_leaf(
        &mut self,
        nodes: &Nodes<'_>,
        prepared: &mut Prepared,
    ) -> Result<Option<QueuedNode>> {
        self.ask_leaves(nodes)?;
        loop {
            if let Some(leaf) = self.pop_leaf() {
                if !self.seen.note(leaf.tree, true, leaf.id) {
                    let key = Key::leaf(nodes.spec().index, leaf.tree, leaf.id);
                    return Err(Error::corrupted(key, "this leaf is reached on two ways"));
                }
                return Ok(Some(leaf));
            }
            if self.frontiers.iter().all(|frontier| frontier.queue.is_empty()) {
                return Ok(None);
            }
            let before = self.branches;
            self.expand(nodes, prepared, self.goal.saturating_mul(4))?;
            if self.branches == before {
                self.open_nearest(nodes, prepared)?;
            }
        }
    }

    /// Asks for the branches of a height that will be opened next, once for several.
    fn ask_branches(&mut self, nodes: &Nodes<'_>, height: usize) -> Result<()> {
        let Frontier { queue, opened, .. } = &mut self.frontiers[height];
        if !opened.is_multiple_of(ASKED) || !advise::is_asking() {
            return Ok(());
        }
        let index = nodes.spec().index;
        nodes.ask(queue.nearest(ASKED).map(|node| Key::branch(index, node.tree, node.id)))
    }

    /// Asks for the leaves that come out next, once for several.
    fn ask_leaves(&mut self, nodes: &Nodes<'_>) -> Result<()> {
        let Some(Frontier { queue, opened, .. }) = self.frontiers.first_mut() else {
            return Ok(());
        };
        *opened += 1;
        if !(*opened - 1).is_multiple_of(ASKED) || !advise::is_asking() {
            return Ok(());
        }
        let index = nodes.spec().index;
        nodes.ask(queue.nearest(ASKED).map(|node| Key::leaf(index, node.tree, node.id)))
    }

    /// Opens the nearest branch of the lowest height that has one left.
    fn open_nearest(&mut self, nodes: &Nodes<'_>, prepared: &mut Prepared) -> Result<()> {
        for height in 1..self.height {
            if let Some(nearest) = self.frontiers[height].queue.pop() {
                self.open(nodes, prepared, nearest, height)?;
                break;
            }
        }
        Ok(())
    }

    /// The nearest leaf among those found so far.
    fn pop_leaf(&mut self) -> Option<QueuedNode> {
        self.frontiers.first_mut().and_then(|frontier| frontier.queue.pop())
    }

    /// The leaf that comes out next, among those found so far.
    pub(crate) fn upcoming(&mut self) -> Option<QueuedNode> {
        self.frontiers.first_mut().and_then(|frontier| frontier.queue.peek())
    }

    /// The two leaves that come out next; fewer if others are not sorted yet.
    pub(crate) fn next_two(&mut self) -> impl Iterator<Item = QueuedNode> {
        self.frontiers.first_mut().into_iter().flat_map(|frontier| frontier.queue.nearest(2))
    }

    /// The branches above a leaf of a descent by distance through one tree, from its parent up to
    /// the root.
    pub(crate) fn path(&self, leaf: &QueuedNode) -> Vec<u32> {
        let mut path = vec![leaf.parent];
        let mut last = leaf.parent;
        while let Some((_, parent)) =
            self.above.iter().find(|(id, parent)| *id == last && parent != id)
        {
            path.push(*parent);
            last = *parent;
            if path.len() > self.height {
                break;
            }
        }
        path
    }

    /// Puts the children of a branch into the queue below; returns how many entries it has.
    fn open(
        &mut self,
        nodes: &Nodes<'_>,
        prepared: &mut Prepared,
        node: QueuedNode,
        height: usize,
    ) -> Result<usize> {
        let spec = nodes.spec();
        let corrupted =
            |what| Err(Error::corrupted(Key::branch(spec.index, node.tree, node.id), what));
        if !self.seen.note(node.tree, false, node.id) {
            return corrupted("this branch is reached on two ways");
        }
        self.branches += 1;
        let branch = nodes.branch(node.tree, node.id)?;
        // Heights fall by one with every step down. So no chain of stored ids leads in a circle.
        if usize::from(branch.node.height) != height {
            return corrupted("a branch at another height than its parent says");
        }
        if self.is_by_distance {
            self.above.push((node.id, node.parent));
        }
        self.estimates.clear();
        prepared.scan(&branch.node, ScanOptions::ALL, &mut self.estimates);
        self.branch_sketches += branch.node.len as u64;
        self.bytes += branch.bytes() as u64;
        if height == 1 {
            self.spread = self.spread.max(branch.node.spread);
        }
        let has_norms = self.is_by_distance && spec.metric.is_inner_product();
        let queue = &mut self.frontiers[height - 1].queue;
        let children = branch.children.iter().zip(&self.estimates).enumerate();
        queue.extend(children.map(|(position, (id, found))| {
            // |x - q|^2 is |x|^2 - 2 <x, q> + |q|^2, and the last is the same for all x.
            let norm =
                if has_norms { branch.norms.get(position).copied().unwrap_or(0.0) } else { 0.0 };
            let estimate = if has_norms { norm + 2.0 * found.estimate } else { found.estimate };
            (estimate, QueuedNode { estimate, tree: node.tree, id: *id, parent: node.id })
        }));
        // Each child counts as an entry at least: with damaged weights none would ever be enough.
        Ok(usize::try_from(branch.node.weight).unwrap_or(usize::MAX).max(branch.node.len).max(1))
    }
}
