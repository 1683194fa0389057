//! Compaction: alone, without loss, whoever opens the store or is killed meanwhile.
#![cfg(unix)]

use std::path::Path;
use std::time::{Duration, Instant};

use rand::RngExt;
use spinney::heed::types::{Bytes, Str, U32};
use spinney::heed::{CommitOrAbort, DatabaseFlags};
use spinney::{Error, Index, IndexOptions, Metric, Result, Store, StoreOptions};

use super::support::process::{Child, given_folder, say};
use super::support::*;
use super::{SMALL, answers, furnished, names};

fn impatient() -> StoreOptions {
    Store::options().patience(Duration::from_millis(500))
}

fn is_in_use<T>(result: &Result<T>, who: &str) -> bool {
    matches!(result, Err(Error::InUse(_, by)) if by.contains(who))
}

#[test]
fn compaction_loses_nothing_but_free_pages() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Seed::new(2011).rng(0);
    let queries: Vec<Vec<f32>> =
        (0..5).map(|_| clustered_row(Metric::Euclidean, SMALL, &mut rng)).collect();
    for is_single in [false, true] {
        let path = dir.path().join(if is_single { "file" } else { "folder" });
        let (store, indexes) = furnished(&path, &impatient().single_file(is_single), &mut rng);
        // Tables of other kinds, and an entry that is no table.
        let env = store.env();
        let others = env.create_databases_and_commit(env.write_txn().unwrap(), |opener, wtxn| {
            let mut options =
                opener.database_options().types::<Str, U32<spinney::heed::byteorder::LE>>();
            options.name("duplicates").flags(DatabaseFlags::DUP_SORT);
            let duplicates = options.create(wtxn)?;
            (0..50).try_for_each(|i| duplicates.put(wtxn, "key", &i))?;
            let unnamed = opener.create_database::<Bytes, Bytes>(wtxn, None)?;
            unnamed.put(wtxn, b"loose", b"entry")?;
            Ok::<_, Error>(CommitOrAbort::<_, ()>::Commit(duplicates))
        });
        others.unwrap();
        store.write(|txn| indexes[1].clear(txn)).unwrap();
        store.set_audit(true).unwrap();
        let before = answers(&store, &indexes[0], &queries);
        let actors = store.acting_as("ann").unwrap();
        drop(store);
        let (store, compacted) = actors.compact().unwrap();
        assert!(compacted.bytes_after < compacted.bytes_before, "{compacted:?}");
        assert!(store.stats().unwrap().file_bytes < compacted.bytes_before);
        assert!(answers(&store, &indexes[0], &queries) == before);
        assert_eq!(store.indexes().unwrap(), ["a", "b"]);
        let again = store.env().open_databases_and_commit(
            store.env().read_txn().unwrap(),
            |opener, rtxn| {
                let table = opener.open_database::<Str, U32<spinney::heed::byteorder::LE>>(
                    rtxn,
                    Some("duplicates"),
                )?;
                assert_eq!(table.unwrap().len(rtxn)?, 50);
                let unnamed = opener.open_database::<Bytes, Bytes>(rtxn, None)?.unwrap();
                assert_eq!(unnamed.get(rtxn, b"loose")?, Some(&b"entry"[..]));
                Ok::<_, Error>(CommitOrAbort::<(), ()>::Abort(()))
            },
        );
        again.unwrap();
        let last = store.audit_log(1).unwrap().last().unwrap().unwrap();
        assert_eq!(
            (last.actor.as_deref(), last.changes[0].action),
            (Some("ann"), spinney::AuditAction::Compact)
        );
        assert!(store.verify().unwrap().is_sound());
        store.write(|txn| indexes[1].add_item(txn, 5, &[1.0; SMALL])).unwrap();
    }
    assert_eq!(names(&dir.path().join("folder")), ["data.mdb", "lock.mdb"]);
    assert_eq!(names(dir.path()), ["file", "file-lock", "folder"]);
}

#[test]
fn compaction_waits_for_others_of_this_process_and_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let store = impatient().open(dir.path()).unwrap();
    let index = store.index("a", &IndexOptions::new(SMALL, Metric::Euclidean)).unwrap();
    let add = |store: &Store| store.write(|txn| index.add_item(txn, 5, &[1.0; SMALL]));
    add(&store).unwrap();
    assert!(is_in_use(&store.clone().compact(), "other handles"));
    let snapshot = store.snapshot().unwrap();
    assert!(is_in_use(&store.compact(), "snapshots"));
    drop(snapshot);
    let store = impatient().open(dir.path()).unwrap();
    let env = store.env().clone();
    assert!(is_in_use(&store.compact(), "Store::env"));
    assert!(matches!(impatient().open(dir.path()), Err(Error::OpenElsewhere(_))));
    drop(env);
    let read_only = impatient().read_only(true).open(dir.path()).unwrap();
    assert!(matches!(read_only.compact(), Err(Error::ReadOnly)));
    let hard = dir.path().join("hard.mdb");
    std::fs::hard_link(dir.path().join("data.mdb"), &hard).unwrap();
    assert!(is_in_use(&impatient().open(dir.path()).unwrap().compact(), "hard link"));
    std::fs::remove_file(&hard).unwrap();
    // Who lets go in time is waited for.
    let store = Store::open(dir.path()).unwrap();
    let other = store.clone();
    let (store, _) = std::thread::scope(|scope| {
        let compacting = scope.spawn(|| store.compact());
        std::thread::sleep(Duration::from_millis(20));
        drop(other);
        compacting.join().unwrap().unwrap()
    });
    add(&store).unwrap();
    // By another name of the folder, the file itself is replaced.
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path(), &link).unwrap();
    drop(store);
    add(&Store::open(&link).unwrap().compact().unwrap().0).unwrap();
    assert!(link.is_symlink() && !dir.path().join("data.mdb").is_symlink());
}

#[test]
fn compaction_knows_of_other_processes() {
    let test = "compaction::compaction_knows_of_other_processes";
    if let Some(dir) = given_folder() {
        let store = Store::options().read_only(Seed::new(0).number() == 1).open(&dir).unwrap();
        say("open 1");
        std::thread::sleep(Duration::from_secs(600));
        drop(store);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let index = Store::open(dir.path())
        .unwrap()
        .index("a", &IndexOptions::new(SMALL, Metric::Euclidean))
        .unwrap();
    for is_read_only in [0, 1] {
        let mut other = Child::start(test, dir.path(), is_read_only);
        other.wait_for("open", |_| true);
        let before = std::fs::read(dir.path().join("data.mdb")).unwrap();
        assert!(is_in_use(&Store::open(dir.path()).unwrap().compact(), "another process"));
        assert!(std::fs::read(dir.path().join("data.mdb")).unwrap() == before);
        assert_eq!(names(dir.path()), ["data.mdb", "lock.mdb"]);
        other.kill();
        let (store, _) = Store::open(dir.path()).unwrap().compact().unwrap();
        store.write(|txn| index.add_item(txn, 5, &[1.0; SMALL])).unwrap();
    }
}

type Counts = spinney::heed::Database<'static, Str, U32<spinney::heed::byteorder::LE>>;

/// Opens the store again and again, for reading and for writing, and counts in it.
fn count_for_ever(dir: &Path, number: u64) -> ! {
    let (name, mut rng, mut count) = (number.to_string(), rng(number), 0);
    loop {
        let read_only = rng.random_range(0..2) == 0;
        let store = Store::options().read_only(read_only).open(dir).unwrap();
        let table: Counts = store.table("counts").unwrap();
        for _ in 0..rng.random_range(1..4) {
            let found = store.read(|txn| Ok::<_, Error>(table.get(txn.as_heed(), &name)?));
            let found = found.unwrap().unwrap_or_default();
            assert_eq!(found, count, "process {number} has lost what it counted");
            if !read_only {
                let put = |n: u32| {
                    store.write(|txn| Ok::<_, Error>(table.put(txn.as_heed_mut(), &name, &n)?))
                };
                put(count + 1).unwrap();
                count += 1;
                say(format_args!("counted {count}"));
            }
        }
        drop(store);
        std::thread::sleep(Duration::from_micros(rng.random_range(0..3000)));
    }
}

/// Compacts for ever.
fn compact_for_ever(dir: &Path) -> ! {
    loop {
        match Store::open(dir).unwrap().compact() {
            Ok((store, _)) => {
                assert!(store.verify().unwrap().is_sound());
                say("compacted 1");
            }
            Err(Error::InUse(..)) => {}
            Err(error) => panic!("{error}"),
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Others open the store whenever they like, and the process that compacts is killed again and
/// again.
#[test]
fn nothing_is_lost_to_compactions_that_come_at_any_time() {
    let test = "compaction::nothing_is_lost_to_compactions_that_come_at_any_time";
    if let Some(dir) = given_folder() {
        match Seed::new(0).number() {
            0 => compact_for_ever(&dir),
            number => count_for_ever(&dir, number),
        }
    }
    let seed = Seed::new(2013);
    let mut rng = seed.rng(0);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let index: Index = store.index("a", &IndexOptions::new(SMALL, Metric::Euclidean)).unwrap();
    store
        .write(|txn| (0..500).try_for_each(|id| index.add_item(txn, id, &[id as f32; SMALL])))
        .unwrap();
    let _: Counts = store.table("counts").unwrap();
    drop(store);
    let mut counting = [1, 2].map(|number| Child::start(test, dir.path(), number));
    let (mut compactions, mut kills) = (0, 0);
    let end = Instant::now() + Duration::from_secs(if is_long() { 60 } else { 4 });
    while Instant::now() < end {
        let mut compacting = Child::start(test, dir.path(), 0);
        for _ in 0..rng.random_range(1..6) {
            compacting.wait_for("compacted", |_| true);
            compactions += 1;
        }
        std::thread::sleep(Duration::from_micros(rng.random_range(0..4000)));
        compacting.assert_running();
        compactions += compacting.kill().len();
        kills += 1;
    }
    let mut counted = counting.each_mut().map(|child| child.wait_for("counted", |_| true));
    for (counted, mut child) in counted.iter_mut().zip(counting) {
        child.assert_running();
        *counted = child.kill().last().map_or(*counted, |(_, count)| *count);
    }
    let (store, _) = Store::open(dir.path()).unwrap().compact().unwrap();
    let table: Counts = store.table("counts").unwrap();
    for (name, counted) in ["1", "2"].into_iter().zip(counted) {
        let found =
            store.read(|txn| Ok::<_, Error>(table.get(txn.as_heed(), name)?.unwrap())).unwrap();
        // It may have been killed before it said so.
        assert!(
            (counted..=counted + 1).contains(&found),
            "{name}: {found}, and {counted} were counted"
        );
    }
    assert!(store.verify().unwrap().is_sound());
    println!("{compactions} compactions, {kills} kills, counted {counted:?}");
    assert!(compactions > 5 && counted.iter().all(|count| *count > 5));
}
