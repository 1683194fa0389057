//! Laws of a collection under faults: whoever is killed, and whenever, keys, payloads, labels and
//! vectors are those of whole transactions.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use rand::RngExt;
use spinney::{Collection, Document, Error, IndexOptions, Labels, Metric, Reads, Result, Store};
use support::process::{Child, given_folder, say};
use support::*;

const DIMS: usize = 8;
const BATCH: u64 = 25;
/// Batches that are there at once.
const KEPT: u64 = 10;

fn row(id: u64) -> Vec<f32> {
    clustered_row(Metric::Euclidean, DIMS, &mut rng(id))
}

fn open(dir: &Path) -> (Store, Collection) {
    let store = Store::options().map_size(1 << 19).map_limit(1 << 30).open(dir).unwrap();
    let docs = store.collection("docs", &IndexOptions::new(DIMS, Metric::Euclidean)).unwrap();
    (store, docs)
}

fn key(batch: u64, i: u64) -> String {
    format!("{batch:08}/{i:02}")
}

fn document(batch: u64, i: u64) -> Document {
    let id = batch * BATCH + i;
    // Every third has two vectors, the second of which is far away.
    let mut rows = row(id);
    if id.is_multiple_of(3) {
        rows.extend([1000.0; DIMS]);
    }
    let parity = if id.is_multiple_of(2) { "even" } else { "odd" };
    Document::with_vectors(rows)
        .payload(format!("payload of {id}"))
        .labels([parity.to_owned(), format!("batch:{batch}")])
}

/// The batch that comes next, by what the store says of itself.
fn next_batch(docs: &Collection, source: &impl Reads) -> Result<u64> {
    let labels = docs.labels(source)?;
    let batches = labels.iter().filter_map(|(label, _)| label.strip_prefix("batch:"));
    Ok(batches.map(|batch| batch.parse::<u64>().unwrap() + 1).max().unwrap_or(0))
}

/// Puts the next batch and deletes the oldest. Returns how many there have been.
fn write_batch(store: &Store, docs: &Collection) -> Result<u64> {
    store.write(|txn| {
        let batch = next_batch(docs, txn)?;
        docs.put_many(txn, (0..BATCH).map(|i| (key(batch, i), document(batch, i))))?;
        if let Some(old) = batch.checked_sub(KEPT) {
            assert_eq!(docs.delete_where(txn, format!("batch:{old}"))?, BATCH);
        }
        Ok(batch + 1)
    })
}

/// Checks that all is as after so many batches.
fn check(docs: &Collection, source: &impl Reads) -> u64 {
    let batches = next_batch(docs, source).unwrap();
    let there = batches.saturating_sub(KEPT)..batches;
    assert_eq!(docs.verify(source).unwrap(), []);
    assert_eq!(docs.len(source).unwrap(), BATCH * (there.end - there.start));
    let mut pairs = there.clone().flat_map(|batch| (0..BATCH).map(move |i| (batch, i)));
    for found in docs.keys(source) {
        let (batch, i) = pairs.next().expect("no more than were put");
        assert_eq!(found.unwrap(), key(batch, i).as_str());
    }
    assert_eq!(pairs.next(), None);
    for batch in there.clone() {
        let label = format!("batch:{batch}");
        assert_eq!(docs.count(source, label.as_str()).unwrap(), BATCH);
        let i = batch % BATCH;
        let stored = docs.get(source, key(batch, i)).unwrap().expect("it was put");
        assert_eq!(stored.payload, format!("payload of {}", batch * BATCH + i).into_bytes());
        let odd = Labels::all([Labels::from(label), Labels::not("even")]);
        let hits = docs.search(source, 100).labelled(odd).by_vector(&row(batch)).unwrap();
        let expected = (0..BATCH).filter(|i| (batch * BATCH + i) % 2 == 1).count();
        assert_eq!(hits.len(), expected);
    }
    batches
}

fn write_for_ever(dir: &Path) {
    let (store, docs) = open(dir);
    store.set_build_after("docs", Some(60)).unwrap();
    loop {
        match write_batch(&store, &docs) {
            Ok(batches) => say(format_args!("written {batches}")),
            // Another process has enlarged the map while a snapshot was open here.
            Err(Error::MapInUse { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn read_for_ever(dir: &Path) {
    let (store, docs) = open(dir);
    let mut newest = 0;
    loop {
        let batches = check(&docs, &store.snapshot().unwrap());
        assert!(batches >= newest, "commits do not go back");
        newest = batches;
        say(format_args!("read {batches}"));
    }
}

#[test]
fn a_killed_writer_leaves_whole_documents() {
    if let Some(dir) = given_folder() {
        return write_for_ever(&dir);
    }
    let mut rng = Seed::new(910).rng(0);
    let dir = tempfile::tempdir().unwrap();
    let mut before = 0;
    for kill in 0..if is_long() { 1000 } else { 60 } {
        let mut writer = Child::start("a_killed_writer_leaves_whole_documents", dir.path(), 0);
        let mut acknowledged = before;
        for _ in 0..rng.random_range(1..6) {
            acknowledged = u64::from(writer.hear().expect("it writes for ever").1);
        }
        std::thread::sleep(Duration::from_micros(rng.random_range(0..4000)));
        let said = writer.kill();
        acknowledged = said.last().map_or(acknowledged, |(_, batches)| u64::from(*batches));
        let (store, docs) = open(dir.path());
        let there = check(&docs, &store);
        assert!(
            (acknowledged..=acknowledged + 1).contains(&there),
            "kill {kill}: {there} batches, {acknowledged} acknowledged"
        );
        before = write_batch(&store, &docs).unwrap();
    }
    assert!(before > 100, "{before} batches");
}

#[test]
fn processes_that_are_killed_lose_nothing() {
    const TEST: &str = "processes_that_are_killed_lose_nothing";
    if let Some(dir) = given_folder() {
        // The seed says what it is.
        return if Seed::new(0).number() < 2 { write_for_ever(&dir) } else { read_for_ever(&dir) };
    }
    let mut rng = rng(911);
    let dir = tempfile::tempdir().unwrap();
    let (store, docs) = open(dir.path());
    let start = |role: u64| Child::start(TEST, dir.path(), role);
    let mut children: Vec<Child> = (0..5).map(start).collect();
    let end = Instant::now() + Duration::from_secs(if is_long() { 3600 } else { 10 });
    let (mut acknowledged, mut read) = (0, 0);
    let mut note = |said: Vec<(String, u32)>| {
        for (what, batches) in said {
            let highest = if what == "written" { &mut acknowledged } else { &mut read };
            *highest = batches.max(*highest);
        }
    };
    while Instant::now() < end {
        std::thread::sleep(Duration::from_secs(1));
        let role = rng.random_range(0..children.len());
        let killed = std::mem::replace(&mut children[role], start(role as u64));
        note(killed.kill());
    }
    children.into_iter().for_each(|child| note(child.kill()));
    let there = check(&docs, &store) as u32;
    assert!(there >= acknowledged.max(read), "{there}, {acknowledged} acknowledged, {read} read");
    assert!(acknowledged > 10 && read > 10, "{acknowledged} acknowledged, {read} read");
    write_batch(&store, &docs).unwrap();
}
