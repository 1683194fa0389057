//! Bringing branches up to date with the leaves below them, as in a B-tree: split, merge, grow and
//! shrink.

mod encode;
mod merge;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::format::MAX_CHILDREN;
use crate::format::node::{BranchRef, Child, EncodedNode, branch_value, is_near_weight};
use crate::format::record::MAX_HEIGHT;
use crate::indexer::tree_edit::TreeEdit;
use crate::key::Key;
use crate::metric::Metric;

/// Branches that are encoded at once, and bytes of their children's centroids: one branch at least.
const BRANCHES_AT_ONCE: usize = 64;
const BYTES_AT_ONCE: usize = 16 << 20;

/// What became of a node, for its parent.
#[derive(Copy, Clone, Debug, PartialEq)]
enum ChildChange {
    /// It has another weight.
    Weight(u64),
    /// It is new, or its centroid moved. This is its weight.
    Moved(u64),
    Removed,
}

/// What became of nodes, by parent.
type Changes = BTreeMap<u32, BTreeMap<u32, ChildChange>>;

/// A branch taken out of its value.
struct BranchEdit {
    height: u8,
    /// Whether it differs from what is stored.
    is_changed: bool,
    children: BTreeMap<u32, Child>,
    centroid: Vec<f32>,
    /// The sketches of its children, unless they have to be made anew.
    encoded: Option<EncodedNode>,
}

impl BranchEdit {
    fn take(branch: &BranchRef<'_>) -> Self {
        let child = |(i, (id, weight)): (usize, (&u32, &u32))| {
            let norm = branch.norms.get(i).copied().unwrap_or(0.0);
            (*id, Child { id: *id, weight: u64::from(*weight), norm })
        };
        let encoded = EncodedNode {
            layout: branch.node.layout,
            is_local: branch.node.is_local,
            spread: branch.node.spread,
            len: branch.node.len,
            centroid: branch.node.centroid.to_vec(),
            steps: branch.node.steps.to_vec(),
            blocks: branch.node.blocks.to_vec(),
        };
        Self {
            height: branch.node.height,
            is_changed: false,
            children: branch.children.iter().zip(branch.weights).enumerate().map(child).collect(),
            centroid: encoded.centroid.clone(),
            encoded: Some(encoded),
        }
    }

    /// Its sketches no longer hold.
    fn invalidate(&mut self) {
        (self.is_changed, self.encoded) = (true, None);
    }

    fn weight(&self) -> u64 {
        self.children.values().map(|child| child.weight).sum()
    }

    /// Applies what became of its children. `key` is its own, for errors.
    fn apply(&mut self, key: Key, changes: &BTreeMap<u32, ChildChange>) -> Result<()> {
        for (child, change) in changes {
            match change {
                ChildChange::Weight(weight) => {
                    let known = self.children.get_mut(child);
                    let known = known
                        .ok_or_else(|| Error::corrupted(key, "a node's parent does not name it"))?;
                    if !is_near_weight(known.weight, *weight) {
                        known.weight = *weight;
                        self.is_changed = true;
                    }
                }
                ChildChange::Moved(weight) => {
                    self.children.insert(*child, Child { id: *child, weight: *weight, norm: 0.0 });
                    self.invalidate();
                }
                ChildChange::Removed => {
                    self.children.remove(child);
                    self.invalidate();
                }
            }
        }
        Ok(())
    }

    fn value(&self, metric: Metric) -> Option<Vec<u8>> {
        let children: Vec<Child> = self.children.values().copied().collect();
        let encoded = self.encoded.as_ref()?;
        Some(branch_value(self.height, encoded, &children, metric))
    }
}

/// The branches of one tree under change. They are updated height by height, from the leaves up.
pub(crate) struct Branches<'e, 'a> {
    edit: &'e mut TreeEdit<'a>,
    /// The height of the branches that are updated now.
    height: u8,
    /// Branches taken out of their values, by id.
    open: BTreeMap<u32, BranchEdit>,
    removed: BTreeSet<u32>,
    /// Branches whose centroid moved.
    moved: BTreeSet<u32>,
    /// The parents of branches, as far as they are known.
    parents: BTreeMap<u32, u32>,
    /// What became of the branches that are updated now.
    changes: Changes,
    created: u32,
}

/// What the branches have become.
pub(crate) struct BranchUpdate {
    pub(crate) root: u32,
    pub(crate) height: u32,
    pub(crate) branches: u32,
    pub(crate) puts: Vec<(Key, Vec<u8>)>,
    pub(crate) deletes: Vec<Key>,
}

impl<'e, 'a> Branches<'e, 'a> {
    pub(crate) fn new(edit: &'e mut TreeEdit<'a>) -> Self {
        let mut parents = BTreeMap::new();
        for path in edit.paths.values() {
            parents.extend(path.windows(2).map(|pair| (pair[0], pair[1])));
        }
        Self {
            edit,
            height: 0,
            open: BTreeMap::new(),
            removed: BTreeSet::new(),
            moved: BTreeSet::new(),
            parents,
            changes: BTreeMap::new(),
            created: 0,
        }
    }

    /// Carries the changes of the leaves up to the root.
    pub(crate) fn update(mut self) -> Result<BranchUpdate> {
        self.changes = self.leaf_changes()?;
        let mut tops = vec![self.edit.stored.root];
        let at_once = (BYTES_AT_ONCE / (4 * self.edit.context.transform.width * MAX_CHILDREN))
            .clamp(1, BRANCHES_AT_ONCE);
        let root_height = self.edit.stored.height;
        for height in 1..=u8::try_from(root_height).unwrap_or(u8::MAX) {
            self.height = height;
            let is_top = u32::from(height) == root_height;
            let mut touched = BTreeSet::new();
            for (branch, changes) in std::mem::take(&mut self.changes) {
                let key = self.key(branch);
                self.branch_mut(branch)?.apply(key, &changes)?;
                touched.insert(branch);
            }
            for branch in touched.clone() {
                touched.extend(self.reassign_children(branch)?);
            }
            let touched: Vec<u32> = touched.into_iter().collect();
            for branches in touched.chunks(at_once) {
                for (branch, split_off) in self.encode(branches)? {
                    self.report(branch, &split_off);
                    if is_top {
                        tops.extend(split_off);
                    }
                }
            }
            if !is_top {
                self.merge_small()?;
            }
        }
        self.finish(&tops)
    }

    /// What became of the leaves.
    fn leaf_changes(&self) -> Result<Changes> {
        let edit = &self.edit;
        let mut changes = Changes::new();
        let parent = |leaf: u32| -> Result<u32> {
            // A new leaf goes under the parent of the one that it was split off from.
            let stored = edit.created.get(&leaf).copied().unwrap_or(leaf);
            let path = edit.paths.get(&stored).and_then(|path| path.first().copied());
            path.ok_or_else(|| Error::corrupted(edit.key(stored), "no branch names this leaf"))
        };
        for (id, leaf) in edit.leaves.iter().filter(|(_, leaf)| leaf.is_changed) {
            let weight = leaf.len() as u64;
            let change = if edit.moved.contains(id) {
                ChildChange::Moved(weight)
            } else {
                ChildChange::Weight(weight)
            };
            changes.entry(parent(*id)?).or_default().insert(*id, change);
        }
        for leaf in edit.removed.iter().filter(|leaf| !edit.created.contains_key(leaf)) {
            changes.entry(parent(*leaf)?).or_default().insert(*leaf, ChildChange::Removed);
        }
        Ok(changes)
    }

    fn key(&self, branch: u32) -> Key {
        Key::branch(self.edit.context.spec.index, self.edit.tree, branch)
    }

    /// A branch of the height that is updated now, taken out of its value if it is not yet.
    fn branch_mut(&mut self, id: u32) -> Result<&mut BranchEdit> {
        let key = self.key(id);
        let branch = match self.open.entry(id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let branch = self.edit.context.sealed_branch(self.edit.rtxn, key)?;
                entry.insert(BranchEdit::take(&branch))
            }
        };
        if branch.height != self.height {
            return Err(Error::corrupted(key, "a branch at another height than its parent says"));
        }
        Ok(branch)
    }

    /// The centroid of a branch as it is now.
    fn centroid(&self, id: u32) -> Result<Vec<f32>> {
        if let Some(branch) = self.open.get(&id) {
            return Ok(branch.centroid.clone());
        }
        let branch = self.edit.context.branch(self.edit.rtxn, self.key(id))?;
        Ok(branch.node.centroid.to_vec())
    }

    /// The centroid of a child of the branches that are updated now.
    fn child_centroid(&self, id: u32) -> Result<Vec<f32>> {
        if self.height > 1 {
            return self.centroid(id);
        }
        if let Some(leaf) = self.edit.leaves.get(&id) {
            return Ok(leaf.centroid().to_vec());
        }
        let leaf = self.edit.context.leaf(self.edit.rtxn, self.edit.key(id))?;
        Ok(leaf.node.centroid.to_vec())
    }

    /// Notes for the parent what became of a branch and of those split off from it.
    fn report(&mut self, id: u32, split_off: &[u32]) {
        let Some(parent) = self.parents.get(&id).copied() else { return };
        for id in std::iter::once(&id).chain(split_off) {
            let Some(branch) = self.open.get(id).filter(|branch| branch.is_changed) else {
                continue;
            };
            let change = match branch.children.is_empty() {
                true => ChildChange::Removed,
                false if self.moved.contains(id) => ChildChange::Moved(branch.weight()),
                false => ChildChange::Weight(branch.weight()),
            };
            self.changes.entry(parent).or_default().insert(*id, change);
        }
    }

    /// Puts a new root over what the old one was split into, or takes roots with a single child
    /// away.
    fn finish(mut self, tops: &[u32]) -> Result<BranchUpdate> {
        let (mut root, mut height) = (self.edit.stored.root, self.edit.stored.height);
        if tops.len() > 1 {
            if height >= MAX_HEIGHT {
                return Err(Error::corrupted(
                    self.key(root),
                    "a tree is as high as a tree can be, and its root splits",
                ));
            }
            height += 1;
            self.height = u8::try_from(height).unwrap_or(u8::MAX);
            root = self.new_root(root, tops)?;
        }
        while height > 1 {
            self.height = u8::try_from(height).unwrap_or(u8::MAX);
            let children = &self.branch_mut(root)?.children;
            let Some(child) = children.keys().next().filter(|_| children.len() == 1).copied()
            else {
                break;
            };
            self.open.remove(&root);
            self.removed.insert(root);
            (root, height) = (child, height - 1);
        }
        self.drop_empty();
        let metric = self.edit.context.spec.metric;
        let changed = self.open.iter().filter(|(_, branch)| branch.is_changed);
        let puts = changed
            .filter_map(|(id, branch)| Some((self.key(*id), branch.value(metric)?)))
            .collect();
        let deletes = self.removed.iter().map(|id| self.key(*id)).collect();
        let removed = u32::try_from(self.removed.len()).unwrap_or(u32::MAX);
        self.removed.iter().for_each(|id| self.edit.branch_ids.give_back(*id));
        // The stored number may be damaged, so the sum saturates.
        let branches =
            self.edit.stored.branches.saturating_add(self.created).saturating_sub(removed);
        Ok(BranchUpdate { root, height, branches, puts, deletes })
    }

    /// A root over the parts of the old one.
    fn new_root(&mut self, old: u32, parts: &[u32]) -> Result<u32> {
        let root = self.edit.branch_ids.take(self.key(old))?;
        self.removed.remove(&root);
        self.created += 1;
        let weight = |id: &u32| self.open.get(id).map_or(0, BranchEdit::weight);
        let child = |id: &u32| (*id, Child { id: *id, weight: weight(id), norm: 0.0 });
        let branch = BranchEdit {
            height: self.height,
            is_changed: true,
            children: parts.iter().map(child).collect(),
            centroid: Vec::new(),
            encoded: None,
        };
        self.open.insert(root, branch);
        self.encode(&[root])?;
        Ok(root)
    }

    /// Takes branches away that have lost all their children. Their parents know already.
    fn drop_empty(&mut self) {
        let empty = self.open.iter().filter(|(_, branch)| branch.children.is_empty());
        let empty: Vec<u32> = empty.map(|(id, _)| *id).collect();
        for id in empty {
            self.open.remove(&id);
            self.removed.insert(id);
        }
    }
}
