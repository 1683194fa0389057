//! The options of the command line.

use std::path::PathBuf;

use crate::Result;
use crate::options::count;

pub const USAGE: &str = "\
usage: search --data DIR --set sift|minilm [OPTIONS]

  --data DIR       the folder of the sets (the environment's SPINNEY_DATA)
  --set NAME       sift (Euclidean) or minilm (cosine)
  --items N        the first N train rows only; the exact answers are then computed
  --queries N      the first N test rows only
  --learn N        the last N of these are not asked: spinney calibrates with them (0: with its own items)
  --stores LIST    of the stores below, with commas between them (all but spinney-search-k)
  --k K            neighbours of a query (10)
  --passes N       passes over the queries, of which the median counts (3)
  --svg FILE       draws the curves
  --python PATH    the Python that has what requirements.txt names (python3)
  --temp DIR       where the stores are made (the system's temporary folder)

stores: spinney, spinney-search-k (the same, told how much to scan instead of a recall)
        arroy     arroy-auto (as many trees as it chooses), arroy-10 (10 trees)
        hannoy
        usearch   usearch-f32, usearch-bf16 (what it chooses where the machine computes with it)
        hnswlib
        faiss     faiss-ivf (25 items for each list), faiss-ivf-few (100), faiss-hnsw
        annoy";

/// Names that stand for several stores.
const FAMILIES: [(&str, &[&str]); 3] = [
    ("arroy", &["arroy-auto", "arroy-10"]),
    ("usearch", &["usearch-f32", "usearch-bf16"]),
    ("faiss", &["faiss-ivf", "faiss-ivf-few", "faiss-hnsw"]),
];

/// The stores that this program links; the others are Python's.
pub const LINKED: [&str; 5] = ["spinney", "spinney-search-k", "arroy-auto", "arroy-10", "hannoy"];
const LIBRARIES: [&str; 7] =
    ["hnswlib", "usearch-f32", "usearch-bf16", "faiss-ivf", "faiss-ivf-few", "faiss-hnsw", "annoy"];

#[derive(Debug)]
pub struct Args {
    pub data: PathBuf,
    pub set: String,
    pub items: usize,
    pub queries: usize,
    pub learn: usize,
    pub stores: Vec<String>,
    pub k: usize,
    pub passes: usize,
    pub svg: Option<PathBuf>,
    pub python: PathBuf,
    pub temp: Option<PathBuf>,
}

/// Reads the command line (without the program's name). `None`: help was asked for.
pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Args>> {
    let mut data = std::env::var_os("SPINNEY_DATA").map(PathBuf::from);
    let mut args = Args {
        data: PathBuf::new(),
        set: String::new(),
        items: usize::MAX,
        queries: usize::MAX,
        learn: 0,
        stores: stores("spinney,arroy,hannoy,usearch,hnswlib,faiss,annoy")?,
        k: 10,
        passes: 3,
        svg: None,
        python: PathBuf::from("python3"),
        temp: None,
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
            "--learn" => args.learn = count(&word, &value)?,
            "--stores" => args.stores = stores(&value)?,
            "--k" => args.k = count(&word, &value)?,
            "--passes" => args.passes = count(&word, &value)?,
            "--svg" => args.svg = Some(PathBuf::from(value)),
            "--python" => args.python = PathBuf::from(value),
            "--temp" => args.temp = Some(PathBuf::from(value)),
            _ => return Err(format!("unknown option \"{word}\"; --help lists them").into()),
        }
    }
    if !matches!(args.set.as_str(), "sift" | "minilm") {
        return Err(format!("--set: expected sift or minilm, got \"{}\"", args.set).into());
    }
    args.data = data.ok_or("--data DIR is missing; --help lists the options")?;
    Ok(Some(args))
}

/// The stores of a list, each once, families taken apart.
fn stores(list: &str) -> Result<Vec<String>> {
    let mut stores: Vec<String> = Vec::new();
    for name in list.split(',') {
        let alone = [name];
        let family = FAMILIES.iter().find(|family| family.0 == name);
        for &member in family.map_or(&alone[..], |family| family.1) {
            if !LINKED.contains(&member) && !LIBRARIES.contains(&member) {
                return Err(format!("--stores: unknown store \"{member}\"; --help lists them").into());
            }
            if !stores.iter().any(|known| known == member) {
                stores.push(member.to_owned());
            }
        }
    }
    Ok(stores)
}
