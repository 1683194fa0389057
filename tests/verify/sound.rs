//! Sound stores, about which a verification is silent.

use rand::RngExt;
use spinney::heed::RwTxn;
use spinney::{BuildMethod, BuildOptions, IndexOptions, Metric, Reader, Writer};

use crate::assert_sound;
use crate::support::patient::{DIMS, build_options};
use crate::support::raw::*;
use crate::support::*;

/// A state of a store: what was done to get there.
fn states(
    store: &Store,
    metric: Metric,
    trees: usize,
    spill: bool,
    mut rng: Rng,
    check: &mut dyn FnMut(&mut RwTxn<'_>),
) {
    let options =
        BuildOptions::default().trees(trees).spill(spill).leaf_size(32).seed(rng.random());
    let mut wtxn = store.env.write_txn().unwrap();
    let writer = create(store, &mut wtxn, DIMS, metric);
    check(&mut wtxn);
    writer.build(&mut wtxn, &options).unwrap();
    check(&mut wtxn);
    writer.add_item(&mut wtxn, 7, &uniform(&mut rng, metric, DIMS)).unwrap();
    check(&mut wtxn);
    writer.build(&mut wtxn, &options).unwrap();
    check(&mut wtxn);
    let spread = SPREADS[rng.random_range(0..SPREADS.len())];
    let rows = vectors(&mut rng, metric, DIMS, 700, spread);
    let items: Items =
        ids(&mut rng, 700, spread == Spread::Uniform).into_iter().zip(rows).collect();
    add_all(&writer, &mut wtxn, &items);
    check(&mut wtxn);
    writer.build(&mut wtxn, &options).unwrap();
    check(&mut wtxn);
    for round in 0..3 {
        let keys: Vec<u32> = items.keys().copied().collect();
        for _ in 0..35 {
            let id = keys[rng.random_range(0..keys.len())];
            writer.del_item(&mut wtxn, id).unwrap();
            writer
                .add_item(&mut wtxn, rng.random_range(0..2000), &uniform(&mut rng, metric, DIMS))
                .unwrap();
        }
        check(&mut wtxn);
        if round == 2 {
            break;
        }
        writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
        check(&mut wtxn);
    }
    let live: Vec<u32> =
        Reader::open(&wtxn, store.db, 0).unwrap().ids().unwrap().map(Result::unwrap).collect();
    for id in live {
        writer.del_item(&mut wtxn, id).unwrap();
    }
    check(&mut wtxn);
    writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
    check(&mut wtxn);
    writer.clear(&mut wtxn).unwrap();
    check(&mut wtxn);
}

/// No alarm on any sound state, and a repair of it does nothing.
#[test]
fn sound_states_raise_no_alarm_and_are_not_repaired() {
    let seed = Seed::new(404);
    let mut part = 0;
    let mut count = 0;
    for metric in METRICS {
        for trees in 1..=3 {
            for spill in [false, true] {
                part += 1;
                let store = Store::with_map_size(64 << 20);
                let raw = store.raw;
                states(&store, metric, trees, spill, seed.rng(part), &mut |wtxn| {
                    count += 1;
                    let what = format!("{metric}, {trees} trees, spill {spill}, state {count}");
                    assert_sound(&store, wtxn, &what);
                    let before = raw.all(wtxn);
                    let options = IndexOptions::new(DIMS, metric);
                    let repair =
                        Writer::repair(wtxn, store.db, 0, &options, &build_options()).unwrap();
                    assert_eq!(
                        (repair.violations_found, repair.lost.len(), repair.build),
                        (0, 0, None),
                        "{what}"
                    );
                    assert!(
                        raw.all(wtxn) == before,
                        "{what}: a repair of nothing changed something"
                    );
                });
            }
        }
    }
    assert!(count >= 400, "{count} states");
}

/// Vectors of extreme lengths are sound too: no factor of a sketch is so large that it is not
/// itself.
#[test]
fn extreme_vectors_raise_no_alarm() {
    let seed = Seed::new(405);
    for (part, metric) in
        (0u64..).zip([Metric::Euclidean, Metric::Cosine, Metric::DotProduct, Metric::Manhattan])
    {
        for scale in [1e-30f32, 1e-18, 1e9, 1e17] {
            let mut rng = seed.rng(part);
            let store = Store::with_map_size(64 << 20);
            let mut wtxn = store.env.write_txn().unwrap();
            let writer = create(&store, &mut wtxn, DIMS, metric);
            for id in 0..600 {
                let row: Vec<f32> =
                    uniform(&mut rng, metric, DIMS).iter().map(|x| x * scale).collect();
                writer.add_item(&mut wtxn, id, &row).unwrap();
            }
            writer.build(&mut wtxn, &build_options()).unwrap();
            assert_sound(&store, &wtxn, &format!("{metric}, scaled by {scale:e}"));
            for id in 0..30 {
                let row: Vec<f32> =
                    uniform(&mut rng, metric, DIMS).iter().map(|x| x * scale).collect();
                writer.add_item(&mut wtxn, 580 + id, &row).unwrap();
                writer.del_item(&mut wtxn, id).unwrap();
            }
            let stats = writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
            assert_eq!(stats.method, BuildMethod::Incremental);
            assert_sound(&store, &wtxn, &format!("{metric}, scaled by {scale:e}, after changes"));
        }
    }
}
