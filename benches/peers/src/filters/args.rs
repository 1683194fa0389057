//! The options of the command line.

use std::path::PathBuf;

use crate::Result;
use crate::options::count;

pub const USAGE: &str = "\
usage: filters --data DIR --set sift|minilm [OPTIONS]

  --data DIR          the folder of the sets (the environment's SPINNEY_DATA)
  --set NAME          sift (Euclidean) or minilm (cosine)
  --items N           the first N train rows only (100000)
  --queries N         the first N test rows only (100)
  --stores LIST       of spinney (always), arroy (as many trees as it chooses) and hannoy, with commas between them (all)
  --k LIST            neighbours of a query (1,10,100)
  --filters LIST      of random, correlated and anti (all)
  --selectivity LIST  percent of the items that the filters admit (0.01,0.1,1,5,10,25,50,75,90,99)
  --keep DIR          where stores are kept, and found again by the next run (a temporary folder)";

/// Which items a filter admits.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Each with the same probability.
    Random,
    /// The nearest to a neighbour of the query.
    Correlated,
    /// The farthest from the query.
    Anti,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Correlated => "correlated",
            Self::Anti => "anti",
        }
    }
}

#[derive(Debug)]
pub struct Args {
    pub data: PathBuf,
    pub set: String,
    pub items: usize,
    pub queries: usize,
    pub stores: Vec<String>,
    pub ks: Vec<usize>,
    pub kinds: Vec<Kind>,
    pub percents: Vec<f64>,
    pub keep: Option<PathBuf>,
    /// The largest of `ks`.
    pub k: usize,
}

/// Reads the command line (without the program's name). `None`: help was asked for.
pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Args>> {
    let mut data = std::env::var_os("SPINNEY_DATA").map(PathBuf::from);
    let mut args = Args {
        data: PathBuf::new(),
        set: String::new(),
        items: 100_000,
        queries: 100,
        stores: ["spinney", "arroy", "hannoy"].map(str::to_owned).to_vec(),
        ks: vec![1, 10, 100],
        kinds: vec![Kind::Random, Kind::Correlated, Kind::Anti],
        percents: vec![0.01, 0.1, 1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 99.0],
        keep: None,
        k: 1,
    };
    while let Some(word) = words.next() {
        if word == "--help" {
            return Ok(None);
        }
        let value = words.next().ok_or_else(|| format!("{word}: expected a value; --help lists the options"))?;
        match word.as_str() {
            "--data" => data = Some(PathBuf::from(value)),
            "--set" => args.set = value,
            "--items" => args.items = count(&word, &value)?,
            "--queries" => args.queries = count(&word, &value)?,
            "--stores" => args.stores = value.split(',').map(str::to_owned).collect(),
            "--k" => args.ks = value.split(',').map(|k| count(&word, k)).collect::<Result<_>>()?,
            "--filters" => args.kinds = value.split(',').map(kind).collect::<Result<_>>()?,
            "--selectivity" => args.percents = value.split(',').map(percent).collect::<Result<_>>()?,
            "--keep" => args.keep = Some(PathBuf::from(value)),
            _ => return Err(format!("unknown option \"{word}\"; --help lists them").into()),
        }
    }
    if !matches!(args.set.as_str(), "sift" | "minilm") {
        return Err(format!("--set: expected sift or minilm, got \"{}\"", args.set).into());
    }
    args.data = data.ok_or("--data DIR is missing; --help lists the options")?;
    args.k = args.ks.iter().copied().max().unwrap_or(1);
    Ok(Some(args))
}

fn percent(value: &str) -> Result<f64> {
    match value.parse() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent),
        _ => Err(format!("--selectivity: expected a number above 0 and at most 100, got \"{value}\"").into()),
    }
}

fn kind(name: &str) -> Result<Kind> {
    let mut kinds = [Kind::Random, Kind::Correlated, Kind::Anti].into_iter();
    let kind = kinds.find(|kind| kind.name() == name);
    kind.ok_or_else(|| format!("--filters: expected random, correlated or anti, got \"{name}\"").into())
}
