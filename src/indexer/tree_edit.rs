//! One tree under change: the leaves that have been taken out of it, and those that were created or
//! removed.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use heed::RoTxn;

use crate::error::{Error, Result};
use crate::forest::context::ForestContext;
use crate::forest::route::{SHORTLIST, second_leaf};
use crate::format::MAX_FREE;
use crate::format::free_ids::{free_ids_value, parse_free_ids};
use crate::format::record::TreeRecord;
use crate::indexer::find::{Finder, NEAR_LEAVES, NearLeaf, StoredTree};
use crate::indexer::leaf_edit::LeafEdit;
use crate::key::Key;
use crate::lmdb::workers::Workers;

/// Items of a merged leaf for which one task finds another leaf.
const MERGED_PER_TASK: usize = 8;

/// Node ids of one kind in one tree: some of those given back, and the first that was never given
/// out.
///
/// Every build reads the list of those given back, and writes it if it changes. So it is short, and
/// a forest that has shrunk does not pay for its former size. Ids that find no place in it are not
/// used again before a bulk build. There are 2^32.
#[derive(Debug)]
pub(crate) struct NodeIds {
    free: BTreeSet<u32>,
    pub(crate) next: u32,
    is_changed: bool,
}

impl NodeIds {
    fn load(context: &ForestContext<'_>, rtxn: &RoTxn<'_>, key: Key, next: u32) -> Result<Self> {
        let bytes = context.db.get(rtxn, key)?;
        let free = bytes.map(|bytes| parse_free_ids(key, bytes, next)).transpose()?;
        Ok(Self { free: free.unwrap_or_default(), next, is_changed: false })
    }

    /// The lowest id that no node has. `tree` is a key of the tree, for errors.
    pub(crate) fn take(&mut self, tree: Key) -> Result<u32> {
        if let Some(id) = self.free.pop_first() {
            self.is_changed = true;
            return Ok(id);
        }
        let id = self.next;
        self.next = id
            .checked_add(1)
            .ok_or_else(|| Error::corrupted(tree, "all node ids of this tree are taken"))?;
        Ok(id)
    }

    pub(crate) fn give_back(&mut self, id: u32) {
        self.free.insert(id);
        if self.free.len() > MAX_FREE {
            self.free.pop_last();
        }
        self.is_changed = true;
    }

    /// The value to be stored, if it is another than before.
    fn value(&self) -> Option<Vec<u8>> {
        self.is_changed.then(|| free_ids_value(&self.free))
    }
}

/// How many leaves of a tree were split and merged, and how many items changed leaves.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct LeafStats {
    pub(crate) split: u64,
    pub(crate) merged: u64,
    pub(crate) reassigned: u64,
}

impl LeafStats {
    pub(crate) fn add(&mut self, other: Self) {
        self.split += other.split;
        self.merged += other.merged;
        self.reassigned += other.reassigned;
    }
}

/// One tree under change.
pub(crate) struct TreeEdit<'a> {
    pub(crate) context: ForestContext<'a>,
    pub(crate) rtxn: &'a RoTxn<'a>,
    pub(crate) tree: u8,
    /// The tree as it is stored.
    pub(crate) stored: TreeRecord,
    pub(crate) copies: usize,
    pub(crate) leaves: BTreeMap<u32, LeafEdit>,
    pub(crate) leaf_ids: NodeIds,
    pub(crate) branch_ids: NodeIds,
    /// Branches above stored leaves, from the parent up to the root.
    pub(crate) paths: BTreeMap<u32, Vec<u32>>,
    /// Leaves that are not stored yet, each with the stored leaf under whose parent it goes.
    pub(crate) created: BTreeMap<u32, u32>,
    /// Leaves whose centroid moved.
    pub(crate) moved: BTreeSet<u32>,
    pub(crate) removed: BTreeSet<u32>,
    /// Leaves that hold a tight group far from their centroid, each with the middle of that group.
    pub(crate) stretched: BTreeMap<u32, Vec<f32>>,
    pub(crate) stats: LeafStats,
}

impl<'a> TreeEdit<'a> {
    pub(crate) fn new(
        context: ForestContext<'a>,
        rtxn: &'a RoTxn<'a>,
        tree: u8,
        stored: TreeRecord,
        copies: usize,
    ) -> Result<Self> {
        let free = |which, next| {
            NodeIds::load(&context, rtxn, Key::free(context.spec.index, tree, which), next)
        };
        let (leaf_ids, branch_ids) = (free(0, stored.next_leaf)?, free(1, stored.next_branch)?);
        Ok(Self {
            context,
            rtxn,
            tree,
            stored,
            copies,
            leaves: BTreeMap::new(),
            leaf_ids,
            branch_ids,
            paths: BTreeMap::new(),
            created: BTreeMap::new(),
            moved: BTreeSet::new(),
            removed: BTreeSet::new(),
            stretched: BTreeMap::new(),
            stats: LeafStats::default(),
        })
    }

    pub(crate) fn stored_tree(&self) -> StoredTree {
        StoredTree { number: self.tree, record: self.stored }
    }

    /// How many leaves the tree has now.
    pub(crate) fn leaf_count(&self) -> usize {
        (self.stored.leaves as usize + self.created.len()).saturating_sub(self.removed.len())
    }

    pub(crate) fn key(&self, leaf: u32) -> Key {
        Key::leaf(self.context.spec.index, self.tree, leaf)
    }

    /// A leaf, taken out of its value if that has not been done yet.
    pub(crate) fn leaf_mut(&mut self, leaf: u32) -> Result<&mut LeafEdit> {
        match self.leaves.entry(leaf) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let key = Key::leaf(self.context.spec.index, self.tree, leaf);
                Ok(entry.insert(LeafEdit::take(&self.context, self.rtxn, key)?))
            }
        }
    }

    /// Finds the branches above a stored leaf by descending towards its centroid; `false` if that
    /// does not lead to it.
    pub(crate) fn find_path(&mut self, leaf: u32) -> Result<bool> {
        let centroid = self.context.leaf(self.rtxn, self.key(leaf))?.node.centroid.to_vec();
        let near =
            self.tree_view().finder(self.rtxn).nearest(&centroid, NEAR_LEAVES, &BTreeSet::new())?;
        self.paths.extend(near.into_iter().map(|near| (near.leaf, near.path)));
        Ok(self.paths.contains_key(&leaf))
    }

    /// Leaves near a point as the tree is now, sorted by distance.
    pub(crate) fn near(&mut self, point: &[f32]) -> Result<Vec<NearLeaf>> {
        let view = self.tree_view();
        let near = view.near(&mut view.finder(self.rtxn), point)?;
        for near in near.iter().filter(|near| !near.path.is_empty()) {
            self.paths.insert(near.leaf, near.path.clone());
        }
        Ok(near)
    }

    /// The tree as it is now, for reading by several threads.
    pub(crate) fn tree_view(&self) -> TreeView<'_> {
        TreeView {
            context: self.context,
            tree: self.stored_tree(),
            copies: self.copies,
            leaves: &self.leaves,
            created: &self.created,
            removed: &self.removed,
        }
    }

    /// Gives the items of an underfull leaf to others, and the leaf up.
    pub(crate) fn merge_leaf(&mut self, workers: &mut Workers<'_>, leaf: u32) -> Result<()> {
        let ids = std::mem::take(&mut self.leaf_mut(leaf)?.ids);
        self.leaves.remove(&leaf);
        self.removed.insert(leaf);
        self.moved.remove(&leaf);
        self.stats.merged += 1;
        let (context, view, key) = (self.context, self.tree_view(), self.key(leaf));
        let targets = workers.share(ids.len().div_ceil(MERGED_PER_TASK), |rtxn, task| {
            let part = &ids[task * MERGED_PER_TASK..ids.len().min((task + 1) * MERGED_PER_TASK)];
            let mut finder = view.finder(rtxn);
            part.iter().map(|id| view.leaf_for(&mut finder, *id)).collect::<Result<Vec<_>>>()
        })?;
        for (id, target) in ids.iter().zip(targets.into_iter().flatten()) {
            let Some((point, target)) = target else {
                return Err(Error::corrupted(key, "no other leaf is near this one"));
            };
            if !target.path.is_empty() {
                self.paths.insert(target.leaf, target.path);
            }
            let rtxn = self.rtxn;
            self.leaf_mut(target.leaf)?.insert(&context, rtxn, *id, &point)?;
            self.stats.reassigned += 1;
        }
        Ok(())
    }

    /// Takes leaves away that have lost all their items.
    pub(crate) fn drop_empty(&mut self) {
        let empty: Vec<u32> =
            self.leaves.iter().filter(|(_, leaf)| leaf.len() == 0).map(|(id, _)| *id).collect();
        for leaf in empty {
            self.leaves.remove(&leaf);
            self.moved.remove(&leaf);
            self.removed.insert(leaf);
        }
    }

    /// The lists of free node ids that have changed.
    pub(crate) fn free_lists(&self) -> Vec<(Key, Vec<u8>)> {
        let key = |which| Key::free(self.context.spec.index, self.tree, which);
        let lists = [(key(0), self.leaf_ids.value()), (key(1), self.branch_ids.value())];
        lists.into_iter().filter_map(|(key, value)| value.map(|value| (key, value))).collect()
    }
}

/// A tree as it is in the middle of its changes.
#[derive(Copy, Clone)]
pub(crate) struct TreeView<'a> {
    pub(crate) context: ForestContext<'a>,
    tree: StoredTree,
    pub(crate) copies: usize,
    leaves: &'a BTreeMap<u32, LeafEdit>,
    created: &'a BTreeMap<u32, u32>,
    removed: &'a BTreeSet<u32>,
}

impl<'a> TreeView<'a> {
    /// What looks for stored leaves of this tree.
    pub(crate) fn finder<'t>(&self, rtxn: &'t RoTxn<'t>) -> Finder<'t>
    where
        'a: 't,
    {
        Finder::new(self.context, rtxn, self.tree)
    }

    fn key(&self, leaf: u32) -> Key {
        Key::leaf(self.context.spec.index, self.tree.number, leaf)
    }

    /// Leaves near a point, sorted by distance.
    pub(crate) fn near(&self, finder: &mut Finder<'_>, point: &[f32]) -> Result<Vec<NearLeaf>> {
        // Where a whole region was deleted, all leaves nearby may be removed. So these do not
        // count.
        let mut near = finder.nearest(point, NEAR_LEAVES, self.removed)?;
        let created = self.created.keys().filter(|leaf| !self.removed.contains(leaf));
        near.extend(created.map(|leaf| NearLeaf {
            distance: 0.0,
            leaf: *leaf,
            centroid: Vec::new(),
            path: Vec::new(),
        }));
        for near in &mut near {
            // Centroids may have moved since they were stored.
            if let Some(leaf) = self.leaves.get(&near.leaf) {
                near.centroid = leaf.centroid().to_vec();
                near.distance = self.context.distance(point, &near.centroid);
            }
        }
        near.sort_unstable_by_key(NearLeaf::scored);
        Ok(near)
    }

    /// Whether a leaf holds an item.
    pub(crate) fn holds(&self, finder: &Finder<'_>, leaf: u32, id: u32) -> Result<bool> {
        Ok(match self.leaves.get(&leaf) {
            Some(edit) => edit.contains(id),
            None => finder.leaf(leaf)?.set.contains(id),
        })
    }

    /// The point of an item that lost a copy, and the leaf for another one.
    fn leaf_for(&self, finder: &mut Finder<'_>, id: u32) -> Result<Option<(Vec<f32>, NearLeaf)>> {
        let point = finder.point(id)?;
        let (mut open, mut other) = (Vec::with_capacity(NEAR_LEAVES), None);
        for near in self.near(finder, &point)? {
            if self.holds(finder, near.leaf, id)? { other = Some(near) } else { open.push(near) }
        }
        // The other copy stays where it is. If it is the nearer one, this copy complements it.
        let first =
            other.filter(|other| open.first().is_some_and(|near| other.distance <= near.distance));
        let second = first.map(|first| {
            let centroids = open.iter().map(|near| (near.leaf, &near.centroid[..]));
            let others = centroids.take(SHORTLIST - 1);
            second_leaf(self.context.transform.simd, &point, &first.centroid, others)
        });
        let target = open.into_iter().find(|near| second.is_none_or(|leaf| near.leaf == leaf));
        Ok(target.map(|target| (point, target)))
    }

    /// The items of a leaf, ascending.
    pub(crate) fn ids(&self, rtxn: &RoTxn<'_>, leaf: u32) -> Result<Vec<u32>> {
        Ok(match self.leaves.get(&leaf) {
            Some(edit) => edit.ids.clone(),
            None => self.context.leaf(rtxn, self.key(leaf))?.set.iter().collect(),
        })
    }
}
