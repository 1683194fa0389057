//! Laws of verification: it is silent about sound stores, names every planted damage, and what it
//! names is repaired.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "verify/damage.rs"]
mod damage;
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use damage::{Damage, OF_ITEMS, OF_NODES, RECORD_KEY};
use rand::RngExt;
use rand::seq::IndexedRandom;
use spinney::heed::{RoTxn, RwTxn};
use spinney::{BuildMethod, BuildOptions, Error, IndexOptions, Metric, Reader, Writer};
use support::patient::{DIMS, Subject, TREES, build_options, id};
use support::raw::*;
use support::*;

/// What a verification says: keys and words. An index that cannot be opened is told by the error.
fn verify(store: &Store, rtxn: &RoTxn<'_>) -> Vec<([u8; 8], String)> {
    let found = match Reader::open(rtxn, store.db, 0) {
        Ok(reader) => reader.verify().expect("damage is no error"),
        Err(Error::Corrupted { key, what }) if key == [0; 8] => {
            return vec![(key, what.to_owned())];
        }
        Err(Error::IndexNotFound { index: 0 }) => {
            return vec![([0; 8], "no such index".to_owned())];
        }
        Err(error) => panic!("damage is named by its key: {error}"),
    };
    found.violations.into_iter().map(|violation| (violation.key, violation.what)).collect()
}

#[track_caller]
fn assert_sound(store: &Store, rtxn: &RoTxn<'_>, what: &str) {
    let found = verify(store, rtxn);
    assert!(
        found.is_empty(),
        "{what}: {} violations, among them {:?}",
        found.len(),
        &found[..found.len().min(5)]
    );
}

/// The items that can still be read, and the ids of the others, from the bytes.
fn survivors(subject: &Subject, wtxn: &RoTxn<'_>) -> (Items, Vec<u32>) {
    let (mut items, mut lost) = (Items::new(), Vec::new());
    let bytes = if subject.metric == Metric::Hamming { 32 } else { 48 };
    for (key, value) in
        subject.store.raw.all(wtxn).into_iter().filter(|(key, _)| key[..3] == [0, 0, ITEM])
    {
        let row: Vec<f32> = match subject.metric {
            _ if value.len() != bytes => vec![f32::NAN],
            // Bits beyond the dimensions are no part of a vector.
            Metric::Hamming
                if value[16] >> DIMS > 0 || value[17..].iter().any(|byte| *byte > 0) =>
            {
                vec![f32::NAN]
            }
            Metric::Hamming => {
                (0..DIMS).map(|i| f32::from(value[16 + i / 8] >> (i % 8) & 1)).collect()
            }
            _ => value[16..]
                .chunks_exact(4)
                .take(DIMS)
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                .collect(),
        };
        if key[3] == 0 && row.iter().all(|x| x.is_finite()) {
            items.insert(id(key), row);
        } else {
            lost.push(id(key));
        }
    }
    // Not those that are where they should be, too.
    lost.retain(|id| !items.contains_key(id));
    (items, lost)
}

/// The store is sound and answers as the items say.
fn check(subject: &Subject, rtxn: &RoTxn<'_>, items: &Items) {
    assert_sound(&subject.store, rtxn, "after the repair");
    let reader = Reader::open(rtxn, subject.store.db, 0).unwrap();
    assert!(
        reader
            .items()
            .unwrap()
            .map(Result::unwrap)
            .eq(items.iter().map(|(id, row)| (*id, row.clone())))
    );
    let query = items.values().nth(items.len() / 2).unwrap();
    let ranked = ranked(subject.metric, items, query);
    for k in [10, items.len()] {
        let ask = Ask::new(k);
        let hits = reader.nns(k).by_vector(query).unwrap();
        ask.check(subject.metric, &ranked, &hits);
        if k == items.len() {
            ask.check_exact(subject.metric, &ranked, &hits);
        }
    }
}

/// Repairs, and goes on with an incremental build.
fn mend(subject: &Subject, wtxn: &mut RwTxn<'_>) {
    let (mut items, lost) = survivors(subject, wtxn);
    let repair =
        Writer::repair(wtxn, subject.store.db, 0, &subject.options(), &build_options()).unwrap();
    assert!(repair.violations > 0);
    assert_eq!(repair.lost, lost, "the items that could not be read");
    assert_eq!(repair.build.expect("it builds").items, items.len() as u64);
    check(subject, wtxn, &items);

    let writer = subject.writer(wtxn);
    let mut rng = Seed::new(402).rng(0);
    for _ in 0..10 {
        let (id, row) = (rng.random_range(0..2000), uniform(&mut rng, subject.metric, DIMS));
        writer.add_item(wtxn, id, &row).unwrap();
        items.insert(id, row);
        let id = rng.random_range(0..2000);
        assert_eq!(writer.del_item(wtxn, id).unwrap(), items.remove(&id).is_some());
    }
    let stats = writer.build(wtxn, &BuildOptions::default()).unwrap();
    assert_eq!(stats.method, BuildMethod::Incremental, "the build after the repair");
    check(subject, wtxn, &items);
}

/// Plants each kind of damage on its own. Returns how many there were.
fn plant(metric: Metric, kinds: &[&[(&str, Damage)]]) -> usize {
    let subject = Subject::new(metric);
    assert_sound(&subject.store, &subject.store.env.read_txn().unwrap(), "before the damage");
    let (mut planted, mut failures) = (0, Vec::new());
    for (what, damage) in kinds.concat() {
        let mut patient = subject.patient();
        let Some(expected) = damage(&mut patient) else { continue };
        planted += 1;
        let mut wtxn = patient.wtxn;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let found = verify(&subject.store, &wtxn);
            for (key, words) in expected {
                let is_named =
                    found.iter().any(|(named, what)| *named == key && what.contains(words));
                let shown = &found[..found.len().min(5)];
                assert!(
                    is_named,
                    "{key:02x?} ({words}) is not named among {}: {shown:?}",
                    found.len()
                );
            }
            mend(&subject, &mut wtxn);
        }));
        if let Err(panic) = outcome {
            let text = panic.downcast_ref::<String>().cloned();
            failures.push(format!("{metric}, {what}: {}", text.unwrap_or_default()));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    planted
}

/// Whatever bit of it flips, the record is named, and the repair loses no item; but for the
/// version, which may be that of a later program.
#[test]
fn a_bit_that_flips_in_the_record_is_named_and_mended() {
    let subject = Subject::new(Metric::Euclidean);
    let record = subject.store.raw.get(&subject.store.env.read_txn().unwrap(), RECORD_KEY);
    let bits = (0..8 * record.len()).filter(|bit| !(8..10).contains(&(bit / 8)));
    for bit in bits {
        let mut patient = subject.patient();
        let mut damaged = record.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        subject.store.raw.0.put(&mut patient.wtxn, &RECORD_KEY, &damaged).unwrap();
        let found = verify(&subject.store, &patient.wtxn);
        assert!(found.len() == 1 && found[0].0 == RECORD_KEY, "bit {bit}: {found:?}");
        if bit % 97 == 1 || bit / 8 == 12 {
            let (items, lost) = survivors(&subject, &patient.wtxn);
            let repair = Writer::repair(
                &mut patient.wtxn,
                subject.store.db,
                0,
                &subject.options(),
                &build_options(),
            )
            .unwrap();
            assert!(
                repair.lost.is_empty() && lost.is_empty() && repair.violations > 0,
                "bit {bit}: {repair:?}"
            );
            check(&subject, &patient.wtxn, &items);
        } else if bit == 0 {
            // By somebody who has forgotten how many dimensions there are.
            let options = IndexOptions::new(DIMS + 4, subject.metric);
            let before = subject.store.raw.all(&patient.wtxn);
            let error =
                Writer::repair(&mut patient.wtxn, subject.store.db, 0, &options, &build_options())
                    .unwrap_err();
            assert!(matches!(error, Error::Corrupted { .. }), "{error}");
            assert!(subject.store.raw.all(&patient.wtxn) == before);
        }
    }
}

/// Whatever bit of it flips, a node or an origin is named: those, too, on which nothing else
/// depends that is stored. Searches go by all of them.
#[test]
fn a_bit_that_flips_in_a_node_or_in_the_origin_is_named() {
    let seed = Seed::new(406);
    for (part, metric) in (0u64..).zip(METRICS) {
        let mut rng = seed.rng(part);
        let subject = Subject::new(metric);
        let mut patient = subject.patient();
        let keys =
            [key(0, ORIGIN, 0, 0), patient.any(LEAF), patient.any(BRANCH), patient.root(1).0];
        drop(patient);
        for key in keys {
            let value = subject.store.raw.get(&subject.store.env.read_txn().unwrap(), key);
            // Of an origin, all but what is zero and unused.
            let bytes: Vec<usize> = if key[2] == ORIGIN {
                (0..value.len() - 8).collect()
            } else {
                (0..value.len()).collect()
            };
            for at in bytes.sample(&mut rng, 50) {
                let mut patient = subject.patient();
                let mut damaged = value.clone();
                damaged[*at] ^= 1 << rng.random_range(0..8);
                subject.store.raw.0.put(&mut patient.wtxn, &key, &damaged).unwrap();
                let found = verify(&subject.store, &patient.wtxn);
                assert!(
                    found.iter().any(|(named, _)| *named == key),
                    "{metric}, {key:?}: byte {at}: {found:?}"
                );
            }
        }
    }
}

#[test]
fn planted_damage_is_named_and_mended_under_euclidean() {
    assert!(plant(Metric::Euclidean, &[OF_ITEMS, OF_NODES]) > 70);
}

#[test]
fn planted_damage_is_named_and_mended_under_cosine() {
    assert!(plant(Metric::Cosine, &[OF_NODES]) > 40);
}

#[test]
fn planted_damage_is_named_and_mended_under_dot_product() {
    assert!(plant(Metric::DotProduct, &[OF_ITEMS, OF_NODES]) > 70);
}

#[test]
fn planted_damage_is_named_and_mended_under_manhattan() {
    assert!(plant(Metric::Manhattan, &[OF_NODES]) > 40);
}

#[test]
fn planted_damage_is_named_and_mended_under_hamming() {
    assert!(plant(Metric::Hamming, &[OF_ITEMS, OF_NODES]) > 65);
}

/// Keys of other lengths, which no index has, are damage like any other.
#[test]
fn keys_of_other_lengths_are_named_and_removed() {
    let subject = Subject::new(Metric::Euclidean);
    let mut failures = Vec::new();
    for foreign in
        [&[0u8, 0, 4][..], &[0, 0, 4, 0, 0, 0, 0, 1, 7], &[0, 0, 99], &[0, 0, 6, 0, 0, 0, 9]]
    {
        let mut wtxn = subject.store.env.write_txn().unwrap();
        subject.store.raw.0.put(&mut wtxn, foreign, &[1; 16]).unwrap();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            assert!(!verify(&subject.store, &wtxn).is_empty(), "it is not named");
            mend_foreign(&subject, &mut wtxn);
        }));
        if let Err(panic) = outcome {
            failures.push(format!(
                "{foreign:?}: {}",
                panic.downcast_ref::<String>().cloned().unwrap_or_default()
            ));
        }
    }
    // Behind the last key of index 0, and of no index.
    let mut wtxn = subject.store.env.write_txn().unwrap();
    subject.store.raw.0.put(&mut wtxn, &[0, 1], &[1; 16]).unwrap();
    if catch_unwind(AssertUnwindSafe(|| {
        assert_sound(&subject.store, &wtxn, "a foreign key elsewhere")
    }))
    .is_err()
    {
        failures.push("a foreign key behind the index disturbs its verification".to_owned());
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

fn mend_foreign(subject: &Subject, wtxn: &mut RwTxn<'_>) {
    let repair =
        Writer::repair(wtxn, subject.store.db, 0, &subject.options(), &build_options()).unwrap();
    assert!(repair.violations > 0 && repair.lost.is_empty());
    assert_sound(&subject.store, wtxn, "after the repair");
}

/// A key that somebody else wrote does not hide the indexes after it.
#[test]
fn keys_of_other_lengths_hide_no_index() {
    let store = Store::with_map_size(1 << 20);
    let raw = store.raw;
    let mut wtxn = store.env.write_txn().unwrap();
    for index in [0, 3, u16::MAX] {
        Writer::open_or_create(
            &mut wtxn,
            store.db,
            index,
            &IndexOptions::new(2, Metric::Euclidean),
        )
        .unwrap();
    }
    for foreign in [&[0u8][..], &[0, 0, 99], &[0, 1], &[0, 3, 0, 0, 0, 0, 0, 0, 0], &[255, 255, 1]]
    {
        raw.0.put(&mut wtxn, foreign, &[1; 16]).unwrap();
        assert_eq!(store.db.indexes(&wtxn).unwrap(), [0, 3, u16::MAX], "with {foreign:?}");
    }
}

/// Several kinds of damage at once, and all of it in the record's absence.
#[test]
fn damage_upon_damage_is_mended() {
    let seed = Seed::new(403);
    let mut rng = seed.rng(0);
    let all: Vec<_> = OF_ITEMS.iter().chain(OF_NODES).collect();
    for metric in [Metric::DotProduct, Metric::Hamming] {
        let subject = Subject::new(metric);
        for _ in 0..12 {
            let mut patient = subject.patient();
            for _ in 0..3 {
                let (_, damage) = all[rng.random_range(0..all.len())];
                // Some damage needs what another has destroyed.
                let _ = catch_unwind(AssertUnwindSafe(|| damage(&mut patient)));
            }
            let mut wtxn = patient.wtxn;
            if !verify(&subject.store, &wtxn).is_empty() {
                mend(&subject, &mut wtxn);
            }
        }
    }
}

/// The shape of the old forest is kept if the record can be read, whatever the defaults.
#[test]
fn repair_keeps_the_shape() {
    let subject = Subject::new(Metric::Euclidean);
    let mut patient = subject.patient();
    let leaf = patient.any(LEAF);
    patient.delete(leaf);
    let mut wtxn = patient.wtxn;
    let before = Reader::open(&wtxn, subject.store.db, 0).unwrap().stats().unwrap();
    Writer::repair(&mut wtxn, subject.store.db, 0, &subject.options(), &BuildOptions::default())
        .unwrap();
    let after = Reader::open(&wtxn, subject.store.db, 0).unwrap().stats().unwrap();
    assert_eq!((after.trees, after.spill, after.leaf_size), (usize::from(TREES), true, 32));
    assert_eq!((after.sketch_bits, after.branch_bits), (before.sketch_bits, before.branch_bits));
    assert_eq!((after.items, after.pending), (before.items, 0));
}

/// A repair whose build is cancelled leaves a sound index without a forest, in the shape it had; a
/// build completes it.
#[test]
fn a_cancelled_repair_leaves_the_rest_to_a_build() {
    let subject = Subject::new(Metric::Euclidean);
    let mut patient = subject.patient();
    let (item, leaf) = (patient.any(ITEM), patient.any(LEAF));
    patient.delete(leaf);
    subject.store.raw.put(&mut patient.wtxn, item, &[7; 5]);
    let mut wtxn = patient.wtxn;
    let (items, lost) = survivors(&subject, &wtxn);
    assert_eq!(lost, [id(item)]);
    let stop = |_: &spinney::Progress| std::ops::ControlFlow::Break(());
    let repair = Writer::repair(
        &mut wtxn,
        subject.store.db,
        0,
        &subject.options(),
        &BuildOptions::default().progress(&stop),
    );
    assert!(matches!(repair, Err(Error::Cancelled)), "{repair:?}");
    check(&subject, &wtxn, &items);
    let writer = subject.writer(&wtxn);
    assert_eq!(writer.pending_len(&wtxn).unwrap(), items.len() as u64);
    writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
    check(&subject, &wtxn, &items);
    let after = Reader::open(&wtxn, subject.store.db, 0).unwrap().stats().unwrap();
    assert_eq!(
        (after.trees, after.spill, after.leaf_size, after.pending),
        (usize::from(TREES), true, 32, 0)
    );
}

/// A repair that is told another metric or other dimensions than the record says, changes nothing.
#[test]
fn repair_refuses_another_index() {
    let subject = Subject::new(Metric::Euclidean);
    let mut patient = subject.patient();
    let leaf = patient.any(LEAF);
    patient.delete(leaf);
    let mut wtxn = patient.wtxn;
    let before = subject.store.raw.all(&wtxn);
    for (options, is_metric) in [
        (IndexOptions::new(DIMS, Metric::Cosine), true),
        (IndexOptions::new(DIMS + 1, Metric::Euclidean), false),
    ] {
        match Writer::repair(&mut wtxn, subject.store.db, 0, &options, &build_options()) {
            Err(Error::MetricMismatch { .. }) if is_metric => {}
            Err(Error::DimensionsMismatch { .. }) if !is_metric => {}
            other => panic!("{other:?}"),
        }
        assert!(subject.store.raw.all(&wtxn) == before);
    }
}

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
                        (repair.violations, repair.lost.len(), repair.build),
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
