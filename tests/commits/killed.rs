//! A process that is killed while it builds in several commits leaves a sound index, and the next
//! build deletes what it has written.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rand::RngExt;
use spinney::heed::RwTxn;
use spinney::{BuildOptions, BuildPhase, Database, Metric, Progress, Reader, Writer};

use crate::support::process::{Child, given_folder, say};
use crate::support::raw::create;
use crate::support::*;
use crate::{assert_shows, entries_by_generation};

const MAP_SIZE: usize = 256 << 20;
const DIMS: usize = 8;
/// Ids of items that there are at once: each that comes pushes one out.
const WINDOW: u32 = 1200;
const TEST: &str = "killed::a_killed_build_leaves_a_sound_index";

fn vector(id: u32) -> Vec<f32> {
    let centre = uniform(&mut rng(u64::from(id % 40)), Metric::Euclidean, DIMS);
    near(&mut rng(u64::from(id) + 1000), Metric::Euclidean, &centre)
}

/// The items after the one of this id was added.
fn window(last: u32) -> Items {
    (last + 1 - WINDOW..=last).map(|id| (id, vector(id))).collect()
}

/// Adds the next item and deletes the first.
fn step(writer: &Writer, wtxn: &mut RwTxn<'_>, next: u32) {
    writer.add_item(wtxn, next, &vector(next)).unwrap();
    assert!(writer.del_item(wtxn, next - WINDOW).unwrap());
}

fn last(store: &Store) -> u32 {
    let rtxn = store.env.read_txn().unwrap();
    let ids = Reader::open(&rtxn, store.db, 0).unwrap().id_set().unwrap();
    ids.max().unwrap()
}

/// Builds again and again, adds items meanwhile, and says what it does.
fn build_for_ever(dir: &Path) {
    let store = Store::at(dir, MAP_SIZE);
    let next = AtomicU32::new(last(&store) + 1);
    let writer = Writer::open(&store.env.read_txn().unwrap(), store.db, 0).unwrap();
    let progress = |progress: &Progress| {
        let is_writing = progress.phase == BuildPhase::Writing;
        if is_writing || progress.done == progress.total {
            let mut wtxn = store.env.write_txn().unwrap();
            step(&writer, &mut wtxn, next.load(Ordering::Relaxed));
            wtxn.commit().unwrap();
            let id = next.fetch_add(1, Ordering::Relaxed);
            say(format_args!("{} {id}", progress.phase));
        }
        ControlFlow::Continue(())
    };
    let options = BuildOptions::default().leaf_size(32).rebuild(true).bytes_per_commit(8_000);
    loop {
        writer.build_in_commits(&store.env, &options.progress(&progress)).unwrap();
        say(format_args!("built {}", next.load(Ordering::Relaxed) - 1));
    }
}

#[test]
fn a_killed_build_leaves_a_sound_index() {
    if let Some(dir) = given_folder() {
        return build_for_ever(&dir);
    }
    let seed = Seed::new(940);
    let mut rng = seed.rng(0);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::at(dir.path(), MAP_SIZE);
    let mut wtxn = store.env.write_txn().unwrap();
    let writer = create(&store, &mut wtxn, DIMS, Metric::Euclidean);
    add_all(&writer, &mut wtxn, &window(WINDOW - 1));
    wtxn.commit().unwrap();
    store.close();
    let (mut before, mut left_behind, mut built) = (WINDOW - 1, 0, 0);
    for kill in 0..if is_long() { 500 } else { 30 } {
        let mut child = Child::start(TEST, dir.path(), rng.random());
        let moment = if rng.random_bool(0.8) { "writing" } else { "built" };
        let times = if moment == "built" { 1 } else { rng.random_range(1..20) };
        let (mut said, mut heard) = (Vec::new(), 0);
        while heard < times {
            said.push(child.hear().expect("it builds for ever"));
            heard += u32::from(said.last().is_some_and(|(what, _)| what == moment));
        }
        said.extend(child.kill());
        let acknowledged = said.iter().map(|(_, id)| *id).max().unwrap_or(0).max(before);
        built += said.iter().filter(|(what, _)| what == "built").count();

        let store = Store::at(dir.path(), MAP_SIZE);
        store.env.clear_stale_readers().unwrap();
        before = last(&store);
        assert!((acknowledged..=acknowledged + 1).contains(&before), "kill {kill}");
        let what = format!("kill {kill}, after {:?}", said.last());
        assert_shows(&store, &window(before), Metric::Euclidean, &what);
        left_behind += u32::from(!entries_by_generation(&store).contains(&0));
        if rng.random() {
            next_build(&store, &mut rng, &mut before);
            assert_shows(&store, &window(before), Metric::Euclidean, &format!("{what}, built"));
            assert!(entries_by_generation(&store).contains(&0), "{what}: nodes are left");
        }
        store.close();
    }
    println!("{built} builds were done, and {left_behind} kills left nodes behind");
    assert!(built > 2 && left_behind > 5, "{built}, {left_behind}");
}

/// A build of any kind, after one more item has come.
fn next_build(store: &Store, rng: &mut Rng, last: &mut u32) {
    let db: Database = store.db;
    let mut wtxn = store.env.write_txn().unwrap();
    let writer = Writer::open(&wtxn, db, 0).unwrap();
    *last += 1;
    step(&writer, &mut wtxn, *last);
    let options = BuildOptions::default().leaf_size(32).rebuild(rng.random());
    if rng.random() {
        wtxn.commit().unwrap();
        writer.build_in_commits(&store.env, &options).unwrap();
    } else {
        writer.build(&mut wtxn, &options).unwrap();
        wtxn.commit().unwrap();
    }
}
