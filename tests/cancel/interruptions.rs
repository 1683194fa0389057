//! Builds that a callback cancels, or that panic in it, at every call.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ThreadId;

use rayon::ThreadPool;
use spinney::heed::RwTxn;
use spinney::{BuildMethod, Error, Metric, Progress, Reader};

use crate::support::*;
use crate::{Fixture, options};

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
    how: How,
    pool: Option<&ThreadPool>,
    at: usize,
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
        rehomed += stats.items_reassigned;
        let expected = raw.content(&wtxn);
        wtxn.abort();

        // Changes that are not committed yet, of which the build knows and which it must not lose.
        let mut wtxn = fixture.wtxn();
        fixture.change(&mut wtxn, at);
        let before = raw.content(&wtxn);
        let pending = fixture.writer.pending_len(&wtxn).unwrap();
        assert!(pending > 0);
        if !interrupted(fixture, &mut wtxn, how, pool, at, threads) {
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

/// A build may be cancelled and tried again in the same transaction, time after time. It ends as if
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
            assert!(interrupted(&fixture, &mut wtxn, how, Some(&pool), 3 * step, &ids));
        }
    }
    fixture.writer.build(&mut wtxn, &options()).unwrap();
    wtxn.commit().unwrap();
    fixture.store.content().assert_same(&expected, "after ten interrupted builds");
}
