//! Laws of a store under faults: a killed writer, a full map, a build that is cancelled or panics.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::RngExt;
use spinney::heed::byteorder::BigEndian;
use spinney::heed::types::{Bytes, U32};
use spinney::{BuildOptions, Error, Index, IndexOptions, Metric, Progress, Reads, Result, Store};
use support::process::{Child, given_folder, say};
use support::*;

const DIMS: usize = 8;
const BATCH: u32 = 50;

fn row(id: u32) -> Vec<f32> {
    clustered_row(Metric::Euclidean, DIMS, &mut rng(u64::from(id)))
}

fn index(store: &Store) -> Index {
    store.index("items", &IndexOptions::new(DIMS, Metric::Euclidean)).unwrap()
}

/// Adds the items of a batch, and deletes those of the batch ten before.
fn write_batch(store: &Store, index: &Index, batch: u32) -> Result<()> {
    store.write(|txn| {
        for id in batch * BATCH..(batch + 1) * BATCH {
            index.add_item(txn, id, &row(id))?;
            if let Some(old) = id.checked_sub(10 * BATCH) {
                assert!(index.del_item(txn, old)?);
            }
        }
        Ok(())
    })
}

fn items(batches: u32) -> Items {
    (batches.saturating_sub(10) * BATCH..batches * BATCH).map(|id| (id, row(id))).collect()
}

fn batches(store: &Store, index: &Index) -> u32 {
    let last = |reader: &spinney::Reader<'_>| reader.ids()?.last().transpose();
    store.with_reader(index, last).unwrap().map_or(0, |id| id / BATCH + 1)
}

#[track_caller]
fn assert_holds(store: &Store, index: &Index, expected: &Items) {
    store
        .with_reader(index, |reader| {
            assert_sound(reader, "after a fault");
            assert_items(reader, expected);
            Ok::<_, Error>(())
        })
        .unwrap();
}

fn write_for_ever(dir: &Path) {
    let store = Store::options().map_size(1 << 19).map_limit(1 << 30).open(dir).unwrap();
    let index = index(&store);
    store.set_build_after("items", Some(120)).unwrap();
    let mut batch = batches(&store, &index);
    loop {
        say(format_args!("writing {batch}"));
        write_batch(&store, &index, batch).unwrap();
        batch += 1;
        say(format_args!("written {batch}"));
    }
}

#[test]
fn a_killed_writer_leaves_what_it_acknowledged() {
    if let Some(dir) = given_folder() {
        return write_for_ever(&dir);
    }
    let mut rng = Seed::new(810).rng(0);
    let dir = tempfile::tempdir().unwrap();
    let mut before = 0;
    for kill in 0..if is_long() { 1000 } else { 60 } {
        let mut writer = Child::start("a_killed_writer_leaves_what_it_acknowledged", dir.path(), 0);
        let times = rng.random_range(1..8);
        let mut acknowledged = before;
        for _ in 0..times {
            let (what, number) = writer.hear().expect("it writes for ever");
            acknowledged = if what == "written" { number } else { acknowledged };
        }
        // Anywhere between two words, too.
        std::thread::sleep(std::time::Duration::from_micros(rng.random_range(0..3000)));
        let said = writer.kill();
        let mut written =
            said.iter().filter(|(what, _)| what == "written").map(|(_, number)| *number);
        acknowledged = written.next_back().unwrap_or(acknowledged).max(acknowledged);

        let store = Store::open(dir.path()).unwrap();
        let index = index(&store);
        let there = batches(&store, &index);
        assert!(
            (acknowledged..=acknowledged + 1).contains(&there),
            "kill {kill}: {there} batches, {acknowledged} acknowledged"
        );
        assert_holds(&store, &index, &items(there));
        // The lock of the dead writer is free.
        write_batch(&store, &index, there).unwrap();
        before = there + 1;
    }
    assert!(before > 100, "{before} batches");
}

/// However full the map is, a write is whole or refused; and once there is room it is as if there
/// had been room before.
#[test]
fn a_full_map_loses_nothing_at_any_page() {
    let sizes = if is_long() { 5000 } else { 500 };
    let next = AtomicUsize::new(0);
    let (refused, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let left = next.fetch_add(1, Ordering::Relaxed);
                    if left >= sizes {
                        return;
                    }
                    let count = if fill_and_write(sizes - left) { &done } else { &refused };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let (refused, done) = (refused.into_inner(), done.into_inner());
    assert!(refused > 50 && done > 50, "{refused} refused, {done} done");
}

/// Fills so many pages of a map, and writes and builds in what is left. Whether there was room.
fn fill_and_write(pages: usize) -> bool {
    const MAP: usize = 33 << 16;
    let dir = tempfile::tempdir().unwrap();
    let unsynced = Store::options().durability(spinney::Durability::None);
    let store = unsynced.clone().map_size(MAP).map_limit(MAP).open(dir.path()).unwrap();
    let items_index = index(&store);
    let table = store.table::<U32<BigEndian>, Bytes>("filler").unwrap();
    write_batch(&store, &items_index, 0).unwrap();
    store
        .write(|txn| {
            // A value and its header take a page.
            for key in 0..pages as u32 {
                table.put(txn.as_heed_mut(), &key, &[1; 4000])?;
            }
            Ok::<_, Error>(())
        })
        .unwrap();
    let write = |store: &Store| {
        store.write(|txn| {
            for id in 0..1200 {
                items_index.add_item(txn, id, &row(id))?;
            }
            items_index.build(txn, &BuildOptions::default().leaf_size(32)).map(|_| ())
        })
    };
    let written = write(&store);
    let after: Items = (0..1200).map(|id| (id, row(id))).collect();
    match &written {
        Ok(()) => assert_holds(&store, &items_index, &after),
        Err(Error::MapFull) => assert_holds(&store, &items_index, &items(1)),
        Err(error) => panic!("{pages} pages: {error}"),
    }
    drop(store);
    let store = unsynced.open(dir.path()).unwrap();
    write(&store).unwrap();
    assert_holds(&store, &items_index, &after);
    written.is_ok()
}

/// Wherever a build is cancelled or panics, the write that it was part of has not been.
#[test]
fn a_build_that_fails_anywhere_undoes_the_write() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let index = index(&store);
    store.set_build_after("items", None).unwrap();
    (0..40).for_each(|batch| write_batch(&store, &index, batch).unwrap());
    store.write(|txn| index.build(txn, &BuildOptions::default().leaf_size(32))).unwrap();
    let before = items(40);
    for panics in [false, true] {
        let mut ended = false;
        let mut polls = 0;
        while !ended {
            let seen = AtomicUsize::new(0);
            let stop = |_: &Progress| match seen.fetch_add(1, Ordering::SeqCst) == polls {
                true if panics => panic!("at poll {polls}"),
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            };
            let build = BuildOptions::default().rebuild(polls % 2 == 1).progress(&stop);
            let write = || {
                store.write(|txn| {
                    (1500..1600).try_for_each(|id| index.add_item(txn, id, &row(id + 7)))?;
                    index.build(txn, &build)?;
                    // It came to its end. What was added is taken back all the same.
                    Err::<(), _>(Error::NestedWrite)
                })
            };
            match catch_unwind(AssertUnwindSafe(write)) {
                Ok(Err(Error::NestedWrite)) => ended = seen.into_inner() <= polls,
                Ok(Err(Error::Cancelled)) => assert!(!panics),
                Ok(other) => panic!("poll {polls}: {other:?}"),
                Err(_) => assert!(panics),
            }
            if polls % 16 == 0 || ended {
                assert_holds(&store, &index, &before);
            }
            polls += 1;
            assert!(polls < 100_000, "builds end");
        }
        assert!(polls > 8, "{polls} polls");
    }
    write_batch(&store, &index, 40).unwrap();
    assert_holds(&store, &index, &items(41));
}
