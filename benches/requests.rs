//! What a search takes in a server that begins anew with each request.
//!
//! ```text
//! cargo bench --bench requests -- [--data DIR] [--sets minilm] [--items 100000] [--temp DIR]
//! ```
//!
//! One thread, one query after the other, the same queries in each row, in turns. Each row is the
//! median over the turns of the mean time of a search.

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
