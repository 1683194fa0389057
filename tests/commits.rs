//! The laws of builds in several commits: the forest is that of a bulk build, others go on
//! meanwhile, and what goes wrong changes nothing that anybody sees.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "commits/broken_off.rs"]
mod broken_off;
#[path = "commits/killed.rs"]
mod killed;
#[path = "commits/model.rs"]
mod model;
mod support;

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use spinney::{BuildMethod, BuildOptions, BuildPhase, Error, Metric, Progress, Reader, Writer};
use support::raw::*;
use support::*;

const DIMS: usize = 12;

/// A store with an index of 1,500 items; built, and changed since then, or never built.
fn subject(seed: u64, metric: Metric, is_built: bool) -> (Store, Writer, Items) {
    let mut rng = Seed::new(seed).rng(metric as u64);
    let store = Store::with_map_size(256 << 20);
    let writer = store.create_index(DIMS, metric);
    let rows = vectors(&mut rng, metric, DIMS, 1520, Spread::Clusters);
    let mut items: Items = (0u32..).zip(rows).collect();
    let mut late = items.split_off(&1500);
    let mut wtxn = store.env.write_txn().unwrap();
    add_all(&writer, &mut wtxn, &items);
    if is_built {
        writer.build(&mut wtxn, &BuildOptions::default().leaf_size(40)).unwrap();
    }
    add_all(&writer, &mut wtxn, &late);
    items.append(&mut late);
    for id in (0..100).step_by(7) {
        writer.del_item(&mut wtxn, id).unwrap();
        items.remove(&id);
    }
    wtxn.commit().unwrap();
    (store, writer, items)
}

/// Small commits, so that there are many.
fn options<'a>() -> BuildOptions<'a> {
    BuildOptions::default().leaf_size(32).bytes_per_commit(10_000)
}

/// The bytes of a forest, whatever its generation.
fn without_generation(content: Content) -> Content {
    let entries = content.0.into_iter().map(|(mut key, mut value)| {
        match key[2] {
            RECORD => value[62] = 0,
            ORIGIN | BRANCH | LEAF | FREE => key[3] &= 0x7F,
            _ => {}
        }
        seal(key[2], &mut value);
        (key, value)
    });
    Content(entries.collect())
}

/// How many entries of a forest there are in each generation.
fn entries_by_generation(store: &Store) -> [usize; 2] {
    let content = store.content();
    let of_forest = content.0.iter().filter(|(key, _)| matches!(key[2], ORIGIN..=FREE));
    let of_forest = of_forest.filter(|(key, _)| key[2] != PENDING);
    let mut counts = [0, 0];
    of_forest.for_each(|(key, _)| counts[usize::from(key[3] >> 7)] += 1);
    counts
}

/// What an index shows: sound, these items, and answers as the oracle's.
#[track_caller]
fn assert_shows(store: &Store, items: &Items, metric: Metric, what: &str) {
    let rtxn = store.env.read_txn().unwrap();
    let reader = Reader::open(&rtxn, store.db, 0).unwrap();
    assert_sound(&reader, what);
    assert_items(&reader, items);
    assert_eq!(reader.id_set().unwrap(), items.keys().copied().collect(), "{what}");
    let Some(query) = items.values().next() else { return };
    let ranked = ranked(metric, items, query);
    let all = Ask::new(items.len());
    all.check_exact(metric, &ranked, &reader.nns(items.len()).by_vector(query).unwrap());
    Ask::new(10).check(metric, &ranked, &reader.nns(10).by_vector(query).unwrap());
}

#[test]
fn the_forest_is_that_of_a_bulk_build() {
    for metric in METRICS {
        for is_built in [false, true] {
            let (plain, writer, items) = subject(910, metric, is_built);
            let (commits, writer_in_commits, _) = subject(910, metric, is_built);
            let same = |what: &str| {
                without_generation(commits.content())
                    .assert_same(&without_generation(plain.content()), what);
                assert_shows(&commits, &items, metric, what);
                let [old, new] = entries_by_generation(&commits);
                assert!(old == 0 || new == 0, "{what}: {old} and {new} entries are left");
            };
            // Twice, so that both generations are built beside the other.
            for round in 0..2 {
                let what = format!("{metric}, built before: {is_built}, round {round}");
                let options = options().trees(2).rebuild(true);
                let mut wtxn = plain.env.write_txn().unwrap();
                let expected = writer.build(&mut wtxn, &options).unwrap();
                wtxn.commit().unwrap();
                let pool = pool(1 + round * 2);
                let options = options.thread_pool(&pool);
                let stats = writer_in_commits.build_in_commits(&commits.env, &options).unwrap();
                assert_eq!(stats, expected, "{what}");
                same(&what);
                // Incremental builds work in either generation, and do the same.
                for (store, writer) in [(&plain, writer), (&commits, writer_in_commits)] {
                    let mut wtxn = store.env.write_txn().unwrap();
                    for id in 200..210 {
                        writer.del_item(&mut wtxn, id).unwrap();
                        writer.add_item(&mut wtxn, id, &items[&id]).unwrap();
                    }
                    let stats = writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
                    assert_eq!(stats.method, BuildMethod::Incremental, "{what}");
                    wtxn.commit().unwrap();
                }
                same(&format!("{what}, after an incremental build"));
            }
        }
    }
}

#[test]
fn commits_are_as_large_as_asked_for() {
    let (store, writer, _) = subject(911, Metric::Euclidean, true);
    for bytes in [1, 4_000, 50_000] {
        let seen = Mutex::new(Vec::new());
        let progress = |progress: &Progress| {
            if progress.phase == BuildPhase::Writing {
                let content = store.content();
                let rtxn = store.env.read_txn().unwrap();
                let shown = store.raw.get(&rtxn, key(0, RECORD, 0, 0))[62];
                let new = content.0.iter().filter(|(key, _)| {
                    matches!(key[2], ORIGIN | BRANCH | LEAF) && key[3] >> 7 != shown
                });
                let sizes: Vec<usize> = new.map(|(_, value)| value.len()).collect();
                seen.lock().unwrap().push((sizes, progress.done, progress.total));
            }
            ControlFlow::Continue(())
        };
        let options = options().rebuild(true).bytes_per_commit(bytes).progress(&progress);
        let stats = writer.build_in_commits(&store.env, &options).unwrap();
        let seen = seen.into_inner().unwrap();
        let mut before = 0;
        for (sizes, done, total) in &seen {
            assert_eq!(*total, stats.leaves + stats.branches);
            assert_eq!(*done, sizes.len() as u64 - 1, "the origin comes first");
            let largest = sizes.iter().max().unwrap();
            let sum: usize = sizes.iter().sum();
            assert!(sum - before < bytes + largest, "a commit of {} bytes", sum - before);
            before = sum;
        }
        let (_, done, total) = seen.last().unwrap();
        assert_eq!(done, total);
        let expected = stats.bytes_written as usize / (bytes + 20_000);
        assert!(seen.len() > expected, "{} commits", seen.len());
    }
}

#[test]
fn a_build_with_nothing_to_do_writes_nothing() {
    let (store, writer, _) = subject(912, Metric::Cosine, false);
    assert_eq!(writer.build_in_commits(&store.env, &options()).unwrap().method, BuildMethod::Bulk);
    let before = store.content();
    let stats = writer.build_in_commits(&store.env, &BuildOptions::default()).unwrap();
    assert_eq!(stats.method, BuildMethod::Nothing);
    store.content().assert_same(&before, "after nothing was done");
}

#[test]
fn an_index_that_becomes_empty_is_built() {
    let (store, writer, items) = subject(913, Metric::Euclidean, true);
    let mut wtxn = store.env.write_txn().unwrap();
    for id in items.keys() {
        writer.del_item(&mut wtxn, *id).unwrap();
    }
    wtxn.commit().unwrap();
    let again = &items[&1];
    let once = AtomicU64::new(0);
    let progress = |_: &Progress| {
        if once.fetch_add(1, Ordering::Relaxed) == 0 {
            let mut wtxn = store.env.write_txn().unwrap();
            writer.add_item(&mut wtxn, 1, again).unwrap();
            wtxn.commit().unwrap();
        }
        ControlFlow::Continue(())
    };
    writer.build_in_commits(&store.env, &options().progress(&progress)).unwrap();
    assert_shows(&store, &[(1, again.clone())].into(), Metric::Euclidean, "one came meanwhile");
    assert_eq!(entries_by_generation(&store), [0, 0]);
}

/// A build that is cancelled at any step leaves all bytes as they were.
#[test]
fn a_cancelled_build_changes_nothing() {
    for is_built in [false, true] {
        let (store, writer, _) = subject(914, Metric::Euclidean, is_built);
        let before = store.content();
        let mut stop = 0;
        loop {
            let polls = AtomicU64::new(0);
            let progress = |_: &Progress| match polls.fetch_add(1, Ordering::Relaxed) {
                poll if poll >= stop => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            };
            match writer.build_in_commits(&store.env, &options().progress(&progress)) {
                Err(Error::Cancelled) => {
                    store.content().assert_same(&before, &format!("cancelled at poll {stop}"));
                }
                Ok(_) => break,
                Err(error) => panic!("{error}"),
            }
            stop += 1 + stop / 4;
        }
        assert!(stop > 20, "it was cancelled {stop} polls after its begin");
    }
}

/// A map that is too small changes nothing, however far the build has come.
#[test]
fn a_full_map_changes_nothing_that_is_seen() {
    let metric = Metric::Cosine;
    let (store, writer, items) = subject(917, metric, true);
    let page = store.env.unnamed_database_stat().page_size as usize;
    let (mut refused, mut room) = (0, 8);
    loop {
        store.resize((store.env.info().last_page_number + room) * page);
        match writer.build_in_commits(&store.env, &options().rebuild(true)) {
            Ok(_) => break,
            Err(Error::MapFull) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        assert_shows(&store, &items, metric, &format!("with room for {room} pages"));
        room += 8;
    }
    assert!(refused > 5, "{refused} builds did not fit");
    store.resize(256 << 20);
    assert_shows(&store, &items, metric, "after the build that did fit");
    let mut wtxn = store.env.write_txn().unwrap();
    writer.build(&mut wtxn, &BuildOptions::default().rebuild(true)).unwrap();
    wtxn.commit().unwrap();
    assert_shows(&store, &items, metric, "after the next build");
    assert!(entries_by_generation(&store).contains(&0));
}

/// What changes while a build is cancelled stays changed, and nothing else.
#[test]
fn changes_during_a_cancelled_build_are_kept() {
    for is_built in [false, true] {
        let (store, writer, mut items) = subject(915, Metric::Euclidean, is_built);
        let first = AtomicU64::new(0);
        let progress = |progress: &Progress| {
            if first.fetch_add(1, Ordering::Relaxed) == 0 {
                let mut wtxn = store.env.write_txn().unwrap();
                // Never in a forest; in the forest; new.
                writer.del_item(&mut wtxn, 1510).unwrap();
                writer.del_item(&mut wtxn, 300).unwrap();
                writer.add_item(&mut wtxn, 5000, &items[&301]).unwrap();
                wtxn.commit().unwrap();
            }
            match progress.phase {
                BuildPhase::Writing => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        };
        let result = writer.build_in_commits(&store.env, &options().progress(&progress));
        assert!(matches!(result, Err(Error::Cancelled)));
        items.remove(&1510);
        items.remove(&300);
        items.insert(5000, items[&301].clone());
        assert_shows(&store, &items, Metric::Euclidean, "after the cancelled build");
        assert_eq!(entries_by_generation(&store)[1], 0);
        writer.build_in_commits(&store.env, &options()).unwrap();
        assert_shows(&store, &items, Metric::Euclidean, "after the next build");
    }
}

/// What takes the place of a build in several commits.
const OTHERS: [&str; 6] =
    ["a build", "a rebuild", "another in commits", "a repair", "a clearing", "a deletion"];

fn take_its_place(store: &Store, writer: &Writer, other: &str) {
    let mut wtxn = store.env.write_txn().unwrap();
    match other {
        "a build" => _ = writer.build(&mut wtxn, &BuildOptions::default()).unwrap(),
        "a rebuild" => _ = writer.build(&mut wtxn, &BuildOptions::default().rebuild(true)).unwrap(),
        "another in commits" => {
            drop(wtxn);
            writer.build_in_commits(&store.env, &options().rebuild(true)).unwrap();
            return;
        }
        "a repair" => {
            store.raw.0.put(&mut wtxn, &key(0, 9, 0, 0), b"damage").unwrap();
            let is = spinney::IndexOptions::new(DIMS, writer.metric());
            let repair =
                Writer::repair(&mut wtxn, store.db, 0, &is, &BuildOptions::default()).unwrap();
            assert!(repair.violations_found > 0);
        }
        "a clearing" => writer.clear(&mut wtxn).unwrap(),
        _ => assert!(store.db.delete_index(&mut wtxn, 0).unwrap()),
    }
    wtxn.commit().unwrap();
}

#[test]
fn any_other_build_takes_its_place() {
    let metric = Metric::Euclidean;
    for (other, is_built) in OTHERS.into_iter().flat_map(|other| [(other, false), (other, true)]) {
        for phase in [BuildPhase::Sampling, BuildPhase::Writing] {
            let what = format!("{other}, built before: {is_built}, while {phase}");
            let (store, writer, mut items) = subject(916, metric, is_built);
            let polls = AtomicU64::new(0);
            let progress = |progress: &Progress| {
                if progress.phase == phase && polls.fetch_add(1, Ordering::Relaxed) == 1 {
                    take_its_place(&store, &writer, other);
                }
                ControlFlow::Continue(())
            };
            let result = writer.build_in_commits(&store.env, &options().progress(&progress));
            assert!(matches!(result, Err(Error::BuildSuperseded)), "{what}: {result:?}");
            if other == "a deletion" {
                assert!(store.content().0.is_empty(), "{what}");
                continue;
            }
            if other == "a clearing" {
                items.clear();
            }
            assert_shows(&store, &items, metric, &what);
            let [old, new] = entries_by_generation(&store);
            assert!(old == 0 || new == 0, "{what}: {old} and {new} entries are left");
        }
    }
}
