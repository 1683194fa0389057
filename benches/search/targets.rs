//! Whether searches find what they aim at, and at what cost.

use bench_kit::Result;
use bench_kit::store::Store;

use crate::args::Args;
use crate::measure::{Measured, Queries, Setting, measure as measure_one};

/// How far the recall may be from the target.
const NEAR: f64 = 0.02;

/// What each pair of k and target came to.
type Cells = Vec<(Setting, Measured)>;

/// Tables by the calibration of the build, on rows of the items' source and on all queries. One
/// more by calibrations with half of these, on the other half.
pub fn measure(
    args: &Args,
    store: &Store,
    alike: Option<&Queries>,
    queries: &Queries,
) -> Result<()> {
    if let Some(alike) = alike {
        let title = "targets, calibrated by the build, rows of the same source that are no items";
        print(title, alike.len(), &sweep(args, store, alike)?);
    }
    print(
        "targets, calibrated by the build, rows of another source",
        queries.len(),
        &sweep(args, store, queries)?,
    );
    let mut halves = Vec::new();
    let mut how = "by each half of the queries after a calibration with the other";
    for known in 0..2 {
        let (asked, is_calibrated) = calibrate_with_half(store, queries, known)?;
        halves.push(sweep(args, store, &asked)?);
        how = if is_calibrated { how } else { "which takes no calibration" };
    }
    print(&format!("targets, {how}"), queries.len(), &mean(&halves));
    // What one is short of and the other has too much does not show in their mean.
    for (cells, which) in halves.iter().zip(["second", "first"]) {
        let (missed, worst) = misses(cells);
        println!(
            "the {which} half alone: {missed} off by more than {NEAR}; the farthest by {worst:+.4}"
        );
    }
    Ok(())
}

/// Calibrates the index with every second query, from the first or the second on; returns the
/// others, and whether searches go by it.
pub fn calibrate_with_half(
    store: &Store,
    queries: &Queries,
    known: usize,
) -> Result<(Queries, bool)> {
    let (known, asked) = (queries.half(known), queries.half(1 - known));
    let mut wtxn = store.env.write_txn()?;
    let is_calibrated = store.writer.calibrate(&mut wtxn, &known.values)?;
    wtxn.commit()?;
    Ok((asked, is_calibrated))
}

fn sweep(args: &Args, store: &Store, queries: &Queries) -> Result<Cells> {
    let settings = args
        .ks()
        .iter()
        .flat_map(|k| args.targets().iter().map(|recall| Setting { k: *k, recall: *recall }));
    settings.map(|setting| Ok((setting, measure_one(store, queries, setting, 1)?))).collect()
}

/// The means of several sweeps over as many queries each.
fn mean(sweeps: &[Cells]) -> Cells {
    let Some(first) = sweeps.first() else { return Vec::new() };
    let of = |i: usize| {
        Measured::mean(sweeps.iter().filter_map(|cells| cells.get(i)).map(|(_, measured)| measured))
    };
    first.iter().enumerate().map(|(i, (setting, _))| (*setting, of(i))).collect()
}

fn print(title: &str, queries: usize, cells: &Cells) {
    println!("{title} ({queries} queries)");
    println!(
        "{:>5} {:>6} {:>7} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8}",
        "k",
        "target",
        "recall",
        "off by",
        "mean us",
        "p50 us",
        "p99 us",
        "sketches",
        "reranked",
        "KiB",
        "prepare",
        "scan",
        "compare"
    );
    for cell @ (Setting { k, recall: target }, found) in cells {
        let off = off(cell);
        let [prepare, scan, compare] = found.phases_us;
        println!(
            "{k:>5} {target:>6} {:>7.4} {off:>+7.4} {:>9.1} {:>9.1} {:>9.1} {:>9.0} {:>9.1} {:>8.1} {prepare:>8.1} \
             {scan:>8.1} {compare:>8.1}",
            found.recall,
            found.mean_us,
            found.p50_us,
            found.p99_us,
            found.sketches,
            found.reranked,
            found.bytes / 1024.0
        );
    }
    let (missed, worst) = misses(cells);
    println!("{missed} off by more than {NEAR}; the farthest by {worst:+.4}");
}

/// By how much the recall is above the target.
fn off((setting, found): &(Setting, Measured)) -> f64 {
    found.recall - f64::from(setting.recall)
}

/// How many are off by too much, and the farthest.
fn misses(cells: &Cells) -> (usize, f64) {
    let missed = cells.iter().filter(|cell| off(cell).abs() > NEAR).count();
    (missed, cells.iter().map(off).max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or_default())
}
