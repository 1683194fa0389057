//! The same seed and the same operations give the same bytes, at any number of threads.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation
)]

mod support;

use std::path::Path;

use rand::RngExt;
use rayon::ThreadPool;
use spinney::heed::RwTxn;
use spinney::{BuildMethod, BuildOptions, BuildStats, IndexOptions, Metric, Reader, Writer};
use support::raw::{BRANCH, Content, LEAF, PENDING};
use support::*;

/// Not a multiple of 64, to which the crate rounds up.
const DIMS: usize = 20;
/// Several chunks for each thread, and enough leaves for two levels of branches.
const ITEMS: usize = 2_100;
const MAP_BYTES: usize = 256 << 20;

#[derive(Copy, Clone, Debug)]
struct Case {
    metric: Metric,
    trees: usize,
    spill: bool,
    bits: u8,
    /// Of the forest.
    seed: u64,
    /// Of the items and of the operations.
    data: u64,
}

impl Case {
    fn options(self) -> BuildOptions<'static> {
        BuildOptions::default()
            .trees(self.trees)
            .spill(self.spill)
            .leaf_size(40)
            .sketch_bits(self.bits)
            .seed(self.seed)
    }

    fn writer(self, store: &Store, wtxn: &mut RwTxn<'_>) -> Writer {
        Writer::open_or_create(wtxn, store.db, 3, &IndexOptions::new(DIMS, self.metric)).unwrap()
    }
}

/// How a sequence of operations is run; it must not show in the bytes.
#[derive(Copy, Clone)]
enum Threads<'a> {
    /// In the pool given by [`BuildOptions::thread_pool`].
    Given(&'a ThreadPool),
    /// In the pool of the calling thread.
    Current(&'a ThreadPool),
}

impl Threads<'_> {
    fn build(self, writer: &Writer, wtxn: &mut RwTxn<'_>, options: BuildOptions<'_>) -> BuildStats {
        let stats = match self {
            Self::Given(pool) => writer.build(wtxn, &options.thread_pool(pool)),
            Self::Current(pool) => pool.install(|| writer.build(wtxn, &options)),
        };
        let stats = stats.unwrap();
        assert_ne!(stats.method, BuildMethod::Nothing);
        stats
    }
}

/// Adds, overwrites and deletes at random.
fn change(writer: &Writer, wtxn: &mut RwTxn<'_>, count: usize, rng: &mut Rng) {
    for _ in 0..count {
        let id = rng.random_range(0..ITEMS as u32 * 5 / 4);
        if rng.random_range(0..3) == 0 {
            writer.del_item(wtxn, id).unwrap();
        } else {
            writer.add_item(wtxn, id, &clustered_row(writer.metric(), DIMS, rng)).unwrap();
        }
    }
}

/// The content after each of three stages: a first build, a build after changes, changes without a
/// build. Nothing is committed.
fn run(store: &Store, case: Case, threads: Threads<'_>) -> [Content; 3] {
    let mut rng = rng(case.data);
    let mut wtxn = store.env.write_txn().unwrap();
    let writer = case.writer(store, &mut wtxn);
    let ids: Vec<u32> = (0..ITEMS as u32).collect();
    writer.add_items(&mut wtxn, &ids, &clustered_rows(case.metric, DIMS, ITEMS, &mut rng)).unwrap();
    threads.build(&writer, &mut wtxn, case.options());
    let first = store.raw.content(&wtxn);
    change(&writer, &mut wtxn, 500, &mut rng);
    threads.build(&writer, &mut wtxn, BuildOptions::default());
    let second = store.raw.content(&wtxn);
    change(&writer, &mut wtxn, 100, &mut rng);
    [first, second, store.raw.content(&wtxn)]
}

/// Few changes, near one another: a region goes and another is filled, so that leaves merge and
/// split.
fn change_in_places(store: &Store, writer: &Writer, wtxn: &mut RwTxn<'_>, rng: &mut Rng) {
    let metric = writer.metric();
    let (gone, filled) = (clustered_row(metric, DIMS, rng), clustered_row(metric, DIMS, rng));
    let near = Reader::open(wtxn, store.db, 3).unwrap().nns(60).exact().by_vector(&gone).unwrap();
    near.iter().for_each(|hit| assert!(writer.del_item(wtxn, hit.id).unwrap()));
    for (i, hit) in near.iter().enumerate() {
        let mut vector = filled.clone();
        let at = rng.random_range(0..DIMS);
        vector[at] = if metric == Metric::Hamming {
            1.0 - vector[at]
        } else {
            vector[at] + rng.random_range(0.0..0.2)
        };
        let id = if i % 2 == 0 { hit.id } else { rng.random_range(0..ITEMS as u32 * 2) };
        writer.add_item(wtxn, id, &vector).unwrap();
    }
    change(writer, wtxn, 40, rng);
}

/// The content after a first build and after each of several incremental ones. With `commits`, each
/// is committed, and the environment is opened anew for the next.
fn run_rounds(dir: &Path, case: Case, threads: Threads<'_>, commits: bool) -> Vec<Content> {
    let mut rng = rng(case.data);
    let mut store = Store::at(dir, MAP_BYTES);
    let (mut contents, mut tally) = (Vec::new(), [0; 3]);
    let mut wtxn = store.env.write_txn().unwrap();
    let mut writer = case.writer(&store, &mut wtxn);
    let ids: Vec<u32> = (0..ITEMS as u32).collect();
    writer.add_items(&mut wtxn, &ids, &clustered_rows(case.metric, DIMS, ITEMS, &mut rng)).unwrap();
    threads.build(&writer, &mut wtxn, case.options());
    for _ in 0..5 {
        contents.push(store.raw.content(&wtxn));
        if commits {
            wtxn.commit().unwrap();
            store.close();
            store = Store::at(dir, MAP_BYTES);
            wtxn = store.env.write_txn().unwrap();
            // A writer belongs to the environment it was opened in.
            writer = case.writer(&store, &mut wtxn);
        }
        change_in_places(&store, &writer, &mut wtxn, &mut rng);
        let stats = threads.build(&writer, &mut wtxn, BuildOptions::default());
        assert_eq!(stats.method, BuildMethod::Incremental);
        tally = [
            tally[0] + stats.leaves_split,
            tally[1] + stats.leaves_merged,
            tally[2] + stats.items_reassigned,
        ];
    }
    assert!(
        tally.iter().all(|count| *count > 0),
        "{case:?}: {tally:?} leaves split, merged, items re-homed"
    );
    contents.push(store.raw.content(&wtxn));
    let found = Reader::open(&wtxn, store.db, 3).unwrap().verify().unwrap();
    assert!(found.is_sound(), "{case:?}: {:?}", found.violations);
    wtxn.abort();
    store.close();
    contents
}

/// Incremental builds, round upon round, with ten seeds: neither threads nor commits show.
#[test]
fn threads_do_not_show_in_incremental_builds() {
    let data = Seed::new(15);
    let (one, two, three, eight) = (pool(1), pool(2), pool(3), pool(8));
    for number in 0..2 * METRICS.len() {
        let (trees, spill, bits) = [
            (2, true, 2),
            (1, true, 1),
            (3, false, 4),
            (1, false, 4),
            (2, true, 1),
            (1, true, 2),
            (1, true, 4),
        ][number % 7];
        let own = data.number() + number as u64;
        let case = Case {
            metric: METRICS[number % METRICS.len()],
            trees,
            spill,
            bits,
            seed: own,
            data: own,
        };
        let run = |threads, commits| {
            let dir = tempfile::tempdir().unwrap();
            run_rounds(dir.path(), case, threads, commits)
        };
        let expected = run(Threads::Given(&one), false);
        let others = [
            (Threads::Given(&two), true),
            (Threads::Current(&three), false),
            (Threads::Given(&eight), true),
        ];
        for (other, (threads, commits)) in others.into_iter().enumerate() {
            for (round, (got, expected)) in run(threads, commits).iter().zip(&expected).enumerate()
            {
                got.assert_same(expected, &format!("{case:?}, run {other}, round {round}"));
            }
        }
    }
}

fn without_records(content: &Content) -> Vec<&([u8; 8], Vec<u8>)> {
    content.0.iter().filter(|(key, _)| key[2] != 0).collect()
}

fn threads_do_not_show(metric: Metric) {
    let data = Seed::new(11);
    let store = Store::with_map_size(MAP_BYTES);
    let (one, two, eight) = (pool(1), pool(2), pool(8));
    for (trees, spill, bits) in [(1, false, 4), (1, true, 2), (3, false, 1), (3, true, 1)] {
        let mut other_seed: Option<[Content; 3]> = None;
        for seed in [0, u64::MAX] {
            let case = Case { metric, trees, spill, bits, seed, data: data.number() };
            let expected = run(&store, case, Threads::Given(&one));
            // The second seed runs in the pool of the calling thread.
            let others = match seed {
                0 => [Threads::Given(&two), Threads::Given(&eight)],
                _ => [Threads::Current(&two), Threads::Current(&eight)],
            };
            for (threads, name) in others.into_iter().zip(["2 threads", "8 threads"]) {
                for (stage, (got, expected)) in
                    run(&store, case, threads).iter().zip(&expected).enumerate()
                {
                    got.assert_same(expected, &format!("{case:?}, {name}, stage {stage}"));
                }
            }
            for (stage, other) in other_seed.iter().flatten().enumerate() {
                // The seed itself is in the record: something else has to differ too.
                let differs = without_records(other) != without_records(&expected[stage]);
                assert!(differs, "{case:?}, stage {stage}: the seed does not show");
            }
            for tree in 1..trees as u8 {
                let differs = expected[0].values(LEAF, 0) != expected[0].values(LEAF, tree);
                assert!(differs, "{case:?}: trees 0 and {tree} are the same");
            }
            assert!(
                !expected[0].values(BRANCH, 0).is_empty(),
                "{case:?}: there are branches to compare"
            );
            assert!(
                !expected[2].values(PENDING, 0).is_empty(),
                "{case:?}: there are marks to compare"
            );
            other_seed = Some(expected);
        }
    }
}

#[test]
fn threads_do_not_show_under_euclidean() {
    threads_do_not_show(Metric::Euclidean);
}

#[test]
fn threads_do_not_show_under_cosine() {
    threads_do_not_show(Metric::Cosine);
}

#[test]
fn threads_do_not_show_under_dot_product() {
    threads_do_not_show(Metric::DotProduct);
}

#[test]
fn threads_do_not_show_under_manhattan() {
    threads_do_not_show(Metric::Manhattan);
}

#[test]
fn threads_do_not_show_under_hamming() {
    threads_do_not_show(Metric::Hamming);
}

/// Items in ascending order at once, against items in random order one by one, with detours: some
/// are added with another vector and overwritten, some are added and deleted, some are deleted and
/// added again.
#[test]
fn the_order_of_insertion_does_not_show() {
    let seed = Seed::new(21);
    let store = Store::with_map_size(MAP_BYTES);
    let pool = pool(2);
    for (number, metric) in (0u64..).zip(METRICS) {
        let case = Case {
            metric,
            trees: 2,
            spill: number % 2 == 0,
            bits: [1, 2, 4][number as usize % 3],
            seed: seed.number(),
            data: seed.number() + number,
        };
        let mut rng = rng(case.data);
        let ids: Vec<u32> = (0..ITEMS as u32).map(|i| i * 7 + i % 3).collect();
        let rows = clustered_rows(metric, DIMS, ITEMS, &mut rng);

        let mut wtxn = store.env.write_txn().unwrap();
        let writer = case.writer(&store, &mut wtxn);
        writer.add_items(&mut wtxn, &ids, &rows).unwrap();
        let unbuilt = store.raw.content(&wtxn);
        Threads::Given(&pool).build(&writer, &mut wtxn, case.options());
        let built = store.raw.content(&wtxn);
        wtxn.abort();

        let mut order: Vec<usize> = (0..ITEMS).collect();
        for i in (1..ITEMS).rev() {
            order.swap(i, rng.random_range(0..=i));
        }
        let mut wtxn = store.env.write_txn().unwrap();
        let writer = case.writer(&store, &mut wtxn);
        for i in &order {
            let row = &rows[i * DIMS..(i + 1) * DIMS];
            match rng.random_range(0..5) {
                0 => writer
                    .add_item(&mut wtxn, ids[*i], &clustered_row(metric, DIMS, &mut rng))
                    .unwrap(),
                1 => writer.add_item(&mut wtxn, 1_000_000 + ids[*i], row).unwrap(),
                2 => {
                    writer.add_item(&mut wtxn, ids[*i], row).unwrap();
                    assert!(writer.del_item(&mut wtxn, ids[*i]).unwrap());
                }
                _ => {}
            }
            writer.add_item(&mut wtxn, ids[*i], row).unwrap();
        }
        for id in ids.iter().rev() {
            writer.del_item(&mut wtxn, 1_000_000 + id).unwrap();
        }
        store.raw.content(&wtxn).assert_same(&unbuilt, &format!("{case:?}, before the build"));
        Threads::Given(&pool).build(&writer, &mut wtxn, case.options());
        store.raw.content(&wtxn).assert_same(&built, &format!("{case:?}, after the build"));
    }
}

/// A build with another seed replaces everything: what was built before does not show.
#[test]
fn an_earlier_forest_of_another_seed_does_not_show() {
    let seed = Seed::new(31);
    let store = Store::with_map_size(MAP_BYTES);
    let pool = pool(2);
    for metric in METRICS {
        let case = Case {
            metric,
            trees: 2,
            spill: true,
            bits: 2,
            seed: seed.number(),
            data: seed.number(),
        };
        let ids: Vec<u32> = (0..ITEMS as u32).collect();
        let rows = clustered_rows(metric, DIMS, ITEMS, &mut seed.rng(0));
        let built = |earlier: &[BuildOptions<'_>]| {
            let mut wtxn = store.env.write_txn().unwrap();
            let writer = case.writer(&store, &mut wtxn);
            writer.add_items(&mut wtxn, &ids, &rows).unwrap();
            for options in earlier.iter().copied().chain([case.options()]) {
                Threads::Given(&pool).build(&writer, &mut wtxn, options);
            }
            store.raw.content(&wtxn)
        };
        let fresh = built(&[]);
        let earlier =
            BuildOptions::default().trees(3).spill(false).leaf_size(200).seed(seed.number() + 1);
        let other_seed = BuildOptions::default().seed(seed.number() + 2);
        built(&[other_seed]).assert_same(&fresh, &format!("{metric}, another seed before"));
        let rebuilt = built(&[earlier, other_seed]);
        rebuilt.assert_same(&fresh, &format!("{metric}, another shape before"));
    }
}

/// Commits between the operations, and opening the environment again, do not show; nor does an
/// empty build.
#[test]
fn commits_do_not_show() {
    let data = Seed::new(41);
    let (one, two) = (pool(1), pool(2));
    for metric in METRICS {
        let case = Case {
            metric,
            trees: 2,
            spill: true,
            bits: 2,
            seed: data.number(),
            data: data.number(),
        };
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = Store::at(other.path(), MAP_BYTES);
        let expected = run(&store, case, Threads::Given(&two));

        let mut rng = data.rng(0);
        let in_own_commit = |work: &mut dyn FnMut(&Writer, &mut RwTxn<'_>)| {
            let store = Store::at(dir.path(), MAP_BYTES);
            let mut wtxn = store.env.write_txn().unwrap();
            let writer = case.writer(&store, &mut wtxn);
            work(&writer, &mut wtxn);
            wtxn.commit().unwrap();
            let content = store.content();
            store.close();
            content
        };
        let ids: Vec<u32> = (0..ITEMS as u32).collect();
        let rows = clustered_rows(metric, DIMS, ITEMS, &mut rng);
        in_own_commit(&mut |writer, wtxn| writer.add_items(wtxn, &ids, &rows).unwrap());
        let first = in_own_commit(&mut |writer, wtxn| {
            Threads::Given(&one).build(writer, wtxn, case.options());
        });
        first.assert_same(&expected[0], &format!("{case:?}, first build"));
        in_own_commit(&mut |writer, wtxn| change(writer, wtxn, 500, &mut rng));
        let second = in_own_commit(&mut |writer, wtxn| {
            Threads::Given(&one).build(writer, wtxn, BuildOptions::default());
        });
        second.assert_same(&expected[1], &format!("{case:?}, second build"));
        let same = in_own_commit(&mut |writer, wtxn| {
            assert_eq!(
                writer.build(wtxn, &BuildOptions::default()).unwrap().method,
                BuildMethod::Nothing
            );
        });
        same.assert_same(&expected[1], &format!("{case:?}, nothing to build"));
        let third = in_own_commit(&mut |writer, wtxn| change(writer, wtxn, 100, &mut rng));
        third.assert_same(&expected[2], &format!("{case:?}, not built"));
    }
}
