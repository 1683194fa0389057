//! The options of the command line.

use bench_kit::args::{BenchArgs, DataArgs};
use bench_kit::clap::{self, Parser, ValueEnum};

/// What is measured.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub enum Section {
    Memory,
    Threads,
    Fresh,
    Growth,
    Targets,
}

/// Exact answers compare so many vectors in all, at most.
const MAX_COMPARED: usize = 500_000_000;

/// What a search costs, and whether it finds what it aims at
///
/// The index has 10000 items and then 100000, unless --items says otherwise.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo bench --bench search --")]
pub struct Args {
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    bench: BenchArgs,
    /// What is measured (all)
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    sections: Vec<Section>,
}

impl Args {
    /// The sizes of the index.
    pub fn items(&self) -> Vec<u32> {
        self.bench.items([10_000, 100_000])
    }

    pub fn sections(&self) -> &[Section] {
        if self.sections.is_empty() { Section::value_variants() } else { &self.sections }
    }

    /// How many queries are asked, at most.
    pub fn queries(&self, items: u32) -> usize {
        if self.bench.is_quick() { 60 } else { (MAX_COMPARED / items as usize).clamp(200, 1_000) }
    }

    /// How often everything is repeated.
    pub fn passes(&self) -> usize {
        if self.bench.is_quick() { 2 } else { 5 }
    }

    pub fn ks(&self) -> &[usize] {
        if self.bench.is_quick() { &[10] } else { &[1, 10, 100] }
    }

    pub fn targets(&self) -> &[f32] {
        if self.bench.is_quick() { &[0.9, 0.95] } else { &[0.8, 0.9, 0.95, 0.99] }
    }

    /// Bytes that are read in a row: many times as many as there is room for in the caches.
    pub fn bytes_in_a_row(&self) -> usize {
        if self.bench.is_quick() { 1 << 25 } else { 1 << 29 }
    }
}
