//! Making the sketches of changed branches, which split where they have too many children.

use rayon::prelude::*;

use super::{BranchEdit, Branches};
use crate::error::Result;
use crate::forest::context::ForestContext;
use crate::format::MAX_CHILDREN;
use crate::format::node::Child;
use crate::math::kmeans::split;
use crate::math::matrix::Matrix;
use crate::sketch::codes::Sketches;

/// Children that the parts of a split branch have at most: room to grow.
const SPLIT_CHILDREN: usize = MAX_CHILDREN * 3 / 4;

/// Children of a branch with their centroids.
struct BranchChildren {
    children: Vec<Child>,
    points: Matrix,
}

impl BranchChildren {
    /// A branch of these children, or the parts that it is split into because there are too many.
    fn encode(&self, context: &ForestContext<'_>, height: u8, seed: u64) -> Vec<BranchEdit> {
        let Self { children, points } = self;
        if children.is_empty() {
            return Vec::new();
        }
        let max = if children.len() > MAX_CHILDREN { SPLIT_CHILDREN } else { MAX_CHILDREN };
        let edit = |rows: Vec<u32>| {
            let part = points.gather(&rows);
            let centroid = part.median();
            let sketches = Sketches::of_points(
                context.transform,
                context.branch,
                centroid.clone(),
                &part.values,
            );
            let children = rows.iter().enumerate().map(|(i, row)| {
                let child = children[*row as usize];
                (child.id, Child { norm: context.transform.norm(part.row(i)), ..child })
            });
            BranchEdit {
                height,
                is_changed: true,
                children: children.collect(),
                centroid,
                encoded: Some(sketches.pack()),
            }
        };
        split(context.transform.simd, points, max, seed).into_iter().map(edit).collect()
    }
}

impl Branches<'_, '_> {
    /// Moves the centroids of branches to the medians of their children's, and makes their sketches
    /// anew, where children changed. Returns each branch with those that were split off because
    /// there were too many.
    pub(super) fn encode(&mut self, branches: &[u32]) -> Result<Vec<(u32, Vec<u32>)>> {
        let children: Vec<BranchChildren> =
            branches.iter().map(|id| self.children_of(*id)).collect::<Result<_>>()?;
        let (context, height) = (self.edit.context, self.height);
        let parts = |(id, children): (&u32, &BranchChildren)| {
            children.encode(&context, height, u64::from(*id) << 8 | u64::from(height))
        };
        let parts: Vec<Vec<BranchEdit>> =
            branches.par_iter().zip(&children).with_min_len(2).map(parts).collect();
        branches.iter().zip(parts).map(|(id, parts)| Ok((*id, self.replace(*id, parts)?))).collect()
    }

    /// The children of a branch with their centroids; none if its sketches still hold.
    fn children_of(&self, id: u32) -> Result<BranchChildren> {
        let changed = self.open.get(&id).filter(|branch| branch.encoded.is_none());
        let children: Vec<Child> =
            changed.map_or_else(Vec::new, |branch| branch.children.values().copied().collect());
        let points = self.child_centroids(children.iter().map(|child| child.id))?;
        Ok(BranchChildren { children, points })
    }

    /// The centroids of children of the branches that are updated now.
    pub(super) fn child_centroids(&self, ids: impl Iterator<Item = u32>) -> Result<Matrix> {
        let mut points = Matrix::new(self.edit.context.transform.width);
        for id in ids {
            points.push(&self.child_centroid(id)?);
        }
        Ok(points)
    }

    /// Puts the parts of a branch in its place; returns those with new ids.
    fn replace(&mut self, id: u32, parts: Vec<BranchEdit>) -> Result<Vec<u32>> {
        let (mut split_off, key, is_moved) = (Vec::new(), self.key(id), !parts.is_empty());
        for (i, part) in parts.into_iter().enumerate() {
            let new = if i == 0 { id } else { self.edit.branch_ids.take(key)? };
            self.open.insert(new, part);
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
}
