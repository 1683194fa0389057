//! Building the forest: the plan first, the writing last.
//!
//! All computing reads through transactions nested in the write transaction. So it sees what is not
//! committed yet, and changes nothing. Only a finished [`BuildPlan`] is written. So a build that
//! fails, is cancelled or panics leaves the transaction as it was, pending marks included. An error
//! of LMDB while writing makes LMDB refuse the commit.

mod branches;
mod bulk;
mod find;
mod incremental;
mod leaf_edit;
mod reassign;
mod tree_edit;

use heed::RwTxn;

use crate::calibrate;
use crate::calibrate::truth::Truth;
use crate::error::Result;
use crate::format::origin::origin_value;
use crate::format::record::Record;
use crate::format::width;
use crate::index_spec::IndexSpec;
use crate::indexer::incremental::UpdateStats;
use crate::key::{Key, Kind};
use crate::lmdb::database::Database;
use crate::metric::Metric;
use crate::options::{BuildMethod, BuildOptions, BuildStats};
use crate::sketch::{default_branch_bits, default_leaf_bits};

/// Entries a leaf holds at most, unless the user says otherwise: with so many items or fewer, and
/// for each doubling beyond. Larger leaves take more sketches for a recall, and fewer branches.
/// Measured: docs/trials.md, "leaf size".
const LEAF_SIZE: usize = 256;
const FEW_ITEMS: u64 = 100_000;
const MORE_PER_DOUBLING: usize = 48;

fn default_leaf_size(items: u64) -> usize {
    LEAF_SIZE + MORE_PER_DOUBLING * (items / FEW_ITEMS).max(1).ilog2() as usize
}

/// Entries above which a leaf is split by builds that reach it. The rest of its size is room for
/// items that are reassigned to it while its neighbours are split.
pub(crate) fn split_above(leaf_size: usize) -> usize {
    leaf_size * 3 / 4
}

/// The shape of a forest.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) trees: u8,
    pub(crate) spill: bool,
    pub(crate) leaf_size: usize,
    /// Whether the user chose it, now or before.
    pub(crate) is_leaf_size_asked: bool,
    pub(crate) sketch_bits: u8,
    pub(crate) branch_bits: u8,
    pub(crate) seed: u64,
}

impl Shape {
    /// What is asked for, else what the index was built with, else the defaults.
    #[expect(clippy::cast_possible_truncation, reason = "options are checked: at most 16 trees")]
    fn new(options: &BuildOptions<'_>, record: &Record, metric: Metric) -> Self {
        let width = width(record.dims());
        let built = (record.shape_trees > 0).then_some(record);
        let asked_before =
            built.filter(|r| r.is_leaf_size_asked == 1).map(|r| r.leaf_size as usize);
        let leaf_size = options.leaf_size.or(asked_before);
        // The size may grow step by step as items come, as leaves that are small for it are merged.
        // It does not shrink as items go: no leaf may be larger.
        let default = || {
            let default = default_leaf_size(record.items);
            built.map_or(default, |r| {
                default.clamp(r.leaf_size as usize, r.leaf_size as usize + MORE_PER_DOUBLING)
            })
        };
        let sketch_bits = built.map_or(default_leaf_bits(metric, width), |r| r.sketch_bits);
        // The sketches of bits are the bits: there is nothing to choose.
        let asked_bits = options.sketch_bits.filter(|_| !metric.is_of_bits());
        Self {
            trees: options.trees.map_or(built.map_or(1, |r| r.shape_trees), |trees| trees as u8),
            spill: options.spill.unwrap_or(built.is_none_or(|r| r.spill == 1)),
            leaf_size: leaf_size.unwrap_or_else(default),
            is_leaf_size_asked: leaf_size.is_some(),
            sketch_bits: asked_bits.unwrap_or(sketch_bits),
            branch_bits: built.map_or(default_branch_bits(metric, width), |r| r.branch_bits),
            seed: options.seed.unwrap_or(built.map_or(0, |r| r.seed)),
        }
    }

    /// Whether an index without a forest would be built in this shape anyway.
    fn would_match(&self, record: &Record) -> bool {
        let mut of_this_shape = *record;
        of_this_shape.trees = record.shape_trees;
        record.shape_trees > 0 && self.matches(&of_this_shape)
    }

    /// The shape for a bulk build of so many items, which need not keep to the leaves there are.
    fn for_bulk(self, items: u64) -> Self {
        let leaf_size =
            if self.is_leaf_size_asked { self.leaf_size } else { default_leaf_size(items) };
        Self { leaf_size, ..self }
    }

    fn write_leaf_size(&self, record: &mut Record) {
        record.leaf_size = u32::try_from(self.leaf_size).unwrap_or(u32::MAX);
        record.is_leaf_size_asked = u8::from(self.is_leaf_size_asked);
    }

    /// Whether the forest of this record already has this shape.
    fn matches(&self, record: &Record) -> bool {
        record.trees == self.trees
            && record.spill == u8::from(self.spill)
            && (record.leaf_size as usize == self.leaf_size || !self.is_leaf_size_asked)
            && record.sketch_bits == self.sketch_bits
            && record.branch_bits == self.branch_bits
            && record.seed == self.seed
    }
}

/// Everything a build will write.
pub(crate) struct BuildPlan {
    pub(crate) record: Record,
    /// A new origin, or `None` to keep the one there is.
    pub(crate) origin: Option<Vec<f32>>,
    /// Whether the old forest and all pending marks go first.
    pub(crate) is_anew: bool,
    /// In the order of their keys.
    pub(crate) puts: Vec<(Key, Vec<u8>)>,
    pub(crate) deletes: Vec<Key>,
    /// What the forest is calibrated with once it is written.
    pub(crate) truth: Option<Truth>,
}

/// An incremental build takes about as long for one change as a bulk build for this many items.
const ITEMS_PER_CHANGE: u64 = 8;
/// An index that was calibrated with fewer items than this, or than fill so many leaves, is built
/// in bulk and calibrated again once it has more. What few items need says little about what many
/// do.
const SMALL_ITEMS: u64 = 2048;
const SMALL_LEAVES: u64 = 8;

/// Builds of fewer changes do nearly all their work in the calling thread.
const FEW_CHANGES: u64 = 8;

/// Brings the forest up to date with the items.
pub(crate) fn build(
    db: Database,
    wtxn: &mut RwTxn<'_>,
    spec: IndexSpec,
    options: &BuildOptions<'_>,
) -> Result<BuildStats> {
    options.check()?;
    let record = db.record(wtxn, spec.index)?;
    let shape = Shape::new(options, &record, spec.metric);
    let mut stats = BuildStats {
        method: BuildMethod::Nothing,
        items: record.items,
        trees: usize::from(record.trees),
        items_added: 0,
        items_removed: 0,
        leaves: 0,
        branches: 0,
        leaves_split: 0,
        leaves_merged: 0,
        items_reassigned: 0,
        bytes_written: 0,
    };
    let is_same = shape.matches(&record) && !options.is_anew;
    let is_known = record.items == 0 && record.trees == 0 && shape.would_match(&record);
    if record.pending_len() == 0 && (is_known || is_same) {
        if record.shape_trees > 0 && shape.is_leaf_size_asked && record.is_leaf_size_asked == 0 {
            // The leaves already have the size that the user now chose.
            let mut record = record;
            shape.write_leaf_size(&mut record);
            db.put(wtxn, Key::record(spec.index), &record.to_bytes())?;
        }
        return Ok(stats);
    }
    let is_bulk = !is_same
        || record.pending.saturating_mul(ITEMS_PER_CHANGE) >= record.items
        || is_to_be_measured(&record);
    // A thread of the pool borrows the write transaction, and gives it back before the writing.
    let (lent, progress) = (&mut *wtxn, options.progress);
    let compute = move || -> Result<(BuildPlan, Option<UpdateStats>)> {
        if !is_bulk
            && let Some((plan, update)) =
                incremental::plan(db, lent, spec, &record, shape, progress)?
        {
            return Ok((plan, Some(update)));
        }
        bulk::plan(db, lent, spec, &record, shape, progress).map(|plan| (plan, None))
    };
    let (plan, update) = match options.thread_pool {
        Some(pool) => pool.install(compute)?,
        None if record.pending < FEW_CHANGES => compute()?,
        // Entered once: each step into the pool from outside costs as much as a small task.
        None => rayon::scope(move |_| compute())?,
    };
    stats.method = match update {
        Some(_) => BuildMethod::Incremental,
        // Nothing but the shape is recorded.
        None if record.items == 0 && record.indexed == 0 => BuildMethod::Nothing,
        None => BuildMethod::Bulk,
    };
    let update = update.unwrap_or(UpdateStats {
        added: record.items,
        removed: record.indexed,
        ..UpdateStats::default()
    });
    (stats.items_added, stats.items_removed) = (update.added, update.removed);
    (stats.leaves_split, stats.leaves_merged) = (update.leaves.split, update.leaves.merged);
    stats.items_reassigned = update.leaves.reassigned;
    stats.trees = usize::from(plan.record.trees);
    for (key, value) in &plan.puts {
        stats.leaves += u64::from(key.kind() == Some(Kind::Leaf));
        stats.branches += u64::from(key.kind() == Some(Kind::Branch));
        stats.bytes_written += value.len() as u64;
    }
    write(db, wtxn, spec.index, &plan)?;
    if let Some(truth) = &plan.truth {
        calibrate(db, wtxn, spec, plan.record, truth, options.thread_pool)?;
    }
    Ok(stats)
}

/// Whether a bulk build is due because there is no calibration, or one of a much smaller forest.
fn is_to_be_measured(record: &Record) -> bool {
    let (measured, small) =
        (record.calibration.items, SMALL_ITEMS.max(SMALL_LEAVES * u64::from(record.leaf_size)));
    calibrate::applies_to(record.items)
        && (measured == 0 || measured < small && small <= record.items)
}

/// Calibrates the forest that has just been written. What a build promises is done by then. So a
/// search that fails here is no error: the index is left without a calibration.
fn calibrate(
    db: Database,
    wtxn: &mut RwTxn<'_>,
    spec: IndexSpec,
    mut record: Record,
    truth: &Truth,
    pool: Option<&rayon::ThreadPool>,
) -> Result<()> {
    let lent = &mut *wtxn;
    let measure = move || calibrate::measure(db, lent, spec, &record, truth);
    let measured = match pool {
        Some(pool) => pool.install(measure),
        None => rayon::scope(move |_| measure()),
    };
    if let Ok(calibration) = measured {
        record.calibration = calibration;
        db.put(wtxn, Key::record(spec.index), &record.to_bytes())?;
    }
    Ok(())
}

/// Writes a plan. Only LMDB can fail here, and it refuses to commit a transaction in which it did.
fn write(db: Database, wtxn: &mut RwTxn<'_>, index: u16, plan: &BuildPlan) -> Result<()> {
    if plan.is_anew {
        for kind in [Kind::Pending, Kind::Branch, Kind::Leaf, Kind::Free] {
            db.delete_kind(wtxn, index, kind)?;
        }
    }
    if let Some(origin) = &plan.origin {
        db.put(wtxn, Key::origin(index), &origin_value(origin))?;
    }
    for key in &plan.deletes {
        db.delete(wtxn, *key)?;
    }
    for (key, value) in &plan.puts {
        db.put(wtxn, *key, value)?;
    }
    db.put(wtxn, Key::record(index), &plan.record.to_bytes())
}
