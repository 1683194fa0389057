//! Reading an index in one transaction.

use heed::RoTxn;
use roaring::RoaringBitmap;

use crate::error::Result;
use crate::key::{Key, Kind, trees_of};
use crate::lmdb::database::{Database, Entries};
use crate::lmdb::view::View;
use crate::metric::Metric;
use crate::query::Nns;
use crate::search::session::Session;
use crate::storage::Storage;
use crate::verify::Verification;
use crate::warm::Warmed;
use crate::{ids, verify, warm};

/// An index in one snapshot of the database.
///
/// A reader borrows the transaction it was opened in, and reads in no other. It neither blocks nor
/// waits. It answers the same for as long as it lives, whatever is committed meanwhile. In a write
/// transaction it sees that transaction's changes, and nothing can be written while it lives.
///
/// A reader belongs to one thread. To search from several, open a read transaction and a reader in
/// each, or use a [`Snapshot`](crate::Snapshot).
///
/// ```
/// # use spinney::{heed, Database, IndexOptions, Metric, Reader, Writer};
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the folder is ours alone.
/// # let env = unsafe { heed::EnvOpenOptions::new().map_size(10 << 20).max_dbs(1).open(dir.path())? };
/// # let db = Database::open_or_create(&env)?;
/// # let mut wtxn = env.write_txn()?;
/// # let writer = Writer::open_or_create(&mut wtxn, db, 0, &IndexOptions::new(2, Metric::Euclidean))?;
/// # writer.add_items(&mut wtxn, &[1, 2, 3], &[0.0, 0.0, 3.0, 4.0, 9.0, 9.0])?;
/// # wtxn.commit()?;
/// let rtxn = env.read_txn()?;
/// let reader = Reader::open(&rtxn, db, 0)?;
/// let hits = reader.nns(2).by_vector(&[0.0, 0.0])?;
/// assert_eq!((hits[0].id, hits[0].distance), (1, 0.0));
/// assert_eq!((hits[1].id, hits[1].distance), (2, 5.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A transaction cannot end, nor write, while a reader of it lives:
///
/// ```compile_fail
/// # use spinney::{heed, Database, Reader, Writer};
/// fn misuse(db: Database, writer: Writer, mut wtxn: heed::RwTxn) {
///     let reader = Reader::open(&wtxn, db, 0).unwrap();
///     writer.del_item(&mut wtxn, 1).unwrap();
///     reader.nns(1);
/// }
/// ```
pub struct Reader<'t> {
    session: Session<'t>,
}

impl<'t> Reader<'t> {
    /// Opens an index in a transaction.
    ///
    /// # Cost
    /// O(1): reads one record of 1 KiB. The first search also reads what all searches share:
    /// O(dims + pending).
    ///
    /// # Errors
    /// [`Error::IndexNotFound`](crate::Error::IndexNotFound) if there is no such index in this
    /// snapshot; [`Error::FormatTooNew`](crate::Error::FormatTooNew);
    /// [`Error::Corrupted`](crate::Error::Corrupted);
    /// [`Error::OtherEnvironment`](crate::Error::OtherEnvironment) if the transaction is of another
    /// environment than the database.
    pub fn open(rtxn: &'t RoTxn<'_>, db: Database, index: u16) -> Result<Self> {
        let record = db.record(rtxn, index)?;
        let spec = record.spec(index);
        Ok(Self { session: Session::new(View::new(db, rtxn, spec), record) })
    }

    /// Components of each vector.
    #[must_use]
    pub fn dims(&self) -> usize {
        self.session.spec().dims
    }

    /// How vectors are compared.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.session.spec().metric
    }

    /// How vectors are stored.
    #[must_use]
    pub fn storage(&self) -> Storage {
        self.session.spec().storage
    }

    /// The number of this index.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.session.spec().index
    }

    /// How many items there are. O(1).
    #[must_use]
    pub fn len(&self) -> u64 {
        self.session.record.items
    }

    /// Whether there are no items. O(1).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.session.record.items == 0
    }

    /// How many items were added, overwritten or deleted since the last build. O(1).
    ///
    /// Searches see all these changes. They compare each added item exactly, so many of them make
    /// searches slow until the next build.
    #[must_use]
    pub fn pending_len(&self) -> u64 {
        self.session.record.pending_len()
    }

    /// Whether there is an item of this id.
    ///
    /// # Errors
    /// [`Error::Heed`](crate::Error::Heed).
    pub fn contains_item(&self, id: u32) -> Result<bool> {
        Ok(self.session.view().get(Key::item(self.index(), id))?.is_some())
    }

    /// The vector of an item as it is stored (see [`Storage`]); `None` if there is no such item.
    ///
    /// # Errors
    /// [`Error::Corrupted`](crate::Error::Corrupted) if the stored bytes are damaged.
    pub fn item_vector(&self, id: u32) -> Result<Option<Vec<f32>>> {
        self.session
            .view()
            .item(id)?
            .map(|item| Ok(item.view()?.to_vector(self.dims())))
            .transpose()
    }

    /// The ids of all items, ascending. Do not rely on what follows an error. [`Reader::id_set`] is
    /// faster.
    ///
    /// # Errors
    /// [`Error::Heed`](crate::Error::Heed).
    pub fn ids(&self) -> Result<impl Iterator<Item = Result<u32>> + use<'t>> {
        self.session.view().ids()
    }

    /// The ids of all items as a bitmap, without touching the pages of their vectors.
    ///
    /// ```
    /// # use spinney::{heed, Database, IndexOptions, Metric, Reader, Writer};
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the folder is ours alone.
    /// # let env = unsafe { heed::EnvOpenOptions::new().map_size(10 << 20).max_dbs(1).open(dir.path())? };
    /// # let db = Database::open_or_create(&env)?;
    /// # let mut wtxn = env.write_txn()?;
    /// # let writer = Writer::open_or_create(&mut wtxn, db, 0, &IndexOptions::new(1, Metric::Euclidean))?;
    /// # writer.add_items(&mut wtxn, &[1, 2, 3], &[1.0, 2.0, 3.0])?;
    /// let reader = Reader::open(&wtxn, db, 0)?;
    /// let others = reader.id_set()? - spinney::roaring::RoaringBitmap::from([2]);
    /// assert_eq!(reader.nns(1).filter(&others).by_vector(&[2.2])?[0].id, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cost
    /// O(items). It reads the lists of ids in the leaves of one tree, and the pending marks. If the
    /// index was never built, it reads the keys of all items. Then it does touch the pages of
    /// vectors of up to 2 KB: they lie beside their keys.
    ///
    /// # Errors
    /// [`Error::Corrupted`](crate::Error::Corrupted) if a leaf or a mark is damaged, or if they
    /// name another number of items than the record; [`Error::Heed`](crate::Error::Heed).
    pub fn id_set(&self) -> Result<RoaringBitmap> {
        ids::id_set(self.session.view(), &self.session.record)
    }

    /// All items with their vectors, by ascending id. Do not rely on what follows an error.
    ///
    /// # Errors
    /// [`Error::Heed`](crate::Error::Heed); an item is
    /// [`Error::Corrupted`](crate::Error::Corrupted) if its bytes are damaged.
    pub fn items(&self) -> Result<impl Iterator<Item = Result<(u32, Vec<f32>)>> + use<'t>> {
        let spec = self.session.spec();
        let (entries, mut joined) = (self.session.view().items()?, Vec::new());
        Ok(entries.map(move |entry| {
            let (key, bytes) = entry?;
            let item = bytes.view(key, spec, &mut joined)?;
            Ok((key.id(), item.to_vector(spec.dims)))
        }))
    }

    pub(crate) fn session(&self) -> &Session<'t> {
        &self.session
    }

    /// Starts a search for `k` nearest neighbours: the builder takes the options and the query.
    pub fn nns(&self, k: usize) -> Nns<'_> {
        Nns::new(&self.session, k)
    }

    /// What the index is made of: counts, bytes and options.
    ///
    /// # Cost
    /// Reads the whole index: O(items).
    ///
    /// # Errors
    /// [`Error::Heed`](crate::Error::Heed).
    pub fn stats(&self) -> Result<IndexStats> {
        let view = self.session.view();
        let count = |mut entries: Entries<'_>| {
            entries.try_fold((0, 0), |(count, bytes), entry| {
                entry.map(|(_, value)| (count + 1, bytes + value.len() as u64))
            })
        };
        let trees = trees_of(self.session.record.generation);
        let (mut items, mut item_bytes) = (0, 0);
        for entry in view.items()? {
            (items, item_bytes) = (items + 1, item_bytes + entry?.1.len() as u64);
        }
        let (_, pending_bytes) = count(view.iter(Kind::Pending)?)?;
        let (leaves, leaf_bytes) = count(view.iter_trees(Kind::Leaf, &trees)?)?;
        let (branches, branch_bytes) = count(view.iter_trees(Kind::Branch, &trees)?)?;
        Ok(IndexStats {
            items,
            pending: self.pending_len(),
            trees: usize::from(self.session.record.trees),
            spill: self.session.record.spill == 1,
            leaf_size: self.session.record.leaf_size as usize,
            sketch_bits: self.session.record.sketch_bits,
            branch_bits: self.session.record.branch_bits,
            leaves,
            branches,
            item_bytes,
            pending_bytes,
            leaf_bytes,
            branch_bytes,
        })
    }

    /// Reads the forest and the first items into the memory of the system, so that first searches
    /// need not wait for the disk. `max_item_bytes` is for the items, in the order of their ids.
    ///
    /// The forest is a small part of the file, and searches need most of it: 0 bytes of items is a
    /// good choice where the file is larger than memory. The system may drop what was read when
    /// memory becomes scarce.
    ///
    /// ```
    /// # use spinney::{heed, BuildOptions, Database, IndexOptions, Metric, Reader, Writer};
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the folder is ours alone.
    /// # let env = unsafe { heed::EnvOpenOptions::new().map_size(10 << 20).max_dbs(1).open(dir.path())? };
    /// # let db = Database::open_or_create(&env)?;
    /// # let mut wtxn = env.write_txn()?;
    /// # let writer = Writer::open_or_create(&mut wtxn, db, 0, &IndexOptions::new(2, Metric::Euclidean))?;
    /// # writer.add_items(&mut wtxn, &[1, 2, 3], &[0.0, 0.0, 3.0, 4.0, 9.0, 9.0])?;
    /// # writer.build(&mut wtxn, &BuildOptions::default())?;
    /// # wtxn.commit()?;
    /// let rtxn = env.read_txn()?;
    /// let reader = Reader::open(&rtxn, db, 0)?;
    /// let warmed = reader.warm(64)?;
    /// assert_eq!(warmed.leaf_bytes, reader.stats()?.leaf_bytes);
    /// assert_eq!(warmed.item_bytes, 64); // two items of 32 bytes
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cost
    /// Reads these bytes once, a few hundred values at a time.
    ///
    /// # Errors
    /// [`Error::Heed`](crate::Error::Heed); [`Error::Corrupted`](crate::Error::Corrupted) for a key
    /// of somebody else.
    pub fn warm(&self, max_item_bytes: u64) -> Result<Warmed> {
        warm::warm(self.session.view(), &self.session.record, max_item_bytes)
    }

    /// Reads the whole index and reports every invariant that does not hold, as data: see
    /// [`Verification`].
    ///
    /// - Every item is in exactly the leaves it belongs to.
    /// - Every node is reached once from the root of its tree.
    /// - Counts, pending marks and free ids are right.
    /// - Every sketch is what encoding the stored vector gives.
    /// - The origin and all nodes have the bytes that were written.
    ///
    /// [`Writer::repair`](crate::Writer::repair) repairs what can be repaired.
    ///
    /// # Cost
    /// Encodes every entry of the forest again: some microseconds for each item.
    ///
    /// # Errors
    /// [`Error::Heed`](crate::Error::Heed). Damage is reported as a violation. Only a damaged
    /// record is an error, of [`Reader::open`].
    pub fn verify(&self) -> Result<Verification> {
        verify::verify(self.session.view(), &self.session.record)
    }
}

/// What an index is made of: see [`Reader::stats`]. Bytes are those of the values alone, without
/// keys and unused space of pages.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct IndexStats {
    /// Items.
    pub items: u64,
    /// Items added, overwritten or deleted since the last build.
    pub pending: u64,
    /// Trees of the forest; 0 if the index was never built.
    pub trees: usize,
    /// Whether each item is in a second leaf of each tree.
    pub spill: bool,
    /// The largest number of entries in a leaf.
    pub leaf_size: usize,
    /// Bits per dimension of leaf sketches.
    pub sketch_bits: u8,
    /// Bits per dimension of branch sketches.
    pub branch_bits: u8,
    /// Leaves in all trees.
    pub leaves: u64,
    /// Branches in all trees.
    pub branches: u64,
    /// Bytes of the items.
    pub item_bytes: u64,
    /// Bytes of the pending marks.
    pub pending_bytes: u64,
    /// Bytes of the leaves.
    pub leaf_bytes: u64,
    /// Bytes of the branches.
    pub branch_bytes: u64,
}
