//! The time of a search beside that of reading as many bytes in a row.

use std::hint::black_box;
use std::time::Instant;

use bench_kit::Result;
use bench_kit::store::Store;

use crate::args::Args;
use crate::measure::{Queries, Setting, measure as measure_one, median};

/// A search may take this many times as long.
const MOST: f64 = 2.0;
/// Words that are added up side by side: enough for any vector unit, and for several additions at a
/// time.
const LANES: usize = 32;

pub fn measure(args: &Args, store: &Store, queries: &Queries) -> Result<()> {
    let words = vec![1u64; args.bytes_in_a_row() / 8];
    let mut rates = Vec::new();
    let mut times = Vec::new();
    let mut bytes = 0.0;
    for _ in 0..args.passes() {
        // In turns, so that both see about the same machine.
        rates.push(bytes_per_second(&words));
        let found = measure_one(store, queries, Setting { k: 10, recall: 0.95 }, 1)?;
        times.push(found.mean_us);
        bytes = found.bytes;
    }
    let (rate, time) = (median(&mut rates), median(&mut times));
    let in_a_row = bytes / rate * 1e6;
    println!(
        "memory, k = 10 at .95: {time:.1} us for {:.1} KiB; {in_a_row:.1} us to read as many in a row at {:.1} GB/s; {:.2} \
         times as long, at most {MOST} wanted",
        bytes / 1024.0,
        rate / 1e9,
        time / in_a_row
    );
    Ok(())
}

fn bytes_per_second(words: &[u64]) -> f64 {
    let start = Instant::now();
    let mut sums = [0u64; LANES];
    let (chunks, _) = black_box(words).as_chunks::<LANES>();
    for chunk in chunks {
        for (sum, word) in sums.iter_mut().zip(chunk) {
            *sum = sum.wrapping_add(*word);
        }
    }
    black_box(sums);
    (8 * words.len()) as f64 / start.elapsed().as_secs_f64()
}
