//! Recall, time and memory on a data set of your own.
//!
//! ```text
//! cargo run --release --example evaluate -- --train F --test F --metric M [--truth F] [OPTIONS]
//! cargo run --release --example evaluate -- --help
//! ```
//!
//! Inserts the train vectors into a new store, builds and commits, each timed. Then searches with
//! the test vectors on one thread, aiming at a few recalls and at a sweep of `search_k`. Compares
//! the answers with the exact ones: recall, time per query, and how much was scanned for it. Last,
//! what a recall of 0.90, 0.95 and 0.99 costs.

mod args;
mod json;
mod memory;
mod queries;
mod report;
mod store;
mod summary;
mod sweep;
mod truth;

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use bench_kit::Result;
use bench_kit::clap::Parser;
use bench_kit::files::VectorFile;
use rayon::ThreadPoolBuilder;
use spinney::{Metric, Reader};

use crate::args::Args;
use crate::queries::Queries;
use crate::report::{Report, Run, TruthSource};
use crate::store::{INDEX, Store};
use crate::sweep::{Knob, Session, budgets};
use crate::truth::{Expected, Truth};

/// Recalls that searches aim at.
const RECALLS: [f32; 4] = [0.8, 0.9, 0.95, 0.99];

fn main() -> ExitCode {
    bench_kit::exit(run())
}

fn run() -> Result<()> {
    let args = Args::parse();
    let mut train = VectorFile::open(&args.train)?;
    let rows = args.limit.unwrap_or(usize::MAX).min(train.rows());
    let queries = Queries::read(&args.test, args.queries)?;
    let k = args.k;
    check(&args, &train, &queries, rows)?;
    let truth = read_truth(&args, &train, &queries, rows)?;
    let pool = ThreadPoolBuilder::new().num_threads(args.threads.unwrap_or(0)).build()?;

    let temporary; // kept to the end, then deleted; the store, declared after it, closes first
    let folder = match &args.store {
        Some(folder) => folder.as_path(),
        None => {
            temporary = tempfile::tempdir()?;
            temporary.path()
        }
    };
    let store = store::open(folder, rows, &args, train.dims())?;
    let filled = store::fill(&store, &mut train, rows, &args, &pool)?;
    let mut report = Report::new(args.json, rows);
    let run = Run {
        args: &args,
        rows,
        rows_in_file: train.rows(),
        dims: train.dims(),
        queries: queries.len(),
        k,
        threads: pool.current_num_threads(),
    };
    report.filled(&run, &filled)?;

    let (truth, source) = match truth {
        Some(truth) => (truth, TruthSource::File),
        None => {
            let start = Instant::now();
            let truth = Truth::compute(&store, &queries, k, &pool)?;
            let time = start.elapsed();
            let file_unfit = args.truth.is_some();
            (truth, TruthSource::Computed { time, file_unfit })
        }
    };
    let copies = if filled.index.spill { 2 } else { 1 };
    let plan = SearchPlan {
        oversampling: args.oversampling,
        most: rows * filled.index.trees * copies,
        source,
    };
    // A pool of one thread, so that nothing a search calls spreads over more.
    let one_thread = ThreadPoolBuilder::new().num_threads(1).build()?;
    let searched = one_thread.install(|| search(&store, &queries, &truth, &plan, &mut report));
    searched.map_err(|error| error as Box<dyn Error>)
}

/// How to search.
struct SearchPlan {
    oversampling: Option<f32>,
    /// The largest budget: every copy of every item.
    most: usize,
    source: TruthSource,
}

fn search(
    store: &Store,
    queries: &Queries,
    truth: &Truth,
    plan: &SearchPlan,
    report: &mut Report,
) -> std::result::Result<(), Box<dyn Error + Send + Sync>> {
    let rtxn = store.env.read_txn()?;
    let session = Session {
        reader: &Reader::open(&rtxn, store.db, INDEX)?,
        queries,
        truth,
        oversampling: plan.oversampling,
    };
    session.warm_up(plan.most)?;
    let exact = session.measure_exact()?;
    report.exact(&exact, &plan.source)?;
    report.head(truth.k())?;
    for recall in RECALLS {
        report.point(&session.measure(Knob::Recall(recall))?)?;
    }
    let mut points = Vec::new();
    for search_k in budgets(truth.k(), plan.most) {
        let point = session.measure(Knob::SearchK(search_k))?;
        report.point(&point)?;
        points.push(point);
    }
    report.summary(&points, &exact)?;
    Ok(())
}

fn check(args: &Args, train: &VectorFile, queries: &Queries, rows: usize) -> Result<()> {
    if queries.dims() != train.dims() {
        let (train, test) = (train.dims(), queries.dims());
        return Err(format!(
            "expected test vectors of {train} dimensions like the train vectors, got {test}"
        )
        .into());
    }
    let k = args.k;
    if k > rows {
        return Err(
            format!("--k: expected at most the number of train vectors, {rows}, got {k}").into()
        );
    }
    if u32::try_from(rows).is_err() {
        return Err(format!(
            "expected at most {} train vectors, the number of ids, got {rows}",
            u32::MAX
        )
        .into());
    }
    if args.metric == Metric::Hamming {
        store::check_bits(queries.values(), queries.dims(), 0)
            .map_err(|error| format!("{}: {error}", args.test.display()))?;
    }
    Ok(())
}

/// The truth from its file; `None` without one, or where it does not fit because only a part of the
/// rows is inserted.
fn read_truth(
    args: &Args,
    train: &VectorFile,
    queries: &Queries,
    rows: usize,
) -> Result<Option<Truth>> {
    let Some(path) = args.truth.as_ref().filter(|_| rows == train.rows()) else {
        return Ok(None);
    };
    let expected = Expected {
        train_rows: rows,
        test_rows: queries.rows_in_file(),
        queries: queries.len(),
        k: args.k,
        metric: args.metric,
        is_rounded: args.is_rounded(),
    };
    Truth::read(path, &expected).map(Some)
}
