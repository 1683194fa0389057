//! The stored bytes under an index, and an index to damage.

use std::collections::BTreeSet;

use rand::RngExt;
use rand::seq::IndexedRandom;
use spinney::heed::types::Bytes;
use spinney::heed::{self, CommitOrAbort, RoTxn, RwTxn};
use spinney::roaring::RoaringBitmap;
use spinney::{BuildOptions, Error, Hit, Hits, IndexOptions, Metric, Reader, Writer};

use super::{Env, Rng, Seed, Spread, Store, add_all, vectors};

pub const RECORD: u8 = 0;
pub const ORIGIN: u8 = 1;
pub const PENDING: u8 = 2;
pub const BRANCH: u8 = 3;
pub const LEAF: u8 = 4;
pub const FREE: u8 = 5;
pub const ITEM: u8 = 6;
pub const TAIL: u8 = 7;

pub type Entries = Vec<([u8; 8], Vec<u8>)>;

/// The LMDB database of indexes, as bytes.
#[derive(Copy, Clone)]
pub struct Raw(pub heed::Database<'static, Bytes, Bytes>);

impl Raw {
    pub fn open(env: &Env) -> Self {
        let rtxn = env.read_txn().unwrap();
        let opened = env.open_databases_and_commit(rtxn, |opener, rtxn| {
            opener
                .open_database::<Bytes, Bytes>(rtxn, Some("spinney"))
                .map(CommitOrAbort::<_, ()>::Commit)
        });
        let opened: Result<_, heed::Error> = opened;
        Self(opened.unwrap().commit().flatten().expect("the database exists"))
    }

    pub fn all(&self, rtxn: &RoTxn<'_>) -> Entries {
        let entries = self.0.iter(rtxn).unwrap().map(Result::unwrap);
        // The mark of the database is no entry of an index, and differs from one to the other.
        let of_indexes = entries.filter(|(key, _)| *key != [0, 0]);
        of_indexes.map(|(key, value)| (key.try_into().unwrap(), value.to_vec())).collect()
    }

    pub fn content(&self, rtxn: &RoTxn<'_>) -> Content {
        Content(self.all(rtxn))
    }

    pub fn get(&self, rtxn: &RoTxn<'_>, key: [u8; 8]) -> Vec<u8> {
        self.0.get(rtxn, &key).unwrap().expect("the key exists").to_vec()
    }

    /// Puts a value. What has a check gets that of its bytes. So what is wrong with it has to be
    /// found by its fields.
    pub fn put(&self, wtxn: &mut RwTxn<'_>, key: [u8; 8], value: &[u8]) {
        let mut value = value.to_vec();
        seal(key[2], &mut value);
        self.0.put(wtxn, &key, &value).unwrap();
    }
}

/// Every key and value of the indexes.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(pub Entries);

impl Content {
    /// Panics with the first difference unless both are the same bytes.
    #[track_caller]
    pub fn assert_same(&self, expected: &Self, what: &str) {
        if self == expected {
            return;
        }
        let pairs = self.0.iter().zip(&expected.0);
        match pairs.clone().position(|(got, expected)| got != expected) {
            Some(at) => {
                let (got, expected) = (&self.0[at], &expected.0[at]);
                let byte = got.1.iter().zip(&expected.1).position(|(a, b)| a != b);
                panic!(
                    "{what}: entry {at} differs: key {:02x?} ({} bytes), expected key {:02x?} ({} bytes), first other byte {byte:?}",
                    got.0,
                    got.1.len(),
                    expected.0,
                    expected.1.len()
                );
            }
            None => panic!("{what}: {} entries, expected {}", self.0.len(), expected.0.len()),
        }
    }

    /// The values of one kind (byte 2 of the key, as `format` says) and tree (byte 3).
    pub fn values(&self, kind: u8, tree: u8) -> Vec<&[u8]> {
        let entries = self.0.iter().filter(|(key, _)| key[2] == kind && key[3] == tree);
        entries.map(|(_, value)| value.as_slice()).collect()
    }
}

/// Gives a value of a kind that has a check that of its bytes.
pub fn seal(kind: u8, value: &mut [u8]) {
    let n = value.len();
    let (at, lanes) = match kind {
        RECORD if n == 1024 => (1016, 1),
        ORIGIN if n.is_multiple_of(16) && n >= 16 => (n - 16, 4),
        BRANCH | LEAF if n.is_multiple_of(16) && n >= 64 => (24, 4),
        _ => return,
    };
    value[at..at + 8].fill(0);
    // What comes after the check of a record or an origin is no part of it.
    let covered = if at == 24 { n } else { at };
    let words =
        value[..covered].chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
    let begin = 0xCBF2_9CE4_8422_2325;
    let step = |check: u64, word: u64| (check ^ word).wrapping_mul(0x100_0000_01B3);
    let check = if lanes == 1 {
        words.fold(begin, step)
    } else {
        let mut lanes = [begin; 4];
        words.enumerate().for_each(|(i, word)| lanes[i % 4] = step(lanes[i % 4], word));
        lanes.into_iter().fold(begin, step)
    };
    value[at..at + 8].copy_from_slice(&check.to_le_bytes());
}

pub fn key(index: u16, kind: u8, tree: u8, id: u32) -> [u8; 8] {
    let ([i0, i1], [d0, d1, d2, d3]) = (index.to_be_bytes(), id.to_be_bytes());
    [i0, i1, kind, tree, d0, d1, d2, d3]
}

pub fn create(store: &Store, wtxn: &mut RwTxn<'_>, dims: usize, metric: Metric) -> Writer {
    Writer::open_or_create(wtxn, store.db, 0, &IndexOptions::new(dims, metric)).unwrap()
}

/// An index of 1,300 items with two levels of branches, and 60 pending marks of all kinds.
pub fn planted(metric: Metric, dims: usize) -> Store {
    let store = Store::with_map_size(64 << 20);
    let mut rng = Seed::new(70).rng(dims as u64);
    let rows = vectors(&mut rng, metric, dims, 1330, Spread::Clusters);
    let mut wtxn = store.env.write_txn().unwrap();
    let writer = create(&store, &mut wtxn, dims, metric);
    add_all(&writer, &mut wtxn, &(0u32..).zip(rows[..1300].iter().cloned()).collect());
    writer.build(&mut wtxn, &BuildOptions::default().leaf_size(32)).unwrap();
    for id in 0..30 {
        writer.add_item(&mut wtxn, 1270 + 2 * id, &rows[1300 + id as usize]).unwrap();
        writer.del_item(&mut wtxn, 10 * id).unwrap();
    }
    wtxn.commit().unwrap();
    store
}

/// Reads, searches, changes and builds index 0; returns the errors met on the way.
pub fn exercise(store: &Store, wtxn: &mut RwTxn<'_>, with_build: bool) -> Vec<Error> {
    let mut errors = read_all(store, wtxn);
    let mut note = |result: Result<(), Error>| errors.extend(result.err());
    match Writer::open(wtxn, store.db, 0) {
        Err(error) => note(Err(error)),
        Ok(writer) => {
            let row = vec![1.0; writer.dims()];
            note(writer.len(wtxn).map(|_| ()));
            note(writer.add_item(wtxn, 5000, &row));
            note(writer.add_item(wtxn, 1, &row));
            note(writer.add_items(wtxn, &[2, 1272], &[row.clone(), row].concat()));
            note(writer.del_item(wtxn, 3).map(|_| ()));
            if with_build {
                note(writer.build(wtxn, &BuildOptions::default()).map(|_| ()));
                errors.extend(read_all(store, wtxn));
            }
        }
    }
    errors
}

pub fn read_all(store: &Store, rtxn: &RoTxn<'_>) -> Vec<Error> {
    let mut errors = Vec::new();
    let reader = match Reader::open(rtxn, store.db, 0) {
        Ok(reader) => reader,
        Err(error) => return vec![error],
    };
    errors.extend(store.db.indexes(rtxn).err());
    errors.extend(reader.stats().err());
    errors.extend(reader.ids().unwrap().find_map(Result::err));
    errors.extend(reader.items().unwrap().find_map(Result::err));
    errors.extend(reader.item_vector(1).err());
    errors.extend(answers(&reader).into_iter().filter_map(Result::err));
    errors.extend(reader.verify().err());
    errors
}

/// What some questions of all kinds are answered.
pub fn answers(reader: &Reader<'_>) -> Vec<Result<Hits, Error>> {
    let query = vec![1.0; reader.dims()];
    let filter: RoaringBitmap = (0..2000).filter(|id| id % 5 > 0).collect();
    let paged = || {
        let mut pages = reader.nns(4).pages(&query)?;
        pages.next_page()?;
        pages.next_page()
    };
    let answers = vec![
        reader.nns(10).by_vector(&query),
        reader.nns(10).search_k(1).by_vector(&query),
        reader.nns(3).search_k(usize::MAX).oversampling(2.0).by_vector(&query),
        reader.nns(10).filter(&filter).by_vector(&query),
        reader.nns(usize::MAX).by_vector(&query),
        reader.nns(10).exact().by_vector(&query),
        reader.nns(10).exact().parallel().by_vector(&query),
        reader.nns(10).by_item(1).map(Option::unwrap_or_default),
        reader.nns(5).by_any(&[1u32.into(), (&query).into()]),
        paged(),
    ];
    answers.iter().flatten().for_each(|hits| assert_valid(hits));
    answers
}

fn assert_valid(hits: &[Hit]) {
    let ids: BTreeSet<u32> = hits.iter().map(|hit| hit.id).collect();
    assert_eq!(ids.len(), hits.len(), "an item comes twice");
    assert!(
        hits.iter().all(|hit| hit.distance.is_finite()),
        "a distance that is no number: {hits:?}"
    );
}

/// Changes some bytes of any value.
pub fn damage(rng: &mut Rng, value: &mut Vec<u8>, other: &[u8]) {
    let at = rng.random_range(0..value.len());
    // Half of all changes hit the front, where lengths and counts are.
    let at = if rng.random() { at % 64 } else { at };
    match rng.random_range(0..8) {
        0..3 => value[at] ^= 1 << rng.random_range(0..8),
        3 => value[at] = rng.random(),
        4 => value[at] = *[0, 1, 0x7F, 0x80, 0xFF].choose(rng).unwrap(),
        5 => (0..8).for_each(|i| {
            if let Some(byte) = value.get_mut(at + i) {
                *byte = rng.random()
            }
        }),
        6 => value.truncate(at),
        _ => *value = other.to_vec(),
    }
}
