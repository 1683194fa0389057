//! Searches of spinney and of other stores and libraries in less memory than their file takes.
//!
//! ```text
//! # usearch, FAISS and Annoy; what is missing is left out
//! pip install -r benches/peers/requirements.txt
//! cargo run --release --manifest-path benches/peers/Cargo.toml --bin larger -- \
//!     --data DIR --set minilm [OPTIONS]
//! cargo run --release --manifest-path benches/peers/Cargo.toml --bin larger -- --help
//! ```
//!
//! Each store builds once. In memory that suffices, the setting of its knob is chosen that has the
//! recall wanted. Then each searches in a control group whose memory is a share of the store's own
//! file or files. What a process holds when it enters the group does not count: the interpreter,
//! the library and the queries. What counts is what it takes to open the store and to search: the
//! pages of the file that it reads, and its own memory. Nothing of the file is cached before.
//!
//! Cold are the openings and first searches of new processes, each with a query of its own. Steady
//! is the second half of the queries, after the first, one after the other on one thread. Where the
//! system lets no group be made, the program says so and does nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use bench_kit::clap::Parser;
use spinney_peers::Result;
use spinney_peers::input;
use spinney_peers::larger::args::{Args, Row};
use spinney_peers::larger::group::Group;
use spinney_peers::larger::measure::{Case, Searches, cold, steady};
use spinney_peers::larger::setting::{self, Setting};
use spinney_peers::search::child::{SERVE, Workshop};
use spinney_peers::search::serve::{self, Opening};

const MEBIBYTE: u64 = 1 << 20;

/// A store that can be measured.
struct Ready {
    file_bytes: u64,
    setting: Setting,
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
    if let Err(error) = Group::new(MEBIBYTE) {
        println!("SKIPPED: the memory of a process cannot be limited here: {error}");
        return Ok(());
    }
    let temp = args.temp.folder()?;
    let set = &args.set;
    let rows = set.set.open(&set.data, "train")?.rows();
    let name = format!("{}-{}", set.set, set.items.map_or(rows, |items| items.min(rows)));
    let folder = args.keep.as_deref().unwrap_or(temp.path()).join(name);
    fs::create_dir_all(&folder)?;
    let input = input::prepare(set, args.k, 0, &folder)?;
    println!(
        "{}: {} of {} items, {} dimensions, {}; {} queries, k = {}\n",
        set.set,
        input.items.len(),
        input.items_in_file,
        input.items.dims,
        input.items.metric,
        input.queries.len(),
        args.k
    );
    let workshop = Workshop { python: &args.python, folder: &folder, input: &input };
    let ready = prepare(&args, &workshop);
    measure(&args, &workshop, &ready);
    Ok(())
}

/// Builds what is not built yet, and chooses settings. A store that cannot be had is left out.
fn prepare<'a>(args: &'a Args, workshop: &Workshop<'_>) -> BTreeMap<&'a str, Ready> {
    println!(
        "{:<13} {:>9} {:>22} {:>10} {:>9} {:>9}  built",
        "store", "file, MiB", "setting", "recall", "p50 ms", "p99 ms"
    );
    let mut ready = BTreeMap::new();
    for Row { store, .. } in &args.stores {
        if ready.contains_key(store) {
            continue;
        }
        match prepare_one(args, workshop, store) {
            Ok(one) => drop(ready.insert(*store, one)),
            Err(error) => println!("{store:<13} LEFT OUT: {error}"),
        }
    }
    println!("\nRecall and times with a knob's setting are those in memory that suffices.\n");
    ready
}

fn prepare_one(args: &Args, workshop: &Workshop<'_>, store: &str) -> Result<Ready> {
    let said = build(workshop, store)?;
    let file_bytes = workshop.files(store)?.iter().map(|file| file.1).sum();
    let mut child = workshop.start(store)?;
    let opened = child.open(Opening::Map)?;
    let setting =
        setting::find(&mut child, workshop.input, &opened, args.recall, args.seconds.into())?;
    println!(
        "{store:<13} {:>9.1} {:>22} {:>10.4} {:>9.3} {:>9.3}  {said}",
        file_bytes as f64 / MEBIBYTE as f64,
        format!("{} {}", opened.knob_name, setting.knob),
        setting.answers.recall,
        setting.answers.percentile_us(50) / 1e3,
        setting.answers.percentile_us(99) / 1e3,
    );
    Ok(Ready { file_bytes, setting })
}

/// What is said of a build, of this run or of one before. A build that was cut short begins anew.
fn build(workshop: &Workshop<'_>, store: &str) -> Result<String> {
    let mark = workshop.folder.join(format!("{store}.built"));
    if let Ok(said) = fs::read_to_string(&mark) {
        return Ok(said);
    }
    remove(&workshop.folder.join(store))?;
    let built = workshop.build(store)?;
    let said = format!("in {:.1} s: {}", built.seconds, built.params);
    fs::write(&mark, &said)?;
    Ok(said)
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    Ok(())
}

/// Measures each store in each share of its file, and says what came of it at once.
fn measure(args: &Args, workshop: &Workshop<'_>, ready: &BTreeMap<&str, Ready>) {
    println!(
        "{:<24} {:>5} {:>7} {:<6} {:>8} {:>9} {:>9} {:>9} {:>8} {:>10} {:>9}",
        "store",
        "%",
        "MiB",
        "",
        "searches",
        "open ms",
        "p50 ms",
        "p99 ms",
        "faults",
        "KiB",
        "recall"
    );
    for percent in &args.percents {
        for row in &args.stores {
            let Some(Ready { file_bytes, setting }) = ready.get(row.store) else { continue };
            let case = Case {
                store: row.store,
                opening: row.opening,
                knob: &setting.knob,
                bytes: file_bytes * percent / 100,
                seconds: args.seconds.into(),
            };
            tell(row, *percent, &case, "cold", cold(workshop, &case, args.processes));
            tell(row, *percent, &case, "steady", steady(workshop, &case));
        }
    }
    println!(
        "
The memory is a share of the store's own file. Faults are those that wait for the disk (major); they and the KiB read
from it are means of a search, and include the opening where it is cold. Cold: opening and first search of a new
process; the opening is the median, p99 the slowest where there are fewer than 100. No page of the file is cached before.
A process ends by SIGKILL where its own memory alone is more than it may have."
    );
}

fn tell(row: &Row, percent: u64, case: &Case<'_>, phase: &str, searches: Result<Searches>) {
    let megabytes = case.bytes as f64 / MEBIBYTE as f64;
    let head = format!("{:<24} {percent:>5} {megabytes:>7.1} {phase:<6}", row.name);
    let Searches { open_ms, answers, faults, kibibytes } = match searches {
        Ok(searches) => searches,
        Err(error) => return println!("{head} LEFT OUT: {error}"),
    };
    let opening = open_ms.get(open_ms.len() / 2).map_or("-".to_owned(), |ms| format!("{ms:.1}"));
    println!(
        "{head} {:>8} {opening:>9} {:>9.3} {:>9.2} {faults:>8.1} {kibibytes:>10.0} {:>9.4}",
        answers.us.len(),
        answers.percentile_us(50) / 1e3,
        answers.percentile_us(99) / 1e3,
        answers.recall
    );
}
