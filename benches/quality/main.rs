//! Whether an index that is changed and built again and again stays as good as a fresh one.
//!
//! Each scenario changes an index in steps with an incremental build after each. Then it compares
//! the index with a bulk build of the same items:
//!
//! - how many sketches a search scans for a recall@10 of .95, which may be at most 1.15 times those
//!   of the fresh index;
//! - recall at the default target;
//! - leaves, and how full they are;
//! - items that do not find themselves.
//!
//! ```text
//! cargo bench --bench quality -- [--data DIR] [--set NAME] [--items N] [--only NAME] [--full]
//! ```
//! `--data` (or `SPINNEY_DATA`) names the folder with the sets `sift` and `minilm`; without it,
//! clusters are drawn. `--items` is the size (20,000); `--full` takes 100,000, and 200,000 for
//! growth. `--set` and `--only` pick a set, and scenarios by a part of their names.

mod data;
mod measure;
mod scenarios;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use bench_kit::Result;
use bench_kit::args::count;
use bench_kit::clap::{self, Parser};
use bench_kit::sets::SetName;
use data::Set;
use measure::{Quality, Truth};
use scenarios::Outcome;

/// Sketches that a maintained index may scan for each one of a fresh index.
const BOUND: f64 = 1.15;
/// Size of the file that is allowed, against a compacted copy.
const FILE_BOUND: f64 = 3.0;

/// Whether an index that is changed and built again and again stays as good as a fresh one
#[derive(Debug, Parser)]
#[command(bin_name = "cargo bench --bench quality --")]
struct Args {
    /// Folder with the data sets; without it, clusters are drawn
    #[arg(long, value_name = "DIR", env = "SPINNEY_DATA")]
    data: Option<PathBuf>,
    /// The only set to take
    #[arg(long, value_name = "NAME")]
    set: Option<SetName>,
    /// Scenarios with this in their names
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Size of the index, and of growth
    #[arg(long, value_name = "N", value_parser = count::<usize>, default_value_t = 20_000)]
    items: usize,
    /// 100000 items, and 200000 for growth
    #[arg(long)]
    full: bool,
    /// Cargo adds this.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    fn items(&self) -> usize {
        if self.full { 100_000 } else { self.items }
    }

    fn growth(&self) -> usize {
        if self.full { 200_000 } else { self.items }
    }
}

fn main() -> ExitCode {
    bench_kit::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    println!(
        "sketches scanned at recall@10 {:.2}, maintained against fresh; bound {BOUND}",
        measure::TARGET
    );
    println!(
        "{:<10}{:<16}{:>8} {:>6} {:>15}  {:>13} {:>13} {:>11} {:>11} {:>11}  {:>9} {:>7}",
        "set",
        "scenario",
        "items",
        "ratio",
        "sketches",
        "recall",
        "at sketches",
        "leaves",
        "fill %",
        "missed %",
        "bulk/inc",
        "us each"
    );
    let mut failed = 0;
    for set in sets(&args)? {
        failed += run_set(&set, &args)?;
    }
    println!("{failed} beyond the bounds");
    Ok(())
}

fn sets(args: &Args) -> Result<Vec<Set>> {
    let is_chosen = |set: &SetName| args.set.is_none_or(|chosen| chosen == *set);
    match &args.data {
        Some(folder) => {
            SetName::ALL.into_iter().filter(is_chosen).map(|set| Set::read(folder, set)).collect()
        }
        None => Ok(vec![Set::synthetic(96, args.items(), 1_000)]),
    }
}

/// Runs all scenarios on a set. Returns how many are beyond the bounds.
fn run_set(set: &Set, args: &Args) -> Result<usize> {
    type Scenario<'a> = (String, Box<dyn Fn() -> Result<Outcome> + 'a>);
    let n = args.items();
    let mut scenarios: Vec<Scenario<'_>> = Vec::new();
    let large = if args.growth() >= 200_000 { 10_000 } else { args.growth() / 20 };
    for step in [1, 100, large] {
        scenarios.push((
            format!("growth by {step}"),
            Box::new(move || scenarios::growth(set, args.growth(), step)),
        ));
    }
    scenarios.push(("churn".into(), Box::new(|| scenarios::churn(set, n, false))));
    scenarios.push(("drift".into(), Box::new(|| scenarios::churn(set, n, true))));
    scenarios.push(("deletion".into(), Box::new(|| scenarios::deletion(set, n))));
    scenarios.push(("reinsertion".into(), Box::new(|| scenarios::reinsertion(set, n))));
    scenarios.push(("rewriting".into(), Box::new(|| scenarios::rewriting(set, n))));
    let is_chosen = |name: &str| args.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let mut failed = 0;
    for (name, scenario) in scenarios.iter().filter(|(name, _)| is_chosen(name)) {
        failed += usize::from(!report(set, name, scenario()?)?);
    }
    if is_chosen("commits") {
        let (file, compacted) = scenarios::commits(set, n)?.file_bytes()?;
        let ratio = file as f64 / compacted as f64;
        let mark = if ratio <= FILE_BOUND { ' ' } else { '!' };
        println!(
            "{:<10}{:<16}{n:>8} {ratio:>6.2}{mark} file {file} bytes, compacted {compacted}",
            set.name, "50 commits"
        );
        failed += usize::from(ratio > FILE_BOUND);
    }
    Ok(failed)
}

/// Prints the line of a scenario; `false` if it is beyond the bound.
fn report(set: &Set, name: &str, Outcome { world, queries }: Outcome) -> Result<bool> {
    let truth = Truth::new(&world, queries)?;
    let old: Quality = truth.quality(&world)?;
    let fresh_world = world.fresh()?;
    let new: Quality = truth.quality(&fresh_world)?;
    let ratio = old.at_target / new.at_target;
    let builds = world.builds;
    let pair = |a: f64, b: f64, digits: usize| format!("{a:.digits$}/{b:.digits$}");
    println!(
        "{:<10}{:<16}{:>8} {:>6.3}{}{:>15}  {:>13} {:>13} {:>11} {:>11} {:>11}  {:>9} {:>7.0}",
        set.name,
        name,
        world.live.len(),
        ratio,
        if ratio <= BOUND { ' ' } else { '!' },
        pair(old.at_target, new.at_target, 0),
        pair(old.default.recall, new.default.recall, 4),
        pair(old.default.sketches, new.default.sketches, 0),
        format!("{}/{}", old.leaves, new.leaves),
        pair(100.0 * old.fill, 100.0 * new.fill, 1),
        pair(100.0 * old.missed, 100.0 * new.missed, 2),
        format!("{}/{}", builds.bulk, builds.incremental),
        builds.time.as_secs_f64() * 1e6 / builds.changes.max(1) as f64,
    );
    Ok(ratio <= BOUND)
}
