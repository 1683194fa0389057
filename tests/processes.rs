//! Several processes on one environment: snapshots are whole in each, and a killed writer leaves a
//! committed prefix.

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
use std::path::Path;

use rand::RngExt;
use rand::seq::IndexedRandom;
use spinney::{BuildMethod, BuildOptions, Database, Progress, Reader, Writer};
use support::process::{Child, given_folder, say};
use support::world::{self, Kept};
use support::*;

const MAP_BYTES: usize = 1 << 30;

/// Reads snapshots until the file `stop` is there; keeps one over many versions.
fn read_until_stopped(dir: &Path) {
    let seed = Seed::new(1);
    let mut rng = seed.rng(0);
    let env = open_env(dir, MAP_BYTES);
    let db = Database::open(&env).unwrap().expect("the first process has created it");
    let mut last = 0;
    loop {
        let is_over = dir.join("stop").exists();
        let kept_txn = env.read_txn().unwrap();
        let kept = Kept::new(Reader::open(&kept_txn, db, 0).unwrap(), &mut rng);
        for _ in 0..20 {
            let rtxn = env.read_txn().unwrap();
            let version = world::check(&Reader::open(&rtxn, db, 0).unwrap(), &mut rng);
            assert!(version >= last, "version {version} was seen after {last}");
            last = version;
            say(format_args!("saw {version}"));
        }
        kept.check(&kept_txn, db);
        if is_over {
            return;
        }
    }
}

#[test]
fn snapshots_are_whole_in_another_process() {
    if let Some(dir) = given_folder() {
        return read_until_stopped(&dir);
    }
    let seed = Seed::new(121);
    let store = Store::with_map_size(MAP_BYTES);
    let writer = world::create(&store.env, store.db);
    let mut rng = seed.rng(0);
    let mut others = [1, 2].map(|number| {
        Child::start(
            "snapshots_are_whole_in_another_process",
            store.env.path(),
            seed.number().wrapping_add(number),
        )
    });
    let (mut seen, mut builds, mut incremental) = (Vec::new(), 0, 0);
    for round in 0..40u32 {
        let before = world::version(&writer, &store.env.read_txn().unwrap());
        for _ in 0..3 {
            let mut wtxn = store.env.write_txn().unwrap();
            world::advance(&writer, &mut wtxn, &mut rng);
            if rng.random_range(0..3) > 0 {
                builds += 1;
                incremental +=
                    u32::from(world::build(&writer, &mut wtxn) == BuildMethod::Incremental);
            }
            if rng.random_range(0..6) > 0 {
                wtxn.commit().unwrap();
            }
        }
        // What it says may be old, but never newer than what is committed.
        let committed = world::version(&writer, &store.env.read_txn().unwrap());
        // Each round goes on when what the last one wrote has been seen.
        let version = others[round as usize % 2].wait_for("saw", |version| {
            assert!(
                version <= committed,
                "the other process saw version {version}, and {committed} is the last"
            );
            version >= before
        });
        seen.push(version);
    }
    let committed = world::version(&writer, &store.env.read_txn().unwrap());
    std::fs::write(store.env.path().join("stop"), "").unwrap();
    for other in others {
        // It opens at least one more snapshot after it has seen the file.
        assert_eq!(other.join(), Some(committed), "the last snapshot is of the last version");
    }
    seen.dedup();
    println!(
        "{committed} versions, {} of them heard of while writing, {incremental} of {builds} builds",
        seen.len()
    );
    assert!(2 * incremental > builds, "{incremental} of {builds} builds were incremental");
    assert!(seen.len() > 10, "the other processes saw the world move: {seen:?}");
}

/// Moves the world on for ever. Says what it is about to do, with the last version that is
/// committed.
fn write_for_ever(dir: &Path) {
    let seed = Seed::new(1);
    let mut rng = seed.rng(0);
    let store = Store::at(dir, MAP_BYTES);
    let writer = Writer::open(&store.env.read_txn().unwrap(), store.db, 0).unwrap();
    // Some are killed with a reader open: its slot must not outlive them.
    let rtxn = store.env.read_txn().unwrap();
    let reader = seed
        .number()
        .is_multiple_of(2)
        .then(|| Kept::new(Reader::open(&rtxn, store.db, 0).unwrap(), &mut rng));
    let mut version = world::version(&writer, &rtxn);
    say(format_args!("ready {version}"));
    loop {
        let mut wtxn = store.env.write_txn().unwrap();
        let next = world::advance(&writer, &mut wtxn, &mut rng);
        if rng.random_range(0..2) == 0 {
            let progress = |_: &Progress| {
                say(format_args!("building {version}"));
                ControlFlow::Continue(())
            };
            writer
                .build(&mut wtxn, &BuildOptions::default().leaf_size(64).progress(&progress))
                .unwrap();
        }
        say(format_args!("committing {version}"));
        wtxn.commit().unwrap();
        version = next;
        say(format_args!("committed {version}"));
        if let Some(reader) = &reader {
            reader.check(&rtxn, store.db);
        }
    }
}

#[test]
fn a_killed_writer_leaves_what_it_had_committed() {
    if let Some(dir) = given_folder() {
        return write_for_ever(&dir);
    }
    let seed = Seed::new(131);
    let mut rng = seed.rng(0);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::at(dir.path(), MAP_BYTES);
    world::create(&store.env, store.db);
    store.close();
    let (mut before, mut moments) = (0, Vec::new());
    for round in 0..16 {
        let mut other =
            Child::start("a_killed_writer_leaves_what_it_had_committed", dir.path(), rng.random());
        let start = other.wait_for("ready", |_| true);
        assert_eq!(start, before, "round {round}: it starts from what is there");
        // Killed at once, or while it builds or commits after some versions.
        let (moment, versions) =
            (*["building", "committing", "committed"].choose(&mut rng).unwrap(), round % 4);
        let heard = if versions > 0 {
            other.wait_for(moment, |version| version >= start + versions)
        } else {
            start
        };
        let acknowledged = other.kill().last().map_or(heard, |(_, version)| *version);

        let store = Store::at(dir.path(), MAP_BYTES);
        let rtxn = store.env.read_txn().unwrap();
        let reader = Reader::open(&rtxn, store.db, 0).unwrap();
        // A view of one version: each commit is there whole or not at all.
        before = world::check(&reader, &mut rng);
        let is_prefix = (acknowledged..=acknowledged + 1).contains(&before);
        assert!(
            is_prefix,
            "round {round}: version {before} is there, and {acknowledged} was acknowledged"
        );
        moments.push(before - start);
        drop(reader);
        drop(rtxn);
        store.env.clear_stale_readers().unwrap();
        // The lock of the dead writer is free, and the world goes on.
        if round % 2 == 0 {
            let mut wtxn = store.env.write_txn().unwrap();
            let writer = Writer::open(&wtxn, store.db, 0).unwrap();
            before = world::advance(&writer, &mut wtxn, &mut rng);
            world::build(&writer, &mut wtxn);
            wtxn.commit().unwrap();
            let rtxn = store.env.read_txn().unwrap();
            assert_eq!(world::check(&Reader::open(&rtxn, store.db, 0).unwrap(), &mut rng), before);
        }
        store.close();
    }
    println!("versions written in each life: {moments:?}");
    assert!(before > 16, "the writers got somewhere before they were killed");
}
