//! Repairing a damaged index: everything else follows from the items.

use heed::RwTxn;

use crate::error::{Error, Result};
use crate::format::item::write_item;
use crate::format::record::Record;
use crate::index_spec::IndexSpec;
use crate::key::{Key, Kind};
use crate::lmdb::database::Database;
use crate::lmdb::item::{ItemPutter, StoredItem};
use crate::lmdb::view::View;
use crate::options::{BuildOptions, BuildStats, IndexOptions};
use crate::vector::stored_norm;
use crate::{indexer, verify};

/// What [`Writer::repair`](crate::Writer::repair) did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Repair {
    /// How many invariants did not hold. 0: nothing was done.
    pub violations_found: u64,
    /// Items that could not be read and were deleted, ascending.
    pub lost: Vec<u32>,
    /// What the rebuilding did.
    pub build: Option<BuildStats>,
}

pub(crate) fn repair(
    db: Database,
    wtxn: &mut RwTxn<'_>,
    index: u16,
    options: &IndexOptions,
    build: &BuildOptions<'_>,
) -> Result<Repair> {
    build.check()?;
    let mut spec = options.spec(index)?;
    let old = match db.record_of(wtxn, spec) {
        Ok(record) => {
            spec = record.spec(index);
            options.expect_storage(spec)?;
            Some(record)
        }
        Err(Error::Corrupted { .. } | Error::IndexNotFound { .. }) => None,
        Err(error) => return Err(error),
    };
    let violations_found = match &old {
        Some(record) => verify::verify(View::new(db, wtxn, spec), record)?.violations.len() as u64,
        None => 1,
    };
    let mut repair = Repair { violations_found, ..Repair::default() };
    if violations_found == 0 {
        return Ok(repair);
    }
    if old.is_none() {
        refuse_strangers(db, wtxn, spec)?;
    }
    let mut record = Record::new(spec);
    db.delete_foreign(wtxn, index)?;
    repair_items(db, wtxn, spec, &mut record, &mut repair)?;
    delete_all_but_items(db, wtxn, spec)?;
    if let Some(old) = old {
        // With the shape of the old forest and no trees, the next build makes the same shape again.
        record.take_shape(&old);
    }
    db.put(wtxn, Key::record(index), &record.to_bytes())?;
    repair.build = Some(indexer::build(db, wtxn, spec, build)?);
    Ok(repair)
}

/// An error if there are items and none is a vector of this index: the caller has probably named
/// another one, and they would all be deleted.
fn refuse_strangers(db: Database, wtxn: &RwTxn<'_>, spec: IndexSpec) -> Result<()> {
    let mut first = None;
    for (key, value) in db.iter(wtxn, spec.index, Kind::Item)?.filter_map(Result::ok) {
        let item = StoredItem::new(key, spec, db.with_tail(wtxn, spec, key.id(), value)?);
        if item.is_ok_and(|item| item.view_components().is_ok()) {
            return Ok(());
        }
        first.get_or_insert(key);
    }
    first.map_or(Ok(()), |key| {
        Err(Error::corrupted(
            key,
            "no item is a vector of the dimensions, metric and storage given",
        ))
    })
}

/// Deletes items that are no vectors of this index, and corrects norms that are not those of their
/// components. Counts the rest.
fn repair_items(
    db: Database,
    wtxn: &mut RwTxn<'_>,
    spec: IndexSpec,
    record: &mut Record,
    repair: &mut Repair,
) -> Result<()> {
    let (mut delete, mut rewrite, mut foreign) = (Vec::new(), Vec::new(), Vec::new());
    for entry in db.iter_from(wtxn, Key::item(spec.index, 0))? {
        let (key, value) = entry?;
        if (key.index(), key.kind()) != (spec.index, Some(Kind::Item)) {
            break;
        }
        if key.tree() != 0 {
            foreign.push(key);
            continue;
        }
        let bytes = db.with_tail(wtxn, spec, key.id(), value)?;
        let stored = StoredItem::new(key, spec, bytes).ok();
        let item = stored.as_ref().and_then(|stored| stored.view_components().ok());
        match item.and_then(|item| stored_norm(&item, spec).map(|norm| (item, norm))) {
            None => delete.push(key),
            Some((item, norm)) => {
                record.items += 1;
                if item.squared_norm.to_bits() != norm.to_bits() {
                    let mut value = Vec::new();
                    write_item(&mut value, norm, item.components);
                    rewrite.push((key, value));
                }
            }
        }
    }
    for key in delete {
        db.delete_item(wtxn, spec, key.id())?;
        repair.lost.push(key.id());
    }
    // The key of an item names no tree. The same item may be under its right key, too.
    for key in foreign {
        db.delete(wtxn, key)?;
        if db.get(wtxn, Key::item(spec.index, key.id()))?.is_none() {
            repair.lost.push(key.id());
        }
    }
    repair.lost.sort_unstable();
    repair.lost.dedup();
    let put = |(key, value): (Key, Vec<u8>)| ItemPutter::default().put(db, wtxn, key, &value);
    rewrite.into_iter().try_for_each(put)
}

fn delete_all_but_items(db: Database, wtxn: &mut RwTxn<'_>, spec: IndexSpec) -> Result<()> {
    let mut keys = Vec::new();
    for entry in db.iter_from(wtxn, Key::record(spec.index))? {
        let (key, _) = entry?;
        if key.index() != spec.index {
            break;
        }
        let is_kept = match key.kind() {
            Some(Kind::Item) => true,
            Some(Kind::Tail) => db.has_head(wtxn, spec, key)?,
            _ => false,
        };
        if !is_kept {
            keys.push(key);
        }
    }
    keys.into_iter().try_for_each(|key| db.delete(wtxn, key).map(|_| ()))
}
