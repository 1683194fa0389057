//! The whole forest anew: sample, cluster, route, encode.

use std::ops::Range;

use heed::RoTxn;
use rayon::prelude::*;

use crate::calibrate;
use crate::calibrate::truth;
use crate::error::{Error, Result};
use crate::forest::context::ForestContext;
use crate::forest::hierarchy::{Group, hierarchy};
use crate::forest::open::Forest;
use crate::forest::points::{Points, Sample};
use crate::forest::route::NO_LEAF;
use crate::forest::train::train;
use crate::format::item::ItemRef;
use crate::format::node::{Child, branch_value};
use crate::format::record::{Record, TreeRecord};
use crate::format::width;
use crate::index_spec::IndexSpec;
use crate::indexer::leaf_edit::LeafEdit;
use crate::indexer::plan::BuildPlan;
use crate::indexer::shape::{Shape, split_above};
use crate::key::{Key, tree_byte};
use crate::lmdb::database::Database;
use crate::lmdb::view::View;
use crate::lmdb::workers::Workers;
use crate::math::kmeans::{sample, split};
use crate::math::matrix::Matrix;
use crate::progress::BuildPhase;
use crate::sketch::codes::Sketches;
use crate::sketch::transform::{Transform, plain};

/// Memory for the rows that centroids are computed from: docs/trials.md, "choices that were not
/// swept".
const SAMPLE_BYTES: usize = 128 << 20;
/// Rows whose median is the origin: it has to be among the items, not at their very centre.
const ORIGIN_ROWS: usize = 1024;
/// Items that one task reads. With more, fewer products of matrices have few rows.
const READ_PER_TASK: usize = 4096;

/// A leaf of the plan: its centroid, and its items as places in the list of ids, ascending.
struct PlannedLeaf {
    centroid: Vec<f32>,
    entries: Vec<u32>,
}

/// A node whose parent is to be encoded.
struct ChildNode {
    centroid: Vec<f32>,
    weight: u64,
}

/// What all trees of a build share.
struct Bulk<'a> {
    context: ForestContext<'a>,
    shape: Shape,
    points: Points<'a>,
    sample: &'a Sample,
}

/// Computes the forest of all items that the workers see, in the generation of the record.
pub(crate) fn plan(
    db: Database,
    workers: &mut Workers<'_>,
    spec: IndexSpec,
    record: &Record,
    shape: Shape,
) -> Result<BuildPlan> {
    workers.poll(BuildPhase::Sampling, 0, 1)?;
    let ids: Vec<u32> = View::new(db, workers.own(), spec).ids()?.collect::<Result<_>>()?;
    if ids.len() as u64 != record.items {
        return Err(Error::corrupted(
            Key::record(spec.index),
            "the record counts another number of items than there are",
        ));
    }
    let mut new = *record;
    (new.items, new.indexed, new.pending, new.trees) = (record.items, record.items, 0, 0);
    (new.tree, new.unrefreshed, new.calibration) = Default::default();
    (new.shape_trees, new.spill, new.seed) = (shape.trees, u8::from(shape.spill), shape.seed);
    (new.sketch_bits, new.branch_bits) = (shape.sketch_bits, shape.branch_bits);
    let shape = shape.for_bulk(record.items);
    shape.write_leaf_size(&mut new);
    if ids.is_empty() {
        workers.poll(BuildPhase::Sampling, 1, 1)?;
        return Ok(BuildPlan {
            record: new,
            origin: None,
            is_anew: true,
            puts: Vec::new(),
            deletes: Vec::new(),
            truth: None,
        });
    }
    let mut sampled = read_sample(db, workers, spec, &ids)?;
    let rows = &mut sampled.rows;
    let some = sample(rows.len(), ORIGIN_ROWS, 1);
    let mut origin = rows.gather(&some).median();
    origin.truncate(spec.dims);
    let transform = Transform::new(spec.metric, origin, shape.seed);
    rows.values.par_chunks_mut(rows.width).for_each(|row| transform.place(row));

    new.trees = shape.trees;
    let forest = Forest::new(transform, &new);
    let context = ForestContext::new(db, spec, &forest, shape.leaf_size);
    let points = Points::new(context, &ids, Some(&sampled));
    let bulk = Bulk { context, shape, points, sample: &sampled };
    let (mut nodes, generation) = (Vec::new(), new.generation);
    for (tree, record) in (0..shape.trees).zip(&mut new.tree) {
        let seed = shape.seed.wrapping_add(u64::from(tree) + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let tree = tree_byte(generation, tree);
        *record = bulk.tree(workers, tree, seed, &mut nodes)?;
    }
    nodes.sort_unstable_by_key(|(key, _)| key.to_bytes());
    let applies_to = calibrate::applies_to(record.items);
    let truth = if applies_to { Some(truth::truth(workers, points)?) } else { None };
    let origin = Some(forest.transform.into_origin());
    Ok(BuildPlan { record: new, origin, is_anew: true, puts: nodes, deletes: Vec::new(), truth })
}

/// Reads the sample: plain components, not yet in work space, because the origin is their median.
fn read_sample(
    db: Database,
    workers: &mut Workers<'_>,
    spec: IndexSpec,
    ids: &[u32],
) -> Result<Sample> {
    let width = width(spec.dims);
    // Any fixed number: the sample must not move when the user changes the seed of the trees.
    let places = sample(ids.len(), SAMPLE_BYTES / (4 * width), 0);
    let tasks = places.len().div_ceil(READ_PER_TASK);
    let parts = workers.map(BuildPhase::Sampling, tasks, |rtxn, task| {
        let places = &places[chunk(places.len(), task)];
        let chosen: Vec<u32> = places.iter().map(|place| ids[*place as usize]).collect();
        let mut rows = vec![0.0; chosen.len() * width];
        let mut slots = rows.chunks_exact_mut(width);
        let put = |item: &ItemRef<'_>| {
            slots.next().into_iter().for_each(|row| plain(spec.metric, item, row))
        };
        db.visit_items(rtxn, spec, &chosen, put)?;
        Ok(rows)
    })?;
    let rows = Matrix { values: parts.concat(), width };
    Ok(Sample { places, rows })
}

/// What one task reads of so many.
fn chunk(len: usize, task: usize) -> Range<usize> {
    task * READ_PER_TASK..len.min((task + 1) * READ_PER_TASK)
}

impl Bulk<'_> {
    /// Adds the nodes of one tree.
    fn tree(
        &self,
        workers: &mut Workers<'_>,
        tree: u8,
        seed: u64,
        nodes: &mut Vec<(Key, Vec<u8>)>,
    ) -> Result<TreeRecord> {
        let mut leaves = self.leaves(workers, seed)?;
        let centroids = Matrix {
            values: leaves.iter().flat_map(|leaf| leaf.centroid.iter().copied()).collect(),
            width: self.context.transform.width,
        };
        let hierarchy = hierarchy(self.context.transform.simd, &centroids, seed);
        let orders = orders(&hierarchy);
        if let Some(order) = orders.last() {
            let mut slots: Vec<Option<PlannedLeaf>> = leaves.into_iter().map(Some).collect();
            leaves = order.iter().filter_map(|i| slots[*i as usize].take()).collect();
        }
        let encoded = workers.map(BuildPhase::Encoding, leaves.len(), |rtxn, i| {
            self.encode_leaf(rtxn, &leaves[i])
        })?;
        let below: Vec<ChildNode> = leaves
            .into_iter()
            .map(|leaf| ChildNode { weight: leaf.entries.len() as u64, centroid: leaf.centroid })
            .collect();
        let (next_leaf, height) = (below.len(), hierarchy.len());
        let next_branch = self.branches(tree, &hierarchy, &orders, below, nodes);
        nodes.extend(
            (0u32..)
                .zip(encoded)
                .map(|(id, value)| (Key::leaf(self.context.spec.index, tree, id), value)),
        );
        let count = |n: usize| {
            u32::try_from(n).map_err(|_| {
                Error::corrupted(Key::record(self.context.spec.index), "too many nodes")
            })
        };
        let mut record = TreeRecord::default();
        record.height = count(height)?;
        (record.next_leaf, record.leaves) = (count(next_leaf)?, count(next_leaf)?);
        (record.next_branch, record.branches) = (count(next_branch)?, count(next_branch)?);
        // The root is the first branch, or the only leaf.
        record.root = 0;
        Ok(record)
    }

    /// Leaves with their items, none empty, none over the leaf size.
    fn leaves(&self, workers: &mut Workers<'_>, seed: u64) -> Result<Vec<PlannedLeaf>> {
        let (n, leaf_size) = (self.points.ids.len(), self.shape.leaf_size);
        let copies = 1 + usize::from(self.shape.spill);
        let target = if n <= leaf_size { 1 } else { (n * copies).div_ceil(leaf_size / 2) };
        let reports = &workers.reports;
        let report = |done, total| reports.make(BuildPhase::Clustering, done, total);
        let router = train(
            self.context.transform.simd,
            self.context.spec.metric,
            &self.sample.rows,
            target,
            seed,
            &report,
        )?;
        let routes =
            workers.map(BuildPhase::Routing, n.div_ceil(READ_PER_TASK), |rtxn, task| {
                let points = self.points.of_range(rtxn, chunk(n, task))?;
                Ok(router.route(&points, self.shape.spill))
            })?;
        let mut entries: Vec<Vec<u32>> = vec![Vec::new(); router.leaves.len()];
        for (place, route) in (0u32..).zip(routes.into_iter().flatten()) {
            for leaf in route.into_iter().filter(|leaf| *leaf != NO_LEAF) {
                entries[leaf as usize].push(place);
            }
        }
        // Rows that all coincide have one centroid, so that second copies have no leaf yet.
        let is_circle = self.shape.spill && router.leaves.len() == 1 && n > leaf_size;
        let max = if n <= leaf_size {
            // All items fit one leaf: it is not cut.
            leaf_size
        } else if is_circle {
            split_above(leaf_size) / 2
        } else {
            split_above(leaf_size)
        };
        let parts = workers.map(BuildPhase::Splitting, entries.len(), |rtxn, leaf| {
            let entries = &entries[leaf];
            if entries.len() <= max {
                let centroid = router.leaves.row(leaf).to_vec();
                return Ok(vec![PlannedLeaf { centroid, entries: entries.clone() }]);
            }
            let points = self.points.of_places(rtxn, entries)?;
            let groups = split(self.context.transform.simd, &points, max, seed ^ leaf as u64);
            let cut = |group: Vec<u32>| PlannedLeaf {
                centroid: points.gather(&group).mean(),
                entries: group.into_iter().map(|i| entries[i as usize]).collect(),
            };
            Ok(groups.into_iter().map(cut).collect())
        })?;
        let mut leaves: Vec<PlannedLeaf> =
            parts.into_iter().flatten().filter(|leaf| !leaf.entries.is_empty()).collect();
        if is_circle {
            spill_in_circle(&mut leaves);
        }
        Ok(leaves)
    }

    fn encode_leaf(&self, rtxn: &RoTxn<'_>, leaf: &PlannedLeaf) -> Result<Vec<u8>> {
        let ids = leaf.entries.iter().map(|place| self.points.ids[*place as usize]).collect();
        let points = self.points.of_places(rtxn, &leaf.entries)?;
        Ok(LeafEdit::new(&self.context, rtxn, ids, leaf.centroid.clone(), &points)?.value())
    }

    /// Encodes all branches, the root first. The ids of each height follow those of the one above.
    /// Returns how many there are.
    ///
    /// `below` has the leaves, in order of id.
    fn branches(
        &self,
        tree: u8,
        hierarchy: &[Vec<Group>],
        orders: &[Vec<u32>],
        mut below: Vec<ChildNode>,
        nodes: &mut Vec<(Key, Vec<u8>)>,
    ) -> usize {
        let total: usize = hierarchy.iter().map(Vec::len).sum();
        let layout = self.context.branch;
        let (mut end, mut first_child, mut child_base) = (total, 0, 0);
        for (height, groups) in (1u8..).zip(hierarchy) {
            // `orders` runs from the root down, `hierarchy` from the leaves up.
            let order = &orders[hierarchy.len() - usize::from(height)];
            let start = end - groups.len();
            let mut parents = Vec::with_capacity(groups.len());
            for (id, i) in (start..end).zip(order) {
                let group = &groups[*i as usize];
                let children = &below[first_child..first_child + group.children.len()];
                let points: Vec<f32> =
                    children.iter().flat_map(|child| child.centroid.iter().copied()).collect();
                let sketches = Sketches::of_points(
                    self.context.transform,
                    layout,
                    group.centroid.clone(),
                    &points,
                );
                let named: Vec<Child> = (child_base + first_child..)
                    .zip(children)
                    .map(|(id, child)| self.child(id, child))
                    .collect();
                let value =
                    branch_value(height, &sketches.pack(), &named, self.context.spec.metric);
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "node ids are counted in 32 bits by the caller"
                )]
                nodes.push((Key::branch(self.context.spec.index, tree, id as u32), value));
                parents.push(ChildNode {
                    centroid: group.centroid.clone(),
                    weight: named.iter().map(|child| child.weight).sum(),
                });
                first_child += group.children.len();
            }
            (below, end, first_child, child_base) = (parents, start, 0, start);
        }
        total
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "node ids are counted in 32 bits by the caller"
    )]
    fn child(&self, id: usize, child: &ChildNode) -> Child {
        let norm = self.context.transform.norm(&child.centroid);
        Child { id: id as u32, weight: child.weight, norm }
    }
}

/// Gives the items of each leaf a second copy in the next leaf. The last leaf is followed by the
/// first.
fn spill_in_circle(leaves: &mut [PlannedLeaf]) {
    let own: Vec<Vec<u32>> = leaves.iter().map(|leaf| leaf.entries.clone()).collect();
    for (leaf, before) in leaves.iter_mut().zip(own.iter().cycle().skip(own.len() - 1)) {
        leaf.entries.extend(before);
        leaf.entries.sort_unstable();
        leaf.entries.dedup();
    }
}

/// The numbers of the nodes in the order of their ids, for each height from the root down. Children of one branch are next to each other.
fn orders(hierarchy: &[Vec<Group>]) -> Vec<Vec<u32>> {
    let mut orders = if hierarchy.is_empty() { Vec::new() } else { vec![vec![0]] };
    for groups in hierarchy.iter().rev() {
        let above: &[u32] = orders.last().map_or(&[], Vec::as_slice);
        orders.push(
            above.iter().flat_map(|i| groups[*i as usize].children.iter().copied()).collect(),
        );
    }
    orders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_of_one_branch_are_next_to_each_other() {
        let group = |children: &[u32]| Group { centroid: Vec::new(), children: children.to_vec() };
        let hierarchy =
            vec![vec![group(&[1, 3]), group(&[0]), group(&[2, 4])], vec![group(&[2, 0, 1])]];
        assert_eq!(orders(&hierarchy), [vec![0], vec![2, 0, 1], vec![2, 4, 1, 3, 0]]);
        assert!(orders(&[]).is_empty());
    }
}
