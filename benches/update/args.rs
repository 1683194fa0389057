//! The options of the command line.

use std::path::PathBuf;

use crate::Result;

pub const USAGE: &str = "\
usage: cargo bench --bench update -- [OPTIONS]

  --data DIR      folder of the data sets: DIR/SET/train.* and DIR/SET/test.*, each .fbin, .u8bin, .i8bin or .npy
                  (the environment variable SPINNEY_DATA; sets that are not there are made up)
  --sets A,B      sift: 128 dimensions, Euclidean; minilm: 384 dimensions, cosine (both)
  --items N,M     sizes of the index (100000,1000000); rows beyond those of the files are perturbed copies
  --quick         few repeats, and no more than 1,000 changes in a transaction
  --temp DIR      where the store is made, and deleted in the end (the system's folder for temporary files)
  --help          this text";

/// Changes in one transaction, and how many transactions are measured.
const BATCHES: [(usize, usize); 5] = [(1, 500), (10, 100), (100, 10), (1_000, 3), (10_000, 2)];
const QUICK_BATCHES: [(usize, usize); 4] = [(1, 10), (10, 5), (100, 2), (1_000, 1)];
/// A batch of more than this part of the items is left out: it would be built in bulk.
const LARGEST_PART: usize = 10;

pub struct Args {
    pub data: Option<PathBuf>,
    pub sets: Vec<String>,
    pub items: Vec<u32>,
    pub temp: Option<PathBuf>,
    is_quick: bool,
}

impl Args {
    pub fn batches(&self, items: u32) -> impl Iterator<Item = (usize, usize)> {
        let batches = if self.is_quick { &QUICK_BATCHES[..] } else { &BATCHES[..] };
        batches.iter().copied().filter(move |(count, _)| count * LARGEST_PART <= items as usize)
    }
}

/// The options, or `None` if it is the usage that is asked for.
pub fn parse(words: impl Iterator<Item = String>) -> Result<Option<Args>> {
    let mut args = Args {
        data: std::env::var_os("SPINNEY_DATA").map(PathBuf::from),
        sets: vec!["sift".to_owned(), "minilm".to_owned()],
        items: Vec::new(),
        temp: None,
        is_quick: false,
    };
    // Cargo says `--bench` when it measures; when it only tests that benchmarks run, a small one is
    // enough.
    let mut is_bench = false;
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        let mut value =
            || words.next().ok_or_else(|| format!("{word}: expected a value\n\n{USAGE}"));
        match word.as_str() {
            "--bench" => is_bench = true,
            "--help" => return Ok(None),
            "--quick" => args.is_quick = true,
            "--data" => args.data = Some(PathBuf::from(value()?)),
            "--temp" => args.temp = Some(PathBuf::from(value()?)),
            "--sets" => args.sets = value()?.split(',').map(str::to_owned).collect(),
            "--items" => {
                let sizes = value()?;
                let sizes = sizes.split(',').map(|size| size.replace('_', "").parse());
                args.items = sizes
                    .collect::<std::result::Result<_, _>>()
                    .map_err(|error| format!("--items: {error}"))?;
            }
            _ => return Err(format!("{word}: no such option\n\n{USAGE}").into()),
        }
    }
    if args.items.is_empty() {
        args.items = if is_bench { vec![100_000, 1_000_000] } else { vec![5_000] };
        args.is_quick |= !is_bench;
    }
    Ok(Some(args))
}
