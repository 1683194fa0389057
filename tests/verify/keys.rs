//! Keys of other lengths, which no index has.

use std::panic::{AssertUnwindSafe, catch_unwind};

use spinney::heed::RwTxn;
use spinney::{IndexOptions, Metric, Writer};

use crate::support::patient::{Subject, build_options};
use crate::support::*;
use crate::{assert_sound, verify};

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
    assert!(repair.violations_found > 0 && repair.lost.is_empty());
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
