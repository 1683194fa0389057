//! The law of crashes: whenever a writer is killed, the store holds whole batches, all that were acknowledged, and is sound.
//!
//! The writer is this test binary, which runs the same test with a marker in its environment. 60 kills; 1,000 with
//! `SPINNEY_LONG`.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::*;
use rand::{RngExt, SeedableRng};
use spinney::heed::{Env, EnvFlags, EnvOpenOptions, WithoutTls};
use spinney::{BuildMethod, BuildOptions, Database, IndexOptions, Metric, Reader, Writer};

const MAP_SIZE: usize = 512 << 20;
const DIMS: usize = 12;
/// A batch adds this many items and deletes as many: those of the batch that was added `KEPT` batches before.
const BATCH: u32 = 100;
const KEPT: u32 = 20;
/// Set in the writer: the folder of the environment.
const MARKER: &str = "SPINNEY_TEST_CRASHING_WRITER";
/// Starts each line that the writer says; libtest writes to the same pipe.
const PREFIX: &str = "writer: ";

fn vector(id: u32) -> Vec<f32> {
    let centre = uniform(&mut Rng::seed_from_u64(u64::from(id / 700)), Metric::Euclidean, DIMS);
    near(&mut Rng::seed_from_u64(u64::from(id)), Metric::Euclidean, &centre)
}

/// The items after this many batches.
fn items(batches: u32) -> Items {
    (batches.saturating_sub(KEPT) * BATCH..batches * BATCH).map(|id| (id, vector(id))).collect()
}

/// Writes the next batch and, mostly, builds. Tells how.
fn write_batch(env: &Env<WithoutTls>, db: Database, batch: u32, rng: &mut Rng) -> BuildMethod {
    let mut wtxn = env.write_txn().unwrap();
    let writer = Writer::open(&wtxn, db, 0).unwrap();
    for i in 0..BATCH {
        let id = batch * BATCH + i;
        writer.add_item(&mut wtxn, id, &vector(id)).unwrap();
        if let Some(old) = id.checked_sub(KEPT * BATCH) {
            assert!(writer.del_item(&mut wtxn, old).unwrap());
        }
    }
    let method = match rng.random_bool(0.9) {
        true => writer.build(&mut wtxn, &BuildOptions::default()).unwrap().method,
        false => BuildMethod::Nothing,
    };
    wtxn.commit().unwrap();
    method
}

/// Opens the environment with any options that keep its promises.
#[allow(unsafe_code)]
fn open_in_some_way(dir: &Path, rng: &mut Rng) -> Env<WithoutTls> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(MAP_SIZE << rng.random_range(0..3)).max_dbs(rng.random_range(1..5));
    options.max_readers(rng.random_range(16..200));
    let flags = [EnvFlags::empty(), EnvFlags::NO_READ_AHEAD, EnvFlags::WRITE_MAP];
    // SAFETY: none of these flags gives up what is promised after a crash of the process.
    unsafe { options.flags(flags[rng.random_range(0..flags.len())]) };
    // SAFETY: the folder is this test's alone, and a process opens it once at a time.
    unsafe { options.open(dir).unwrap() }
}

fn write_for_ever(dir: &Path) {
    let mut rng = Seed::new(1).rng(1);
    let env = open_in_some_way(dir, &mut rng);
    let db = Database::open(&env).unwrap().expect("the first process has created it");
    env.clear_stale_readers().unwrap();
    let mut batch = batches(&env, db);
    println!("\n{PREFIX}ready {batch}");
    loop {
        let method = write_batch(&env, db, batch, &mut rng);
        batch += 1;
        println!("\n{PREFIX}{method:?} {batch}");
    }
}

/// How many batches there are, by the last id.
fn batches(env: &Env<WithoutTls>, db: Database) -> u32 {
    let rtxn = env.read_txn().unwrap();
    let last = Reader::open(&rtxn, db, 0).unwrap().ids().unwrap().map(Result::unwrap).last();
    last.map_or(0, |id| id / BATCH + 1)
}

fn create(dir: &Path) {
    let env = open_env(dir, MAP_SIZE);
    let db = Database::open_or_create(&env).unwrap();
    let mut wtxn = env.write_txn().unwrap();
    let writer = Writer::open_or_create(&mut wtxn, db, 0, &IndexOptions::new(DIMS, Metric::Euclidean)).unwrap();
    add_all(&writer, &mut wtxn, &items(KEPT));
    writer.build(&mut wtxn, &BuildOptions::default().leaf_size(48)).unwrap();
    wtxn.commit().unwrap();
    env.prepare_for_closing().wait();
}

/// Runs a writer for a while, and kills it. Returns what it said: how each batch was built, and the number of batches.
fn life(dir: &Path, rng: &mut Rng) -> Vec<(String, u32)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_writer_leaves_whole_batches", "--nocapture", "--test-threads=1"])
        .env(MARKER, dir)
        .env("SPINNEY_SEED", rng.random::<u64>().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let understood = |line: String| {
        let (what, batch) = line.strip_prefix(PREFIX)?.split_once(' ')?;
        Some((what.to_owned(), batch.parse().unwrap()))
    };
    let mut said = Vec::new();
    // Some are killed while they open the environment.
    if rng.random_range(0..8) > 0 {
        said.extend(lines.by_ref().find_map(understood));
    }
    std::thread::sleep(Duration::from_micros(rng.random_range(0..60_000)));
    child.kill().unwrap();
    child.wait().unwrap();
    said.extend(lines.filter_map(understood));
    said
}

#[test]
fn a_killed_writer_leaves_whole_batches() {
    if let Some(dir) = std::env::var_os(MARKER) {
        return write_for_ever(Path::new(&dir));
    }
    let seed = Seed::new(510);
    let mut rng = seed.rng(0);
    let dir = tempfile::tempdir().unwrap();
    create(dir.path());
    let (mut before, mut incremental, mut bulk) = (KEPT, 0, 0);
    let kills = if is_long() { 1000 } else { 60 };
    for kill in 0..kills {
        let said = life(dir.path(), &mut rng);
        let acknowledged = said.last().map_or(before, |(_, batches)| *batches);
        incremental += said.iter().filter(|(how, _)| how == "Incremental").count();
        bulk += said.iter().filter(|(how, _)| how == "Bulk").count();

        let env = open_in_some_way(dir.path(), &mut rng);
        let db = Database::open(&env).unwrap().expect("it was created before");
        let there = batches(&env, db);
        let is_prefix = (acknowledged..=acknowledged + 1).contains(&there);
        assert!(is_prefix, "kill {kill}: {there} batches are there, and {acknowledged} were acknowledged");
        let expected = items(there);
        let rtxn = env.read_txn().unwrap();
        let reader = Reader::open(&rtxn, db, 0).unwrap();
        assert_sound(&reader, &format!("kill {kill}"));
        let shown = reader.items().unwrap().map(Result::unwrap);
        assert!(
            shown.eq(expected.iter().map(|(id, row)| (*id, row.clone()))),
            "kill {kill}: the items of whole batches"
        );
        let query = vector(rng.random_range(0..there * BATCH));
        let ranked = ranked(Metric::Euclidean, &expected, &query);
        for k in [10, expected.len()] {
            Ask::new(k).check(Metric::Euclidean, &ranked, &reader.nns(k).by_vector(&query).unwrap());
        }
        drop(reader);
        drop(rtxn);
        before = there;
        if rng.random_bool(0.3) {
            // The lock of the dead writer is free.
            write_batch(&env, db, there, &mut rng);
            before += 1;
        }
        env.prepare_for_closing().wait();
    }
    println!("{before} batches; {incremental} builds were incremental, {bulk} in bulk");
    assert!(before > KEPT + kills as u32 / 2 && incremental > 2 * bulk, "{before}, {incremental}, {bulk}");
}
