//! The table of documents, changed by hand.

use std::path::Path;

use spinney::heed::types::Bytes;
use spinney::heed::{CommitOrAbort, Database, EnvOpenOptions, RwTxn};

pub type Table<'e> = Database<'e, Bytes, Bytes>;

/// Changes the table of documents by hand, while nobody has the store open.
pub fn edit(path: &Path, change: impl FnOnce(Table<'_>, &mut RwTxn<'_>)) {
    edit_table(path, "spinney documents", change);
}

/// Changes a table of the store in the same way.
#[allow(unsafe_code)]
pub fn edit_table(path: &Path, name: &str, change: impl FnOnce(Table<'_>, &mut RwTxn<'_>)) {
    // SAFETY: the folder is ours alone.
    let env = unsafe { EnvOpenOptions::new().max_dbs(8).map_size(64 << 20).open(path).unwrap() };
    let wtxn = env.write_txn().unwrap();
    let _ = env
        .create_databases_and_commit(wtxn, |opener, wtxn| {
            let table = opener.open_database::<Bytes, Bytes>(wtxn, Some(name))?;
            change(table.unwrap(), wtxn);
            Ok::<_, spinney::heed::Error>(CommitOrAbort::<_, ()>::Commit(()))
        })
        .unwrap();
    env.prepare_for_closing().wait();
}
