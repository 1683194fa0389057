//! Databases that other crates' stores live in.

use heed::{CommitOrAbort, Env, WithoutTls};

use crate::Result;

/// An unnamed database for keys and values of these types.
pub fn database<K: 'static, V: 'static>(
    env: &Env<WithoutTls>,
) -> Result<heed::Database<'static, K, V>> {
    let wtxn = env.write_txn()?;
    let opened = env.create_databases_and_commit(wtxn, |opener, wtxn| -> heed::Result<_> {
        opener.create_database(wtxn, None).map(CommitOrAbort::<_, ()>::Commit)
    })?;
    Ok(opened.commit().ok_or("the database was not made")?)
}
