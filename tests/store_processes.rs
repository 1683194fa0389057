//! Several threads and processes on one store: each sees whole commits, and nothing is lost when
//! one is killed.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rand::RngExt;
use spinney::{Error, Store, StoreOptions};
use support::batches::Batches;
use support::process::{Child, given_folder, say};
use support::world::{InStore, Kept};
use support::*;

/// A store whose commits outlive a process, but not the machine: this is about processes.
fn options() -> StoreOptions {
    Store::options().durability(spinney::Durability::None)
}

fn open(dir: &Path) -> InStore {
    InStore::new(options().open(dir).unwrap())
}

/// A question that is put again and again.
const QUERY: u32 = 7;

/// Looks at the newest commit and at some that are kept, until it is over. Returns how many
/// versions it met.
fn read(world: &InStore, mut rng: Rng, committed: &AtomicU32, is_over: &AtomicBool) -> u32 {
    let (mut last, mut met) = (0, 0);
    while !is_over.load(Ordering::SeqCst) {
        let (snapshot, query) = (world.store.snapshot().unwrap(), rng.random_range(0..1000));
        let answers = world.batches.answers(&snapshot, query);
        let checked = world.store.read(|txn| {
            let kept = Kept::new(txn.reader(&world.index)?, &mut rng);
            let kept_answers = world.batches.answers(txn, query);
            for _ in 0..5 {
                let at_least = committed.load(Ordering::SeqCst);
                let version = world.check(&mut rng);
                assert!(version >= last.max(at_least), "{version} after {last}, {at_least}");
                met += u32::from(version > last);
                last = version;
            }
            kept.check(txn.as_heed(), world.store.database());
            assert!(world.batches.answers(txn, query) == kept_answers);
            // The snapshot was taken before.
            assert!(world.check_in(&snapshot, &mut rng) <= kept.version);
            assert!(world.batches.answers(&snapshot, query) == answers);
            assert_eq!(world.check_in(txn, &mut rng), kept.version);
            Ok::<_, Error>(())
        });
        checked.unwrap();
    }
    met
}

#[test]
fn snapshots_are_whole_while_others_commit() {
    let seed = Seed::new(2051);
    let dir = tempfile::tempdir().unwrap();
    let world = open(dir.path());
    let (committed, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
    let met = std::thread::scope(|scope| {
        let readers = [1, 2, 3, 4].map(|part| {
            let (world, committed, is_over) = (&world, &committed, &is_over);
            let rng = seed.rng(part);
            scope.spawn(move || read(world, rng, committed, is_over))
        });
        let mut rng = seed.rng(0);
        let end = Instant::now() + Duration::from_secs(if is_long() { 8 * 3600 } else { 20 });
        while Instant::now() < end {
            committed.store(world.advance(&mut rng), Ordering::SeqCst);
        }
        is_over.store(true, Ordering::SeqCst);
        readers.map(|reader| reader.join().unwrap())
    });
    println!("{committed:?} commits, of which the readers met {met:?}");
    assert!(met.iter().all(|met| *met > 3), "{met:?}");
}

/// Writes for ever, in turn with others, and says what is committed. The map grows, for both.
fn write_for_ever(dir: &Path) -> ! {
    let store = options().map_size(1 << 19).map_limit(1 << 30).open(dir).unwrap();
    let batches = Batches::new(store);
    loop {
        say(format_args!("committed {}", batches.write().unwrap()));
    }
}

/// Reads for ever, with snapshots that are kept over many commits.
fn read_for_ever(dir: &Path, mut rng: Rng) -> ! {
    let batches = Batches::new(options().open(dir).unwrap());
    let mut last = 0;
    loop {
        let kept = batches.store.snapshot().unwrap();
        let first = (batches.check(&kept), batches.answers(&kept, QUERY));
        for _ in 0..rng.random_range(1..10) {
            let version = batches.check(&batches.store.snapshot().unwrap());
            assert!(version >= last.max(first.0), "{version} after {last}");
            last = version;
            say(format_args!("saw {version}"));
        }
        assert_eq!(batches.check(&kept), first.0);
        assert!(batches.answers(&kept, QUERY) == first.1);
    }
}

/// Two writers and three readers; each second one of them is killed, and another begins.
#[test]
fn killed_processes_lose_nothing() {
    let test = "killed_processes_lose_nothing";
    if let Some(dir) = given_folder() {
        let number = Seed::new(0).number();
        if number % 5 < 2 { write_for_ever(&dir) } else { read_for_ever(&dir, rng(number)) }
    }
    let seed = Seed::new(2061);
    let mut rng = seed.rng(0);
    let dir = tempfile::tempdir().unwrap();
    drop(Batches::new(options().open(dir.path()).unwrap()));
    let start = |role: usize, rng: &mut Rng| {
        Child::start(test, dir.path(), rng.random_range(0..1 << 40) * 5 + role as u64)
    };
    let mut processes: Vec<Child> = (0..5).map(|role| start(role, &mut rng)).collect();
    let (mut acknowledged, mut seen) = (0, 0);
    let mut note = |said: Vec<(String, u32)>| {
        for (what, version) in said {
            let most = if what == "committed" { &mut acknowledged } else { &mut seen };
            *most = version.max(*most);
        }
    };
    let seconds = if is_long() { 600 } else { 10 };
    for second in 0..seconds {
        let end = Instant::now() + Duration::from_secs(1);
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        let role = second % 5;
        let mut killed = std::mem::replace(&mut processes[role], start(role, &mut rng));
        killed.assert_running();
        note(killed.kill());
    }
    // Each of them still gets on.
    for (role, process) in processes.iter_mut().enumerate() {
        process.wait_for(if role < 2 { "committed" } else { "saw" }, |_| true);
        process.assert_running();
    }
    processes.into_iter().for_each(|process| note(process.kill()));
    let batches = Batches::new(options().open(dir.path()).unwrap());
    let version = batches.check(&batches.store);
    // One that was killed may have committed before it could say so; each time another.
    println!("version {version}, {acknowledged} acknowledged, {seen} seen");
    assert!(version >= acknowledged.max(seen) && acknowledged > 10 && seen > 10);
    assert!(batches.store.verify().unwrap().is_sound());
    // No reader of the dead keeps pages.
    assert_eq!(batches.store.env().clear_stale_readers().unwrap(), 0);
    assert_eq!(batches.write().unwrap(), version + 1);
}

/// Holds as many read transactions as there are slots.
fn hold(store: &Store, left: u32) {
    let held = store.read(|_| {
        if left > 1 {
            hold(store, left - 1);
        } else {
            say("holding 1");
            std::thread::sleep(Duration::from_secs(600));
        }
        Ok::<_, Error>(())
    });
    held.unwrap();
}

#[test]
fn slots_of_killed_readers_are_free_again() {
    let test = "slots_of_killed_readers_are_free_again";
    const SLOTS: u32 = 6;
    let options = Store::options().readers(SLOTS);
    if let Some(dir) = given_folder() {
        let store = options.open(&dir).unwrap();
        let slots = Seed::new(0).number() as u32;
        hold(&store, slots);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    // One lives on, so that the lock file is not made anew.
    let mut living = Child::start(test, dir.path(), 1);
    living.wait_for("holding", |_| true);
    let mut dead = Child::start(test, dir.path(), 3);
    dead.wait_for("holding", |_| true);
    dead.kill();
    // At open.
    let world = InStore::new(options.open(dir.path()).unwrap());
    assert_eq!(world.store.env().clear_stale_readers().unwrap(), 0);
    // While it is open, when they run out.
    let mut dead = Child::start(test, dir.path(), u64::from(SLOTS) - 1);
    dead.wait_for("holding", |_| true);
    dead.kill();
    world.check(&mut rng(1));
}

/// LMDB marks its lock file as sound before it writes into it which commit is the last. A process
/// that is killed between the two leaves a file that others would take for an empty one.
#[test]
#[cfg(target_os = "linux")]
fn a_lock_file_that_was_half_made_is_not_believed() {
    const TEST: &str = "a_lock_file_that_was_half_made_is_not_believed";
    if let Some(dir) = given_folder() {
        let store = Store::open(dir).unwrap();
        // The version of the world, or nothing if the store seemed empty.
        say(format_args!("indexes {}", store.indexes().unwrap().len()));
        std::thread::sleep(Duration::from_secs(600));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // In a copy, LMDB's first page of two is that of an empty file.
    drop(open(dir.path()));
    drop(Store::open(dir.path()).unwrap().compact().unwrap());
    // It holds the lock, so that nobody who opens the file is alone.
    let mut holder = Child::start(TEST, dir.path(), 1);
    assert_eq!(holder.hear(), Some(("indexes".to_owned(), 2)));
    let lock = std::fs::OpenOptions::new().write(true).open(dir.path().join("lock.mdb")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&lock, &[0; 8], 8).unwrap();
    drop(lock);
    let mut opener = Child::start(TEST, dir.path(), 2);
    std::thread::sleep(Duration::from_millis(500));
    holder.kill();
    assert_eq!(opener.hear(), Some(("indexes".to_owned(), 2)));
}
