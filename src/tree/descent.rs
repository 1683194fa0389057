//! Best-first descent from the roots to the leaves whose centroids are nearest to a point.
//!
//! Level by level, the nearest branches are opened until what hangs under them is several times the goal; then the leaves
//! of all trees met so come out of one queue, nearest first. When they run out, the descent can be widened, until the whole
//! forest has been seen.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use heed::RoTxn;

use crate::database::{Database, ItemOf};
use crate::error::{Error, Result};
use crate::format::Key;
use crate::format::node::{BranchRef, Layout};
use crate::format::record::TreeRecord;
use crate::kernel::scan::Estimate;
use crate::metric::Metric;
use crate::sketch::query::Prepared;

/// Entries under the branches opened just above the leaves, for each entry of the goal; four times as many for each level
/// further up. More costs sketches of branches, less misses leaves whose branch's centroid is far.
const COVER: usize = 16;

/// A node that has been met and not been looked at; ordered by estimate.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) struct Met {
    pub(crate) estimate: f32,
    pub(crate) tree: u8,
    pub(crate) id: u32,
    /// The branch above it; its own id for a root.
    pub(crate) parent: u32,
}

impl Eq for Met {}

impl Ord for Met {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.estimate.total_cmp(&other.estimate).then((self.tree, self.id).cmp(&(other.tree, other.id)))
    }
}

impl PartialOrd for Met {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// In which order nodes are nearest.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// By the score of the metric: what searches want.
    Score,
    /// By the distance of centroids: what decides the leaf of an item. Differs under the dot product only.
    Distance,
}

/// Where a forest is, and the layout of its branches.
#[derive(Copy, Clone)]
pub(crate) struct Roots<'a> {
    pub(crate) db: Database,
    pub(crate) rtxn: &'a RoTxn<'a>,
    pub(crate) of: ItemOf,
    pub(crate) branch: Layout,
}

/// Nodes of one height, nearest first.
#[derive(Debug, Default)]
struct Frontier {
    queue: BinaryHeap<Reverse<Met>>,
    /// Entries under the nodes of this height that have been opened.
    covered: usize,
}

/// One descent.
pub(crate) struct Descent<'a> {
    roots: Roots<'a>,
    order: Order,
    /// By height; leaves are at 0.
    frontiers: Vec<Frontier>,
    estimates: Vec<Estimate>,
    most_branches: u64,
    goal: usize,
    /// Branches opened, with the branches above them; kept for builds only.
    above: Vec<(u32, u32)>,
    pub(crate) branches: u64,
    pub(crate) branch_sketches: u64,
}

impl<'a> Descent<'a> {
    pub(crate) fn new(roots: Roots<'a>, order: Order, trees: impl Iterator<Item = (u8, TreeRecord)>) -> Self {
        let mut descent = Self {
            roots,
            order,
            frontiers: Vec::new(),
            estimates: Vec::new(),
            most_branches: 0,
            goal: 1,
            above: Vec::new(),
            branches: 0,
            branch_sketches: 0,
        };
        for (tree, record) in trees {
            let height = record.height as usize;
            if descent.frontiers.len() <= height {
                descent.frontiers.resize_with(height + 1, Frontier::default);
            }
            let root = Met { estimate: 0.0, tree, id: record.root, parent: record.root };
            descent.frontiers[height].queue.push(Reverse(root));
            descent.most_branches += u64::from(record.next_branch);
        }
        descent
    }

    /// Opens branches, from the top down, until enough for `goal` entries hangs under those of each height.
    pub(crate) fn reach(&mut self, prepared: &mut Prepared, goal: usize) -> Result<()> {
        self.goal = goal.max(1);
        for height in (1..self.frontiers.len()).rev() {
            let cover = self.goal.saturating_mul(COVER << (2 * (height - 1)).min(32));
            while self.frontiers[height].covered < cover {
                let Some(Reverse(met)) = self.frontiers[height].queue.pop() else { break };
                let weight = self.open(prepared, met, height)?;
                self.frontiers[height].covered = self.frontiers[height].covered.saturating_add(weight);
            }
        }
        Ok(())
    }

    /// The nearest leaf that has not come out yet; widens the descent when those met have run out, and is `None` when the
    /// whole forest has been seen.
    pub(crate) fn next_leaf(&mut self, prepared: &mut Prepared) -> Result<Option<Met>> {
        loop {
            if let Some(Reverse(leaf)) = self.pop_leaf() {
                return Ok(Some(leaf));
            }
            if self.frontiers.iter().all(|frontier| frontier.queue.is_empty()) {
                return Ok(None);
            }
            let before = self.branches;
            self.reach(prepared, self.goal.saturating_mul(4))?;
            if self.branches == before {
                self.open_nearest(prepared)?;
            }
        }
    }

    /// Opens the nearest branch of the lowest height that has one left.
    fn open_nearest(&mut self, prepared: &mut Prepared) -> Result<()> {
        for height in 1..self.frontiers.len() {
            if let Some(Reverse(met)) = self.frontiers[height].queue.pop() {
                self.open(prepared, met, height)?;
                break;
            }
        }
        Ok(())
    }

    /// The nearest leaf among those met so far.
    pub(crate) fn pop_leaf(&mut self) -> Option<Reverse<Met>> {
        self.frontiers.first_mut().and_then(|frontier| frontier.queue.pop())
    }

    /// The branches above a leaf of a descent by distance through one tree, from its parent up to the root.
    pub(crate) fn path(&self, leaf: &Met) -> Vec<u32> {
        let mut path = vec![leaf.parent];
        let mut at = leaf.parent;
        while let Some((_, parent)) = self.above.iter().find(|(id, parent)| *id == at && parent != id) {
            path.push(*parent);
            at = *parent;
            if path.len() > self.frontiers.len() {
                break;
            }
        }
        path
    }

    /// Puts the children of a branch into the queue below; tells how many entries there are under it.
    fn open(&mut self, prepared: &mut Prepared, met: Met, height: usize) -> Result<usize> {
        let Roots { db, rtxn, of, branch: layout } = self.roots;
        let key = Key::branch(of.index, met.tree, met.id);
        self.branches += 1;
        if self.branches > self.most_branches {
            return Err(Error::corrupted(key, "this branch or one of its like is reached on two ways"));
        }
        let branch = BranchRef::parse(key, known_node(db, rtxn, key)?, of.dims, of.metric)?;
        check_layout(key, branch.node.layout, layout)?;
        // Heights fall by one with every step down, so that no chain of stored ids can lead in a circle.
        if usize::from(branch.node.level) != height {
            return Err(Error::corrupted(key, "a branch at another height than its parent says"));
        }
        if self.order == Order::Distance {
            self.above.push((met.id, met.parent));
        }
        self.estimates.clear();
        prepared.scan(&branch.node, None, f32::INFINITY, &mut self.estimates);
        self.branch_sketches += branch.node.len as u64;
        let by_distance = self.order == Order::Distance && of.metric == Metric::DotProduct;
        let children = branch.children.iter().zip(&self.estimates).enumerate().map(|(position, (id, found))| {
            // |x - q|^2 is |x|^2 - 2 <x, q>, up to what is the same for all x.
            let norm = if by_distance { branch.norms.get(position).copied().unwrap_or(0.0) } else { 0.0 };
            let estimate = if by_distance { norm + 2.0 * found.estimate } else { found.estimate };
            Reverse(Met { estimate, tree: met.tree, id: *id, parent: met.id })
        });
        // All at once: a heap takes many in faster than one by one.
        self.frontiers[height - 1].queue.extend(children);
        Ok(usize::try_from(branch.node.weight).unwrap_or(usize::MAX).max(1))
    }
}

/// The value of a node that another node names.
pub(crate) fn known_node<'t>(db: Database, rtxn: &'t RoTxn<'_>, key: Key) -> Result<&'t [u8]> {
    db.get(rtxn, key)?.ok_or_else(|| Error::corrupted(key, "its parent names this node, and it is missing"))
}

/// Refuses a node whose sketches the prepared tables do not fit.
pub(crate) fn check_layout(key: Key, found: Layout, expected: Layout) -> Result<()> {
    if found == expected { Ok(()) } else { Err(Error::corrupted(key, "a node of another layout than its forest")) }
}
