//! Storing the vectors of an index in another way.

use heed::{RoTxn, RwTxn};

use crate::error::{Error, Result};
use crate::format::item::write_item;
use crate::format::record::Record;
use crate::index_spec::IndexSpec;
use crate::key::{Key, Kind};
use crate::lmdb::database::Database;
use crate::lmdb::item::ItemPutter;
use crate::storage::Storage;
use crate::vector::CheckedVector;

/// Items that are converted at once. They are deleted and put again: where LMDB overwrites longer
/// values in place, the room beside them stays unused.
const AT_ONCE: usize = 1024;

/// Converts all items and drops the forest. See [`Writer::convert`](crate::Writer::convert).
pub(crate) fn convert(
    db: Database,
    wtxn: &mut RwTxn<'_>,
    record: Record,
    index: u16,
    storage: Storage,
) -> Result<u64> {
    let from = record.spec(index);
    let to = IndexSpec { storage, ..from }.check_storage()?;
    if from == to {
        return Ok(0);
    }
    // What cannot be kept is found out before anything is written.
    let mut parts = Parts { db, from, to, next: Some(0), done: 0 };
    while !parts.read(wtxn)?.is_empty() {}
    let is_kept = |kind: &Kind| matches!(kind, Kind::Record | Kind::Item | Kind::Tail);
    for kind in Kind::ALL.into_iter().filter(|kind| !is_kept(kind)) {
        db.delete_kind(wtxn, index, kind)?;
    }
    let mut parts = Parts { next: Some(0), done: 0, ..parts };
    loop {
        let part = parts.read(wtxn)?;
        if part.is_empty() {
            break;
        }
        for (key, _) in &part {
            db.delete_item(wtxn, from, key.id())?;
        }
        for (key, value) in &part {
            ItemPutter::default().put(db, wtxn, *key, value)?;
        }
    }
    let mut new = Record::new(to);
    new.take_shape(&record);
    new.items = parts.done as u64;
    db.put(wtxn, Key::record(index), &new.to_bytes())?;
    Ok(new.items)
}

/// The items of an index, a part at a time.
struct Parts {
    db: Database,
    from: IndexSpec,
    to: IndexSpec,
    /// The id from which the next part goes on.
    next: Option<u32>,
    done: usize,
}

impl Parts {
    /// The next items as they will be stored; empty after the last.
    fn read(&mut self, rtxn: &RoTxn<'_>) -> Result<Vec<(Key, Vec<u8>)>> {
        let mut part = Vec::new();
        let Some(first) = self.next else { return Ok(part) };
        let mut joined = Vec::new();
        for entry in self.db.items_from(rtxn, self.from, first)?.take(AT_ONCE) {
            let (key, bytes) = entry?;
            let vector = bytes.view(key, self.from, &mut joined)?.to_vector(self.from.dims);
            let stored = CheckedVector::to_store(&vector, self.to).map_err(|error| Error::Row {
                row: self.done,
                id: key.id(),
                source: Box::new(error),
            })?;
            let (item, mut value) = (stored.as_item(), Vec::new());
            write_item(&mut value, item.squared_norm, item.components);
            part.push((key, value));
            self.done += 1;
        }
        self.next = part.last().and_then(|(key, _)| key.id().checked_add(1));
        Ok(part)
    }
}
