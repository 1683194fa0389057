//! Options that are not given: what an index was built with holds, or the number of items decides.

use spinney::heed::RwTxn;
use spinney::{BuildMethod, BuildOptions, IndexOptions, Metric, Reader, Writer};

use crate::subject::Subject;
use crate::support::*;

#[test]
fn options_that_are_not_set_keep_what_was_built() {
    let store = Store::new();
    let mut subject = Subject::new(&store, Metric::Euclidean, 1200);
    let built = BuildOptions::default().trees(3).spill(false).leaf_size(100).sketch_bits(2).seed(9);
    subject.build(&built).unwrap();
    let mut expected = (3, false, 100, 2);
    assert_eq!(subject.shape(), expected);
    assert_eq!(subject.build(&BuildOptions::default()).unwrap(), BuildMethod::Nothing);
    subject.touch();
    assert_ne!(subject.build(&BuildOptions::default()).unwrap(), BuildMethod::Nothing);
    assert_eq!(subject.shape(), expected, "a build without options");
    assert_eq!(
        subject.build(&BuildOptions::default().seed(9)).unwrap(),
        BuildMethod::Nothing,
        "the seed stays too"
    );
    let changes: [(BuildOptions<'_>, (usize, bool, usize, u8)); 4] = [
        (BuildOptions::default().trees(2), (2, false, 100, 2)),
        (BuildOptions::default().spill(true), (2, true, 100, 2)),
        (BuildOptions::default().leaf_size(64), (2, true, 64, 2)),
        (BuildOptions::default().sketch_bits(4), (2, true, 64, 4)),
    ];
    for (options, shape) in changes {
        assert_ne!(
            subject.build(&options).unwrap(),
            BuildMethod::Nothing,
            "another shape: {options:?}"
        );
        assert_eq!(subject.shape(), shape);
        assert_eq!(
            subject.build(&options).unwrap(),
            BuildMethod::Nothing,
            "the same shape again: {options:?}"
        );
        subject.check_answers();
        expected = shape;
    }
    let reseeded = BuildOptions::default().seed(10);
    assert_ne!(subject.build(&reseeded).unwrap(), BuildMethod::Nothing);
    assert_eq!(subject.build(&reseeded).unwrap(), BuildMethod::Nothing);
    assert_eq!(subject.shape(), expected);
}

/// A leaf size stays once it was given. That holds if it is the one that there is, and nothing else
/// is to be done.
#[test]
fn a_leaf_size_that_is_the_default_is_chosen_all_the_same() {
    for has_items in [true, false] {
        let store = Store::new();
        let mut wtxn = store.env.write_txn().unwrap();
        let writer = Writer::open_or_create(
            &mut wtxn,
            store.db,
            0,
            &IndexOptions::new(2, Metric::Euclidean),
        )
        .unwrap();
        let add = |wtxn: &mut RwTxn<'_>, ids: std::ops::Range<u32>| {
            let rows: Vec<f32> =
                ids.clone().flat_map(|id| [(id % 611) as f32, (id % 499) as f32]).collect();
            writer.add_items(wtxn, &ids.collect::<Vec<_>>(), &rows).unwrap();
        };
        let size =
            |wtxn: &RwTxn<'_>| Reader::open(wtxn, store.db, 0).unwrap().stats().unwrap().leaf_size;
        add(&mut wtxn, 0..2_000);
        writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
        if !has_items {
            (0..2_000).for_each(|id| assert!(writer.del_item(&mut wtxn, id).unwrap()));
            writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
        }
        let asked = BuildOptions::default().leaf_size(256);
        assert_eq!(writer.build(&mut wtxn, &asked).unwrap().method, BuildMethod::Nothing);
        add(&mut wtxn, 2_000..202_000);
        writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
        assert_eq!(size(&wtxn), 256, "items: {has_items}");
    }
}

/// "As the index was built last" holds when it has been empty in between.
#[test]
fn options_are_kept_while_an_index_is_empty() {
    let store = Store::new();
    let mut subject = Subject::new(&store, Metric::Euclidean, 200);
    subject
        .build(&BuildOptions::default().trees(3).spill(false).leaf_size(100).sketch_bits(2))
        .unwrap();
    let ids: Vec<u32> = subject.items.keys().copied().collect();
    for id in ids {
        assert!(subject.writer.del_item(&mut subject.wtxn, id).unwrap());
    }
    subject.build(&BuildOptions::default()).unwrap();
    let items = subject.items.clone();
    add_all(&subject.writer, &mut subject.wtxn, &items);
    subject.build(&BuildOptions::default()).unwrap();
    assert_eq!(subject.shape(), (3, false, 100, 2));
}

/// Larger indexes have larger leaves, unless the user chose their size: at once, and as an index
/// grows by incremental builds.
#[test]
fn the_leaf_size_follows_the_number_of_items() {
    const FEW: u32 = 199_000;
    let store = Store::new();
    for (asked, sizes) in [(None, [256, 304, 256]), (Some(300), [300, 300, 300])] {
        let mut wtxn = store.env.write_txn().unwrap();
        let writer = Writer::open_or_create(
            &mut wtxn,
            store.db,
            0,
            &IndexOptions::new(2, Metric::Euclidean),
        )
        .unwrap();
        let mut rng = Seed::new(52).rng(0);
        let mut add = |wtxn: &mut RwTxn<'_>, ids: std::ops::Range<u32>| {
            let ids: Vec<u32> = ids.collect();
            let rows: Vec<f32> =
                ids.iter().flat_map(|_| uniform(&mut rng, Metric::Euclidean, 2)).collect();
            writer.add_items(wtxn, &ids, &rows).unwrap();
        };
        let options = asked
            .map_or_else(BuildOptions::default, |size| BuildOptions::default().leaf_size(size));
        let check =
            |wtxn: &mut RwTxn<'_>, options: &BuildOptions<'_>, method: BuildMethod, size: usize| {
                assert_eq!(writer.build(wtxn, options).unwrap().method, method);
                let reader = Reader::open(wtxn, store.db, 0).unwrap();
                assert_eq!(reader.stats().unwrap().leaf_size, size);
                assert_eq!(reader.verify().unwrap().violations, []);
            };
        add(&mut wtxn, 0..FEW);
        check(&mut wtxn, &options, BuildMethod::Bulk, sizes[0]);
        add(&mut wtxn, FEW..FEW + 1_500);
        check(&mut wtxn, &BuildOptions::default(), BuildMethod::Incremental, sizes[1]);
        assert_eq!(
            writer.build(&mut wtxn, &BuildOptions::default()).unwrap().method,
            BuildMethod::Nothing
        );
        // As items go, leaves stay as large as they may be, until all are made anew.
        for id in 0..1_500 {
            writer.del_item(&mut wtxn, id).unwrap();
        }
        check(&mut wtxn, &BuildOptions::default(), BuildMethod::Incremental, sizes[1]);
        check(&mut wtxn, &BuildOptions::default().rebuild(true), BuildMethod::Bulk, sizes[2]);
    }
}

#[test]
fn clearing_forgets_the_options() {
    let store = Store::new();
    let mut subject = Subject::new(&store, Metric::Euclidean, 1200);
    subject.build(&BuildOptions::default()).unwrap();
    let default = subject.shape();
    subject
        .build(&BuildOptions::default().trees(3).spill(false).leaf_size(100).sketch_bits(1))
        .unwrap();
    subject.writer.clear(&mut subject.wtxn).unwrap();
    let items = subject.items.clone();
    add_all(&subject.writer, &mut subject.wtxn, &items);
    subject.build(&BuildOptions::default()).unwrap();
    assert_eq!(subject.shape(), default);
}
