//! Changing an index inside a write transaction.

mod change_items;
mod in_commits;

use heed::{RoTxn, RwTxn};

use crate::error::{Error, Result};
use crate::format::item::{ItemRef, PendingRef, write_item, write_pending};
use crate::format::record::{ALL_IDS, Record};
use crate::index_spec::IndexSpec;
use crate::key::{Key, Kind};
use crate::lmdb::database::Database;
use crate::lmdb::item::{ItemPutter, StoredItem};
use crate::metric::Metric;
use crate::options::{BuildOptions, BuildStats, IndexOptions};
use crate::repair::Repair;
use crate::storage::Storage;
use crate::vector::{CheckedVector, check_rows};
use crate::{calibrate, convert, indexer, repair};

/// Queries that a calibration takes, at most: what it holds in memory is in proportion to them.
const MAX_QUERIES: usize = 2_000;

/// Changes an index: adds, overwrites and deletes items, and builds the forest over them.
///
/// A writer is a small handle without state of its own: all it does happens in the write
/// transaction it is given, and is committed or aborted with it. Whatever is committed is found by
/// searches, built or not; [`Writer::build`] makes it fast. Begin and commit a write transaction on
/// the same thread: LMDB's lock belongs to the thread.
///
/// ```
/// # use spinney::{heed, BuildOptions, Database, IndexOptions, Metric, Reader, Writer};
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the folder is ours alone.
/// # let env = unsafe { heed::EnvOpenOptions::new().map_size(10 << 20).max_dbs(1).open(dir.path())? };
/// let db = Database::open_or_create(&env)?;
/// let mut wtxn = env.write_txn()?;
/// let writer = Writer::open_or_create(&mut wtxn, db, 0, &IndexOptions::new(3, Metric::Cosine))?;
/// writer.add_item(&mut wtxn, 7, &[1.0, 0.0, 0.0])?;
/// writer.add_item(&mut wtxn, 8, &[0.0, 1.0, 0.0])?;
/// writer.add_item(&mut wtxn, 7, &[0.9, 0.1, 0.0])?; // overwrites
/// assert!(writer.del_item(&mut wtxn, 8)?);
/// writer.build(&mut wtxn, &BuildOptions::default())?;
/// assert_eq!(writer.len(&wtxn)?, 1);
/// wtxn.commit()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Copy, Clone)]
pub struct Writer {
    db: Database,
    spec: IndexSpec,
}

impl Writer {
    /// Opens an index, and creates it if it does not exist.
    ///
    /// # Errors
    /// [`Error::DimensionsOutOfRange`]; [`Error::MetricMismatch`] or [`Error::DimensionsMismatch`]
    /// if the index exists and is another; [`Error::FormatTooNew`]; [`Error::Corrupted`];
    /// [`Error::OtherEnvironment`]. Nothing is written then.
    pub fn open_or_create(
        wtxn: &mut RwTxn<'_>,
        db: Database,
        index: u16,
        options: &IndexOptions,
    ) -> Result<Self> {
        let spec = options.spec(index)?;
        match db.record_of(wtxn, spec) {
            Err(Error::IndexNotFound { .. }) => {
                let record = Record::new(spec);
                db.put(wtxn, Key::record(index), &record.to_bytes())?;
            }
            found => options.expect_storage(found?.spec(index))?,
        }
        Ok(Self { db, spec })
    }

    /// Opens an index that exists, whatever its metric and dimensions.
    ///
    /// # Errors
    /// [`Error::IndexNotFound`]; [`Error::FormatTooNew`]; [`Error::Corrupted`];
    /// [`Error::OtherEnvironment`].
    pub fn open(rtxn: &RoTxn<'_>, db: Database, index: u16) -> Result<Self> {
        Ok(Self { db, spec: db.record(rtxn, index)?.spec(index) })
    }

    /// Components of each vector.
    #[must_use]
    pub fn dims(&self) -> usize {
        self.spec.dims
    }

    /// How vectors are compared.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.spec.metric
    }

    /// The number of this index.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.spec.index
    }

    /// Adds an item, or overwrites the one that has this id.
    ///
    /// # Shape and units
    /// `vector`: `dims` finite numbers; for Hamming each exactly 0.0 or 1.0. How exactly it is kept
    /// is said at [`Storage`].
    ///
    /// # Errors
    /// [`Error::Dimensions`], [`Error::NonFinite`], [`Error::ZeroVector`], [`Error::NormOverflow`]
    /// or [`Error::NotABit`] if the vector does not suit the index: nothing is changed then.
    ///
    /// # Cost
    /// O(dims + log items).
    pub fn add_item(&self, wtxn: &mut RwTxn<'_>, id: u32, vector: &[f32]) -> Result<()> {
        let mut record = self.record(wtxn)?;
        let checked = CheckedVector::to_store(vector, self.spec_of(&record))?;
        self.put_item(wtxn, &mut record, id, &checked, &mut Buffers::default())?;
        self.put_record(wtxn, &record)
    }

    /// Adds or overwrites many items. An id that occurs twice keeps its last vector.
    ///
    /// All vectors are checked before the first is written.
    ///
    /// # Shape and units
    /// `vectors`: `ids.len()` rows of `dims` numbers, one after the other, each as for
    /// [`Writer::add_item`].
    ///
    /// # Errors
    /// [`Error::VectorsShape`] if the lengths do not fit; [`Error::Row`] with what
    /// [`Writer::add_item`] says of it, for the first vector that does not suit the index: nothing
    /// is changed then.
    ///
    /// # Cost
    /// O(dims + log items) for each; fastest with ascending ids.
    pub fn add_items(&self, wtxn: &mut RwTxn<'_>, ids: &[u32], vectors: &[f32]) -> Result<()> {
        let expected = ids.len().saturating_mul(self.spec.dims);
        if vectors.len() != expected {
            return Err(Error::VectorsShape {
                ids: ids.len(),
                dims: self.spec.dims,
                expected,
                got: vectors.len(),
            });
        }
        let rows = vectors.chunks_exact(self.spec.dims);
        let mut record = self.record(wtxn)?;
        let spec = self.spec_of(&record);
        for (row, (id, vector)) in ids.iter().zip(rows.clone()).enumerate() {
            CheckedVector::to_store(vector, spec).map_err(|error| Error::Row {
                row,
                id: *id,
                source: Box::new(error),
            })?;
        }
        // What is overwritten must be readable, and that is found out before anything is written.
        for id in ids {
            self.old(wtxn, &record, *id)?;
        }
        let mut buffers = Buffers::default();
        for (id, row) in ids.iter().zip(rows) {
            let checked = CheckedVector::to_store(row, spec)?;
            self.put_item(wtxn, &mut record, *id, &checked, &mut buffers)?;
        }
        self.put_record(wtxn, &record)
    }

    /// Deletes an item; `false` if there is none of this id.
    ///
    /// # Errors
    /// [`Error::Heed`], [`Error::MapFull`], [`Error::Corrupted`].
    ///
    /// # Cost
    /// O(dims + log items).
    pub fn del_item(&self, wtxn: &mut RwTxn<'_>, id: u32) -> Result<bool> {
        let mut record = self.record(wtxn)?;
        let mut buffers = Buffers::default();
        if !self.mark(wtxn, &mut record, id, false, &mut buffers)? {
            return Ok(false);
        }
        self.db.delete_item(wtxn, self.spec_of(&record), id)?;
        record.items = record.items.saturating_sub(1);
        self.put_record(wtxn, &record)?;
        Ok(true)
    }

    /// Deletes all items and the forest. Metric and dimensions stay, and nothing else.
    ///
    /// # Errors
    /// [`Error::Heed`], [`Error::MapFull`].
    ///
    /// # Cost
    /// O(entries of the index).
    pub fn clear(&self, wtxn: &mut RwTxn<'_>) -> Result<()> {
        let record = Record::new(self.spec_of(&self.record(wtxn)?));
        for kind in Kind::ALL {
            self.db.delete_kind(wtxn, self.spec.index, kind)?;
        }
        self.put_record(wtxn, &record)
    }

    /// Whether there is an item of this id.
    ///
    /// # Errors
    /// [`Error::IndexNotFound`], [`Error::DimensionsMismatch`] or [`Error::MetricMismatch`] if this
    /// transaction's snapshot has no index of this number, or another than the writer was opened
    /// for.
    pub fn contains_item(&self, rtxn: &RoTxn<'_>, id: u32) -> Result<bool> {
        self.record(rtxn)?;
        Ok(self.db.get(rtxn, Key::item(self.spec.index, id))?.is_some())
    }

    /// The vector of an item as it is stored (see [`Storage`]), if there is such an item.
    ///
    /// # Errors
    /// [`Error::Corrupted`] if the stored bytes are damaged.
    pub fn item_vector(&self, rtxn: &RoTxn<'_>, id: u32) -> Result<Option<Vec<f32>>> {
        let spec = self.spec_of(&self.record(rtxn)?);
        let item = self.db.item(rtxn, spec, id)?;
        item.map(|item| Ok(item.view()?.to_vector(self.spec.dims))).transpose()
    }

    /// How many items there are. O(1).
    ///
    /// # Errors
    /// [`Error::IndexNotFound`] if the index is not in this transaction's snapshot.
    pub fn len(&self, rtxn: &RoTxn<'_>) -> Result<u64> {
        self.record(rtxn).map(|record| record.items)
    }

    /// Whether there are no items. O(1).
    ///
    /// # Errors
    /// As [`Writer::len`].
    pub fn is_empty(&self, rtxn: &RoTxn<'_>) -> Result<bool> {
        self.len(rtxn).map(|len| len == 0)
    }

    /// How many items were added, overwritten or deleted since the last build. O(1).
    ///
    /// # Errors
    /// As [`Writer::len`].
    pub fn pending_len(&self, rtxn: &RoTxn<'_>) -> Result<u64> {
        self.record(rtxn).map(|record| record.pending_len())
    }

    /// How vectors are stored. O(1).
    ///
    /// # Errors
    /// As [`Writer::len`].
    pub fn storage(&self, rtxn: &RoTxn<'_>) -> Result<Storage> {
        self.record(rtxn).map(|record| record.storage())
    }

    /// Stores all vectors in another way, and drops the forest: searches compare all items until
    /// [`Writer::build`] makes it anew, in the shape it had. Returns how many vectors were
    /// converted: none if they are stored so already.
    ///
    /// What is stored now is what is converted. So `F32` to `F16` and back gives vectors of half
    /// precision. Pages that become free are used by later transactions; the file does not shrink.
    ///
    /// ```
    /// # use spinney::{heed, BuildOptions, Database, IndexOptions, Metric, Reader, Storage, Writer};
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the folder is ours alone.
    /// # let env = unsafe { heed::EnvOpenOptions::new().map_size(10 << 20).max_dbs(1).open(dir.path())? };
    /// # let db = Database::open_or_create(&env)?;
    /// # let mut wtxn = env.write_txn()?;
    /// # let writer = Writer::open_or_create(&mut wtxn, db, 0, &IndexOptions::new(2, Metric::Euclidean))?;
    /// writer.add_item(&mut wtxn, 7, &[0.1, 3.0])?;
    /// assert_eq!(writer.convert(&mut wtxn, Storage::F16)?, 1);
    /// assert_eq!(writer.item_vector(&wtxn, 7)?, Some(vec![0.099975586, 3.0]));
    /// writer.build(&mut wtxn, &BuildOptions::default())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for anything but bits under the Hamming metric; [`Error::Row`] if a
    /// vector cannot be kept, as one that would be rounded to zero under the cosine metric. The
    /// index is unchanged then. [`Error::MapFull`].
    ///
    /// # Cost
    /// Reads and writes every item: O(items x dims). A build comes on top.
    pub fn convert(&self, wtxn: &mut RwTxn<'_>, storage: Storage) -> Result<u64> {
        convert::convert(self.db, wtxn, self.record(wtxn)?, self.spec.index, storage)
    }

    /// Brings the forest up to date with the items.
    ///
    /// Everything is computed before anything is written. When a build fails or is cancelled, the
    /// index is as it was before the call, pending items included. The transaction can be
    /// committed; the next build completes the work. (When LMDB itself fails, it refuses the
    /// commit: see [`Error`]. When a temporary file fails: see [`Error::TemporaryFile`].)
    ///
    /// # Errors
    /// [`Error::Cancelled`]; [`Error::InvalidOption`]; [`Error::MapFull`]; [`Error::Corrupted`];
    /// [`Error::TemporaryFile`].
    ///
    /// # Cost
    /// In proportion to the pending changes: a fraction of a millisecond for each, and the
    /// rewriting of the leaves they touch.
    ///
    /// The forest is built anew when more than an eighth of the items changed, or these hardly fill
    /// a leaf. So it is when the options ask for another shape. That takes some tens of
    /// microseconds for each item of some hundred dimensions. An index that grows is built anew at
    /// 1,001 items, and at 2,048 if these would fill eight leaves. The budget of searches is
    /// measured then.
    ///
    /// That budget is measured again, without building anew, when a third of the items has changed
    /// since. It takes some microseconds for each change, and one build in many takes them all at
    /// once. [`BuildStats::method`] says which it was.
    pub fn build(&self, wtxn: &mut RwTxn<'_>, options: &BuildOptions<'_>) -> Result<BuildStats> {
        let spec = self.spec_of(&self.record(wtxn)?);
        indexer::build(self.db, wtxn, spec, options)
    }

    /// Measures on these queries (rows one after the other) which budget reaches which recall, and
    /// aims searches by that: for queries that are distributed unlike the items, on which a bulk
    /// build measures by itself.
    ///
    /// A thousand queries distinguish recalls that differ by a percent; those beyond 2,000 are left
    /// out. Later builds may raise the budget where items call for it, but not lower it; the next
    /// bulk build measures on items again. Returns `false` if there is nothing to measure. Then the
    /// index has no forest, or its size or metric is one for which searches do not go by
    /// measurements (see [`Nns::recall`](crate::Nns::recall)).
    ///
    /// # Cost
    /// Compares every query with every item, by all threads of the current rayon pool.
    ///
    /// # Errors
    /// [`Error::QueriesShape`] and what else [`Nns::by_vectors`](crate::Nns::by_vectors) says of
    /// vectors that do not suit the index; [`Error::Corrupted`]. The index is unchanged then.
    pub fn calibrate(&self, wtxn: &mut RwTxn<'_>, queries: &[f32]) -> Result<bool> {
        let mut record = self.record(wtxn)?;
        let spec = self.spec_of(&record);
        let mut checked = check_rows(queries, spec)?;
        checked.truncate(MAX_QUERIES);
        if record.trees == 0 || checked.is_empty() || !calibrate::applies_to(record.indexed) {
            return Ok(false);
        }
        let (lent, measured) = (&*wtxn, &record);
        let items: Vec<ItemRef<'_>> = checked.iter().map(CheckedVector::as_item).collect();
        record.calibration = calibrate::measure_on(self.db, lent, spec, measured, &items)?;
        self.db.put(wtxn, Key::record(self.spec.index), &record.to_bytes())?;
        Ok(true)
    }

    /// Rebuilds a damaged index from the items that can still be read.
    ///
    /// Nothing is done if [`Reader::verify`](crate::Reader::verify) finds nothing wrong. Else items
    /// whose bytes are not a vector of this index are deleted and named in the answer; those that
    /// were pending are counted as they are now; and the forest is built anew in the shape it had,
    /// as far as the record can be read. `options` says what the index is, because its record may
    /// be among what is damaged; it is created if it has no record.
    ///
    /// # Errors
    /// [`Error::MetricMismatch`] or [`Error::DimensionsMismatch`] if the record can be read and
    /// says otherwise; [`Error::Corrupted`] if it cannot and no item is a vector of what `options`
    /// name; else as [`Writer::build`]. After [`Error::Cancelled`] the damage is gone and with it
    /// the forest: all items that could be read are found, as pending ones, and a build completes
    /// the work. Abort the transaction to keep the index as it was.
    ///
    /// # Cost
    /// That of a verification and a bulk build.
    pub fn repair(
        wtxn: &mut RwTxn<'_>,
        db: Database,
        index: u16,
        options: &IndexOptions,
        build: &BuildOptions<'_>,
    ) -> Result<Repair> {
        repair::repair(db, wtxn, index, options, build)
    }

    /// The record, if the index is still the one this writer was opened for.
    fn record(&self, rtxn: &RoTxn<'_>) -> Result<Record> {
        self.db.record_of(rtxn, self.spec)
    }

    /// What the index is now: another writer may have converted it.
    fn spec_of(&self, record: &Record) -> IndexSpec {
        record.spec(self.spec.index)
    }

    fn put_record(&self, wtxn: &mut RwTxn<'_>, record: &Record) -> Result<()> {
        self.db.put(wtxn, Key::record(self.spec.index), &record.to_bytes())
    }

    fn put_item(
        &self,
        wtxn: &mut RwTxn<'_>,
        record: &mut Record,
        id: u32,
        vector: &CheckedVector<'_>,
        buffers: &mut Buffers,
    ) -> Result<()> {
        if !self.mark(wtxn, record, id, true, buffers)? {
            record.items = record.items.saturating_add(1).min(ALL_IDS);
        }
        let item = vector.as_item();
        write_item(&mut buffers.value, item.squared_norm, item.components);
        let key = Key::item(self.spec.index, id);
        buffers.putter.put(self.db, wtxn, key, &buffers.value)
    }

    /// Reads what there is of an id, and checks it.
    fn old<'t>(&self, rtxn: &'t RoTxn<'_>, record: &Record, id: u32) -> Result<Old<'t>> {
        let spec = self.spec_of(record);
        let (item, key) = (self.db.item(rtxn, spec, id)?, Key::pending(spec.index, id));
        if let Some(item) = &item {
            item.view()?;
        }
        // Without a mark, an item that exists is in the forest as it is.
        let mark = if record.pending > 0 { self.db.get(rtxn, key)? } else { None };
        let exists = item.is_some();
        let indexed = match mark {
            Some(bytes) => {
                let indexed = PendingRef::parse(key, bytes, spec)?.indexed;
                indexed.map(|bytes| StoredItem::whole(key, spec, bytes))
            }
            None => item.filter(|_| record.trees > 0),
        };
        Ok(Old { exists, had_mark: mark.is_some(), indexed })
    }

    /// Leaves the pending mark that adding (`is_live`) or deleting an item needs. Returns whether
    /// the item exists so far.
    ///
    /// The mark keeps the vector that the forest was built with, because the build finds the item's
    /// leaves by it. An item that the forest never held leaves no mark when it is deleted.
    fn mark(
        &self,
        wtxn: &mut RwTxn<'_>,
        record: &mut Record,
        id: u32,
        is_live: bool,
        buffers: &mut Buffers,
    ) -> Result<bool> {
        let key = Key::pending(self.spec.index, id);
        let Old { exists, had_mark, indexed } = self.old(wtxn, record, id)?;
        // Where nothing is in a forest, everything is pending, and needs no marks.
        if !record.keeps_marks() || (!exists && !is_live) {
            return Ok(exists);
        }
        // A forest that is being built from an earlier snapshot may have the item.
        if indexed.is_none() && !is_live && record.build == 0 {
            self.db.delete(wtxn, key)?;
            record.pending = record.pending.saturating_sub(1);
            return Ok(exists);
        }
        let indexed = indexed.as_ref().map(StoredItem::bytes);
        write_pending(&mut buffers.mark, &PendingRef { is_live, indexed });
        self.db.put(wtxn, key, &buffers.mark)?;
        record.pending = record.pending.saturating_add(u64::from(!had_mark)).min(ALL_IDS);
        Ok(exists)
    }
}

/// What is known of an id before it changes.
struct Old<'t> {
    /// Whether there is such an item.
    exists: bool,
    had_mark: bool,
    /// The item that the forest was built with, if it holds this id.
    indexed: Option<StoredItem<'t>>,
}

/// Values under construction, reused from item to item.
#[derive(Default)]
struct Buffers {
    value: Vec<u8>,
    mark: Vec<u8>,
    putter: ItemPutter,
}
