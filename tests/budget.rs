//! Bulk builds within a budget of memory: the same bytes as without, the memory that is promised,
//! and no temporary file left.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation
)]

#[path = "budget/memory.rs"]
mod memory;
mod support;

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use spinney::heed::RwTxn;
use spinney::{BuildOptions, Error, Metric, Progress, Reader, Writer};
use support::raw::create;
use support::*;

const DIMS: usize = 20;
/// Enough for several sorted runs in the least memory.
const ITEMS: usize = 12_000;
const MAP_BYTES: usize = 256 << 20;

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

/// An index of these rows, not yet built.
fn add_rows(wtxn: &mut RwTxn<'_>, store: &Store, metric: Metric, rows: &[f32]) -> Writer {
    let writer = create(store, wtxn, DIMS, metric);
    let ids: Vec<u32> = (0..(rows.len() / DIMS) as u32).map(|i| i * 3 + i % 2).collect();
    writer.add_items(wtxn, &ids, rows).unwrap();
    writer
}

/// Neither the budget nor the number of threads shows, under any metric and shape.
#[test]
fn the_budget_does_not_show_in_the_bytes() {
    let seed = Seed::new(81);
    let store = Store::with_map_size(MAP_BYTES);
    let folder = tempfile::tempdir().unwrap();
    let (one, four) = (pool(1), pool(4));
    for (number, metric) in METRICS.into_iter().enumerate() {
        let mut rng = seed.rng(number as u64);
        let clustered = clustered_rows(metric, DIMS, ITEMS, &mut rng);
        let same = clustered[..DIMS].repeat(1_000);
        let (trees, spill) = [(1, true), (2, false), (2, true)][number % 3];
        let options = BuildOptions::default().trees(trees).spill(spill).leaf_size(40);
        for (rows, name) in [(&clustered, "clustered"), (&same, "all the same")] {
            let mut wtxn = store.env.write_txn().unwrap();
            let writer = add_rows(&mut wtxn, &store, metric, rows);
            let mut built = |options: BuildOptions<'_>| {
                let stats = writer.build(&mut wtxn, &options.rebuild(true)).unwrap();
                assert!(is_empty(folder.path()));
                (stats, store.raw.content(&wtxn))
            };
            let (stats, expected) = built(options.memory(u64::MAX).thread_pool(&four));
            for memory in [0, 2 << 20] {
                for pool in [&one, &four] {
                    let within = options.memory(memory).temp_dir(folder.path()).thread_pool(pool);
                    let (own, content) = built(within);
                    let what = format!("{metric}, {name}, {memory} bytes, {trees} trees");
                    content.assert_same(&expected, &what);
                    assert_eq!(own.leaves + own.branches, stats.leaves + stats.branches, "{what}");
                    assert_eq!(own.bytes_written, stats.bytes_written, "{what}");
                }
            }
            let found = Reader::open(&wtxn, store.db, 0).unwrap().verify().unwrap();
            assert!(found.is_sound(), "{metric}: {:?}", found.violations);
        }
    }
}

/// A folder that is not there: an error that says so, and nothing is changed. A build that fits in
/// memory does not need it.
#[test]
fn a_folder_that_cannot_be_used_is_an_error_before_anything_is_written() {
    let seed = Seed::new(82);
    let store = Store::with_map_size(MAP_BYTES);
    let mut wtxn = store.env.write_txn().unwrap();
    let rows = clustered_rows(Metric::Cosine, DIMS, 3_000, &mut seed.rng(0));
    let writer = add_rows(&mut wtxn, &store, Metric::Cosine, &rows);
    let missing = tempfile::tempdir().unwrap().path().join("missing");
    for options in [BuildOptions::default(), BuildOptions::default().seed(1)] {
        let before = store.raw.content(&wtxn);
        let options = options.temp_dir(&missing);
        match writer.build(&mut wtxn, &options.memory(0)).unwrap_err() {
            Error::TemporaryFile { path, source } => {
                assert!(path.starts_with(&missing), "{path:?}");
                assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
            }
            other => panic!("{other}"),
        }
        store.raw.content(&wtxn).assert_same(&before, "after the error");
        writer.build(&mut wtxn, &options).unwrap();
    }
}

/// What the callback panics with.
struct Interruption;

/// A build that is cancelled or panics at any step leaves no file and changes nothing. Even while
/// it works, its files have no names.
#[test]
fn no_temporary_file_is_left_wherever_a_build_ends() {
    let seed = Seed::new(83);
    let store = Store::with_map_size(MAP_BYTES);
    let folder = tempfile::tempdir().unwrap();
    let mut wtxn = store.env.write_txn().unwrap();
    let rows = clustered_rows(Metric::Euclidean, DIMS, 3_000, &mut seed.rng(0));
    let writer = add_rows(&mut wtxn, &store, Metric::Euclidean, &rows);
    let before = store.raw.content(&wtxn);
    let mut steps = 0;
    for at in (0..).step_by(3) {
        let calls = AtomicUsize::new(0);
        let callback = |_: &Progress| {
            assert!(is_empty(folder.path()));
            match calls.fetch_add(1, Ordering::SeqCst) {
                call if call != at => ControlFlow::Continue(()),
                _ if at % 2 == 0 => ControlFlow::Break(()),
                _ => resume_unwind(Box::new(Interruption)),
            }
        };
        let options = BuildOptions::default().leaf_size(40).memory(0).temp_dir(folder.path());
        let options = options.progress(&callback);
        let outcome = catch_unwind(AssertUnwindSafe(|| writer.build(&mut wtxn, &options)));
        assert!(is_empty(folder.path()), "interrupted at call {at}");
        match outcome {
            Ok(Ok(_)) => break,
            Ok(Err(Error::Cancelled)) => {}
            Err(payload) if payload.is::<Interruption>() => {}
            Ok(Err(error)) => panic!("at call {at}: {error}"),
            Err(payload) => resume_unwind(payload),
        }
        store.raw.content(&wtxn).assert_same(&before, &format!("interrupted at call {at}"));
        steps = at;
    }
    assert!(steps > 100, "{steps} calls");
}
