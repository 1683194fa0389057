//! The transactions of a store.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use heed::{MdbError, RoTxn, RwTxn, WithoutTls};

use crate::error::{Error, Result};
use crate::options::BuildOptions;
use crate::reader::Reader;
use crate::store::audit::draft::Draft;
use crate::store::audit::entry::AuditAction;
use crate::store::environment::Turn;
use crate::store::handle::Inner;
use crate::store::index::Index;
use crate::store::live::Counted;
use crate::writer::Writer;

/// A read transaction of a [`Store`](crate::Store): one commit, whatever is committed meanwhile.
///
/// Readers opened in it remember nothing of other transactions: for many searches of a few
/// milliseconds each, a [`StoreSnapshot`](crate::StoreSnapshot) is faster.
///
/// What reads in it cannot outlive it, be it a reader or an iterator over documents:
///
/// ```compile_fail
/// fn misuse(store: &spinney::Store, index: &spinney::Index) {
///     let reader = store.read(|txn| txn.reader(index)).unwrap();
/// }
/// ```
///
/// ```compile_fail
/// fn misuse(store: &spinney::Store, docs: &spinney::Collection) {
///     let keys = store.read(|txn| Ok::<_, spinney::Error>(docs.keys(txn))).unwrap();
/// }
/// ```
pub struct ReadTxn<'s> {
    /// Ends before its count does.
    txn: RoTxn<'s, WithoutTls>,
    _counted: Counted,
    store: &'s Inner,
}

/// The write transaction of a [`Store`](crate::Store), as [`Store::write`](crate::Store::write)
/// gives it.
///
/// LMDB's lock belongs to the thread, so it cannot leave it:
///
/// ```compile_fail
/// fn misuse(store: &spinney::Store) -> spinney::Result<()> {
///     store.write(|txn| {
///         std::thread::scope(|scope| drop(scope.spawn(|| txn.as_heed_mut())));
///         Ok(())
///     })
/// }
/// ```
///
/// Nor can it outlive the call:
///
/// ```compile_fail
/// fn misuse(store: &spinney::Store) {
///     let kept = store.write(|txn| Ok::<_, spinney::Error>(txn)).unwrap();
/// }
/// ```
///
/// Nor can anything be changed while it is gone through:
///
/// ```compile_fail
/// fn misuse(store: &spinney::Store, docs: &spinney::Collection) -> spinney::Result<()> {
///     store.write(|txn| {
///         for key in docs.keys(txn) {
///             docs.delete(txn, key?)?;
///         }
///         Ok(())
///     })
/// }
/// ```
pub struct WriteTxn<'s> {
    /// Ends before its count and its turn do.
    txn: RwTxn<'s>,
    counted: Counted,
    turn: Turn<'s>,
    store: &'s Inner,
    /// The indexes that were written, with the names by which they are known.
    written: BTreeMap<u16, (Writer, Arc<str>)>,
    /// What the audit log is to tell.
    pub(crate) draft: Draft,
    /// Whether LMDB has failed for another reason than a full map.
    has_failed_otherwise: bool,
    stays: PhantomData<*const ()>,
}

impl<'s> ReadTxn<'s> {
    pub(crate) fn begin(store: &'s Inner) -> Result<Self> {
        let (txn, counted) = store.environment.read()?;
        Ok(Self { txn, _counted: counted, store })
    }

    /// Opens a reader of an index.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn reader(&self, index: &Index) -> Result<Reader<'_>> {
        index.check(self.store)?;
        self.reader_of(index.number())
    }

    pub(crate) fn reader_of(&self, index: u16) -> Result<Reader<'_>> {
        Reader::open(&self.txn, self.store.tables.db, index)
    }

    pub(crate) fn store(&self) -> &'s Inner {
        self.store
    }

    /// The transaction beneath, for tables of your own.
    #[must_use]
    pub fn as_heed(&self) -> &RoTxn<'s, WithoutTls> {
        &self.txn
    }

    /// LMDB's number of the commit.
    #[must_use]
    pub fn txn_id(&self) -> usize {
        self.txn.id()
    }
}

impl<'s> WriteTxn<'s> {
    pub(crate) fn begin(store: &'s Inner, turn: Turn<'s>, actor: Option<Arc<str>>) -> Result<Self> {
        let (txn, counted) = store.environment.write(&turn)?;
        Ok(Self {
            draft: Draft::new(store.tables.audit, &txn, actor)?,
            txn,
            counted,
            turn,
            store,
            written: BTreeMap::new(),
            has_failed_otherwise: false,
            stays: PhantomData,
        })
    }

    /// Opens a reader of an index, which shows what was written so far.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn reader(&self, index: &Index) -> Result<Reader<'_>> {
        index.check(self.store)?;
        self.reader_of(index.number())
    }

    pub(crate) fn reader_of(&self, index: u16) -> Result<Reader<'_>> {
        Reader::open(&self.txn, self.store.tables.db, index)
    }

    /// The transaction beneath, for tables of your own.
    #[must_use]
    pub fn as_heed(&self) -> &RwTxn<'s> {
        &self.txn
    }

    /// The transaction beneath, for tables of your own, and for what [`Writer`] and
    /// [`Database`](crate::Database) can do with it.
    ///
    /// If its map gets full, the closure runs again in a larger one: return LMDB's errors.
    #[must_use]
    pub fn as_heed_mut(&mut self) -> &mut RwTxn<'s> {
        self.note(AuditAction::Raw, "", b"");
        &mut self.txn
    }

    pub(crate) fn store(&self) -> &'s Inner {
        self.store
    }

    /// Does something in the transaction, and notes how it ended.
    pub(crate) fn run<R>(&mut self, work: impl FnOnce(&mut RwTxn<'s>) -> Result<R>) -> Result<R> {
        let result = work(&mut self.txn);
        if let Err(error) = &result {
            // What is refused before anything is written is no reason for LMDB to give up.
            // A transaction that LMDB gave up before tells no reason of its own.
            let is_known = matches!(error, Error::Heed(heed::Error::Mdb(MdbError::BadTxn)));
            let is_of_lmdb = matches!(error, Error::Heed(_) | Error::DiskFull(_));
            self.has_failed_otherwise |= is_of_lmdb && !is_known;
        }
        result
    }

    /// Changes an index.
    pub(crate) fn with_writer<R>(
        &mut self,
        index: u16,
        name: &Arc<str>,
        work: impl FnOnce(Writer, &mut RwTxn<'s>) -> Result<R>,
    ) -> Result<R> {
        let writer = match self.written.get(&index) {
            Some((writer, _)) => *writer,
            None => {
                let writer = Writer::open(&self.txn, self.store.tables.db, index)?;
                self.written.insert(index, (writer, name.clone()));
                writer
            }
        };
        self.run(|wtxn| work(writer, wtxn))
    }

    /// Whether LMDB has given the transaction up, for want of room in the map as far as is known.
    ///
    /// LMDB has no call for it: a transaction that it gave up refuses to read. What the host did in
    /// it is not seen, so that only errors of this crate tell of other reasons.
    pub(crate) fn is_map_full(&self) -> bool {
        let refuses = self.store.tables.catalog.table.first(&self.txn).is_err();
        refuses && !self.has_failed_otherwise
    }

    /// Builds what has too many pending items, and commits.
    pub(crate) fn commit(mut self) -> Result<(), (Error, bool)> {
        let built = self.build_what_waits().and_then(|()| self.append_entry());
        let is_full = self.is_map_full();
        built.map_err(|error| (error, is_full))?;
        let Self { txn, counted, turn, .. } = self;
        let committed = txn.commit();
        drop(counted);
        drop(turn);
        committed.map_err(|error| {
            let error = Error::from(error);
            let is_full = is_full || matches!(error, Error::MapFull);
            (if is_full { Error::MapFull } else { error }, is_full)
        })
    }

    fn build_what_waits(&mut self) -> Result<()> {
        let catalog = self.store.tables.catalog;
        for (number, (writer, name)) in std::mem::take(&mut self.written) {
            let Some((name, entry)) = self.run(|wtxn| catalog.find(wtxn, number, &name))? else {
                continue;
            };
            let Some(limit) = entry.build_after else { continue };
            let is_built = self.run(|wtxn| match writer.pending_len(wtxn) {
                Ok(pending) if pending > limit.into() => {
                    writer.build(wtxn, &BuildOptions::default()).map(|_| true)
                }
                // It was deleted since.
                Ok(_) | Err(Error::IndexNotFound { .. }) => Ok(false),
                Err(error) => Err(error),
            })?;
            if is_built {
                self.note(AuditAction::Build, &name, b"");
            }
        }
        Ok(())
    }

    /// Writes what was done so far into the audit log.
    pub(crate) fn append_entry(&mut self) -> Result<()> {
        let (table, draft) = (self.store.tables.audit, self.draft.take());
        self.run(|wtxn| draft.append(table, wtxn))
    }
}

impl fmt::Debug for ReadTxn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadTxn").field("txn_id", &self.txn_id()).finish_non_exhaustive()
    }
}

impl fmt::Debug for WriteTxn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteTxn").finish_non_exhaustive()
    }
}
