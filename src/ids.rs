//! The ids of an index, without its vectors.

use heed::RoTxn;
use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::format::node::LeafRef;
use crate::format::record::Record;
use crate::index_spec::IndexSpec;
use crate::key::{Key, Kind};
use crate::lmdb::database::Database;
use crate::lmdb::pending::Pending;

/// The first tree, in whose leaves all items of a forest are.
const FIRST_TREE: u8 = 0;

/// The ids of all items, from the leaves of one tree and the pending marks.
///
/// Without a forest, they are those of the keys, whose pages may hold vectors, too.
pub(crate) fn id_set(
    db: Database,
    rtxn: &RoTxn<'_>,
    spec: IndexSpec,
    record: &Record,
) -> Result<RoaringBitmap> {
    let ids = if record.trees == 0 {
        let entries = db.iter(rtxn, spec.index, Kind::Item)?;
        entries.map(|entry| entry.map(|(key, _)| key.id())).collect::<Result<_>>()?
    } else {
        let mut ids = leaf_ids(db, rtxn, spec)?;
        if record.pending > 0 {
            let pending = Pending::read(db, rtxn, spec)?;
            ids -= pending.ids;
            ids |= pending.live;
        }
        ids
    };
    if ids.len() == record.items {
        return Ok(ids);
    }
    let what = "leaves and pending marks name another number of items than the record";
    Err(Error::corrupted(Key::record(spec.index), what))
}

/// The ids in the leaves of the first tree.
fn leaf_ids(db: Database, rtxn: &RoTxn<'_>, spec: IndexSpec) -> Result<RoaringBitmap> {
    let mut ids = RoaringBitmap::new();
    for entry in db.iter(rtxn, spec.index, Kind::Leaf)? {
        let (key, bytes) = entry?;
        if key.tree() != FIRST_TREE {
            break;
        }
        ids.extend(LeafRef::parse(key, bytes, spec.dims)?.set.iter());
    }
    Ok(ids)
}
