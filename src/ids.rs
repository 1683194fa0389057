//! The ids of an index, without its vectors.

use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::format::node::LeafRef;
use crate::format::record::Record;
use crate::key::{Key, Kind, tree_byte};
use crate::lmdb::pending::Pending;
use crate::lmdb::view::View;

/// The ids of all items, from the leaves of one tree and the pending marks.
///
/// Without a forest they come from the keys of the items, whose pages may also hold vectors.
pub(crate) fn id_set(view: View<'_>, record: &Record) -> Result<RoaringBitmap> {
    let ids = if record.trees == 0 {
        view.ids()?.collect::<Result<_>>()?
    } else {
        let mut ids = leaf_ids(view, record)?;
        if record.pending > 0 {
            let pending = Pending::read(view)?;
            ids -= pending.ids;
            ids |= pending.live;
        }
        ids
    };
    if ids.len() == record.items {
        return Ok(ids);
    }
    let what = "leaves and pending marks name another number of items than the record";
    Err(Error::corrupted(Key::record(view.spec.index), what))
}

/// The ids in the leaves of the first tree: those of each tree hold all items of the forest.
fn leaf_ids(view: View<'_>, record: &Record) -> Result<RoaringBitmap> {
    let mut ids = RoaringBitmap::new();
    let first = tree_byte(record.generation, 0);
    for entry in view.iter_trees(Kind::Leaf, &(first..=first))? {
        let (key, bytes) = entry?;
        ids.extend(LeafRef::parse(key, bytes, view.spec.dims)?.set.iter());
    }
    Ok(ids)
}
