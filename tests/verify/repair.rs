//! What a repair keeps, leaves to do, and refuses.

use spinney::{BuildOptions, Error, IndexOptions, Metric, Reader, Writer};

use crate::support::patient::{DIMS, Subject, TREES, build_options, id};
use crate::support::raw::*;
use crate::{check, survivors};

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

/// A repair with another metric or other dimensions than the record has changes nothing.
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
