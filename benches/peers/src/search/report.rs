//! The tables, and what a recall costs between the points of a sweep.

use super::child::{Answers, Built, Opened};

pub const TARGETS: [f64; 2] = [0.95, 0.99];

/// A store that was measured.
pub struct Store {
    pub name: String,
    pub built: Built,
    pub opened: Opened,
    pub points: Vec<Point>,
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
            Self::Never => "-".to_owned(),
            Self::AtMost(time) => format!("<{time:.1}"),
            Self::About(time) => format!("{time:.1}"),
        }
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
        print!("|{:^30}", format!("us at recall {recall:.2}"));
    }
    println!("|{:^36}", "build s, MiB of memory and file");
    print!("{:<14}", "store");
    for _ in TARGETS {
        print!("|{:>10}{:>11}{:>9}", "mean", "less call", "ratio");
    }
    println!("|{:>9}{:>9}{:>9}{:>9}", "build", "at most", "held", "file");
    for store in stores {
        print!("{:<14}", store.name);
        for (recall, reference) in TARGETS.into_iter().zip(reference) {
            let raw = cost_at(&store.front(|point| point.pass.mean_us), recall);
            let net = cost(store, recall);
            let ratio = net
                .time()
                .zip(reference)
                .map_or("-".to_owned(), |(net, of)| format!("{:.2}", net / of));
            print!("|{:>10}{:>11}{ratio:>9}", raw.text(), net.text());
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
}
