//! The options of the command line.

use std::path::PathBuf;

use bench_kit::args::{TempArgs, count};
use bench_kit::clap::builder::PossibleValuesParser;
use bench_kit::clap::{self, Parser};

use crate::input::SetArgs;

/// Names that stand for several stores.
const FAMILIES: [(&str, &[&str]); 4] = [
    ("arroy", &["arroy-auto", "arroy-10"]),
    ("usearch", &["usearch-f32", "usearch-bf16"]),
    ("faiss", &["faiss-ivf", "faiss-ivf-few", "faiss-hnsw"]),
    ("in-memory", &["symqg", "rabitq-ivf", "scann", "svs", "lorann"]),
];

/// The stores that this program links; the others are Python's.
pub const LINKED: [&str; 8] = [
    "spinney",
    "spinney-f16",
    "spinney-i8",
    "spinney-bits",
    "spinney-search-k",
    "arroy-auto",
    "arroy-10",
    "hannoy",
];
const LIBRARIES: [&str; 13] = [
    "hnswlib",
    "usearch-f32",
    "usearch-bf16",
    "faiss-ivf",
    "faiss-ivf-few",
    "faiss-hnsw",
    "faiss-disk",
    "annoy",
    "symqg",
    "rabitq-ivf",
    "scann",
    "svs",
    "lorann",
];
/// Each library as it is used where all is in memory.
const USUAL: &str = "spinney,arroy,hannoy,usearch,hnswlib,faiss,annoy";

const STORES: &str = "\
Stores: spinney, spinney-search-k (the same, given how much to scan instead of a recall),
                  spinney-f16, spinney-i8, spinney-bits (vectors stored so)
        arroy     arroy-auto (as many trees as it chooses), arroy-10 (10 trees)
        hannoy
        usearch   usearch-f32, usearch-bf16 (what it chooses where the machine computes with it)
        hnswlib
        faiss     faiss-ivf (25 items for each list), faiss-ivf-few (100), faiss-hnsw;
                  faiss-disk (lists of vectors in a file that is mapped, 100 items for each)
        annoy
        in-memory  built once, never changed: symqg (SymphonyQG), rabitq-ivf, scann, svs, lorann";

/// What a recall costs in spinney and in other stores and libraries
#[derive(Debug, Parser)]
#[command(after_help = STORES)]
pub struct Args {
    #[command(flatten)]
    pub set: SetArgs,
    /// The last N of the queries are not asked: spinney calibrates with them (0: with its own
    /// items)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub learn: usize,
    /// The stores below, or some of them
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = USUAL)]
    #[arg(value_parser = PossibleValuesParser::new(names()), hide_possible_values = true)]
    stores: Vec<String>,
    /// Neighbours of a query
    #[arg(long, value_parser = count::<usize>, default_value_t = 10)]
    pub k: usize,
    /// Passes over the queries, of which the median counts
    #[arg(long, value_name = "N", value_parser = count::<usize>, default_value_t = 3)]
    pub passes: usize,
    /// Also asks all queries in one call, on so many threads each
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = count::<usize>)]
    pub batch_threads: Vec<usize>,
    /// Draws the curves
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// The Python that has what requirements.txt names
    #[arg(long, value_name = "PATH", default_value = "python3")]
    pub python: PathBuf,
    #[command(flatten)]
    pub temp: TempArgs,
}

impl Args {
    /// The stores that were chosen, each once, families taken apart.
    pub fn stores(&self) -> Vec<&str> {
        let mut stores: Vec<&str> = Vec::new();
        for name in &self.stores {
            let alone = [name.as_str()];
            let family = FAMILIES.iter().find(|family| family.0 == name);
            for &member in family.map_or(&alone[..], |family| family.1) {
                if !stores.contains(&member) {
                    stores.push(member);
                }
            }
        }
        stores
    }
}

/// What may stand in the list of stores.
fn names() -> impl Iterator<Item = &'static str> {
    LINKED.into_iter().chain(LIBRARIES).chain(FAMILIES.map(|family| family.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_taken_apart() -> Result<(), clap::Error> {
        let line = "search --data d --set sift --stores arroy,hannoy,arroy-10,faiss-ivf";
        let args = Args::try_parse_from(line.split(' '))?;
        assert_eq!(args.stores(), ["arroy-auto", "arroy-10", "hannoy", "faiss-ivf"]);
        let unknown = Args::try_parse_from(format!("{line},chroma").split(' ')).unwrap_err();
        assert!(unknown.to_string().contains("'chroma'"), "{unknown}");
        Ok(())
    }
}
