//! Bringing branches up to date with the leaves below them, as in a B-tree: split, merge, grow and
//! shrink.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::forest::context::ForestContext;
use crate::format::MAX_CHILDREN;
use crate::format::node::{Child, EncodedNode, branch_value, is_near_weight};
use crate::format::record::MAX_HEIGHT;
use crate::indexer::tree_edit::TreeEdit;
use crate::key::Key;
use crate::math::kmeans::{Matrix, split};
use crate::sketch::codes::Sketches;

/// Children a branch has at least, unless it is the root.
const MIN_CHILDREN: usize = MAX_CHILDREN / 8;
/// Branches that are encoded at once, and bytes of their children's centroids: one branch at least.
const ENCODED: usize = 64;
const ENCODED_BYTES: usize = 16 << 20;
/// Children that the parts of a split branch have at most: room to grow.
const SPLIT_CHILDREN: usize = MAX_CHILDREN * 3 / 4;

/// What became of a node, for its parent.
#[derive(Copy, Clone, Debug, PartialEq)]
enum ChildChange {
    /// It has another weight.
    Weight(u64),
    /// It is new, or its centroid moved.
    Moved(u64),
    Gone,
}

/// A branch taken out of its value.
struct BranchEdit {
    /// Whether it differs from what is stored.
    is_changed: bool,
    children: BTreeMap<u32, Child>,
    centroid: Vec<f32>,
    /// The sketches as they are stored, while they hold.
    encoded: Option<EncodedNode>,
}

/// Children of a branch with their centroids.
struct BranchChildren {
    children: Vec<Child>,
    points: Matrix,
}

/// The branches of one tree under change.
pub(crate) struct Branches<'e, 'a> {
    edit: &'e mut TreeEdit<'a>,
    /// By id; each belongs to one level.
    open: BTreeMap<u32, (u8, BranchEdit)>,
    removed: BTreeSet<u32>,
    /// Branches whose centroid moved.
    moved: BTreeSet<u32>,
    /// The parents of branches, as far as they are known.
    parents: BTreeMap<u32, u32>,
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
            open: BTreeMap::new(),
            removed: BTreeSet::new(),
            moved: BTreeSet::new(),
            parents,
            created: 0,
        }
    }

    /// Carries the changes of the leaves up to the root.
    pub(crate) fn update(mut self) -> Result<BranchUpdate> {
        let mut changes = self.leaf_changes()?;
        let mut tops = vec![self.edit.stored.root];
        let at_once = (ENCODED_BYTES / (4 * self.edit.context.transform.width * MAX_CHILDREN))
            .clamp(1, ENCODED);
        let root_height = self.edit.stored.height;
        for height in 1..=u8::try_from(root_height).unwrap_or(u8::MAX) {
            let is_top = u32::from(height) == root_height;
            let mut next = BTreeMap::new();
            let mut touched = BTreeSet::new();
            for (branch, changes) in changes {
                self.open(branch, height)?;
                self.apply(branch, &changes)?;
                touched.insert(branch);
            }
            for branch in touched.clone() {
                self.reassign_children(branch, height, &mut touched)?;
            }
            let touched: Vec<u32> = touched.into_iter().collect();
            for branches in touched.chunks(at_once) {
                for (branch, split_off) in self.encode(branches, height)? {
                    self.report(branch, &split_off, &mut next);
                    if is_top {
                        tops.extend(split_off);
                    }
                }
            }
            if !is_top {
                self.merge_small(height, &mut next)?;
            }
            changes = next.into_iter().fold(
                BTreeMap::new(),
                |mut by_parent, ((parent, child), change)| {
                    by_parent.entry(parent).or_insert_with(BTreeMap::new).insert(child, change);
                    by_parent
                },
            );
        }
        self.finish(&tops)
    }

    /// What became of the leaves, by parent.
    fn leaf_changes(&self) -> Result<BTreeMap<u32, BTreeMap<u32, ChildChange>>> {
        let edit = &self.edit;
        let mut changes: BTreeMap<u32, BTreeMap<u32, ChildChange>> = BTreeMap::new();
        let parent = |leaf: u32| -> Result<u32> {
            let stored = edit.created.get(&leaf).copied().unwrap_or(leaf);
            let path = edit.paths.get(&stored).and_then(|path| path.first().copied());
            let key = Key::leaf(edit.context.spec.index, edit.tree, stored);
            path.ok_or_else(|| Error::corrupted(key, "no branch names this leaf"))
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
            changes.entry(parent(*leaf)?).or_default().insert(*leaf, ChildChange::Gone);
        }
        Ok(changes)
    }

    fn key(&self, branch: u32) -> Key {
        Key::branch(self.edit.context.spec.index, self.edit.tree, branch)
    }

    /// Takes a branch out of its value, if that has not been done yet.
    fn open(&mut self, id: u32, height: u8) -> Result<()> {
        let (key, context) = (self.key(id), self.edit.context);
        let misplaced =
            || Err(Error::corrupted(key, "a branch at another height than its parent says"));
        if let Some((at, _)) = self.open.get(&id) {
            return if *at == height { Ok(()) } else { misplaced() };
        }
        let branch = context.sealed_branch(self.edit.rtxn, key)?;
        if branch.node.height != height {
            return misplaced();
        }
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
        let children = branch.children.iter().zip(branch.weights).enumerate().map(child).collect();
        let centroid = encoded.centroid.clone();
        let edit = BranchEdit { is_changed: false, children, centroid, encoded: Some(encoded) };
        self.open.insert(id, (height, edit));
        Ok(())
    }

    /// Applies what became of a branch's children.
    fn apply(&mut self, id: u32, changes: &BTreeMap<u32, ChildChange>) -> Result<()> {
        let key = self.key(id);
        let Some((_, branch)) = self.open.get_mut(&id) else { return Ok(()) };
        for (child, change) in changes {
            match change {
                ChildChange::Weight(weight) => {
                    let known = branch.children.get_mut(child);
                    let known = known
                        .ok_or_else(|| Error::corrupted(key, "a node's parent does not name it"))?;
                    if !is_near_weight(known.weight, *weight) {
                        known.weight = *weight;
                        branch.is_changed = true;
                    }
                }
                ChildChange::Moved(weight) => {
                    branch
                        .children
                        .insert(*child, Child { id: *child, weight: *weight, norm: 0.0 });
                    (branch.is_changed, branch.encoded) = (true, None);
                }
                ChildChange::Gone => {
                    branch.children.remove(child);
                    (branch.is_changed, branch.encoded) = (true, None);
                }
            }
        }
        Ok(())
    }

    /// Hands the children of a branch that changed to the siblings they are nearer to: half a round
    /// of k-means. Without it searches open the wrong branches first as leaves move. Measured after
    /// drift on sift, 40,000 items: 2,101 sketches for a recall of .95 without, and 1,592 with
    /// branches grouped anew.
    fn reassign_children(
        &mut self,
        id: u32,
        height: u8,
        touched: &mut BTreeSet<u32>,
    ) -> Result<()> {
        let (context, parent) = (self.edit.context, self.parents.get(&id).copied());
        let (Some(parent), Some((_, branch))) = (parent, self.open.get(&id)) else { return Ok(()) };
        if branch.encoded.is_some() || branch.children.is_empty() {
            return Ok(());
        }
        let children: Vec<u32> = branch.children.keys().copied().collect();
        let points = self.centroids(children.iter().copied(), height - 1)?;
        let siblings: Vec<u32> = self.stored_siblings(id, parent)?;
        let others = self.centroids(siblings.iter().copied(), height)?;
        let own = points.median();
        for (row, child) in children.into_iter().enumerate() {
            let point = points.row(row);
            let mut best = (context.distance(point, &own), id);
            for (sibling, other) in siblings.iter().zip(others.values.chunks_exact(others.width)) {
                let distance = context.distance(point, other);
                if distance < best.0 {
                    best = (distance, *sibling);
                }
            }
            if best.1 != id {
                self.move_child(child, (id, best.1), parent, height)?;
                touched.insert(best.1);
            }
        }
        Ok(())
    }

    /// Moves a child from one branch to another with the same parent, if there is room.
    fn move_child(
        &mut self,
        child: u32,
        (from, to): (u32, u32),
        parent: u32,
        height: u8,
    ) -> Result<()> {
        self.open(to, height)?;
        self.parents.insert(to, parent);
        let Some((_, target)) =
            self.open.get(&to).filter(|(_, target)| target.children.len() < MAX_CHILDREN)
        else {
            return Ok(());
        };
        if target.children.contains_key(&child) {
            return Err(Error::corrupted(
                self.key(to),
                "another branch names a child of this one, too",
            ));
        }
        let Some(moved) =
            self.open.get_mut(&from).and_then(|(_, branch)| branch.children.remove(&child))
        else {
            return Ok(());
        };
        if let Some((_, target)) = self.open.get_mut(&to) {
            target.children.insert(child, moved);
            (target.is_changed, target.encoded) = (true, None);
        }
        Ok(())
    }

    /// The other branches that the parent names as it is stored.
    fn stored_siblings(&self, id: u32, parent: u32) -> Result<Vec<u32>> {
        let (context, key) = (self.edit.context, self.key(parent));
        let stored = context.branch(self.edit.rtxn, key)?;
        let others = stored.children.iter().copied();
        Ok(others.filter(|other| *other != id && !self.removed.contains(other)).collect())
    }

    /// The centroids of nodes as they are now.
    fn centroids(&self, ids: impl Iterator<Item = u32>, height: u8) -> Result<Matrix> {
        let mut points = Matrix::new(self.edit.context.transform.width);
        for id in ids {
            points.push(&self.centroid(id, height)?);
        }
        Ok(points)
    }

    /// Moves the centroids of branches of one level to the medians of their children's and encodes
    /// these anew, where they changed; returns each branch with those that were split off because
    /// there were too many.
    fn encode(&mut self, branches: &[u32], height: u8) -> Result<Vec<(u32, Vec<u32>)>> {
        let mut all_children = Vec::with_capacity(branches.len());
        for id in branches {
            all_children.push(self.children_of(*id, height)?);
        }
        let (context, seed) = (self.edit.context, |id: u32| u64::from(id) << 8 | u64::from(height));
        let groups =
            |(id, children_of): (&u32, &BranchChildren)| grouped(&context, children_of, seed(*id));
        let groups: Vec<Vec<BranchEdit>> =
            branches.par_iter().zip(&all_children).with_min_len(2).map(groups).collect();
        branches
            .iter()
            .zip(groups)
            .map(|(id, groups)| Ok((*id, self.replace(*id, height, groups)?)))
            .collect()
    }

    /// The children of a branch, if they changed, with their centroids.
    fn children_of(&self, id: u32, height: u8) -> Result<BranchChildren> {
        let children: Vec<Child> = match self.open.get(&id) {
            Some((_, branch)) if branch.encoded.is_none() => {
                branch.children.values().copied().collect()
            }
            _ => Vec::new(),
        };
        let points = self.centroids(children.iter().map(|child| child.id), height - 1)?;
        Ok(BranchChildren { children, points })
    }

    /// Puts the parts of a branch in its place; returns those with new ids.
    fn replace(&mut self, id: u32, height: u8, parts: Vec<BranchEdit>) -> Result<Vec<u32>> {
        let (mut split_off, key, is_moved) = (Vec::new(), self.key(id), !parts.is_empty());
        for (i, part) in parts.into_iter().enumerate() {
            let new = if i == 0 { id } else { self.edit.branch_ids.take(key)? };
            self.open.insert(new, (height, part));
            if i > 0 {
                self.removed.remove(&new);
                self.created += 1;
                if let Some(parent) = self.parents.get(&id).copied() {
                    self.parents.insert(new, parent);
                }
                split_off.push(new);
            }
        }
        if is_moved {
            self.moved.insert(id);
            self.moved.extend(&split_off);
        }
        Ok(split_off)
    }

    /// The centroid of a node as it is now.
    fn centroid(&self, id: u32, height: u8) -> Result<Vec<f32>> {
        let (context, rtxn) = (self.edit.context, self.edit.rtxn);
        if height == 0 {
            if let Some(leaf) = self.edit.leaves.get(&id) {
                return Ok(leaf.centroid().to_vec());
            }
            return Ok(context
                .leaf(rtxn, Key::leaf(context.spec.index, self.edit.tree, id))?
                .node
                .centroid
                .to_vec());
        }
        if let Some((_, branch)) = self.open.get(&id) {
            return Ok(branch.centroid.clone());
        }
        let key = self.key(id);
        Ok(context.branch(rtxn, key)?.node.centroid.to_vec())
    }

    /// Tells the parent what became of a branch and of those split off from it.
    fn report(&self, id: u32, split_off: &[u32], next: &mut BTreeMap<(u32, u32), ChildChange>) {
        let Some(parent) = self.parents.get(&id).copied() else { return };
        for id in std::iter::once(&id).chain(split_off) {
            let Some((_, branch)) = self.open.get(id).filter(|(_, branch)| branch.is_changed)
            else {
                continue;
            };
            let weight = branch.children.values().map(|child| child.weight).sum();
            let is_moved = self.moved.contains(id);
            let change = match branch.children.is_empty() {
                true => ChildChange::Gone,
                false if is_moved => ChildChange::Moved(weight),
                false => ChildChange::Weight(weight),
            };
            next.insert((parent, *id), change);
        }
    }

    /// Gives the children of branches that have too few to the nearest branch under the same
    /// parent.
    fn merge_small(
        &mut self,
        height: u8,
        next: &mut BTreeMap<(u32, u32), ChildChange>,
    ) -> Result<()> {
        let small = |(id, (at, branch)): (&u32, &(u8, BranchEdit))| {
            (*at == height && branch.children.len() < MIN_CHILDREN).then_some(*id)
        };
        let small: Vec<u32> = self.open.iter().filter_map(small).collect();
        for id in small {
            let Some(parent) = self.parents.get(&id).copied() else { continue };
            let centroid = self.centroid(id, height)?;
            let Some(target) = self.nearest_sibling(id, parent, height, &centroid, next)? else {
                continue;
            };
            self.open(target, height)?;
            self.parents.insert(target, parent);
            let Some((_, branch)) = self.open.remove(&id) else { continue };
            if let Some((_, target)) = self.open.get_mut(&target) {
                target.children.extend(branch.children);
                (target.is_changed, target.encoded) = (true, None);
            }
            self.removed.insert(id);
            next.insert((parent, id), ChildChange::Gone);
            for (target, split_off) in self.encode(&[target], height)? {
                self.report(target, &split_off, next);
            }
        }
        Ok(())
    }

    fn nearest_sibling(
        &self,
        id: u32,
        parent: u32,
        height: u8,
        centroid: &[f32],
        next: &BTreeMap<(u32, u32), ChildChange>,
    ) -> Result<Option<u32>> {
        let context = self.edit.context;
        let stored = self.stored_siblings(id, parent)?;
        let new = next.range((parent, 0)..=(parent, u32::MAX)).map(|((_, child), _)| *child);
        let siblings: BTreeSet<u32> = stored.into_iter().chain(new).collect();
        let mut best: Option<(f32, u32)> = None;
        for sibling in
            siblings.into_iter().filter(|sibling| *sibling != id && !self.removed.contains(sibling))
        {
            if next.get(&(parent, sibling)) == Some(&ChildChange::Gone) {
                continue;
            }
            let distance = context.distance(centroid, &self.centroid(sibling, height)?);
            if best.is_none_or(|best| distance < best.0) {
                best = Some((distance, sibling));
            }
        }
        Ok(best.map(|(_, sibling)| sibling))
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
            let root_height = u8::try_from(height).unwrap_or(u8::MAX);
            root = self.edit.branch_ids.take(self.key(root))?;
            self.removed.remove(&root);
            self.created += 1;
            let weight = |id: &u32| {
                self.open.get(id).map_or(0, |(_, b)| b.children.values().map(|c| c.weight).sum())
            };
            let children = tops
                .iter()
                .map(|id| (*id, Child { id: *id, weight: weight(id), norm: 0.0 }))
                .collect();
            self.open.insert(
                root,
                (
                    root_height,
                    BranchEdit { is_changed: true, children, centroid: Vec::new(), encoded: None },
                ),
            );
            self.encode(&[root], root_height)?;
        }
        while height > 1 {
            self.open(root, u8::try_from(height).unwrap_or(u8::MAX))?;
            let only = self.open.get(&root).filter(|(_, branch)| branch.children.len() == 1);
            let Some(child) = only.and_then(|(_, branch)| branch.children.keys().next().copied())
            else {
                break;
            };
            self.open.remove(&root);
            self.removed.insert(root);
            (root, height) = (child, height - 1);
        }
        // Branches without children were reported as gone.
        let empty: Vec<u32> = self
            .open
            .iter()
            .filter(|(_, (_, b))| b.children.is_empty())
            .map(|(id, _)| *id)
            .collect();
        for id in empty {
            self.open.remove(&id);
            self.removed.insert(id);
        }
        let metric = self.edit.context.spec.metric;
        let value = |(id, (height, branch)): (&u32, &(u8, BranchEdit))| {
            let children: Vec<Child> = branch.children.values().copied().collect();
            branch
                .encoded
                .as_ref()
                .map(|encoded| (self.key(*id), branch_value(*height, encoded, &children, metric)))
        };
        let puts = self
            .open
            .iter()
            .filter(|(_, (_, branch))| branch.is_changed)
            .filter_map(value)
            .collect();
        let deletes = self.removed.iter().map(|id| self.key(*id)).collect();
        let removed = u32::try_from(self.removed.len()).unwrap_or(u32::MAX);
        self.removed.iter().for_each(|id| self.edit.branch_ids.give(*id));
        // What the record says of the others may be anything.
        let branches =
            self.edit.stored.branches.saturating_add(self.created).saturating_sub(removed);
        Ok(BranchUpdate { root, height, branches, puts, deletes })
    }
}

/// A branch of these children, or the parts that it is split into because there are too many.
fn grouped(
    context: &ForestContext<'_>,
    children_of: &BranchChildren,
    seed: u64,
) -> Vec<BranchEdit> {
    let BranchChildren { children, points } = children_of;
    if children.is_empty() {
        return Vec::new();
    }
    let max = if children.len() > MAX_CHILDREN { SPLIT_CHILDREN } else { MAX_CHILDREN };
    let edit = |group: Vec<u32>| {
        let part = points.gather(&group);
        let centroid = part.median();
        let encoded = Some(
            Sketches::of_points(context.transform, context.branch, centroid.clone(), &part.values)
                .pack(),
        );
        let children = group.iter().enumerate().map(|(row, at)| {
            let child = children[*at as usize];
            (child.id, Child { norm: context.transform.norm(part.row(row)), ..child })
        });
        BranchEdit { is_changed: true, children: children.collect(), centroid, encoded }
    };
    split(context.transform.simd, points, max, seed).into_iter().map(edit).collect()
}
