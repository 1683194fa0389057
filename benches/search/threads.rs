//! Queries per second of batches by one thread and by two.

use std::time::Instant;

use bench_kit::Result;
use bench_kit::store::{INDEX, Store};
use spinney::{Hits, Reader, Snapshot};

use crate::args::Args;
use crate::measure::{Queries, median, usual};

/// Two threads have to do so many times the work of one.
const LEAST: f64 = 1.8;
/// Queries of a batch, at least; those that there are come again and again.
const BATCH: usize = 4_000;

pub fn measure(args: &Args, store: &Store, queries: &Queries) -> Result<()> {
    let repeats = if queries.len() < 200 { 1 } else { BATCH.div_ceil(queries.len()) };
    let batch = queries.values.repeat(repeats);
    let count = (repeats * queries.len()) as f64;
    let pools = [1, 2].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build());
    let [one, two] = pools;
    let (one, two) = (one?, two?);
    let mut snapshots =
        [&one, &two].map(|pool| Snapshot::open_in(&store.env, store.db, INDEX, pool));
    let rtxn = store.env.read_txn()?;
    let reader = Reader::open(&rtxn, store.db, INDEX)?;
    let mut rates = [const { Vec::new() }; 3];
    // Once more than is counted, so that all is warm.
    for pass in 0..=args.passes() {
        let mut time =
            |slot: usize, work: &mut dyn FnMut() -> spinney::Result<Vec<Hits>>| -> Result<()> {
                let start = Instant::now();
                std::hint::black_box(work()?);
                if pass > 0 {
                    rates[slot].push(count / start.elapsed().as_secs_f64());
                }
                Ok(())
            };
        for (slot, snapshot) in snapshots.iter_mut().enumerate() {
            let snapshot = snapshot.as_mut().map_err(|error| error.to_string())?;
            time(slot, &mut || snapshot.nns(10).by_vectors(&batch))?;
        }
        time(2, &mut || usual(&reader).by_vectors(&batch))?;
    }
    let [one, two, lone] = rates.map(|mut rates| median(&mut rates));
    println!(
        "threads, k = 10, batches of {count}: {one:.0} queries per second by one, {two:.0} by two, {:.2} times as many, at \
         least {LEAST} wanted; {lone:.0} by a reader that lives",
        two / one
    );
    Ok(())
}
