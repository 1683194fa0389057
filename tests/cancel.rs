//! A build that is cancelled, panics or runs out of map at any point leaves everything as it was,
//! and the next one makes up for it.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation
)]

mod support;

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::ThreadId;

use rand::RngExt;
use rayon::ThreadPool;
use spinney::heed::RwTxn;
use spinney::{
    BuildMethod, BuildOptions, BuildPhase, Error, IndexOptions, Metric, Progress, ProgressCallback,
    Reader, Writer,
};
use support::*;

const DIMS: usize = 12;
const ITEMS: usize = 1_100;
const MAP_BYTES: usize = 256 << 20;

/// An index in an environment of its own.
struct Fixture {
    store: Store,
    writer: Writer,
    metric: Metric,
    seed: u64,
    /// Small leaves and changes that call for every phase of an incremental build; else every build
    /// is in bulk.
    is_incremental: bool,
}

impl Fixture {
    /// Items that are committed and not built.
    fn new(metric: Metric, seed: u64) -> Self {
        let store = Store::with_map_size(MAP_BYTES);
        let mut wtxn = store.env.write_txn().unwrap();
        let writer =
            Writer::open_or_create(&mut wtxn, store.db, 0, &IndexOptions::new(DIMS, metric))
                .unwrap();
        let ids: Vec<u32> = (0..ITEMS as u32).collect();
        writer
            .add_items(&mut wtxn, &ids, &clustered_rows(metric, DIMS, ITEMS, &mut rng(seed)))
            .unwrap();
        wtxn.commit().unwrap();
        Self { store, writer, metric, seed, is_incremental: false }
    }

    /// A forest of small leaves.
    fn incremental(metric: Metric, seed: u64) -> Self {
        let fixture = Self { is_incremental: true, ..Self::new(metric, seed) };
        fixture.commit_build(&fixture.options());
        fixture
    }

    fn options(&self) -> BuildOptions<'static> {
        let options = options();
        if self.is_incremental {
            options.leaf_size(32).sketch_bits(2)
        } else {
            options.rebuild(true)
        }
    }

    fn wtxn(&self) -> RwTxn<'_> {
        self.store.env.write_txn().unwrap()
    }

    /// Adds, overwrites and deletes a few items; what exactly follows from `step`.
    fn change(&self, wtxn: &mut RwTxn<'_>, step: usize) {
        let mut rng = rng(self.seed ^ (step as u64 + 1) << 20);
        for _ in 0..6 {
            let id = rng.random_range(0..ITEMS as u32 + 100);
            self.writer.add_item(wtxn, id, &clustered_row(self.metric, DIMS, &mut rng)).unwrap();
            self.writer.del_item(wtxn, rng.random_range(0..ITEMS as u32 + 100)).unwrap();
        }
        if self.is_incremental {
            // A region goes, so that leaves dissolve, and another is filled, so that leaves split.
            let (gone, filled) = (
                clustered_row(self.metric, DIMS, &mut rng),
                clustered_row(self.metric, DIMS, &mut rng),
            );
            let reader = Reader::open(wtxn, self.store.db, 0).unwrap();
            let near = reader.nns(50).exact().by_vector(&gone).unwrap();
            near.iter().for_each(|hit| assert!(self.writer.del_item(wtxn, hit.id).unwrap()));
            for id in near.iter().map(|hit| hit.id) {
                let mut vector = filled.clone();
                let at = rng.random_range(0..DIMS);
                vector[at] = if self.metric == Metric::Hamming {
                    1.0 - vector[at]
                } else {
                    vector[at] + 0.1
                };
                self.writer.add_item(wtxn, id, &vector).unwrap();
            }
        }
    }

    fn commit_build(&self, options: &BuildOptions<'_>) {
        let mut wtxn = self.wtxn();
        self.writer.build(&mut wtxn, options).unwrap();
        wtxn.commit().unwrap();
    }
}

fn options() -> BuildOptions<'static> {
    BuildOptions::default().trees(2).leaf_size(500).sketch_bits(1)
}

/// How a build is interrupted.
#[derive(Copy, Clone, Debug, PartialEq)]
enum How {
    Cancel,
    Panic,
}

/// What the interrupting callback panics with.
struct Interruption;

/// Builds with a callback that interrupts at this call (0 is the first). `false` if the build ended
/// before.
///
/// Writes down the thread in which the callback was interrupted.
fn interrupted(
    fixture: &Fixture,
    wtxn: &mut RwTxn<'_>,
    (how, pool, at): (How, Option<&ThreadPool>, usize),
    threads: &Mutex<Vec<ThreadId>>,
) -> bool {
    let (calls, after) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let callback = |_: &Progress| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        if call > at {
            after.fetch_add(1, Ordering::Relaxed);
        }
        if call == at {
            threads.lock().unwrap().push(std::thread::current().id());
            match how {
                How::Cancel => return ControlFlow::Break(()),
                // As `panic!`, without a message for each.
                How::Panic => resume_unwind(Box::new(Interruption)),
            }
        }
        ControlFlow::Continue(())
    };
    let options = fixture.options();
    let options = pool.map_or(options, |pool| options.thread_pool(pool)).progress(&callback);
    let outcome = catch_unwind(AssertUnwindSafe(|| fixture.writer.build(wtxn, &options)));
    let calls = calls.load(Ordering::Relaxed);
    match (how, outcome) {
        (_, Ok(Ok(_))) => {
            assert!(calls <= at, "the build completed though call {at} of {calls} interrupted it");
            return false;
        }
        (How::Cancel, Ok(Err(Error::Cancelled))) => {}
        (How::Panic, Err(payload)) if payload.is::<Interruption>() => {}
        (_, Ok(Err(error))) => panic!("{how:?} at call {at}: {error}"),
        (_, Err(payload)) => resume_unwind(payload),
    }
    let after = after.load(Ordering::Relaxed);
    assert_eq!(after, 0, "{how:?} at call {at}: calls after it");
    true
}

/// Interrupts a build at every call of its callback, until it completes. Returns how many calls
/// there were.
///
/// Incremental builds are committed after each, because their changes must stay few.
fn at_every_call(
    fixture: &Fixture,
    how: How,
    pool: Option<&ThreadPool>,
    threads: &Mutex<Vec<ThreadId>>,
) -> usize {
    let raw = fixture.store.raw;
    let (mut split, mut merged, mut rehomed) = (0, 0, 0);
    for at in 0..10_000 {
        let what = format!("{how:?} at call {at}");
        // The same changes and a build that nothing interrupts.
        let mut wtxn = fixture.wtxn();
        fixture.change(&mut wtxn, at);
        let stats = fixture.writer.build(&mut wtxn, &fixture.options()).unwrap();
        let method =
            if fixture.is_incremental { BuildMethod::Incremental } else { BuildMethod::Bulk };
        assert_eq!(stats.method, method, "{what}");
        split += stats.leaves_split;
        merged += stats.leaves_merged;
        rehomed += stats.items_rehomed;
        let expected = raw.content(&wtxn);
        wtxn.abort();

        // Changes that are not committed yet, of which the build knows and which it must not lose.
        let mut wtxn = fixture.wtxn();
        fixture.change(&mut wtxn, at);
        let before = raw.content(&wtxn);
        let pending = fixture.writer.pending_len(&wtxn).unwrap();
        assert!(pending > 0);
        if !interrupted(fixture, &mut wtxn, (how, pool, at), threads) {
            raw.content(&wtxn).assert_same(&expected, "a build with a callback that goes on");
            wtxn.abort();
            println!("{split} leaves split, {merged} merged, {rehomed} items re-homed");
            assert!(!fixture.is_incremental || split.min(merged).min(rehomed) > at as u64 / 4);
            return at;
        }
        raw.content(&wtxn).assert_same(&before, &format!("{what}, in the transaction"));
        wtxn.commit().unwrap();
        fixture.store.content().assert_same(&before, &format!("{what}, after the commit"));

        let mut wtxn = fixture.wtxn();
        assert_eq!(fixture.writer.pending_len(&wtxn).unwrap(), pending, "{what}");
        fixture.writer.build(&mut wtxn, &fixture.options()).unwrap();
        raw.content(&wtxn).assert_same(&expected, &format!("the build after {what}"));
        if fixture.is_incremental {
            wtxn.commit().unwrap();
        } else {
            wtxn.abort();
        }
    }
    panic!("no end of calls");
}

fn interruptions_change_nothing(how: How, metric: Metric, pools: &[Option<ThreadPool>]) {
    let seed = Seed::new(51);
    for pool in pools {
        let threads = Mutex::new(Vec::new());
        let fixture = Fixture::new(metric, seed.number());
        let first = at_every_call(&fixture, how, pool.as_ref(), &threads);
        fixture.commit_build(&options());
        let later = at_every_call(&fixture, how, pool.as_ref(), &threads);
        fixture.commit_build(&options());
        println!("{metric}, {how:?}: {first} calls in a first build, {later} in a later one");
        assert!(first > 20 && later > 0);
        let here = std::thread::current().id();
        let threads = threads.into_inner().unwrap();
        assert!(
            threads.iter().any(|thread| *thread != here),
            "the callback was called by workers too"
        );
    }
}

#[test]
fn cancelling_changes_nothing_under_euclidean() {
    interruptions_change_nothing(How::Cancel, Metric::Euclidean, &[Some(pool(1)), Some(pool(2))]);
}

#[test]
fn cancelling_changes_nothing_under_hamming() {
    interruptions_change_nothing(How::Cancel, Metric::Hamming, &[None]);
}

#[test]
fn a_panic_changes_nothing_under_euclidean() {
    interruptions_change_nothing(How::Panic, Metric::Euclidean, &[Some(pool(1)), Some(pool(2))]);
}

#[test]
fn a_panic_changes_nothing_under_manhattan() {
    interruptions_change_nothing(How::Panic, Metric::Manhattan, &[None]);
}

fn interruptions_of_incremental_builds(how: How, metric: Metric, pool: Option<&ThreadPool>) {
    let seed = Seed::new(55);
    let threads = Mutex::new(Vec::new());
    let fixture = Fixture::incremental(metric, seed.number());
    let calls = at_every_call(&fixture, how, pool, &threads);
    println!("{metric}, {how:?}: {calls} calls in an incremental build");
    assert!(calls > 100);
    let rtxn = fixture.store.env.read_txn().unwrap();
    let found = Reader::open(&rtxn, fixture.store.db, 0).unwrap().verify().unwrap();
    assert!(found.is_sound(), "{:?}", found.violations);
}

#[test]
fn cancelling_an_incremental_build_changes_nothing_under_euclidean() {
    interruptions_of_incremental_builds(How::Cancel, Metric::Euclidean, Some(&pool(2)));
}

#[test]
fn cancelling_an_incremental_build_changes_nothing_under_hamming() {
    interruptions_of_incremental_builds(How::Cancel, Metric::Hamming, Some(&pool(1)));
}

#[test]
fn a_panic_in_an_incremental_build_changes_nothing_under_dot_product() {
    interruptions_of_incremental_builds(How::Panic, Metric::DotProduct, None);
}

/// A build that was cancelled and tried again in the same transaction, time after time, ends as if
/// it never had been.
#[test]
fn a_transaction_goes_on_after_many_cancelled_builds() {
    let seed = Seed::new(61);
    let fixture = Fixture::new(Metric::Cosine, seed.number());
    let pool = pool(2);
    let ids = Mutex::new(Vec::new());
    let mut wtxn = fixture.wtxn();
    (0..5).for_each(|step| fixture.change(&mut wtxn, step));
    fixture.writer.build(&mut wtxn, &options()).unwrap();
    let expected = fixture.store.raw.content(&wtxn);
    wtxn.abort();

    let mut wtxn = fixture.wtxn();
    for step in 0..5 {
        fixture.change(&mut wtxn, step);
        for how in [How::Cancel, How::Panic] {
            assert!(interrupted(&fixture, &mut wtxn, (how, Some(&pool), 3 * step), &ids));
        }
    }
    fixture.writer.build(&mut wtxn, &options()).unwrap();
    wtxn.commit().unwrap();
    fixture.store.content().assert_same(&expected, "after ten interrupted builds");
}

/// Every report of a build, with a check that no two are made at once.
fn reports(fixture: &Fixture, wtxn: &mut RwTxn<'_>, options: BuildOptions<'_>) -> Vec<Progress> {
    let (is_busy, reports) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let callback = |progress: &Progress| {
        assert!(
            !is_busy.swap(true, Ordering::SeqCst),
            "the callback is called by two threads at once"
        );
        for _ in 0..20 {
            std::thread::yield_now();
        }
        reports.lock().unwrap().push(*progress);
        assert!(is_busy.swap(false, Ordering::SeqCst));
        ControlFlow::Continue(())
    };
    let callback: ProgressCallback<'_> = &callback;
    fixture.writer.build(wtxn, &options.progress(callback)).unwrap();
    reports.into_inner().unwrap()
}

/// Builds of several shapes and states, each with all its reports and its number of trees.
fn all_reports() -> Vec<(String, usize, Vec<Progress>)> {
    let seed = Seed::new(71);
    let pools = [pool(1), pool(2), pool(8)];
    let mut all = Vec::new();
    for (metric, trees) in [(Metric::Euclidean, 1), (Metric::Hamming, 3), (Metric::DotProduct, 2)] {
        let fixture = Fixture::new(metric, seed.number());
        for pool in &pools {
            let mut wtxn = fixture.wtxn();
            let options = options().trees(trees).leaf_size(32).thread_pool(pool);
            let mut note = |state: &str, reports| {
                all.push((
                    format!("{metric}, {} threads, {state}", pool.current_num_threads()),
                    trees,
                    reports,
                ));
            };
            note("first build", reports(&fixture, &mut wtxn, options));
            assert!(
                reports(&fixture, &mut wtxn, options).is_empty(),
                "nothing to build, nothing to report"
            );
            fixture.change(&mut wtxn, 0);
            note("later build", reports(&fixture, &mut wtxn, options));
            for id in 40..ITEMS as u32 + 100 {
                fixture.writer.del_item(&mut wtxn, id).unwrap();
            }
            note("few items", reports(&fixture, &mut wtxn, options));
        }
    }
    all
}

/// The callback is never called by two threads at once; `done` never exceeds `total`; phases come
/// in their order, from clustering on once for each tree.
#[test]
fn progress_comes_in_order_and_one_at_a_time() {
    let bulk =
        [BuildPhase::Clustering, BuildPhase::Routing, BuildPhase::Splitting, BuildPhase::Encoding];
    let incremental = [
        BuildPhase::Locating,
        BuildPhase::Changing,
        BuildPhase::Merging,
        BuildPhase::Splitting,
        BuildPhase::Mending,
        BuildPhase::Encoding,
    ];
    for (what, trees, reports) in all_reports() {
        assert!(
            reports.iter().all(|progress| progress.done <= progress.total),
            "{what}: {reports:?}"
        );
        let mut phases: Vec<BuildPhase> = reports.iter().map(|progress| progress.phase).collect();
        phases.dedup();
        if phases[0] == BuildPhase::Sampling {
            // Few items are searched exactly, so that there is nothing to calibrate.
            if phases.last() == Some(&BuildPhase::Calibrating) {
                phases.pop();
            }
            assert_eq!(phases[1..], bulk.repeat(trees), "{what}");
        } else {
            // Phases without work are left out, but never come in another order within a tree.
            let mut expected = incremental.iter().cycle().take(incremental.len() * trees);
            assert!(phases.iter().all(|phase| expected.any(|e| e == phase)), "{what}: {phases:?}");
        }
    }
}

/// Within a phase the part that is done never shrinks, and the last report of a phase has `done ==
/// total`.
#[test]
fn progress_never_goes_back_and_ends_complete() {
    for (what, _, reports) in all_reports() {
        for phase in reports.chunk_by(|a, b| a.phase == b.phase) {
            let last = phase.last().unwrap();
            assert_eq!(last.done, last.total, "{what}: the end of {}", last.phase);
            for pair in phase.windows(2) {
                let (a, b) = (pair[0], pair[1]);
                let grows = a.done <= b.done && a.done * b.total <= b.done * a.total;
                assert!(
                    grows,
                    "{what}, {}: {} of {} is followed by {} of {}",
                    a.phase, a.done, a.total, b.done, b.total
                );
            }
        }
    }
}

/// A build that finds no items left reports its phases to their end too.
#[test]
fn progress_ends_complete_without_items() {
    let seed = Seed::new(81);
    let fixture = Fixture::new(Metric::Euclidean, seed.number());
    fixture.commit_build(&options());
    let mut wtxn = fixture.wtxn();
    for id in 0..ITEMS as u32 {
        assert!(fixture.writer.del_item(&mut wtxn, id).unwrap());
    }
    let reports = reports(&fixture, &mut wtxn, options());
    let last = reports.last().unwrap();
    assert_eq!(last.done, last.total, "{reports:?}");
}

/// What a transaction of the map tests does: adds and deletes, then a build. Tells in what step the
/// map was full.
fn adds_and_builds(
    writer: &Writer,
    wtxn: &mut RwTxn<'_>,
    rng: &mut Rng,
) -> Result<(), &'static str> {
    let full = |step: &'static str, error: Error| {
        assert!(matches!(error, Error::MapFull), "{step}: {error}");
        step
    };
    for id in 0..300 {
        let vector = clustered_row(writer.metric(), DIMS, rng);
        writer
            .add_item(wtxn, ITEMS as u32 / 2 + 3 * id, &vector)
            .map_err(|error| full("add", error))?;
        writer.del_item(wtxn, 5 * id).map_err(|error| full("delete", error))?;
    }
    writer.build(wtxn, &options().trees(3)).map_err(|error| full("build", error))?;
    Ok(())
}

/// The same transaction under maps of every size from "nothing more fits" to "it fits".
#[test]
fn a_full_map_loses_nothing() {
    let seed = Seed::new(91);
    let page = 4096;
    let base = Fixture::new(Metric::Euclidean, seed.number());
    base.commit_build(&options());
    let used = |store: &Store| (store.env.info().last_page_number + 1) * page;
    let (old, start) = (base.store.content(), used(&base.store));
    let data = base.store.env.path().join("data.mdb");

    let work = |dir: &Path, map_bytes: usize| -> Result<Store, (&'static str, Store)> {
        let store = Store::at(dir, map_bytes);
        let mut wtxn = store.env.write_txn().unwrap();
        let writer = Writer::open(&wtxn, store.db, 0).unwrap();
        let failed = adds_and_builds(&writer, &mut wtxn, &mut seed.rng(0)).err();
        // LMDB refuses to commit after a failure; a commit may itself need pages that are not
        // there.
        let is_committed = if failed.is_some() && (map_bytes / page).is_multiple_of(2) {
            wtxn.abort();
            false
        } else {
            wtxn.commit().is_ok()
        };
        match failed {
            None if is_committed => Ok(store),
            _ => {
                assert!(!is_committed, "a transaction that failed was committed");
                Err((failed.unwrap_or("commit"), store))
            }
        }
    };
    let fresh = || {
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(&data, dir.path().join("data.mdb")).unwrap();
        dir
    };
    let dir = fresh();
    let complete = work(dir.path(), MAP_BYTES)
        .map_err(|(step, _)| step)
        .expect("the large map is large enough");
    let (expected, end) = (complete.content(), used(&complete));
    complete.close();

    let mut failures: Vec<&str> = Vec::new();
    let mut successes = 0;
    for map_bytes in (start..end + 3 * page).step_by(page) {
        let dir = fresh();
        let (step, store) = match work(dir.path(), map_bytes) {
            Ok(store) => {
                store.content().assert_same(&expected, "the map was large enough");
                store.close();
                successes += 1;
                continue;
            }
            Err(failure) => failure,
        };
        failures.push(step);
        let what = format!("{step} under a map of {} pages", map_bytes / page);
        store.content().assert_same(&old, &what);
        let store = if failures.len().is_multiple_of(2) {
            store.close();
            Store::at(dir.path(), MAP_BYTES)
        } else {
            grow(&store);
            store
        };
        store.content().assert_same(&old, &format!("{what}, larger map"));
        store.close();
        let retried = work(dir.path(), MAP_BYTES)
            .map_err(|(step, _)| step)
            .expect("the large map is large enough");
        retried.content().assert_same(&expected, &format!("{what}, tried again"));
        retried.close();
    }
    let count = |step| failures.iter().filter(|failed| **failed == step).count();
    let counts = ["add", "delete", "build", "commit"].map(|step| (step, count(step)));
    println!("full in {counts:?}, {successes} successes");
    assert!(
        count("add") > 0 && count("build") > 0 && successes > 0,
        "{counts:?}, {successes} successes"
    );
}

#[allow(unsafe_code)]
fn grow(store: &Store) {
    // SAFETY: no transaction of the environment is alive.
    unsafe { store.env.resize(MAP_BYTES).unwrap() };
}
