//! Format 3 is frozen: a store that this version wrote is read by every later one, with the same
//! answers.
//!
//! `tests/golden/format-3.mdb` holds an index of each metric and storage type, with a forest,
//! pending items, deleted items and free ids. `tests/golden/format-3.txt` has its answers.
//! `format-3-cut` is the same for vectors so long that items are cut, but for one that version 2
//! could have written. A later format comes with files of its own; these stay.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rand::RngExt;
use spinney::{BuildOptions, IndexOptions, Metric, Reader, Storage, Writer};
use support::raw::*;
use support::*;

const STORAGES: [Storage; 4] = [Storage::F32, Storage::F16, Storage::I8, Storage::Bits];
const MAP_SIZE: usize = 64 << 20;

/// A store of some indexes.
struct Golden {
    name: &'static str,
    dims: usize,
    /// Numbers, metrics and storages of the indexes.
    indexes: Vec<(u16, Metric, Storage)>,
    /// An item of index 1 that is whole where it would be cut.
    whole: Option<u32>,
}

fn all() -> [Golden; 2] {
    let all = METRICS.into_iter().flat_map(|metric| STORAGES.map(|storage| (metric, storage)));
    let all =
        all.filter(|(metric, storage)| *metric != Metric::Hamming || *storage == Storage::Bits);
    let indexes = (0..).zip(all).map(|(index, (metric, storage))| (index, metric, storage));
    let cut = vec![(1, Metric::Euclidean, Storage::F32)];
    [
        Golden { name: "format-3", dims: 20, indexes: indexes.collect(), whole: None },
        Golden { name: "format-3-cut", dims: 1024, indexes: cut, whole: Some(35) },
    ]
}

impl Golden {
    fn path(&self, extension: &str) -> PathBuf {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        folder.join(format!("{}.{extension}", self.name))
    }

    /// The kinds of keys that each index has.
    fn kinds(&self) -> Vec<u8> {
        let tails = self.whole.map(|_| TAIL);
        [RECORD, ORIGIN, PENDING, BRANCH, LEAF, FREE, ITEM].into_iter().chain(tails).collect()
    }
}

/// A query that needs no generator of random numbers.
fn query(metric: Metric, dims: usize, i: usize) -> Vec<f32> {
    let component = |d: usize| ((d * 7 + i * 3) % 11) as f32;
    let of =
        |x: f32| if metric == Metric::Hamming { f32::from(u8::from(x > 5.0)) } else { x - 4.5 };
    (0..dims).map(|d| of(component(d))).collect()
}

/// What the store says of itself and answers, as text.
fn answers(golden: &Golden, store: &Store) -> String {
    let mut text = String::new();
    let rtxn = store.env.read_txn().unwrap();
    for (index, metric, storage) in golden.indexes.iter().copied() {
        let reader = Reader::open(&rtxn, store.db, index).unwrap();
        assert_sound(&reader, &format!("index {index}"));
        assert_eq!((reader.metric(), reader.storage()), (metric, storage));
        let (items, pending) = (reader.len(), reader.pending_len());
        writeln!(text, "{index} {metric} {storage}: {items} items, {pending} pending").unwrap();
        let mut say = |how: &str, hits: &[spinney::Hit]| {
            let hits: Vec<String> =
                hits.iter().map(|hit| format!("{}={:?}", hit.id, hit.distance)).collect();
            writeln!(text, "  {how} {}", hits.join(" ")).unwrap();
        };
        for i in 0..3 {
            let query = query(metric, golden.dims, i);
            say("exact", &reader.nns(5).exact().by_vector(&query).unwrap());
            say("forest", &reader.nns(5).search_k(40).by_vector(&query).unwrap());
        }
        say("item", &reader.nns(5).exact().by_item(14).unwrap().unwrap());
    }
    text
}

/// Writes the files of a format that has none yet.
#[test]
#[ignore = "writes the golden files"]
fn write() {
    all().iter().for_each(write_one);
}

fn write_one(golden: &Golden) {
    let rng = &mut rng(3);
    let store = Store::with_map_size(MAP_SIZE);
    let mut wtxn = store.env.write_txn().unwrap();
    for (index, metric, storage) in golden.indexes.iter().copied() {
        let options = IndexOptions::new(golden.dims, metric).storage(storage);
        let writer = Writer::open_or_create(&mut wtxn, store.db, index, &options).unwrap();
        let items: Items =
            (0..70).map(|id| (id * 7, clustered_row(metric, golden.dims, rng))).collect();
        add_all(&writer, &mut wtxn, &items);
        let build = BuildOptions::default().leaf_size(32).trees(1 + usize::from(index % 2 == 0));
        writer.build(&mut wtxn, &build).unwrap();
        // Leaves merge, and give their ids back.
        (20..70).step_by(2).for_each(|i| {
            assert!(writer.del_item(&mut wtxn, i * 7).unwrap());
            if i % 12 == 0 {
                writer.build(&mut wtxn, &build).unwrap();
            }
        });
        for _ in 0..3 {
            let id = rng.random_range(800..1000);
            writer.add_item(&mut wtxn, id, &clustered_row(metric, golden.dims, rng)).unwrap();
        }
        writer.add_item(&mut wtxn, 21, &clustered_row(metric, golden.dims, rng)).unwrap();
    }
    if let Some(id) = golden.whole {
        let (item, tail) = (key(1, ITEM, 0, id), key(1, TAIL, 0, id));
        let value = [store.raw.get(&wtxn, item), store.raw.get(&wtxn, tail)].concat();
        store.raw.put(&mut wtxn, item, &value);
        assert!(store.raw.0.delete(&mut wtxn, &tail).unwrap());
    }
    wtxn.commit().unwrap();
    let copy = golden.path("mdb");
    if copy.exists() {
        println!("{} is there, and stays", copy.display());
        return;
    }
    std::fs::write(golden.path("txt"), answers(golden, &store)).unwrap();
    store.env.copy_to_path(&copy, spinney::heed::CompactionOption::Enabled).unwrap();
}

#[test]
fn what_an_earlier_version_wrote_gives_the_same_answers_and_can_be_changed() {
    all().iter().for_each(check);
}

fn check(golden: &Golden) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden.path("mdb"), folder.path().join("data.mdb")).unwrap();
    let store = Store::at(folder.path(), MAP_SIZE);
    let all = store.content().0;
    for (index, metric, storage) in golden.indexes.iter().copied() {
        for kind in golden.kinds() {
            let is_it = |key: &[u8; 8]| key[..2] == index.to_be_bytes() && key[2] == kind;
            assert!(all.iter().any(|(key, _)| is_it(key)), "{metric} {storage}: no kind {kind}");
        }
    }
    if let Some(id) = golden.whole {
        let item = all.iter().find(|(item, _)| *item == key(1, ITEM, 0, id)).unwrap();
        assert_eq!(item.1.len(), 16 + 4 * golden.dims);
    }
    let expected = std::fs::read_to_string(golden.path("txt")).unwrap();
    let found = answers(golden, &store);
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
    let mut wtxn = store.env.write_txn().unwrap();
    for (index, metric, storage) in golden.indexes.iter().copied() {
        let writer = Writer::open(&wtxn, store.db, index).unwrap();
        let row = query(metric, golden.dims, 5);
        writer.add_item(&mut wtxn, 7, &row).unwrap();
        writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
        let reader = Reader::open(&wtxn, store.db, index).unwrap();
        assert_sound(&reader, &format!("{metric} {storage}"));
        assert_eq!(reader.pending_len(), 0);
        let kept = reader.item_vector(7).unwrap().unwrap();
        assert_eq!(reader.nns(1).by_vector(&kept).unwrap().len(), 1);
    }
}
