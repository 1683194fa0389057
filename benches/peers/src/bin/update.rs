//! What a change costs in spinney, arroy and hannoy.
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml --bin update -- \
//!     [--data DIR] [--sets sift,minilm] [--items 100000] \
//!     [--stores spinney,arroy,arroy-20,hannoy] [--temp DIR]
//! ```
//!
//! Every store is filled with the same rows and built once. Then it makes the same changes as the
//! others, one transaction after the other: each in turn makes the same batch, so that whatever
//! else the machine does falls on all of them. Without files, the rows are made up. hannoy takes
//! minutes for its first build of 100,000 rows.

use std::process::ExitCode;
use std::time::Instant;

use bench_kit::args::{DataArgs, count};
use bench_kit::changes::{Change, Kind, Live};
use bench_kit::clap::{self, Parser};
use bench_kit::meter::{Span, timed, written_bytes};
use bench_kit::rows::Rows;
use heed::{Env, EnvOpenOptions, RwTxn, WithoutTls};
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use spinney::{BuildOptions, IndexOptions, Metric};
use spinney_peers::Result;
use spinney_peers::database::database;

/// Changes in one transaction, and how many transactions are measured.
const BATCHES: [(usize, usize); 5] = [(1, 7), (10, 5), (100, 3), (1_000, 1), (10_000, 1)];
/// How many times the time that the first store takes for one insert others are expected to take,
/// and of its bytes.
const EXPECTED: (f64, f64) = (100.0, 1.0);

/// An index under change.
trait Index {
    fn put(&self, wtxn: &mut RwTxn<'_>, id: u32, vector: &[f32]) -> Result<()>;
    fn delete(&self, wtxn: &mut RwTxn<'_>, id: u32) -> Result<()>;
    fn build(&mut self, wtxn: &mut RwTxn<'_>) -> Result<()>;
}

struct Spinney(spinney::Writer);

impl Index for Spinney {
    fn put(&self, wtxn: &mut RwTxn<'_>, id: u32, vector: &[f32]) -> Result<()> {
        Ok(self.0.add_item(wtxn, id, vector)?)
    }

    fn delete(&self, wtxn: &mut RwTxn<'_>, id: u32) -> Result<()> {
        self.0.del_item(wtxn, id)?;
        Ok(())
    }

    fn build(&mut self, wtxn: &mut RwTxn<'_>) -> Result<()> {
        self.0.build(wtxn, &BuildOptions::default())?;
        Ok(())
    }
}

struct Arroy<D: arroy::Distance> {
    writer: arroy::Writer<D>,
    random: Xoshiro256PlusPlus,
    /// Unset, arroy chooses.
    trees: Option<usize>,
}

impl<D: arroy::Distance> Index for Arroy<D> {
    fn put(&self, wtxn: &mut RwTxn<'_>, id: u32, vector: &[f32]) -> Result<()> {
        Ok(self.writer.add_item(wtxn, id, vector)?)
    }

    fn delete(&self, wtxn: &mut RwTxn<'_>, id: u32) -> Result<()> {
        self.writer.del_item(wtxn, id)?;
        Ok(())
    }

    fn build(&mut self, wtxn: &mut RwTxn<'_>) -> Result<()> {
        let mut builder = self.writer.builder(&mut self.random);
        if let Some(trees) = self.trees {
            builder.n_trees(trees);
        }
        Ok(builder.build(wtxn)?)
    }
}

struct Hannoy<D: hannoy::Distance> {
    writer: hannoy::Writer<'static, D>,
    random: Xoshiro256PlusPlus,
}

impl<D: hannoy::Distance> Index for Hannoy<D> {
    fn put(&self, wtxn: &mut RwTxn<'_>, id: u32, vector: &[f32]) -> Result<()> {
        Ok(self.writer.add_item(wtxn, id, vector)?)
    }

    fn delete(&self, wtxn: &mut RwTxn<'_>, id: u32) -> Result<()> {
        self.writer.del_item(wtxn, id)?;
        Ok(())
    }

    fn build(&mut self, wtxn: &mut RwTxn<'_>) -> Result<()> {
        Ok(self.writer.builder(&mut self.random).build::<16, 32>(wtxn)?)
    }
}

/// One index in an environment of its own.
struct Store {
    name: String,
    env: Env<WithoutTls>,
    index: Box<dyn Index>,
    _folder: tempfile::TempDir,
}

/// What one transaction took.
struct Sample {
    call: Span,
    commit: f64,
    written: Option<u64>,
}

impl Store {
    fn new(name: &str, rows: &Rows, args: &Args) -> Result<Self> {
        let folder = args.data.temp.folder()?;
        let bytes = 8 * args.items as usize * (4 * rows.dims + 4096) + (1 << 30);
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(bytes.next_multiple_of(1 << 20)).max_dbs(1);
        // SAFETY: the folder is new and temporary, and this is the only place that opens it.
        let env = unsafe { options.open(folder.path())? };
        let index = open(name, rows, &env)?;
        Ok(Self { name: name.to_owned(), env, index, _folder: folder })
    }

    fn apply(&mut self, changes: &[Change]) -> Result<Sample> {
        let before = written_bytes();
        let mut wtxn = self.env.write_txn()?;
        let (built, call) = timed(|| {
            for change in changes {
                match change {
                    Change::Put(id, vector) => self.index.put(&mut wtxn, *id, vector)?,
                    Change::Delete(id) => self.index.delete(&mut wtxn, *id)?,
                }
            }
            self.index.build(&mut wtxn)
        });
        built?;
        let (committed, commit) = timed(|| wtxn.commit());
        committed?;
        let written =
            written_bytes().zip(before).map(|(after, before)| after.saturating_sub(before));
        Ok(Sample { call, commit: commit.wall, written })
    }
}

fn open(name: &str, rows: &Rows, env: &Env<WithoutTls>) -> Result<Box<dyn Index>> {
    let (dims, is_cosine) = (rows.dims, rows.metric == Metric::Cosine);
    Ok(match (name, is_cosine) {
        ("spinney", _) => {
            let db = spinney::Database::open_or_create(env)?;
            let mut wtxn = env.write_txn()?;
            let writer = spinney::Writer::open_or_create(
                &mut wtxn,
                db,
                0,
                &IndexOptions::new(dims, rows.metric),
            )?;
            wtxn.commit()?;
            Box::new(Spinney(writer))
        }
        ("arroy", true) => arroy_in::<arroy::distances::Cosine>(env, dims, None)?,
        ("arroy", false) => arroy_in::<arroy::distances::Euclidean>(env, dims, None)?,
        ("arroy-20", true) => arroy_in::<arroy::distances::Cosine>(env, dims, Some(20))?,
        ("arroy-20", false) => arroy_in::<arroy::distances::Euclidean>(env, dims, Some(20))?,
        ("hannoy", true) => hannoy_in::<hannoy::distances::Cosine>(env, dims)?,
        ("hannoy", false) => hannoy_in::<hannoy::distances::Euclidean>(env, dims)?,
        _ => return Err(format!("{name}: expected spinney, arroy, arroy-20 or hannoy").into()),
    })
}

fn arroy_in<D: arroy::Distance>(
    env: &Env<WithoutTls>,
    dims: usize,
    trees: Option<usize>,
) -> Result<Box<dyn Index>> {
    let writer = arroy::Writer::<D>::new(database(env)?, 0, dims);
    Ok(Box::new(Arroy { writer, random: Xoshiro256PlusPlus::seed_from_u64(0), trees }))
}

fn hannoy_in<D: hannoy::Distance>(env: &Env<WithoutTls>, dims: usize) -> Result<Box<dyn Index>> {
    let writer = hannoy::Writer::<D>::new(database(env)?, 0, dims);
    Ok(Box::new(Hannoy { writer, random: Xoshiro256PlusPlus::seed_from_u64(0) }))
}

/// What a change costs in spinney, arroy and hannoy
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    data: DataArgs,
    /// Size of the index
    #[arg(long, value_name = "N", value_parser = count::<u32>, default_value_t = 100_000)]
    items: u32,
    /// Stores to compare with the first of them
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    #[arg(default_value = "spinney,arroy,arroy-20,hannoy")]
    stores: Vec<String>,
}

fn main() -> ExitCode {
    bench_kit::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    for set in args.data.sets.iter().copied() {
        let rows = Rows::open(args.data.data.as_deref(), set)?;
        println!("{set}: {}, {} items", rows.origin(), args.items);
        measure(&args, &rows)?;
        println!();
    }
    Ok(())
}

/// The table of one set.
fn measure(args: &Args, rows: &Rows) -> Result<()> {
    let first: Vec<Change> = (0..args.items).map(|id| Change::Put(id, rows.row(id))).collect();
    let mut stores = Vec::new();
    for name in &args.stores {
        let mut store = Store::new(name, rows, args)?;
        let start = Instant::now();
        store.apply(&first)?;
        println!("{name}: first build in {:.1} s with the commit", start.elapsed().as_secs_f64());
        stores.push(store);
    }
    drop(first);
    println!(
        "{:>9} {:>6} {:>4} {:<8} {:>16} {:>10} {:>10} {:>11} {:>8} {:>8}",
        "each in",
        "count",
        "txns",
        "store",
        "calls + build ms",
        "cpu ms",
        "commit ms",
        "KiB written",
        "time",
        "bytes"
    );
    println!("{:>9} {:>81} {:>17}", "one txn", "(medians)", "x the first's");
    let mut live = Live::new(args.items);
    let mut verdicts = Vec::new();
    for kind in Kind::ALL {
        for (count, repeats) in BATCHES {
            let mut samples: Vec<Vec<Sample>> = stores.iter().map(|_| Vec::new()).collect();
            for turn in 0..repeats {
                let changes = live.changes(rows, kind, count, turn);
                for (store, samples) in stores.iter_mut().zip(&mut samples) {
                    samples.push(store.apply(&changes)?);
                }
            }
            let mut first = None;
            for (store, samples) in stores.iter().zip(&samples) {
                let of = |figure: &dyn Fn(&Sample) -> Option<f64>| {
                    median(samples.iter().filter_map(figure).collect())
                };
                let call = of(&|sample| Some(1e3 * sample.call.wall));
                let written = of(&|sample| sample.written.map(|bytes| bytes as f64 / 1024.0));
                let (first_call, first_written) = *first.get_or_insert((call, written));
                println!(
                    "{kind:>9} {count:>6} {repeats:>4} {:<8} {call:>16.2} {:>10.2} {:>10.2} {written:>11.0} {:>8.1} {:>8.1}",
                    store.name,
                    of(&|sample| sample.call.cpu.map(|seconds| 1e3 * seconds)),
                    of(&|sample| Some(1e3 * sample.commit)),
                    call / first_call,
                    written / first_written,
                );
                if kind == Kind::Insert && count == 1 {
                    verdicts.push((store.name.clone(), call / first_call, written / first_written));
                }
            }
        }
    }
    let (times, bytes) = EXPECTED;
    for (name, call, written) in verdicts.iter().skip(1) {
        let verdict = if *call > times && *written > bytes { "OK" } else { "MISSED" };
        println!(
            "one insert: {name} takes {call:.0} times the time of {} and writes {written:.0} times the bytes (more than \
             {times} and {bytes} expected): {verdict}",
            args.stores[0]
        );
    }
    Ok(())
}

/// Not a number if there are no figures.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    let upper = figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN);
    let lower = figures.get(figures.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN);
    (lower + upper) / 2.0
}
