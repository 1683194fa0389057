//! An index by its name.

use std::sync::Arc;

use heed::RwTxn;

use crate::error::{Error, Result};
use crate::format::mark::Mark;
use crate::metric::Metric;
use crate::options::{BuildOptions, BuildStats};
use crate::storage::Storage;
use crate::store::audit::entry::AuditAction;
use crate::store::handle::Inner;
use crate::store::txn::WriteTxn;
use crate::writer::Writer;

/// A handle on an index of a [`Store`](crate::Store), as [`Store::index`](crate::Store::index)
/// gives it. Cheap to clone, and good for as long as the index is not deleted, also when the store
/// is opened again. In another store it is refused: [`Error::OtherEnvironment`]. Only a copy of the
/// store cannot be told from it.
///
/// ```
/// use spinney::{IndexOptions, Metric, Reads, Store};
/// # let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// let docs = store.index("docs", &IndexOptions::new(2, Metric::Euclidean))?;
/// store.write(|txn| {
///     docs.add_item(txn, 7, &[0.0, 0.0])?;
///     docs.add_item(txn, 8, &[3.0, 4.0])
/// })?;
/// let hits = store.with_reader(&docs, |reader| reader.nns(1).by_vector(&[3.0, 3.0]))?;
/// assert_eq!(hits[0].id, 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Index {
    pub(crate) name: Arc<str>,
    pub(crate) number: u16,
    pub(crate) dims: usize,
    pub(crate) metric: Metric,
    /// That of its store's database.
    pub(crate) mark: Option<Mark>,
}

impl Index {
    /// Its name when the handle was made.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number in the store's [`Database`](crate::Database), which stays when it is renamed.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Components of each vector.
    #[must_use]
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// How vectors are compared.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Adds an item, or replaces the one of this id. It is found at once.
    ///
    /// # Errors
    /// As [`Writer::add_item`](crate::Writer::add_item);
    /// [`Error::IndexNotFound`] if the index was deleted.
    pub fn add_item(&self, txn: &mut WriteTxn<'_>, id: u32, vector: &[f32]) -> Result<()> {
        self.write(txn, |writer, wtxn| writer.add_item(wtxn, id, vector))?;
        txn.note_ids(AuditAction::Put, self.number, &self.name, &[id]);
        Ok(())
    }

    /// Adds many items: one row of the matrix for each id.
    ///
    /// # Errors
    /// As [`Writer::add_items`](crate::Writer::add_items);
    /// [`Error::IndexNotFound`] if the index was deleted.
    pub fn add_items(&self, txn: &mut WriteTxn<'_>, ids: &[u32], vectors: &[f32]) -> Result<()> {
        self.write(txn, |writer, wtxn| writer.add_items(wtxn, ids, vectors))?;
        txn.note_ids(AuditAction::Put, self.number, &self.name, ids);
        Ok(())
    }

    /// Deletes an item. Whether it was there.
    ///
    /// # Errors
    /// As [`Writer::del_item`](crate::Writer::del_item);
    /// [`Error::IndexNotFound`] if the index was deleted.
    pub fn del_item(&self, txn: &mut WriteTxn<'_>, id: u32) -> Result<bool> {
        let was_there = self.write(txn, |writer, wtxn| writer.del_item(wtxn, id))?;
        let deleted = if was_there { &[id][..] } else { &[] };
        txn.note_ids(AuditAction::Delete, self.number, &self.name, deleted);
        Ok(was_there)
    }

    /// Deletes all items.
    ///
    /// # Errors
    /// As [`Writer::clear`](crate::Writer::clear);
    /// [`Error::IndexNotFound`] if the index was deleted.
    pub fn clear(&self, txn: &mut WriteTxn<'_>) -> Result<()> {
        let count = self.write(txn, |writer, wtxn| {
            let count = writer.len(wtxn)?;
            writer.clear(wtxn).map(|()| count)
        })?;
        txn.note_index(AuditAction::Clear, self, count);
        Ok(())
    }

    /// Builds now, with options of your own.
    ///
    /// # Errors
    /// As [`Writer::build`](crate::Writer::build);
    /// [`Error::IndexNotFound`] if the index was deleted.
    pub fn build(&self, txn: &mut WriteTxn<'_>, options: &BuildOptions<'_>) -> Result<BuildStats> {
        let stats = self.write(txn, |writer, wtxn| writer.build(wtxn, options))?;
        txn.note_index(AuditAction::Build, self, 1);
        Ok(stats)
    }

    /// Stores all vectors in another way. How many there were.
    ///
    /// # Errors
    /// As [`Writer::convert`](crate::Writer::convert);
    /// [`Error::IndexNotFound`] if the index was deleted.
    pub fn convert(&self, txn: &mut WriteTxn<'_>, storage: Storage) -> Result<u64> {
        let count = self.write(txn, |writer, wtxn| writer.convert(wtxn, storage))?;
        txn.note_index(AuditAction::Convert, self, count);
        Ok(count)
    }

    /// An error unless it is of this store.
    pub(crate) fn check(&self, store: &Inner) -> Result<()> {
        if store.tables.db.mark() == self.mark { Ok(()) } else { Err(Error::OtherEnvironment) }
    }

    fn write<'s, R>(
        &self,
        txn: &mut WriteTxn<'s>,
        work: impl FnOnce(Writer, &mut RwTxn<'s>) -> Result<R>,
    ) -> Result<R> {
        self.check(txn.store())?;
        txn.with_writer(self.number, &self.name, work)
    }
}
