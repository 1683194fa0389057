//! Format 3 is frozen: a store that this version wrote is read by every later one, with the same
//! answers.
//!
//! `tests/golden/format-3.mdb` holds an index of each metric and storage type, with a forest,
//! pending items, deleted items and free ids. `tests/golden/format-3.txt` has its answers. A later
//! format comes with files of its own; these stay.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rand::RngExt;
use spinney::{BuildOptions, IndexOptions, Metric, Reader, Storage, Writer};
use support::raw::*;
use support::*;

const DIMS: usize = 20;
const STORAGES: [Storage; 4] = [Storage::F32, Storage::F16, Storage::I8, Storage::Bits];
const MAP_SIZE: usize = 64 << 20;

/// The indexes of the store, by their numbers.
fn indexes() -> impl Iterator<Item = (u16, Metric, Storage)> {
    let all = METRICS.into_iter().flat_map(|metric| STORAGES.map(|storage| (metric, storage)));
    let all =
        all.filter(|(metric, storage)| *metric != Metric::Hamming || *storage == Storage::Bits);
    (0..).zip(all).map(|(index, (metric, storage))| (index, metric, storage))
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// A query that needs no generator of random numbers.
fn query(metric: Metric, i: usize) -> Vec<f32> {
    let component = |d: usize| ((d * 7 + i * 3) % 11) as f32;
    let of =
        |x: f32| if metric == Metric::Hamming { f32::from(u8::from(x > 5.0)) } else { x - 4.5 };
    (0..DIMS).map(|d| of(component(d))).collect()
}

/// What the store says of itself and answers, as text.
fn answers(store: &Store) -> String {
    let mut text = String::new();
    let rtxn = store.env.read_txn().unwrap();
    for (index, metric, storage) in indexes() {
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
            let query = query(metric, i);
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
    let rng = &mut rng(3);
    let store = Store::with_map_size(MAP_SIZE);
    let mut wtxn = store.env.write_txn().unwrap();
    for (index, metric, storage) in indexes() {
        let options = IndexOptions::new(DIMS, metric).storage(storage);
        let writer = Writer::open_or_create(&mut wtxn, store.db, index, &options).unwrap();
        let items: Items = (0..70).map(|id| (id * 7, clustered_row(metric, DIMS, rng))).collect();
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
            writer.add_item(&mut wtxn, id, &clustered_row(metric, DIMS, rng)).unwrap();
        }
        writer.add_item(&mut wtxn, 21, &clustered_row(metric, DIMS, rng)).unwrap();
    }
    wtxn.commit().unwrap();
    let copy = golden("format-3.mdb");
    if copy.exists() {
        println!("{} is there, and stays", copy.display());
        return;
    }
    std::fs::write(golden("format-3.txt"), answers(&store)).unwrap();
    store.env.copy_to_path(&copy, spinney::heed::CompactionOption::Enabled).unwrap();
}

#[test]
fn what_an_earlier_version_wrote_gives_the_same_answers_and_can_be_changed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden("format-3.mdb"), folder.path().join("data.mdb")).unwrap();
    let store = Store::at(folder.path(), MAP_SIZE);
    let all = store.content().0;
    for (index, metric, storage) in indexes() {
        for kind in [RECORD, ORIGIN, PENDING, BRANCH, LEAF, FREE, ITEM] {
            let is_it = |key: &[u8; 8]| key[..2] == index.to_be_bytes() && key[2] == kind;
            assert!(all.iter().any(|(key, _)| is_it(key)), "{metric} {storage}: no kind {kind}");
        }
    }
    let expected = std::fs::read_to_string(golden("format-3.txt")).unwrap();
    let found = answers(&store);
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
    let mut wtxn = store.env.write_txn().unwrap();
    for (index, metric, storage) in indexes() {
        let writer = Writer::open(&wtxn, store.db, index).unwrap();
        let row = query(metric, 5);
        writer.add_item(&mut wtxn, 7, &row).unwrap();
        writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
        let reader = Reader::open(&wtxn, store.db, index).unwrap();
        assert_sound(&reader, &format!("{metric} {storage}"));
        assert_eq!(reader.pending_len(), 0);
        let kept = reader.item_vector(7).unwrap().unwrap();
        assert_eq!(reader.nns(1).by_vector(&kept).unwrap().len(), 1);
    }
}
