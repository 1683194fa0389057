//! A build whose cost is that of what changed.
//!
//! In each tree, every pending change finds its leaves by routing. Each leaf it touches is taken
//! out of its value once, changed, and written once. One that is split, or whose centroid moves,
//! gets new sketches of all its entries. Underfull leaves are merged into their neighbours.
//! Overfull ones are split and exchange items with the leaves around them (LIRE). A few centroids
//! that may have drifted are refreshed. Branches follow as in a B-tree.
//!
//! Nothing here reads all items, all nodes or all bitmaps, but for one case: an item that is not
//! found near its old vector makes the build read the bitmaps of its tree once.

use std::collections::{BTreeMap, BTreeSet};

use heed::{RoTxn, RwTxn};

use crate::calibrate::applies_to;
use crate::calibrate::drift::{Probes, corrected};
use crate::calibrate::truth::truth;
use crate::error::Result;
use crate::forest::context::ForestContext;
use crate::forest::open::Forest;
use crate::forest::points::Points;
use crate::format::CHANGES_PER_REFRESH;
use crate::format::record::{Record, TreeRecord};
use crate::index_spec::IndexSpec;
use crate::indexer::branches::{BranchUpdate, Branches};
use crate::indexer::find::{Finder, ItemChange, Located, changes, locate, paths_of, scan_for};
use crate::indexer::leaf_edit::LeafEdit;
use crate::indexer::nodes::Nodes;
use crate::indexer::plan::BuildPlan;
use crate::indexer::reassign::distances_to_centroid;
use crate::indexer::shape::{Shape, split_above};
use crate::indexer::tree_edit::{LeafStats, TreeEdit};
use crate::kernel::layout::Code;
use crate::key::{Key, Kind, tree_number};
use crate::lmdb::database::Database;
use crate::lmdb::view::View;
use crate::lmdb::workers::Workers;
use crate::progress::{BuildPhase, ProgressCallback};

/// Changes that one task locates, and leaves that it encodes. Less is not worth waking a thread.
const CHANGES_PER_TASK: usize = 16;
/// Items that are asked for their neighbours at most, to see whether the calibration still holds:
/// one for each refreshed leaf.
const MAX_PROBES: usize = 64;
/// Leaves with less than this part of the leaf size are merged when they have shrunk. Measured:
/// docs/trials.md, "underfull leaves".
const UNDERFULL: usize = 4;
/// Leaves with less than this part of the leaf size are merged when it is their turn to be
/// refreshed.
const SPARSE: usize = 3;
/// The forest is calibrated again when one in so many items has changed.
const CHANGED_PART: u64 = 3;
/// A tree of fewer leaves is built in bulk: it is small, and two copies of an item need two leaves.
const MIN_LEAVES: usize = 4;

/// What a build changed, for [`BuildStats`](crate::BuildStats).
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct UpdateStats {
    pub(crate) added: u64,
    pub(crate) removed: u64,
    pub(crate) leaves: LeafStats,
}

/// What a tree is to become.
#[derive(Default)]
struct TreePlan {
    record: TreeRecord,
    puts: Vec<(Key, Vec<u8>)>,
    deletes: Vec<Key>,
    stats: LeafStats,
}

/// Computes the forest after all pending changes; `None` if it has become so small that a bulk
/// build is due.
pub(crate) fn plan(
    db: Database,
    wtxn: &RwTxn<'_>,
    spec: IndexSpec,
    record: &Record,
    shape: Shape,
    progress: Option<ProgressCallback<'_>>,
) -> Result<Option<(BuildPlan, UpdateStats)>> {
    let mut workers = Workers::new(wtxn, progress)?;
    let own = wtxn.nested_read_txn()?;
    workers.poll(BuildPhase::Locating, 0, 1)?;
    let forest = Forest::read(View::new(db, &own, spec), record)?;
    let context = ForestContext::new(db, spec, &forest, shape.leaf_size);
    let changes = changes(&context, &own)?;
    let mut stats = UpdateStats {
        added: changes.iter().filter(|change| change.is_live).count() as u64,
        removed: changes.iter().filter(|change| change.old.is_some()).count() as u64,
        leaves: LeafStats::default(),
    };
    let mut new = *record;
    (new.indexed, new.pending) = (record.items, 0);
    shape.write_leaf_size(&mut new);
    // Changes of earlier builds that were too few for a refresh count, too.
    let unrefreshed = u64::from(record.unrefreshed) + changes.len() as u64;
    let refreshes = unrefreshed / u64::from(CHANGES_PER_REFRESH);
    new.unrefreshed = u32::try_from(unrefreshed % u64::from(CHANGES_PER_REFRESH)).unwrap_or(0);
    let mut plan = BuildPlan {
        record: new,
        origin: None,
        is_anew: false,
        nodes: Nodes::in_memory(Vec::new()),
        deletes: Vec::new(),
        truth: None,
    };
    let mut puts = Vec::new();
    for ((tree, stored), new) in record.trees().zip(&mut plan.record.tree) {
        let copies = 1 + usize::from(shape.spill);
        let edit = TreeEdit::new(context, &own, tree, *stored, copies)?;
        let seed = shape.seed ^ record.items ^ u64::from(tree_number(tree)) << 56;
        let Some(done) = tree_plan(&mut workers, edit, &changes, refreshes, seed)? else {
            return Ok(None);
        };
        *new = done.record;
        puts.extend(done.puts);
        plan.deletes.extend(done.deletes);
        stats.leaves.add(done.stats);
    }
    if is_calibration_due(&mut plan.record, changes.len()) {
        let ids = context.view(&own).ids()?.collect::<Result<Vec<u32>>>()?;
        plan.truth = Some(truth(&mut workers, Points::new(context, &ids, None))?);
    }
    let probes = Probes {
        count: usize::try_from(refreshes).unwrap_or(usize::MAX).min(MAX_PROBES),
        seed: record.items ^ shape.seed,
    };
    let changed = changes.iter().map(|change| change.id);
    plan.record.calibration.correction =
        corrected(&mut workers, &context, &forest, record, changed, probes)?;
    plan.deletes.extend(changes.iter().map(|change| Key::pending(spec.index, change.id)));
    plan.nodes = Nodes::in_memory(puts);
    Ok(Some((plan, stats)))
}

/// Counts changes; whether there were so many since the calibration that it is due again.
///
/// So the work for each change does not grow with the index: now and then one build does that of
/// many.
fn is_calibration_due(record: &mut Record, changes: usize) -> bool {
    let measured = &mut record.calibration;
    measured.changes = measured.changes.saturating_add(u32::try_from(changes).unwrap_or(u32::MAX));
    let is_due = u64::from(measured.changes).saturating_mul(CHANGED_PART) >= record.items;
    // A calibration on the user's queries is not replaced by one on items.
    is_due && !measured.is_of_user() && applies_to(record.items)
}

/// Computes a tree after the changes; `None` if it is or becomes too small.
fn tree_plan(
    workers: &mut Workers<'_>,
    mut edit: TreeEdit<'_>,
    changes: &[ItemChange<'_>],
    refreshes: u64,
    seed: u64,
) -> Result<Option<TreePlan>> {
    if edit.stored.height == 0 {
        return Ok(None);
    }
    let edits = find_leaves(workers, &mut edit, changes)?;
    let shrunk = edits
        .iter()
        .filter(|(_, change)| !change.removals.is_empty())
        .map(|(leaf, _)| *leaf)
        .collect();
    change_leaves(workers, &mut edit, edits)?;
    if !rebalance(workers, &mut edit, shrunk, refreshes, seed)? {
        return Ok(None);
    }
    Ok(Some(finish(workers, edit)?))
}

/// Items to remove from and to add to a leaf, ascending.
#[derive(Debug, Default)]
struct LeafChange {
    removals: Vec<u32>,
    insertions: Vec<u32>,
}

/// Which leaves change, and how.
fn find_leaves(
    workers: &mut Workers<'_>,
    edit: &mut TreeEdit<'_>,
    changes: &[ItemChange<'_>],
) -> Result<BTreeMap<u32, LeafChange>> {
    let (context, tree, copies) = (edit.context, edit.stored_tree(), edit.copies);
    let tasks = changes.len().div_ceil(CHANGES_PER_TASK);
    let located = workers.map(BuildPhase::Locating, tasks, |rtxn, task| {
        let part =
            &changes[task * CHANGES_PER_TASK..changes.len().min((task + 1) * CHANGES_PER_TASK)];
        let mut finder = Finder::new(context, rtxn, tree);
        part.iter()
            .map(|change| locate(&mut finder, change, copies))
            .collect::<Result<Vec<Located>>>()
    })?;
    let located: Vec<Located> = located.into_iter().flatten().collect();
    let lost: BTreeSet<u32> = changes
        .iter()
        .zip(&located)
        .filter(|(_, located)| located.is_lost)
        .map(|(change, _)| change.id)
        .collect();
    let mut found = BTreeMap::new();
    if !lost.is_empty() {
        found = scan_for(&context, edit.rtxn, edit.tree, &lost)?;
        let leaves = found.values().flatten().copied().collect();
        edit.paths = paths_of(&context, edit.rtxn, tree, &leaves)?;
    }
    let mut edits = BTreeMap::<u32, LeafChange>::new();
    for (change, located) in changes.iter().zip(located) {
        edit.paths.extend(located.paths);
        let removals = found.remove(&change.id).unwrap_or(located.removals);
        for leaf in removals {
            edits.entry(leaf).or_default().removals.push(change.id);
        }
        for leaf in located.insertions {
            edits.entry(leaf).or_default().insertions.push(change.id);
        }
    }
    Ok(edits)
}

/// Takes the leaves out of their values and changes them.
fn change_leaves(
    workers: &mut Workers<'_>,
    edit: &mut TreeEdit<'_>,
    edits: BTreeMap<u32, LeafChange>,
) -> Result<()> {
    let edits: Vec<(u32, LeafChange)> = edits.into_iter().collect();
    let (context, tree) = (edit.context, edit.tree);
    let changed = workers.map(BuildPhase::Changing, edits.len(), |rtxn, task| {
        let (leaf, change) = &edits[task];
        let mut edit = LeafEdit::take(&context, rtxn, Key::leaf(context.spec.index, tree, *leaf))?;
        change.removals.iter().for_each(|id| {
            edit.remove(*id);
        });
        let mut farthest = 0.0f32;
        for id in &change.insertions {
            let point = context.point(rtxn, *id)?;
            farthest = farthest.max(context.distance(&point, edit.centroid()));
            edit.insert(&context, rtxn, *id, &point)?;
        }
        let group = group_apart(&context, rtxn, &edit, &change.insertions, farthest)?;
        Ok((edit, group))
    })?;
    for ((leaf, _), (changed, group)) in edits.into_iter().zip(changed) {
        group.into_iter().for_each(|group| _ = edit.stretched.insert(leaf, group));
        edit.leaves.insert(leaf, changed);
    }
    Ok(())
}

/// Entries that make a group of their own. They lie so many times farther from the centroid than
/// from each other: docs/trials.md, "choices that were not swept".
const GROUP_ENTRIES: usize = 8;
const GROUP_DISTANCE: f32 = 4.0;

/// The middle of a tight group far from the centroid of a leaf that took in items, if any.
///
/// Sketches around that centroid cannot distinguish its members. So they get a leaf of their own
/// before this one is full. They are looked for among the new items, the farthest of which is this
/// far from the centroid. If that is far, they are looked for among all entries that are far, too.
fn group_apart(
    context: &ForestContext<'_>,
    rtxn: &RoTxn<'_>,
    edit: &LeafEdit,
    new: &[u32],
    farthest: f32,
) -> Result<Option<Vec<f32>>> {
    if new.is_empty() || context.leaf.code == Code::Bits || edit.len() < 2 * GROUP_ENTRIES {
        return Ok(None);
    }
    // Distances are squares, but under the Manhattan metric.
    let is_square = context.spec.metric.is_squared();
    let apart = if is_square { GROUP_DISTANCE * GROUP_DISTANCE } else { GROUP_DISTANCE };
    let mut groups = vec![new.to_vec()];
    let spread = edit.sketches.quantizer.spread;
    let far = apart * if is_square { spread } else { spread.sqrt() };
    if spread > 0.0 && farthest > far {
        let distances = distances_to_centroid(context, &edit.sketches.pack().view());
        let far = distances.iter().zip(&edit.ids).filter(|(distance, _)| **distance > far);
        groups.push(far.map(|(_, id)| *id).collect());
    }
    for group in groups.iter_mut().filter(|group| group.len() >= GROUP_ENTRIES) {
        group.truncate(2 * GROUP_ENTRIES);
        let points = context.points(rtxn, group)?;
        let middle = points.median();
        let mut within: Vec<f32> =
            (0..points.len()).map(|row| context.distance(points.row(row), &middle)).collect();
        let (_, within, _) = within.select_nth_unstable_by(group.len() / 2, f32::total_cmp);
        if apart * *within < context.distance(&middle, edit.centroid()) {
            return Ok(Some(middle));
        }
    }
    Ok(None)
}

/// Brings leaves back to their sizes and refreshes some; `false` if too few are left.
///
/// Only leaves that have shrunk are merged: a small one that takes in an item is growing.
fn rebalance(
    workers: &mut Workers<'_>,
    edit: &mut TreeEdit<'_>,
    shrunk: Vec<u32>,
    refreshes: u64,
    seed: u64,
) -> Result<bool> {
    let leaf_size = edit.context.leaf_size;
    for (done, leaf) in (1u64..).zip(&shrunk) {
        if edit.leaf_mut(*leaf)?.len() < leaf_size / UNDERFULL {
            if edit.leaf_count() <= MIN_LEAVES {
                return Ok(false);
            }
            edit.merge_leaf(workers, *leaf)?;
        }
        workers.poll(BuildPhase::Merging, done, shrunk.len() as u64)?;
    }
    split_over(workers, edit, split_above(leaf_size), seed)?;
    for done in 1..=refreshes {
        refresh_centroid(workers, edit, seed)?;
        workers.poll(BuildPhase::Refreshing, done, refreshes)?;
    }
    // Leaves that were merged just now may have filled others up.
    split_over(workers, edit, leaf_size, seed)?;
    edit.drop_empty();
    Ok(edit.leaf_count() >= MIN_LEAVES)
}

/// Splits the leaves that hold more than `max` entries. Leaves that take in items meanwhile have
/// room for them, so that one pass is enough.
fn split_over(
    workers: &mut Workers<'_>,
    edit: &mut TreeEdit<'_>,
    max: usize,
    seed: u64,
) -> Result<()> {
    let stretched = &edit.stretched;
    let is_over = |(id, leaf): &(&u32, &LeafEdit)| leaf.len() > max || stretched.contains_key(id);
    let over: Vec<u32> = edit.leaves.iter().filter(is_over).map(|(id, _)| *id).collect();
    for (done, leaf) in (1u64..).zip(&over) {
        edit.split_leaf(workers, *leaf, split_above(edit.context.leaf_size), seed)?;
        workers.poll(BuildPhase::Splitting, done, over.len() as u64)?;
    }
    Ok(())
}

/// Moves the centroid of the next leaf in turn to the mean of its items, and reassigns them.
fn refresh_centroid(workers: &mut Workers<'_>, edit: &mut TreeEdit<'_>, seed: u64) -> Result<()> {
    let context = edit.context;
    let mut entries = context
        .db
        .iter_from(edit.rtxn, Key::leaf(context.spec.index, edit.tree, edit.stored.refresh_next))?;
    let next = entries.find_map(|entry| match entry {
        Ok((key, _)) if key.kind() != Some(Kind::Leaf) || key.tree() != edit.tree => Some(Ok(None)),
        Ok((key, _))
            if edit.removed.contains(&key.id())
                || edit.leaves.get(&key.id()).is_some_and(|l| l.len() == 0) =>
        {
            None
        }
        Ok((key, _)) => Some(Ok(Some(key.id()))),
        Err(error) => Some(Err(error)),
    });
    let Some(leaf) = next.transpose()?.flatten() else {
        edit.stored.refresh_next = 0;
        return Ok(());
    };
    edit.stored.refresh_next = leaf.saturating_add(1);
    if !edit.paths.contains_key(&leaf) && !edit.find_path(leaf)? {
        return Ok(());
    }
    let (len, leaf_size) = (edit.leaf_mut(leaf)?.len(), context.leaf_size);
    if len < leaf_size / SPARSE && edit.leaf_count() > MIN_LEAVES {
        return edit.merge_leaf(workers, leaf);
    }
    // Leaves that would be full soon are split now. So they are as full on average as after a bulk
    // build.
    edit.split_leaf(workers, leaf, split_above(split_above(leaf_size)), seed)
}

/// Encodes what changed, and brings the branches up to date.
fn finish(workers: &mut Workers<'_>, mut edit: TreeEdit<'_>) -> Result<TreePlan> {
    let (index, tree) = (edit.context.spec.index, edit.tree);
    let BranchUpdate { root, height, branches, puts, deletes } =
        Branches::new(&mut edit).update()?;
    let mut done = TreePlan { puts, deletes, stats: edit.stats, ..TreePlan::default() };
    let changed: Vec<(&u32, &LeafEdit)> =
        edit.leaves.iter().filter(|(_, leaf)| leaf.is_changed).collect();
    let values = workers.share(changed.len().div_ceil(CHANGES_PER_TASK), |_, task| {
        let part =
            &changed[task * CHANGES_PER_TASK..changed.len().min((task + 1) * CHANGES_PER_TASK)];
        Ok(part.iter().map(|(_, leaf)| leaf.value()).collect::<Vec<_>>())
    })?;
    done.puts.extend(
        changed
            .iter()
            .map(|(id, _)| Key::leaf(index, tree, **id))
            .zip(values.into_iter().flatten()),
    );
    workers.poll(BuildPhase::Encoding, changed.len() as u64, changed.len() as u64)?;
    let removed: Vec<u32> = edit.removed.iter().copied().collect();
    done.deletes.extend(removed.iter().map(|leaf| Key::leaf(index, tree, *leaf)));
    removed.into_iter().for_each(|leaf| edit.leaf_ids.give_back(leaf));
    done.puts.extend(edit.free_lists());
    done.record = edit.stored;
    (done.record.root, done.record.height, done.record.branches) = (root, height, branches);
    done.record.leaves = u32::try_from(edit.leaf_count()).unwrap_or(u32::MAX);
    (done.record.next_leaf, done.record.next_branch) = (edit.leaf_ids.next, edit.branch_ids.next);
    Ok(done)
}
