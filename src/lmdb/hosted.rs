//! For hosts that open all their LMDB databases in one transaction.

use heed::{CommitToken, DatabaseOpener, OnCommit, RoTxn, RwTxn};

use crate::error::Result;
use crate::format::mark::Mark;
use crate::lmdb::database::Database;
use crate::lmdb::opening::{self, Table};

/// A database that was opened in a transaction beside others; the commit makes it a [`Database`].
///
/// `heed` turns it into one where it turns the host's own databases into usable ones: see
/// [`Database::open_or_create_with`].
pub struct UncommittedDatabase<'e> {
    raw: Table<'e>,
    mark: Option<Mark>,
}

impl OnCommit for UncommittedDatabase<'_> {
    type Committed = Database;

    fn on_commit(self, token: &CommitToken) -> Database {
        Database::new(self.raw.on_commit(token), self.mark)
    }
}

impl Database {
    /// Opens the database of this name, or creates it, in the transaction in which a host opens its
    /// own databases.
    ///
    /// It does what [`Database::open_or_create_named`] does, but for looking whether the file was
    /// cut: call [`Database::open`] before if that may be. Nothing is written if the host aborts.
    ///
    /// ```
    /// use spinney::heed::types::{Str, U32};
    /// use spinney::heed::{self, CommitOrAbort, byteorder::BigEndian};
    /// use spinney::{Database, Error};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let mut options = heed::EnvOpenOptions::new();
    /// # // SAFETY: the folder is ours alone.
    /// # let env = unsafe { options.map_size(10 << 20).max_dbs(2).open(dir.path())? };
    /// let wtxn = env.write_txn()?;
    /// let opened = env.create_databases_and_commit(wtxn, |opener, wtxn| {
    ///     let titles = opener.create_database::<U32<BigEndian>, Str>(wtxn, Some("titles"))?;
    ///     let vectors = Database::open_or_create_with(opener, wtxn, "vectors")?;
    ///     Ok::<_, Error>(CommitOrAbort::<_, ()>::Commit((titles, vectors)))
    /// })?;
    /// let (titles, vectors) = opened.unwrap_commit();
    /// let rtxn = env.read_txn()?;
    /// assert!(titles.is_empty(&rtxn)? && vectors.indexes(&rtxn)?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::ForeignTable`] if the name belongs to a table or an entry of somebody else;
    /// [`Error::OtherEnvironment`] if `wtxn` is not the transaction of `opener`;
    /// [`Error::InvalidOption`] if the name is empty, too long for LMDB or has a zero byte;
    /// [`Error::DbsFull`]; [`Error::MapFull`].
    ///
    /// [`Error::ForeignTable`]: crate::Error::ForeignTable
    /// [`Error::OtherEnvironment`]: crate::Error::OtherEnvironment
    /// [`Error::InvalidOption`]: crate::Error::InvalidOption
    /// [`Error::DbsFull`]: crate::Error::DbsFull
    /// [`Error::MapFull`]: crate::Error::MapFull
    pub fn open_or_create_with<'e, T>(
        opener: &DatabaseOpener<'e, T>,
        wtxn: &mut RwTxn<'e>,
        name: &str,
    ) -> Result<UncommittedDatabase<'e>> {
        let (raw, mark) = opening::open_or_create_in(opener, wtxn, name)?;
        Ok(UncommittedDatabase { raw, mark: Some(mark) })
    }

    /// Opens the database of this name in the transaction in which a host opens its own databases,
    /// without writing; `None` if it was never created.
    ///
    /// ```
    /// use spinney::heed::{self, CommitOrAbort};
    /// use spinney::{Database, Error};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let mut options = heed::EnvOpenOptions::new();
    /// # // SAFETY: the folder is ours alone.
    /// # let env = unsafe { options.map_size(10 << 20).max_dbs(2).open(dir.path())? };
    /// Database::open_or_create_named(&env, "vectors")?;
    /// let opened = env.open_databases_and_commit(env.read_txn()?, |opener, rtxn| {
    ///     let vectors = Database::open_with(opener, rtxn, "vectors")?;
    ///     let others = Database::open_with(opener, rtxn, "others")?;
    ///     Ok::<_, Error>(CommitOrAbort::<_, ()>::Commit((vectors, others)))
    /// })?;
    /// let (vectors, others) = opened.unwrap_commit();
    /// assert!(vectors.is_some() && others.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Database::open_or_create_with`], but for what comes of writing.
    pub fn open_with<'e, T>(
        opener: &DatabaseOpener<'e, T>,
        rtxn: &RoTxn<'e>,
        name: &str,
    ) -> Result<Option<UncommittedDatabase<'e>>> {
        let opened = opening::open_in(opener, rtxn, name)?;
        Ok(opened.map(|(raw, mark)| UncommittedDatabase { raw, mark }))
    }
}
