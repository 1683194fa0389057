//! The first searches of a new reader, in a process in which others have searched before.

use std::time::Instant;

use bench_kit::Result;
use bench_kit::store::{INDEX, Store};
use spinney::Reader;

use crate::args::Args;
use crate::measure::{Queries, median, usual};

/// Searches of each new reader.
const SEARCHES: usize = 10;

pub fn measure(args: &Args, store: &Store, living: &Reader<'_>, queries: &Queries) -> Result<()> {
    let rows: Vec<&[f32]> = queries.rows().collect();
    let mut opening = Vec::new();
    let mut searching = vec![Vec::new(); SEARCHES];
    let mut of_living = Vec::new();
    let us = |start: Instant| start.elapsed().as_secs_f64() * 1e6;
    for _ in 0..args.passes() {
        for (i, row) in rows.iter().enumerate() {
            let start = Instant::now();
            let rtxn = store.env.read_txn()?;
            let reader = Reader::open(&rtxn, store.db, INDEX)?;
            opening.push(us(start));
            for (number, times) in searching.iter_mut().enumerate() {
                let start = Instant::now();
                std::hint::black_box(usual(&reader).by_vector(rows[(i + number) % rows.len()])?);
                times.push(us(start));
            }
            let start = Instant::now();
            std::hint::black_box(usual(living).by_vector(row)?);
            of_living.push(us(start));
        }
    }
    // What a reader remembers moves to a larger place now and then, so that the times do not just
    // fall.
    let medians: Vec<String> =
        searching.iter_mut().map(|times| format!("{:.1}", median(times))).collect();
    println!(
        "a new reader, k = 10: opened in {:.1} us, its first {SEARCHES} searches take {} us; one that lives takes {:.1} us",
        median(&mut opening),
        medians.join(", "),
        median(&mut of_living)
    );
    Ok(())
}
