//! How much memory a build takes, measured in a process of its own.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use spinney::{BuildOptions, Metric, Progress, Writer};

use crate::support::*;

const DIMS: usize = 128;
const ITEMS: usize = 60_000;
const TREES: usize = 16;
const BUDGET: u64 = 48 << 20;
/// What a build may take beyond its budget.
const BEYOND: u64 = 64 << 20;
/// Set in the other process: the bytes of its budget, and the trees of its forest.
const MEMORY: &str = "SPINNEY_TEST_MEMORY";
const ITS_TREES: &str = "SPINNEY_TEST_TREES";

/// Bytes of memory of this process that are no mapped file.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Builds, and says how much memory that took: at most while it computed, and at most in all, less
/// the pages that LMDB held.
fn build_and_tell(folder: &std::path::Path) {
    let given = |name| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let (memory, trees) = (given(MEMORY), given(ITS_TREES) as usize);
    let store = Store::at(folder, 2 << 30);
    let file = folder.join("data.mdb");
    let len = || std::fs::metadata(&file).unwrap().len();
    let (before, len_before) = (anonymous(), len());
    let (computing, in_all, is_done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let callback = |_: &Progress| {
        computing.fetch_max(anonymous(), Ordering::SeqCst);
        ControlFlow::Continue(())
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while is_done.load(Ordering::SeqCst) == 0 {
                in_all.fetch_max(anonymous(), Ordering::SeqCst);
                std::thread::yield_now();
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        let mut wtxn = store.env.write_txn().unwrap();
        let writer = Writer::open(&wtxn, store.db, 0).unwrap();
        let pool = pool(2);
        let options = BuildOptions::default().trees(trees).sketch_bits(4).thread_pool(&pool);
        let options = options.memory(memory).progress(&callback);
        writer.build(&mut wtxn, &options).unwrap();
        is_done.store(1, Ordering::SeqCst);
        wtxn.commit().unwrap();
    });
    let dirty = len() - len_before;
    process::say(computing.into_inner().saturating_sub(before));
    process::say(in_all.into_inner().saturating_sub(before + dirty));
}

/// What a build of these rows takes in another process, which runs this test: while it computes, and
/// in all less dirty pages.
fn measured(test: &str, rows: &[f32], trees: usize, memory: u64) -> Vec<u64> {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::at(dir.path(), 2 << 30);
    let writer = store.create_index(DIMS, Metric::Euclidean);
    let mut wtxn = store.env.write_txn().unwrap();
    let ids: Vec<u32> = (0..(rows.len() / DIMS) as u32).collect();
    writer.add_items(&mut wtxn, &ids, rows).unwrap();
    wtxn.commit().unwrap();
    store.close();
    let mut command = process::command(&format!("memory::{test}"), dir.path());
    command.env(MEMORY, memory.to_string()).env(ITS_TREES, trees.to_string());
    let said = process::run(command);
    let said: Vec<u64> = said.iter().map(|said| said.parse().unwrap()).collect();
    println!("{memory} bytes: {said:?} bytes while computing, in all less dirty pages");
    said
}

fn is_measured() -> bool {
    let is_measured = cfg!(target_os = "linux");
    if !is_measured {
        println!("skipped: the memory of a process is read from /proc");
    }
    is_measured
}

/// The other process holds to its budget. Without one it takes more, so that this says something.
#[test]
fn a_build_takes_no_more_memory_than_its_budget_allows() {
    if let Some(folder) = process::given_folder() {
        return build_and_tell(&folder);
    }
    if !is_measured() {
        return;
    }
    let rows = clustered_rows(Metric::Euclidean, DIMS, ITEMS, &mut Seed::new(84).rng(0));
    let measured = |memory| {
        measured("a_build_takes_no_more_memory_than_its_budget_allows", &rows, TREES, memory)
    };
    assert!(measured(u64::MAX)[0] > BUDGET + BEYOND, "the data are too few to say anything");
    assert!(measured(BUDGET).iter().all(|taken| *taken <= BUDGET + BEYOND));
}

/// Vectors that all coincide are in one leaf until it is divided.
#[test]
fn vectors_that_coincide_take_no_more_memory_than_others() {
    if let Some(folder) = process::given_folder() {
        return build_and_tell(&folder);
    }
    if !is_measured() {
        return;
    }
    let items = 150_000;
    let rows = vec![0.5; items * DIMS];
    let sample = (4 * items * DIMS) as u64;
    let taken = measured("vectors_that_coincide_take_no_more_memory_than_others", &rows, 1, sample);
    assert!(taken.iter().all(|taken| *taken <= sample + BEYOND));
}
