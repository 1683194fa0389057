//! Finding the leaves of items: where a new one goes, and where an old one is.

use std::collections::{BTreeMap, BTreeSet};

use heed::RoTxn;

use crate::error::Result;
use crate::forest::context::ForestContext;
use crate::forest::descent::{Descent, Order, QueuedNode};
use crate::forest::route::{NO_LEAF, SHORTLIST, second_leaf};
use crate::format::item::{ItemRef, PendingRef};
use crate::format::node::{BranchRef, LeafRef};
use crate::format::record::TreeRecord;
use crate::key::Kind;
use crate::lmdb::nodes::Nodes;
use crate::math::scored::Scored;
use crate::sketch::prepared::Prepared;

/// Leaves, nearest by their sketches, whose centroids are compared exactly. This and the other
/// numbers of leaves are in docs/trials.md, "choices that were not swept".
pub(crate) const NEAR_LEAVES: usize = 24;
/// Leaves after which the search for an old item opens more branches. If none of the nearest leaves
/// has it, it is likelier under another branch than far down the list.
const WIDENED_AFTER: [usize; 3] = [16, 48, 96];
/// Leaves in which an old item is looked for before all bitmaps are read.
const MAX_LEAVES_SEARCHED: usize = 256;
/// Leaves, and branches, whose places a [`Finder`] remembers: more than most tasks look at.
const MAX_REMEMBERED_NODES: usize = 1 << 12;
/// How far descents go, in full leaves.
const LEAVES_COVERED: usize = 16;

/// One pending mark.
pub(crate) struct ItemChange<'t> {
    pub(crate) id: u32,
    pub(crate) is_live: bool,
    /// The vector that the forest was built with, if it holds this item.
    pub(crate) old: Option<ItemRef<'t>>,
}

/// All pending marks, by id.
pub(crate) fn changes<'t>(
    context: &ForestContext<'_>,
    rtxn: &'t RoTxn<'_>,
) -> Result<Vec<ItemChange<'t>>> {
    let spec = context.spec;
    let marks = context.view(rtxn).iter(Kind::Pending)?;
    marks
        .map(|entry| {
            let (key, bytes) = entry?;
            let mark = PendingRef::parse(key, bytes, spec)?;
            let old = mark.indexed.map(|bytes| ItemRef::parse(key, bytes, spec)).transpose()?;
            Ok(ItemChange { id: key.id(), is_live: mark.is_live, old })
        })
        .collect()
}

/// A tree as it is stored.
#[derive(Copy, Clone)]
pub(crate) struct StoredTree {
    pub(crate) number: u8,
    pub(crate) record: TreeRecord,
}

/// What one change means for one tree.
#[derive(Debug, Default)]
pub(crate) struct Located {
    /// Leaves that hold the old vector.
    pub(crate) removals: Vec<u32>,
    /// Whether a copy of the old vector was not found near it.
    pub(crate) is_lost: bool,
    /// Leaves that the new vector goes to.
    pub(crate) insertions: Vec<u32>,
    /// The branches above the leaves named here, from the parent up to the root.
    pub(crate) paths: Vec<(u32, Vec<u32>)>,
}

/// Finds the leaves of a change in one tree as it is stored.
pub(crate) fn locate(
    finder: &mut Finder<'_>,
    change: &ItemChange<'_>,
    copies: usize,
) -> Result<Located> {
    let mut located = Located::default();
    let context = finder.context;
    if let Some(old) = &change.old {
        let mut point = vec![0.0; context.transform.width];
        context.transform.map(old, &mut point);
        finder.begin(&point)?;
        for searched in 0..MAX_LEAVES_SEARCHED {
            if WIDENED_AFTER.contains(&searched) {
                finder.widen()?;
            }
            let Some(leaf) = finder.next()? else { break };
            if finder.leaf(leaf.id)?.set.contains(change.id) {
                located.removals.push(leaf.id);
                located.paths.push((leaf.id, finder.descent.path(&leaf)));
            }
            if located.removals.len() == copies {
                break;
            }
        }
        located.is_lost = located.removals.len() < copies;
    }
    if change.is_live {
        let point = finder.point(change.id)?;
        let near = finder.nearest(&point, NEAR_LEAVES, &BTreeSet::new())?;
        let centroids = near.iter().map(|near| (near.leaf, &near.centroid[..]));
        located.insertions = choose(&context, &point, centroids, copies);
        let chosen = near.into_iter().filter(|near| located.insertions.contains(&near.leaf));
        located.paths.extend(chosen.map(|near| (near.leaf, near.path)));
    }
    Ok(located)
}

/// The first leaf of a point, and the second if there are two copies. `near` are leaves with their
/// centroids, sorted by distance.
pub(crate) fn choose<'a>(
    context: &ForestContext<'_>,
    point: &[f32],
    mut near: impl Iterator<Item = (u32, &'a [f32])>,
    copies: usize,
) -> Vec<u32> {
    let Some((first, centroid)) = near.next() else { return Vec::new() };
    let others = near.take(SHORTLIST - 1);
    let second = if copies == 2 {
        second_leaf(context.transform.simd, point, centroid, others)
    } else {
        NO_LEAF
    };
    [first, second].into_iter().filter(|leaf| *leaf != NO_LEAF).collect()
}

/// A leaf near a point.
#[derive(Debug)]
pub(crate) struct NearLeaf {
    pub(crate) distance: f32,
    pub(crate) leaf: u32,
    pub(crate) centroid: Vec<f32>,
    pub(crate) path: Vec<u32>,
}

impl NearLeaf {
    /// Its place among leaves sorted by distance.
    pub(crate) fn scored(&self) -> Scored {
        Scored { score: self.distance, id: self.leaf }
    }
}

/// Looks for the stored leaves of one tree near points, one point after the other. What it has
/// looked up in LMDB serves the next point, too, and so do its buffers. Measured: docs/trials.md,
/// "one finder for a task".
pub(crate) struct Finder<'a> {
    context: ForestContext<'a>,
    rtxn: &'a RoTxn<'a>,
    nodes: Nodes<'a>,
    tree: StoredTree,
    prepared: Prepared,
    point: Vec<f32>,
    descent: Descent,
    /// Entries for which branches are opened.
    covered: usize,
}

impl<'a> Finder<'a> {
    pub(crate) fn new(context: ForestContext<'a>, rtxn: &'a RoTxn<'a>, tree: StoredTree) -> Self {
        let nodes =
            Nodes::new(context.view(rtxn), context.leaf, context.branch, MAX_REMEMBERED_NODES);
        let (prepared, descent) = (Prepared::default(), Descent::default());
        Self { context, rtxn, nodes, tree, prepared, point: Vec::new(), descent, covered: 0 }
    }

    /// The point of an item as it is stored.
    pub(crate) fn point(&self, id: u32) -> Result<Vec<f32>> {
        self.context.point(self.rtxn, id)
    }

    /// Begins at the root. Leaves come in the order of their distance from a point, by sketches.
    pub(crate) fn begin(&mut self, point: &[f32]) -> Result<()> {
        self.point.clear();
        self.point.extend_from_slice(point);
        self.prepared.prepare_for_branches(self.context.transform, point, self.context.branch);
        self.descent.begin(Order::Distance, std::iter::once((self.tree.number, self.tree.record)));
        self.covered = LEAVES_COVERED * self.context.leaf_size;
        self.descent.expand(&self.nodes, &mut self.prepared, self.covered)
    }

    fn next(&mut self) -> Result<Option<QueuedNode>> {
        self.descent.next_leaf(&self.nodes, &mut self.prepared)
    }

    /// Opens branches until four times as much hangs under them.
    fn widen(&mut self) -> Result<()> {
        self.covered *= 4;
        self.descent.expand(&self.nodes, &mut self.prepared, self.covered)
    }

    /// A leaf as it is stored.
    pub(crate) fn leaf(&self, id: u32) -> Result<LeafRef<'a>> {
        self.nodes.leaf(self.tree.number, id)
    }

    /// The first `count` leaves by sketches that are not `removed`, sorted by exact distance.
    pub(crate) fn nearest(
        &mut self,
        point: &[f32],
        count: usize,
        removed: &BTreeSet<u32>,
    ) -> Result<Vec<NearLeaf>> {
        self.begin(point)?;
        let mut near = Vec::with_capacity(count);
        while near.len() < count {
            let Some(next) = self.next()? else { break };
            if removed.contains(&next.id) {
                continue;
            }
            let centroid = self.leaf(next.id)?.node.centroid;
            let distance = self.context.distance(&self.point, centroid);
            near.push(NearLeaf {
                distance,
                leaf: next.id,
                centroid: centroid.to_vec(),
                path: self.descent.path(&next),
            });
        }
        near.sort_unstable_by_key(NearLeaf::scored);
        Ok(near)
    }
}

/// Finds old items that are not near where they should be, by the bitmaps of all leaves: O(leaves).
pub(crate) fn scan_for(
    context: &ForestContext<'_>,
    rtxn: &RoTxn<'_>,
    tree: u8,
    lost: &BTreeSet<u32>,
) -> Result<BTreeMap<u32, Vec<u32>>> {
    let mut found: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in context.view(rtxn).iter_trees(Kind::Leaf, &(tree..=tree))? {
        let (key, _) = entry?;
        let leaf = context.leaf(rtxn, key)?;
        for id in leaf.set.iter().filter(|id| lost.contains(id)) {
            found.entry(id).or_default().push(key.id());
        }
    }
    Ok(found)
}

/// The branches above some leaves of a tree, from the parent up to the root: O(branches).
pub(crate) fn paths_of(
    context: &ForestContext<'_>,
    rtxn: &RoTxn<'_>,
    tree: StoredTree,
    wanted: &BTreeSet<u32>,
) -> Result<BTreeMap<u32, Vec<u32>>> {
    let (mut parents, mut leaves) = (BTreeMap::new(), BTreeMap::new());
    let trees = tree.number..=tree.number;
    for entry in context.view(rtxn).iter_trees(Kind::Branch, &trees)? {
        let (key, bytes) = entry?;
        let branch = BranchRef::parse(key, bytes, context.spec.dims, context.spec.metric)?;
        let children = branch.children.iter().map(|child| (*child, key.id()));
        match branch.node.height {
            1 => leaves.extend(children.filter(|(leaf, _)| wanted.contains(leaf))),
            _ => parents.extend(children),
        }
    }
    let path = |first: u32| {
        let up = std::iter::successors(Some(first), |id| parents.get(id).copied());
        // Branches that name each other have no root above them.
        up.take(tree.record.height as usize).collect()
    };
    Ok(leaves.into_iter().map(|(leaf, parent)| (leaf, path(parent))).collect())
}
