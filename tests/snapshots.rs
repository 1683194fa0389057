//! While a writer commits, readers never block and never see half a commit. Their answers stay the
//! same for as long as they live.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss
)]

mod support;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rand::RngExt;
use spinney::{BuildMethod, BuildOptions, Error, Progress, Reader, Writer};
use support::world::{self, Kept};
use support::*;

const MAP_BYTES: usize = 1 << 30;
/// Versions that the writer writes, at least.
const VERSIONS: u32 = 60;
/// A kept reader outlives so many versions before it is closed. Each thread that reads keeps one so
/// long, so often at least.
const KEPT_FOR: u32 = 8;
const KEPT: u32 = 4;

/// What the threads share.
#[derive(Default)]
struct Shared {
    /// The last version whose commit has returned.
    committed: AtomicU32,
    /// Set when a thread ends.
    is_over: AtomicBool,
    /// How often each thread that reads has kept a reader to the end.
    kept: [AtomicU32; 2],
    /// Builds, and how many of them were incremental.
    builds: AtomicU32,
    incremental: AtomicU32,
}

/// Sets `is_over` when a thread ends, whichever way: nobody must wait for one that panicked.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// One transaction: the next version, built or not, or one of the ways not to commit it.
fn step(store: &Store, writer: &Writer, shared: &Shared, rng: &mut Rng) {
    let mut wtxn = store.env.write_txn().unwrap();
    let version = world::advance(writer, &mut wtxn, rng);
    match rng.random_range(0..8) {
        0 => return wtxn.abort(),
        1 => {
            let cancel = |progress: &Progress| {
                if progress.done < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            let built = writer.build(&mut wtxn, &BuildOptions::default().progress(&cancel));
            assert!(matches!(built, Err(Error::Cancelled)));
        }
        2..6 => {
            let is_incremental = world::build(writer, &mut wtxn) == BuildMethod::Incremental;
            shared.builds.fetch_add(1, Ordering::Relaxed);
            shared.incremental.fetch_add(u32::from(is_incremental), Ordering::Relaxed);
        }
        _ => {}
    }
    // A transaction sees itself as readers will see it.
    if rng.random_range(0..8) == 0 {
        assert_eq!(world::check(&Reader::open(&wtxn, store.db, 0).unwrap(), rng), version);
    }
    wtxn.commit().unwrap();
    shared.committed.store(version, Ordering::SeqCst);
}

/// Opens snapshot after snapshot until the writer is done. Keeps one open over many commits, time
/// and again.
///
/// Returns how many snapshots it has seen.
fn read(store: &Store, shared: &Shared, kept_to_the_end: &AtomicU32, mut rng: Rng) -> u32 {
    let _over = Over(&shared.is_over);
    let (mut seen, mut last) = (0, 0);
    loop {
        let is_over = shared.is_over.load(Ordering::SeqCst);
        let kept_txn = store.env.read_txn().unwrap();
        let kept = Kept::new(Reader::open(&kept_txn, store.db, 0).unwrap(), &mut rng);
        loop {
            let committed = shared.committed.load(Ordering::SeqCst);
            let rtxn = store.env.read_txn().unwrap();
            let version = world::check(&Reader::open(&rtxn, store.db, 0).unwrap(), &mut rng);
            assert!(
                version >= committed,
                "a snapshot of version {version} was opened after the commit of {committed}"
            );
            assert!(
                version >= last && version >= kept.version,
                "version {version} was seen after {last}"
            );
            (last, seen) = (version, seen + 1);
            kept.check(&kept_txn, store.db);
            if version >= kept.version + KEPT_FOR {
                kept_to_the_end.fetch_add(1, Ordering::SeqCst);
                break;
            }
            if shared.is_over.load(Ordering::SeqCst) {
                break;
            }
        }
        if is_over {
            return seen;
        }
    }
}

#[test]
fn snapshots_are_whole_and_stay_as_they_are() {
    let seed = Seed::new(101);
    let store = Store::with_map_size(MAP_BYTES);
    let writer = world::create(&store.env, store.db);
    let shared = Shared::default();
    std::thread::scope(|scope| {
        let (store, shared) = (&store, &shared);
        let readers = [0, 1].map(|number| {
            let rng = rng(seed.number() + 1 + number as u64);
            scope.spawn(move || read(store, shared, &shared.kept[number], rng))
        });
        let over = Over(&shared.is_over);
        let mut rng = seed.rng(0);
        let is_enough = || {
            let is_kept = shared.kept.iter().all(|kept| kept.load(Ordering::SeqCst) >= KEPT);
            is_kept && shared.committed.load(Ordering::SeqCst) >= VERSIONS
        };
        while !is_enough() && !shared.is_over.load(Ordering::SeqCst) {
            step(store, &writer, shared, &mut rng);
        }
        drop(over);
        let committed = shared.committed.load(Ordering::SeqCst);
        for (reader, kept) in readers.into_iter().zip(&shared.kept) {
            let seen = reader.join().unwrap();
            println!(
                "{committed} versions; a reader saw {seen} snapshots and kept {kept:?} over {KEPT_FOR} versions each"
            );
        }
    });
    assert!(shared.committed.load(Ordering::SeqCst) >= VERSIONS, "all ended before their time");
    // When nobody reads or writes any more, the last version is there.
    let rtxn = store.env.read_txn().unwrap();
    let last = world::check(&Reader::open(&rtxn, store.db, 0).unwrap(), &mut seed.rng(0));
    assert_eq!(last, shared.committed.into_inner());
    let (builds, incremental) = (shared.builds.into_inner(), shared.incremental.into_inner());
    println!("{incremental} of {builds} builds were incremental");
    assert!(2 * incremental > builds, "{incremental} of {builds} builds were incremental");
}

/// One thread, so that it is certain what happens in between: a reader outlives many builds, a
/// clear and the end of its index.
#[test]
fn a_kept_reader_outlives_everything() {
    let seed = Seed::new(111);
    let store = Store::with_map_size(MAP_BYTES);
    let writer = world::create(&store.env, store.db);
    let (mut rng, shared) = (seed.rng(0), Shared::default());
    let txns: Vec<_> = (0..4)
        .map(|_| {
            (0..5).for_each(|_| step(&store, &writer, &shared, &mut rng));
            store.env.read_txn().unwrap()
        })
        .collect();
    let kept: Vec<_> = txns
        .iter()
        .map(|txn| Kept::new(Reader::open(txn, store.db, 0).unwrap(), &mut rng))
        .collect();
    assert!(kept.is_sorted_by_key(|kept| kept.version));
    let check = || kept.iter().zip(&txns).for_each(|(kept, txn)| kept.check(txn, store.db));
    (0..10).for_each(|_| step(&store, &writer, &shared, &mut rng));
    check();

    let mut wtxn = store.env.write_txn().unwrap();
    writer.clear(&mut wtxn).unwrap();
    wtxn.commit().unwrap();
    let rtxn = store.env.read_txn().unwrap();
    assert!(Reader::open(&rtxn, store.db, 0).unwrap().is_empty());
    check();

    let mut wtxn = store.env.write_txn().unwrap();
    assert!(store.db.delete_index(&mut wtxn, 0).unwrap());
    wtxn.commit().unwrap();
    let rtxn = store.env.read_txn().unwrap();
    assert!(matches!(Reader::open(&rtxn, store.db, 0), Err(Error::IndexNotFound { index: 0 })));
    check();
}
