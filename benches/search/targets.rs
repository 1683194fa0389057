//! Whether searches find what they aim at, and at what cost.

use crate::Result;
use crate::args::Args;
use crate::measure::{Queries, Setting, measure as measure_one};
use crate::shared::store::Store;

/// How far the recall may be from the target.
const NEAR: f64 = 0.02;

/// Tables by the calibration of the build, on rows of the items' source and on all queries, and one by a calibration with
/// half of these on the other half.
pub fn measure(args: &Args, store: &Store, alike: Option<&Queries>, queries: &Queries) -> Result<()> {
    if let Some(alike) = alike {
        table(args, store, alike, "targets, calibrated by the build, rows of the same source that are no items")?;
    }
    table(args, store, queries, "targets, calibrated by the build, rows of another source")?;
    let (asked, is_calibrated) = calibrate_with_half(store, queries)?;
    let how = if is_calibrated { "calibrated with" } else { "which takes no calibration, without" };
    table(
        args,
        store,
        &asked,
        &format!("targets, {how} {} queries and measured on others", queries.len() - asked.len()),
    )
}

/// Calibrates the index with every second query; returns the others, and whether searches go by it.
pub fn calibrate_with_half(store: &Store, queries: &Queries) -> Result<(Queries, bool)> {
    let (known, asked) = queries.halves();
    let mut wtxn = store.env.write_txn()?;
    let is_calibrated = store.writer.calibrate(&mut wtxn, &known.values)?;
    wtxn.commit()?;
    Ok((asked, is_calibrated))
}

fn table(args: &Args, store: &Store, queries: &Queries, title: &str) -> Result<()> {
    println!("{title} ({} queries)", queries.len());
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
    let (mut missed, mut worst) = (0, 0.0f64);
    for k in args.ks() {
        for target in args.targets() {
            let found = measure_one(store, queries, Setting { k: *k, recall: *target }, 1)?;
            let off = found.recall - f64::from(*target);
            missed += usize::from(off.abs() > NEAR);
            worst = if off.abs() > worst.abs() { off } else { worst };
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
    }
    println!("{missed} off by more than {NEAR}; the farthest by {worst:+.4}");
    Ok(())
}
