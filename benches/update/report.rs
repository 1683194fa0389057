//! The table, and the criteria.

use bench_kit::changes::Kind;
use spinney::{BuildMethod, BuildStats};

use crate::store::Sample;

/// One insert into the largest index may take this many times what it takes into the smallest one.
const MAX_GROWTH: f64 = 1.5;
/// KiB that one insert may write for each tree.
const MAX_KIB: f64 = 100.0;
/// Milliseconds of the processor for one insert.
const MAX_CPU_MS: f64 = 2.0;
/// Milliseconds for each of a thousand inserts in one transaction.
const MAX_MS_OF_1000: f64 = 0.3;

/// The median and the mean of one figure over the transactions of a cell.
#[derive(Copy, Clone, Debug)]
struct Spread {
    median: f64,
    mean: f64,
}

impl Spread {
    /// Nothing if a figure is missing.
    fn new(figures: impl Iterator<Item = Option<f64>>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.collect::<Option<_>>()?;
        figures.sort_unstable_by(f64::total_cmp);
        let (len, middle) = (figures.len(), figures.len() / 2);
        let upper = *figures.get(middle)?;
        let median = if len % 2 == 1 { upper } else { (figures[middle - 1] + upper) / 2.0 };
        Some(Self { median, mean: figures.iter().sum::<f64>() / len as f64 })
    }

    fn scaled(self, factor: f64) -> Self {
        Self { median: self.median * factor, mean: self.mean * factor }
    }
}

/// Transactions of one kind and count on an index of one set and size.
pub struct Cell {
    set: String,
    items: u32,
    kind: Kind,
    count: usize,
    repeats: usize,
    trees: usize,
    call_ms: Option<Spread>,
    cpu_ms: Option<Spread>,
    commit_ms: Option<Spread>,
    commit_cpu_ms: Option<Spread>,
    written_kib: Option<Spread>,
    value_kib: Option<Spread>,
    leaves: f64,
    branches: f64,
    split: f64,
    merged: f64,
    rehomed: f64,
    method: String,
}

impl Cell {
    pub fn new(set: &str, items: u32, kind: Kind, count: usize, samples: &[Sample]) -> Self {
        let ms = |seconds: f64| 1e3 * seconds;
        let kib = |bytes: u64| bytes as f64 / 1024.0;
        let spread = |of: &dyn Fn(&Sample) -> Option<f64>| Spread::new(samples.iter().map(of));
        let mean = |of: &dyn Fn(&BuildStats) -> u64| {
            spread(&|sample| Some(of(&sample.built) as f64)).map_or(0.0, |spread| spread.mean)
        };
        let bulk = samples.iter().filter(|sample| sample.built.method == BuildMethod::Bulk).count();
        Self {
            set: set.to_owned(),
            items,
            kind,
            count,
            repeats: samples.len(),
            trees: samples.last().map_or(1, |sample| sample.built.trees),
            call_ms: spread(&|sample| Some(ms(sample.call.wall))),
            cpu_ms: spread(&|sample| sample.call.cpu.map(ms)),
            commit_ms: spread(&|sample| Some(ms(sample.commit.wall))),
            commit_cpu_ms: spread(&|sample| sample.commit.cpu.map(ms)),
            written_kib: spread(&|sample| sample.written.map(kib)),
            value_kib: spread(&|sample| Some(kib(sample.built.bytes_written))),
            leaves: mean(&|built| built.leaves),
            branches: mean(&|built| built.branches),
            split: mean(&|built| built.leaves_split),
            merged: mean(&|built| built.leaves_merged),
            rehomed: mean(&|built| built.items_reassigned),
            method: if bulk == 0 { "incremental".to_owned() } else { format!("{bulk} x bulk") },
        }
    }

    pub fn print(&self) {
        let [call, cpu, commit, written, values] =
            [self.call_ms, self.cpu_ms, self.commit_ms, self.written_kib, self.value_kib].map(pair);
        let each = self.call_ms.map_or(f64::NAN, |call| call.mean / self.count as f64);
        println!(
            "{:>9} {:>6} {:>4} {call} {each:>7.3} {cpu} {commit} {written} {values} {:>7.1} {:>6.1} {:>6.2} {:>6.2} {:>7.1}  {}",
            self.kind,
            self.count,
            self.repeats,
            self.leaves,
            self.branches,
            self.split,
            self.merged,
            self.rehomed,
            self.method
        );
    }
}

/// A median and a mean, as columns of the table.
fn pair(spread: Option<Spread>) -> String {
    match spread {
        None => format!("{:>17}", "unknown"),
        Some(Spread { median, mean }) => format!("{median:>8.2} {mean:>8.2}"),
    }
}

/// The titles of the columns.
pub fn head() {
    println!(
        "{:>9} {:>6} {:>4} {:>17} {:>7} {:>17} {:>17} {:>17} {:>17} {:>7} {:>6} {:>6} {:>6} {:>7}  method",
        "each in",
        "",
        "",
        "calls + build ms",
        "ms per",
        "cpu ms of these",
        "commit ms",
        "KiB written",
        "KiB of values",
        "leaves",
        "branch",
        "leaves",
        "leaves",
        "items"
    );
    println!(
        "{:>9} {:>6} {:>4} {m} {:>7} {m} {m} {m} {m} {:>7} {:>6} {:>6} {:>6} {:>7}",
        "one txn",
        "count",
        "txns",
        "change",
        "written",
        "writ.",
        "split",
        "merged",
        "rehomed",
        m = "  median     mean"
    );
}

/// What is demanded of an incremental build, with the figures.
pub fn criteria(cells: &[Cell]) {
    println!("criteria (by the median and by the mean of the transactions)");
    let of =
        |kind, count| cells.iter().filter(move |cell| cell.kind == kind && cell.count == count);
    for cell in of(Kind::Insert, 1) {
        let Some(first) = of(Kind::Insert, 1).find(|first| first.set == cell.set) else { continue };
        if first.items < cell.items {
            let what = |time: &str| {
                format!("{time} of one insert, {} to {} items", first.items, cell.items)
            };
            line(&cell.set, &what("time"), ratio(cell.call_ms, first.call_ms), "times", MAX_GROWTH);
            // The same without the time that the processor spent on other processes, or nobody.
            line(
                &cell.set,
                &what("processor"),
                ratio(cell.cpu_ms, first.cpu_ms),
                "times",
                MAX_GROWTH,
            );
        }
    }
    for cell in of(Kind::Insert, 1) {
        let per_tree = 1.0 / cell.trees.max(1) as f64;
        let what = |rest: &str| format!("{}: one insert, {rest}", cell.items);
        let written = cell.written_kib.map(|written| written.scaled(per_tree));
        line(&cell.set, &what("all that is written, per tree"), written, "KiB", MAX_KIB);
        let values = cell.value_kib.map(|values| values.scaled(per_tree));
        line(&cell.set, &what("values of the forest alone, per tree"), values, "KiB", MAX_KIB);
        line(&cell.set, &what("processor, calls and build"), cell.cpu_ms, "ms", MAX_CPU_MS);
        let both = cell.cpu_ms.zip(cell.commit_cpu_ms);
        let both = both.map(|(a, b)| Spread { median: a.median + b.median, mean: a.mean + b.mean });
        line(&cell.set, &what("processor, with the commit"), both, "ms", MAX_CPU_MS);
    }
    for cell in of(Kind::Insert, 1_000) {
        let each = cell.call_ms.map(|call| call.scaled(1e-3));
        line(
            &cell.set,
            &format!("{}: each of 1,000 inserts", cell.items),
            each,
            "ms",
            MAX_MS_OF_1000,
        );
    }
}

fn ratio(of: Option<Spread>, to: Option<Spread>) -> Option<Spread> {
    of.zip(to).map(|(of, to)| Spread { median: of.median / to.median, mean: of.mean / to.mean })
}

fn line(set: &str, what: &str, found: Option<Spread>, unit: &str, most: f64) {
    let Some(Spread { median, mean }) = found else {
        println!("{set:>8} {what:<58} unknown on this system");
        return;
    };
    let verdict = |figure: f64| if figure <= most { "OK" } else { "MISSED" };
    println!(
        "{set:>8} {what:<58} {median:>8.3} {:<6} {mean:>8.3} {:<6} at most {most} {unit}",
        verdict(median),
        verdict(mean)
    );
}
