//! Laws of verification: it is silent about sound stores, names every planted damage, and what it
//! names is repaired.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "verify/damage.rs"]
mod damage;
#[path = "verify/item_damage.rs"]
mod item_damage;
#[path = "verify/keys.rs"]
mod keys;
#[path = "verify/node_damage.rs"]
mod node_damage;
#[path = "verify/repair.rs"]
mod repair;
#[path = "verify/sound.rs"]
mod sound;
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use damage::{Damage, RECORD_KEY};
use item_damage::OF_ITEMS;
use node_damage::OF_NODES;
use rand::RngExt;
use rand::seq::IndexedRandom;
use spinney::heed::{RoTxn, RwTxn};
use spinney::{BuildMethod, BuildOptions, Error, IndexOptions, Metric, Reader, Writer};
use support::patient::{DIMS, Subject, build_options, id};
use support::raw::*;
use support::*;

/// What a verification says: keys and words. An index that cannot be opened has those of the error.
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
    assert_items(&reader, items);
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
    assert!(repair.violations_found > 0);
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
                repair.lost.is_empty() && lost.is_empty() && repair.violations_found > 0,
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
