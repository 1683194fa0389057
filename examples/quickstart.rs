//! A store of passages, searched by meaning: the whole life of a collection in one file.
//!
//! ```text
//! cargo run --release --example quickstart            # in a temporary folder
//! cargo run --release --example quickstart -- DIR     # a store in DIR, made anew each time
//! ```
//!
//! The vectors are embeddings: a language model has turned each passage into 384 numbers such that
//! passages of like meaning point in like directions. Any model will do, as long as the questions
//! go through the same one.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bench_kit::passages::{Passages, shortened};
use spinney::{BuildOptions, Collection, Document, DocumentHit, IndexOptions, Metric, Store};

const NAME: &str = "passages";
const K: usize = 10;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let passages = Passages::load("passages")?;
    let queries = Passages::load("queries")?;

    let temporary = tempfile::tempdir()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = match &arguments[..] {
        [] => temporary.path().to_path_buf(),
        [folder] if !folder.starts_with('-') => PathBuf::from(folder),
        _ => {
            return Err("usage: quickstart [FOLDER]: its collection `passages` is made anew".into());
        }
    };
    let store = Store::open(folder)?;
    store.delete_collection(NAME)?; // of an earlier run
    let docs = store.collection(NAME, &IndexOptions::new(passages.dims, Metric::Cosine))?;

    insert_and_build(&store, &docs, &passages)?;
    search(&store, &docs, &queries)?;
    change_under_a_snapshot(&store, &docs, &queries)
}

/// One write transaction: everything in it appears at the commit, at once, or not at all.
fn insert_and_build(
    store: &Store,
    docs: &Collection,
    passages: &Passages,
) -> Result<(), Box<dyn Error>> {
    let mut times = [Duration::ZERO; 2];
    let start = Instant::now();
    let built = store.write(|txn| {
        let start = Instant::now();
        for (row, text) in passages.texts.iter().enumerate() {
            let length = if text.len() < 100 { "short" } else { "long" };
            let document = Document::new(passages.vector(row)).payload(text.as_str());
            docs.put(txn, row as u64, &document.labels([length]))?;
        }
        times[0] = start.elapsed();
        // Documents are found without a build too, but then every search looks at all of them. A
        // write that leaves many builds by itself.
        let start = Instant::now();
        let built = docs.build(txn, &BuildOptions::default())?;
        times[1] = start.elapsed();
        Ok::<_, spinney::Error>(built)
    })?;
    let commit = start.elapsed().saturating_sub(times[0] + times[1]);
    println!("{} passages of {} dimensions", built.items, passages.dims);
    println!("  insert {:8.1} ms", milliseconds(times[0]));
    println!("  build  {:8.1} ms   ({} leaves)", milliseconds(times[1]), built.leaves);
    println!("  commit {:8.1} ms\n", milliseconds(commit));
    Ok(())
}

fn search(store: &Store, docs: &Collection, queries: &Passages) -> Result<(), Box<dyn Error>> {
    for row in (0..queries.texts.len()).step_by(45).take(4) {
        println!("query: {}", shortened(&queries.texts[row]));
        let hits = docs.search(store, 3).labelled("short").payload(true);
        show(&hits.by_vector(queries.vector(row))?);
        println!();
    }

    // A snapshot is one commit: it never waits for a writer, and no writer waits for it.
    let snapshot = store.snapshot()?;
    // How good are the answers? Compare them with those of an exact search, which reads every
    // vector.
    let (mut found, mut wanted) = (0, 0);
    let (mut time, mut exact_time) = (Duration::ZERO, Duration::ZERO);
    for vector in queries.vectors.chunks_exact(queries.dims) {
        let start = Instant::now();
        let hits = docs.search(&snapshot, K).by_vector(vector)?;
        time += start.elapsed();

        let start = Instant::now();
        let exact = docs.search(&snapshot, K).exact().by_vector(vector)?;
        exact_time += start.elapsed();

        wanted += exact.len();
        found += exact.iter().filter(|exact| hits.iter().any(|hit| hit.key == exact.key)).count();
    }
    let count = queries.texts.len();
    println!("{count} queries");
    println!("  recall@{K} {:.4}", found as f64 / wanted as f64);
    println!("  mean time {:8.1} us", 1000.0 * milliseconds(time) / count as f64);
    println!("  exact     {:8.1} us\n", 1000.0 * milliseconds(exact_time) / count as f64);
    Ok(())
}

/// A second write transaction, while a snapshot of the commit before it goes on answering.
fn change_under_a_snapshot(
    store: &Store,
    docs: &Collection,
    queries: &Passages,
) -> Result<(), Box<dyn Error>> {
    let query = queries.vector(0);
    let old = store.snapshot()?;
    let before = docs.search(&old, 3).payload(true).by_vector(query)?;
    let nearest = before.first().ok_or("the collection is empty")?.key.clone();

    // Delete the best answer, and store the query itself under a new key.
    let document = Document::new(query).payload(queries.texts[0].as_str());
    store.write(|txn| {
        assert!(docs.delete(txn, nearest.clone())?);
        docs.put(txn, "the query", &document)
    })?;
    println!("deleted {nearest}, put \"the query\", committed\n");

    let after = docs.search(&old, 3).payload(true).by_vector(query)?;
    assert_eq!(before, after, "a snapshot does not change");
    println!("the old snapshot answers as before:");
    show(&after);

    // What a store is searched for directly is its newest commit.
    let hits = docs.search(store, 3).payload(true).by_vector(query)?;
    assert_eq!(hits.first().and_then(|hit| hit.key.as_str()), Some("the query"));
    assert!(hits.iter().all(|hit| hit.key != nearest), "the deletion counts");
    println!("the store shows the change:");
    show(&hits);
    Ok(())
}

/// Prints hits with the beginnings of their texts.
fn show(hits: &[DocumentHit]) {
    for DocumentHit { key, distance, payload, .. } in hits {
        let text = String::from_utf8_lossy(payload.as_deref().unwrap_or_default());
        println!("  {key:>9}  {distance:.4}  {}", shortened(&text));
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
