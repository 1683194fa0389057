//! How the time of a search of fixed recall grows with the index.

use bench_kit::Result;
use bench_kit::store::{INDEX, Store};
use spinney::Reader;

use crate::args::Args;
use crate::measure::{Measured, Queries, Setting, measure as measure_one, recall};
use crate::targets::calibrate_with_half;

const K: usize = 10;
const RECALL: f64 = 0.95;
/// From a size to the next, ten times as large, the time may grow by this.
const MAX_RATIO: f64 = 1.8;
/// Halvings of the range of recalls to aim at.
const STEPS: usize = 12;

/// What it takes at one size.
pub struct Growth {
    set: String,
    items: u32,
    found: Measured,
}

/// Calibrates with half of the queries. Then it looks for the least target with which .95 of the
/// ten nearest are found for the others.
pub fn measure(
    args: &Args,
    set: &str,
    items: u32,
    store: &Store,
    queries: &Queries,
) -> Result<Growth> {
    let (queries, _) = calibrate_with_half(store, queries, 0)?;
    let rtxn = store.env.read_txn()?;
    let (reader, queries) = (&Reader::open(&rtxn, store.db, INDEX)?, &queries);
    // What is missed, as a power of ten: evenly spread over efforts.
    #[expect(clippy::cast_possible_truncation, reason = "a target need not be exact")]
    let target = |missed: f64| (1.0 - 10f64.powf(-missed)) as f32;
    let (mut low, mut high) = (0.3, 3.5);
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        let found = recall(reader, queries, Setting { k: K, recall: target(middle) })?;
        (low, high) = if found < RECALL { (middle, high) } else { (low, middle) };
    }
    let found = measure_one(store, queries, Setting { k: K, recall: target(high) }, args.passes())?;
    println!(
        "growth, k = 10: {:.1} us and {:.0} sketches for a recall of {:.4}, by aiming at {:.4}",
        found.mean_us,
        found.sketches,
        found.recall,
        target(high)
    );
    Ok(Growth { set: set.to_owned(), items, found })
}

/// From each size to the next of the same set.
pub fn factors(sizes: &[Growth]) {
    for pair in sizes.windows(2).filter(|pair| pair[0].set == pair[1].set) {
        let [from, to] = pair else { continue };
        println!(
            "{}: from {} to {} items {:.1} to {:.1} us, {:.2} times, at most {MAX_RATIO} wanted for ten times the items; sketches \
             {:.2} times",
            to.set,
            from.items,
            to.items,
            from.found.mean_us,
            to.found.mean_us,
            to.found.mean_us / from.found.mean_us,
            to.found.sketches / from.found.sketches
        );
    }
}
