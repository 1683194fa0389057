//! The options of the command line.

use std::path::PathBuf;

use bench_kit::args::count;
use bench_kit::clap::{self, Parser, ValueEnum};

use crate::input::SetArgs;

/// Which items a filter admits.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Each with the same probability
    Random,
    /// The nearest to a neighbour of the query
    Correlated,
    /// The farthest from the query
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

/// What filters cost in spinney, beside arroy and hannoy, and whether any is a cliff
///
/// By default, it takes the first 100000 train rows and the first 100 test rows.
#[derive(Debug, Parser)]
pub struct Args {
    #[command(flatten)]
    pub set: SetArgs,
    /// Of spinney (always), arroy (as many trees as it chooses) and hannoy
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "spinney,arroy,hannoy"
    )]
    pub stores: Vec<String>,
    /// Neighbours of a query
    #[arg(long = "k", value_name = "LIST", value_delimiter = ',', default_value = "1,10,100")]
    #[arg(value_parser = count::<usize>)]
    pub ks: Vec<usize>,
    /// Kinds of filters
    #[arg(long = "filters", value_name = "LIST", value_delimiter = ',')]
    #[arg(default_value = "random,correlated,anti")]
    pub kinds: Vec<Kind>,
    /// Percent of the items that the filters admit
    #[arg(long = "selectivity", value_name = "LIST", value_delimiter = ',', value_parser = percent)]
    #[arg(default_value = "0.01,0.1,1,5,10,25,50,75,90,99")]
    pub percents: Vec<f64>,
    /// Where stores are kept, and found again by the next run (a temporary folder)
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

impl Args {
    /// The largest number of neighbours.
    pub fn most_neighbours(&self) -> usize {
        self.ks.iter().copied().max().unwrap_or(1)
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent),
        _ => Err("expected a number above 0 and at most 100".to_owned()),
    }
}
