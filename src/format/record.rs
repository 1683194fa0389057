//! The index record: what an index is, in 1,024 bytes.

use bytemuck::{Pod, Zeroable};

use crate::error::{Error, Result};
use crate::format::checksum::check_of;
use crate::format::{CHANGES_PER_REFRESH, FORMAT_VERSION};
use crate::index_spec::IndexSpec;
use crate::key::{Key, tree_byte};
use crate::limits::{DIMS, LEAF_SIZES, TREES, is_sketch_bits};
use crate::metric::Metric;
use crate::storage::Storage;

/// The version since which forests and calibrations are as they are now.
const FOREST_SINCE: u16 = 2;

/// The first bytes of every index record.
pub(crate) const MAGIC: [u8; 8] = *b"spinney\0";

/// Where a tree starts, how many nodes it has, and which node ids it has not used yet.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct TreeRecord {
    pub(crate) root: u32,
    pub(crate) height: u32,
    pub(crate) next_leaf: u32,
    pub(crate) next_branch: u32,
    pub(crate) leaves: u32,
    pub(crate) branches: u32,
    /// The leaf from which the next build goes on refreshing centroids.
    pub(crate) refresh_next: u32,
    reserved: u32,
}

/// The index record, field by field as in the specification of [`format`](super).
#[derive(Copy, Clone, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Record {
    magic: [u8; 8],
    version: u16,
    metric: u8,
    storage: u8,
    dims: u32,
    pub(crate) items: u64,
    pub(crate) pending: u64,
    pub(crate) indexed: u64,
    pub(crate) seed: u64,
    pub(crate) trees: u8,
    pub(crate) spill: u8,
    pub(crate) sketch_bits: u8,
    pub(crate) branch_bits: u8,
    pub(crate) leaf_size: u32,
    /// Changes since centroids were refreshed last.
    pub(crate) unrefreshed: u32,
    pub(crate) shape_trees: u8,
    /// 1 if the user chose the leaf size.
    pub(crate) is_leaf_size_asked: u8,
    /// Of the forest that searches see: 0 or 1.
    pub(crate) generation: u8,
    /// 1 if there may be nodes of the other generation.
    pub(crate) has_remains: u8,
    pub(crate) tree: [TreeRecord; TREES.high],
    pub(crate) calibration: Calibration,
    /// LMDB's number of the transaction that began the build in several commits that is under way;
    /// 0 if none is.
    pub(crate) build: u64,
    reserved: [u64; 3],
    /// Written by [`Record::to_bytes`]; 0 in memory.
    check: u64,
}

/// What reaches a recall: the confidence with which searches end (see [`format`](super)), and
/// vectors to compare exactly. Then the entries that searches have looked at by then on average. An
/// infinite confidence: the forest does not reach it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct OperatingPoint {
    pub(crate) confidence: f32,
    pub(crate) rerank: u32,
    pub(crate) entries: u32,
}

impl OperatingPoint {
    /// What the forest does not reach.
    pub(crate) const OUT_OF_REACH: Self =
        Self { confidence: f32::INFINITY, rerank: u32::MAX, entries: u32::MAX };
}

/// Numbers of neighbours that calibration measures, and the most that it does: one in so many
/// items.
const CALIBRATED_KS: [usize; 4] = [1, 10, 100, 1000];
const ITEMS_PER_NEIGHBOUR: u64 = 8;
/// Recalls that calibration measures.
pub(crate) const CALIBRATED_RECALLS: [f64; 8] = [0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995];
/// A correction of 1.
pub(crate) const NO_CORRECTION: u32 = 1024;

/// Whose queries a calibration asked: items.
pub(crate) const OF_ITEMS: u32 = 0;
/// Those of the user, of which nearly none lay far outside of all leaves.
pub(crate) const OF_USER: u32 = 1;
/// Those of the user, of which some lay far outside: what these take was measured.
pub(crate) const OF_USER_OUTSIDE: u32 = 2;

/// What it takes to reach which recall, as measured.
#[derive(Copy, Clone, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Calibration {
    /// Items in the forest that was measured; 0 if none was.
    pub(crate) items: u64,
    pub(crate) queries: u32,
    /// [`OF_ITEMS`], [`OF_USER`] or [`OF_USER_OUTSIDE`].
    pub(crate) source: u32,
    /// What the confidence is multiplied with since later builds looked again, in 1,024ths; 0 if
    /// none did.
    pub(crate) correction: u32,
    /// Changes that builds have followed since it was measured.
    pub(crate) changes: u32,
    pub(crate) points: [[OperatingPoint; CALIBRATED_RECALLS.len()]; CALIBRATED_KS.len()],
}

/// The largest part of so many items that can be asked for by a measurement.
pub(crate) fn most_measured(items: u64) -> u64 {
    items / ITEMS_PER_NEIGHBOUR
}

/// The numbers of neighbours that a calibration of so many items measures.
pub(crate) fn calibrated_ks(items: u64) -> [usize; CALIBRATED_KS.len()] {
    let most = usize::try_from(most_measured(items)).unwrap_or(usize::MAX);
    let mut ks = CALIBRATED_KS;
    let last = ks.len() - 1;
    ks[last] = ks[last].min(most).max(ks[last - 1] + 1);
    ks
}

impl Calibration {
    /// The numbers of neighbours that were measured.
    pub(crate) fn ks(&self) -> [usize; CALIBRATED_KS.len()] {
        calibrated_ks(self.items)
    }

    /// Whether the user's own queries were asked.
    pub(crate) fn is_of_user(&self) -> bool {
        self.source != OF_ITEMS
    }

    fn is_valid(&self) -> bool {
        self.items <= ALL_IDS
            && self.source <= OF_USER_OUTSIDE
            && self.points.as_flattened().iter().all(|point| point.confidence >= 0.0)
    }

    /// What the confidence is multiplied with, in 1,024ths.
    pub(crate) fn correction(&self) -> u32 {
        if self.correction == 0 { NO_CORRECTION } else { self.correction }
    }
}

pub(crate) const RECORD_BYTES: usize = size_of::<Record>();
const _: () = assert!(RECORD_BYTES == 1024);
/// Where the check is.
const CHECK: usize = RECORD_BYTES - 8;

/// How many ids there are. No count of a record goes beyond, or the record could not be read again.
pub(crate) const ALL_IDS: u64 = 1 << 32;
/// A forest cannot be higher: a branch has at least two children but for the root.
pub(crate) const MAX_HEIGHT: u32 = 32;

impl Record {
    /// The record of an index without items.
    #[expect(clippy::cast_possible_truncation, reason = "a checked number of dimensions")]
    pub(crate) fn new(spec: IndexSpec) -> Self {
        let mut record = Self::zeroed();
        record.magic = MAGIC;
        record.version = FORMAT_VERSION;
        record.metric = spec.metric.to_byte();
        record.storage = spec.storage.to_byte();
        record.dims = spec.dims as u32;
        record
    }

    /// The metric; a record of an unknown one is not read.
    pub(crate) fn metric(&self) -> Metric {
        Metric::from_byte(self.metric).unwrap_or(Metric::Euclidean)
    }

    pub(crate) fn dims(&self) -> usize {
        self.dims as usize
    }

    /// How vectors are stored; a record of an unknown storage is not read.
    pub(crate) fn storage(&self) -> Storage {
        Storage::from_byte(self.storage).unwrap_or_default()
    }

    /// What the index of this number is.
    pub(crate) fn spec(&self, index: u16) -> IndexSpec {
        let (dims, metric) = (self.dims(), self.metric());
        IndexSpec { index, dims, metric, storage: self.storage() }
    }

    /// The bytes that are stored.
    pub(crate) fn to_bytes(self) -> [u8; RECORD_BYTES] {
        let mut bytes: [u8; RECORD_BYTES] = bytemuck::cast(self);
        let check = check_of(&bytes[..CHECK]).to_le_bytes();
        bytes[CHECK..].copy_from_slice(&check);
        bytes
    }

    /// Reads and checks a record. Costs the same whatever the size of the index.
    pub(crate) fn parse(key: Key, bytes: &[u8]) -> Result<Self> {
        let bad = |what| Error::corrupted(key, what);
        if bytes.get(..8) != Some(&MAGIC) {
            return Err(bad("an index record starts with the bytes \"spinney\\0\""));
        }
        // The version comes before all the rest: a later format may have another length.
        let version = bytes.get(8..10).and_then(|v| v.try_into().ok()).map(u16::from_le_bytes);
        let version = version.ok_or_else(|| bad("an index record is 1024 bytes long"))?;
        if version > FORMAT_VERSION {
            return Err(Error::FormatTooNew { found: version, supported: FORMAT_VERSION });
        }
        let bytes: &[u8; RECORD_BYTES] =
            bytes.try_into().map_err(|_| bad("an index record is 1024 bytes long"))?;
        let record: Self = bytemuck::pod_read_unaligned(bytes);
        if record.check != check_of(&bytes[..CHECK]) {
            return Err(bad("the check of an index record is not that of its bytes"));
        }
        let mut record = Self { check: 0, ..record };
        record.version = FORMAT_VERSION;
        if version < FOREST_SINCE {
            // Its forest has no checks, and what it measured says nothing to this version. The
            // items are all there. It knew no generations.
            record = record.without_forest().settled();
            record.generation = 0;
        }
        let spec = record.spec(key.index());
        let checks = [
            (version > 0, "format version 0 was never written"),
            (Metric::from_byte(record.metric).is_some(), "unknown metric"),
            (Storage::from_byte(record.storage).is_some(), "unknown storage"),
            (spec.storage.suits(spec.metric), "the storage does not fit the metric"),
            (DIMS.contains(spec.dims), "dims out of range"),
            (record.items.max(record.indexed) <= ALL_IDS, "more items than there are ids"),
            (record.pending <= ALL_IDS, "more pending marks than there are ids"),
            (
                usize::from(record.trees.max(record.shape_trees)) <= TREES.high,
                "more trees than a forest can have",
            ),
            (
                record.tree.iter().all(|tree| tree.height <= MAX_HEIGHT),
                "a tree is higher than a tree can be",
            ),
            (record.trees > 0 || record.indexed == 0, "items are in a forest without trees"),
            (
                record.keeps_marks() || record.pending == 0,
                "there are pending marks, and neither a forest nor a build",
            ),
            (
                record.generation <= 1 && record.has_remains <= 1,
                "the flags of the generation are neither 0 nor 1",
            ),
            (
                record.build == 0 || record.has_remains == 1,
                "a build in several commits is under way, and may have no nodes",
            ),
            (
                record.unrefreshed < CHANGES_PER_REFRESH,
                "more changes wait for refreshed centroids than a build leaves",
            ),
            (record.trees == 0 || record.trees == record.shape_trees, "two numbers of trees"),
            (record.calibration.is_valid(), "the calibration of the forest is out of range"),
            (
                record.shape_trees == 0 || record.has_valid_shape(),
                "the shape of the forest is out of range",
            ),
        ];
        match checks.into_iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(bad(what)),
            None => Ok(record),
        }
    }

    fn has_valid_shape(&self) -> bool {
        let is_size = LEAF_SIZES.contains(self.leaf_size as usize) && self.is_leaf_size_asked <= 1;
        let has_bits = is_sketch_bits(self.sketch_bits) && is_sketch_bits(self.branch_bits);
        has_bits && self.spill <= 1 && is_size
    }

    /// How many items searches compare without the forest, or hide from it.
    pub(crate) fn pending_len(&self) -> u64 {
        if self.trees == 0 { self.items } else { self.pending }
    }

    /// Whether what changes gets a pending mark: there is a forest, or one is being built from an
    /// earlier snapshot.
    pub(crate) fn keeps_marks(&self) -> bool {
        self.trees > 0 || self.build != 0
    }

    /// The generation that searches do not see.
    pub(crate) fn other_generation(&self) -> u8 {
        1 - self.generation.min(1)
    }

    /// Notes that a build in several commits begins, in a transaction of this number.
    pub(crate) fn begin_build(&mut self, txn: u64) {
        (self.build, self.has_remains) = (txn, 1);
    }

    /// This index without a build in several commits, and without what one leaves behind.
    pub(crate) fn settled(&self) -> Self {
        Self { build: 0, has_remains: 0, ..*self }
    }

    /// The same index without its forest, of which the options are kept.
    pub(crate) fn without_forest(mut self) -> Self {
        (self.trees, self.indexed, self.pending) = (0, 0, 0);
        (self.tree, self.unrefreshed, self.calibration) = Default::default();
        self
    }

    /// Takes over the options of another record's forest, but not the forest.
    pub(crate) fn take_shape(&mut self, other: &Self) {
        (self.shape_trees, self.seed, self.spill) = (other.shape_trees, other.seed, other.spill);
        (self.leaf_size, self.is_leaf_size_asked) = (other.leaf_size, other.is_leaf_size_asked);
        (self.sketch_bits, self.branch_bits) = (other.sketch_bits, other.branch_bits);
    }

    /// The trees of the forest, each with its byte in keys.
    pub(crate) fn trees(&self) -> impl Iterator<Item = (u8, &TreeRecord)> {
        (0..self.trees).map(|number| tree_byte(self.generation, number)).zip(&self.tree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key::record(3);
    const SPEC: IndexSpec = IndexSpec::plain(3, 384, Metric::Cosine);

    #[test]
    fn a_new_record_is_read_back() {
        for metric in Metric::ALL {
            for storage in Storage::ALL.into_iter().filter(|storage| storage.suits(metric)) {
                let spec = IndexSpec { metric, storage, ..SPEC };
                let record = Record::new(spec);
                let read = Record::parse(KEY, &record.to_bytes()).unwrap();
                assert_eq!((read, read.spec(3)), (record, spec));
            }
        }
    }

    #[test]
    fn an_earlier_version_is_one_without_a_forest() {
        let mut old = Record::new(SPEC);
        (old.version, old.items, old.indexed, old.pending) = (1, 10, 9, 1);
        (old.trees, old.shape_trees, old.sketch_bits, old.branch_bits, old.leaf_size) =
            (1, 1, 1, 2, 256);
        old.calibration.items = 9;
        // It had other numbers where the generation and the build are now.
        (old.generation, old.has_remains, old.build) = (9, 9, u64::MAX);
        let read = Record::parse(KEY, &old.to_bytes()).unwrap();
        assert_eq!(
            (read.version, read.items, read.pending_len(), read.shape_trees),
            (FORMAT_VERSION, 10, 10, 1)
        );
        assert_eq!((read.trees, read.indexed, read.calibration), (0, 0, Calibration::default()));
    }

    #[test]
    fn no_bytes_make_it_panic_and_changed_ones_are_refused() {
        let good = Record::new(SPEC).to_bytes();
        for len in 0..RECORD_BYTES {
            assert!(Record::parse(KEY, &good[..len]).is_err());
        }
        for position in 0..RECORD_BYTES {
            for value in [0x01, 0x80, 0xFF] {
                let mut bytes = good.to_vec();
                bytes[position] ^= value;
                assert!(Record::parse(KEY, &bytes).is_err(), "byte {position}");
            }
        }
        let mut newer = good.to_vec();
        newer[8] = 4;
        newer.extend([0; 32]);
        assert!(matches!(
            Record::parse(KEY, &newer),
            Err(Error::FormatTooNew { found: 4, supported: 3 })
        ));
    }
}
