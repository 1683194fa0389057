//! The law of power cuts: whenever the power fails, and whichever of the writes that were not
//! synced have reached the disk, the store is that of a commit, and none that returned is lost.
//!
//! A process that writes is recorded, call by call; then states of the disk are made from the log.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "power/replay.rs"]
mod replay;
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

use rand::RngExt;
use replay::{Event, acknowledge, cut, read_log, whole};
use spinney::{BuildOptions, Durability, Store};
use support::batches::{self, Batches, KEPT};
use support::process::{command, given_folder, run, say};
use support::*;

const LOG: &str = "log";
const DATA: &str = "store/data.mdb";
const COMMITS: u32 = 20;
/// Steps before the first batch: the store, the index and the collection are made.
const MAKING: u32 = 3;
/// Set in other processes: what they do.
const ROLE: &str = "SPINNEY_TEST_ROLE";

/// Makes a store and commits batches; each step is acknowledged in the log. The first commit has so
/// many that the others delete old ones.
fn write(dir: &Path, durability: Durability) {
    let done = |steps| acknowledge(&dir.join(LOG), steps);
    // The map is small, and grows.
    let options = Store::options().map_size(1 << 19).map_limit(1 << 30).durability(durability);
    let store = options.open(dir.join("store")).unwrap();
    done(1);
    store.index("items", &batches::options()).unwrap();
    done(2);
    store.collection("docs", &batches::options()).unwrap();
    done(3);
    let batches = Batches::new(store);
    for commit in 0..COMMITS {
        let written = batches.store.write(|txn| {
            for _ in 0..if commit == 0 { KEPT } else { 1 } {
                batches.put(txn)?;
            }
            // Builds write many pages, and free many.
            if commit % 3 == 2 {
                batches.build(txn, &BuildOptions::default().leaf_size(32))?;
            }
            Ok::<_, spinney::Error>(())
        });
        written.unwrap();
        done(MAKING + commit + 1);
    }
}

/// Writes in a process that is recorded. Its log is in the folder then.
fn record(test: &str, dir: &Path) {
    let recorder = dir.join("recorder.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power/recorder.c");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let compiled = Command::new(compiler)
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&recorder)
        .arg(source)
        .arg("-ldl")
        .status();
    assert!(compiled.expect("a C compiler is there: LMDB needs it").success());
    let mut writer = command(test, dir);
    writer.env(ROLE, "write").env("LD_PRELOAD", recorder);
    writer.env("SPINNEY_RECORDED", dir.join(DATA)).env("SPINNEY_LOG", dir.join(LOG));
    run(writer);
}

/// How many steps are done in a file, which has to be sound, and has to go on. `None` if it cannot
/// be opened.
fn steps_in(file: &[u8]) -> Option<u32> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("data.mdb"), file).unwrap();
    // It is read, and its machine does not fail again.
    let store = Store::options().durability(Durability::None).open(dir.path()).ok()?;
    if store.open_index("items").unwrap().is_none() {
        return Some(1);
    }
    if store.open_collection("docs").unwrap().is_none() {
        return Some(2);
    }
    let batches = Batches::new(store);
    let there = batches.check(&batches.store);
    assert_eq!(batches.write().unwrap(), there + 1);
    assert!(batches.store.verify().unwrap().is_sound());
    assert!(there == 0 || there >= KEPT, "{there} batches");
    Some(MAKING + (there + 1).saturating_sub(KEPT))
}

/// Steps that are acknowledged.
fn done(events: &[Event]) -> u32 {
    let mut done = events.iter().filter_map(|event| match event {
        Event::Done(steps) => Some(*steps),
        _ => None,
    });
    done.next_back().unwrap_or(0)
}

/// Where the power is cut: anywhere, or near to a moment at which something is synced.
fn moment(events: &[Event], rng: &mut Rng) -> usize {
    let anywhere = rng.random_range(0..=events.len());
    if rng.random() {
        return anywhere;
    }
    let is_sync = |event: &Event| matches!(event, Event::Sync | Event::SyncOfWrite);
    let next = events[anywhere..].iter().position(is_sync);
    next.map_or(anywhere, |next| (anywhere + next + rng.random_range(0..3)).min(events.len()))
}

/// Cuts the power many times. So many commits that have returned may be lost.
fn cut_power(events: &[Event], may_lose: u32) {
    let seed = Seed::new(2031);
    // In case that a signal ends the process.
    say(format_args!("seed={}", seed.number()));
    let mut rng = seed.rng(0);
    let (mut more, mut less) = (0, 0);
    for state in 0..if is_long() { 100_000 } else { 300 } {
        let at = moment(events, &mut rng);
        let done = done(&events[..at]);
        let file = cut(&events[..at], &mut rng);
        let checked = catch_unwind(AssertUnwindSafe(|| steps_in(&file)));
        let there = checked.unwrap_or_else(|_| panic!("state {state}, cut after event {at}"));
        let is_lawful = match there {
            Some(there) => (done.saturating_sub(may_lose)..=done + 1).contains(&there),
            // There is nothing yet.
            None => done == 0,
        };
        assert!(is_lawful, "state {state}, cut after event {at}: {there:?} of {done} steps");
        more += u32::from(there > Some(done));
        less += u32::from(there.is_some_and(|there| there < done));
    }
    say(format_args!("{more} states with a commit that had not returned"));
    say(format_args!("{less} states without one that had"));
    assert!(more > 0 && (less > 0) == (may_lose > 0), "{more}, {less}");
}

/// Cuts the power of what was recorded: on a disk that does as it is told, or on one that says it
/// has synced, and has not.
fn replay(dir: &Path, may_lose: u32, ignored: &str) {
    let mut events = read_log(&dir.join(LOG));
    // Nothing has escaped the recorder.
    assert!(whole(&events) == std::fs::read(dir.join(DATA)).unwrap(), "another file");
    assert_eq!(done(&events), MAKING + COMMITS);
    let count = |is: fn(&Event) -> bool| events.iter().filter(|event| is(event)).count() as u32;
    let writes = count(|event| matches!(event, Event::Write { .. }));
    let syncs = count(|event| matches!(event, Event::Sync));
    let synced = count(|event| matches!(event, Event::SyncOfWrite));
    say(format_args!("{writes} writes, {syncs} syncs, {synced} synced writes"));
    assert!(writes > 5 * COMMITS && syncs >= COMMITS);
    assert_eq!(synced >= COMMITS, may_lose == 0);
    events.retain(|event| match event {
        Event::Sync => ignored != "syncs",
        Event::SyncOfWrite => ignored != "synced writes",
        _ => true,
    });
    cut_power(&events, may_lose);
}

/// The law, and that it is broken on disks that do not do what it rests on.
fn power_cuts(test: &str, durability: Durability, may_lose: u32, needed: &[&str]) {
    if let Some(dir) = given_folder() {
        return match &*std::env::var(ROLE).unwrap() {
            "write" => write(&dir, durability),
            ignored => replay(&dir, may_lose, ignored),
        };
    }
    if cfg!(not(all(target_os = "linux", target_env = "gnu"))) {
        return println!("skipped: no recorder can be loaded before the C library of this system");
    }
    let dir = tempfile::tempdir().unwrap();
    record(test, dir.path());
    let replaying = |ignored: &str| {
        let mut replay = command(test, dir.path());
        replay.env(ROLE, ignored);
        replay
    };
    println!("{:?}", run(replaying("nothing")));
    for ignored in needed {
        let ended = replaying(ignored).output().unwrap().status;
        println!("without {ignored}: {ended}");
        assert!(!ended.success(), "it holds without {ignored}, too");
    }
}

#[test]
fn a_power_cut_leaves_a_commit_and_loses_none() {
    let test = "a_power_cut_leaves_a_commit_and_loses_none";
    power_cuts(test, Durability::Full, 0, &["syncs", "synced writes"]);
}

#[test]
fn a_power_cut_loses_the_last_commit_at_most() {
    let test = "a_power_cut_loses_the_last_commit_at_most";
    power_cuts(test, Durability::LoseLastCommit, 1, &["syncs"]);
}
