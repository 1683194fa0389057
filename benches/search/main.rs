//! What a search costs, and whether it finds what it aims at.
//!
//! ```text
//! cargo bench --bench search -- [--data DIR] [--sets sift,minilm] [--items 10000,100000]
//!                               [--sections targets,memory] [--quick] [--temp DIR]
//! ```
//!
//! For each set and size, a store is built once in bulk, in the page cache; queries are rows of
//! another source. Sections:
//!
//! - `targets`: for each k and recall target, the recall achieved and what it took. Of rows of the
//!   items' own source, if the set has more than the items (`--items 99000`). Of queries. And of
//!   each half of these after the index was calibrated with the other half. One half may be harder
//!   than the other: the means of both are given, and how far each is off.
//! - `memory`: the time of a query beside that of reading as many bytes in a row from memory.
//! - `threads`: queries per second of one thread and of two.
//! - `fresh`: the first searches of a new reader beside those of one that lives.
//! - `growth`: from size to size, the time of a search that finds .95 of the ten nearest,
//!   calibrated with other queries.
//!
//! Times are medians of several passes, but of one for `targets`. Each pass has a reader that has
//! answered many searches for other vectors. `threads` asks the same batch again and again. All use
//! one thread unless it says otherwise. Only ratios within one run mean much.

mod args;
mod fresh;
mod growth;
mod measure;
mod memory;
mod targets;
mod threads;

use std::process::ExitCode;
use std::time::Instant;

use bench_kit::Result;
use bench_kit::clap::Parser;
use bench_kit::rows::Rows;
use bench_kit::sets::SetName;
use bench_kit::store::{INDEX, Store};
use spinney::Reader;

use crate::args::{Args, Section};
use crate::growth::Growth;
use crate::measure::Queries;
fn main() -> ExitCode {
    bench_kit::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    let mut grown = Vec::new();
    for set in args.data.sets.iter().copied() {
        let (rows, held_out) = Rows::open_for_queries(args.data.data.as_deref(), set)?;
        println!("{set}: {}", rows.origin());
        for items in args.items() {
            grown.extend(measure(&args, set, &rows, &held_out, items)?);
        }
    }
    growth::factors(&grown);
    Ok(())
}

/// All sections of one set and size.
fn measure(
    args: &Args,
    set: SetName,
    rows: &Rows,
    held_out: &[f32],
    items: u32,
) -> Result<Option<Growth>> {
    let folder = args.data.temp.folder()?;
    let start = Instant::now();
    let store = Store::fill(folder.path(), rows, items)?;
    println!(
        "\n== {set}, {items} items: {}, in {:.1} s",
        store.shape()?,
        start.elapsed().as_secs_f64()
    );
    let queries = Queries::new(&store, held_out, args.queries(items))?;
    {
        let rtxn = store.env.read_txn()?;
        let reader = Reader::open(&rtxn, store.db, INDEX)?;
        for section in args.sections() {
            match section {
                Section::Memory => memory::measure(args, &store, &queries)?,
                Section::Threads => threads::measure(args, &store, &queries)?,
                Section::Fresh => fresh::measure(args, &store, &reader, &queries)?,
                Section::Growth | Section::Targets => {}
            }
        }
    }
    // Last, since they leave the index calibrated otherwise.
    if args.sections().contains(&Section::Targets) {
        let beyond = items
            ..u32::try_from(rows.len())?.min(items.saturating_add(u32::try_from(queries.len())?));
        let alike: Vec<f32> = beyond.flat_map(|id| rows.row(id)).collect();
        let alike = if alike.is_empty() {
            None
        } else {
            Some(Queries::new(&store, &alike, queries.len())?)
        };
        targets::measure(args, &store, alike.as_ref(), &queries)?;
    }
    let has_growth = args.sections().contains(&Section::Growth);
    has_growth.then(|| growth::measure(args, set.name(), items, &store, &queries)).transpose()
}
