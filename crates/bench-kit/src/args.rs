//! Options that several programs have, and the values of options.

use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use tempfile::TempDir;

use crate::sets::SetName;

/// Where the rows come from, and where the store goes.
#[derive(Clone, Debug, Args)]
pub struct DataArgs {
    /// Folder of the data sets: DIR/SET/train.* and DIR/SET/test.*, each .fbin, .u8bin, .i8bin or
    /// .npy; sets that are not there are made up
    #[arg(long, value_name = "DIR", env = "SPINNEY_DATA")]
    pub data: Option<PathBuf>,
    /// Data sets
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_values_t = SetName::ALL)]
    pub sets: Vec<SetName>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show the words as those of the options")]
    pub temp: TempArgs,
}

/// Where a store is made.
#[derive(Clone, Debug, Args)]
pub struct TempArgs {
    /// Where stores are made, and deleted in the end (the system's folder for temporary files)
    #[arg(long, value_name = "DIR")]
    temp: Option<PathBuf>,
}

impl TempArgs {
    /// A new folder, deleted when it is dropped.
    ///
    /// # Errors
    /// If the system cannot make it.
    pub fn folder(&self) -> io::Result<TempDir> {
        self.temp.as_deref().map_or_else(tempfile::tempdir, tempfile::tempdir_in)
    }
}

/// Options of a benchmark that Cargo runs, which it also tests.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// Sizes of the index; rows beyond those of the files are perturbed copies
    #[arg(long, value_name = "N,M", value_delimiter = ',', value_parser = count::<u32>)]
    items: Vec<u32>,
    /// Few repeats, and a small part of the work
    #[arg(long)]
    quick: bool,
    /// Cargo says this when it measures, and not when it tests that benchmarks run.
    #[arg(long, hide = true)]
    bench: bool,
}

impl BenchArgs {
    /// The sizes of the index: those given, `usual` ones when Cargo measures, or a small one.
    pub fn items(&self, usual: [u32; 2]) -> Vec<u32> {
        match (self.items.is_empty(), self.bench) {
            (false, _) => self.items.clone(),
            (true, true) => usual.to_vec(),
            (true, false) => vec![5_000],
        }
    }

    /// Whether a small part of the work is enough.
    pub fn is_quick(&self) -> bool {
        self.quick || (self.items.is_empty() && !self.bench)
    }
}

/// Parses a whole number, at least one; `_` may part its digits.
///
/// # Errors
/// What was expected.
pub fn count<N: FromStr + PartialOrd + From<u8>>(text: &str) -> Result<N, String> {
    match text.replace('_', "").parse() {
        Ok(number) if number >= N::from(1) => Ok(number),
        _ => Err("expected a whole number, at least 1".to_owned()),
    }
}

/// Returns a parser of whole numbers in a range.
pub fn within(range: RangeInclusive<usize>) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("expected a whole number from {} to {}", range.start(), range.end())),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        data: DataArgs,
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn parsed(line: &str) -> Result<Program, clap::Error> {
        Program::try_parse_from(std::iter::once("program").chain(line.split_whitespace()))
    }

    #[test]
    fn lists_are_read() {
        let program = parsed("--sets minilm --items 10_000,7 --data folder").unwrap();
        assert_eq!(program.data.sets, [SetName::Minilm]);
        assert_eq!(program.bench.items([1, 2]), [10_000, 7]);
        assert!(!program.bench.is_quick());
        assert_eq!(program.data.data.as_deref(), Some("folder".as_ref()));
    }

    #[test]
    fn a_benchmark_that_is_only_tested_is_small() {
        let tested = parsed("").unwrap();
        assert_eq!(tested.data.sets, SetName::ALL);
        assert_eq!((tested.bench.items([1, 2]), tested.bench.is_quick()), (vec![5_000], true));
        let measured = parsed("--bench").unwrap();
        assert_eq!((measured.bench.items([1, 2]), measured.bench.is_quick()), (vec![1, 2], false));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, expected) in [
            ("--items 0", "'--items <N,M>': expected a whole number, at least 1"),
            ("--items 5,x", "'--items <N,M>': expected a whole number, at least 1"),
            ("--items 4294967296", "'--items <N,M>': expected a whole number, at least 1"),
            ("--sets gist", "[possible values: sift, minilm]"),
            ("--unknown", "unexpected argument '--unknown'"),
        ] {
            let error = parsed(line).unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
        assert_eq!(within(1..=16)("16"), Ok(16));
        assert_eq!(within(1..=16)("17").unwrap_err(), "expected a whole number from 1 to 16");
    }
}
