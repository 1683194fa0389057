//! What a build has computed, and writing it.

use heed::RwTxn;

use crate::calibrate::truth::Truth;
use crate::error::Result;
use crate::format::origin::origin_value;
use crate::format::record::Record;
use crate::key::{Key, Kind, trees_of};
use crate::lmdb::database::Database;

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

/// Writes a plan, and deletes what builds in several commits may have left behind. Only LMDB can fail here, and it refuses to commit a transaction in which it did.
pub(super) fn write(
    db: Database,
    wtxn: &mut RwTxn<'_>,
    index: u16,
    plan: &BuildPlan,
) -> Result<()> {
    if plan.is_anew {
        db.delete_kind(wtxn, index, Kind::Pending)?;
        for kind in Kind::FOREST {
            db.delete_kind(wtxn, index, kind)?;
        }
    } else {
        let remains = trees_of(plan.record.other_generation());
        for kind in Kind::FOREST {
            db.delete_range(wtxn, Key::trees(index, kind, &remains))?;
        }
    }
    if let Some(origin) = &plan.origin {
        db.put(wtxn, Key::origin(index, plan.record.generation), &origin_value(origin))?;
    }
    for key in &plan.deletes {
        db.delete(wtxn, *key)?;
    }
    for (key, value) in &plan.puts {
        db.put(wtxn, *key, value)?;
    }
    db.put(wtxn, Key::record(index), &plan.record.to_bytes())
}
