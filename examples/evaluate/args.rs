//! The options of the command line.

use std::error::Error;
use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use spinney::{BuildOptions, Metric};

pub const USAGE: &str = "\
usage: evaluate --train FILE --test FILE --metric METRIC [OPTIONS]

  --train FILE        vectors to insert: .fbin, .u8bin, .i8bin or .npy
  --test FILE         vectors to search with, in any of these formats
  --metric METRIC     euclidean, cosine, dot, manhattan or hamming (components 0 or 1)
  --truth FILE        exact answers: .ibin (u32 n, u32 k, n x k u32 rows of the train file, n x k f32 distances);
                      without it, or with a --limit, they are computed by exact search

  --limit N           insert the first N train vectors only
  --queries N         search with the first N test vectors only
  --k K               neighbours per query (10)
  --oversampling X    rerank X x K candidates (the library's choice)

  --trees T           1 to 16                      unset, these are the library's defaults
  --spill on|off      a second copy of items in another leaf
  --leaf-size N       32 to 4096 items
  --sketch-bits B     1, 2 or 4 per dimension
  --seed S            a whole number

  --threads P         threads of the build and of the exact answers (all); the sweep runs on one
  --store DIR         keep the store in DIR, which must not hold items yet (a temporary folder)
  --json              one JSON object a line instead of tables
  --help              this text";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Debug)]
pub struct Args {
    pub train: PathBuf,
    pub test: PathBuf,
    pub metric: Metric,
    pub options: Options,
}

/// What may be left out.
#[derive(Debug, Default)]
pub struct Options {
    pub truth: Option<PathBuf>,
    pub limit: Option<usize>,
    pub queries: Option<usize>,
    pub k: Option<usize>,
    pub oversampling: Option<f32>,
    pub trees: Option<usize>,
    pub spill: Option<bool>,
    pub leaf_size: Option<usize>,
    pub sketch_bits: Option<u8>,
    pub seed: Option<u64>,
    pub threads: Option<usize>,
    pub store: Option<PathBuf>,
    pub json: bool,
}

impl Options {
    /// The options of the build; what is unset stays the library's choice.
    pub fn build_options<'a>(&self, pool: &'a rayon::ThreadPool) -> BuildOptions<'a> {
        let mut build = BuildOptions::default().thread_pool(pool);
        if let Some(trees) = self.trees {
            build = build.trees(trees);
        }
        if let Some(spill) = self.spill {
            build = build.spill(spill);
        }
        if let Some(leaf_size) = self.leaf_size {
            build = build.leaf_size(leaf_size);
        }
        if let Some(sketch_bits) = self.sketch_bits {
            build = build.sketch_bits(sketch_bits);
        }
        if let Some(seed) = self.seed {
            build = build.seed(seed);
        }
        build
    }
}

/// Reads the command line (without the program's name). `None`: help was asked for.
pub fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Option<Args>> {
    let (mut train, mut test, mut metric) = (None, None, None);
    let mut options = Options::default();
    while let Some(word) = words.next() {
        let name = text("the option", word)?;
        match name.as_str() {
            "--help" | "-h" => return Ok(None),
            "--json" => {
                options.json = true;
                continue;
            }
            "--train" | "--test" | "--metric" => {}
            _ if OPTIONS_WITH_VALUE.contains(&name.as_str()) => {}
            _ => return Err(format!("unknown option \"{name}\"; --help lists them").into()),
        }
        let value = words
            .next()
            .ok_or_else(|| format!("{name}: expected a value, got the end of the command line"))?;
        match name.as_str() {
            "--train" => train = Some(PathBuf::from(value)),
            "--test" => test = Some(PathBuf::from(value)),
            "--metric" => metric = Some(parse_metric(&text(&name, value)?)?),
            _ => set(&mut options, &name, value)?,
        }
    }
    Ok(Some(Args {
        train: train.ok_or("--train FILE is missing; --help lists the options")?,
        test: test.ok_or("--test FILE is missing; --help lists the options")?,
        metric: metric.ok_or("--metric METRIC is missing; --help lists the options")?,
        options,
    }))
}

const OPTIONS_WITH_VALUE: [&str; 12] = [
    "--truth",
    "--limit",
    "--queries",
    "--k",
    "--oversampling",
    "--trees",
    "--spill",
    "--leaf-size",
    "--sketch-bits",
    "--seed",
    "--threads",
    "--store",
];

/// Sets one of [`OPTIONS_WITH_VALUE`]. Ranges are checked here, so that a slip does not surface
/// after the inserts.
fn set(options: &mut Options, name: &str, value: OsString) -> Result<()> {
    match name {
        "--truth" => options.truth = Some(PathBuf::from(value)),
        "--store" => options.store = Some(PathBuf::from(value)),
        _ => {
            let value = text(name, value)?;
            let count = |range| whole(name, &value, range).and_then(|n| Ok(usize::try_from(n)?));
            match name {
                "--limit" => options.limit = Some(count(1..=u64::MAX)?),
                "--queries" => options.queries = Some(count(1..=u64::MAX)?),
                "--k" => options.k = Some(count(1..=u64::MAX)?),
                "--oversampling" => options.oversampling = Some(factor(name, &value)?),
                "--trees" => options.trees = Some(count(1..=16)?),
                "--spill" => options.spill = Some(switch(name, &value)?),
                "--leaf-size" => options.leaf_size = Some(count(32..=4096)?),
                "--sketch-bits" => options.sketch_bits = Some(bits(name, &value)?),
                "--seed" => options.seed = Some(whole(name, &value, 0..=u64::MAX)?),
                _ => options.threads = Some(count(1..=1024)?),
            }
        }
    }
    Ok(())
}

fn text(name: &str, value: OsString) -> Result<String> {
    value
        .into_string()
        .map_err(|value| format!("{name}: expected UTF-8, got {}", value.display()).into())
}

fn wrong<T>(name: &str, expected: &str, got: &str) -> Result<T> {
    Err(format!("{name}: expected {expected}, got \"{got}\"").into())
}

fn whole(name: &str, value: &str, range: RangeInclusive<u64>) -> Result<u64> {
    match value.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ if *range.end() == u64::MAX => {
            let expected = format!("a whole number, at least {}", range.start());
            wrong(name, &expected, value)
        }
        _ => {
            let expected = format!("a whole number from {} to {}", range.start(), range.end());
            wrong(name, &expected, value)
        }
    }
}

fn factor(name: &str, value: &str) -> Result<f32> {
    match value.parse::<f32>() {
        Ok(factor) if factor.is_finite() && factor >= 1.0 => Ok(factor),
        _ => wrong(name, "a number, at least 1", value),
    }
}

fn switch(name: &str, value: &str) -> Result<bool> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => wrong(name, "on or off", value),
    }
}

fn bits(name: &str, value: &str) -> Result<u8> {
    match value {
        "1" => Ok(1),
        "2" => Ok(2),
        "4" => Ok(4),
        _ => wrong(name, "1, 2 or 4", value),
    }
}

fn parse_metric(value: &str) -> Result<Metric> {
    value.parse().or_else(|_| {
        let expected = "euclidean, cosine, dot, manhattan or hamming";
        wrong("--metric", expected, value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Option<Args>> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_are_read() -> Result<()> {
        let line =
            "--train a.fbin --test b.npy --metric dot --k 7 --spill off --json --sketch-bits 4";
        let args = parsed(line)?.ok_or("help")?;
        assert_eq!(args.metric, Metric::DotProduct);
        assert_eq!(args.options.k, Some(7));
        assert_eq!(args.options.spill, Some(false));
        assert_eq!(args.options.sketch_bits, Some(4));
        assert_eq!(args.options.trees, None);
        assert!(args.options.json);
        assert!(parsed("--train a --help")?.is_none());
        Ok(())
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, expected) in [
            ("", "--train FILE is missing"),
            ("--trian a", "unknown option \"--trian\""),
            ("--train", "--train: expected a value"),
            ("--trees 17", "--trees: expected a whole number from 1 to 16, got \"17\""),
            ("--k 0", "--k: expected a whole number, at least 1, got \"0\""),
            ("--spill yes", "--spill: expected on or off"),
            ("--metric l2", "--metric: expected euclidean"),
            ("--oversampling NaN", "--oversampling: expected a number"),
        ] {
            let error = parsed(line).err().map(|error| error.to_string());
            assert!(error.is_some_and(|error| error.starts_with(expected)), "{line}");
        }
    }

    #[test]
    fn every_option_with_a_value_is_in_the_usage() {
        for option in OPTIONS_WITH_VALUE {
            assert!(USAGE.contains(&format!("\n  {option} ")), "{option}");
        }
    }
}
