//! The handle on a store.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use heed::{CommitOrAbort, Env, WithoutTls};

use crate::error::{Error, Result};
use crate::lmdb::database::Database;
use crate::options::IndexOptions;
use crate::store::audit::entry::AuditAction;
use crate::store::catalog::{BUILD_AFTER, Entry, NameKind, check_name};
use crate::store::environment::Environment;
use crate::store::files::Files;
use crate::store::index::Index;
use crate::store::options::StoreOptions;
use crate::store::registry;
use crate::store::snapshot::StoreSnapshot;
use crate::store::tables::{PREFIX, Tables};
use crate::store::txn::{ReadTxn, WriteTxn};
use crate::writer::Writer;

/// A store: indexes under names in an LMDB environment that it opens, sizes and looks after.
///
/// A handle is `Clone + Send + Sync`; the last one closes the store. Opening what is open already
/// in this process, under whatever path, gives the same store.
///
/// ```
/// use spinney::{IndexOptions, Metric, Reads, Store};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("my.spinney");
/// let store = Store::open(&path)?;
/// let docs = store.index("docs", &IndexOptions::new(3, Metric::Cosine))?;
/// store.write(|txn| docs.add_item(txn, 7, &[1.0, 0.0, 0.1]))?;
/// let hits = store.with_reader(&docs, |reader| reader.nns(1).by_vector(&[0.9, 0.1, 0.0]))?;
/// assert_eq!(hits[0].id, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
    /// Who writes, for the audit log.
    pub(crate) actor: Option<Arc<str>>,
}

/// What the handles on a store share.
pub(crate) struct Inner {
    pub(crate) environment: Environment,
    pub(crate) tables: Tables,
}

impl Store {
    /// Opens the store in this folder, and creates it if it is not there.
    ///
    /// # Errors
    /// [`Error::StoreNotFound`]; [`Error::Truncated`] if the file was cut; [`Error::File`] if the
    /// system refuses a path; [`Error::RemoteFileSystem`]; [`Error::OpenOtherwise`] if it is open
    /// with options that do not go with these; [`Error::ForeignTable`]; [`Error::InvalidOption`];
    /// [`Error::OpenElsewhere`]; [`Error::Heed`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path.as_ref(), &StoreOptions::default())
    }

    /// Options for opening a store.
    pub fn options() -> StoreOptions {
        StoreOptions::default()
    }

    pub(crate) fn open_with(path: &Path, options: &StoreOptions) -> Result<Self> {
        options.check()?;
        let files = Files::at(path, options.single_file)?;
        Ok(Self { inner: registry::open(files, options)?, actor: None })
    }

    /// Where the store is: the folder, or the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.environment.files.path
    }

    /// Runs `work` in the write transaction, and commits if it returns `Ok`. There is one at a
    /// time: others wait for their turn.
    ///
    /// If the map is full, the transaction is undone, the map enlarged, and `work` **runs again**:
    /// it must not change what is not in the store, but for what it sets anew each time.
    ///
    /// Before the commit, indexes with many pending items are built: see
    /// [`set_build_after`](Self::set_build_after).
    ///
    /// In tasks of a rayon pool, do not write. A build waits for tasks of the pool. A thread that
    /// waits may take up another task that wants to write, which would wait for it. Such a task
    /// gets [`Error::NestedWrite`], or [`Error::Busy`] after
    /// [`patience`](StoreOptions::patience).
    ///
    /// # Errors
    /// [`Error::NestedWrite`] within another call of the same thread; [`Error::MapFull`] at
    /// [`map_limit`](StoreOptions::map_limit); [`Error::MapInUse`] if the map has to grow while
    /// snapshots or read transactions stay open; [`Error::DiskFull`]; [`Error::ReadOnly`];
    /// [`Error::Forked`]; those of [`Writer::build`]; and what `work` returns. Nothing is changed
    /// then.
    pub fn write<R, E: From<Error>>(
        &self,
        work: impl FnMut(&mut WriteTxn<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        self.write_waiting(None, work)
    }

    /// As [`write`](Self::write), but waits no longer than `limit` for other threads of this
    /// process. Other processes are waited for without end.
    ///
    /// # Errors
    /// As [`write`](Self::write); [`Error::Busy`].
    pub fn write_within<R, E: From<Error>>(
        &self,
        limit: Duration,
        work: impl FnMut(&mut WriteTxn<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        self.write_waiting(Some(limit), work)
    }

    fn write_waiting<R, E: From<Error>>(
        &self,
        limit: Option<Duration>,
        mut work: impl FnMut(&mut WriteTxn<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        let environment = &self.inner.environment;
        // What it waits for may wait for this thread to end the task.
        let in_pool = rayon::current_thread_index().map(|_| environment.options.patience);
        let limit = limit.or(in_pool);
        loop {
            let turn = environment.turn(limit)?;
            let mut txn = WriteTxn::begin(&self.inner, turn, self.actor.clone())?;
            let error = match work(&mut txn) {
                Ok(result) => match txn.commit() {
                    Ok(()) => return Ok(result),
                    Err((error, true)) => error.into(),
                    Err((error, false)) => return Err(error.into()),
                },
                Err(error) if txn.is_map_full() => {
                    drop(txn);
                    error
                }
                Err(error) => return Err(error),
            };
            match environment.grow() {
                Ok(()) => {}
                // As large as it may be: the first error tells what was being done.
                Err(Error::MapFull) => return Err(error),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Runs `work` in a read transaction of the newest commit.
    ///
    /// # Errors
    /// [`Error::ReadersFull`]; [`Error::Forked`]; what `work` returns. If another process enlarged
    /// the file: [`Error::MapInUse`] when transactions of this one did not end in time,
    /// [`Error::MapResized`] when its environment [was given out](Self::env).
    pub fn read<R, E: From<Error>>(
        &self,
        work: impl FnOnce(&ReadTxn<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        work(&ReadTxn::begin(&self.inner)?)
    }

    /// The newest commit, for as long as it is held.
    ///
    /// # Cost
    /// A lock and a look at the number of the last commit, if it is that of the last call. Else a
    /// transaction, and readers that remember nothing yet.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub fn snapshot(&self) -> Result<StoreSnapshot> {
        self.inner.environment.check_process()?;
        let lanes = self.inner.environment.kept.newest(&self.inner)?;
        Ok(StoreSnapshot::new(self.inner.clone(), lanes))
    }

    /// The index of this name, created if it is not there.
    ///
    /// # Errors
    /// [`Error::MetricMismatch`], [`Error::DimensionsMismatch`] or [`Error::StorageMismatch`] if it
    /// was created with other options; [`Error::NameTaken`] if the name is a collection's;
    /// those of [`write`](Self::write), if it is not there.
    pub fn index(&self, name: &str, options: &IndexOptions) -> Result<Index> {
        check_name(name)?;
        let tables = self.inner.tables;
        let found = self.read(|txn| match tables.catalog.get(txn.as_heed(), name)? {
            Some(entry) if entry.kind != NameKind::Index => Err(taken(name)),
            Some(entry) => {
                tables.expect(txn.as_heed(), entry.number, options)?;
                Ok(Some(entry.number))
            }
            None => Ok(None),
        })?;
        let number = match found {
            Some(number) => number,
            None => self.write(|txn| create(txn, name, NameKind::Index, options))?,
        };
        let (dims, metric) = (options.dims(), options.metric());
        Ok(Index { name: name.into(), number, dims, metric, mark: tables.db.mark() })
    }

    /// The index of this name, if it is there.
    ///
    /// # Errors
    /// [`Error::NameTaken`] if the name is a collection's; those of [`read`](Self::read).
    pub fn open_index(&self, name: &str) -> Result<Option<Index>> {
        let tables = self.inner.tables;
        self.read(|txn| {
            let Some(entry) = tables.catalog.get(txn.as_heed(), name)? else { return Ok(None) };
            if entry.kind != NameKind::Index {
                return Err(taken(name));
            }
            let reader = txn.reader_of(entry.number)?;
            let (dims, metric) = (reader.dims(), reader.metric());
            let (name, mark) = (name.into(), tables.db.mark());
            Ok(Some(Index { name, number: entry.number, dims, metric, mark }))
        })
    }

    /// The names of all indexes, in the order of their bytes.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub fn indexes(&self) -> Result<Vec<String>> {
        self.names(NameKind::Index)
    }

    pub(crate) fn names(&self, kind: NameKind) -> Result<Vec<String>> {
        let entries = self.read(|txn| self.inner.tables.catalog.entries(txn.as_heed()))?;
        let names = entries.into_iter().filter(|(_, entry)| entry.kind == kind);
        Ok(names.map(|(name, _)| name).collect())
    }

    /// Deletes an index and all in it. Whether it was there.
    ///
    /// # Errors
    /// [`Error::NameTaken`] if the name is a collection's; those of [`write`](Self::write).
    pub fn delete_index(&self, name: &str) -> Result<bool> {
        let tables = self.inner.tables;
        self.write(|txn| {
            let was_there = txn.run(|wtxn| match tables.catalog.get(wtxn, name)? {
                None => Ok(false),
                Some(entry) if entry.kind != NameKind::Index => Err(taken(name)),
                Some(entry) => {
                    tables.db.delete_index(wtxn, entry.number)?;
                    tables.catalog.delete(wtxn, name)
                }
            })?;
            if was_there {
                txn.note(AuditAction::Drop, name, b"");
            }
            Ok(was_there)
        })
    }

    /// Gives an index or a collection another name. Handles on it stay good.
    ///
    /// # Errors
    /// [`Error::NameNotFound`]; [`Error::NameTaken`]; those of [`write`](Self::write).
    pub fn rename(&self, name: &str, new_name: &str) -> Result<()> {
        let catalog = self.inner.tables.catalog;
        self.write(|txn| {
            txn.run(|wtxn| {
                let entry = catalog.get(wtxn, name)?.ok_or_else(|| not_found(name))?;
                if name != new_name && catalog.get(wtxn, new_name)?.is_some() {
                    return Err(taken(new_name));
                }
                catalog.delete(wtxn, name)?;
                catalog.put(wtxn, new_name, entry)
            })?;
            txn.note(AuditAction::Rename, name, new_name.as_bytes());
            Ok(())
        })
    }

    /// After how many pending items of an index or a collection a write builds before it commits;
    /// `None` for never, as suits bulk loads that end in a build. Kept in the store.
    ///
    /// A build takes time in proportion to what has changed. Searches compare each pending item,
    /// and are never made to wait. Default: 200.
    ///
    /// # Errors
    /// [`Error::NameNotFound`]; those of [`write`](Self::write).
    pub fn set_build_after(&self, name: &str, pending: Option<u32>) -> Result<()> {
        let catalog = self.inner.tables.catalog;
        self.write(|txn| {
            txn.run(|wtxn| {
                let entry = catalog.get(wtxn, name)?.ok_or_else(|| not_found(name))?;
                catalog.put(wtxn, name, Entry { build_after: pending, ..entry })
            })?;
            txn.note(AuditAction::Configure, name, b"");
            Ok(())
        })
    }

    /// A table of your own in the same environment, created if it is not there, for
    /// [`WriteTxn::as_heed_mut`] and [`ReadTxn::as_heed`].
    ///
    /// Transactions that began before it was first opened in this process do not show it.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a name that begins with `spinney`; [`Error::DbsFull`];
    /// [`Error::NotWithinWrite`] within a write transaction of this thread; those of
    /// [`write`](Self::write).
    pub fn table<KC: 'static, DC: 'static>(
        &self,
        name: &str,
    ) -> Result<heed::Database<'static, KC, DC>> {
        if name.is_empty() || name.starts_with(PREFIX) || name.contains('\0') {
            let expected = "a name that does not begin with \"spinney\" and has no zero byte";
            return Err(Error::option("name", expected, format_args!("{name:?}")));
        }
        self.inner.open_table(name)
    }

    /// The database beneath, in which each index has its number.
    #[must_use]
    pub fn database(&self) -> Database {
        self.inner.tables.db
    }

    /// The environment beneath, for what the store has no call for.
    ///
    /// From now on the map does not grow any more: transactions begun with it are not counted, and
    /// LMDB moves the map only while there are none.
    #[must_use]
    pub fn env(&self) -> &Env<WithoutTls> {
        self.inner.environment.share()
    }
}

impl Inner {
    /// Opens a table, or creates it.
    pub(crate) fn open_table<KC: 'static, DC: 'static>(
        &self,
        name: &str,
    ) -> Result<heed::Database<'static, KC, DC>> {
        let environment = &self.environment;
        if environment.is_writing() {
            return Err(Error::NotWithinWrite("opening a table"));
        }
        let (rtxn, counted) = environment.read()?;
        let opened = environment.env().open_databases_and_commit(rtxn, |opener, rtxn| {
            Ok::<_, Error>(match opener.open_database::<KC, DC>(rtxn, Some(name))? {
                Some(table) => CommitOrAbort::Commit(table),
                None => CommitOrAbort::Abort(()),
            })
        })?;
        drop(counted);
        if let Some(table) = opened.commit() {
            return Ok(table);
        }
        loop {
            let turn = environment.turn(None)?;
            let (wtxn, counted) = environment.write(&turn)?;
            let created = environment.env().create_databases_and_commit(wtxn, |opener, wtxn| {
                let table = opener.create_database::<KC, DC>(wtxn, Some(name))?;
                Ok::<_, Error>(CommitOrAbort::<_, ()>::Commit(table))
            });
            drop((counted, turn));
            match created {
                Err(Error::MapFull) => environment.grow()?,
                created => return created?.commit().ok_or(Error::OtherEnvironment),
            }
        }
    }
}

/// Creates what a name stands for, unless somebody has done it meanwhile. Its number.
pub(crate) fn create(
    txn: &mut WriteTxn<'_>,
    name: &str,
    kind: NameKind,
    options: &IndexOptions,
) -> Result<u16> {
    let tables = txn.store().tables;
    let number = txn.run(|wtxn| {
        if let Some(entry) = tables.catalog.get(wtxn, name)? {
            if entry.kind != kind {
                return Err(taken(name));
            }
            tables.expect(wtxn, entry.number, options)?;
            return Ok(entry.number);
        }
        let indexes = tables.db.indexes(wtxn)?;
        let number = tables.catalog.take_number(wtxn, &indexes)?;
        Writer::open_or_create(wtxn, tables.db, number, options)?;
        let entry = Entry { kind, number, build_after: Some(BUILD_AFTER) };
        tables.catalog.put(wtxn, name, entry)?;
        Ok(number)
    })?;
    txn.note(AuditAction::Create, name, b"");
    Ok(number)
}

pub(crate) fn taken(name: &str) -> Error {
    Error::NameTaken(name.to_owned())
}

pub(crate) fn not_found(name: &str) -> Error {
    Error::NameNotFound(name.to_owned())
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.path()).finish_non_exhaustive()
    }
}
