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
    BackupOptions, BuildOptions, Document, Durability, Error, IndexOptions, Metric, Reads, Result,
    Store, StoreSnapshot, WriteTxn,
};
use support::batches::{self, Batches, KEPT};
use support::process::{command, given_folder, run, say};
use support::*;

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
                let batches = Batches::new(store);
                assert_eq!(batches.check(&batches.store), KEPT, "cut to {len}");
                batches.write().unwrap();
                assert!(batches.store.verify().unwrap().is_sound());
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
    let batches = Batches::new(Store::open(dir.path()).unwrap());
    write_all(&batches, KEPT).unwrap();
    drop(batches);
    let said = run(command("a_file_that_was_cut_is_refused_without_a_signal", dir.path()));
    println!("{said:?}");
    assert_eq!(said.len(), 2);
    assert!(said[0] != "whole 0" && said[1] != "refused 0");
}

/// Puts so many batches, and builds.
fn write_all(batches: &Batches, count: u32) -> Result<()> {
    batches.store.write(|txn| {
        (0..count).try_for_each(|_| batches.put(txn).map(|_| ()))?;
        batches.build(txn, &BuildOptions::default().leaf_size(32))
    })
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
        let made = opening.open(dir.path()).and_then(|store| {
            store.index("items", &batches::options())?;
            store.collection("docs", &batches::options())?;
            Ok(store)
        });
        let (error, committed, batches) = match made {
            Err(error) => (error, 0, None),
            Ok(store) => {
                let batches = Batches::new(store);
                let mut committed = 0;
                let error = loop {
                    match write_all(&batches, 1) {
                        Ok(()) => committed += 1,
                        Err(error) => break error,
                    }
                };
                assert_eq!(batches.check(&batches.store), committed);
                (error, committed, Some(batches))
            }
        };
        assert!(matches!(error, Error::DiskFull(_)), "{bytes}: {error:?}");
        most = committed.max(most);
        // There is room again, for the same handle and for the next one.
        limit_files(libc::RLIM_INFINITY);
        if let Some(batches) = &batches {
            write_all(batches, 1).unwrap();
        }
        let there = committed + u32::from(batches.is_some());
        drop(batches);
        let batches = Batches::new(opening.open(dir.path()).unwrap());
        assert_eq!(batches.check(&batches.store), there);
        write_all(&batches, 1).unwrap();
        assert!(batches.store.verify().unwrap().is_sound(), "{bytes}");
    }
    say(format_args!("most {most}"));
    assert!(most >= 5, "{most}");
}

#[test]
fn a_full_disk_is_told_and_the_write_works_again() {
    if given_folder().is_some() {
        return fill_disks();
    }
    run(command("a_full_disk_is_told_and_the_write_works_again", Path::new("/")));
}

/// What went wrong in the child of a fork, by its number; 0 if all is as it should be.
fn in_child(batches: &Batches, snapshot: &StoreSnapshot) -> i32 {
    let is_told = |result: Result<()>| matches!(result, Err(Error::Forked { .. }));
    let Batches { store, index, docs, .. } = batches;
    let results = [
        store.read(|_| Ok(())),
        store.write(|_| Ok(())),
        store.write_within(std::time::Duration::ZERO, |_| Ok(())),
        store.snapshot().map(|_| ()),
        store.with_reader(index, |_| Ok(())),
        snapshot.with_reader(index, |_| Ok(())),
        snapshot.with_txn(|_| Ok(())),
        docs.len(store).map(|_| ()),
        docs.len(snapshot).map(|_| ()),
        store.index("b", &batches::options()).map(|_| ()),
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
    let batches = Batches::new(Store::open(dir.path()).unwrap());
    write_all(&batches, 1).unwrap();
    let snapshot = batches.store.snapshot().unwrap();
    // SAFETY: the child calls nothing that waits for a thread it does not have, and ends itself.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let outcome = in_child(&batches, &snapshot);
        // SAFETY: ends the process without running anything of the parent's.
        unsafe { libc::_exit(outcome) };
    }
    let mut status = 0;
    // SAFETY: the status is ours, and outlives the call.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFEXITED(status));
    assert_eq!(libc::WEXITSTATUS(status), 0, "the number of what was not told");
    // The parent goes on.
    write_all(&batches, 1).unwrap();
    assert_eq!(batches.check(&snapshot), 1);
    assert_eq!(batches.check(&batches.store), 2);
}

/// Pages that are free are used again: at most three times what a compacted copy has. A snapshot
/// that is held keeps them from it for as long as it lives.
#[test]
fn the_file_does_not_grow_without_end() {
    for of_documents in [false, true] {
        for is_held in [false, true] {
            grow(of_documents, is_held);
        }
    }
}

/// Changes an index or a collection in 100 commits, over the first 50 of which a snapshot is held
/// or none.
fn grow(of_documents: bool, is_held: bool) {
    const COUNT: u32 = 5000;
    let seed = Seed::new(2041);
    let mut rng = seed.rng(is_held.into());
    let dir = tempfile::tempdir().unwrap();
    let opening = Store::options().durability(Durability::None);
    let store = opening.open(dir.path().join("store")).unwrap();
    let options = IndexOptions::new(64, Metric::Euclidean);
    let index = store.index("index", &options).unwrap();
    let docs = store.collection("docs", &options).unwrap();
    let put = |txn: &mut WriteTxn<'_>, ids: &[u32], rng: &mut Rng| {
        let mut row = || clustered_row(Metric::Euclidean, 64, rng);
        if of_documents {
            let mut document = |id| {
                let document = Document::new(row()).payload(vec![1; id as usize % 500]);
                document.labels([format!("of {}", id % 10)])
            };
            let all = ids.iter().map(|id| (u64::from(*id), *id));
            docs.put_many(txn, all.map(|(key, id)| (key, document(id))))?;
            docs.build(txn, &BuildOptions::default())
        } else {
            let rows: Vec<f32> = ids.iter().flat_map(|_| row()).collect();
            index.add_items(txn, ids, &rows)?;
            index.build(txn, &BuildOptions::default())
        }
    };
    store.write(|txn| put(txn, &Vec::from_iter(0..COUNT), &mut rng)).unwrap();
    let mut commits = || {
        for _ in 0..50 {
            let ids: Vec<u32> = (0..100).map(|_| rng.random_range(0..COUNT)).collect();
            store.write(|txn| put(txn, &ids, &mut rng)).unwrap();
        }
    };
    if is_held {
        // A snapshot would be kept for a while after it is dropped.
        let held = store.read(|_| {
            commits();
            Ok::<_, Error>(())
        });
        held.unwrap();
    } else {
        commits();
    }
    let grown = store.stats().unwrap().file_bytes;
    // What was held is used now.
    commits();
    let stats = store.stats().unwrap();
    let copy = BackupOptions::default().compact(true);
    let least = store.backup_with(dir.path().join("copy"), &copy).unwrap().bytes;
    println!(
        "documents {of_documents}, held {is_held}: {:.2} times the compacted copy after 50 \
         commits, {:.2} after 100",
        grown as f64 / least as f64,
        stats.file_bytes as f64 / least as f64
    );
    assert!(is_held || grown <= 3 * least, "{grown} of {least}");
    assert!(stats.file_bytes <= (grown + least).max(3 * least), "{stats:?}, {grown}");
}
