//! Reading an index in one snapshot.

use std::cell::OnceCell;

use heed::RoTxn;
use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::format::item::ItemRef;
use crate::format::record::Record;
use crate::index_spec::IndexSpec;
use crate::kernel::simd;
use crate::key::{Key, Kind};
use crate::lmdb::database::Database;
use crate::lmdb::items::Items;
use crate::lmdb::nodes::Nodes;
use crate::lmdb::pending::Pending;
use crate::lmdb::{items, nodes};
use crate::metric::Metric;
use crate::query::{Asked, Nns};
use crate::search::brute_force::Scorer;
use crate::search::budget::DEFAULT_RECALL;
use crate::search::knn::search;
use crate::search::paged::Stream;
use crate::search::request::Request;
use crate::search::{Forest, Hit, Parts, Planted, SearchStats, Target};
use crate::vector::is_as_added;
use crate::verify::Verification;
use crate::{ids, verify};

/// An index in one snapshot of the database.
///
/// A reader borrows the transaction it was opened in and never sees another: there is no call that
/// takes a second one. It never blocks and is never blocked, and answers the same for as long as it
/// lives, whatever is committed meanwhile. Opened in a write transaction, it sees that
/// transaction's changes, and nothing can be written while it lives.
///
/// A reader belongs to one thread. To search from several, open a read transaction and a reader in
/// each.
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
    items: Items<'t>,
    record: Record,
    forest: OnceCell<Option<(Forest, Nodes<'t>)>>,
    pending: OnceCell<Pending>,
}

impl<'t> Reader<'t> {
    /// Opens an index in the snapshot of a transaction.
    ///
    /// # Cost
    /// O(1): reads one record of 1 KiB. The first search prepares what all share, O(dims +
    /// pending).
    ///
    /// # Errors
    /// [`Error::IndexNotFound`] if there is no such index in this
    /// snapshot; [`Error::FormatTooNew`];
    /// [`Error::Corrupted`];
    /// [`Error::OtherEnvironment`] if the transaction does not show
    /// the database.
    pub fn open(rtxn: &'t RoTxn<'_>, db: Database, index: u16) -> Result<Self> {
        let record = db.record(rtxn, index)?;
        let spec = record.spec(index);
        let items = Items::new(db, rtxn, spec, items::MAX_CACHED_ITEMS);
        Ok(Self { items, record, forest: OnceCell::new(), pending: OnceCell::new() })
    }

    /// Components of each vector.
    #[must_use]
    pub fn dims(&self) -> usize {
        self.items.spec.dims
    }

    /// How vectors are compared.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.items.spec.metric
    }

    /// The number of this index.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.items.spec.index
    }

    /// How many items there are. O(1).
    #[must_use]
    pub fn len(&self) -> u64 {
        self.record.items
    }

    /// Whether there are no items. O(1).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.record.items == 0
    }

    /// How many items were added, overwritten or deleted since the last build. O(1).
    ///
    /// They are found and hidden as they should be; each query compares the added ones exactly, so
    /// that many of them make queries slow until the next build.
    #[must_use]
    pub fn pending_len(&self) -> u64 {
        self.record.pending_len()
    }

    /// Whether there is an item of this id.
    ///
    /// # Errors
    /// [`Error::Heed`].
    pub fn contains_item(&self, id: u32) -> Result<bool> {
        Ok(self.items.db.get(self.items.rtxn, Key::item(self.items.spec.index, id))?.is_some())
    }

    /// The vector of an item as it was added, if there is such an item.
    ///
    /// # Errors
    /// [`Error::Corrupted`] if the stored bytes are damaged.
    pub fn item_vector(&self, id: u32) -> Result<Option<Vec<f32>>> {
        Ok(self
            .items
            .db
            .item(self.items.rtxn, self.items.spec, id)?
            .map(|item| item.to_vector(self.items.spec.dims)))
    }

    /// The ids of all items, ascending. The first error ends what can be relied on.
    /// [`Reader::id_set`] takes less.
    ///
    /// # Errors
    /// [`Error::Heed`].
    pub fn ids(&self) -> Result<impl Iterator<Item = Result<u32>> + use<'t>> {
        Ok(self
            .items
            .db
            .iter(self.items.rtxn, self.items.spec.index, Kind::Item)?
            .map(|entry| entry.map(|(key, _)| key.id())))
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
    /// O(items). It reads the lists of ids in the leaves of one tree and the pending marks. An index
    /// that was never built has no leaves: there it reads the keys of the items, and vectors of up
    /// to 2 KB lie on the pages of their keys.
    ///
    /// # Errors
    /// [`Error::Corrupted`] if a leaf or a mark is damaged, or if they do not name as many items as
    /// there are; [`Error::Heed`].
    pub fn id_set(&self) -> Result<RoaringBitmap> {
        ids::id_set(self.items.db, self.items.rtxn, self.items.spec, &self.record)
    }

    /// All items with their vectors, by ascending id. The first error ends what can be relied on.
    ///
    /// # Errors
    /// [`Error::Heed`]; an item is
    /// [`Error::Corrupted`] if its bytes are damaged.
    pub fn items(&self) -> Result<impl Iterator<Item = Result<(u32, Vec<f32>)>> + use<'t>> {
        let spec = self.items.spec;
        let entries = self.items.db.iter(self.items.rtxn, spec.index, Kind::Item)?;
        Ok(entries.map(move |entry| {
            let (key, bytes) = entry?;
            let item = ItemRef::parse(key, bytes, spec)?;
            Ok((key.id(), item.to_vector(spec.dims)))
        }))
    }

    /// Asks for the `k` nearest neighbours of what the returned builder is given.
    pub fn nns(&self, k: usize) -> Nns<'_> {
        Nns::new(self, Request::new(k, DEFAULT_RECALL))
    }

    /// Counts of entries and of the bytes of their values, by kind.
    ///
    /// # Cost
    /// Walks the whole index: O(items).
    ///
    /// # Errors
    /// [`Error::Heed`].
    pub fn stats(&self) -> Result<IndexStats> {
        let count = |kind| -> Result<(u64, u64)> {
            let mut total = (0, 0);
            for entry in self.items.db.iter(self.items.rtxn, self.items.spec.index, kind)? {
                total = (total.0 + 1, total.1 + entry?.1.len() as u64);
            }
            Ok(total)
        };
        let (items, item_bytes) = count(Kind::Item)?;
        let (_, pending_bytes) = count(Kind::Pending)?;
        let (leaves, leaf_bytes) = count(Kind::Leaf)?;
        let (branches, branch_bytes) = count(Kind::Branch)?;
        Ok(IndexStats {
            items,
            pending: self.pending_len(),
            trees: usize::from(self.record.trees),
            spill: self.record.spill == 1,
            leaf_size: self.record.leaf_size as usize,
            sketch_bits: self.record.sketch_bits,
            branch_bits: self.record.branch_bits,
            leaves,
            branches,
            item_bytes,
            pending_bytes,
            leaf_bytes,
            branch_bytes,
        })
    }

    /// Reads the whole index and reports every invariant that does not hold, as data: see
    /// [`Verification`].
    ///
    /// Every item must be in exactly the leaves it should be in, and no other; every node must be
    /// reached once from the root of its tree; counts, pending marks and free ids must be right;
    /// every sketch must be what encoding the stored vector gives; and the origin and all nodes
    /// must have the bytes that were written. [`Writer::repair`](crate::Writer::repair) mends what
    /// can be mended.
    ///
    /// # Cost
    /// Encodes every entry of the forest again: some microseconds for each item.
    ///
    /// # Errors
    /// [`Error::Heed`]. Damage is no error but a violation, unless it is the
    /// record that is damaged: then [`Reader::open`] says so.
    pub fn verify(&self) -> Result<Verification> {
        verify::verify(self.items.db, self.items.rtxn, self.items.spec, &self.record)
    }

    fn target(&self) -> Target<'_, 't> {
        Target { items: &self.items, record: &self.record, simd: simd::detect() }
    }

    fn read_forest(&self) -> Result<Option<(Forest, Nodes<'t>)>> {
        if self.record.trees == 0 {
            return Ok(None);
        }
        let spec = (self.items.db, self.items.rtxn, self.items.spec);
        let forest = Forest::read(spec.0, spec.1, spec.2, &self.record)?;
        let nodes = forest.nodes(spec, nodes::MAX_CACHED_NODES);
        Ok(Some((forest, nodes)))
    }
}

impl<'t> Parts<'t> for Reader<'t> {
    fn planted(&self) -> Result<Option<Planted<'_, 't>>> {
        let planted = get_or_try(&self.forest, || self.read_forest())?;
        Ok(planted.as_ref().map(|(forest, nodes)| Planted { forest, nodes }))
    }

    fn pending(&self) -> Result<&Pending> {
        get_or_try(&self.pending, || match self.record.pending {
            0 => Ok(Pending::default()),
            _ => Pending::read(self.items.db, self.items.rtxn, self.items.spec),
        })
    }
}

impl Asked for Reader<'_> {
    fn spec(&self) -> IndexSpec {
        self.items.spec
    }

    fn item(&self, id: u32) -> Result<Option<ItemRef<'_>>> {
        let (item, spec) = (self.items.find(id)?, self.items.spec);
        // It becomes a query. What is wrong with it would be said of the items it is compared with.
        match item.is_none_or(|item| is_as_added(&item, spec.metric)) {
            true => Ok(item),
            false => Err(Error::corrupted(
                Key::item(spec.index, id),
                "the norm of the item is not that of its components",
            )),
        }
    }

    fn compare(&self, query: ItemRef<'_>, id: u32) -> Result<Hit> {
        let measure = Scorer { spec: self.items.spec, simd: simd::detect(), query };
        Ok(measure.rank(id, &self.items.get(id)?)?.into_hit(self.items.spec.metric))
    }

    fn search(&self, query: ItemRef<'_>, request: &Request<'_>) -> Result<(Vec<Hit>, SearchStats)> {
        search(self.target(), self, query, request)
    }

    fn next(&self, stream: &mut Stream, request: &Request<'_>, count: usize) -> Result<Vec<Hit>> {
        stream.next(self.target(), self, request, count)
    }
}

fn get_or_try<T>(cell: &OnceCell<T>, read: impl FnOnce() -> Result<T>) -> Result<&T> {
    match cell.get() {
        Some(value) => Ok(value),
        None => {
            let value = read()?;
            Ok(cell.get_or_init(|| value))
        }
    }
}

/// What an index is made of: see [`Reader::stats`]. Bytes are those of the values, without keys and
/// unused page space.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct IndexStats {
    /// Items.
    pub items: u64,
    /// Items added, overwritten or deleted since the last build.
    pub pending: u64,
    /// Trees of the forest; 0 if it was never built.
    pub trees: usize,
    /// Whether each item is in a second leaf of each tree.
    pub spill: bool,
    /// Entries a leaf holds at most.
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
