//! `Reader::id_set` is `Reader::ids` in one bitmap, whatever happened; damage is an error.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use rand::RngExt;
use spinney::heed::{RoTxn, RwTxn};
use spinney::roaring::RoaringBitmap;
use spinney::{BuildOptions, Database, Error, IndexOptions, Metric, Reader, Writer};
use support::raw::{LEAF, PENDING, create};
use support::*;

fn check(rtxn: &RoTxn<'_>, db: Database, index: u16) {
    let reader = Reader::open(rtxn, db, index).unwrap();
    let ids: Result<RoaringBitmap, Error> = reader.ids().unwrap().collect();
    assert_eq!(reader.id_set().unwrap(), ids.unwrap());
}

/// Adds, overwrites and deletes items at random, in two indexes side by side.
fn change(
    store: &Store,
    (metric, writers): (Metric, &[Writer; 2]),
    rng: &mut Rng,
    wtxn: &mut RwTxn<'_>,
) {
    for _ in 0..rng.random_range(0..400) {
        let writer = &writers[rng.random_range(0..2)];
        let id = rng.random_range(0..3_000) * [1, 70_001][rng.random_range(0..2)];
        if rng.random_range(0..3) == 0 {
            writer.del_item(wtxn, id).unwrap();
        } else {
            let vector = uniform(rng, metric, writer.dims());
            writer.add_item(wtxn, id, &vector).unwrap();
        }
    }
    check(wtxn, store.db, 0);
    check(wtxn, store.db, 1);
}

#[test]
fn the_set_is_that_of_the_ids_after_any_changes() {
    let seed = Seed::new(181);
    for (part, metric) in (0..).zip(METRICS) {
        let mut rng = seed.rng(part);
        let store = Store::new();
        let mut wtxn = store.env.write_txn().unwrap();
        // The first vectors have pages of their own, the second do not, but for bits.
        let writers = [(0, 600), (1, 5)].map(|(index, dims)| {
            let options = IndexOptions::new(dims, metric);
            Writer::open_or_create(&mut wtxn, store.db, index, &options).unwrap()
        });
        for round in 0..8 {
            change(&store, (metric, &writers), &mut rng, &mut wtxn);
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

#[test]
fn damage_is_an_error() {
    let seed = Seed::new(182);
    let mut rng = seed.rng(0);
    let store = Store::new();
    let mut wtxn = store.env.write_txn().unwrap();
    let writer = create(&store, &mut wtxn, 4, Metric::Euclidean);
    for id in 0..2_000 {
        writer.add_item(&mut wtxn, id, &uniform(&mut rng, Metric::Euclidean, 4)).unwrap();
    }
    // Each item is in one leaf, so that none can be missed.
    let build = BuildOptions::default().leaf_size(32).spill(false);
    writer.build(&mut wtxn, &build).unwrap();
    writer.add_item(&mut wtxn, 3_000, &[1.0; 4]).unwrap();
    writer.del_item(&mut wtxn, 7).unwrap();
    wtxn.commit().unwrap();
    // What is damaged keeps the check of what it was.
    let unsealed = store.raw.0;
    let entries = store.raw.all(&store.env.read_txn().unwrap());
    let kind = |kind| entries.iter().filter(move |(key, _)| key[2] == kind);
    assert!(kind(LEAF).count() > 20 && kind(PENDING).count() == 2);
    let mut refused = 0;
    for (key, value) in kind(LEAF).chain(kind(PENDING)) {
        let cut = &value[..value.len() - 16];
        let mut other = value.clone();
        let at = rng.random_range(0..other.len());
        other[at] ^= rng.random_range(1..=255);
        for (damaged, is_told) in [(None, true), (Some(cut), true), (Some(&other[..]), false)] {
            let mut wtxn = store.env.write_txn().unwrap();
            match damaged {
                Some(damaged) => unsealed.put(&mut wtxn, key, damaged).unwrap(),
                None => _ = unsealed.delete(&mut wtxn, key).unwrap(),
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
