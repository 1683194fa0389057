//! The options of the command line.

use std::path::PathBuf;

use crate::Result;

pub const USAGE: &str = "\
usage: cargo bench --bench search -- [OPTIONS]

  --data DIR      folder of the data sets: DIR/SET/train.* and DIR/SET/test.*, each .fbin, .u8bin, .i8bin or .npy
                  (the environment variable SPINNEY_DATA; sets that are not there are made up)
  --sets A,B      sift: 128 dimensions, Euclidean; minilm: 384 dimensions, cosine (both)
  --items N,M     sizes of the index (10000,100000); rows beyond those of the files are perturbed copies
  --sections A,B  of targets, memory, threads, fresh, growth (all)
  --quick         few queries and passes, and a small part of the targets
  --temp DIR      where the store is made, and deleted in the end (the system's folder for temporary files)
  --help          this text";

/// What is measured.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Section {
    Targets,
    Memory,
    Threads,
    Fresh,
    Growth,
}

const SECTIONS: [(&str, Section); 5] = [
    ("memory", Section::Memory),
    ("threads", Section::Threads),
    ("fresh", Section::Fresh),
    ("growth", Section::Growth),
    ("targets", Section::Targets),
];

/// Exact answers compare so many vectors in all, at most.
const MOST_COMPARED: usize = 500_000_000;

pub struct Args {
    pub data: Option<PathBuf>,
    pub sets: Vec<String>,
    pub items: Vec<u32>,
    pub sections: Vec<Section>,
    pub temp: Option<PathBuf>,
    is_quick: bool,
}

impl Args {
    /// How many queries are asked, at most.
    pub fn queries(&self, items: u32) -> usize {
        if self.is_quick { 60 } else { (MOST_COMPARED / items as usize).clamp(200, 1_000) }
    }

    /// How often everything is repeated.
    pub fn passes(&self) -> usize {
        if self.is_quick { 2 } else { 5 }
    }

    pub fn ks(&self) -> &[usize] {
        if self.is_quick { &[10] } else { &[1, 10, 100] }
    }

    pub fn targets(&self) -> &[f32] {
        if self.is_quick { &[0.9, 0.95] } else { &[0.8, 0.9, 0.95, 0.99] }
    }

    /// Bytes that are read in a row: many times as many as there is room for in the caches.
    pub fn bytes_in_a_row(&self) -> usize {
        if self.is_quick { 1 << 25 } else { 1 << 29 }
    }
}

/// The options, or `None` if it is the usage that is asked for.
pub fn parse(words: impl Iterator<Item = String>) -> Result<Option<Args>> {
    let mut args = Args {
        data: std::env::var_os("SPINNEY_DATA").map(PathBuf::from),
        sets: vec!["sift".to_owned(), "minilm".to_owned()],
        items: Vec::new(),
        sections: SECTIONS.map(|(_, section)| section).to_vec(),
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
            "--sections" => {
                args.sections = value()?.split(',').map(section).collect::<Result<_>>()?
            }
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
        args.items = if is_bench { vec![10_000, 100_000] } else { vec![5_000] };
        args.is_quick |= !is_bench;
    }
    Ok(Some(args))
}

fn section(name: &str) -> Result<Section> {
    let found = SECTIONS.iter().find(|(known, _)| *known == name);
    found
        .map(|(_, section)| *section)
        .ok_or_else(|| format!("{name}: no such section\n\n{USAGE}").into())
}
