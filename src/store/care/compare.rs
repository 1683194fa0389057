//! Whether two environments hold the same: all tables, whoever they belong to.

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, DatabaseOpener, Env, MdbError, RoTxn, WithoutTls};

use crate::error::Result;

type Table<'e> = Database<'e, Bytes, Bytes>;
type Txn<'t> = RoTxn<'t, WithoutTls>;

/// Compares all entries of two environments that nobody writes.
pub(crate) fn is_equal(a: &Env<WithoutTls>, b: &Env<WithoutTls>) -> Result<bool> {
    let Some(entries) = in_tables(a, b, None, |a, b| {
        let (mut names, mut is_equal) = (Vec::new(), a.0.len(a.1)? == b.0.len(b.1)?);
        for pair in a.0.iter(a.1)?.zip(b.0.iter(b.1)?) {
            let ((name, value), (other_name, other_value)) = (pair.0?, pair.1?);
            is_equal &= name == other_name;
            names.push((name.to_vec(), value == other_value));
        }
        Ok(is_equal.then_some(names))
    })?
    else {
        return Ok(false);
    };
    for (name, is_same_value) in entries {
        // The value of a table tells where its pages are, which may differ.
        let is_equal = match std::str::from_utf8(&name) {
            Ok(name) => in_tables(a, b, Some(name), |a, b| has_same_entries(a, b).map(Some)),
            Err(_) => Ok(None),
        };
        if !is_equal?.unwrap_or(is_same_value) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn has_same_entries(a: (Table<'_>, &Txn<'_>), b: (Table<'_>, &Txn<'_>)) -> Result<bool> {
    let mut ours = a.0.iter(a.1)?.move_through_duplicate_values();
    let mut theirs = b.0.iter(b.1)?.move_through_duplicate_values();
    loop {
        match (ours.next().transpose()?, theirs.next().transpose()?) {
            (None, None) => return Ok(true),
            (ours, theirs) if ours == theirs => {}
            _ => return Ok(false),
        }
    }
}

/// Runs `work` with the table of this name in both environments. `None` if it is a table in
/// neither.
fn in_tables<R>(
    a: &Env<WithoutTls>,
    b: &Env<WithoutTls>,
    name: Option<&str>,
    work: impl FnOnce((Table<'_>, &Txn<'_>), (Table<'_>, &Txn<'_>)) -> Result<Option<R>>,
) -> Result<Option<R>> {
    let mut result = None;
    // A transaction that is not committed gives the slot of the table back.
    a.open_databases_and_commit(a.read_txn()?, |opener_a, txn_a| {
        b.open_databases_and_commit(b.read_txn()?, |opener_b, txn_b| {
            let tables = (open(opener_a, txn_a, name)?, open(opener_b, txn_b, name)?);
            if let (Some(table_a), Some(table_b)) = tables {
                result = work((table_a, txn_a), (table_b, txn_b))?;
            }
            Ok::<_, crate::error::Error>(CommitOrAbort::<(), ()>::Abort(()))
        })
    })?;
    Ok(result)
}

fn open<'e>(
    opener: &DatabaseOpener<'e, WithoutTls>,
    txn: &Txn<'e>,
    name: Option<&str>,
) -> Result<Option<Table<'e>>> {
    match opener.open_database(txn, name) {
        // An entry of the host's own.
        Err(heed::Error::Mdb(MdbError::Incompatible)) => Ok(None),
        opened => Ok(opened?),
    }
}
