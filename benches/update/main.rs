//! What a change costs, and whether that depends on the size of the index.
//!
//! ```text
//! cargo bench --bench update -- [--data DIR] [--sets sift,minilm] [--items 100000,1000000] [--quick] [--temp DIR]
//! ```
//!
//! For each set and size, a store is built once in bulk. Then transactions of 1 to 10,000 changes
//! each follow, all on that store, so that its size stays about the same: first inserts, then as
//! many deletes, then overwrites, then all three mixed. Each cell of the table is the median and
//! the mean of a few transactions. In the end, the criteria that an incremental build has to meet
//! are printed with the figures.

#[cfg_attr(
    test,
    allow(
        dead_code,
        unused_imports,
        clippy::cast_possible_truncation,
        reason = "its unit tests run with the examples"
    )
)]
#[path = "../../examples/common/mod.rs"]
mod common;
#[allow(dead_code, reason = "every bench uses a part of it")]
#[path = "../shared/mod.rs"]
mod shared;

mod args;
mod changes;
mod meter;
mod report;
mod store;

use std::error::Error;
use std::fmt;
use std::time::Instant;

use crate::args::Args;
use crate::changes::{Kind, Live};
use crate::report::Cell;
use crate::shared::data::Rows;
use crate::shared::store::Store;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// An error for a person: `main` prints errors by `Debug`, which would quote and escape the
/// message.
struct Message(String);

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn main() -> std::result::Result<(), Message> {
    run().map_err(|error| Message(error.to_string()))
}

fn run() -> Result<()> {
    let Some(args) = args::parse(std::env::args().skip(1))? else {
        println!("{}", args::USAGE);
        return Ok(());
    };
    let mut cells = Vec::new();
    for set in &args.sets {
        let rows = Rows::open(args.data.as_deref(), set)?;
        println!("{set}: {}", rows.origin());
        for items in &args.items {
            measure(&args, set, &rows, *items, &mut cells)?;
        }
    }
    report::criteria(&cells);
    Ok(())
}

/// All cells of one set and size.
fn measure(args: &Args, set: &str, rows: &Rows, items: u32, cells: &mut Vec<Cell>) -> Result<()> {
    let folder = match &args.temp {
        Some(temp) => tempfile::tempdir_in(temp)?,
        None => tempfile::tempdir()?,
    };
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
                samples.push(store.apply(&live.changes(rows, kind, count, turn))?);
            }
            let cell = Cell::new((set, items), (kind, count), &samples);
            cell.print();
            cells.push(cell);
        }
    }
    println!();
    Ok(())
}
