//! What filters cost in spinney, beside arroy and hannoy, and whether any is a cliff.
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml --bin filters -- \
//!     --data DIR --set sift [OPTIONS]
//! cargo run --release --manifest-path benches/peers/Cargo.toml --bin filters -- --help
//! ```
//!
//! Each query has filters of its own: random ones, the nearest items to its fifth neighbour
//! (correlated), and the farthest from itself (anti). A cell is a kind of filter, the part of the
//! items it admits, and k. In each, spinney is asked at its default target, for an exact scan of
//! what the filter admits, and without the filter. arroy and hannoy are asked at their defaults.
//! Then they are asked with values of their knobs until they find as much as spinney. The values
//! for spinney's recall are interpolated. One query at a time on one thread. Of three passes of
//! spinney the one whose mean is the median counts; the others make one pass. An item is right if
//! it is as near as the k-th of the exact answer.
//!
//! Three criteria, each with a letter where it is missed: recall is at least 0.94 (R); the time is
//! at most 1.3 times the lesser of the exact scan's and eight times the query's without filter (T);
//! no peer finds as much in less time (P).

use std::process::ExitCode;
use std::time::Instant;

use bench_kit::clap::Parser;
use spinney::{Hits, Reader, SearchPlan, SearchStats};
use spinney_peers::Result;
use spinney_peers::filters::args::{Args, Kind};
use spinney_peers::filters::cases::{self, Case, Filtered};
use spinney_peers::filters::stores::{self, Peer};
use spinney_peers::input::{self, Rows};
use spinney_peers::search::report::{self, Cost, cost_at};

const MIN_RECALL: f64 = 0.94;
/// Times the lesser of the exact scan's time and so many queries without a filter.
const MAX_TIME_RATIO: f64 = 1.3;
const UNFILTERED: f64 = 8.0;
/// Answers of a peer that come before the clock starts.
const WARM_UP: usize = 10;
/// A peer is not asked for more when it takes so many times as long as spinney.
const TOO_SLOW: f64 = 3.0;

/// What is measured.
struct World {
    args: Args,
    queries: Rows,
    cases: Vec<Case>,
    spinney: Reader<'static>,
    peers: Vec<(String, Box<dyn Peer>)>,
}

/// What one row of the table is about.
struct Setting {
    kind: Kind,
    percent: f64,
    k: usize,
}

/// What spinney did at its default target.
struct Own {
    recall: f64,
    us: f64,
    /// Of all queries.
    did: SearchStats,
    /// How many took each plan: forest, exact, both.
    plans: [usize; 3],
}

fn main() -> ExitCode {
    bench_kit::exit(run())
}

fn run() -> Result<()> {
    let mut args = Args::parse();
    args.set.items.get_or_insert(100_000);
    args.set.queries.get_or_insert(100);
    let set = args.set.set;
    let (items, queries, in_file) = input::read_set(&args.set)?;
    println!(
        "{}: {} of {in_file} items, {} dimensions, {}; {} queries",
        set,
        items.len(),
        items.dims,
        items.metric,
        queries.len()
    );
    let temp = tempfile::tempdir()?;
    let folder = args.keep.as_deref().unwrap_or(temp.path());
    let place = |name: &str| folder.join(format!("{set}-{}-{name}", items.len()));
    let spinney = stores::spinney(&place("spinney"), &items)?;
    let mut peers = Vec::new();
    for name in args.stores.iter().filter(|name| *name != "spinney") {
        peers.push((name.clone(), stores::peer(name, &place(name), &items)?));
    }
    let cases = cases::cases(&items, &queries)?;
    drop(items);
    let world = World { args, queries, cases, spinney, peers };
    world.measure()
}

impl World {
    fn measure(&self) -> Result<()> {
        let mut plain = Vec::new();
        for k in &self.args.ks {
            plain.push(self.unfiltered(*k)?);
            println!("without a filter, k = {k}: {:.1} us", plain.last().copied().unwrap_or(0.0));
        }
        self.head();
        let (mut cells, mut missed) = (0, [0; 3]);
        for kind in &self.args.kinds {
            for percent in &self.args.percents {
                let filtered: Vec<Filtered> = (self.cases.iter().enumerate())
                    .map(|(number, case)| {
                        case.filtered(number, *kind, *percent, self.args.most_neighbours())
                    })
                    .collect();
                for (k, plain) in self.args.ks.iter().zip(&plain) {
                    let setting = Setting { kind: *kind, percent: *percent, k: *k };
                    let verdict = self.cell(setting, &filtered, *plain)?;
                    cells += 1;
                    missed
                        .iter_mut()
                        .zip(verdict)
                        .for_each(|(missed, is_missed)| *missed += usize::from(is_missed));
                }
            }
        }
        let [recall, time, peers] = missed;
        println!("\n{cells} cells; missed: recall {recall}, time {time}, peers {peers}");
        Ok(())
    }

    fn head(&self) {
        print!(
            "\n{:<10} {:>5} {:>3} | {:>6} {:>8} {:<11} {:>6} {:>6} | {:>8} {:>8} {:>5}",
            "filter",
            "%",
            "k",
            "recall",
            "us",
            "plan",
            "sketch",
            "vector",
            "exact",
            "8 plain",
            "ratio"
        );
        for (name, _) in &self.peers {
            print!(" | {:>6} {:>9} {:>9}", "recall", name, "at equal");
        }
        println!(" | missed");
    }

    /// One row of the table. Returns which criteria are missed.
    fn cell(
        &self,
        Setting { kind, percent, k }: Setting,
        filtered: &[Filtered],
        plain: f64,
    ) -> Result<[bool; 3]> {
        let exact = self.exact(k, filtered)?;
        let own = self.own(k, filtered)?;
        let ratio = own.us / exact.min(UNFILTERED * plain);
        let each = |sum: u64| sum as f64 / self.cases.len() as f64;
        print!(
            "{:<10} {percent:>5} {k:>3} | {:>6.4} {:>8.1} {:<11} {:>6.0} {:>6.0} | {exact:>8.1} {:>8.1} {ratio:>5.2}",
            kind.name(),
            own.recall,
            own.us,
            plan_text(own.plans),
            each(own.did.sketches),
            each(own.did.reranked + own.did.scanned_exactly),
            UNFILTERED * plain,
        );
        let mut is_beaten = false;
        for (_, peer) in &self.peers {
            let (recall, us, cost) = self.peer(&**peer, k, filtered, &own)?;
            let (text, least) = match cost {
                Cost::Never => ("-".to_owned(), f64::INFINITY),
                Cost::AtMost(us) => (format!("<{us:.1}"), us),
                Cost::About(us) => (format!("{us:.1}"), us),
            };
            print!(" | {recall:>6.4} {us:>9.1} {text:>9}");
            is_beaten |= own.us > least;
        }
        let verdict = [own.recall < MIN_RECALL, ratio > MAX_TIME_RATIO, is_beaten];
        let letters = "RTP"
            .chars()
            .zip(verdict)
            .filter(|(_, is_missed)| *is_missed)
            .map(|(letter, _)| letter);
        println!(" | {}", letters.collect::<String>());
        Ok(verdict)
    }

    fn unfiltered(&self, k: usize) -> Result<f64> {
        self.median(3, |number, query| {
            self.spinney
                .nns(k)
                .by_vector(query)
                .map_err(|error| format!("query {number}: {error}").into())
        })
    }

    fn exact(&self, k: usize, filtered: &[Filtered]) -> Result<f64> {
        let is_long = filtered[0].ours.len() > 10_000;
        self.median(if is_long { 1 } else { 3 }, |number, query| {
            Ok(self.spinney.nns(k).exact().filter(&filtered[number].ours).by_vector(query)?)
        })
    }

    fn own(&self, k: usize, filtered: &[Filtered]) -> Result<Own> {
        let (mut right, mut wanted, mut plans, mut all) = (0, 0, [0; 3], SearchStats::default());
        for (number, query) in self.queries.iter().enumerate() {
            let (mut did, filtered) = (SearchStats::default(), &filtered[number]);
            let hits =
                self.spinney.nns(k).filter(&filtered.ours).report(&mut did).by_vector(query)?;
            if hits.len() != filtered.wanted(k) {
                return Err(format!(
                    "query {number}: {} hits of {}",
                    hits.len(),
                    filtered.wanted(k)
                )
                .into());
            }
            let mut answer: Vec<u32> = hits.iter().map(|hit| hit.id).collect();
            right += self.cases[number].right(filtered, k, &mut answer);
            wanted += filtered.wanted(k);
            all.sketches += did.sketches;
            all.reranked += did.reranked;
            all.scanned_exactly += did.scanned_exactly;
            match did.plan {
                SearchPlan::Forest => plans[0] += 1,
                SearchPlan::ForestThenExact => plans[2] += 1,
                _ => plans[1] += 1,
            }
        }
        let us = self.median(3, |number, query| {
            Ok(self.spinney.nns(k).filter(&filtered[number].ours).by_vector(query)?)
        })?;
        Ok(Own { recall: right as f64 / wanted as f64, us, did: all, plans })
    }

    /// The median of the mean times of some passes, in us.
    fn median(&self, passes: usize, search: impl Fn(usize, &[f32]) -> Result<Hits>) -> Result<f64> {
        let mut means = Vec::new();
        for _ in 0..passes {
            let start = Instant::now();
            for (number, query) in self.queries.iter().enumerate() {
                std::hint::black_box(search(number, query)?);
            }
            means.push(1e6 * start.elapsed().as_secs_f64() / self.queries.len() as f64);
        }
        means.sort_by(f64::total_cmp);
        Ok(means[passes / 2])
    }

    /// The recall and the time of a peer as it chooses, and what it takes to find as much as
    /// spinney.
    fn peer(
        &self,
        peer: &dyn Peer,
        k: usize,
        filtered: &[Filtered],
        own: &Own,
    ) -> Result<(f64, f64, Cost)> {
        let pass = |knob: Option<usize>| -> Result<(f64, f64)> {
            for (number, query) in self.queries.iter().enumerate().take(WARM_UP) {
                peer.search(query, k, &filtered[number], knob)?;
            }
            let (mut right, mut wanted, mut seconds) = (0, 0, 0.0);
            for (number, query) in self.queries.iter().enumerate() {
                let start = Instant::now();
                let mut answer = peer.search(query, k, &filtered[number], knob)?;
                seconds += start.elapsed().as_secs_f64();
                right += self.cases[number].right(&filtered[number], k, &mut answer);
                wanted += filtered[number].wanted(k);
            }
            Ok((right as f64 / wanted as f64, 1e6 * seconds / self.queries.len() as f64))
        };
        let default = pass(None)?;
        let mut points = vec![default];
        for knob in peer.knobs(k) {
            let point = pass(Some(knob))?;
            points.push(point);
            if point.0 >= own.recall || point.1 > TOO_SLOW * own.us {
                break;
            }
        }
        Ok((default.0, default.1, cost_at(&report::front(points), own.recall)))
    }
}

/// The plans that were taken, and by how many of the queries where they differ.
fn plan_text(plans: [usize; 3]) -> String {
    match plans {
        [_, 0, 0] => "forest".to_owned(),
        [0, _, 0] => "exact".to_owned(),
        [0, 0, _] => "both".to_owned(),
        [forest, exact, both] => format!("{forest}F {exact}E {both}B"),
    }
}
