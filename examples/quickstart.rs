//! A store of passages, searched by meaning: the whole life of an index in one file.
//!
//! ```text
//! cargo run --release --example quickstart            # in a temporary folder
//! cargo run --release --example quickstart -- DIR     # in DIR; index 0 in there is overwritten
//! ```
//!
//! The vectors are embeddings: a language model has turned each passage into 384 numbers such that
//! passages of like meaning point in like directions. Any model will do, as long as the questions
//! go through the same one.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bench_kit::passages::{Passages, shortened, show};
use spinney::heed::{Env, EnvOpenOptions, WithoutTls};
use spinney::{BuildOptions, Database, IndexOptions, Metric, Reader, Writer};

/// One LMDB database holds many indexes; each has a number, and this is ours.
const INDEX: u16 = 0;
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
            return Err(
                "usage: quickstart [FOLDER]: index 0 of the store in FOLDER is overwritten".into(),
            );
        }
    };
    let env = open_env(&folder)?;
    let db = Database::open_or_create(&env)?;

    insert_and_build(&env, db, &passages)?;
    search(&env, db, &passages, &queries)?;
    change_under_a_reader(&env, db, &passages, &queries)
}

/// One write transaction: everything in it appears at the commit, at once, or not at all.
/// Opens an LMDB environment: a folder with one data file, which may hold databases of yours beside
/// spinney's.
#[expect(unsafe_code, reason = "opening a memory map is the one promise that the caller makes")]
fn open_env(folder: &Path) -> Result<Env<WithoutTls>, Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    // The map size is the most that the file may grow to. It costs address space, not memory.
    options.map_size(1 << 30).max_dbs(1);
    // SAFETY: LMDB maps the file into memory; nothing else writes to it, and it is opened once in
    // this process.
    Ok(unsafe { options.open(folder)? })
}

fn insert_and_build(
    env: &Env<WithoutTls>,
    db: Database,
    passages: &Passages,
) -> Result<(), Box<dyn Error>> {
    let mut wtxn = env.write_txn()?;
    let options = IndexOptions::new(passages.dims, Metric::Cosine);
    let writer = Writer::open_or_create(&mut wtxn, db, INDEX, &options)?;
    writer.clear(&mut wtxn)?; // from an earlier run in the same folder

    let start = Instant::now();
    for (id, vector) in (0..).zip(passages.vectors.chunks_exact(passages.dims)) {
        writer.add_item(&mut wtxn, id, vector)?;
    }
    let inserted = start.elapsed();

    // Items are found without a build too, but then every search looks at every one of them.
    let start = Instant::now();
    let built = writer.build(&mut wtxn, &BuildOptions::default())?;
    let build = start.elapsed();

    let start = Instant::now();
    wtxn.commit()?;
    println!("{} passages of {} dimensions", built.items, passages.dims);
    println!("  insert {:8.1} ms", milliseconds(inserted));
    println!("  build  {:8.1} ms   ({} leaves)", milliseconds(build), built.leaves);
    println!("  commit {:8.1} ms\n", milliseconds(start.elapsed()));
    Ok(())
}

fn search(
    env: &Env<WithoutTls>,
    db: Database,
    passages: &Passages,
    queries: &Passages,
) -> Result<(), Box<dyn Error>> {
    // A read transaction is a snapshot: it never waits for a writer, and no writer waits for it.
    let rtxn = env.read_txn()?;
    let reader = Reader::open(&rtxn, db, INDEX)?;

    for (text, vector) in
        queries.texts.iter().zip(queries.vectors.chunks_exact(queries.dims)).step_by(45).take(4)
    {
        println!("query: {}", shortened(text));
        show(&reader.nns(3).by_vector(vector)?, &passages.texts);
        println!();
    }

    // How good are the answers? Compare them with those of an exact search, which reads every
    // vector.
    let (mut found, mut wanted) = (0, 0);
    let (mut time, mut exact_time) = (Duration::ZERO, Duration::ZERO);
    for vector in queries.vectors.chunks_exact(queries.dims) {
        let start = Instant::now();
        let hits = reader.nns(K).by_vector(vector)?;
        time += start.elapsed();

        let start = Instant::now();
        let exact = reader.nns(K).exact().by_vector(vector)?;
        exact_time += start.elapsed();

        wanted += exact.len();
        found += exact.iter().filter(|exact| hits.iter().any(|hit| hit.id == exact.id)).count();
    }
    let count = queries.texts.len();
    println!("{count} queries");
    println!("  recall@{K} {:.4}", found as f64 / wanted as f64);
    println!("  mean time {:8.1} us", 1000.0 * milliseconds(time) / count as f64);
    println!("  exact     {:8.1} us\n", 1000.0 * milliseconds(exact_time) / count as f64);
    Ok(())
}

/// A second write transaction, while a reader of the snapshot before it goes on answering.
fn change_under_a_reader(
    env: &Env<WithoutTls>,
    db: Database,
    passages: &Passages,
    queries: &Passages,
) -> Result<(), Box<dyn Error>> {
    let query = queries.vector(0);
    let old_rtxn = env.read_txn()?;
    let old_reader = Reader::open(&old_rtxn, db, INDEX)?;
    let before = old_reader.nns(3).by_vector(query)?;
    let nearest = before.first().ok_or("the index is empty")?.id;

    // Delete the best answer, and store the query itself as a passage under the next free id.
    let mut texts = passages.texts.clone();
    let new_id = u32::try_from(texts.len())?;
    texts.push(queries.texts[0].clone());
    let mut wtxn = env.write_txn()?;
    let writer = Writer::open(&wtxn, db, INDEX)?;
    writer.del_item(&mut wtxn, nearest)?;
    writer.add_item(&mut wtxn, new_id, query)?;
    // Changes count from the commit on, built or not. Build when enough of them have gathered.
    wtxn.commit()?;
    println!("deleted {nearest}, added {new_id}, committed\n");

    let after = old_reader.nns(3).by_vector(query)?;
    assert_eq!(before, after, "a snapshot does not change");
    println!("the old reader answers as before:");
    show(&after, &texts);

    let new_rtxn = env.read_txn()?;
    let new_reader = Reader::open(&new_rtxn, db, INDEX)?;
    let hits = new_reader.nns(3).by_vector(query)?;
    assert_eq!(hits.first().map(|hit| hit.id), Some(new_id), "a new reader sees the insertion");
    assert!(hits.iter().all(|hit| hit.id != nearest), "and the deletion");
    println!("a new reader sees the change ({} items pending):", new_reader.pending_len());
    show(&hits, &texts);
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
