//! Laws of a store whose file is cut, whose disk is full, whose process forks, or that is changed
//! for long: typed errors, nothing lost, and no growth without end.
#![cfg(unix)]
#![allow(unsafe_code)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

mod support;

use std::path::Path;

use rand::RngExt;
use spinney::{
    BackupOptions, BuildOptions, Durability, Error, Index, IndexOptions, Metric, Reads, Result,
    Store,
};
use support::process::{command, given_folder, run, say};
use support::*;

const DIMS: usize = 6;

fn options() -> IndexOptions {
    IndexOptions::new(DIMS, Metric::Euclidean)
}

fn len(store: &Store, index: &Index) -> u64 {
    store.with_reader(index, |reader| Ok::<_, Error>(reader.len())).unwrap()
}

/// Adds so many items, and builds.
fn add(store: &Store, index: &Index, count: u32) -> Result<()> {
    store.write(|txn| {
        let first = txn.reader(index)?.len() as u32;
        (first..first + count).try_for_each(|id| index.add_item(txn, id, &[id as f32; DIMS]))?;
        index.build(txn, &BuildOptions::default()).map(|_| ())
    })
}

/// Cuts the file to each of the lengths, and opens the store. A signal ends the process.
fn open_cut(dir: &Path) {
    let data = dir.join("data.mdb");
    let whole = std::fs::read(&data).unwrap();
    let percents = (0..=100).map(|percent| whole.len() * percent / 100);
    let pages = (1..=16).map(|page| whole.len() - 4096 * page);
    let mut outcomes = [0, 0];
    for len in percents.chain(pages) {
        std::fs::write(&data, &whole[..len]).unwrap();
        match Store::open(dir) {
            Ok(store) => {
                // What is missing is free.
                assert!(store.verify().unwrap().is_sound(), "cut to {len}");
                let index = store.open_index("a").unwrap().unwrap();
                assert_eq!(self::len(&store, &index), 3000);
                add(&store, &index, 10).unwrap();
                assert!(store.verify().unwrap().is_sound());
                outcomes[0] += 1;
            }
            Err(Error::Truncated { have, need }) => {
                assert!(have == len as u64 && have < need, "{have} {need}, cut to {len}");
                outcomes[1] += 1;
            }
            Err(error) => {
                // LMDB reads the first two pages before anybody else.
                assert!(matches!(error, Error::Heed(_)) && len < 2 * 4096, "{error}, {len}");
                outcomes[1] += 1;
            }
        }
    }
    say(format_args!("whole {}", outcomes[0]));
    say(format_args!("refused {}", outcomes[1]));
}

#[test]
fn a_file_that_was_cut_is_refused_without_a_signal() {
    if let Some(dir) = given_folder() {
        return open_cut(&dir);
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let index = store.index("a", &options()).unwrap();
    add(&store, &index, 3000).unwrap();
    drop(store);
    let said = run(command("a_file_that_was_cut_is_refused_without_a_signal", dir.path()));
    println!("{said:?}");
    assert_eq!(said.len(), 2);
    assert!(said[0] != "whole 0" && said[1] != "refused 0");
}

/// Limits the size of files that this process may write.
fn limit_files(bytes: libc::rlim_t) {
    // SAFETY: plain numbers, for which zero is a value.
    let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
    // SAFETY: the limit is ours, and outlives the call.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) }, 0);
    limit.rlim_cur = bytes.min(limit.rlim_max);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
}

/// Fills 200 disks of different sizes: the greatest size of a file stands for that of the disk.
fn fill_disks() {
    // SAFETY: the signal is ignored, and no handler runs.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let mut most = 0;
    for step in 0..200u64 {
        // In parts of pages, too.
        let bytes = 30_000 + step * 2000;
        let dir = tempfile::tempdir().unwrap();
        let durability = if step % 40 == 0 { Durability::Full } else { Durability::None };
        let opening = Store::options().durability(durability);
        limit_files(bytes);
        let opened = opening.open(dir.path()).and_then(|store| {
            let index = store.index("a", &options())?;
            Ok((store, index))
        });
        let Ok((store, index)) = opened else {
            let error = opened.unwrap_err();
            assert!(matches!(error, Error::DiskFull(_)), "{bytes}: {error:?}");
            limit_files(libc::RLIM_INFINITY);
            let store = opening.open(dir.path()).unwrap();
            add(&store, &store.index("a", &options()).unwrap(), 10).unwrap();
            continue;
        };
        let mut committed = 0;
        let error = loop {
            match add(&store, &index, 100) {
                Ok(()) => committed += 100,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::DiskFull(_)), "{bytes}: {error:?}");
        most = committed.max(most);
        assert_eq!(len(&store, &index), committed);
        assert!(store.verify().unwrap().is_sound(), "{bytes}");
        // There is room again, for the same handle and for the next one.
        limit_files(libc::RLIM_INFINITY);
        add(&store, &index, 100).unwrap();
        assert_eq!(len(&store, &index), committed + 100);
        drop(store);
        let store = opening.open(dir.path()).unwrap();
        assert_eq!(len(&store, &index), committed + 100);
        assert!(store.verify().unwrap().is_sound(), "{bytes}");
    }
    say(format_args!("most {most}"));
    assert!(most >= 500, "{most}");
}

#[test]
fn a_full_disk_is_told_and_the_write_works_again() {
    if given_folder().is_some() {
        return fill_disks();
    }
    run(command("a_full_disk_is_told_and_the_write_works_again", Path::new("/")));
}

/// What went wrong in the child of a fork, by its number; 0 if all is as it should be.
fn in_child(store: &Store, snapshot: &spinney::StoreSnapshot, index: &Index) -> i32 {
    let is_told = |result: Result<()>| matches!(result, Err(Error::Forked { .. }));
    let results = [
        store.read(|_| Ok(())),
        store.write(|_| Ok(())),
        store.write_within(std::time::Duration::ZERO, |_| Ok(())),
        store.snapshot().map(|_| ()),
        store.with_reader(index, |_| Ok(())),
        snapshot.with_reader(index, |_| Ok(())),
        snapshot.with_txn(|_| Ok(())),
        store.index("b", &options()).map(|_| ()),
        store.table::<spinney::heed::types::Str, spinney::heed::types::Str>("t").map(|_| ()),
        store.backup("/nowhere/at/all").map(|_| ()),
        store.set_audit(true),
        store.clone().compact().map(|_| ()),
    ];
    results.into_iter().position(|result| !is_told(result)).map_or(0, |number| number as i32 + 1)
}

#[test]
fn the_child_of_a_fork_is_told() {
    if given_folder().is_none() {
        // Alone, so that no other thread holds a lock at the fork.
        run(command("the_child_of_a_fork_is_told", Path::new("/")));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let index = store.index("a", &options()).unwrap();
    add(&store, &index, 10).unwrap();
    let snapshot = store.snapshot().unwrap();
    // SAFETY: the child calls nothing that waits for a thread it does not have, and ends itself.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let outcome = in_child(&store, &snapshot, &index);
        // SAFETY: ends the process without running anything of the parent's.
        unsafe { libc::_exit(outcome) };
    }
    let mut status = 0;
    // SAFETY: the status is ours, and outlives the call.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFEXITED(status));
    assert_eq!(libc::WEXITSTATUS(status), 0, "the number of what was not told");
    // The parent goes on.
    add(&store, &index, 10).unwrap();
    assert_eq!(snapshot.with_reader(&index, |reader| Ok::<_, Error>(reader.len())).unwrap(), 10);
    assert_eq!(len(&store, &index), 20);
}

/// Pages that are free are used again: at most three times what a compacted copy has. A read
/// transaction that is held keeps them from it for as long as it lives.
#[test]
fn the_file_does_not_grow_without_end() {
    let seed = Seed::new(2041);
    for is_held in [false, true] {
        let mut rng = seed.rng(is_held.into());
        let dir = tempfile::tempdir().unwrap();
        let opening = Store::options().durability(Durability::None);
        let store = opening.open(dir.path().join("store")).unwrap();
        let index = store.index("a", &IndexOptions::new(64, Metric::Euclidean)).unwrap();
        let row = |rng: &mut Rng| clustered_row(Metric::Euclidean, 64, rng);
        let rows: Vec<f32> = (0..5000).flat_map(|_| row(&mut rng)).collect();
        let ids: Vec<u32> = (0..5000).collect();
        store.write(|txn| index.add_items(txn, &ids, &rows)).unwrap();
        let churn = |rng: &mut Rng| {
            store
                .write(|txn| {
                    for _ in 0..100 {
                        index.add_item(txn, rng.random_range(0..5000), &row(rng))?;
                    }
                    index.build(txn, &BuildOptions::default()).map(|_| ())
                })
                .unwrap();
        };
        let mut first_50 = || (0..50).for_each(|_| churn(&mut rng));
        if is_held {
            // A snapshot would be kept for a while after it is dropped.
            let held = store.read(|_| {
                first_50();
                Ok::<_, Error>(())
            });
            held.unwrap();
        } else {
            first_50();
        }
        let grown = store.stats().unwrap().file_bytes;
        // What was held is used now.
        (0..50).for_each(|_| churn(&mut rng));
        let stats = store.stats().unwrap();
        let copy = BackupOptions::default().compact(true);
        let least = store.backup_with(dir.path().join("copy"), &copy).unwrap().bytes;
        println!(
            "held {is_held}: {:.2} times the compacted copy after 50 commits, {:.2} after 100",
            grown as f64 / least as f64,
            stats.file_bytes as f64 / least as f64
        );
        assert!(is_held || grown <= 3 * least, "{grown} of {least}");
        assert!(stats.file_bytes <= (grown + least).max(3 * least), "{stats:?}, {grown}");
    }
}
