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
use crate::forest::route::Router;
use crate::forest::train::train;
use crate::format::item::ItemRef;
use crate::format::node::{Child, branch_value, leaf_value};
use crate::format::record::{Record, TreeRecord};
use crate::format::width;
use crate::index_spec::IndexSpec;
use crate::indexer::budget::Budget;
use crate::indexer::nodes::Nodes;
use crate::indexer::passes::{Passes, chunk, seconds};
use crate::indexer::plan::BuildPlan;
use crate::indexer::shape::{Shape, split_above};
use crate::indexer::spool::{Lists, Pair, Sorted, Taken};
use crate::kernel::layout::BLOCK;
use crate::key::{Key, tree_byte};
use crate::lmdb::database::Database;
use crate::lmdb::item::StoredItem;
use crate::lmdb::view::View;
use crate::lmdb::workers::{Batches, Workers};
use crate::math::kmeans::{sample, split};
use crate::math::matrix::Matrix;
use crate::options::BuildOptions;
use crate::progress::BuildPhase;
use crate::sketch::codes::Sketches;
use crate::sketch::loose::{fasten, loose_bytes, write_loose};
use crate::sketch::transform::{Transform, plain};

/// Memory for the rows that centroids are computed from: docs/trials.md, "choices that were not
/// swept".
const SAMPLE_BYTES: usize = 128 << 20;
/// Rows whose median is the origin: it has to be among the items, not at their very centre.
const ORIGIN_ROWS: usize = 1024;
/// What is too large is divided in pieces of so many bytes of points, at once in memory. Training
/// divides larger leaves, unless no centroids tell their rows apart.
const PIECE_BYTES: usize = 8 << 20;
/// Where points are long: how many times too large a piece is at least.
const LEAST_PIECE: usize = 8;
/// Rows of the sample that one task reads.
const SAMPLED_PER_TASK: usize = 4096;

/// Leaves of the plan. Their entries are places in the list of ids, ascending.
struct PlannedLeaves {
    centroids: Matrix,
    entries: Lists,
}

/// Nodes whose parents are to be encoded.
struct Children {
    centroids: Matrix,
    weights: Vec<u64>,
}

/// What all trees of a build share.
struct Bulk<'a> {
    context: ForestContext<'a>,
    shape: Shape,
    passes: Passes<'a>,
    sample: &'a Sample,
}

/// Computes the forest of all items that the workers see, in the generation of the record.
pub(crate) fn plan(
    db: Database,
    workers: &mut Workers<'_>,
    spec: IndexSpec,
    record: &Record,
    shape: Shape,
    options: &BuildOptions<'_>,
) -> Result<BuildPlan> {
    workers.poll(BuildPhase::Sampling, 0, 1)?;
    let mut ids: Vec<u32> = View::new(db, &workers.own, spec).ids()?.collect::<Result<_>>()?;
    ids.shrink_to_fit();
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
            nodes: Nodes::in_memory(Vec::new()),
            deletes: Vec::new(),
            truth: None,
        });
    }
    let mut sampled = read_sample(db, workers, spec, &ids)?;
    let in_memory = size_of_val(&ids[..]) + size_of_val(&sampled.rows.values[..]);
    let budget = Budget::new(options, in_memory);
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
    let mut nodes = Nodes::new(&budget.folder, 2 * budget.part());
    let bulk = Bulk { context, shape, passes: Passes { points, budget }, sample: &sampled };
    let generation = new.generation;
    for (tree, record) in (0..shape.trees).zip(&mut new.tree) {
        let seed = shape.seed.wrapping_add(u64::from(tree) + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let tree = tree_byte(generation, tree);
        *record = bulk.tree(workers, tree, seed, &mut nodes)?;
    }
    let applies_to = calibrate::applies_to(record.items);
    let truth = if applies_to { Some(truth::truth(workers, points)?) } else { None };
    let origin = Some(forest.transform.into_origin());
    Ok(BuildPlan { record: new, origin, is_anew: true, nodes, deletes: Vec::new(), truth })
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
    let tasks = places.len().div_ceil(SAMPLED_PER_TASK);
    let read = |rtxn: &RoTxn<'_>, range: &Range<usize>| {
        let places = &places[range.clone()];
        let chosen: Vec<u32> = places.iter().map(|place| ids[*place as usize]).collect();
        let mut rows = vec![0.0; chosen.len() * width];
        let mut slots = rows.chunks_exact_mut(width);
        let put = |item: &ItemRef<'_>| {
            slots.next().into_iter().for_each(|row| plain(spec.metric, item, row))
        };
        db.visit_items(rtxn, spec, &chosen, put)?;
        Ok(rows)
    };
    let mut rows = Matrix { values: Vec::with_capacity(places.len() * width), width };
    let keep = |part: Vec<f32>| {
        rows.push(&part);
        Ok(())
    };
    let range = |task| Ok(chunk(places.len(), SAMPLED_PER_TASK, task));
    let at_once = rayon::current_num_threads();
    let batches = Batches { phase: BuildPhase::Sampling, tasks, at_once };
    workers.stream(batches, range, read, keep)?;
    Ok(Sample { places, rows })
}

impl Bulk<'_> {
    /// Adds the nodes of one tree.
    fn tree(
        &self,
        workers: &mut Workers<'_>,
        tree: u8,
        seed: u64,
        nodes: &mut Nodes,
    ) -> Result<TreeRecord> {
        let leaves = self.leaves(workers, seed)?;
        let hierarchy = hierarchy(self.context.transform.simd, &leaves.centroids, seed);
        let orders = orders(&hierarchy);
        let order = orders.last().cloned().unwrap_or_else(|| vec![0]);
        let below = self.encode(workers, tree, &order, leaves, nodes)?;
        let (next_leaf, height) = (order.len(), hierarchy.len());
        let (next_branch, branches) = self.branches(tree, &hierarchy, &orders, below);
        nodes.add_branches(branches);
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
    fn leaves(&self, workers: &mut Workers<'_>, seed: u64) -> Result<PlannedLeaves> {
        let (n, leaf_size) = (self.passes.points.ids.len(), self.shape.leaf_size);
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
        let entries = self.passes.route(workers, &router, self.shape.spill)?;
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
        let mut leaves = self.cut(workers, &router, entries, max, seed)?;
        if is_circle {
            leaves.entries = spilled_in_circle(&mut leaves.entries, self.passes.lists())?;
        }
        Ok(leaves)
    }

    /// Cuts what is over `max` entries.
    fn cut(
        &self,
        workers: &mut Workers<'_>,
        router: &Router,
        mut entries: Sorted,
        max: usize,
        seed: u64,
    ) -> Result<PlannedLeaves> {
        let (mut pieces, mut of_leaf) = (self.passes.lists(), Vec::new());
        // The same at any budget: it shows in the index.
        let most = (PIECE_BYTES / (4 * router.leaves.width)).max(LEAST_PIECE * max);
        for leaf in 0..router.leaves.len() {
            while let piece = seconds(&entries.below(leaf + 1, most)?.0)
                && !piece.is_empty()
            {
                pieces.push(&piece)?;
                of_leaf.push(leaf);
            }
        }
        drop(entries);
        let width = router.leaves.width;
        let mut leaves =
            PlannedLeaves { centroids: Matrix::new(width), entries: self.passes.lists() };
        let next = |i: usize| Ok((of_leaf[i], pieces.get(i)?));
        let cut = |rtxn: &RoTxn<'_>, (leaf, piece): &(usize, Vec<u32>)| {
            if piece.len() <= max {
                return Ok(vec![(router.leaves.row(*leaf).to_vec(), piece.clone())]);
            }
            let points = self.passes.points.of_places(rtxn, piece)?;
            let groups = split(self.context.transform.simd, &points, max, seed ^ *leaf as u64);
            let own = |group: Vec<u32>| {
                let places = group.iter().map(|i| piece[*i as usize]).collect();
                (points.gather(&group).mean(), places)
            };
            Ok(groups.into_iter().map(own).collect())
        };
        let keep = |parts: Vec<(Vec<f32>, Vec<u32>)>| {
            parts.into_iter().try_for_each(|(centroid, entries)| {
                leaves.centroids.push(&centroid);
                leaves.entries.push(&entries)
            })
        };
        let at_once = self.passes.budget.at_once(4 * (width + 3 * max));
        let batches = Batches { phase: BuildPhase::Splitting, tasks: of_leaf.len(), at_once };
        workers.stream(batches, next, cut, keep)?;
        Ok(leaves)
    }

    /// Adds the leaves in this order, and returns them as children.
    fn encode(
        &self,
        workers: &mut Workers<'_>,
        tree: u8,
        order: &[u32],
        leaves: PlannedLeaves,
        nodes: &mut Nodes,
    ) -> Result<Children> {
        let PlannedLeaves { centroids, mut entries } = leaves;
        let points = self.passes.points;
        let centroids = centroids.gather(order);
        let (mut weights, mut by_item) = (Vec::with_capacity(order.len()), self.passes.records(0));
        for (leaf, number) in (0u32..).zip(order) {
            let places = entries.get(*number as usize)?;
            weights.push(places.len() as u64);
            places.iter().try_for_each(|place| by_item.push([*place, leaf], &[]))?;
        }
        drop(entries);
        let (transform, layout) = (self.context.transform, self.context.leaf);
        let write = |rtxn: &RoTxn<'_>, [place, leaf]: Pair, point: &[f32], out: &mut Vec<u8>| {
            let stored = self.context.bits_of(rtxn, points.ids[place as usize])?;
            let item = stored.as_ref().map(StoredItem::view).transpose()?;
            let centroid = centroids.row(leaf as usize);
            write_loose(transform, layout, centroid, point, item.as_ref(), out);
            Ok(())
        };
        let (phase, by_item, bytes) = (BuildPhase::Encoding, by_item.sort()?, loose_bytes(layout));
        let mut loose = self.passes.carry(workers, phase, by_item, bytes, write)?;

        let pack = |_: &RoTxn<'_>, (leaf, (keys, loose)): &(usize, Taken)| {
            let places = seconds(keys).into_iter();
            let ids: Vec<u32> = places.map(|place| points.ids[place as usize]).collect();
            let centroid = centroids.row(*leaf).to_vec();
            let sketches = fasten(transform, layout, centroid, loose);
            Ok(leaf_value(&sketches.pack(), &ids))
        };
        let bytes = 8 * layout.width
            + self.shape.leaf_size * (8 + loose_bytes(layout))
            + self.shape.leaf_size.div_ceil(BLOCK) * layout.block_bytes();
        let at_once = self.passes.budget.at_once(bytes);
        let leaves: Vec<usize> = (0..order.len()).collect();
        let mut ids = 0u32..;
        for some in leaves.chunks(at_once) {
            let inputs = some.iter().map(|leaf| Ok((*leaf, loose.below(leaf + 1, usize::MAX)?)));
            let inputs = inputs.collect::<Result<Vec<(usize, Taken)>>>()?;
            let values = workers.share(inputs.len(), |rtxn, i| pack(rtxn, &inputs[i]))?;
            for (value, id) in values.into_iter().zip(&mut ids) {
                nodes.push_leaf(Key::leaf(self.context.spec.index, tree, id), &value)?;
            }
        }
        Ok(Children { centroids, weights })
    }

    /// Encodes all branches, the root first. The ids of each height follow those of the one above.
    /// Returns how many there are, and them.
    ///
    /// `below` has the leaves, in order of id.
    fn branches(
        &self,
        tree: u8,
        hierarchy: &[Vec<Group>],
        orders: &[Vec<u32>],
        mut below: Children,
    ) -> (usize, Vec<(Key, Vec<u8>)>) {
        let mut nodes = Vec::new();
        let total: usize = hierarchy.iter().map(Vec::len).sum();
        let layout = self.context.branch;
        let (mut end, mut first_child, mut child_base) = (total, 0, 0);
        for (height, groups) in (1u8..).zip(hierarchy) {
            // `orders` runs from the root down, `hierarchy` from the leaves up.
            let order = &orders[hierarchy.len() - usize::from(height)];
            let start = end - groups.len();
            let mut parents =
                Children { centroids: Matrix::new(layout.width), weights: Vec::new() };
            for (id, i) in (start..end).zip(order) {
                let group = &groups[*i as usize];
                let children = first_child..first_child + group.children.len();
                let width = layout.width;
                let points = &below.centroids.values[children.start * width..children.end * width];
                let sketches = Sketches::of_points(
                    self.context.transform,
                    layout,
                    group.centroid.clone(),
                    points,
                );
                let named: Vec<Child> =
                    children.clone().map(|i| self.child(child_base + i, &below, i)).collect();
                let value =
                    branch_value(height, &sketches.pack(), &named, self.context.spec.metric);
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "node ids are counted in 32 bits by the caller"
                )]
                nodes.push((Key::branch(self.context.spec.index, tree, id as u32), value));
                parents.centroids.push(&group.centroid);
                parents.weights.push(named.iter().map(|child| child.weight).sum());
                first_child = children.end;
            }
            (below, end, first_child, child_base) = (parents, start, 0, start);
        }
        (total, nodes)
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "node ids are counted in 32 bits by the caller"
    )]
    fn child(&self, id: usize, nodes: &Children, i: usize) -> Child {
        let norm = self.context.transform.norm(nodes.centroids.row(i));
        Child { id: id as u32, weight: nodes.weights[i], norm }
    }
}

/// Gives the items of each leaf a second copy in the next leaf. The last leaf is followed by the
/// first.
fn spilled_in_circle(own: &mut Lists, mut spilled: Lists) -> Result<Lists> {
    for leaf in 0..own.len() {
        let mut entries = own.get(leaf)?;
        entries.extend(own.get((leaf + own.len() - 1) % own.len())?);
        entries.sort_unstable();
        entries.dedup();
        spilled.push(&entries)?;
    }
    Ok(spilled)
}

/// The numbers of the nodes in the order of their ids, for each height from the root down. Children
/// of one branch are next to each other.
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
