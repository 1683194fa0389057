//! Laws of storage types: distances are those of what is stored, and conversion keeps it.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use rand::RngExt;
use spinney::heed::RwTxn;
use spinney::{BuildOptions, Error, IndexOptions, Metric, Reader, Storage, Writer};
use support::*;

const STORAGES: [Storage; 4] = [Storage::F32, Storage::F16, Storage::I8, Storage::Bits];

fn pairs() -> impl Iterator<Item = (Metric, Storage)> {
    let all = METRICS.into_iter().flat_map(|metric| STORAGES.map(|storage| (metric, storage)));
    all.filter(|(metric, storage)| *metric != Metric::Hamming || *storage == Storage::Bits)
}

fn create(
    store: &Store,
    wtxn: &mut RwTxn<'_>,
    dims: usize,
    metric: Metric,
    storage: Storage,
) -> Writer {
    let options = IndexOptions::new(dims, metric).storage(storage);
    Writer::open_or_create(wtxn, store.db, 0, &options).unwrap()
}

/// What is stored: the oracle compares with that.
fn stored(reader: &Reader<'_>) -> Items {
    reader.items().unwrap().map(Result::unwrap).collect()
}

/// Compares answers with the oracle's, for queries that are vectors and items.
fn check_answers(rng: &mut Rng, reader: &Reader<'_>, metric: Metric, what: &str) {
    let items = stored(reader);
    assert_eq!(reader.len(), items.len() as u64, "{what}");
    let mut found = 0.0;
    let queries = 20;
    for i in 0..queries {
        let ids: Vec<u32> = items.keys().copied().collect();
        let id = ids[rng.random_range(0..ids.len())];
        let of_item = i % 2 == 0;
        let query = if of_item { items[&id].clone() } else { near(rng, metric, &items[&id]) };
        let ranked = ranked(metric, &items, &query);
        let mut ask = Ask { exclude: of_item.then_some(id), exact: true, ..Ask::new(10) };
        let search = |ask: &Ask| {
            let nns = ask.apply(reader.nns(ask.k));
            if of_item { nns.by_item(id).unwrap().unwrap() } else { nns.by_vector(&query).unwrap() }
        };
        ask.check_exact(metric, &ranked, &search(&ask));
        ask.exact = false;
        let hits = search(&ask);
        ask.check(metric, &ranked, &hits);
        found += recall(metric, &ask.matching(&ranked), &hits, 10);
    }
    assert!(found / f64::from(queries) > 0.8, "{what}: recall {}", found / f64::from(queries));
}

#[test]
fn answers_are_those_of_what_is_stored() {
    let seed = Seed::new(0x5708);
    for (part, (metric, storage)) in pairs().enumerate() {
        let rng = &mut seed.rng(part as u64);
        for (dims, n) in [(1, 40), (67, 300), (130, 2500)] {
            let what = format!("{metric} {storage} {dims} x {n}");
            let store = Store::new();
            let mut wtxn = store.env.write_txn().unwrap();
            let writer = create(&store, &mut wtxn, dims, metric, storage);
            let rows = (0..n).map(|id| (id * 3, clustered_row(metric, dims, rng)));
            let items: Items = rows.collect();
            add_all(&writer, &mut wtxn, &items);
            let options = BuildOptions::default();
            writer.build(&mut wtxn, &options).unwrap();
            for (id, row) in (0..20u32).map(|i| (i * 7, clustered_row(metric, dims, rng))) {
                writer.add_item(&mut wtxn, id, &row).unwrap();
            }
            writer.del_item(&mut wtxn, 9).unwrap();
            for is_built in [false, true] {
                if is_built {
                    writer.build(&mut wtxn, &options).unwrap();
                }
                let reader = Reader::open(&wtxn, store.db, 0).unwrap();
                assert_eq!(reader.storage(), storage);
                assert_sound(&reader, &what);
                check_answers(rng, &reader, metric, &what);
            }
        }
    }
}

/// How far a decoded vector may be from what was added, as a part of the longest component.
fn tolerance(storage: Storage) -> f32 {
    match storage {
        Storage::F32 => 0.0,
        Storage::F16 => 1.0 / 2048.0,
        Storage::I8 => 2.0 / 255.0,
        _ => 2.0,
    }
}

#[test]
fn vectors_come_back_within_half_a_step_and_exactly_where_that_is_promised() {
    let seed = Seed::new(0x5709);
    let rng = &mut seed.rng(0);
    for storage in STORAGES {
        let store = Store::new();
        let mut wtxn = store.env.write_txn().unwrap();
        let writer = create(&store, &mut wtxn, 70, Metric::Euclidean, storage);
        let keep = |wtxn: &mut RwTxn<'_>, row: &[f32]| {
            writer.add_item(wtxn, 5, row).unwrap();
            let kept = writer.item_vector(wtxn, 5).unwrap().unwrap();
            // What is stored is stored again without a change.
            writer.add_item(wtxn, 6, &kept).unwrap();
            let again = writer.item_vector(wtxn, 6).unwrap().unwrap();
            let longest = row.iter().fold(0.0f32, |longest, x| longest.max(x.abs()));
            for ((x, y), z) in row.iter().zip(&kept).zip(again) {
                assert!((x - y).abs() <= longest * tolerance(storage), "{storage}: {x} {y}");
                assert!((y - z).abs() <= longest * 1e-6, "{storage}: {y} {z}");
            }
            kept
        };
        for power in [-70, -10, 0, 10, 50] {
            let row: Vec<f32> = (0..70).map(|_| normal(rng) * 2f32.powi(power)).collect();
            keep(&mut wtxn, &row);
        }
        for low in [0.0, -128.0] {
            let row: Vec<f32> = (0..70).map(|_| low + f32::from(rng.random::<u8>())).collect();
            let kept = keep(&mut wtxn, &row);
            assert_eq!(kept == row, storage != Storage::Bits, "{storage}");
        }
    }
}

#[test]
fn an_index_is_converted_in_place() {
    let seed = Seed::new(0x570A);
    for (part, (metric, from)) in pairs().enumerate() {
        let rng = &mut seed.rng(part as u64);
        let store = Store::new();
        let mut wtxn = store.env.write_txn().unwrap();
        let writer = create(&store, &mut wtxn, 50, metric, from);
        // A neighbour on either side, which must stay as it is.
        let other = |wtxn: &mut RwTxn<'_>, index| {
            let options = IndexOptions::new(50, metric);
            let other = Writer::open_or_create(wtxn, store.db, index, &options).unwrap();
            other.add_item(wtxn, 1, &[1.0; 50]).unwrap();
        };
        other(&mut wtxn, 1);
        let items: Items = (0..1500).map(|id| (id * 5, clustered_row(metric, 50, rng))).collect();
        add_all(&writer, &mut wtxn, &items);
        writer.build(&mut wtxn, &BuildOptions::default().trees(2).leaf_size(100)).unwrap();
        writer.add_item(&mut wtxn, 3, &clustered_row(metric, 50, rng)).unwrap();
        writer.del_item(&mut wtxn, 10).unwrap();
        wtxn.commit().unwrap();
        let before = store.content();
        for to in STORAGES {
            let mut wtxn = store.env.write_txn().unwrap();
            let kept = stored(&Reader::open(&wtxn, store.db, 0).unwrap());
            if metric == Metric::Hamming && to != Storage::Bits {
                let refused = writer.convert(&mut wtxn, to);
                assert!(matches!(refused, Err(Error::InvalidOption { .. })), "{refused:?}");
                continue;
            }
            let converted = writer.convert(&mut wtxn, to).unwrap();
            if from == to {
                assert_eq!(converted, 0);
                continue;
            }
            assert_eq!(converted, kept.len() as u64);
            // As if they had been added so in the first place.
            let twin = Store::new();
            let mut twin_wtxn = twin.env.write_txn().unwrap();
            let twin_writer = create(&twin, &mut twin_wtxn, 50, metric, to);
            add_all(&twin_writer, &mut twin_wtxn, &kept);
            let expected = stored(&Reader::open(&twin_wtxn, twin.db, 0).unwrap());
            let what = format!("{metric} {from} to {to}");
            for is_built in [false, true] {
                if is_built {
                    // In the shape it had.
                    let stats = writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
                    assert_eq!(stats.trees, 2, "{what}");
                }
                let reader = Reader::open(&wtxn, store.db, 0).unwrap();
                assert_eq!((reader.storage(), writer.storage(&wtxn).unwrap()), (to, to));
                assert_items(&reader, &expected);
                assert_sound(&reader, &what);
                check_answers(rng, &reader, metric, &what);
            }
            wtxn.abort();
            assert!(store.content() == before, "{what}: what was aborted has left something");
        }
    }
}

#[test]
fn a_vector_that_cannot_be_kept_stops_a_conversion_before_anything_is_written() {
    let store = Store::new();
    let mut wtxn = store.env.write_txn().unwrap();
    let writer = create(&store, &mut wtxn, 3, Metric::Cosine, Storage::F32);
    writer.add_item(&mut wtxn, 1, &[1.0, 2.0, 3.0]).unwrap();
    // Its two levels cannot be told from zero.
    writer.add_item(&mut wtxn, 9, &[1e-45, 0.0, 0.0]).unwrap();
    wtxn.commit().unwrap();
    let before = store.content();
    let mut wtxn = store.env.write_txn().unwrap();
    let refused = writer.convert(&mut wtxn, Storage::I8).unwrap_err();
    assert!(matches!(refused, Error::Row { row: 1, id: 9, .. }), "{refused}");
    wtxn.commit().unwrap();
    assert!(store.content() == before);
}

#[test]
fn an_index_is_opened_as_it_is_and_another_storage_is_refused() {
    let store = Store::new();
    let mut wtxn = store.env.write_txn().unwrap();
    create(&store, &mut wtxn, 3, Metric::Cosine, Storage::I8);
    let options = IndexOptions::new(3, Metric::Cosine);
    let writer = Writer::open_or_create(&mut wtxn, store.db, 0, &options).unwrap();
    assert_eq!(writer.storage(&wtxn).unwrap(), Storage::I8);
    let other = Writer::open_or_create(&mut wtxn, store.db, 0, &options.storage(Storage::F32));
    assert!(matches!(
        other.err().unwrap(),
        Error::StorageMismatch { index: 0, expected: Storage::I8, got: Storage::F32 }
    ));
    let hamming = IndexOptions::new(3, Metric::Hamming).storage(Storage::F16);
    let refused = Writer::open_or_create(&mut wtxn, store.db, 1, &hamming).err().unwrap();
    assert!(matches!(refused, Error::InvalidOption { .. }), "{refused}");
    // A conversion is seen by handles that were opened before, in every call.
    writer.convert(&mut wtxn, Storage::F16).unwrap();
    let ids: Vec<u32> = (0..300).collect();
    let rows = clustered_rows(Metric::Cosine, 3, ids.len(), &mut Seed::new(0x570C).rng(0));
    writer.add_items(&mut wtxn, &ids, &rows).unwrap();
    writer.del_item(&mut wtxn, 7).unwrap();
    assert_eq!(writer.storage(&wtxn).unwrap(), Storage::F16);
    wtxn.commit().unwrap();
    writer.build_in_commits(&store.env, &BuildOptions::default()).unwrap();
    let rtxn = store.env.read_txn().unwrap();
    let reader = Reader::open(&rtxn, store.db, 0).unwrap();
    assert_eq!((reader.pending_len(), reader.storage()), (0, Storage::F16));
    assert_sound(&reader, "after a conversion");
}

/// What is read is what there is: all of the forest, and of the items what fits.
#[test]
fn warming_reads_the_forest_and_as_many_items_as_asked_for() {
    let seed = Seed::new(0x570B);
    for (part, (metric, storage)) in pairs().enumerate() {
        let rng = &mut seed.rng(part as u64);
        let store = Store::new();
        let mut wtxn = store.env.write_txn().unwrap();
        let writer = create(&store, &mut wtxn, 1100, metric, storage);
        let items: Items = (0..500).map(|id| (id, clustered_row(metric, 1100, rng))).collect();
        add_all(&writer, &mut wtxn, &items);
        for is_built in [false, true] {
            if is_built {
                let options = BuildOptions::default().trees(2).leaf_size(32);
                writer.build(&mut wtxn, &options).unwrap();
            }
            let reader = Reader::open(&wtxn, store.db, 0).unwrap();
            let stats = reader.stats().unwrap();
            assert_eq!(stats.branch_bytes > 0, is_built);
            let one = stats.item_bytes / stats.items;
            for max in [0, one - 1, one, 300 * one, 300 * one + 1, stats.item_bytes, u64::MAX] {
                let warmed = reader.warm(max).unwrap();
                assert_eq!(warmed.branch_bytes, stats.branch_bytes);
                assert_eq!(warmed.leaf_bytes, stats.leaf_bytes);
                assert_eq!(warmed.item_bytes, (max / one).min(stats.items) * one);
            }
        }
    }
}
