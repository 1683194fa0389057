//! Cases that are more than a plain search of a family: large sets, other forms of asking,
//! deletions.

use std::fmt;

use spinney::{BuildOptions, Metric, Reader};

use super::dice::{Dice, scaled};
use super::family::{Data, Mode};
use super::forms::{Asked, FORMS, Found, at_random};
use super::generators::{blobs, find, line};
use super::measure::{TOLERANCE, missed};
use super::truth::Truth;
use super::world::World;

/// What was found, and the least that has to be.
pub struct Finding {
    pub what: String,
    pub got: f64,
    pub least: f64,
}

impl Finding {
    /// A recall where a target was aimed at.
    fn recall(what: String, got: f64, target: f32) -> Self {
        Self { what, got, least: f64::from(target) - TOLERANCE }
    }

    pub fn holds(&self) -> bool {
        self.got >= self.least
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.holds() { " " } else { "!" };
        write!(f, "{mark} {:<70} {:.4} of at least {:.3}", self.what, self.got, self.least)
    }
}

/// A case: its name, and what it finds.
pub type Case = (&'static str, fn(&mut Dice) -> Vec<Finding>);

pub const CASES: &[Case] = &[
    ("large_clusters", large_clusters),
    ("long_line", long_line),
    ("beyond_the_cluster", beyond_the_cluster),
    ("long_ramp", long_ramp),
    ("within_a_radius", within_a_radius),
    ("groups_near_and_far", groups_near_and_far),
    ("filters_of_clusters", filters_of_clusters),
    ("pages_of_clusters", pages_of_clusters),
    ("deleted_around_the_query", deleted_around_the_query),
    ("own_vectors", own_vectors),
    ("more_scanning", more_scanning),
    ("every_count", every_count),
    ("forms_of_asking", forms_of_asking),
];

/// A bulk build of some data, with its truth and some of its queries.
struct Subject {
    world: World,
    truth: Truth,
    data: Data,
}

impl Subject {
    fn new(mut data: Data, metric: Metric, queries: usize) -> Self {
        data.queries.truncate(queries);
        let world = World::new(&data, metric, Mode::Bulk, BuildOptions::default());
        Self { world, truth: Truth::new(metric, (0..).zip(&data.rows)), data }
    }

    /// What each query finds.
    fn found(&self, ask: impl Fn(&Reader<'_>, &Asked<'_>) -> Found + Sync) -> Vec<Found> {
        self.world.ask(self.data.queries.len(), |reader, at| {
            let query = &self.data.queries[at];
            ask(
                reader,
                &Asked { metric: self.world.metric, query, scores: self.truth.scores(query) },
            )
        })
    }

    fn recall(&self, ask: impl Fn(&Reader<'_>, &Asked<'_>) -> Found + Sync) -> f64 {
        part(&self.found(ask))
    }
}

/// The part of the true answers that were found.
fn part(found: &[Found]) -> f64 {
    let (found, wanted): (Vec<usize>, Vec<usize>) = found.iter().copied().unzip();
    found.iter().sum::<usize>() as f64 / wanted.iter().sum::<usize>() as f64
}

fn own(what: String, world: &World, data: &mut Data) -> Finding {
    data.selves = (0..data.rows.len() as u32).step_by(data.rows.len() / 1_000).collect();
    let missed = missed(world, data);
    Finding {
        what: format!("{what}, own vectors"),
        got: 1.0 - missed as f64 / data.selves.len() as f64,
        least: 0.999,
    }
}

fn large_clusters(dice: &mut Dice) -> Vec<Finding> {
    let mut findings = Vec::new();
    for apart in [100, 300, 1_000] {
        for metric in [Metric::Euclidean, Metric::Cosine] {
            let what = format!("8 clusters of 5,000, 1/{apart}, {metric}");
            let mut subject =
                Subject::new(blobs(dice, 8, 5_000, 32, 1.0 / f64::from(apart)), metric, 200);
            let recall = subject.recall(|reader, asked| asked.plain(reader.nns(10), 10));
            findings.push(Finding::recall(format!("{what}, k 10"), recall, 0.95));
            findings.push(own(what, &subject.world, &mut subject.data));
        }
    }
    findings
}

fn long_line(dice: &mut Dice) -> Vec<Finding> {
    let subject = Subject::new(line(dice, 20_000, 2), Metric::Euclidean, 300);
    let found = subject.found(|reader, asked| asked.plain(reader.nns(10), 10));
    let some = found.iter().filter(|(found, _)| *found > 0).count();
    let what = "20,000 on a line in 2, k 10";
    vec![
        Finding::recall(what.to_owned(), part(&found), 0.95),
        Finding {
            what: format!("{what}, queries that find any"),
            got: some as f64 / 300.0,
            least: 299.0 / 300.0,
        },
    ]
}

fn beyond_the_cluster(dice: &mut Dice) -> Vec<Finding> {
    let subject = Subject::new(blobs(dice, 100, 200, 64, 0.3), Metric::Euclidean, 60);
    let asked = [0.95, 0.99].into_iter().flat_map(|target| [200, 400, 800].map(|k| (target, k)));
    let finding = |(target, k)| {
        let recall = subject.recall(|reader, asked| asked.plain(reader.nns(k).recall(target), k));
        Finding::recall(
            format!("100 clusters of 200 in 64, k {k}, target {target}"),
            recall,
            target,
        )
    };
    asked.map(finding).collect()
}

fn long_ramp(dice: &mut Dice) -> Vec<Finding> {
    let mut row = |id: f64| {
        let mut row = dice.uniform_row(64);
        row[0] += (id / 1_000.0) as f32;
        row
    };
    let rows: Vec<Vec<f32>> = (0..100_000).map(|id| row(f64::from(id))).collect();
    let queries: Vec<Vec<f32>> = (0..100).map(|at| row(f64::from(at) * 1_000.0)).collect();
    let mut findings = Vec::new();
    for metric in [Metric::Cosine, Metric::DotProduct] {
        let data = Data { rows: rows.clone(), queries: queries.clone(), ..Data::default() };
        let subject = Subject::new(data, metric, 100);
        for k in [10, 100, 1_000] {
            let recall = subject.recall(|reader, asked| asked.plain(reader.nns(k), k));
            findings.push(Finding::recall(
                format!("ramp of 100,000 in 64, {metric}, k {k}"),
                recall,
                0.95,
            ));
        }
    }
    findings
}

fn within_a_radius(dice: &mut Dice) -> Vec<Finding> {
    let subjects = [(50, 1_001), (1, 5_001)].map(|(clusters, n)| {
        let data = blobs(dice, clusters, 20_000 / clusters, 32, 0.3);
        (clusters, n, Subject::new(data, Metric::Euclidean, 60))
    });
    let finding = |(clusters, n, subject): (usize, usize, Subject)| {
        let recall = subject.recall(|reader, asked| asked.within(reader.nns(usize::MAX), n));
        Finding::recall(
            format!("20,000 of {clusters} clusters in 32, within the {n}th"),
            recall,
            0.95,
        )
    };
    subjects.into_iter().map(finding).collect()
}

/// Three groups of a thousand around the queries, and 1,700 of ten each farther away.
fn groups_near_and_far(dice: &mut Dice) -> Vec<Finding> {
    let mut data = Data::of(20_000, || dice.normal_row(32));
    data.rows.iter_mut().take(3_000).for_each(|row| row.iter_mut().for_each(|x| *x *= 0.3));
    data.queries.iter_mut().for_each(|row| row.iter_mut().for_each(|x| *x *= 0.1));
    let subject = Subject::new(data, Metric::Euclidean, 60);
    let group = |id: u32| u64::from(if id < 3_000 { id % 3 } else { id % 1_700 + 3 });
    let finding = |(k, most)| {
        let recall =
            subject.recall(|reader, asked| asked.per_group(reader.nns(k), k, most, &group));
        Finding::recall(format!("3 groups near, 1,700 far, {most} of each, k {k}"), recall, 0.95)
    };
    [(100, 1), (500, 5)].map(finding).into()
}

fn filters_of_clusters(dice: &mut Dice) -> Vec<Finding> {
    let subject = Subject::new(blobs(dice, 100, 300, 64, 0.5), Metric::Euclidean, 100);
    let finding = |percent| {
        let allowed = at_random(0..30_000, percent);
        let recall =
            subject.recall(|reader, asked| asked.filtered(reader.nns(100), 100, &allowed, false));
        Finding::recall(
            format!("100 clusters of 300, a filter of {percent} percent, k 100"),
            recall,
            0.95,
        )
    };
    [20, 10].map(finding).into()
}

fn pages_of_clusters(dice: &mut Dice) -> Vec<Finding> {
    let subject = Subject::new(blobs(dice, 50, 400, 32, 0.3), Metric::Euclidean, 60);
    let finding = |pages| {
        let recall = subject.recall(|reader, asked| asked.pages(reader.nns(50), 50, pages));
        Finding::recall(format!("50 clusters of 400, {pages} pages of 50"), recall, 0.95)
    };
    [1, 10, 20].map(finding).into()
}

/// The items around a point are deleted, and searched for from where they were.
fn deleted_around_the_query(dice: &mut Dice) -> Vec<Finding> {
    let mut findings = Vec::new();
    for dims in [2, 16] {
        let data = Data::of(20_000, || dice.uniform_row(dims));
        let Subject { world, truth, data } = Subject::new(data, Metric::Euclidean, 20);
        for (count, is_built) in
            [200, 500, 1_000].into_iter().flat_map(|count| [(count, false), (count, true)])
        {
            let found = data.queries.iter().map(|centre| {
                let gone = truth.nearest(centre, count);
                let mut wtxn = world.store.env.write_txn().unwrap();
                gone.iter()
                    .for_each(|(_, id)| assert!(world.writer.del_item(&mut wtxn, *id).unwrap()));
                if is_built {
                    world.writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
                }
                let reader = Reader::open(&wtxn, world.store.db, 0).unwrap();
                let inside = gone.iter().take(5).map(|(_, id)| &data.rows[*id as usize]);
                let found = inside.chain([centre]).map(|query| {
                    let mut scores = truth.scores(query);
                    scores.retain(|(_, id)| gone.iter().all(|(_, other)| id != other));
                    Asked { metric: world.metric, query, scores }.plain(reader.nns(10), 10)
                });
                found.fold((0, 0), |sum, found| (sum.0 + found.0, sum.1 + found.1))
            });
            let found: Vec<Found> = found.collect();
            let how = if is_built { "built" } else { "not built" };
            let what = format!("20,000 in {dims}, the nearest {count} deleted, {how}, k 10");
            findings.push(Finding::recall(what, part(&found), 0.95));
        }
    }
    findings
}

fn own_vectors(dice: &mut Dice) -> Vec<Finding> {
    let cases = [
        ("100 tight blobs of 100 in 32", blobs(dice, 100, 100, 32, 0.01)),
        ("a line of 10,000 in 1", line(dice, 10_000, 1)),
        ("20 blobs of 500 in 32, far away", {
            let mut data = blobs(dice, 20, 500, 32, 0.01);
            data.rows.iter_mut().for_each(|row| *row = scaled(std::mem::take(row), 1e3));
            data
        }),
    ];
    let finding = |(what, mut data): (&str, Data)| {
        let world = World::new(&data, Metric::Euclidean, Mode::Bulk, BuildOptions::default());
        own(what.to_owned(), &world, &mut data)
    };
    cases.into_iter().map(finding).collect()
}

/// Radii, groups, pages and filters of five families.
fn forms_of_asking(dice: &mut Dice) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in
        ["clusters 1/100", "half times 1e3, half 1e-3", "integers", "uniform in 2", "normal in 64"]
    {
        let family = find(name);
        for metric in [Metric::Euclidean, Metric::Cosine, Metric::DotProduct] {
            let subject = Subject::new((family.make)(dice), metric, 60);
            for (form, ask) in FORMS {
                findings.push(Finding::recall(
                    format!("{name}, {metric}, {form}"),
                    subject.recall(ask),
                    0.95,
                ));
            }
        }
    }
    findings
}

/// More scanning never finds less.
fn more_scanning(dice: &mut Dice) -> Vec<Finding> {
    let names = [
        "clusters 1/300",
        "a tenth times 1e4",
        "few large values of 16",
        "sparse",
        "twelve decades",
    ];
    let mut findings = Vec::new();
    for (name, metric) in
        names.into_iter().flat_map(|name| [(name, Metric::Euclidean), (name, Metric::Manhattan)])
    {
        let subject = Subject::new((find(name).make)(dice), metric, 100);
        let mut best = 0.0f64;
        for search_k in [100, 400, 1_000, 4_000, 100_000] {
            let got =
                subject.recall(|reader, asked| asked.plain(reader.nns(10).search_k(search_k), 10));
            let what = format!("{name}, {metric}, k 10, search_k {search_k} against fewer");
            findings.push(Finding { what, got, least: best - 0.01 });
            best = best.max(got);
        }
    }
    findings
}

/// No number of neighbours is a cliff.
fn every_count(dice: &mut Dice) -> Vec<Finding> {
    let cases = [
        ("normal", Data::of(6_000, || dice.normal_row(32))),
        ("60 clusters", blobs(dice, 60, 100, 32, 0.3)),
    ];
    let mut findings = Vec::new();
    for (name, data) in cases {
        let subject = Subject::new(data, Metric::Euclidean, 60);
        for k in [20, 50, 90, 100, 101, 110, 150, 250, 500, 1_500, 3_000, 5_000, 5_999, 6_000] {
            let recall = subject.recall(|reader, asked| asked.plain(reader.nns(k), k));
            findings.push(Finding::recall(format!("6,000 in 32, {name}, k {k}"), recall, 0.95));
        }
    }
    findings
}
