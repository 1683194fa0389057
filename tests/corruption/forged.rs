//! Bytes that somebody made on purpose: each value follows the format and has a valid check, and together they say what
//! no index says. Searches, builds, verifications and repairs end, in the time and memory of what there is.

use rand::seq::SliceRandom;
use spinney::heed::RwTxn;
use spinney::{BuildOptions, Metric, Reader, Writer};

use crate::common::confined::confined;
use crate::common::raw::*;
use crate::common::*;
use crate::patient::{DIMS, Node, Patient, Subject, build_options};

/// Does all there is to do with a forged store, whatever comes of it, and repairs it at last.
fn live_through(subject: &Subject, wtxn: &mut RwTxn<'_>, what: &str) {
    let mut rng = Seed::new(80).rng(0);
    exercise(&subject.store, wtxn, true);
    if let Ok(writer) = Writer::open(subject.store.db, wtxn, 0) {
        // Many items in one place, so that leaves are split, and the branch above them.
        let centre = uniform(&mut rng, subject.metric, DIMS);
        for id in 0..600 {
            let _ = writer.add_item(wtxn, 5_000 + id, &near(&mut rng, subject.metric, &centre));
            if id % 60 == 59 {
                let _ = writer.build(wtxn, &BuildOptions::default());
            }
        }
    }
    exercise(&subject.store, wtxn, true);
    let repair = Writer::repair(subject.store.db, wtxn, 0, &subject.options(), &build_options()).unwrap();
    assert!(repair.lost.is_empty(), "{what}: {:?}", repair.lost);
    let reader = Reader::open(wtxn, subject.store.db, 0).unwrap();
    assert_sound(&reader, what);
    assert!(answers(&reader).iter().all(Result::is_ok), "{what}");
}

fn assert_unsound(subject: &Subject, wtxn: &RwTxn<'_>, what: &str) {
    let found = Reader::open(wtxn, subject.store.db, 0).unwrap().verify().unwrap();
    assert!(!found.is_sound(), "{}, {what}: a verification is silent", subject.metric);
}

/// Forges what a verification has to name in a store of this metric, and lives through it.
fn forge_badly(metric: Metric, what: &str, change: impl FnOnce(&mut Patient<'_>)) {
    let subject = Subject::new(metric);
    let mut patient = subject.patient();
    change(&mut patient);
    let mut wtxn = patient.wtxn;
    assert_unsound(&subject, &wtxn, what);
    live_through(&subject, &mut wtxn, &format!("{metric}, {what}"));
}

/// A leaf with the ids that a bitmap container holds, of which it counts more or fewer than there are.
#[test]
fn bitmaps_that_count_otherwise_than_they_hold() {
    confined("forged::bitmaps_that_count_otherwise_than_they_hold", 60, || {
        for metric in [Metric::Euclidean, Metric::Manhattan, Metric::Hamming] {
            for has_more in [true, false] {
                let subject = Subject::new(metric);
                let mut wtxn = subject.store.env.write_txn().unwrap();
                let (writer, mut rng) = (subject.writer(&wtxn), Seed::new(82).rng(0));
                // The last of the ids in the leaf are of items, and beyond what it counts.
                for id in 60_000..60_080 {
                    writer.add_item(&mut wtxn, id, &uniform(&mut rng, metric, DIMS)).unwrap();
                }
                writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
                wtxn.commit().unwrap();
                let mut patient = subject.patient();
                for leaf in patient.entries(LEAF).into_iter().map(|(key, _)| key).step_by(3) {
                    let mut node = patient.node(leaf);
                    node.ids = (0..4_200).map(|i| 2_000 + 3 * i).collect();
                    let (mut value, bitmap) = (node.bytes(), 64 + node.front.len() + 16);
                    value[bitmap + 300..bitmap + 400].fill(0);
                    value[bitmap + 7_500..bitmap + 7_510].fill(if has_more { 0xFF } else { 0 });
                    if has_more {
                        value[bitmap + 400..bitmap + 500].fill(0xFF);
                    }
                    patient.put(leaf, &value);
                }
                let mut wtxn = patient.wtxn;
                assert_unsound(&subject, &wtxn, "a bitmap");
                live_through(&subject, &mut wtxn, &format!("{metric}, a bitmap, {has_more}"));
            }
        }
    });
}

/// Changes the ids of a leaf.
type Shuffle<'a> = &'a mut dyn FnMut(&mut [u16]);

/// Ids of a leaf out of order, or twice.
#[test]
fn ids_out_of_order() {
    confined("forged::ids_out_of_order", 120, || {
        let mut rng = Seed::new(81).rng(0);
        let shuffles: [Shuffle<'_>; 3] =
            [&mut |ids| ids.reverse(), &mut |ids| ids[1] = ids[0], &mut |ids| ids.shuffle(&mut rng)];
        for shuffle in shuffles {
            for metric in [Metric::Euclidean, Metric::Hamming] {
                forge_badly(metric, "ids out of order", |patient| {
                    let leaves = patient.entries(LEAF);
                    for (key, value) in leaves {
                        let node = Node::parse(&value, metric);
                        if node.ids.len() < 2 {
                            continue;
                        }
                        let first = 64 + node.front.len() + 16;
                        let mut value = value.clone();
                        let bytes = &mut value[first..first + 2 * node.ids.len()];
                        let ids = bytes.as_chunks::<2>().0.iter();
                        let mut ids: Vec<u16> = ids.map(|id| u16::from_le_bytes(*id)).collect();
                        shuffle(&mut ids);
                        bytes.copy_from_slice(&ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>());
                        patient.put(key, &value);
                    }
                });
            }
        }
    });
}
