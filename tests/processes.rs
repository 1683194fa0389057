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

#[path = "common/child.rs"]
mod child;
mod support;

use std::ops::ControlFlow;
use std::path::Path;

use child::{Child, say, told};
use rand::RngExt;
use rand::seq::IndexedRandom;
use spinney::{BuildMethod, BuildOptions, Database, Progress, Reader, Writer};
use support::world::{self, Kept};
use support::{Opened, rng};

const MAP_BYTES: usize = 1 << 30;

/// Reads snapshots until the file `stop` is there; keeps one over many versions.
fn read_until_stopped(dir: &Path) {
    let mut rng = rng(support::seed("read_until_stopped", 1));
    let env = support::open(dir, MAP_BYTES);
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
            say("saw", version);
        }
        kept.check(&kept_txn, db);
        if is_over {
            return;
        }
    }
}

#[test]
fn snapshots_are_whole_in_another_process() {
    if let Some(dir) = told() {
        return read_until_stopped(&dir);
    }
    let seed = support::seed("snapshots_are_whole_in_another_process", 121);
    let dir = tempfile::tempdir().unwrap();
    let opened = Opened::new(dir.path(), MAP_BYTES);
    let writer = world::create(&opened.env, opened.db);
    let mut rng = rng(seed);
    let mut others = [1, 2].map(|number| {
        Child::start(
            "snapshots_are_whole_in_another_process",
            dir.path(),
            seed.wrapping_add(number),
        )
    });
    let (mut seen, mut builds, mut incremental) = (Vec::new(), 0, 0);
    for round in 0..40u32 {
        let before = world::version(&writer, &opened.env.read_txn().unwrap());
        for _ in 0..3 {
            let mut wtxn = opened.env.write_txn().unwrap();
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
        let committed = world::version(&writer, &opened.env.read_txn().unwrap());
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
    let committed = world::version(&writer, &opened.env.read_txn().unwrap());
    std::fs::write(dir.path().join("stop"), "").unwrap();
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
    let seed = support::seed("write_for_ever", 1);
    let mut rng = rng(seed);
    let opened = Opened::new(dir, MAP_BYTES);
    let writer = Writer::open(&opened.env.read_txn().unwrap(), opened.db, 0).unwrap();
    // Some are killed with a reader open: its slot must not outlive them.
    let rtxn = opened.env.read_txn().unwrap();
    let reader = seed
        .is_multiple_of(2)
        .then(|| Kept::new(Reader::open(&rtxn, opened.db, 0).unwrap(), &mut rng));
    let mut version = world::version(&writer, &rtxn);
    say("ready", version);
    loop {
        let mut wtxn = opened.env.write_txn().unwrap();
        let next = world::advance(&writer, &mut wtxn, &mut rng);
        if rng.random_range(0..2) == 0 {
            let progress = |_: &Progress| {
                say("building", version);
                ControlFlow::Continue(())
            };
            writer
                .build(&mut wtxn, &BuildOptions::default().leaf_size(64).progress(&progress))
                .unwrap();
        }
        say("committing", version);
        wtxn.commit().unwrap();
        version = next;
        say("committed", version);
        if let Some(reader) = &reader {
            reader.check(&rtxn, opened.db);
        }
    }
}

#[test]
fn a_killed_writer_leaves_what_it_had_committed() {
    if let Some(dir) = told() {
        return write_for_ever(&dir);
    }
    let seed = support::seed("a_killed_writer_leaves_what_it_had_committed", 131);
    let mut rng = rng(seed);
    let dir = tempfile::tempdir().unwrap();
    let opened = Opened::new(dir.path(), MAP_BYTES);
    world::create(&opened.env, opened.db);
    opened.close();
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

        let opened = Opened::new(dir.path(), MAP_BYTES);
        let rtxn = opened.env.read_txn().unwrap();
        let reader = Reader::open(&rtxn, opened.db, 0).unwrap();
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
        opened.env.clear_stale_readers().unwrap();
        // The lock of the dead writer is free, and the world goes on.
        if round % 2 == 0 {
            let mut wtxn = opened.env.write_txn().unwrap();
            let writer = Writer::open(&wtxn, opened.db, 0).unwrap();
            before = world::advance(&writer, &mut wtxn, &mut rng);
            world::build(&writer, &mut wtxn);
            wtxn.commit().unwrap();
            let rtxn = opened.env.read_txn().unwrap();
            assert_eq!(world::check(&Reader::open(&rtxn, opened.db, 0).unwrap(), &mut rng), before);
        }
        opened.close();
    }
    println!("versions written in each life: {moments:?}");
    assert!(before > 16, "the writers got somewhere before they were killed");
}
