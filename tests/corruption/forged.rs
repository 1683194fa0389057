//! Bytes that somebody made on purpose: each value follows the format and has a valid check, and
//! together they say what no index says. Searches, builds, verifications and repairs end, in the
//! time and memory of what there is.

use rand::seq::SliceRandom;
use spinney::heed::RwTxn;
use spinney::{BuildOptions, Metric, Reader, Writer};

use crate::support::confined::confined;
use crate::support::patient::{DIMS, Node, Patient, Subject, build_options, id};
use crate::support::raw::*;
use crate::support::*;

/// Where the first tree is in the record.
const TREE: usize = 64;

/// Does all there is to do with a forged store, whatever comes of it, and repairs it at last.
fn live_through(subject: &Subject, wtxn: &mut RwTxn<'_>, what: &str) {
    let mut rng = Seed::new(80).rng(0);
    exercise(&subject.store, wtxn, true);
    if let Ok(writer) = Writer::open(wtxn, subject.store.db, 0) {
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
    let repair =
        Writer::repair(wtxn, subject.store.db, 0, &subject.options(), &build_options()).unwrap();
    assert!(repair.lost.is_empty(), "{what}: {:?}", repair.lost);
    let reader = Reader::open(wtxn, subject.store.db, 0).unwrap();
    assert_sound(&reader, what);
    assert!(answers(&reader).iter().all(Result::is_ok), "{what}");
}

fn assert_unsound(subject: &Subject, wtxn: &RwTxn<'_>, what: &str) {
    let found = Reader::open(wtxn, subject.store.db, 0).unwrap().verify().unwrap();
    assert!(!found.is_sound(), "{}, {what}: a verification is silent", subject.metric);
}

/// What a verification says of what was forged.
#[derive(Copy, Clone, PartialEq)]
enum Verdict {
    Unsound,
    /// It may be as the record says, or not.
    Either,
}

/// Forges in a store of this metric, and lives through it.
fn forge(metric: Metric, what: &str, verdict: Verdict, change: impl FnOnce(&mut Patient<'_>)) {
    let subject = Subject::new(metric);
    let mut patient = subject.patient();
    change(&mut patient);
    let mut wtxn = patient.wtxn;
    if verdict == Verdict::Unsound {
        assert_unsound(&subject, &wtxn, what);
    }
    live_through(&subject, &mut wtxn, &format!("{metric}, {what}"));
}

fn put_number(record: &mut [u8], at: usize, number: u32) {
    record[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

/// Replaces the first tree by levels of nodes that all name all of those below, down to leaves that
/// exist.
fn entangle(patient: &mut Patient<'_>, levels: u32, breadth: u32, leaves: &[u32]) {
    let any = patient.any(BRANCH);
    let template = patient.node(any);
    let name = |level: u32, i: u32| 1_000 + level * breadth + i;
    for level in 1..=levels {
        let below: Vec<u32> = if level == 1 {
            leaves.to_vec()
        } else {
            (0..breadth).map(|i| name(level - 1, i)).collect()
        };
        let mut node = template.clone();
        node.header[0] = level as u8;
        // Little seems to hang under them, so that a search goes on.
        node.weights = vec![0; below.len()];
        node.norms.resize(if node.norms.is_empty() { 0 } else { below.len() }, 0);
        node.ids = below;
        for i in 0..breadth {
            patient.put(key(0, BRANCH, 0, name(level, i)), &node.bytes());
        }
    }
    patient.edit([0; 8], |record| {
        put_number(record, TREE, name(levels, 0));
        put_number(record, TREE + 4, levels);
        put_number(record, TREE + 8, u32::MAX);
        put_number(record, TREE + 12, u32::MAX);
    });
}

/// The ids of the first leaves of the first tree.
fn leaves(patient: &Patient<'_>, count: usize) -> Vec<u32> {
    let leaves = patient.entries(LEAF).into_iter().filter(|(key, _)| key[3] == 0);
    leaves.map(|(key, _)| id(key)).take(count).collect()
}

/// Four to the power of twenty ways lead to the leaves; or nodes of two levels name as many as they
/// can, and each of these is there.
#[test]
fn nodes_that_name_each_others_children() {
    confined("forged::nodes_that_name_each_others_children", 120, || {
        for (metric, levels, breadth) in [
            (Metric::Euclidean, 20, 4),
            (Metric::DotProduct, 20, 4),
            (Metric::Manhattan, 20, 4),
            (Metric::Hamming, 20, 4),
            (Metric::Euclidean, 3, 120),
        ] {
            let what = format!("{levels} levels of {breadth} entangled nodes");
            forge(metric, &what, Verdict::Unsound, |patient| {
                let leaves = leaves(patient, breadth as usize);
                entangle(patient, levels, breadth, &leaves);
            });
        }
    });
}

/// A branch has so many children that all memory would go into meeting them, again and again.
#[test]
fn branches_of_far_too_many_children() {
    confined("forged::branches_of_far_too_many_children", 60, || {
        forge(Metric::Euclidean, "a million children", Verdict::Unsound, |patient| {
            entangle(patient, 24, 2, &(0..300_000).collect::<Vec<u32>>());
        });
    });
}

/// A leaf with the ids that a bitmap container holds, of which it counts more or fewer than there
/// are.
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
            [&mut |ids| ids.reverse(), &mut |ids| ids[1] = ids[0], &mut |ids| {
                ids.shuffle(&mut rng)
            }];
        for shuffle in shuffles {
            for metric in [Metric::Euclidean, Metric::Hamming] {
                forge(metric, "ids out of order", Verdict::Unsound, |patient| {
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
                        bytes.copy_from_slice(
                            &ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>(),
                        );
                        patient.put(key, &value);
                    }
                });
            }
        }
    });
}

/// Numbers of the record that no sum can take. Some may be: only what comes of them is looked at.
#[test]
fn numbers_at_their_limits() {
    confined("forged::numbers_at_their_limits", 120, || {
        let of_tree = [
            (16, "leaves"),
            (20, "branches"),
            (8, "next leaf"),
            (12, "next branch"),
            (24, "next to mend"),
        ];
        let of_tree = of_tree.map(|(at, what)| (TREE + at, what));
        let of_record = [
            (16, "items"),
            (56, "unmended"),
            (576, "measured with"),
            (592, "correction"),
            (604, "comparisons"),
        ];
        for (at, what) in of_tree.into_iter().chain(of_record) {
            for number in [u32::MAX, u32::MAX - 1, 31] {
                forge(Metric::Euclidean, what, Verdict::Either, |patient| {
                    patient.edit([0; 8], |record| put_number(record, at, number))
                });
            }
        }
    });
}

/// Weights of branches that only a great many items would have.
#[test]
fn weights_at_their_limits() {
    confined("forged::weights_at_their_limits", 60, || {
        forge(Metric::DotProduct, "great weights", Verdict::Unsound, |patient| {
            for (key, _) in patient.entries(BRANCH) {
                patient.edit_node(key, |branch| branch.weights.fill(u32::MAX));
            }
        });
    });
}

/// There are as many branches as can be counted, and the only one splits.
#[test]
fn branches_that_cannot_be_counted() {
    confined("forged::branches_that_cannot_be_counted", 60, || {
        let metric = Metric::Euclidean;
        let (store, mut rng) = (Store::with_map_size(64 << 20), Seed::new(83).rng(0));
        let raw = store.raw;
        let mut wtxn = store.env.write_txn().unwrap();
        let writer = create(&store, &mut wtxn, DIMS, metric);
        add_all(
            &writer,
            &mut wtxn,
            &(0u32..).zip(vectors(&mut rng, metric, DIMS, 1_010, Spread::Uniform)).collect(),
        );
        writer.build(&mut wtxn, &BuildOptions::default().leaf_size(40)).unwrap();
        let mut record = raw.get(&wtxn, [0; 8]);
        assert_eq!(record[TREE + 4], 1, "one branch");
        put_number(&mut record, TREE + 20, u32::MAX);
        raw.put(&mut wtxn, [0; 8], &record);
        let centre = uniform(&mut rng, metric, DIMS);
        for id in 2_001..2_800 {
            writer.add_item(&mut wtxn, id, &near(&mut rng, metric, &centre)).unwrap();
            if id % 50 == 0 {
                let _ = writer.build(&mut wtxn, &BuildOptions::default());
            }
        }
        let tree = Reader::open(&wtxn, store.db, 0).unwrap();
        assert!(!tree.verify().unwrap().is_sound() && tree.stats().unwrap().branches > 1);
    });
}

/// A tree is as high as can be: branches of one child each.
#[test]
fn the_highest_tree() {
    confined("forged::the_highest_tree", 60, || {
        forge(Metric::Euclidean, "the highest tree", Verdict::Unsound, |patient| {
            let (root, height) = patient.root(0);
            let mut node = patient.node(root);
            for level in height + 1..=32 {
                let below = if level == height + 1 { id(root) } else { 1_000 + level - 1 };
                (node.ids, node.weights, node.header[0]) = (vec![below], vec![1_000], level as u8);
                patient.put(key(0, BRANCH, 0, 1_000 + level), &node.bytes());
            }
            patient.edit([0; 8], |record| {
                put_number(record, TREE, 1_032);
                put_number(record, TREE + 4, 32);
                put_number(record, TREE + 12, 1_033);
            });
        });
    });
}

/// There are said to be as many items and marks as ids, and more come: the record can still be
/// read.
#[test]
fn counts_at_their_limits() {
    confined("forged::counts_at_their_limits", 60, || {
        for at in [16, 24, 32] {
            let subject = Subject::new(Metric::Euclidean);
            let mut patient = subject.patient();
            patient.edit([0; 8], |record| {
                record[at..at + 8].copy_from_slice(&(1u64 << 32).to_le_bytes())
            });
            let mut wtxn = patient.wtxn;
            let writer = subject.writer(&wtxn);
            writer.add_items(&mut wtxn, &[9_000, 9_001], &[1.0; 2 * DIMS]).unwrap();
            writer.add_item(&mut wtxn, 9_002, &[2.0; DIMS]).unwrap();
            assert_unsound(&subject, &wtxn, "more than there are ids");
            live_through(&subject, &mut wtxn, &format!("2^32 at {at}"));
        }
    });
}

/// Copies of values under keys with bytes that their kind does not use: they are named and removed,
/// and nothing is answered otherwise.
#[test]
fn keys_with_bytes_that_mean_nothing() {
    confined("forged::keys_with_bytes_that_mean_nothing", 60, || {
        let subject = Subject::new(Metric::Euclidean);
        let expected = |rtxn: &RwTxn<'_>| {
            let reader = Reader::open(rtxn, subject.store.db, 0).unwrap();
            let ids: Vec<u32> = reader.ids().unwrap().map(Result::unwrap).collect();
            let items = reader.items().unwrap().map(Result::unwrap).count();
            (
                answers(&reader).into_iter().map(Result::unwrap).collect::<Vec<_>>(),
                ids,
                items,
                reader.stats().unwrap(),
            )
        };
        let before = expected(&subject.store.env.write_txn().unwrap());
        let kinds = [RECORD, ORIGIN, PENDING, FREE, ITEM];
        for (kind, (tree, of)) in
            kinds.into_iter().flat_map(|kind| [(kind, (3, 0)), (kind, (255, 0)), (kind, (0, 700))])
        {
            if of > 0 && [PENDING, ITEM].contains(&kind) {
                continue;
            }
            let mut patient = subject.patient();
            let item = patient.settled();
            let (stray, value) = match kind {
                // It hides an item that is there.
                PENDING => (key(0, PENDING, tree, item), vec![0; 16]),
                ITEM => (key(0, ITEM, tree, item), patient.get(key(0, ITEM, 0, item))),
                _ => (key(0, kind, tree, of), patient.entries(kind)[0].1.clone()),
            };
            patient.put(stray, &value);
            let mut wtxn = patient.wtxn;
            assert!(expected(&wtxn) == before, "{stray:?}");
            let found = Reader::open(&wtxn, subject.store.db, 0).unwrap().verify().unwrap();
            assert!(
                found.violations.iter().any(|violation| violation.key == stray),
                "{stray:?}: {found:?}"
            );
            assert!(
                found.violations.iter().all(|violation| violation.key == stray),
                "{stray:?}: {found:?}"
            );
            // Builds do not take it for what it is not, either.
            let writer = subject.writer(&wtxn);
            for options in [BuildOptions::default(), BuildOptions::default().rebuild(true)] {
                writer.add_item(&mut wtxn, 9_000, &[0.5; DIMS]).unwrap();
                writer.build(&mut wtxn, &options).unwrap();
            }
            live_through(&subject, &mut wtxn, &format!("{stray:?}"));
        }
    });
}
