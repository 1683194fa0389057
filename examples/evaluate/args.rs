//! The options of the command line.

use std::path::PathBuf;

use bench_kit::args::{count, within};
use bench_kit::clap::builder::{BoolishValueParser, PossibleValuesParser, TypedValueParser};
use bench_kit::clap::{self, Parser};
use spinney::{BuildOptions, IndexOptions, Metric, Storage};

/// Recall, time and memory on a data set of your own
///
/// Options that are unset are the library's choice.
#[derive(Debug, Parser)]
pub struct Args {
    /// Vectors to insert: .fbin, .u8bin, .i8bin or .npy
    #[arg(long, value_name = "FILE")]
    pub train: PathBuf,
    /// Vectors to search with, in any of these formats
    #[arg(long, value_name = "FILE")]
    pub test: PathBuf,
    /// euclidean, cosine, dot, manhattan or hamming (components 0 or 1)
    #[arg(long)]
    pub metric: Metric,
    /// Exact answers: .ibin (u32 n, u32 k, n x k u32 rows of the train file, n x k f32 distances);
    /// without it, or with a --limit, they are computed by exact search
    #[arg(long, value_name = "FILE")]
    pub truth: Option<PathBuf>,

    /// Insert the first N train vectors only
    #[arg(long, value_name = "N", value_parser = count::<usize>)]
    pub limit: Option<usize>,
    /// Search with the first N test vectors only
    #[arg(long, value_name = "N", value_parser = count::<usize>)]
    pub queries: Option<usize>,
    /// Neighbours per query
    #[arg(long, value_parser = count::<usize>, default_value_t = 10)]
    pub k: usize,
    /// Rerank X x K candidates
    #[arg(long, value_name = "X", value_parser = factor)]
    pub oversampling: Option<f32>,

    /// How vectors are kept (f32; bits for Hamming)
    #[arg(long, value_parser = storage())]
    pub storage: Option<Storage>,
    /// 1 to 16
    #[arg(long, value_name = "T", value_parser = within(1..=16))]
    pub trees: Option<usize>,
    /// A second copy of items in another leaf
    #[arg(long, value_name = "on|off", value_parser = BoolishValueParser::new())]
    pub spill: Option<bool>,
    /// 32 to 4096 items
    #[arg(long, value_name = "N", value_parser = within(32..=4096))]
    pub leaf_size: Option<usize>,
    /// Bits per dimension
    #[arg(long, value_name = "B", value_parser = bits())]
    pub sketch_bits: Option<u8>,
    /// A whole number
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,

    /// Memory that the build may take (a quarter of what is available)
    #[arg(long, value_name = "MIB", value_parser = count::<u64>)]
    pub memory: Option<u64>,
    /// Threads of the build and of the exact answers (all); the sweep runs on one
    #[arg(long, value_name = "P", value_parser = within(1..=1024))]
    pub threads: Option<usize>,
    /// Keep the store in DIR, which must not hold items yet (a temporary folder)
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// One JSON object a line instead of tables
    #[arg(long)]
    pub json: bool,
}

impl Args {
    /// The options of the index.
    pub fn index_options(&self, dims: usize) -> IndexOptions {
        let options = IndexOptions::new(dims, self.metric);
        self.storage.into_iter().fold(options, IndexOptions::storage)
    }

    /// Whether vectors are kept otherwise than they were given.
    pub fn is_rounded(&self) -> bool {
        self.metric != Metric::Hamming && self.storage.is_some_and(|it| it != Storage::F32)
    }

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
        if let Some(mebibytes) = self.memory {
            build = build.memory(mebibytes.saturating_mul(1 << 20));
        }
        build
    }
}

fn factor(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(factor) if factor.is_finite() && factor >= 1.0 => Ok(factor),
        _ => Err("expected a number, at least 1".to_owned()),
    }
}

fn storage() -> impl TypedValueParser<Value = Storage> {
    let all = [Storage::F32, Storage::F16, Storage::I8, Storage::Bits];
    PossibleValuesParser::new(["f32", "f16", "i8", "bits"]).map(move |name| {
        let is_it = |storage: &Storage| storage.to_string() == name;
        all.into_iter().find(is_it).unwrap_or_default()
    })
}

fn bits() -> impl TypedValueParser<Value = u8> {
    PossibleValuesParser::new(["1", "2", "4"]).try_map(|bits| bits.parse::<u8>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once("evaluate").chain(line.split_whitespace()))
    }

    #[test]
    fn options_are_read() -> Result<(), clap::Error> {
        let needed = "--train a.fbin --test b.npy --metric dot";
        let args = parsed(&format!("{needed} --k 7 --spill off --json --sketch-bits 4"))?;
        assert_eq!(args.metric, Metric::DotProduct);
        assert_eq!(args.k, 7);
        assert_eq!(args.spill, Some(false));
        assert_eq!(args.sketch_bits, Some(4));
        assert_eq!(args.trees, None);
        assert_eq!(parsed(&format!("{needed} --memory 256"))?.memory, Some(256));
        assert_eq!(parsed(&format!("{needed} --storage i8"))?.storage, Some(Storage::I8));
        assert!(args.json);
        assert_eq!(parsed(needed)?.k, 10);
        Ok(())
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, expected) in [
            ("", "--train <FILE>"),
            ("--trian a", "unexpected argument '--trian'"),
            ("--train", "a value is required for '--train <FILE>'"),
            ("--trees 17", "'17' for '--trees <T>': expected a whole number from 1 to 16"),
            ("--memory half", "'half' for '--memory <MIB>'"),
            ("--k 0", "'0' for '--k <K>': expected a whole number, at least 1"),
            ("--spill perhaps", "'perhaps' for '--spill <on|off>'"),
            ("--sketch-bits 3", "[possible values: 1, 2, 4]"),
            ("--metric l2", "'l2' for '--metric <METRIC>'"),
            ("--oversampling NaN", "'NaN' for '--oversampling <X>': expected a number"),
        ] {
            let error = parsed(line).unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
