//! Opening the store, and filling it under the clock.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bench_kit::files::VectorFile;
use rayon::ThreadPool;
use spinney::heed::{Env, EnvOpenOptions, WithoutTls};
use spinney::{BuildStats, Database, IndexStats, Metric, Reader, Writer};

use crate::args::Args;
use crate::memory;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub const INDEX: u16 = 0;

/// The environment and the database in it.
pub struct Store {
    pub env: Env<WithoutTls>,
    pub db: Database,
}

/// What filling the store took, and what came of it.
pub struct Filled {
    pub insert: Duration,
    pub build: Duration,
    pub commit: Duration,
    pub peak_bytes: Option<u64>,
    /// By how much the process's own memory grew during the build, at most.
    pub build_memory_bytes: Option<u64>,
    pub file_bytes: u64,
    pub built: BuildStats,
    pub index: IndexStats,
}

/// Opens the store in `folder`, large enough for `rows` vectors. One that holds items already is
/// refused: it would be overwritten, and the measurements would not be those of these vectors.
#[expect(unsafe_code, reason = "opening a memory map is the one promise that the caller makes")]
pub fn open(folder: &Path, rows: usize, args: &Args, dims: usize) -> Result<Store> {
    fs::create_dir_all(folder)?;
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    let trees = args.trees.unwrap_or(1);
    options.map_size(map_bytes(rows, dims, trees)).max_dbs(1).max_readers(1100);
    // SAFETY: nothing but LMDB writes to the file, and the process opens it only here.
    let env = unsafe { options.open(folder)? };

    if let Some(db) = Database::open(&env)? {
        let rtxn = env.read_txn()?;
        for index in db.indexes(&rtxn)? {
            let items = Reader::open(&rtxn, db, index)?.len();
            if items > 0 {
                let folder = folder.display();
                return Err(format!(
                    "--store {folder}: expected a store without items, got {items} in index {index}"
                )
                .into());
            }
        }
    }
    let db = Database::open_or_create(&env)?;
    Ok(Store { env, db })
}

/// Room for everything several times over. Unused map costs address space only.
fn map_bytes(rows: usize, dims: usize, trees: usize) -> usize {
    // A vector may take up to a page more than its bytes; its copies in pending records and the
    // leaves less.
    let per_vector = dims.saturating_mul(4).saturating_add(4096);
    let copies = trees.saturating_mul(2).saturating_add(6);
    let bytes = rows.saturating_mul(per_vector).saturating_mul(copies);
    // A multiple of the page size, whatever that is, and what an address can span.
    bytes.saturating_add(1 << 30).min(1 << 46).next_multiple_of(1 << 20)
}

/// Inserts the first `rows` vectors of `train`, row number as id, builds and commits, all in one
/// transaction.
pub fn fill(
    store: &Store,
    train: &mut VectorFile,
    rows: usize,
    args: &Args,
    pool: &ThreadPool,
) -> Result<Filled> {
    let Store { env, db } = store;
    let mut wtxn = env.write_txn()?;
    let options = args.index_options(train.dims());
    let writer = Writer::open_or_create(&mut wtxn, *db, INDEX, &options)?;

    let file = args.train.display();
    let block_rows = (1_048_576 / train.dims()).max(1);
    let mut insert = Duration::ZERO;
    let mut inserted = 0;
    while inserted < rows {
        let block = train.read(block_rows.min(rows - inserted))?;
        if args.metric == Metric::Hamming {
            check_bits(&block, train.dims(), inserted)
                .map_err(|error| format!("{file}: {error}"))?;
        }
        let end = inserted + block.len() / train.dims();
        let ids = (u32::try_from(inserted)?..u32::try_from(end)?).collect::<Vec<_>>();
        let start = Instant::now();
        let added = writer.add_items(&mut wtxn, &ids, &block);
        insert += start.elapsed();
        added.map_err(|error| format!("{file}: rows {inserted} to {}: {error}", end - 1))?;
        inserted = end;
    }

    let build_options = args.build_options(pool);
    let (result, build_memory_bytes) = memory::watch(|| {
        let start = Instant::now();
        let built = writer.build(&mut wtxn, &build_options);
        (built, start.elapsed())
    });
    let (built, build) = (result.0?, result.1);

    let start = Instant::now();
    wtxn.commit()?;
    let commit = start.elapsed();
    let peak_bytes = memory::peak_bytes();

    let rtxn = env.read_txn()?;
    Ok(Filled {
        insert,
        build,
        commit,
        peak_bytes,
        build_memory_bytes,
        file_bytes: fs::metadata(env.path().join("data.mdb"))?.len(),
        built,
        index: Reader::open(&rtxn, *db, INDEX)?.stats()?,
    })
}

/// Says which row is no bit vector; the library names the component only.
pub fn check_bits(block: &[f32], dims: usize, first_row: usize) -> Result<()> {
    match block.iter().position(|&value| value != 0.0 && value != 1.0) {
        None => Ok(()),
        Some(at) => Err(format!(
            "row {}, component {}: expected 0 or 1 with --metric hamming, got {}",
            first_row + at / dims,
            at % dims,
            block[at]
        )
        .into()),
    }
}
