//! `Reader::id_set` is `Reader::ids` in one bitmap, whatever happened; damage is an error.
#![allow(clippy::unwrap_used)]

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use spinney::heed::types::Bytes;
use spinney::heed::{self, CommitOrAbort, EnvOpenOptions, RoTxn, RwTxn, WithoutTls};
use spinney::roaring::RoaringBitmap;
use spinney::{BuildOptions, Database, Error, IndexOptions, Metric, Reader, Writer};
use tempfile::TempDir;

type Table = heed::Database<'static, Bytes, Bytes>;

struct Store {
    _dir: TempDir,
    env: heed::Env<WithoutTls>,
    db: Database,
}

impl Store {
    #[expect(unsafe_code, reason = "opening a memory map")]
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        // SAFETY: the folder is new, and nothing else opens it.
        let env = unsafe { options.map_size(1 << 30).max_dbs(1).open(dir.path()) }.unwrap();
        let db = Database::open_or_create(&env).unwrap();
        Self { _dir: dir, env, db }
    }

    fn raw(&self) -> Table {
        let rtxn = self.env.read_txn().unwrap();
        let opened = self.env.open_databases_and_commit(rtxn, |opener, rtxn| {
            let table = opener.open_database(rtxn, Some("spinney"))?;
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(table))
        });
        opened.unwrap().unwrap_commit().unwrap()
    }
}

fn check(rtxn: &RoTxn<'_>, db: Database, index: u16) {
    let reader = Reader::open(rtxn, db, index).unwrap();
    let ids: Result<RoaringBitmap, Error> = reader.ids().unwrap().collect();
    assert_eq!(reader.id_set().unwrap(), ids.unwrap());
}

fn random_vector(rng: &mut Xoshiro256PlusPlus, dims: usize) -> Vec<f32> {
    (0..dims).map(|_| f32::from(u8::from(rng.random::<bool>()))).chain([1.0]).take(dims).collect()
}

/// Adds, overwrites and deletes items at random, in two indexes side by side.
fn change(
    store: &Store,
    writers: &[Writer; 2],
    rng: &mut Xoshiro256PlusPlus,
    wtxn: &mut RwTxn<'_>,
) {
    for _ in 0..rng.random_range(0..400) {
        let writer = &writers[rng.random_range(0..2)];
        let id = rng.random_range(0..3_000) * [1, 70_001][rng.random_range(0..2)];
        if rng.random_range(0..3) == 0 {
            writer.del_item(wtxn, id).unwrap();
        } else {
            let mut vector = random_vector(rng, writer.dims());
            vector[0] = 1.0;
            writer.add_item(wtxn, id, &vector).unwrap();
        }
    }
    check(wtxn, store.db, 0);
    check(wtxn, store.db, 1);
}

#[test]
fn the_set_is_that_of_the_ids_after_any_changes() {
    let metrics = [Metric::Euclidean, Metric::Cosine, Metric::DotProduct, Metric::Hamming];
    for (seed, metric) in (0..).zip(metrics) {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let store = Store::new();
        let mut wtxn = store.env.write_txn().unwrap();
        // The first vectors have pages of their own, the second do not, but for bits.
        let writers = [(0, 600), (1, 5)].map(|(index, dims)| {
            let options = IndexOptions::new(dims, metric);
            Writer::open_or_create(&mut wtxn, store.db, index, &options).unwrap()
        });
        for round in 0..8 {
            change(&store, &writers, &mut rng, &mut wtxn);
            if round == 5 {
                writers[1].clear(&mut wtxn).unwrap();
                check(&wtxn, store.db, 1);
            }
            if rng.random::<bool>() {
                let trees = rng.random_range(1..3);
                let options = BuildOptions::default().leaf_size(32).trees(trees);
                let options = options.spill(rng.random());
                writers.iter().for_each(|writer| _ = writer.build(&mut wtxn, &options).unwrap());
                check(&wtxn, store.db, 0);
                check(&wtxn, store.db, 1);
            }
        }
        wtxn.commit().unwrap();
        check(&store.env.read_txn().unwrap(), store.db, 0);
    }
}

/// Kinds of keys, as the specification numbers them.
const PENDING: u8 = 2;
const LEAF: u8 = 4;

#[test]
fn damage_is_an_error() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
    let store = Store::new();
    let mut wtxn = store.env.write_txn().unwrap();
    let options = IndexOptions::new(4, Metric::Euclidean);
    let writer = Writer::open_or_create(&mut wtxn, store.db, 0, &options).unwrap();
    for id in 0..2_000 {
        writer.add_item(&mut wtxn, id, &random_vector(&mut rng, 4)).unwrap();
    }
    // Each item is in one leaf, so that none can be missed.
    let build = BuildOptions::default().leaf_size(32).spill(false);
    writer.build(&mut wtxn, &build).unwrap();
    writer.add_item(&mut wtxn, 3_000, &[1.0; 4]).unwrap();
    writer.del_item(&mut wtxn, 7).unwrap();
    wtxn.commit().unwrap();
    let raw = store.raw();
    let rtxn = store.env.read_txn().unwrap();
    let keys: Vec<Vec<u8>> =
        raw.iter(&rtxn).unwrap().map(|entry| entry.unwrap().0.to_vec()).collect();
    let kind = |kind| keys.iter().filter(move |key| key.len() == 8 && key[2] == kind);
    assert!(kind(LEAF).count() > 20 && kind(PENDING).count() == 2);
    let mut refused = 0;
    for key in kind(LEAF).chain(kind(PENDING)) {
        let value = raw.get(&rtxn, key).unwrap().unwrap().to_vec();
        let cut = &value[..value.len() - 16];
        let mut other = value.clone();
        let at = rng.random_range(0..other.len());
        other[at] ^= rng.random_range(1..=255);
        for (damaged, is_told) in [(None, true), (Some(cut), true), (Some(&other[..]), false)] {
            let mut wtxn = store.env.write_txn().unwrap();
            match damaged {
                Some(damaged) => raw.put(&mut wtxn, key, damaged).unwrap(),
                None => _ = raw.delete(&mut wtxn, key).unwrap(),
            }
            let found = Reader::open(&wtxn, store.db, 0).unwrap().id_set();
            let is_refused = matches!(found, Err(Error::Corrupted { .. }));
            // Not every byte is read: those that are not may be anything.
            assert!(is_refused || !is_told && found.is_ok(), "{key:?}: {found:?}");
            refused += usize::from(is_refused && !is_told);
        }
    }
    assert!(refused > 0);
}
