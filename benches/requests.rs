//! What a search takes in a server that begins anew with each request.
//!
//! ```text
//! cargo bench --bench requests -- [--data DIR] [--sets minilm] [--items 100000] [--temp DIR]
//! ```
//!
//! One thread, one query after the other, the same queries in each row, in turns. Each row is the
//! median over the turns of the mean time of a search. Then the same for one reader beside items
//! that wait for a build, and what that build takes.

use std::process::ExitCode;
use std::time::Instant;

use bench_kit::Result;
use bench_kit::args::{BenchArgs, DataArgs};
use bench_kit::clap::{self, Parser};
use bench_kit::rows::Rows;
use bench_kit::sets::SetName;
use spinney::{BuildOptions, Index, IndexOptions, Reads, Store};

const K: usize = 10;
const TURNS: usize = 7;
/// Rows that are added at once.
const BLOCK: u32 = 10_000;

/// A search per request, by several kinds of handle.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    bench: BenchArgs,
}

fn main() -> ExitCode {
    bench_kit::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    for set in args.data.sets.iter().copied() {
        for items in args.bench.items([100_000, 100_000]).into_iter().take(1) {
            measure(&args, set, items)?;
        }
    }
    Ok(())
}

fn measure(args: &Args, set: SetName, items: u32) -> Result<()> {
    let (rows, held_out) = Rows::open_for_queries(args.data.data.as_deref(), set)?;
    println!("{set}: {}; {items} items", rows.origin());
    let folder = args.data.temp.folder()?;
    let store = Store::open(folder.path())?;
    let index = fill(&store, &rows, items)?;
    let queries: Vec<&[f32]> = held_out.chunks_exact(set.dims()).take(2_000).collect();
    let queries = if args.bench.is_quick() { &queries[..queries.len().min(50)] } else { &queries };

    let names = [
        "one reader for all",
        "Store::with_reader for each",
        "Store::snapshot for each",
        "Store::read and a reader for each",
    ];
    let mut times = vec![Vec::new(); names.len()];
    for _ in 0..TURNS {
        for (kind, times) in times.iter_mut().enumerate() {
            let start = Instant::now();
            search(&store, &index, queries, kind)?;
            times.push(start.elapsed().as_secs_f64() * 1e6 / queries.len() as f64);
        }
    }
    for times in &mut times {
        times.sort_by(f64::total_cmp);
    }
    let middle: Vec<f64> = times.iter().map(|times| times[TURNS / 2]).collect();
    for (name, time) in names.iter().zip(&middle) {
        println!("  {name:<36}{time:>8.1} us{:>7.2} x", time / middle[0]);
    }
    pending(&store, &index, &rows, items, queries)
}

/// How much longer searches take while items are pending, and what the build of these takes.
fn pending(
    store: &Store,
    index: &Index,
    rows: &Rows,
    items: u32,
    queries: &[&[f32]],
) -> Result<()> {
    store.set_build_after(index.name(), None)?;
    let mut before = 0.0;
    for count in [0, 100, 1_000, 10_000] {
        let ids: Vec<u32> = (items..items + count).collect();
        let vectors: Vec<f32> = ids.iter().flat_map(|id| rows.row(*id)).collect();
        store.write(|txn| index.add_items(txn, &ids, &vectors))?;
        let mut times = Vec::new();
        for _ in 0..3 {
            let start = Instant::now();
            search(store, index, queries, 0)?;
            times.push(start.elapsed().as_secs_f64() * 1e6 / queries.len() as f64);
        }
        times.sort_by(f64::total_cmp);
        before = if count == 0 { times[1] } else { before };
        let start = Instant::now();
        store.write(|txn| index.build(txn, &BuildOptions::default()))?;
        let build = start.elapsed().as_secs_f64() * 1e3;
        let ratio = times[1] / before;
        println!("  {count:>6} pending{:>30.1} us{ratio:>7.2} x, build {build:.0} ms", times[1]);
    }
    Ok(())
}

fn fill(store: &Store, rows: &Rows, items: u32) -> Result<Index> {
    let index = store.index("items", &IndexOptions::new(rows.dims, rows.metric))?;
    store.write(|txn| {
        for first in (0..items).step_by(BLOCK as usize) {
            let ids: Vec<u32> = (first..items.min(first + BLOCK)).collect();
            let vectors: Vec<f32> = ids.iter().flat_map(|id| rows.row(*id)).collect();
            index.add_items(txn, &ids, &vectors)?;
        }
        index.build(txn, &BuildOptions::default())
    })?;
    Ok(index)
}

fn search(store: &Store, index: &Index, queries: &[&[f32]], kind: usize) -> Result<()> {
    if kind == 0 {
        return Ok(store.with_reader(index, |reader| {
            queries.iter().try_for_each(|query| reader.nns(K).by_vector(query).map(drop))
        })?);
    }
    for query in queries {
        match kind {
            1 => drop(store.with_reader(index, |reader| reader.nns(K).by_vector(query))?),
            2 => {
                let snapshot = store.snapshot()?;
                drop(snapshot.with_reader(index, |reader| reader.nns(K).by_vector(query))?);
            }
            _ => drop(store.read(|txn| txn.reader(index)?.nns(K).by_vector(query))?),
        }
    }
    Ok(())
}
