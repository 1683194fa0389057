//! The tables, and what a recall costs between the points of a sweep.

use std::fmt::Write;

use super::child::{Answers, Batch, Built, Opened};

pub const TARGETS: [f64; 2] = [0.95, 0.99];

/// A store that was measured.
#[derive(Default)]
pub struct Store {
    pub name: String,
    pub built: Built,
    pub opened: Opened,
    pub points: Vec<Point>,
    /// `None` if it has no call for a batch, or none that works.
    pub batches: Option<Vec<Batch>>,
}

/// One pass over all queries with one setting of the knob.
#[derive(Clone, Copy)]
pub struct Pass {
    pub recall: f64,
    pub mean_us: f64,
    pub p99_us: f64,
}

impl From<Answers> for Pass {
    fn from(answers: Answers) -> Self {
        let (mean_us, p99_us) = (answers.mean_us(), answers.percentile_us(99));
        Self { recall: answers.recall, mean_us, p99_us }
    }
}

/// One setting of the knob, and the pass whose mean is the median.
#[derive(Clone)]
pub struct Point {
    pub knob: String,
    pub pass: Pass,
}

impl Store {
    /// The mean without what an empty call takes.
    pub fn net_us(&self, point: &Point) -> f64 {
        (point.pass.mean_us - self.opened.overhead_us).max(0.1)
    }

    /// The points with no other that finds as much in less time, as recall and time, from the
    /// lowest recall.
    pub fn front(&self, time: impl Fn(&Point) -> f64) -> Vec<(f64, f64)> {
        front(self.points.iter().map(|point| (point.pass.recall, time(point))).collect())
    }
}

/// The points that no other beats, from the lowest recall.
pub fn front(mut points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    points.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.total_cmp(&b.1)));
    let mut least = f64::INFINITY;
    points.retain(|point| {
        let is_faster = point.1 < least;
        least = least.min(point.1);
        is_faster
    });
    points.reverse();
    points
}

/// What a recall takes.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Cost {
    Never,
    /// The whole sweep finds more than that.
    AtMost(f64),
    About(f64),
}

impl Cost {
    fn time(self) -> Option<f64> {
        match self {
            Self::Never => None,
            Self::AtMost(time) | Self::About(time) => Some(time),
        }
    }

    fn text(self) -> String {
        match self {
            Self::Never => "not reached".to_owned(),
            Self::AtMost(time) => format!("<{time:.1}"),
            Self::About(time) => format!("{time:.1}"),
        }
    }

    fn ratio(self, reference: Option<f64>) -> String {
        let both = self.time().zip(reference);
        both.map_or("-".to_owned(), |(time, of)| format!("{:.2}", time / of))
    }
}

/// Where a front reaches a recall: linear in the logarithm of the time.
pub fn cost_at(front: &[(f64, f64)], recall: f64) -> Cost {
    let Some(above) = front.iter().position(|point| point.0 >= recall) else {
        return Cost::Never;
    };
    let upper = front[above];
    let Some(lower) = above.checked_sub(1).map(|below| front[below]) else {
        return Cost::AtMost(upper.1);
    };
    let share = (recall - lower.0) / (upper.0 - lower.0);
    Cost::About((lower.1.ln() + share * (upper.1.ln() - lower.1.ln())).exp())
}

/// Every point.
pub fn points(stores: &[Store], k: usize) {
    println!(
        "\n{:<14} {:>22} {:>9} {:>10} {:>10} {:>10}",
        "store",
        "knob",
        format!("recall@{k}"),
        "mean us",
        "less call",
        "p99 us"
    );
    for store in stores {
        for point in &store.points {
            let Pass { recall, mean_us, p99_us } = point.pass;
            println!(
                "{:<14} {:>22} {recall:>9.4} {mean_us:>10.1} {:>10.1} {p99_us:>10.1}",
                store.name,
                format!("{} {}", store.opened.knob_name, point.knob),
                store.net_us(point)
            );
        }
    }
    println!("\n\"less call\" is the mean less what an empty call takes (one item, k = 1), in us:");
    let calls =
        stores.iter().map(|store| format!("{} {:.1}", store.name, store.opened.overhead_us));
    println!("  {}", calls.collect::<Vec<_>>().join(", "));
}

/// What recalls cost, and what the stores take.
pub fn summary(stores: &[Store]) {
    let spinney = stores.iter().find(|store| store.name == "spinney");
    let cost = |store: &Store, recall| cost_at(&store.front(|point| store.net_us(point)), recall);
    let reference = TARGETS.map(|recall| spinney.and_then(|store| cost(store, recall).time()));
    print!("\n{:<14}", "");
    for recall in TARGETS {
        print!("|{:^33}", format!("us at recall {recall:.2}"));
    }
    println!("|{:^36}", "build s, MiB of memory and file");
    print!("{:<14}", "store");
    for _ in TARGETS {
        print!("|{:>12}{:>12}{:>9}", "mean", "less call", "ratio");
    }
    println!("|{:>9}{:>9}{:>9}{:>9}", "build", "at most", "held", "file");
    for store in stores {
        print!("{:<14}", store.name);
        for (recall, reference) in TARGETS.into_iter().zip(reference) {
            let raw = cost_at(&store.front(|point| point.pass.mean_us), recall);
            let net = cost(store, recall);
            print!("|{:>12}{:>12}{:>9}", raw.text(), net.text(), net.ratio(reference));
        }
        let Built { seconds, file_bytes, peak_bytes, .. } = &store.built;
        let known =
            |bytes: &Option<u64>| bytes.map_or("-".to_owned(), |bytes| mebibytes(bytes as f64));
        println!(
            "|{seconds:>9.1}{:>9}{:>9}{:>9}",
            known(peak_bytes),
            known(&store.opened.held_bytes),
            mebibytes(*file_bytes as f64)
        );
    }
    println!(
        "
Times are interpolated between the points that no other beats, linearly in recall and log(time). The ratio is to
spinney, both less the call. Memory is the process's own (RssAnon): by how much it grew during the build at most, and
in another process when it opened what was built. spinney, arroy, hannoy and annoy map their file, whose pages do not
count as their memory. The build of the first three includes the durable commit, that of the others no file."
    );
}

/// What recalls cost if all queries are asked in one call, on each of these numbers of threads.
pub fn batches(stores: &[Store], threads: &[usize]) -> String {
    let of = |store: &Store, threads| -> Option<Vec<Batch>> {
        let batches = store.batches.as_ref()?.iter();
        Some(batches.filter(|batch| batch.threads == threads).copied().collect())
    };
    let costs = |batches: &[Batch]| {
        let front = front(batches.iter().map(|batch| (batch.recall, batch.us)).collect());
        TARGETS.map(|recall| cost_at(&front, recall))
    };
    let mut text = String::new();
    for &threads in threads {
        let spinney = stores.iter().find(|store| store.name == "spinney");
        let reference = spinney.and_then(|store| of(store, threads)).map(|batches| costs(&batches));
        let _ = write!(text, "\n{:<14}", format!("threads: {threads}"));
        for recall in TARGETS {
            let _ = write!(text, "|{:>15}{:>9}", format!("us at {recall:.2}"), "ratio");
        }
        let _ = writeln!(text, "|{:>12}", "busy");
        for store in stores {
            let _ = write!(text, "{:<14}", store.name);
            let Some(batches) = of(store, threads) else {
                text.push_str("| no batch\n");
                continue;
            };
            for (number, cost) in costs(&batches).into_iter().enumerate() {
                let reference = reference.and_then(|costs| costs[number].time());
                let _ = write!(text, "|{:>15}{:>9}", cost.text(), cost.ratio(reference));
            }
            let busy = batches.iter().map(|batch| batch.busy);
            let (least, most) =
                (busy.clone().fold(f64::NAN, f64::min), busy.fold(f64::NAN, f64::max));
            let _ = writeln!(text, "|{:>12}", format!("{least:.2}-{most:.2}"));
        }
    }
    text + "
All queries in one call; us per query, the call included. \"busy\" is how many processors worked on average, by setting:
processor time by time.
"
}

fn mebibytes(bytes: f64) -> String {
    format!("{:.1}", bytes / 1_048_576.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_lie_between_the_points() {
        let front = [(0.90, 10.0), (0.96, 40.0), (0.98, 80.0)];
        assert_eq!(cost_at(&front, 0.90), Cost::AtMost(10.0));
        assert!(matches!(cost_at(&front, 0.93), Cost::About(time) if (time - 20.0).abs() < 1e-9));
        assert_eq!(cost_at(&front, 0.99), Cost::Never);
        assert_eq!(cost_at(&[], 0.5), Cost::Never);
    }

    #[test]
    fn a_batch_is_compared_with_that_of_as_many_threads() {
        let batch = |threads, recall, us, busy| Batch { threads, us, recall, busy };
        let store =
            |name: &str, batches| Store { name: name.to_owned(), batches, ..Store::default() };
        let stores = [
            store(
                "other",
                Some(vec![
                    batch(1, 0.90, 40.0, 1.0),
                    batch(1, 1.00, 160.0, 0.9),
                    batch(2, 0.96, 30.0, 1.9),
                ]),
            ),
            store(
                "spinney",
                Some(vec![
                    batch(2, 0.99, 20.0, 2.0),
                    batch(1, 0.94, 20.0, 1.0),
                    batch(1, 0.96, 80.0, 1.0),
                    batch(2, 0.95, 10.0, 1.8),
                ]),
            ),
            store("lone", None),
        ];
        let table = batches(&stores, &[1, 2]);
        let rows: Vec<Vec<&str>> = table
            .lines()
            .filter(|line| stores.iter().any(|store| line.starts_with(&store.name)))
            .map(|line| line.split('|').flat_map(|cell| cell.split("  ")).map(str::trim))
            .map(|words| words.filter(|word| !word.is_empty()).collect())
            .collect();
        assert_eq!(
            rows,
            [
                vec!["other", "80.0", "2.00", "139.3", "-", "0.90-1.00"],
                vec!["spinney", "40.0", "1.00", "not reached", "-", "1.00-1.00"],
                vec!["lone", "no batch"],
                vec!["other", "<30.0", "3.00", "not reached", "-", "1.90-1.90"],
                vec!["spinney", "<10.0", "1.00", "20.0", "1.00", "1.80-2.00"],
                vec!["lone", "no batch"],
            ],
            "{table}"
        );
    }
}
