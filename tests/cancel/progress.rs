//! What a build reports while it works.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use spinney::heed::RwTxn;
use spinney::{BuildOptions, BuildPhase, Metric, Progress, ProgressCallback};

use crate::support::*;
use crate::{Fixture, ITEMS, options};

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
        BuildPhase::Refreshing,
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
