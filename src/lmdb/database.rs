//! The handle on the LMDB database in which indexes live, and the few operations the other modules
//! need of it.

use std::ops::{Bound, Deref};

use heed::types::Bytes;
use heed::{Env, PutFlags, RoTxn, RwTxn};

use crate::error::{Error, Result};
use crate::format::mark::{MARK_KEY, Mark};
use crate::format::record::Record;
use crate::index_spec::IndexSpec;
use crate::key::{Key, Kind};
use crate::lmdb::advise::Walk;
use crate::lmdb::opening;
use crate::lmdb::opening::Table;

/// The name of the LMDB database, unless another is given.
const NAME: &str = "spinney";

/// A handle on the LMDB database that holds up to 65,536 indexes, each under its own number.
///
/// It lives in the user's own environment beside the user's own data, so that one transaction
/// covers both. Open it once at start-up, copy it freely. It belongs to the environment it was
/// opened in, for as long as that is open; with a transaction of another, all calls fail with
/// [`Error::OtherEnvironment`] and change nothing. (`heed` panics then where the other lies at
/// another address; this crate catches that, and only programs built with `panic = "abort"` end.)
///
/// ```
/// use spinney::{Database, heed};
/// let dir = tempfile::tempdir()?;
/// // SAFETY: the folder is ours alone.
/// let env = unsafe { heed::EnvOpenOptions::new().map_size(10 << 20).max_dbs(1).open(dir.path())? };
/// let db = Database::open_or_create(&env)?;
/// let rtxn = env.read_txn()?;
/// assert!(db.indexes(&rtxn)?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Copy, Clone)]
pub struct Database {
    raw: Table<'static>,
    /// Absent if it was opened before it had one.
    mark: Option<Mark>,
}

impl Database {
    /// Opens the database named `spinney`, and creates it if it does not exist.
    ///
    /// The environment needs room for one named database more: `EnvOpenOptions::max_dbs`. No write
    /// transaction of this thread may be open: LMDB has one writer at a time.
    ///
    /// # Errors
    /// As [`Database::open`]; [`Error::MapFull`].
    pub fn open_or_create<T>(env: &Env<T>) -> Result<Self>
    where
        for<'e> RoTxn<'e, T>: Deref<Target = RoTxn<'e>>,
    {
        Self::open_or_create_named(env, NAME)
    }

    /// Opens the database of this name, and creates it if it does not exist.
    ///
    /// A table of this name that is empty is taken over. One of an earlier version of this crate
    /// gets this version's mark, unless the environment is read-only.
    ///
    /// # Errors
    /// As [`Database::open_or_create`].
    pub fn open_or_create_named<T>(env: &Env<T>, name: &str) -> Result<Self>
    where
        for<'e> RoTxn<'e, T>: Deref<Target = RoTxn<'e>>,
    {
        let (raw, mark) = opening::open_or_create(env, name)?;
        Ok(Self::new(raw, mark))
    }

    /// Opens the database named `spinney` without writing; `None` if it was never created.
    ///
    /// # Errors
    /// [`Error::ForeignTable`] if the name belongs to a table or an entry of somebody else;
    /// [`Error::Truncated`] if the file of the environment was cut; [`Error::DbsFull`] if `max_dbs`
    /// is too small; [`Error::ReadersFull`]; [`Error::MapResized`]; [`Error::Heed`] with
    /// `MDB_BAD_RSLOT` if a read transaction of this thread is open in an environment that was
    /// opened without `read_txn_without_tls`.
    pub fn open<T>(env: &Env<T>) -> Result<Option<Self>>
    where
        for<'e> RoTxn<'e, T>: Deref<Target = RoTxn<'e>>,
    {
        Self::open_named(env, NAME)
    }

    /// Opens the database of this name without writing; `None` if it was never created.
    ///
    /// # Errors
    /// As [`Database::open`]; [`Error::InvalidOption`] if the name is empty, too long for LMDB or
    /// has a zero byte.
    pub fn open_named<T>(env: &Env<T>, name: &str) -> Result<Option<Self>>
    where
        for<'e> RoTxn<'e, T>: Deref<Target = RoTxn<'e>>,
    {
        Ok(opening::open(env, name)?.map(|(raw, mark)| Self::new(raw, mark)))
    }

    pub(super) fn new(raw: Table<'static>, mark: Option<Mark>) -> Self {
        Self { raw, mark }
    }

    /// What tells it from all others, but for copies of it.
    pub(crate) const fn mark(&self) -> Option<Mark> {
        self.mark
    }

    /// An error unless the transaction shows the table that was opened.
    fn check(&self, rtxn: &RoTxn<'_>) -> Result<()> {
        opening::check(self.raw, self.mark, rtxn)
    }

    /// The numbers of the indexes in this snapshot, ascending.
    ///
    /// # Cost
    /// One look-up for each index.
    ///
    /// # Errors
    /// [`Error::Heed`], [`Error::OtherEnvironment`].
    pub fn indexes(&self, rtxn: &RoTxn<'_>) -> Result<Vec<u16>> {
        self.check(rtxn)?;
        let mut found = Vec::new();
        let mut entry = self.raw.get_greater_than_or_equal_to(rtxn, Key::record(0).as_bytes())?;
        while let Some((key, _)) = entry {
            entry = match key.try_into().map(Key::from_bytes) {
                Ok(key) => {
                    found.push(key.index());
                    let Some(next) = key.index().checked_add(1) else { break };
                    self.raw.get_greater_than_or_equal_to(rtxn, Key::record(next).as_bytes())?
                }
                // Somebody else wrote it, and it must not hide what comes after it.
                Err(_) => self.raw.get_greater_than(rtxn, key)?,
            };
        }
        Ok(found)
    }

    /// Deletes an index whole; `false` if there is none of this number.
    ///
    /// # Cost
    /// O(entries of the index).
    ///
    /// # Errors
    /// [`Error::Heed`], [`Error::MapFull`], [`Error::OtherEnvironment`].
    pub fn delete_index(&self, wtxn: &mut RwTxn<'_>, index: u16) -> Result<bool> {
        self.check(wtxn)?;
        let existed = self.get(wtxn, Key::record(index))?.is_some();
        for kind in Kind::ALL {
            self.delete_kind(wtxn, index, kind)?;
        }
        Ok(existed)
    }

    pub(crate) fn get<'t>(&self, rtxn: &'t RoTxn<'_>, key: Key) -> Result<Option<&'t [u8]>> {
        Ok(self.raw.get(rtxn, key.as_bytes())?)
    }

    pub(crate) fn put(&self, wtxn: &mut RwTxn<'_>, key: Key, value: &[u8]) -> Result<()> {
        Ok(self.raw.put(wtxn, key.as_bytes(), value)?)
    }

    /// Puts an entry after all others of the database. LMDB then fills its pages. Else it halves
    /// each full page: docs/limits.md, "Sizes".
    pub(crate) fn append(&self, wtxn: &mut RwTxn<'_>, key: Key, value: &[u8]) -> Result<()> {
        Ok(self.raw.put_with_flags(wtxn, PutFlags::APPEND, key.as_bytes(), value)?)
    }

    /// Whether a key comes after all keys there are.
    pub(crate) fn is_last(&self, rtxn: &RoTxn<'_>, key: Key) -> Result<bool> {
        Ok(self.raw.last(rtxn)?.is_none_or(|(last, _)| last < key.as_bytes()))
    }

    /// The highest id of a kind.
    pub(crate) fn last_id(&self, rtxn: &RoTxn<'_>, index: u16, kind: Kind) -> Result<Option<u32>> {
        let (first, last) = Key::range(index, kind);
        let found = self.raw.get_lower_than_or_equal_to(rtxn, last.as_bytes())?;
        let key = found
            .filter(|(key, _)| *key >= first.as_bytes())
            .and_then(|(key, _)| key.try_into().ok());
        Ok(key.map(|key| Key::from_bytes(key).id()))
    }

    pub(crate) fn delete(&self, wtxn: &mut RwTxn<'_>, key: Key) -> Result<bool> {
        Ok(self.raw.delete(wtxn, key.as_bytes())?)
    }

    /// All entries of a kind, in order of (tree, id). Keys that use bytes which this kind does not
    /// are those of no entry.
    pub(crate) fn iter<'t>(
        &self,
        rtxn: &'t RoTxn<'_>,
        index: u16,
        kind: Kind,
    ) -> Result<Entries<'t>> {
        self.range(rtxn, Key::range(index, kind))
    }

    /// All entries from a key up to another, which is included.
    pub(crate) fn range<'t>(
        &self,
        rtxn: &'t RoTxn<'_>,
        (first, last): (Key, Key),
    ) -> Result<Entries<'t>> {
        let bounds = (Bound::Included(first.as_bytes()), Bound::Included(last.as_bytes()));
        let inner = self.raw.range(rtxn, &bounds)?;
        Ok(Entries { inner, walk: Walk::default() })
    }

    /// All entries from a key on, whatever their kind.
    pub(crate) fn iter_from<'t>(&self, rtxn: &'t RoTxn<'_>, first: Key) -> Result<Entries<'t>> {
        let inner = self.raw.range(rtxn, &(Bound::Included(first.as_bytes()), Bound::Unbounded))?;
        Ok(Entries { inner, walk: Walk::default() })
    }

    /// Deletes keys among those of an index that this crate cannot have written, because they are
    /// not 8 bytes long.
    pub(crate) fn delete_foreign(&self, wtxn: &mut RwTxn<'_>, index: u16) -> Result<()> {
        let prefix = index.to_be_bytes();
        let mut foreign = Vec::new();
        for entry in self.raw.prefix_iter(wtxn, &prefix[..])? {
            let (key, _) = entry?;
            if key.len() != 8 && key != MARK_KEY {
                foreign.push(key.to_vec());
            }
        }
        for key in foreign {
            self.raw.delete(wtxn, &key)?;
        }
        Ok(())
    }

    pub(crate) fn delete_kind(&self, wtxn: &mut RwTxn<'_>, index: u16, kind: Kind) -> Result<()> {
        self.delete_range(wtxn, Key::whole_range(index, kind))
    }

    /// Deletes all entries from a key up to another, which is included.
    pub(crate) fn delete_range(
        &self,
        wtxn: &mut RwTxn<'_>,
        (first, last): (Key, Key),
    ) -> Result<()> {
        let bounds = (Bound::Included(first.as_bytes()), Bound::Included(last.as_bytes()));
        self.raw.delete_range(wtxn, &bounds)?;
        Ok(())
    }

    /// The record of an index. Whatever uses an index begins with this.
    pub(crate) fn record(&self, rtxn: &RoTxn<'_>, index: u16) -> Result<Record> {
        self.check(rtxn)?;
        let key = Key::record(index);
        let bytes = self.get(rtxn, key)?.ok_or(Error::IndexNotFound { index })?;
        Record::parse(key, bytes)
    }

    /// The record of an index that must be of this metric and of these dimensions.
    pub(crate) fn record_of(&self, rtxn: &RoTxn<'_>, spec: IndexSpec) -> Result<Record> {
        let record = self.record(rtxn, spec.index)?;
        record.spec(spec.index).expect(spec)?;
        Ok(record)
    }
}

/// The entries of one kind of an index.
pub(crate) struct Entries<'t> {
    inner: heed::RoRange<'t, Bytes, Bytes>,
    walk: Walk,
}

impl<'t> Iterator for Entries<'t> {
    type Item = Result<(Key, &'t [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.inner.next()?;
        Some(entry.map_err(Error::from).and_then(|(key, value)| {
            let key = key.try_into().map_err(|_| {
                // Somebody else wrote it; its first bytes say where it lies.
                let mut padded = [0; 8];
                padded.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
                Error::corrupted(Key::from_bytes(padded), "a key that is not 8 bytes long")
            })?;
            self.walk.step(value);
            Ok((Key::from_bytes(key), value))
        }))
    }
}

/// An environment of its own for a test, and its folder.
#[cfg(test)]
#[expect(unsafe_code, reason = "opening a memory map is the one promise that the caller makes")]
pub(crate) fn temporary(max_readers: u32) -> (tempfile::TempDir, Env<heed::WithoutTls>) {
    let folder = tempfile::tempdir().unwrap();
    let mut options = heed::EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(10 << 20).max_dbs(1).max_readers(max_readers);
    // SAFETY: the folder is new and temporary, and nothing else opens it.
    let env = unsafe { options.open(folder.path()) }.unwrap();
    (folder, env)
}
