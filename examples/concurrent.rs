//! One writer, many readers, two processes: what each of them sees while the others work.
//!
//! ```text
//! cargo run --release --example concurrent            # in a temporary folder
//! ```
//!
//! Each commit adds items, deletes others and builds. It notes in a table of our own what searches
//! find from then on. Readers check that they see all of a commit or nothing of it: never the items
//! of one with the answers of another.

use std::error::Error;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{io, thread};

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use spinney::heed::byteorder::BigEndian;
use spinney::heed::types::{Bytes, U32};
use spinney::heed::{self, CommitOrAbort, Env, EnvOpenOptions, RoTxn, WithoutTls};
use spinney::{BuildOptions, Database, IndexOptions, Metric, Reader, Writer};

/// Errors that can be handed from thread to thread.
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const INDEX: u16 = 0;
const DIMS: usize = 64;
/// Commit 0 fills the index, the others change it.
const LAST_COMMIT: u32 = 30;
/// What is searched for: the vectors that items of these ids would have. There are none.
const QUERIES: Range<u32> = 1_000_000..1_000_005;
/// Shows the readers of this process that the writer is done.
static OVER: AtomicBool = AtomicBool::new(false);

/// What a process opens once and all its threads share. These are handles: none of them holds a
/// snapshot.
struct Store {
    env: Env<WithoutTls>,
    db: Database,
    /// Our own table: the number of a commit, and what is found since. LMDB sorts by bytes, so that
    /// the last is newest.
    journal: heed::Database<'static, U32<BigEndian>, Bytes>,
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let result = match &arguments[..] {
        [] => first_process(),
        [read, folder] if read == "--read" => other_process(Path::new(folder)),
        _ => Err("usage: concurrent".into()),
    };
    if let Err(error) = result {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn first_process() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = open(folder.path())?;
    commit(&store, 0)?;

    // This reader stays open while everything changes. It keeps the snapshot of commit 0 for as
    // long as it lives.
    let old_rtxn = store.env.read_txn()?;
    let old_reader = Reader::open(&old_rtxn, store.db, INDEX)?;
    let at_first = answers(&old_reader)?;

    // The other process is this program again, with arguments.
    let mut command = Command::new(std::env::current_exe()?);
    let command = command.arg("--read").arg(folder.path());
    let other = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;

    let done: Result<()> = thread::scope(|scope| {
        let readers: Vec<_> = (0..3).map(|_| scope.spawn(|| read(&store))).collect();
        // A thread of its own: should the writer fail, even panic, the readers still learn that it
        // is over.
        let written =
            scope.spawn(|| (1..=LAST_COMMIT).try_for_each(|number| commit(&store, number))).join();
        OVER.store(true, Ordering::SeqCst);
        written.map_err(|_| "the writer panicked")??;
        println!("writer:        commits 0 to {LAST_COMMIT}");
        for reader in readers {
            println!("thread:        {}", reader.join().map_err(|_| "a reader panicked")??);
        }
        Ok(())
    });
    let output = other.wait_with_output()?; // closes its input, which makes it stop
    done?;
    if !output.status.success() {
        return Err(format!("the other process failed: {}", output.status).into());
    }
    println!("other process: {}", String::from_utf8_lossy(&output.stdout));

    // The reader from before, and a new one in the same transaction.
    if answers(&old_reader)? != at_first || check(&store, &old_rtxn)? != 0 {
        return Err("the old reader does not answer as at first".into());
    }
    println!(
        "old reader:    the same {} bytes of answers, {LAST_COMMIT} commits later",
        at_first.len()
    );
    Ok(())
}

fn other_process(folder: &Path) -> Result<()> {
    let store = open(folder)?;
    // Nothing is ever sent. The input ends when the first process closes it, or ends itself in
    // whatever way.
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        OVER.store(true, Ordering::SeqCst);
    });
    print!("{}", read(&store)?);
    Ok(())
}

/// Opens the store, and creates what is missing. Only once in each process: LMDB's locks do not
/// bear a second time.
#[expect(unsafe_code, reason = "opening a memory map is the one promise that the caller makes")]
fn open(folder: &Path) -> Result<Store> {
    // Without TLS, read transactions are not tied to threads: one thread may have many, or hand
    // them on.
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(1 << 30).max_dbs(2); // spinney's and the journal
    // SAFETY: only LMDB writes to the files of this folder, and they are opened once in each
    // process.
    let env = unsafe { options.open(folder)? };
    let db = Database::open_or_create(&env)?;
    // All processes together have one write transaction at a time: this one waits for its turn.
    let created = env.create_databases_and_commit(env.write_txn()?, |opener, wtxn| {
        opener.create_database(wtxn, Some("journal")).map(CommitOrAbort::<_, ()>::Commit)
    })?;
    Ok(Store { journal: created.commit().ok_or("the journal was not created")?, db, env })
}

/// The items that are there after a commit: a window that moves on and grows.
fn ids_after(commit: u32) -> Range<u32> {
    10 * commit..4000 + 20 * commit
}

/// The vector of an item: random, but always the same.
fn vector(id: u32) -> Vec<f32> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(id.into());
    (0..DIMS).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// One write transaction. Readers see nothing of it before its commit, and all of it after.
fn commit(store: &Store, number: u32) -> Result<()> {
    let (before, after) = (number.checked_sub(1).map_or(0..0, ids_after), ids_after(number));
    let mut wtxn = store.env.write_txn()?;
    let writer = Writer::open_or_create(
        &mut wtxn,
        store.db,
        INDEX,
        &IndexOptions::new(DIMS, Metric::Cosine),
    )?;
    for id in before.end..after.end {
        writer.add_item(&mut wtxn, id, &vector(id))?;
    }
    for id in before.start..after.start {
        writer.del_item(&mut wtxn, id)?;
    }
    writer.build(&mut wtxn, &BuildOptions::default())?;
    // The transaction sees its own changes: these are the hits that readers will find.
    let answers = answers(&Reader::open(&wtxn, store.db, INDEX)?)?;
    store.journal.put(&mut wtxn, &number, &answers)?;
    Ok(wtxn.commit()?)
}

/// The hits of all queries, as bytes: even the last bit of a distance counts.
fn answers(reader: &Reader<'_>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for query in QUERIES {
        for hit in reader.nns(10).by_vector(&vector(query))? {
            bytes.extend([hit.id.to_le_bytes(), hit.distance.to_le_bytes()].as_flattened());
        }
    }
    Ok(bytes)
}

/// Opens snapshot after snapshot until the writer is done, and says what it has seen.
fn read(store: &Store) -> Result<String> {
    let (mut snapshots, mut commits, mut newest) = (0, 0, None);
    loop {
        // Asked before the snapshot is opened: if it is over, this is the snapshot of the last
        // commit.
        let is_over = OVER.load(Ordering::SeqCst);
        let rtxn = store.env.read_txn()?; // never waits for the writer, nor the writer for it
        let commit = check(store, &rtxn)?;
        if newest > Some(commit) {
            return Err(format!("commit {commit} was seen after a newer one: {newest:?}").into());
        }
        if is_over && commit != LAST_COMMIT {
            return Err(format!("the last commit seen is {commit}, expected {LAST_COMMIT}").into());
        }
        snapshots += 1;
        commits += usize::from(newest != Some(commit));
        newest = Some(commit);
        if is_over {
            let searches = snapshots * QUERIES.len();
            return Ok(format!(
                "{searches} searches in {snapshots} snapshots, of {commits} different commits"
            ));
        }
    }
}

/// Checks that the journal, the items and the hits that this transaction sees are of one commit;
/// returns its number.
fn check(store: &Store, rtxn: &RoTxn<'_>) -> Result<u32> {
    let (commit, expected) = store.journal.last(rtxn)?.ok_or("the journal is empty")?;
    let reader = Reader::open(rtxn, store.db, INDEX)?;
    let ids = reader.ids()?.collect::<spinney::Result<Vec<u32>>>()?;
    let is_count_right = reader.len() == ids_after(commit).len() as u64;
    if !is_count_right || !ids_after(commit).eq(ids) || answers(&reader)? != expected {
        return Err(format!(
            "commit {commit}: expected the items and the hits that it wrote, got others"
        )
        .into());
    }
    Ok(commit)
}
