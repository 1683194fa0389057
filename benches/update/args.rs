//! The options of the command line.

use bench_kit::args::{BenchArgs, DataArgs};
use bench_kit::clap::{self, Parser};

/// Changes in one transaction, and how many transactions are measured.
const BATCHES: [(usize, usize); 5] = [(1, 500), (10, 100), (100, 10), (1_000, 3), (10_000, 2)];
const QUICK_BATCHES: [(usize, usize); 4] = [(1, 10), (10, 5), (100, 2), (1_000, 1)];
/// A batch of more than this part of the items is left out: it would be built in bulk.
const LARGEST_PART: usize = 10;

/// What a change costs, and whether that depends on the size of the index
///
/// The index has 100000 items and then 1000000, unless --items says otherwise.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo bench --bench update --")]
pub struct Args {
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    bench: BenchArgs,
}

impl Args {
    /// The sizes of the index.
    pub fn items(&self) -> Vec<u32> {
        self.bench.items([100_000, 1_000_000])
    }

    pub fn batches(&self, items: u32) -> impl Iterator<Item = (usize, usize)> {
        let batches = if self.bench.is_quick() { &QUICK_BATCHES[..] } else { &BATCHES[..] };
        batches.iter().copied().filter(move |(count, _)| count * LARGEST_PART <= items as usize)
    }
}
