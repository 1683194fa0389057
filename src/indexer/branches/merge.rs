//! Moving children between the branches of one parent: to a nearer one, or out of one that has few.

use std::collections::BTreeSet;

use super::{Branches, ChildChange};
use crate::error::{Error, Result};
use crate::format::MAX_CHILDREN;

/// Children a branch has at least, unless it is the root.
const MIN_CHILDREN: usize = MAX_CHILDREN / 8;

impl Branches<'_, '_> {
    /// Moves the children of a changed branch to the siblings they are nearer to: half a round of
    /// k-means. Returns these siblings.
    ///
    /// Else searches open the wrong branches first once leaves have moved. Measured:
    /// docs/trials.md, "children of branches".
    pub(super) fn reassign_children(&mut self, id: u32) -> Result<Vec<u32>> {
        let (context, parent) = (self.edit.context, self.parents.get(&id).copied());
        let (Some(parent), Some(branch)) = (parent, self.open.get(&id)) else {
            return Ok(Vec::new());
        };
        if branch.encoded.is_some() || branch.children.is_empty() {
            return Ok(Vec::new());
        }
        let children: Vec<u32> = branch.children.keys().copied().collect();
        let points = self.child_centroids(children.iter().copied())?;
        let siblings = self.stored_siblings(id, parent)?;
        let centroids =
            siblings.iter().map(|id| self.centroid(*id)).collect::<Result<Vec<Vec<f32>>>>()?;
        let own = points.median();
        let mut targets = Vec::new();
        for (row, child) in children.into_iter().enumerate() {
            let point = points.row(row);
            let mut best = (context.distance(point, &own), id);
            for (sibling, centroid) in siblings.iter().zip(&centroids) {
                let distance = context.distance(point, centroid);
                if distance < best.0 {
                    best = (distance, *sibling);
                }
            }
            let (_, target) = best;
            if target != id {
                self.parents.insert(target, parent);
                self.move_child(child, id, target)?;
                targets.push(target);
            }
        }
        Ok(targets)
    }

    /// Moves a child from one branch to another with the same parent, if there is room.
    fn move_child(&mut self, child: u32, from: u32, to: u32) -> Result<()> {
        let key = self.key(to);
        let target = self.branch_mut(to)?;
        if target.children.len() >= MAX_CHILDREN {
            return Ok(());
        }
        if target.children.contains_key(&child) {
            return Err(Error::corrupted(key, "another branch names a child of this one, too"));
        }
        if let Some(moved) = self.branch_mut(from)?.children.remove(&child) {
            let target = self.branch_mut(to)?;
            target.children.insert(child, moved);
            target.invalidate();
        }
        Ok(())
    }

    /// The other branches that the parent names as it is stored.
    fn stored_siblings(&self, id: u32, parent: u32) -> Result<Vec<u32>> {
        let stored = self.edit.context.branch(self.edit.rtxn, self.key(parent))?;
        let others = stored.children.iter().copied();
        Ok(others.filter(|other| *other != id && !self.removed.contains(other)).collect())
    }

    /// Gives the children of branches that have too few to the nearest branch under the same
    /// parent.
    pub(super) fn merge_small(&mut self) -> Result<()> {
        let small = self.open.iter().filter(|(_, branch)| {
            branch.height == self.height && branch.children.len() < MIN_CHILDREN
        });
        let small: Vec<u32> = small.map(|(id, _)| *id).collect();
        for id in small {
            let Some(parent) = self.parents.get(&id).copied() else { continue };
            let Some(target) = self.nearest_sibling(id, parent)? else { continue };
            // It may be damaged, so it is read before the small one goes.
            self.branch_mut(target)?;
            self.parents.insert(target, parent);
            let Some(branch) = self.open.remove(&id) else { continue };
            let merged = self.branch_mut(target)?;
            merged.children.extend(branch.children);
            merged.invalidate();
            self.removed.insert(id);
            self.changes.entry(parent).or_default().insert(id, ChildChange::Removed);
            for (target, split_off) in self.encode(&[target])? {
                self.report(target, &split_off);
            }
        }
        Ok(())
    }

    /// The branch under this parent, stored or new, whose centroid is nearest to that of another.
    fn nearest_sibling(&self, id: u32, parent: u32) -> Result<Option<u32>> {
        let (context, centroid) = (self.edit.context, self.centroid(id)?);
        let changes = self.changes.get(&parent);
        let changed = changes.into_iter().flat_map(|changes| changes.keys().copied());
        let siblings: BTreeSet<u32> =
            self.stored_siblings(id, parent)?.into_iter().chain(changed).collect();
        let is_removed = |sibling: &u32| {
            let change = changes.and_then(|changes| changes.get(sibling));
            self.removed.contains(sibling) || change == Some(&ChildChange::Removed)
        };
        let mut best: Option<(f32, u32)> = None;
        for sibling in siblings.into_iter().filter(|it| *it != id && !is_removed(it)) {
            let distance = context.distance(&centroid, &self.centroid(sibling)?);
            if best.is_none_or(|best| distance < best.0) {
                best = Some((distance, sibling));
            }
        }
        Ok(best.map(|(_, sibling)| sibling))
    }
}
