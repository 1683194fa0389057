//! Building the forest: the plan first, the writing last.
//!
//! All computing reads through transactions nested in the write transaction. So it sees what is not
//! committed yet, and changes nothing. Only a finished [`BuildPlan`] is written. So a build that
//! fails, is cancelled or panics leaves the transaction as it was, pending marks included. An error
//! of LMDB while writing makes LMDB refuse the commit. An error of a temporary file while writing
//! leaves the index without a forest.

mod branches;
mod budget;
mod bulk;
pub(crate) mod commits;
mod find;
mod incremental;
mod leaf_edit;
mod nodes;
mod passes;
mod plan;
mod reassign;
mod shape;
mod spool;
mod tree_edit;

use heed::RwTxn;
use rayon::ThreadPool;

use crate::calibrate;
use crate::calibrate::truth::Truth;
use crate::error::Result;
use crate::format::record::Record;
use crate::index_spec::IndexSpec;
use crate::indexer::incremental::UpdateStats;
use crate::indexer::plan::{BuildPlan, write};
use crate::indexer::shape::Shape;
use crate::key::{Key, Kind};
use crate::lmdb::database::Database;
use crate::lmdb::workers::Workers;
use crate::options::{BuildMethod, BuildOptions, BuildStats};

/// An incremental build takes about as long for one change as a bulk build for this many items.
const ITEMS_PER_CHANGE: u64 = 8;
/// A small index has fewer items than this, or than fill so many leaves. Once it has more, it is
/// built in bulk and calibrated again. What few items need says little about what many do.
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
    let mut stats = nothing_done(&record);
    let is_same = shape.matches(&record) && !options.is_anew;
    if is_up_to_date(&record, shape, options) {
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
        || lacks_calibration(&record);
    // It takes the place of a build in several commits that may be under way.
    let before = record.settled();
    // A thread of the pool borrows the write transaction, and gives it back before the writing.
    let lent = &mut *wtxn;
    let compute = move || -> Result<(BuildPlan, Option<UpdateStats>)> {
        if !is_bulk
            && let Some((plan, update)) =
                incremental::plan(db, lent, spec, &before, shape, options.progress)?
        {
            return Ok((plan, Some(update)));
        }
        let mut workers = Workers::new(lent, options.progress)?;
        bulk::plan(db, &mut workers, spec, &before, shape, options).map(|plan| (plan, None))
    };
    let (plan, update) = match options.thread_pool {
        None if record.pending < FEW_CHANGES => compute()?,
        pool => on_pool(pool, compute)?,
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
    plan.nodes.keys().for_each(|(key, len)| count_node(&mut stats, key, len));
    let record = plan.record;
    if let Some(truth) = write(db, wtxn, spec.index, plan)? {
        calibrate(db, wtxn, spec, record, &truth, options.thread_pool)?;
    }
    Ok(stats)
}

/// The stats of a build that finds nothing to do.
fn nothing_done(record: &Record) -> BuildStats {
    BuildStats {
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
    }
}

/// Counts a node or list that is written.
fn count_node(stats: &mut BuildStats, key: Key, len: usize) {
    stats.leaves += u64::from(key.kind() == Some(Kind::Leaf));
    stats.branches += u64::from(key.kind() == Some(Kind::Branch));
    stats.bytes_written += len as u64;
}

/// Whether there is nothing to build.
fn is_up_to_date(record: &Record, shape: Shape, options: &BuildOptions<'_>) -> bool {
    let is_same = shape.matches(record) && !options.is_anew;
    let is_known = record.items == 0 && record.trees == 0 && shape.would_match(record);
    record.pending_len() == 0 && (is_known || is_same)
}

/// Runs work by the threads of this pool, or of the current one.
fn on_pool<R: Send>(pool: Option<&ThreadPool>, work: impl FnOnce() -> R + Send) -> R {
    match pool {
        Some(pool) => pool.install(work),
        // Entered once: each step into the pool from outside costs as much as a small task.
        None => rayon::scope(move |_| work()),
    }
}

/// Whether a bulk build is due because there is no calibration, or one of a much smaller forest.
fn lacks_calibration(record: &Record) -> bool {
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
    pool: Option<&ThreadPool>,
) -> Result<()> {
    let lent = &mut *wtxn;
    let measure =
        move || calibrate::measure(db, &mut Workers::new(lent, None)?, spec, &record, truth);
    if let Ok(calibration) = on_pool(pool, measure) {
        record.calibration = calibration;
        db.put(wtxn, Key::record(spec.index), &record.to_bytes())?;
    }
    Ok(())
}
