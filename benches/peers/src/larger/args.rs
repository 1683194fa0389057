//! The options of the command line.

use std::path::PathBuf;

use bench_kit::args::{TempArgs, count};
use bench_kit::clap::{self, Parser};

use crate::input::SetArgs;
use crate::search::serve::Opening;

/// The stores that can search a file that is mapped.
const STORES: [&str; 11] = [
    "spinney",
    "spinney-f16",
    "spinney-i8",
    "spinney-bits",
    "hannoy",
    "arroy-10",
    "arroy-auto",
    "annoy",
    "faiss-disk",
    "usearch-f32",
    "usearch-bf16",
];
/// What follows the name of a store that is opened as by default.
const READ_AHEAD: &str = "-read-ahead";
/// Each store, and the default of one of each kind.
const USUAL: &str = "spinney,spinney-read-ahead,spinney-f16,spinney-i8,spinney-bits,hannoy,\
    hannoy-read-ahead,arroy-10,annoy,annoy-read-ahead,faiss-disk,faiss-disk-read-ahead,\
    usearch-bf16,usearch-bf16-read-ahead";

const HELP: &str = "\
Stores: spinney, spinney-f16, spinney-i8, spinney-bits (vectors stored so)
        hannoy, arroy-10 (10 trees), arroy-auto (as many as it chooses)
        annoy, usearch-f32, usearch-bf16 (its `view`)
        faiss-disk (inverted lists of vectors on disk, 100 items for each)
The system is told to read nothing ahead in their files: NO_READ_AHEAD for those on LMDB, the same
advice for the others. It is not told so for names that end in -read-ahead.";

/// Searches in less memory than the file takes, by spinney and by other stores and libraries
#[derive(Debug, Parser)]
#[command(after_help = HELP)]
pub struct Args {
    #[command(flatten)]
    pub set: SetArgs,
    /// The stores below, or some of them
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = USUAL)]
    #[arg(value_parser = row)]
    pub stores: Vec<Row>,
    /// How much memory a store has: percents of its own file
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "10,25,50")]
    #[arg(value_parser = count::<u64>)]
    pub percents: Vec<u64>,
    /// The recall for which each store's setting is chosen, in memory
    #[arg(long, default_value_t = 0.95)]
    pub recall: f64,
    /// Neighbours of a query
    #[arg(long, value_parser = count::<usize>, default_value_t = 10)]
    pub k: usize,
    /// New processes that search once
    #[arg(long, value_name = "N", value_parser = count::<usize>, default_value_t = 20)]
    pub processes: usize,
    /// After so long no more queries are asked: in a pass to choose settings, by new processes, to
    /// warm up, and to measure
    #[arg(long, value_name = "S", value_parser = count::<u32>, default_value_t = 30)]
    pub seconds: u32,
    /// Where indexes are kept for the next run
    #[arg(long, value_name = "DIR", conflicts_with = "temp")]
    pub keep: Option<PathBuf>,
    /// The Python that has what requirements.txt names
    #[arg(long, value_name = "PATH", default_value = "python3")]
    pub python: PathBuf,
    #[command(flatten)]
    pub temp: TempArgs,
}

/// A store, and how it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub name: String,
    pub store: &'static str,
    pub opening: Opening,
}

fn row(name: &str) -> Result<Row, String> {
    let (store, opening) = match name.strip_suffix(READ_AHEAD) {
        Some(store) => (store, Opening::Map),
        None => (name, Opening::MapAtRandom),
    };
    let Some(&store) = STORES.iter().find(|known| **known == store) else {
        return Err(format!("expected one of {} or with {READ_AHEAD}", STORES.join(", ")));
    };
    Ok(Row { name: name.to_owned(), store, opening })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_how_stores_are_opened() -> Result<(), clap::Error> {
        let line = "larger --data d --set minilm";
        let args = Args::try_parse_from(line.split(' '))?;
        assert_eq!((args.stores.len(), &args.percents[..]), (14, &[10, 25, 50][..]));
        let args = Args::try_parse_from(format!("{line} --stores annoy-read-ahead").split(' '))?;
        assert_eq!((args.stores[0].store, args.stores[0].opening), ("annoy", Opening::Map));
        let unknown = Args::try_parse_from(format!("{line} --stores hnswlib").split(' '));
        let unknown = unknown.unwrap_err().to_string();
        assert!(unknown.contains("'hnswlib'") && unknown.contains("faiss-disk"), "{unknown}");
        Ok(())
    }
}
