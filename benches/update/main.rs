//! What a change costs, and whether that depends on the size of the index.
//!
//! ```text
//! cargo bench --bench update -- [--data DIR] [--sets sift,minilm] [--items 100000,1000000]
//!                               [--quick] [--temp DIR]
//! ```
//!
//! For each set and size, a store is built once in bulk. Then transactions of 1 to 10,000 changes
//! each follow, all on that store, so that its size stays about the same: first inserts, then as
//! many deletes, then overwrites, then all three mixed. Each cell of the table is the median and
//! the mean of a few transactions. In the end, the criteria that an incremental build has to meet
//! are printed with the figures.

mod args;
mod report;
mod store;

use std::process::ExitCode;
use std::time::Instant;

use bench_kit::Result;
use bench_kit::changes::{Kind, Live};
use bench_kit::clap::Parser;
use bench_kit::rows::Rows;
use bench_kit::sets::SetName;
use bench_kit::store::Store;

use crate::args::Args;
use crate::report::Cell;

fn main() -> ExitCode {
    bench_kit::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    let mut cells = Vec::new();
    for set in args.data.sets.iter().copied() {
        let rows = Rows::open(args.data.data.as_deref(), set)?;
        println!("{set}: {}", rows.origin());
        for items in args.items() {
            measure(&args, set, &rows, items, &mut cells)?;
        }
    }
    report::criteria(&cells);
    Ok(())
}

/// All cells of one set and size.
fn measure(
    args: &Args,
    set: SetName,
    rows: &Rows,
    items: u32,
    cells: &mut Vec<Cell>,
) -> Result<()> {
    let folder = args.data.temp.folder()?;
    let start = Instant::now();
    let store = Store::fill(folder.path(), rows, items)?;
    println!(
        "{items} items: {}, in {:.1} s with the commit",
        store.shape()?,
        start.elapsed().as_secs_f64()
    );
    let mut live = Live::new(items);
    report::head();
    for kind in Kind::ALL {
        for (count, repeats) in args.batches(items) {
            let mut samples = Vec::with_capacity(repeats);
            for turn in 0..repeats {
                samples.push(store::apply(&store, &live.changes(rows, kind, count, turn))?);
            }
            let cell = Cell::new(set.name(), items, kind, count, &samples);
            cell.print();
            cells.push(cell);
        }
    }
    println!();
    Ok(())
}
