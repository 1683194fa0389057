//! What others do just before a build in several commits calibrates, and what a build that was
//! broken off leaves where nothing is pending.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use spinney::{BuildOptions, BuildPhase, Error, Metric, Progress, Reader, Storage, Writer};

use super::{assert_shows, entries_by_generation, options, subject};
use crate::support::*;

const METRIC: Metric = Metric::Euclidean;

/// All nodes are written when another takes the place of the build. Then an item changes.
#[test]
fn a_build_whose_nodes_are_gone_is_superseded_and_nothing_is_damaged() {
    for storage in [None, Some(Storage::F16)] {
        let (store, writer, mut items) = subject(919, METRIC, true);
        let first = items.keys().copied().next().unwrap();
        let calls = AtomicU64::new(0);
        let progress = |progress: &Progress| {
            let is_last = progress.phase == BuildPhase::Writing && progress.done == progress.total;
            if is_last && calls.fetch_add(1, Ordering::Relaxed) == 0 {
                let mut wtxn = store.env.write_txn().unwrap();
                storage.into_iter().for_each(|to| _ = writer.convert(&mut wtxn, to).unwrap());
                writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
                writer.del_item(&mut wtxn, first).unwrap();
                wtxn.commit().unwrap();
            }
            ControlFlow::Continue(())
        };
        let result = writer.build_in_commits(&store.env, &options().progress(&progress));
        assert!(matches!(result, Err(Error::BuildSuperseded)), "{storage:?}: {result:?}");
        items.remove(&first);
        if storage.is_none() {
            assert_shows(&store, &items, METRIC, "superseded");
        } else {
            let rtxn = store.env.read_txn().unwrap();
            let reader = Reader::open(&rtxn, store.db, 0).unwrap();
            assert_sound(&reader, "converted");
            assert_eq!(reader.len(), items.len() as u64);
        }
    }
}

/// A rebuild is broken off; the forest before it is up to date.
fn broken_off() -> (Store, Writer, Items) {
    let (store, writer, items) = subject(920, METRIC, true);
    let mut wtxn = store.env.write_txn().unwrap();
    writer.build(&mut wtxn, &options()).unwrap();
    wtxn.commit().unwrap();
    let progress = |progress: &Progress| {
        assert!(progress.phase != BuildPhase::Writing || progress.done < 20, "broken off");
        ControlFlow::Continue(())
    };
    let build = options().rebuild(true).progress(&progress);
    let outcome = catch_unwind(AssertUnwindSafe(|| writer.build_in_commits(&store.env, &build)));
    assert!(outcome.is_err());
    (store, writer, items)
}

#[test]
fn the_next_call_deletes_what_a_broken_off_build_left_though_nothing_is_pending() {
    let (store, writer, items) = broken_off();
    let [old, new] = entries_by_generation(&store);
    assert!(old > 0 && new > 0, "{old} and {new} entries");
    writer.build_in_commits(&store.env, &options()).unwrap();
    let [old, new] = entries_by_generation(&store);
    assert!(old == 0 || new == 0, "{old} and {new} entries are left");
    assert_shows(&store, &items, METRIC, "after the next call");
}
