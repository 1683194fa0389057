//! Laws of a store under faults: a killed writer, a full map, a build that is cancelled or panics.
//! Index and collection are written together, and so they are refused, lost and kept together.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::RngExt;
use spinney::heed::byteorder::BigEndian;
use spinney::heed::types::{Bytes, U32};
use spinney::{BuildMethod, BuildOptions, Durability, Error, Progress, Result, Store, WriteTxn};
use support::batches::{Batches, Content, KEPT};
use support::process::{Child, given_folder, say};
use support::*;

/// Opens with any options. A process that is killed loses nothing, however it syncs.
fn open(dir: &Path, rng: &mut Rng) -> Batches {
    let durability = [Durability::Full, Durability::LoseLastCommit, Durability::None];
    let store = Store::options()
        .map_size(1 << rng.random_range(18..24))
        .map_limit(1 << 30)
        .durability(durability[rng.random_range(0..3)])
        .read_ahead(rng.random())
        .open(dir)
        .unwrap();
    let batches = Batches::new(store);
    batches.build_after([None, Some(60), Some(120)][rng.random_range(0..3)]);
    batches
}

fn write_for_ever(dir: &Path) {
    say("opening 0");
    let batches = open(dir, &mut Seed::new(0).rng(0));
    loop {
        say("writing 0");
        say(format_args!("written {}", batches.write().unwrap()));
    }
}

#[test]
fn a_killed_writer_leaves_what_it_acknowledged() {
    const TEST: &str = "a_killed_writer_leaves_what_it_acknowledged";
    if let Some(dir) = given_folder() {
        return write_for_ever(&dir);
    }
    let seed = Seed::new(810);
    let mut rng = seed.rng(0);
    let dir = tempfile::tempdir().unwrap();
    let mut before = 0;
    for kill in 0..if is_long() { 1000 } else { 60 } {
        let mut writer = Child::start(TEST, dir.path(), rng.random_range(0..1 << 40));
        let mut heard = Vec::new();
        for _ in 0..rng.random_range(1..10) {
            heard.push(writer.hear().expect("it writes for ever"));
        }
        // Anywhere between two words, too, or while it opens the store.
        std::thread::sleep(Duration::from_micros(rng.random_range(0..4000)));
        heard.extend(writer.kill());
        let written = heard.iter().filter(|(what, _)| what == "written");
        let acknowledged = written.map(|(_, batches)| *batches).max().unwrap_or(before);

        let batches = open(dir.path(), &mut rng);
        let there = batches.check(&batches.store);
        assert!(
            (acknowledged..=acknowledged + 1).contains(&there),
            "kill {kill}: {there} batches, {acknowledged} acknowledged"
        );
        // The lock of the dead writer is free.
        before = batches.write().unwrap();
    }
    assert!(before > 100, "{before} batches");
}

/// However full the map is, a write is whole or refused; and once there is room it is as if there
/// had been room before, byte for byte.
#[test]
fn a_full_map_loses_nothing_at_any_page() {
    let sizes = if is_long() { 5000 } else { 500 };
    let next = AtomicUsize::new(0);
    let (refused, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let dir = tempfile::tempdir().unwrap();
    let batches = Batches::new(Store::open(dir.path()).unwrap());
    batches.write().unwrap();
    write_and_build(&batches).unwrap();
    let expected = batches.committed();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let left = next.fetch_add(1, Ordering::Relaxed);
                    if left >= sizes {
                        return;
                    }
                    let has_room = fill_and_write(sizes, sizes - left, &expected);
                    let count = if has_room { &done } else { &refused };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let (refused, done) = (refused.into_inner(), done.into_inner());
    println!("{refused} refused, {done} done");
    assert!(refused > 50 && done > 50, "{refused} refused, {done} done");
}

/// Many batches in one transaction, and builds.
fn write_and_build(batches: &Batches) -> Result<()> {
    batches.store.write(|txn| {
        for _ in 1..KEPT {
            batches.put(txn)?;
        }
        batches.build(txn, &BuildOptions::default().leaf_size(32))
    })
}

/// Fills so many pages of a map that has room for the most, and writes and builds in what is left.
/// Whether there was room.
fn fill_and_write(most: usize, pages: usize, expected: &Content) -> bool {
    let map = (4096 * most + (1 << 17)).next_multiple_of(1 << 16);
    let dir = tempfile::tempdir().unwrap();
    let unsynced = Store::options().durability(Durability::None);
    let store = unsynced.clone().map_size(map).map_limit(map).open(dir.path()).unwrap();
    let table = store.table::<U32<BigEndian>, Bytes>("filler").unwrap();
    let batches = Batches::new(store);
    batches.write().unwrap();
    let filled = batches.store.write(|txn| {
        // A value and its header take a page.
        for key in 0..pages as u32 {
            table.put(txn.as_heed_mut(), &key, &[1; 4000])?;
        }
        Ok::<_, Error>(())
    });
    filled.unwrap();
    let before = batches.committed();
    let written = write_and_build(&batches);
    match &written {
        Ok(()) => assert!(batches.committed() == *expected, "{pages} pages"),
        Err(Error::MapFull) => {
            assert!(batches.committed() == before, "{pages} pages");
            assert_eq!(batches.check(&batches.store), 1);
            drop(batches);
            let batches = Batches::new(unsynced.open(dir.path()).unwrap());
            write_and_build(&batches).unwrap();
            assert!(batches.committed() == *expected, "{pages} pages, with more room");
            assert_eq!(batches.check(&batches.store), KEPT);
        }
        Err(error) => panic!("{pages} pages: {error}"),
    }
    written.is_ok()
}

/// What the callback of an interrupted build panics with.
struct Interruption;

/// A build that is cancelled or panics.
struct Interrupted<'a> {
    batches: &'a Batches,
    of_documents: bool,
    rebuild: bool,
    panics: bool,
}

impl Interrupted<'_> {
    /// Builds one of the two, and ends at this call of its callback, the first of which is 0.
    fn build(&self, txn: &mut WriteTxn<'_>, at: usize) -> Result<()> {
        let calls = AtomicUsize::new(0);
        let callback = |_: &Progress| match calls.fetch_add(1, Ordering::SeqCst) == at {
            true if self.panics => resume_unwind(Box::new(Interruption)),
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let options = BuildOptions::default().leaf_size(32).rebuild(self.rebuild);
        let options = options.progress(&callback);
        let Batches { index, docs, .. } = self.batches;
        let built =
            if self.of_documents { docs.build(txn, &options) } else { index.build(txn, &options) }?;
        let method = if self.rebuild { BuildMethod::Bulk } else { BuildMethod::Incremental };
        assert_eq!(built.method, method);
        assert!(calls.into_inner() <= at, "call {at} interrupted it");
        Ok(())
    }

    /// The same, without the end.
    fn finish(&self, txn: &mut WriteTxn<'_>) -> Result<Content> {
        self.build(txn, usize::MAX)?;
        self.batches.build(txn, &BuildOptions::default().leaf_size(32))?;
        Ok(self.batches.content(txn.as_heed()))
    }

    /// Whether this is how a build ended that ought to be interrupted.
    fn has_happened(&self, built: std::thread::Result<Result<()>>) -> bool {
        match built {
            Ok(Err(Error::Cancelled)) => !self.panics,
            Err(payload) => self.panics && payload.is::<Interruption>(),
            Ok(_) => false,
        }
    }

    /// Whether the build ended before this call. Else it has not been, and the next one is as if.
    fn is_over(&self, at: usize) -> bool {
        let (batches, store) = (self.batches, &self.batches.store);
        let before = batches.committed();
        // The transaction is given up with it.
        let mut ended = false;
        let write = || {
            store.write(|txn| {
                batches.put(txn)?;
                self.build(txn, at)?;
                ended = true;
                Err(Error::Cancelled)
            })
        };
        let given_up = catch_unwind(AssertUnwindSafe(write));
        assert!(ended || self.has_happened(given_up), "call {at}");
        assert!(batches.committed() == before, "call {at}");
        if ended {
            return true;
        }
        // That it is as if follows from what comes after: sometimes is often enough.
        let mut expected = None;
        if at.is_multiple_of(10) {
            let clean = store.write(|txn| {
                batches.put(txn)?;
                expected = Some(self.finish(txn)?);
                Err::<(), _>(Error::Cancelled)
            });
            assert!(matches!(clean, Err(Error::Cancelled)));
        }
        // The transaction is committed all the same.
        let put = store.write(|txn| {
            batches.put(txn)?;
            let before = batches.content(txn.as_heed());
            let built = catch_unwind(AssertUnwindSafe(|| self.build(txn, at)));
            // How often it is called depends on the threads.
            if matches!(built, Ok(Ok(()))) {
                return Err(Error::Cancelled);
            }
            assert!(self.has_happened(built), "call {at}");
            assert!(batches.content(txn.as_heed()) == before, "call {at}");
            Ok::<_, Error>(before)
        });
        let put = match put {
            Ok(put) => put,
            Err(Error::Cancelled) => return true,
            Err(error) => panic!("call {at}: {error}"),
        };
        assert!(batches.committed() == put, "call {at}");
        let built = store.write(|txn| self.finish(txn)).unwrap();
        assert!(expected.is_none_or(|expected| built == expected), "the build after call {at}");
        false
    }
}

/// Wherever a build is cancelled or panics, it has not been.
#[test]
fn a_build_that_fails_anywhere_has_not_been() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::options().durability(Durability::None).open(dir.path()).unwrap();
    let batches = Batches::new(store);
    batches.build_after(None);
    let filled = batches.store.write(|txn| {
        (0..KEPT).try_for_each(|_| batches.put(txn).map(|_| ()))?;
        batches.build(txn, &BuildOptions::default().leaf_size(32))
    });
    filled.unwrap();
    let mut calls = Vec::new();
    for number in 0..8 {
        let [of_documents, rebuild, panics] = [1, 2, 4].map(|bit| number & bit != 0);
        let build = Interrupted { batches: &batches, of_documents, rebuild, panics };
        calls.push((0..10_000).find(|at| build.is_over(*at)).expect("builds end"));
        batches.check(&batches.store);
    }
    println!("{calls:?} calls");
    assert!(calls.iter().all(|calls| *calls > 8), "{calls:?}");
}
