//! A world that moves in versions, and a check that a view of it is of one version.
//!
//! In version v the live ids are a window of [`WINDOW`] that has moved by [`STEP`] with each
//! version. One more item carries the version itself. An item is written when it enters the window
//! and again in every fortieth version. Its vector is a function of its id and of the version in
//! which it was last written. So everything a view shows follows from its version, and a view that
//! mixes two versions shows it.

use rand::RngExt;
use spinney::heed::{RoTxn, RwTxn};
use spinney::roaring::RoaringBitmap;
use spinney::{
    BuildMethod, BuildOptions, Database, Error, Hit, Index, IndexOptions, Metric, Reader, Reads,
    Writer,
};

use super::batches::Batches;
use super::{Env, Rng, clustered_row, is_close, reference, rng};

pub const DIMS: usize = 16;
/// More than the size up to which indexes are scanned exactly.
const WINDOW: u32 = 1_800;
/// Few changes in each version, so that builds after one or two are incremental.
const STEP: u32 = 20;
const OVERWRITE_EVERY: u32 = 40;
/// The id of the item that carries the version.
const STAMP: u32 = u32::MAX;

/// The ids of a version, without the stamp.
fn window(version: u32) -> std::ops::Range<u32> {
    STEP * version..STEP * version + WINDOW
}

/// The version in which an item of this version was last written.
fn written_at(id: u32, version: u32) -> u32 {
    if id == STAMP {
        return version;
    }
    let entered = if id < WINDOW { 0 } else { (id - WINDOW) / STEP + 1 };
    let since = (version + OVERWRITE_EVERY - id % OVERWRITE_EVERY) % OVERWRITE_EVERY;
    entered.max(version.saturating_sub(since))
}

fn vector(id: u32, written: u32) -> Vec<f32> {
    let mut rng = rng(u64::from(id) << 32 | u64::from(written));
    let mut vector = clustered_row(Metric::Euclidean, DIMS, &mut rng);
    if id == STAMP {
        vector[0] = written as f32;
    }
    vector
}

fn version_of(stamp: Option<Vec<f32>>) -> u32 {
    stamp.expect("the stamp exists")[0] as u32
}

/// Every item of a version, by id.
fn items(version: u32) -> impl Iterator<Item = (u32, Vec<f32>)> {
    window(version).chain([STAMP]).map(move |id| (id, vector(id, written_at(id, version))))
}

pub fn options() -> IndexOptions {
    IndexOptions::new(DIMS, Metric::Euclidean)
}

/// Writes version 0, and builds.
pub fn create(env: &Env, db: Database) -> Writer {
    let mut wtxn = env.write_txn().unwrap();
    let writer = Writer::open_or_create(&mut wtxn, db, 0, &options()).unwrap();
    fill(&writer, &mut wtxn);
    wtxn.commit().unwrap();
    writer
}

fn fill(writer: &Writer, wtxn: &mut RwTxn<'_>) {
    let (ids, rows): (Vec<u32>, Vec<Vec<f32>>) = items(0).unzip();
    writer.add_items(wtxn, &ids, &rows.concat()).unwrap();
    build(writer, wtxn);
}

/// The world in a store, as its index of number 0, and batches beside it: one for each version.
pub struct InStore {
    pub store: spinney::Store,
    pub index: Index,
    pub writer: Writer,
    pub batches: Batches,
}

impl InStore {
    /// Writes version 0, if there is none.
    pub fn new(store: spinney::Store) -> Self {
        let index = store.index("world", &options()).unwrap();
        let db = store.database();
        let writer = store.read(|txn| Writer::open(txn.as_heed(), db, index.number())).unwrap();
        let batches = Batches::new(store.clone());
        if store.read(|txn| writer.is_empty(txn.as_heed())).unwrap() {
            // Builds are the test's own.
            store.set_build_after("world", None).unwrap();
            batches.build_after(Some(60));
            let filled = store.write(|txn| {
                fill(&writer, txn.as_heed_mut());
                Ok::<_, Error>(())
            });
            filled.unwrap();
        }
        Self { store, index, writer, batches }
    }

    /// The version of the newest commit.
    pub fn version(&self) -> u32 {
        self.store.read(|txn| Ok::<_, Error>(version(&self.writer, txn.as_heed()))).unwrap()
    }

    /// Commits the next version, with a build or not, and returns it.
    pub fn advance(&self, rng: &mut Rng) -> u32 {
        let is_built = rng.random_range(0..2) == 0;
        let advanced = self.store.write(|txn| {
            let new = advance(&self.writer, txn.as_heed_mut(), rng);
            assert_eq!(self.batches.put(txn)?, new);
            if is_built {
                build(&self.writer, txn.as_heed_mut());
            }
            Ok::<_, Error>(new)
        });
        advanced.unwrap()
    }

    /// Checks the newest commit, and returns its version.
    pub fn check(&self, rng: &mut Rng) -> u32 {
        self.store.read(|txn| Ok::<_, Error>(self.check_in(txn, rng))).unwrap()
    }

    /// Checks what a snapshot or a transaction shows, and returns its version.
    pub fn check_in(&self, source: &impl Reads, rng: &mut Rng) -> u32 {
        let version = source.with_reader(&self.index, |r| Ok::<_, Error>(check(r, rng))).unwrap();
        assert_eq!(self.batches.check(source), version, "batches of another version");
        version
    }
}

pub fn build(writer: &Writer, wtxn: &mut RwTxn<'_>) -> BuildMethod {
    writer.build(wtxn, &BuildOptions::default().leaf_size(64)).unwrap().method
}

/// The version that a transaction sees.
pub fn version(writer: &Writer, rtxn: &RoTxn<'_>) -> u32 {
    version_of(writer.item_vector(rtxn, STAMP).unwrap())
}

/// Moves the world to the next version, in random order of the changes, and returns it.
pub fn advance(writer: &Writer, wtxn: &mut RwTxn<'_>, rng: &mut Rng) -> u32 {
    let old = version(writer, wtxn);
    let new = old + 1;
    let written = window(new).chain([STAMP]).filter(|id| written_at(*id, new) == new);
    let mut changes: Vec<u32> = (window(old).start..window(new).start).chain(written).collect();
    for i in (1..changes.len()).rev() {
        changes.swap(i, rng.random_range(0..=i));
    }
    for id in changes {
        if id < window(new).start {
            assert!(writer.del_item(wtxn, id).unwrap(), "item {id} is live before version {new}");
        } else {
            writer.add_item(wtxn, id, &vector(id, new)).unwrap();
        }
    }
    new
}

/// Checks that all a reader shows is of one version, and that searches keep their contract. Returns
/// the version.
pub fn check(reader: &Reader<'_>, rng: &mut Rng) -> u32 {
    let version = version_of(reader.item_vector(STAMP).unwrap());
    let expected: Vec<(u32, Vec<f32>)> = items(version).collect();
    let shown: Vec<(u32, Vec<f32>)> = reader.items().unwrap().map(Result::unwrap).collect();
    assert!(shown == expected, "version {version}: the items are not those of one version");
    assert_eq!(reader.len(), expected.len() as u64, "version {version}: the count of the record");
    if rng.random_range(0..4) == 0 {
        let found = reader.verify().unwrap();
        assert!(found.is_sound(), "version {version}: {:?}", found.violations);
    }
    assert!(reader.ids().unwrap().map(Result::unwrap).eq(expected.iter().map(|(id, _)| *id)));
    for _ in 0..4 {
        let query = clustered_row(Metric::Euclidean, DIMS, rng);
        let k = [1, 10, 50, expected.len(), expected.len() + 5][rng.random_range(0..5)];
        check_hits(&reader.nns(k).by_vector(&query).unwrap(), k, &query, &expected);
        check_hits(&reader.nns(k).search_k(50).by_vector(&query).unwrap(), k, &query, &expected);
        let exact = reader.nns(k).exact().by_vector(&query).unwrap();
        check_hits(&exact, k, &query, &expected);
        let mut distances: Vec<f64> = expected
            .iter()
            .map(|(_, vector)| reference(Metric::Euclidean, vector, &query))
            .collect();
        distances.sort_unstable_by(f64::total_cmp);
        let right = exact
            .iter()
            .zip(&distances)
            .all(|(hit, distance)| is_close(Metric::Euclidean, hit.distance.into(), *distance));
        assert!(right, "version {version}: an exact search missed a nearer item");

        // Half of the ids that ever lived, so that some of them are dead.
        let odd = rng.random_range(0..2);
        let filter: RoaringBitmap = (0..window(version).end).filter(|id| id % 2 == odd).collect();
        let admitted: Vec<(u32, Vec<f32>)> =
            expected.iter().filter(|(id, _)| filter.contains(*id)).cloned().collect();
        check_hits(&reader.nns(k).filter(&filter).by_vector(&query).unwrap(), k, &query, &admitted);
    }
    let id = window(version).start + rng.random_range(0..WINDOW);
    let others: Vec<(u32, Vec<f32>)> =
        expected.iter().filter(|(other, _)| *other != id).cloned().collect();
    check_hits(
        &reader.nns(20).by_item(id).unwrap().unwrap(),
        20,
        &vector(id, written_at(id, version)),
        &others,
    );
    if let Some(dead) = window(version).start.checked_sub(1) {
        assert!(
            reader.nns(1).by_item(dead).unwrap().is_none(),
            "version {version}: item {dead} is deleted"
        );
    }
    version
}

/// The contract of every search: min(k, matching) hits, unique, live, sorted, with exact distances.
fn check_hits(hits: &[Hit], k: usize, query: &[f32], admitted: &[(u32, Vec<f32>)]) {
    assert_eq!(hits.len(), k.min(admitted.len()), "min(k, matching items) hits");
    let is_sorted = hits.is_sorted_by(|a, b| (a.distance, a.id) < (b.distance, b.id));
    assert!(is_sorted, "sorted by (distance, id), each once");
    let unique: RoaringBitmap = hits.iter().map(|hit| hit.id).collect();
    assert_eq!(unique.len(), hits.len() as u64, "each item once");
    for hit in hits {
        let at = admitted.binary_search_by_key(&hit.id, |(id, _)| *id);
        let (_, vector) =
            &admitted[at.unwrap_or_else(|_| panic!("hit {} is dead or filtered out", hit.id))];
        let expected = reference(Metric::Euclidean, vector, query);
        assert!(
            is_close(Metric::Euclidean, hit.distance.into(), expected),
            "hit {}: {} instead of {expected}",
            hit.id,
            hit.distance
        );
    }
}

/// A reader that is kept open, with what it answered at first.
pub struct Kept<'t> {
    reader: Reader<'t>,
    pub version: u32,
    queries: Vec<Vec<f32>>,
    answers: Vec<u8>,
}

impl<'t> Kept<'t> {
    pub fn new(reader: Reader<'t>, rng: &mut Rng) -> Self {
        let queries = (0..5).map(|_| clustered_row(Metric::Euclidean, DIMS, rng)).collect();
        let version = check(&reader, rng);
        let mut kept = Self { reader, version, queries, answers: Vec::new() };
        kept.answers = kept.ask();
        kept
    }

    /// Every answer to the same questions, as bytes.
    fn ask(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for query in &self.queries {
            let searches = [
                self.reader.nns(10),
                self.reader.nns(100).search_k(1),
                self.reader.nns(5).exact(),
                self.reader.nns(9999),
            ];
            for hits in searches.map(|search| search.by_vector(query).unwrap()) {
                let pairs = hits.iter().flat_map(|hit| [hit.id, hit.distance.to_bits()]);
                bytes.extend(pairs.flat_map(u32::to_le_bytes));
            }
        }
        for item in self.reader.items().unwrap() {
            let (id, vector) = item.unwrap();
            bytes.extend(id.to_le_bytes());
            bytes.extend(vector.iter().flat_map(|x| x.to_bits().to_le_bytes()));
        }
        bytes.extend(
            format!("{:?} {:?}", self.reader.stats().unwrap(), self.reader.pending_len()).bytes(),
        );
        bytes
    }

    /// Asks again, and by a new reader of the same transaction.
    pub fn check(&self, rtxn: &'t RoTxn<'t>, db: Database) {
        assert!(
            self.ask() == self.answers,
            "version {}: a kept reader answers otherwise",
            self.version
        );
        let reader = Reader::open(rtxn, db, 0).unwrap();
        let again = Kept {
            reader,
            version: self.version,
            queries: self.queries.clone(),
            answers: Vec::new(),
        };
        assert!(
            again.ask() == self.answers,
            "version {}: a second reader answers otherwise",
            self.version
        );
    }
}
