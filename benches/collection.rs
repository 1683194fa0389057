//! What a collection costs beside the bare index of its vectors.
//!
//! ```text
//! cargo bench --bench collection -- [--data DIR] [--sets sift,minilm] [--items 100000,1000000]
//!                                   [--quick] [--temp DIR]
//! ```
//!
//! Two stores hold the same vectors: one as an index, one as documents with keys in no order, three
//! labels and a payload. Then changes of one item and of one document take turns, each built and
//! committed: new ones with two labels, and ones that are overwritten and keep their three. Then
//! searches take turns: in the index with a bitmap, and in the collection with the label that means
//! the same.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use bench_kit::Result;
use bench_kit::args::{BenchArgs, DataArgs};
use bench_kit::clap::{self, Parser};
use bench_kit::meter::{timed, written_bytes};
use bench_kit::rows::Rows;
use bench_kit::sets::SetName;
use spinney::roaring::RoaringBitmap;
use spinney::{
    BuildOptions, Collection, Document, DocumentKey, Error, Index, IndexOptions, Reads, Store,
    StoreSnapshot,
};

/// Documents that are put by one call.
const BLOCK: u32 = 10_000;
const K: usize = 10;

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    bench: BenchArgs,
}

/// The same vectors, twice.
struct Pair {
    index_store: Store,
    index: Index,
    store: Store,
    docs: Collection,
}

fn main() -> ExitCode {
    bench_kit::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    for set in args.data.sets.iter().copied() {
        let (rows, queries) = Rows::open_for_queries(args.data.data.as_deref(), set)?;
        println!("{set}: {}", rows.origin());
        for items in args.bench.items([100_000, 1_000_000]) {
            let folder = args.data.temp.folder()?;
            let pair = Pair::fill(folder.path(), set, &rows, items)?;
            let repeats = if args.bench.is_quick() { 5 } else { 101 };
            puts(&pair, &rows, items, repeats)?;
            searches(&pair, &queries, set.dims(), items, args.bench.is_quick())?;
        }
    }
    Ok(())
}

fn key(i: u32) -> DocumentKey {
    DocumentKey::from(format!("{:016x}", u64::from(i).wrapping_mul(0x9E37_79B9_7F4A_7C15)))
}

fn document(row: Vec<f32>, i: u32) -> Document {
    let labels = [format!("of 10:{}", i % 10), format!("of 100:{}", i % 100)];
    Document::new(row).payload([7; 100]).labels(labels)
}

impl Pair {
    fn fill(folder: &Path, set: SetName, rows: &Rows, items: u32) -> Result<Self> {
        let options = IndexOptions::new(set.dims(), set.metric());
        let index_store = Store::open(folder.join("index"))?;
        let index = index_store.index("bare", &options)?;
        let store = Store::open(folder.join("collection"))?;
        let docs = store.collection("docs", &options)?;
        index_store.set_build_after("bare", None)?;
        store.set_build_after("docs", None)?;
        let start = Instant::now();
        // One transaction each: free pages that many leave behind would be counted, too.
        let block = |first: u32| {
            let ids: Vec<u32> = (first..items.min(first + BLOCK)).collect();
            let all: Vec<Vec<f32>> = ids.iter().map(|id| rows.row(*id)).collect();
            (ids, all)
        };
        index_store.write(|txn| {
            for (ids, all) in (0..items).step_by(BLOCK as usize).map(block) {
                index.add_items(txn, &ids, &all.concat())?;
            }
            index.build(txn, &BuildOptions::default())
        })?;
        store.write(|txn| {
            for (ids, all) in (0..items).step_by(BLOCK as usize).map(block) {
                let document = |(id, row): (u32, Vec<f32>)| {
                    let half = format!("of 2:{}", id % 2);
                    (key(id), document(row, id).labels([half]))
                };
                docs.put_many(txn, ids.into_iter().zip(all).map(document))?;
            }
            docs.build(txn, &BuildOptions::default())
        })?;
        println!("{items} items, filled and built in {:.1} s", start.elapsed().as_secs_f64());
        Ok(Self { index_store, index, store, docs })
    }
}

/// What one transaction took: milliseconds of the clock, of the processor, and pages handed to
/// write calls.
type Sample = [f64; 3];

fn sample(work: impl FnOnce() -> spinney::Result<()>) -> Result<Sample> {
    let before = written_bytes();
    let (done, span) = timed(work);
    done?;
    let written = written_bytes()
        .zip(before)
        .map_or(f64::NAN, |(after, before)| after.saturating_sub(before) as f64 / 4096.0);
    Ok([span.wall * 1e3, span.cpu.unwrap_or(f64::NAN) * 1e3, written])
}

fn puts(pair: &Pair, rows: &Rows, items: u32, repeats: u32) -> Result<()> {
    let Pair { index_store, index, store, docs } = pair;
    println!(
        "one change, built and committed   |    ms |  cpu ms |  pages   (medians of {repeats})"
    );
    for (kind, stride) in [("new", 0), ("overwritten", 9973)] {
        let (mut bare, mut collection) = (Vec::new(), Vec::new());
        for turn in 0..repeats {
            let id = if stride == 0 { items + turn } else { turn * stride % items };
            let row = rows.row(items + 7 * turn + stride);
            bare.push(sample(|| {
                index_store.write(|txn| {
                    index.add_item(txn, id, &row)?;
                    index.build(txn, &BuildOptions::default()).map(|_| ())
                })
            })?);
            let document = if stride == 0 {
                document(row, id)
            } else {
                document(row, id).labels([format!("of 2:{}", id % 2)])
            };
            collection.push(sample(|| {
                store.write(|txn| {
                    docs.put(txn, key(id), &document)?;
                    docs.build(txn, &BuildOptions::default()).map(|_| ())
                })
            })?);
        }
        let (bare, collection) = (medians(&bare), medians(&collection));
        line(&format!("{kind}: index"), bare);
        line(&format!("{kind}: collection"), collection);
        line("  times as much", std::array::from_fn(|i| collection[i] / bare[i]));
    }
    Ok(())
}

fn line(name: &str, [wall, cpu, pages]: Sample) {
    println!("{name:<33} | {wall:5.2} | {cpu:7.2} | {pages:6.2}");
}

fn medians(samples: &[Sample]) -> Sample {
    std::array::from_fn(|i| median(samples.iter().map(|sample| sample[i]).collect()))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn searches(pair: &Pair, queries: &[f32], dims: usize, items: u32, is_quick: bool) -> Result<()> {
    let (bare, snapshot) = (pair.index_store.snapshot()?, pair.store.snapshot()?);
    let queries: Vec<&[f32]> =
        queries.chunks_exact(dims).take(if is_quick { 20 } else { 500 }).collect();
    println!("a search, us, medians of {} queries, k = {K}:", queries.len());
    println!("label     | index, bitmap | collection, bitmap | collection, label | ratios");
    for part in [100, 10, 2] {
        let allowed: RoaringBitmap = (0..items).filter(|id| id % part == 1).collect();
        let label = format!("of {part}:1");
        let mut times = [(); 3].map(|()| Vec::new());
        // The first pass meets what later ones remember. Each pass asks all queries in one way, so
        // that none finds in the processor's caches what another way has just read.
        for pass in 0..6 {
            for (way, times) in times.iter_mut().enumerate() {
                for query in &queries {
                    let time = search(pair, [&bare, &snapshot], &allowed, &label, query, way)?;
                    if pass > 0 {
                        times.push(time);
                    }
                }
            }
        }
        let [a, b, c] = times.map(median);
        println!(
            "{:<9} | {a:13.1} | {b:18.1} | {c:17.1} | {:.2} {:.2}",
            format!("{} %", 100 / part),
            c / a,
            c / b
        );
    }
    Ok(())
}

/// The same search in one of three ways, in microseconds.
fn search(
    pair: &Pair,
    [bare, snapshot]: [&StoreSnapshot; 2],
    allowed: &RoaringBitmap,
    label: &str,
    query: &[f32],
    way: usize,
) -> Result<f64> {
    let search = || pair.docs.search(snapshot, K);
    let (found, time) = timed_us(|| match way {
        0 => Reads::with_reader(bare, &pair.index, |reader| {
            Ok::<_, Error>(reader.nns(K).filter(allowed).by_vector(query)?.len())
        }),
        1 => Ok(search().filter(allowed).by_vector(query)?.len()),
        _ => Ok(search().labelled(label).by_vector(query)?.len()),
    });
    assert_eq!(found?, K);
    Ok(time)
}

fn timed_us<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed().as_secs_f64() * 1e6)
}
