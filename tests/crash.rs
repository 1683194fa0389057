//! The law of crashes: whenever a writer is killed, the store holds whole batches, all that were
//! acknowledged, and is sound.
//!
//! The writer says what it is about to do, and is killed when it has said so often enough: while it
//! changes items, builds, or commits. 60 kills; 1,000 with `SPINNEY_LONG`.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use spinney::heed::{Env, EnvFlags, EnvOpenOptions, WithoutTls};
use spinney::{
    BuildMethod, BuildOptions, Database, IndexOptions, Metric, Progress, Reader, Writer,
};
use support::process::{Child, given_folder, say};
use support::*;

const MAP_SIZE: usize = 512 << 20;
const DIMS: usize = 12;
/// A batch adds this many items and deletes as many: those of the batch that was added `KEPT`
/// batches before.
const BATCH: u32 = 100;
const KEPT: u32 = 20;
/// What a writer says it is about to do, as often as it does it. Beside these it says how a batch
/// was built once it is there.
const MOMENTS: [&str; 4] = ["opening", "changing", "building", "committing"];

fn vector(id: u32) -> Vec<f32> {
    let centre = uniform(&mut Rng::seed_from_u64(u64::from(id / 700)), Metric::Euclidean, DIMS);
    near(&mut Rng::seed_from_u64(u64::from(id)), Metric::Euclidean, &centre)
}

/// The items after this many batches.
fn items(batches: u32) -> Items {
    (batches.saturating_sub(KEPT) * BATCH..batches * BATCH).map(|id| (id, vector(id))).collect()
}

/// Writes the next batch and, mostly, builds. Returns how. Calls `at` at each of the moments.
fn write_batch(
    env: &Env<WithoutTls>,
    db: Database,
    batch: u32,
    rng: &mut Rng,
    at: &(dyn Fn(&str) + Sync),
) -> BuildMethod {
    let mut wtxn = env.write_txn().unwrap();
    let writer = Writer::open(&wtxn, db, 0).unwrap();
    for i in 0..BATCH {
        if i.is_multiple_of(BATCH / 4) {
            at("changing");
        }
        let id = batch * BATCH + i;
        writer.add_item(&mut wtxn, id, &vector(id)).unwrap();
        if let Some(old) = id.checked_sub(KEPT * BATCH) {
            assert!(writer.del_item(&mut wtxn, old).unwrap());
        }
    }
    let progress = |_: &Progress| {
        at("building");
        ControlFlow::Continue(())
    };
    let method = match rng.random_bool(0.9) {
        true => {
            writer.build(&mut wtxn, &BuildOptions::default().progress(&progress)).unwrap().method
        }
        false => BuildMethod::Nothing,
    };
    at("committing");
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

/// Says at each moment how many batches there are.
fn write_for_ever(dir: &Path) {
    let mut rng = Seed::new(1).rng(1);
    say("opening 0");
    let env = open_in_some_way(dir, &mut rng);
    let db = Database::open(&env).unwrap().expect("the first process has created it");
    env.clear_stale_readers().unwrap();
    let mut batch = batches(&env, db);
    loop {
        let method =
            write_batch(&env, db, batch, &mut rng, &|moment| say(format_args!("{moment} {batch}")));
        batch += 1;
        say(format_args!("{method:?} {batch}"));
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
    let writer =
        Writer::open_or_create(&mut wtxn, db, 0, &IndexOptions::new(DIMS, Metric::Euclidean))
            .unwrap();
    add_all(&writer, &mut wtxn, &items(KEPT));
    writer.build(&mut wtxn, &BuildOptions::default().leaf_size(48)).unwrap();
    wtxn.commit().unwrap();
    env.prepare_for_closing().wait();
}

/// Runs a writer, and kills it at some moment. Returns all that it said: the last is what it was
/// about to do.
fn life(dir: &Path, rng: &mut Rng) -> Vec<(String, u32)> {
    let mut writer = Child::start("a_killed_writer_leaves_whole_batches", dir, rng.random());
    let moment = *MOMENTS.choose(rng).unwrap();
    // A batch has one commit, four parts of changes, and many steps of a build.
    let times = match moment {
        "opening" => 1,
        "committing" => rng.random_range(1..4),
        _ => rng.random_range(1..20),
    };
    let (mut said, mut heard) = (Vec::new(), 0);
    while heard < times {
        let (what, batches) = writer.hear().expect("it writes for ever");
        heard += usize::from(what == moment);
        said.push((what, batches));
    }
    said.extend(writer.kill());
    said
}

#[test]
fn a_killed_writer_leaves_whole_batches() {
    if let Some(dir) = given_folder() {
        return write_for_ever(&dir);
    }
    let seed = Seed::new(510);
    let mut rng = seed.rng(0);
    let dir = tempfile::tempdir().unwrap();
    create(dir.path());
    let (mut before, mut incremental, mut bulk) = (KEPT, 0, 0);
    let (mut died, mut ended_within): (BTreeMap<String, u32>, _) = (BTreeMap::new(), [0, 0]);
    let kills = if is_long() { 1000 } else { 60 };
    for kill in 0..kills {
        let said = life(dir.path(), &mut rng);
        let acknowledged = said.iter().map(|(_, batches)| *batches).max().unwrap_or(0).max(before);
        *died.entry(said.last().map(|(what, _)| what.clone()).unwrap_or_default()).or_default() +=
            1;
        incremental += said.iter().filter(|(how, _)| how == "Incremental").count();
        bulk += said.iter().filter(|(how, _)| how == "Bulk").count();

        let env = open_in_some_way(dir.path(), &mut rng);
        let db = Database::open(&env).unwrap().expect("it was created before");
        let there = batches(&env, db);
        let is_prefix = (acknowledged..=acknowledged + 1).contains(&there);
        assert!(
            is_prefix,
            "kill {kill}: {there} batches are there, and {acknowledged} were acknowledged"
        );
        ended_within[(there - acknowledged) as usize] += 1;
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
            Ask::new(k).check(
                Metric::Euclidean,
                &ranked,
                &reader.nns(k).by_vector(&query).unwrap(),
            );
        }
        drop(reader);
        drop(rtxn);
        before = there;
        if rng.random_bool(0.3) {
            // The lock of the dead writer is free.
            write_batch(&env, db, there, &mut rng, &|_| {});
            before += 1;
        }
        env.prepare_for_closing().wait();
    }
    println!(
        "{before} batches; {incremental} builds were incremental, {bulk} in bulk; killed after {died:?}"
    );
    println!(
        "{} commits had not been done, {} had been and not been reported",
        ended_within[0], ended_within[1]
    );
    assert!(before > KEPT + kills / 2 && incremental > 2 * bulk, "{before}, {incremental}, {bulk}");
    assert!(died.len() > 2, "{died:?}");
}
