//! What a recall costs in spinney and in other stores and libraries, on the same work in the same
//! run.
//!
//! ```text
//! # usearch, hnswlib, FAISS and Annoy; what is missing is left out
//! pip install -r benches/peers/requirements.txt
//! cargo run --release --manifest-path benches/peers/Cargo.toml --bin search -- \
//!     --data DIR --set sift [OPTIONS]
//! cargo run --release --manifest-path benches/peers/Cargo.toml --bin search -- --help
//! ```
//!
//! Each store is a process of its own, so that its memory is its own: this program again for those
//! that it links, and `libraries.py` for Python's. They build one after the other, with all
//! threads, and new processes open what was built. Then they are asked in turn, one setting of the knob after the other. That is one query
//! at a time on one thread. After a pass to warm up come three, of which the one whose mean is the
//! median counts. Each begins with up to a second of searches for items. So the index is in the
//! caches as it is after other searches than those that are timed. spinney opens a reader for each,
//! which has not seen the queries. Its process has, and knows the pages of what it found, as of
//! most items by then. An item is right if it is as near as the k-th of the exact answer.
//!
//! With `--batch-threads` each is then asked all queries in one call, if it has such a call, with
//! the settings of its sweep. After a call to warm up come calls for a second, three at least.

use std::path::Path;
use std::process::ExitCode;

use bench_kit::clap::Parser;
use spinney_peers::Result;
use spinney_peers::input::{self, Input};
use spinney_peers::search::args::Args;
use spinney_peers::search::child::{Batch, Built, Child, Opened, SERVE, Workshop};
use spinney_peers::search::report::{self, Pass, Point, Store};
use spinney_peers::search::serve::Opening;
use spinney_peers::search::{plot, serve};

/// A sweep ends at a setting with this recall ...
const ENOUGH: f64 = 0.999;
/// ... or this time.
const TOO_SLOW_US: f64 = 20_000.0;

/// A store that is being measured.
struct Running {
    name: String,
    child: Child,
    built: Built,
    opened: Opened,
    /// Settings, and their passes so far.
    knobs: Vec<(String, Vec<Pass>)>,
    /// `None` if it has no call for a batch, or none that works.
    batches: Option<Vec<Batch>>,
}

fn main() -> ExitCode {
    bench_kit::exit(run())
}

fn run() -> Result<()> {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if_eq(SERVE).is_some() {
        return serve::serve(words);
    }
    let args = Args::parse();
    let temp = args.temp.folder()?;
    let input = input::prepare(&args.set, args.k, args.learn, temp.path())?;
    let title = format!(
        "{}: {} of {} items, {} dimensions, {}; {} queries, k = {}",
        args.set.set,
        input.items.len(),
        input.items_in_file,
        input.items.dims,
        input.items.metric,
        input.queries.len(),
        args.k
    );
    println!(
        "{title}; exact answers {}",
        if input.is_computed { "computed" } else { "from the file" }
    );
    let mut running = build(&args, &input, temp.path());
    warm_up(&mut running, &input);
    measure(&mut running, &input, args.passes);
    measure_batches(&mut running, &input, &args.batch_threads);
    let stores: Vec<Store> = running.into_iter().map(finish).collect();
    report::points(&stores, args.k);
    report::summary(&stores);
    if !args.batch_threads.is_empty() {
        print!("{}", report::batches(&stores, &args.batch_threads));
    }
    if let Some(path) = &args.svg {
        std::fs::write(
            path,
            plot::draw(&stores, &format!("{title}; mean time on one thread, less the call")),
        )?;
    }
    Ok(())
}

/// Builds every store and opens what was built. One that cannot be had is left out.
fn build(args: &Args, input: &Input, folder: &Path) -> Vec<Running> {
    let workshop = Workshop { python: &args.python, folder, input };
    let start = |name: &str| -> Result<Running> {
        let built = workshop.build(name)?;
        let mut child = workshop.start(name)?;
        let opened = child.open(Opening::Load)?;
        let knobs = opened.knobs.iter().map(|knob| (knob.clone(), Vec::new())).collect();
        let (name, batches) = (name.to_owned(), Some(Vec::new()));
        Ok(Running { name, child, built, opened, knobs, batches })
    };
    let mut running = Vec::new();
    for name in args.stores() {
        match start(name) {
            Err(error) => println!("  {name:<14} LEFT OUT: {error}"),
            Ok(store) => {
                let Built { seconds, params, .. } = &store.built;
                println!("  {name:<14} built in {seconds:.1} s: {params}");
                running.push(store);
            }
        }
    }
    running
}

/// One pass over all queries.
fn pass(child: &mut Child, input: &Input, knob: &str) -> Result<Pass> {
    child.warm_up(knob)?;
    child.ask(input, knob, 0, input.queries.len(), f64::INFINITY).map(Pass::from)
}

/// One pass with every setting, up to the first of each sweep that is enough or too slow; those
/// beyond are left out.
fn warm_up(running: &mut Vec<Running>, input: &Input) {
    running.retain_mut(|store| {
        let (mut kept, mut ended) = (Vec::new(), Vec::new());
        for (knob, passes) in std::mem::take(&mut store.knobs) {
            // Of a knob that is two, as in 16/4, the second stays the same throughout a sweep.
            let sweep = knob.split_once('/').map(|(_, second)| second.to_owned());
            if ended.contains(&sweep) {
                continue;
            }
            match pass(&mut store.child, input, &knob) {
                Err(error) => {
                    println!("  {:<14} LEFT OUT: {error}", store.name);
                    return false;
                }
                Ok(pass)
                    if knob != "default"
                        && (pass.recall >= ENOUGH || pass.mean_us > TOO_SLOW_US) =>
                {
                    ended.push(sweep);
                }
                Ok(_) => {}
            }
            kept.push((knob, passes));
        }
        store.knobs = kept;
        true
    });
}

/// The passes that count: each store in turn with its first setting, then each with its second ...
fn measure(running: &mut Vec<Running>, input: &Input, passes: usize) {
    for _ in 0..passes {
        let most = running.iter().map(|store| store.knobs.len()).max().unwrap_or(0);
        for number in 0..most {
            running.retain_mut(|store| {
                let Some((knob, passes)) = store.knobs.get_mut(number) else {
                    return true;
                };
                match pass(&mut store.child, input, knob) {
                    Ok(pass) => passes.push(pass),
                    Err(error) => {
                        println!("  {:<14} LEFT OUT: {error}", store.name);
                        return false;
                    }
                }
                true
            });
        }
    }
}

/// All queries in one call, with one number of threads after the other: each store in turn with
/// its first setting, then each with its second ...
fn measure_batches(running: &mut [Running], input: &Input, threads: &[usize]) {
    let most = running.iter().map(|store| store.knobs.len()).max().unwrap_or(0);
    for &threads in threads {
        for number in 0..most {
            running.iter_mut().for_each(|store| store.batch(input, number, threads));
        }
    }
}

impl Running {
    /// All queries in one call, if it has such a call and a setting of this number.
    fn batch(&mut self, input: &Input, number: usize, threads: usize) {
        let (Some(batches), Some((knob, _))) = (&mut self.batches, self.knobs.get(number)) else {
            return;
        };
        match self.child.batch(input, knob, threads) {
            Ok(batch) => batches.push(batch),
            Err(error) => {
                println!("  {:<14} NO BATCH: {error}", self.name);
                self.batches = None;
            }
        }
    }
}

fn finish(store: Running) -> Store {
    let median = |(knob, mut passes): (String, Vec<Pass>)| {
        passes.sort_by(|a, b| a.mean_us.total_cmp(&b.mean_us));
        Point { knob, pass: passes[passes.len() / 2] }
    };
    Store {
        name: store.name,
        built: store.built,
        opened: store.opened,
        points: store.knobs.into_iter().map(median).collect(),
        batches: store.batches,
    }
}
