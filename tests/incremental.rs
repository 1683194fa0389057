//! Laws of builds after changes: the forest stays sound and the answers right, whatever is added,
//! overwritten or deleted; and a build reports what it did.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "incremental/case.rs"]
mod case;
mod support;

use case::{Case, DIMS};
use rand::RngExt;
use spinney::{BuildMethod, BuildOptions, IndexOptions, Metric, Reader, Writer};
use support::raw::FREE;
use support::*;

fn small() -> BuildOptions<'static> {
    BuildOptions::default().leaf_size(32)
}

/// Builds of every size around those at which a leaf, and the next one, is full; and of one more
/// item each.
#[test]
fn forests_of_every_small_size_are_sound() {
    let seed = Seed::new(17);
    for (part, metric) in (0..).zip(METRICS) {
        for spill in [true, false] {
            let store = Store::new();
            let mut case = Case::new(&store, metric, seed.rng(part));
            let rows = vectors(&mut case.rng, metric, DIMS, 200, Spread::Clusters);
            for (id, row) in (0u32..).zip(rows) {
                case.put(id, row);
                case.build_with(&small().spill(spill));
                case.check(&format!("{} items one by one", id + 1));
                case.build_with(&small().spill(spill).rebuild(true));
                case.check(&format!("{} items at once", id + 1));
            }
        }
    }
}

/// Every further copy of a vector costs a build that touches a few leaves. The forest is no larger
/// than that of other vectors.
#[test]
fn copies_that_come_one_by_one_fill_leaves() {
    let seed = Seed::new(18);
    for (part, metric) in (0..).zip(METRICS) {
        let store = Store::new();
        let mut case = Case::built(&store, metric, seed.rng(part), 1200, &small());
        let copy = case.vector();
        let (mut leaves, mut split, mut rehomed) = (0, 0, 0);
        for id in 10_000..10_500 {
            case.put(id, copy.clone());
            let stats = case.build();
            assert_eq!(stats.method, BuildMethod::Incremental);
            leaves += stats.leaves;
            (split, rehomed) = (split + stats.leaves_split, rehomed + stats.items_reassigned);
        }
        case.check("copies");
        eprintln!(
            "{metric}: 500 copies: {leaves} leaves written, {split} split, {rehomed} items moved"
        );
        // 1,000 entries in leaves that are split when they have 24: a split makes room for 12
        // entries.
        assert!(
            split < 1_000 / 8 && leaves < 500 * 6,
            "{metric}: {leaves} leaves written, {split} split"
        );
        for id in 10_000..10_400 {
            case.delete(id);
            case.build();
        }
        case.check("copies gone");
    }
}

#[test]
fn single_changes_of_small_indexes_are_incremental() {
    let seed = Seed::new(19);
    let store = Store::new();
    let mut case =
        Case::built(&store, Metric::Euclidean, seed.rng(0), 600, &BuildOptions::default());
    let mut bulk = Vec::new();
    for id in 600..2_200 {
        let row = case.vector();
        case.put(id, row);
        if case.build().method == BuildMethod::Bulk {
            bulk.push(case.items.len());
        }
    }
    // To be measured once searches use the forest, and once it is eight leaves large.
    assert_eq!(bulk, [1_001, 2_048]);
    case.check("growth");
}

#[test]
fn a_forest_stays_sound_under_changes() {
    let seed = Seed::new(7);
    for (part, metric) in (0..).zip(METRICS) {
        for (trees, spill) in [(1, true), (2, false), (3, true)] {
            let store = Store::new();
            let options = small().trees(trees).spill(spill).leaf_size(64);
            let mut case = Case::built(&store, metric, seed.rng(part), 2000, &options);
            let mut incremental = 0;
            for round in 0..25 {
                for _ in 0..case.rng.random_range(1..120) {
                    let id = case.rng.random_range(0..2600);
                    if case.rng.random_range(0..100) < 40 + round {
                        case.delete(id);
                    } else {
                        let row = case.vector();
                        case.put(id, row);
                    }
                }
                let stats = case.build();
                assert_eq!(stats.trees, trees);
                incremental += u32::from(stats.method == BuildMethod::Incremental);
                case.check(&format!("{trees} trees, spill {spill}, round {round}: {stats:?}"));
            }
            assert!(incremental > 20, "{incremental} of 25 builds were incremental");
        }
    }
}

/// One item at a time from none, with a build after each; then back to none, a few at a time.
#[test]
fn growth_from_nothing_and_back() {
    let seed = Seed::new(8);
    for (part, metric) in (0..).zip(METRICS) {
        let store = Store::new();
        let mut case = Case::new(&store, metric, seed.rng(part));
        let options = small().trees(1 + part as usize % 2).spill(part % 3 > 0);
        for id in 0..500u32 {
            let row = case.vector();
            case.put(id.wrapping_mul(0x9E37_79B9), row);
            let stats = case.build_with(&options);
            // Incremental once there are some leaves.
            let expected = if id < 32 { BuildMethod::Bulk } else { BuildMethod::Incremental };
            assert!(
                stats.method == expected || (32..96).contains(&id),
                "{metric}, {id} items before: {stats:?}"
            );
            if id % 16 == 0 {
                case.check(&format!("{id} items before"));
            }
        }
        let mut incremental = 0;
        while !case.items.is_empty() {
            for _ in 0..case.rng.random_range(1..8).min(case.items.len()) {
                let id = case.any();
                case.delete(id);
            }
            incremental += u32::from(case.build().method == BuildMethod::Incremental);
            if incremental % 8 == 0 || case.items.len() < 10 {
                case.check(&format!("{} items left", case.items.len()));
            }
        }
        assert!(incremental > 20, "{incremental} incremental builds while it shrank");
        assert!(
            Reader::open(&case.wtxn, store.db, 3)
                .unwrap()
                .nns(3)
                .by_vector(&[1.0; DIMS])
                .unwrap()
                .is_empty()
        );
        case.put(5, vec![1.0; DIMS]);
        case.build();
        case.check("one item again");
    }
}

/// By a tenth at a time to many leaves, and back to few: branches split and merge, and the tree
/// grows higher and shrinks.
#[test]
fn trees_grow_higher_and_shrink() {
    let seed = Seed::new(9);
    for (part, metric) in (0..).zip([Metric::Euclidean, Metric::DotProduct, Metric::Manhattan]) {
        let store = Store::new();
        let mut case = Case::built(&store, metric, seed.rng(part), 600, &small().spill(part == 0));
        let (mut heights, mut next) = (vec![case.tree(0)[1]], 600);
        let mut most_branches = 0;
        let (mut split, mut merged) = (0, 0);
        while case.items.len() < 6000 {
            let before = case.items.len();
            for _ in 0..case.items.len() / 9 {
                let row = case.vector();
                case.put(next, row);
                next += 1;
            }
            let stats = case.build();
            // Measured as soon as searches use the forest, and once more.
            let is_measured =
                [1001, 2048].iter().any(|due| (before + 1..=case.items.len()).contains(due));
            assert_eq!(
                stats.method,
                if is_measured { BuildMethod::Bulk } else { BuildMethod::Incremental }
            );
            split += stats.leaves_split;
            heights.push(case.tree(0)[1]);
            most_branches = most_branches.max(case.tree(0)[5]);
        }
        case.check("grown");
        while case.items.len() > 400 {
            // Regions go whole, one after another.
            let centre = case.vector();
            let gone = case.items.len() / 10;
            let ranked = ranked(metric, &case.items, &centre);
            ranked[..gone].iter().for_each(|near| case.delete(near.id));
            let stats = case.build();
            assert_eq!(stats.method, BuildMethod::Incremental);
            merged += stats.leaves_merged;
            heights.push(case.tree(0)[1]);
        }
        case.check("shrunk");
        // Every build reads the list of free leaf ids: it is no longer for what the forest once
        // was.
        let free = store.raw.all(&case.wtxn).into_iter().filter(|(key, _)| key[2] == FREE);
        assert!(
            merged > 256 && free.fold(0, |most, (_, ids)| ids.len().max(most)) == 16 + 4 * 256,
            "{merged} merged"
        );
        println!("{metric}: heights {heights:?}, {split} leaves split, {merged} merged");
        assert!(split > 50 && merged > 20, "{metric}: {split} leaves split, {merged} merged");
        assert!(heights.iter().any(|height| *height > heights[0]), "{metric}: {heights:?}");
        let [.., branches] = case.tree(0);
        assert!(
            branches < most_branches,
            "{metric}: {branches} branches are left of {most_branches}"
        );
    }
}

#[test]
fn identical_items_are_no_trouble() {
    let seed = Seed::new(10);
    for (part, metric) in (0..).zip(METRICS) {
        for spill in [false, true] {
            let store = Store::new();
            let mut case = Case::new(&store, metric, seed.rng(part));
            let row = vec![1.0; DIMS];
            (0..1100).for_each(|id| case.put(id, row.clone()));
            case.build_with(&small().spill(spill));
            case.check("identical");
            for round in 0..8u32 {
                (0..60).for_each(|i| case.put(1100 + 60 * round + i, row.clone()));
                (0..50).for_each(|i| case.delete(50 * round + i));
                assert_eq!(case.build().method, BuildMethod::Incremental);
                case.check(&format!("identical, spill {spill}, round {round}"));
            }
            // Others among them, and then these alone.
            for id in 0..100 {
                let row = uniform(&mut case.rng, metric, DIMS);
                case.put(id, row);
            }
            assert_eq!(case.build().method, BuildMethod::Incremental);
            case.check("others among identical ones");
        }
    }
}

/// Overwriting by the same vectors changes what is held in no way, batch by batch or all at once.
#[test]
fn overwriting_everything_with_itself() {
    let seed = Seed::new(11);
    for (part, metric) in (0..).zip(METRICS) {
        let store = Store::new();
        let mut case = Case::built(
            &store,
            metric,
            seed.rng(part),
            1200,
            &small().trees(2).spill(part % 2 == 0),
        );
        for batch in 0..12 {
            for id in 100 * batch..100 * batch + 100 {
                let row = case.items[&id].clone();
                case.put(id, row);
            }
            let stats = case.build();
            assert_eq!(
                (stats.method, stats.items_added, stats.items_removed),
                (BuildMethod::Incremental, 100, 100)
            );
            case.check(&format!("batch {batch} overwritten by itself"));
        }
        for (id, row) in case.items.clone() {
            case.put(id, row);
        }
        assert_eq!(case.build().method, BuildMethod::Bulk);
        case.check("all overwritten by itself");
    }
}

#[test]
fn everything_deleted_and_inserted_again() {
    let seed = Seed::new(12);
    for (part, metric) in (0..).zip(METRICS) {
        let store = Store::new();
        let mut case =
            Case::built(&store, metric, seed.rng(part), 1500, &small().spill(part % 2 == 1));
        let all = case.items.clone();
        // By turns within one build, in some builds, and across builds with nothing left in
        // between.
        for batch in 0..15 {
            (100 * batch..100 * batch + 100).for_each(|id| case.delete(id));
            if batch % 2 == 0 {
                assert_eq!(case.build().method, BuildMethod::Incremental);
            }
            (100 * batch..100 * batch + 100).for_each(|id| case.put(id, all[&id].clone()));
            assert_eq!(case.build().method, BuildMethod::Incremental);
        }
        case.check("deleted and inserted again by turns");
        all.keys().for_each(|id| case.delete(*id));
        case.build();
        case.check("nothing left");
        for (id, row) in &all {
            case.put(*id, row.clone());
        }
        case.build();
        assert!(case.items == all);
        case.check("everything again");
    }
}

/// Node ids are given out again: under churn the next ones stay near the number of nodes.
#[test]
fn node_ids_are_bounded_under_churn() {
    let seed = Seed::new(13);
    let store = Store::new();
    let mut case = Case::built(&store, Metric::Euclidean, seed.rng(0), 2500, &small().trees(2));
    let first = [0, 1].map(|tree| case.tree(tree));
    let (mut most, mut gone) = (0, 0);
    for round in 0..80 {
        // What is added lies together, and what is deleted lies together elsewhere.
        let (full, empty) = (case.vector(), case.vector());
        let region = ranked(Metric::Euclidean, &case.items, &empty);
        region[..100].iter().for_each(|near| case.delete(near.id));
        for i in 0..100 {
            let row = near(&mut case.rng, Metric::Euclidean, &full);
            case.put(2500 + 100 * round + i, row);
        }
        let stats = case.build();
        assert_eq!(stats.method, BuildMethod::Incremental);
        gone += stats.leaves_merged;
        most = most.max(case.tree(0)[4]).max(case.tree(1)[4]);
    }
    case.check("after churn");
    for (tree, first) in first.into_iter().enumerate() {
        let [.., next_leaf, next_branch, leaves, branches] = case.tree(tree);
        println!(
            "tree {tree}: {first:?}, next ids {next_leaf} and {next_branch} for {leaves} and {branches} nodes"
        );
        assert!(
            next_leaf < most + most / 2,
            "{next_leaf} leaf ids were given out for {most} leaves at most"
        );
        assert!(
            next_branch < 2 * branches.max(first[5]) + 8,
            "{next_branch} branch ids for {branches} branches"
        );
    }
    assert!(gone > u64::from(most), "{gone} leaves merged: more than there ever were at once");
}

/// What a build says about itself agrees with what was done.
#[test]
fn builds_tell_what_they_did() {
    let seed = Seed::new(14);
    let store = Store::new();
    for (part, metric) in (0..).zip(METRICS) {
        let mut case =
            Case::built(&store, metric, seed.rng(part), 3000, &small().trees(2).spill(false));
        assert_eq!(case.build().method, BuildMethod::Nothing);
        let total = Reader::open(&case.wtxn, store.db, 3).unwrap().stats().unwrap();
        for round in 0..10u32 {
            let row = case.vector();
            case.put(7, row);
            let row = case.vector();
            case.put(3000 + round, row);
            case.delete(100 + round);
            // Added and deleted since the last build: nothing to do.
            let row = case.vector();
            case.put(5000, row);
            case.delete(5000);
            let stats = case.build();
            assert_eq!(stats.method, BuildMethod::Incremental);
            assert_eq!((stats.items, stats.trees), (3000, 2));
            assert_eq!((stats.items_added, stats.items_removed), (2, 2), "{metric}, round {round}");
            // Four leaves in each tree, or more where some split, merge or are refreshed.
            let most = if stats.leaves_split + stats.leaves_merged + stats.items_reassigned == 0 {
                10
            } else {
                120
            };
            assert!((2..=most).contains(&stats.leaves), "{metric}, round {round}: {stats:?}");
            // Branches take over great changes only.
            assert!(stats.branches <= total.branches + 8, "{stats:?}");
            assert!(
                stats.bytes_written > 0
                    && stats.bytes_written < total.leaf_bytes + total.branch_bytes
            );
        }
        // So many items in one place that leaves split, and so many gone from another that leaves
        // merge.
        let (full, empty) = (case.vector(), case.vector());
        let region = ranked(metric, &case.items, &empty);
        region[..120].iter().for_each(|near| case.delete(near.id));
        for id in 6000..6120 {
            let row = near(&mut case.rng, metric, &full);
            case.put(id, row);
        }
        let stats = case.build();
        assert_eq!(
            (stats.method, stats.items_added, stats.items_removed),
            (BuildMethod::Incremental, 120, 120)
        );
        assert!(stats.leaves_split > 0 && stats.leaves_merged > 0, "{metric}: {stats:?}");
        case.check("after regions");
        case.wtxn.abort();
    }
}

/// Another shape, or the wish to rebuild, calls for a build in bulk; the same shape does not.
#[test]
fn other_options_build_in_bulk() {
    let seed = Seed::new(15);
    let store = Store::new();
    let start = small().trees(2).spill(false).sketch_bits(2).seed(3);
    let mut case = Case::built(&store, Metric::Euclidean, seed.rng(0), 1000, &start);
    let change = |case: &mut Case<'_>| {
        let row = case.vector();
        case.put(0, row);
    };
    for (options, method) in [
        (BuildOptions::default(), BuildMethod::Incremental),
        (start, BuildMethod::Incremental),
        (start.rebuild(false), BuildMethod::Incremental),
        (start.rebuild(true), BuildMethod::Bulk),
        (start, BuildMethod::Incremental),
        (start.trees(3), BuildMethod::Bulk),
        (BuildOptions::default().spill(true), BuildMethod::Bulk),
        (BuildOptions::default().leaf_size(40), BuildMethod::Bulk),
        (BuildOptions::default().sketch_bits(1), BuildMethod::Bulk),
        (BuildOptions::default().seed(4), BuildMethod::Bulk),
        (
            BuildOptions::default().trees(3).spill(true).leaf_size(40).sketch_bits(1).seed(4),
            BuildMethod::Incremental,
        ),
    ] {
        change(&mut case);
        assert_eq!(case.build_with(&options).method, method, "{options:?}");
        case.check(&format!("{options:?}"));
    }
    assert_eq!(
        case.build_with(&BuildOptions::default().rebuild(true)).method,
        BuildMethod::Bulk,
        "without changes"
    );
    assert_eq!(case.build_with(&BuildOptions::default()).method, BuildMethod::Nothing);
    let before = store.raw.all(&case.wtxn);
    assert_eq!(case.build_with(&BuildOptions::default().rebuild(true)).method, BuildMethod::Bulk);
    assert!(
        store.raw.all(&case.wtxn) == before,
        "a rebuild of the same items gives the same bytes"
    );
}

/// Deleting most of the index around one point merges all the leaves there at once.
#[test]
fn a_deleted_region_leaves_a_sound_forest() {
    let seed = Seed::new(91);
    let mut rng = seed.rng(0);
    let store = Store::new();
    let mut wtxn = store.env.write_txn().unwrap();
    let options = IndexOptions::new(24, Metric::Euclidean);
    let writer = Writer::open_or_create(&mut wtxn, store.db, 0, &options).unwrap();
    for id in 0..20_000 {
        let mut row = uniform(&mut rng, Metric::Euclidean, 24);
        // Two far regions: nine of ten items are in the first.
        row[0] += if id % 10 == 0 { 100.0 } else { 0.0 };
        writer.add_item(&mut wtxn, id, &row).unwrap();
    }
    writer.build(&mut wtxn, &BuildOptions::default().leaf_size(64)).unwrap();
    // A leaf of the first region keeps an item or two, and is merged; few enough changes at once to
    // stay incremental.
    let mut incremental = 0;
    for part in 0..12 {
        for id in (0..20_000u32).filter(|id| id % 10 != 0 && id % 97 != 0 && id / 1_667 == part) {
            writer.del_item(&mut wtxn, id).unwrap();
        }
        let stats = writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
        incremental += u32::from(stats.method == BuildMethod::Incremental);
        let found = Reader::open(&wtxn, store.db, 0).unwrap().verify().unwrap();
        assert!(found.is_sound(), "part {part}: {:?}", found.violations.first());
    }
    assert!(incremental >= 4, "{incremental} builds were incremental");
}
