//! A file that was cut is refused before a missing page is read. No sound file is refused.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::unwrap_used,
    clippy::panic
)]
#![allow(clippy::expect_used)]

mod support;

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::RngExt;
use rand::seq::SliceRandom;
use spinney::heed::{Env, EnvFlags, WithoutTls};
use spinney::{BuildOptions, Database, Error, IndexOptions, Metric, Reader, Writer};
use support::process::{command, given_folder, run, say};
use support::*;

const MAP_SIZE: usize = 256 << 20;
const DIMS: usize = 40;
/// Vectors that have pages of their own.
const LONG_DIMS: usize = 3000;

fn open(path: &Path, flags: EnvFlags) -> Env<WithoutTls> {
    open_env_with(path, MAP_SIZE, 2, flags)
}

/// Adds vectors and deletes them again in one transaction, which then need not write their pages.
fn add_and_clear(env: &Env<WithoutTls>, db: Database, dims: usize, items: u32) {
    let mut wtxn = env.write_txn().unwrap();
    let writer = Writer::open_or_create(
        &mut wtxn,
        db,
        dims as u16,
        &IndexOptions::new(dims, Metric::Euclidean),
    )
    .unwrap();
    (0..items).for_each(|id| writer.add_item(&mut wtxn, id, &vec![1.0; dims]).unwrap());
    writer.clear(&mut wtxn).unwrap();
    wtxn.commit().unwrap();
}

/// The length of the file, and that which its last commit records.
fn lengths(env: &Env<WithoutTls>) -> (u64, u64) {
    let page = u64::from(env.unnamed_database_stat().page_size);
    (env.real_disk_size().unwrap(), (env.info().last_page_number as u64 + 1) * page)
}

/// Opens what is in the folder, reads all of it and writes, and says how it went. A signal ends the
/// process.
fn try_folder(path: &Path) {
    let env = open(path, EnvFlags::empty());
    let db = match Database::open_or_create(&env) {
        Err(Error::Truncated { have, need }) => {
            assert!(
                have < need && have == fs::metadata(path.join("data.mdb")).unwrap().len(),
                "{have}, {need}"
            );
            let again = Database::open(&env);
            assert!(matches!(again, Err(Error::Truncated { .. })), "{again:?}");
            return say("refused");
        }
        opened => opened.unwrap(),
    };
    let mut wtxn = env.write_txn().unwrap();
    for index in db.indexes(&wtxn).unwrap() {
        let reader = Reader::open(&wtxn, db, index).unwrap();
        assert!(reader.verify().unwrap().violations.is_empty());
        let writer = Writer::open(&wtxn, db, index).unwrap();
        writer.add_item(&mut wtxn, 1 << 30, &vec![1.0; writer.dims()]).unwrap();
        writer.build(&mut wtxn, &BuildOptions::default().rebuild(true)).unwrap();
    }
    delete_all(wtxn, db);
    say("whole");
}

fn delete_all(mut wtxn: spinney::heed::RwTxn<'_>, db: Database) {
    for index in db.indexes(&wtxn).unwrap() {
        assert!(db.delete_index(&mut wtxn, index).unwrap());
    }
    wtxn.commit().unwrap();
}

/// What another process says of a copy of this file, cut to so many bytes. A signal would fail it.
#[track_caller]
fn outcome(test: &str, file: &Path, length: u64) -> String {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("data.mdb");
    fs::copy(file, &copy).unwrap();
    File::options().write(true).open(&copy).unwrap().set_len(length).unwrap();
    run(command(test, dir.path())).pop().unwrap()
}

#[test]
fn cuts_are_refused_and_kill_nobody() {
    if let Some(path) = given_folder() {
        return try_folder(&path);
    }
    let test = "cuts_are_refused_and_kill_nobody";
    let seed = Seed::new(7);
    let mut rng = seed.rng(0);
    let dir = tempfile::tempdir().unwrap();
    let env = open(dir.path(), EnvFlags::empty());
    let db = Database::open_or_create(&env).unwrap();
    for round in 0..3 {
        let mut wtxn = env.write_txn().unwrap();
        let writer =
            Writer::open_or_create(&mut wtxn, db, 0, &IndexOptions::new(DIMS, Metric::Euclidean))
                .unwrap();
        let rows = vectors(&mut rng, Metric::Euclidean, DIMS, 2000, Spread::Clusters);
        add_all(&writer, &mut wtxn, &(2000 * round..).zip(rows).collect());
        writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
        wtxn.commit().unwrap();
    }
    let (have, need) = lengths(&env);
    assert_eq!(have, need);
    env.prepare_for_closing().wait();
    let file = dir.path().join("data.mdb");
    assert_eq!(outcome(test, &file, have), "whole");
    assert_eq!(outcome(test, &file, have + 12345), "whole");
    // All of it but one byte; parts of it; and the first pages, of which LMDB reads two itself.
    let parts = (1..40).map(|part| have * part / 40);
    let pages = [2, 3, 4, 5].map(|pages| pages * 4096);
    for length in parts.chain(pages).chain([have - 1, have - 4096, have - 4097]) {
        assert_eq!(outcome(test, &file, length), "refused", "cut to {length} of {have} bytes");
    }
}

/// Where the last pages are free, a cut may take none but these: then nothing is lost.
#[test]
fn cuts_that_take_only_free_pages_are_no_cuts() {
    if let Some(path) = given_folder() {
        return try_folder(&path);
    }
    // The list of free pages is a part of a page, or has pages of its own.
    for many in [60, 100, 1000] {
        let dir = tempfile::tempdir().unwrap();
        let env = open(dir.path(), EnvFlags::empty());
        let db = Database::open_or_create(&env).unwrap();
        let mut wtxn = env.write_txn().unwrap();
        let writer =
            Writer::open_or_create(&mut wtxn, db, 0, &IndexOptions::new(DIMS, Metric::Euclidean))
                .unwrap();
        (0..300).for_each(|id| writer.add_item(&mut wtxn, id, &[id as f32; DIMS]).unwrap());
        wtxn.commit().unwrap();
        // Once there are free pages, the pages of long vectors become free at once.
        for items in [10, 10, 10, many] {
            add_and_clear(&env, db, LONG_DIMS, items);
        }
        let (have, need) = lengths(&env);
        assert!(have < need, "all of {need} bytes are there");
        env.prepare_for_closing().wait();
        let pages = have / 4096;
        let lengths = (2..pages)
            .step_by(pages as usize / 20)
            .chain([pages - 1, pages])
            .map(|pages| pages * 4096);
        let test = "cuts_that_take_only_free_pages_are_no_cuts";
        let outcomes: Vec<String> =
            lengths.map(|length| outcome(test, &dir.path().join("data.mdb"), length)).collect();
        println!("{many}: {outcomes:?}");
        let refused = outcomes.iter().take_while(|outcome| *outcome == "refused").count();
        assert!(
            refused > 0 && outcomes[refused..].iter().all(|outcome| outcome == "whole"),
            "{outcomes:?}"
        );
    }
}

/// Any commits leave a file that opens, though many are shorter than their last page.
#[test]
fn sound_files_are_never_refused() {
    for (part, flags) in
        [EnvFlags::NO_SYNC, EnvFlags::NO_SYNC | EnvFlags::WRITE_MAP].into_iter().enumerate()
    {
        let seed = Seed::new(99);
        let mut rng = seed.rng(part as u64);
        let (mut shorter, mut commits) = (0, 0);
        for _ in 0..12 {
            let dir = tempfile::tempdir().unwrap();
            let env = open(dir.path(), flags);
            let db = Database::open_or_create(&env).unwrap();
            let mut ids: Vec<u32> = (0..400).collect();
            for _ in 0..30 {
                let mut wtxn = env.write_txn().unwrap();
                for _ in 0..rng.random_range(1..4) {
                    let index = rng.random_range(0..2);
                    let dims = if index == 0 { DIMS } else { LONG_DIMS };
                    let options = IndexOptions::new(dims, Metric::Euclidean);
                    let writer = Writer::open_or_create(&mut wtxn, db, index, &options).unwrap();
                    ids.shuffle(&mut rng);
                    let some = &ids[..rng.random_range(0..200)];
                    match rng.random_range(0..5) {
                        0 => writer.clear(&mut wtxn).unwrap(),
                        1 => {
                            some.iter().for_each(|id| _ = writer.del_item(&mut wtxn, *id).unwrap())
                        }
                        2 => _ = writer.build(&mut wtxn, &BuildOptions::default()).unwrap(),
                        _ => some.iter().for_each(|id| {
                            writer.add_item(&mut wtxn, *id, &vec![1.0; dims]).unwrap()
                        }),
                    }
                }
                wtxn.commit().unwrap();
                let (have, need) = lengths(&env);
                commits += 1;
                shorter += u32::from(have < need);
                assert!(Database::open(&env).unwrap().is_some());
            }
        }
        println!("{shorter} of {commits} files are shorter than their last page");
        assert!(shorter > 0 || flags.contains(EnvFlags::WRITE_MAP));
    }
}

#[test]
fn files_that_are_being_written_are_not_refused() {
    let dir = tempfile::tempdir().unwrap();
    let env = open(dir.path(), EnvFlags::NO_SYNC);
    let db = Database::open_or_create(&env).unwrap();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..300 {
                add_and_clear(&env, db, DIMS, 10 * (round % 40));
                add_and_clear(&env, db, LONG_DIMS, round % 20);
                let mut wtxn = env.write_txn().unwrap();
                let writer = Writer::open_or_create(
                    &mut wtxn,
                    db,
                    2,
                    &IndexOptions::new(LONG_DIMS, Metric::Euclidean),
                )
                .unwrap();
                writer.add_item(&mut wtxn, round, &[1.0; LONG_DIMS]).unwrap();
                wtxn.commit().unwrap();
            }
            is_done.store(true, Ordering::Release);
        });
        let mut opened = 0;
        while !is_done.load(Ordering::Acquire) {
            assert!(Database::open(&env).unwrap().is_some());
            opened += 1;
        }
        println!("opened {opened} times");
    });
}
