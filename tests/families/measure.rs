//! Recall of plain searches in every cell, and of items by their own vectors.

use std::fmt;
use std::time::Instant;

use spinney::{Metric, SearchPlan, SearchStats};

use super::dice::Dice;
use super::family::{Data, Family, Mode};
use super::truth::{Truth, is_as_far, is_as_near, own_score};
use super::world::World;

/// How many neighbours are asked for, and by how many queries.
pub const KS: [(usize, usize); 4] = [(1, 1_000), (10, 300), (100, 100), (1_000, 40)];
pub const TARGETS: [f32; 3] = [0.9, 0.95, 0.99];
/// How far a recall may be below its target.
pub const TOLERANCE: f64 = 0.03;
/// Items that are asked for by their own vectors, and how many of them may be missed.
const SELVES: usize = 1_000;
const MISSED: usize = 1;

/// Recall of `k` neighbours where `target` was aimed at.
pub struct Cell {
    pub k: usize,
    pub target: f32,
    pub recall: f64,
}

impl Cell {
    pub fn is_reached(&self) -> bool {
        self.recall >= f64::from(self.target) - TOLERANCE
    }
}

/// What was measured of one metric of a family, by one way of building.
pub struct Measured {
    pub name: &'static str,
    pub metric: Metric,
    pub mode: Mode,
    pub cells: Vec<Cell>,
    pub missed: usize,
    pub selves: usize,
    /// Of the searches for ten neighbours at the default target: median microseconds, exact plans,
    /// sketches scanned.
    pub micros: f64,
    pub exact: usize,
    pub sketches: f64,
}

/// Measures a family in every way. Each result is reported as soon as it is there.
pub fn measure(
    family: &Family,
    seed: u64,
    metrics: &dyn Fn(Metric) -> bool,
    report: &mut dyn FnMut(Measured),
) {
    let mut data = (family.make)(&mut Dice::new(seed));
    let deleted: std::collections::HashSet<u32> = data.deleted.iter().copied().collect();
    if data.selves.is_empty() {
        let live: Vec<u32> =
            (0..data.rows.len() as u32).filter(|id| !deleted.contains(id)).collect();
        data.selves = live.iter().copied().step_by(live.len().div_ceil(SELVES)).collect();
    }
    for metric in family.metrics.iter().copied().filter(|metric| metrics(*metric)) {
        let items = (0..).zip(&data.rows).filter(|(id, _)| !deleted.contains(id));
        let truth = Truth::new(metric, items);
        let depth = |at: usize| {
            KS.iter().filter(|(_, asked)| at < *asked).map(|(k, _)| *k).max().unwrap_or(1)
        };
        let nearest = truth.all_nearest(&data.queries, depth);
        for mode in family.modes {
            let world = World::new(&data, metric, *mode, family.options);
            report(measure_world(family.name, &world, *mode, &data, &nearest, truth.len()));
        }
    }
}

fn measure_world(
    name: &'static str,
    world: &World,
    mode: Mode,
    data: &Data,
    nearest: &[Vec<f64>],
    count: usize,
) -> Measured {
    let metric = world.metric;
    let mut measured = Measured {
        name,
        metric,
        mode,
        cells: Vec::new(),
        missed: missed(world, data),
        selves: data.selves.len(),
        micros: 0.0,
        exact: 0,
        sketches: 0.0,
    };
    for (k, asked) in KS.into_iter().filter(|(k, _)| *k < count) {
        let asked = asked.min(data.queries.len());
        for target in TARGETS {
            let answers = world.ask(asked, |reader, at| {
                let mut searched = SearchStats::default();
                let start = Instant::now();
                let search = reader.nns(k).recall(target).report(&mut searched);
                let hits = search.by_vector(&data.queries[at]).unwrap();
                let micros = start.elapsed().as_secs_f64() * 1e6;
                assert_eq!(hits.len(), k, "min(k, items) hits");
                let found = hits
                    .iter()
                    .filter(|hit| is_as_near(metric, hit.distance, nearest[at][k - 1]))
                    .count();
                (found, micros, searched)
            });
            let found: usize = answers.iter().map(|(found, ..)| found).sum();
            measured.cells.push(Cell { k, target, recall: found as f64 / (k * asked) as f64 });
            if (k, target) == (10, 0.95) {
                let mut micros: Vec<f64> = answers.iter().map(|(_, micros, _)| *micros).collect();
                measured.micros = *micros.select_nth_unstable_by(asked / 2, f64::total_cmp).1;
                let is_exact =
                    |searched: &SearchStats| !matches!(searched.plan, SearchPlan::Forest);
                measured.exact = answers.iter().filter(|(.., searched)| is_exact(searched)).count();
                measured.sketches =
                    answers.iter().map(|(.., searched)| searched.sketches).sum::<u64>() as f64
                        / asked as f64;
            }
        }
    }
    measured
}

/// How many items are not found by their own vectors at the default target, nor another that is as
/// near.
pub fn missed(world: &World, data: &Data) -> usize {
    let is_missed = world.ask(data.selves.len(), |reader, at| {
        let row = &data.rows[data.selves[at] as usize];
        let hit = reader.nns(1).by_vector(row).unwrap()[0];
        hit.id != data.selves[at]
            && !is_as_near(world.metric, hit.distance, own_score(world.metric, row))
    });
    is_missed.into_iter().filter(|is_missed| *is_missed).count()
}

/// Exact searches find what brute force finds, distance by distance: so both can be trusted.
pub fn check_truth(family: &Family, seed: u64) {
    const DEPTH: usize = 100;
    let mut data = (family.make)(&mut Dice::new(seed));
    data.queries.truncate(6);
    for metric in family.metrics.iter().copied() {
        let world = World::bare(&data.rows, metric);
        let nearest =
            Truth::new(metric, (0..).zip(&data.rows)).all_nearest(&data.queries, |_| DEPTH);
        world.ask(data.queries.len(), |reader, at| {
            let hits = reader.nns(DEPTH).exact().by_vector(&data.queries[at]).unwrap();
            for (rank, (hit, truth)) in hits.iter().zip(&nearest[at]).enumerate() {
                let is_same = is_as_near(metric, hit.distance, *truth)
                    && is_as_far(metric, hit.distance, *truth);
                let what =
                    format!("seed {seed}, {}, {metric}, query {at}, rank {rank}", family.name);
                assert!(is_same, "{what}: {} instead of a score of {truth}", hit.distance);
            }
        });
    }
}

impl Measured {
    /// How far the worst cell is below its target, or above it if the number is positive.
    pub fn worst(&self) -> f64 {
        self.cells
            .iter()
            .map(|cell| cell.recall - f64::from(cell.target))
            .fold(f64::INFINITY, f64::min)
    }

    pub fn finds_itself(&self) -> bool {
        self.missed <= MISSED
    }

    /// What does not hold, in words.
    pub fn failures(&self, seed: u64) -> Vec<String> {
        let Self { name, metric, mode, .. } = self;
        let what = format!("seed {seed}, {name}, {metric}, {mode:?}");
        let short = self.cells.iter().filter(|cell| !cell.is_reached());
        let mut failures: Vec<String> = short
            .map(|Cell { k, target, recall }| {
                format!("{what}: k {k}, target {target}: recall {recall:.4}")
            })
            .collect();
        if !self.finds_itself() {
            failures.push(format!(
                "{what}: {} of {} not found by their own vectors",
                self.missed, self.selves
            ));
        }
        failures
    }
}

/// One line of the table.
impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holds = self.cells.iter().all(Cell::is_reached) && self.finds_itself();
        write!(
            f,
            "{} {:<30} {:<9} {:<7}",
            if holds { " " } else { "!" },
            self.name,
            self.metric.to_string(),
            self.mode.name()
        )?;
        for (k, _) in KS {
            let recalls = self.cells.iter().filter(|cell| cell.k == k);
            let text: Vec<String> = recalls.map(|cell| format!("{:.3}", cell.recall)).collect();
            write!(f, " | {:<17}", text.join(" "))?;
        }
        let asked = KS[1].1;
        write!(
            f,
            " | {:+.3} | {:>4}/{:<4} | {:>6.0} us | {:>3}/{asked} | {:>6.0}",
            self.worst(),
            self.missed,
            self.selves,
            self.micros,
            self.exact,
            self.sketches
        )
    }
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Grown => "grown",
            Self::Unbuilt => "unbuilt",
        }
    }
}

/// What the columns of the table are.
pub fn header() -> String {
    let ks: Vec<String> =
        KS.iter().map(|(k, _)| format!("{:<17}", format!("k {k}: .9 .95 .99"))).collect();
    format!(
        "  {:<30} {:<9} {:<7} | {} | worst  | own missed | k 10 .95  | exact   | sketches",
        "family",
        "metric",
        "built",
        ks.join(" | ")
    )
}
