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
/// Set in the other process: the bytes of its budget.
const MEMORY: &str = "SPINNEY_TEST_MEMORY";

/// Bytes of memory of this process that are no mapped file.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Builds, and says how much memory that took: at most while it computed, and at most in all, less
/// the pages that LMDB held.
fn build_and_tell(folder: &std::path::Path) {
    let memory = std::env::var(MEMORY).unwrap().parse().unwrap();
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
        let options = BuildOptions::default().trees(TREES).sketch_bits(4).thread_pool(&pool);
        let options = options.memory(memory).progress(&callback);
        writer.build(&mut wtxn, &options).unwrap();
        is_done.store(1, Ordering::SeqCst);
        wtxn.commit().unwrap();
    });
    let dirty = len() - len_before;
    process::say(computing.into_inner().saturating_sub(before));
    process::say(in_all.into_inner().saturating_sub(before + dirty));
}

/// The other process holds to its budget. Without one it takes more, so that this says something.
#[test]
fn a_build_takes_no_more_memory_than_its_budget_allows() {
    if let Some(folder) = process::given_folder() {
        return build_and_tell(&folder);
    }
    if !cfg!(target_os = "linux") {
        println!("skipped: the memory of a process is read from /proc");
        return;
    }
    let seed = Seed::new(84);
    let measured = |memory: u64| {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path(), 2 << 30);
        let writer = store.create_index(DIMS, Metric::Euclidean);
        let mut wtxn = store.env.write_txn().unwrap();
        let ids: Vec<u32> = (0..ITEMS as u32).collect();
        let rows = clustered_rows(Metric::Euclidean, DIMS, ITEMS, &mut seed.rng(0));
        writer.add_items(&mut wtxn, &ids, &rows).unwrap();
        wtxn.commit().unwrap();
        store.close();
        let test = "memory::a_build_takes_no_more_memory_than_its_budget_allows";
        let mut command = process::command(test, dir.path());
        command.env(MEMORY, memory.to_string());
        let said = process::run(command);
        let said: Vec<u64> = said.iter().map(|said| said.parse().unwrap()).collect();
        println!("{memory} bytes: {said:?} bytes while computing, in all less dirty pages");
        said
    };
    assert!(measured(u64::MAX)[0] > BUDGET + BEYOND, "the data are too few to say anything");
    assert!(measured(BUDGET).iter().all(|taken| *taken <= BUDGET + BEYOND));
}
