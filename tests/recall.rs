//! Searches reach the recall they aim at, and nothing else that they do depends on it.
//!
//! Recall is that of held-out queries against exact search, compared by distance, so that ties count as found.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation)]

mod support;

use std::ops::RangeInclusive;

use rand::RngExt;
use spinney::heed::RwTxn;
use spinney::roaring::RoaringBitmap;
use spinney::{BuildMethod, BuildOptions, Error, Hit, IndexOptions, Metric, Nns, Reader, Searched, Writer};
use support::{Content, METRICS, Opened, Rng, pool, rng};
use tempfile::TempDir;

const DIMS: usize = 48;
const ITEMS: usize = 12_000;
/// Enough for a calibration, where how much it finds does not matter.
const FEW_ITEMS: usize = 3_000;
const QUERIES: usize = 400;
const FLOATS: [Metric; 4] = [Metric::Euclidean, Metric::Cosine, Metric::DotProduct, Metric::Manhattan];
const KS: [usize; 3] = [1, 10, 100];
const TARGETS: [f32; 4] = [0.8, 0.9, 0.95, 0.99];
/// What chance may take from a recall.
const TOLERANCE: f64 = 0.05;
/// Directions in which rows vary around their centre, and how many centres there are.
const LATENT: usize = 12;
const CENTRES: usize = 40;
const MAP_BYTES: usize = 256 << 20;
/// The bytes of a record that calibration writes.
const CALIBRATION: RangeInclusive<usize> = 576..=1023;

/// Where rows come from: clusters of unequal size, each spread along few directions.
struct Source {
    metric: Metric,
    centres: Vec<f32>,
    bases: Vec<f32>,
    rng: Rng,
}

impl Source {
    fn new(metric: Metric, seed: u64) -> Self {
        let mut rng = rng(seed);
        let (centres, bases) = (normal(CENTRES * DIMS, &mut rng), normal(4 * LATENT * DIMS, &mut rng));
        Self { metric, centres, bases, rng }
    }

    fn row(&mut self) -> Vec<f32> {
        let skewed = self.rng.random::<f32>() * self.rng.random::<f32>();
        let centre = ((skewed * CENTRES as f32) as usize).min(CENTRES - 1);
        let basis = &self.bases[centre % 4 * LATENT * DIMS..][..LATENT * DIMS];
        let noise = normal(DIMS, &mut self.rng);
        let around = self.centres[centre * DIMS..][..DIMS].iter().zip(noise);
        let mut row: Vec<f32> = around.map(|(c, n)| c + 0.1 * n).collect();
        for (direction, weight) in basis.chunks_exact(DIMS).zip(normal(LATENT, &mut self.rng)) {
            row.iter_mut().zip(direction).for_each(|(x, y)| *x += 0.25 * weight * y);
        }
        if self.metric == Metric::Hamming {
            row.iter_mut().for_each(|x| *x = f32::from(u8::from(*x > 0.0)));
        }
        row
    }

    fn rows(&mut self, count: usize) -> Vec<Vec<f32>> {
        (0..count).map(|_| self.row()).collect()
    }

    /// Rows half way between two of the source, mostly of different clusters.
    fn between(&mut self, count: usize) -> Vec<Vec<f32>> {
        let middle = |(a, b): (Vec<f32>, Vec<f32>)| a.iter().zip(&b).map(|(a, b)| 0.5 * (a + b)).collect();
        (0..count).map(|_| middle((self.row(), self.row()))).collect()
    }

    /// Rows that are all moved by the same vector, about as long as the radius of a cluster.
    fn shifted(&mut self, count: usize) -> Vec<Vec<f32>> {
        let shift = normal(DIMS, &mut self.rng);
        let mut rows = self.rows(count);
        rows.iter_mut().for_each(|row| row.iter_mut().zip(&shift).for_each(|(x, s)| *x += 0.5 * s));
        rows
    }
}

/// Nearly normal numbers: sums of uniform ones.
fn normal(count: usize, rng: &mut Rng) -> Vec<f32> {
    (0..count).map(|_| (0..6).map(|_| rng.random_range(-1.0..1.0f32)).sum::<f32>() / 2f32.sqrt()).collect()
}

struct World {
    _dir: TempDir,
    opened: Opened,
    writer: Writer,
}

impl World {
    fn empty(metric: Metric) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let opened = Opened::new(dir.path(), MAP_BYTES);
        let mut wtxn = opened.env.write_txn().unwrap();
        let writer = Writer::open_or_create(opened.db, &mut wtxn, 0, &IndexOptions::new(DIMS, metric)).unwrap();
        wtxn.commit().unwrap();
        Self { _dir: dir, opened, writer }
    }

    /// A world of so many items from a source, built in bulk.
    fn of(source: &mut Source, count: usize) -> Self {
        let world = Self::empty(source.metric);
        world.grow(source, 0, count, BuildMethod::Bulk);
        world
    }

    /// Adds items from an id on, builds, commits.
    fn grow(&self, source: &mut Source, from: usize, count: usize, method: BuildMethod) {
        let mut wtxn = self.opened.env.write_txn().unwrap();
        self.add(&mut wtxn, from, &source.rows(count));
        assert_eq!(self.writer.build(&mut wtxn, &BuildOptions::default()).unwrap().method, method, "from {from}");
        wtxn.commit().unwrap();
    }

    fn add(&self, wtxn: &mut RwTxn<'_>, from: usize, rows: &[Vec<f32>]) {
        let ids: Vec<u32> = (from as u32..).take(rows.len()).collect();
        self.writer.add_items(wtxn, &ids, &rows.concat()).unwrap();
    }

    /// What is committed, read.
    fn read<R>(&self, work: impl FnOnce(&Reader<'_>) -> R) -> R {
        let rtxn = self.opened.env.read_txn().unwrap();
        work(&Reader::open(&rtxn, self.opened.db, 0).unwrap())
    }

    /// Calibrates, and commits.
    fn calibrate(&self, queries: &[Vec<f32>]) -> bool {
        let mut wtxn = self.opened.env.write_txn().unwrap();
        let done = self.writer.calibrate(&mut wtxn, &queries.concat()).unwrap();
        wtxn.commit().unwrap();
        done
    }

    fn truth(&self, queries: Vec<Vec<f32>>, filter: Option<&RoaringBitmap>) -> Truth {
        let most = KS[KS.len() - 1];
        let exact = |reader: &Reader<'_>, query: &Vec<f32>| {
            let hits = admit(reader.nns(most), filter).exact().by_vector(query).unwrap();
            hits.iter().map(|hit| hit.distance).collect()
        };
        let distances = self.read(|reader| queries.iter().map(|query| exact(reader, query)).collect());
        Truth { queries, distances }
    }

    /// Recall of `k` neighbours when a recall is aimed at, and how many sketches all queries scan.
    fn recall(&self, truth: &Truth, k: usize, target: f32, filter: Option<&RoaringBitmap>) -> (f64, u64) {
        let is_found = |hit: &&Hit, kth: f32| match self.writer.metric() {
            Metric::DotProduct => hit.distance >= kth,
            _ => hit.distance <= kth,
        };
        let (mut found, mut sketches) = (0, 0);
        self.read(|reader| {
            for (query, distances) in truth.queries.iter().zip(&truth.distances) {
                let mut searched = Searched::default();
                let nns = admit(reader.nns(k), filter).recall(target).report(&mut searched);
                let hits = nns.by_vector(query).unwrap();
                assert!(filter.is_none_or(|filter| hits.iter().all(|hit| filter.contains(hit.id))), "filtered out");
                assert!(searched.sketches > 0, "the forest was not searched: {searched:?}");
                found += hits.iter().filter(|hit| is_found(hit, distances[k - 1])).count();
                sketches += searched.sketches;
            }
        });
        (found as f64 / (k * truth.queries.len()) as f64, sketches)
    }
}

fn admit<'a>(nns: Nns<'a>, filter: Option<&'a RoaringBitmap>) -> Nns<'a> {
    match filter {
        Some(filter) => nns.filter(filter),
        None => nns,
    }
}

/// Queries, and the distances of the true neighbours of each.
struct Truth {
    queries: Vec<Vec<f32>>,
    distances: Vec<Vec<f32>>,
}

/// Asserts that a recall is at most so much below its target.
#[track_caller]
fn assert_reached(what: &str, (recall, target): (f64, f32), tolerance: f64) {
    assert!(recall >= f64::from(target) - tolerance, "{what}: recall {recall:.4}, target {target}");
}

/// After a bulk build, each target is reached for few and many neighbours, and a higher one never scans less.
fn targets_are_reached(metric: Metric) {
    let seed = support::seed("targets_are_reached", 1);
    let mut source = Source::new(metric, seed);
    let world = World::of(&mut source, ITEMS);
    let truth = world.truth(source.rows(QUERIES), None);
    for k in KS {
        let row = TARGETS.map(|target| (target, world.recall(&truth, k, target, None)));
        let cell = |(target, (recall, sketches))| {
            format!("{target} -> {recall:.4} ({:.0} sketches)", sketches as f64 / QUERIES as f64)
        };
        println!("{metric}, k {k}: {}", row.map(cell).join(", "));
        for (target, (recall, _)) in row {
            assert_reached(&format!("{metric}, k {k}"), (recall, target), TOLERANCE);
        }
        assert!(
            row.is_sorted_by_key(|(_, (_, sketches))| sketches),
            "{metric}, k {k}: less is scanned for more recall"
        );
    }
}

#[test]
fn targets_are_reached_under_euclidean() {
    targets_are_reached(Metric::Euclidean);
}

#[test]
fn targets_are_reached_under_cosine() {
    targets_are_reached(Metric::Cosine);
}

#[test]
fn targets_are_reached_under_dot_product() {
    targets_are_reached(Metric::DotProduct);
}

#[test]
fn targets_are_reached_under_manhattan() {
    targets_are_reached(Metric::Manhattan);
}

/// The default is a recall of .95; that of 1 is exact; what is none is refused; and `search_k` leaves none of it.
#[test]
fn recall_among_the_other_options() {
    let seed = support::seed("recall_among_the_other_options", 2);
    for metric in METRICS {
        let mut source = Source::new(metric, seed);
        let world = World::of(&mut source, FEW_ITEMS);
        let odd: RoaringBitmap = (0..FEW_ITEMS as u32).filter(|id| id % 2 == 1).collect();
        let (small, queries) = (World::of(&mut source, 10), source.rows(20));
        world.read(|reader| {
            let asked = queries.iter().flat_map(|query| KS.into_iter().map(move |k| (query, k)));
            for ((query, k), filter) in asked.flat_map(|asked| [(asked, None), (asked, Some(&odd))]) {
                let ask = |with: &dyn for<'n> Fn(Nns<'n>) -> Nns<'n>| {
                    let mut searched = Searched::default();
                    let nns = with(admit(reader.nns(k), filter).report(&mut searched));
                    (nns.by_vector(query).unwrap(), searched)
                };
                let what = format!("{metric}, k {k}, filter {}", filter.is_some());
                assert_eq!(ask(&|nns| nns), ask(&|nns| nns.recall(0.95)), "{what}: default and .95");
                let exact = ask(&|nns| nns.exact());
                assert_eq!(ask(&|nns| nns.recall(1.0)), exact, "{what}: recall 1 and exact");
                assert_eq!(ask(&|nns| nns.recall(0.5).exact()), exact, "{what}: exact, whatever the recall");
                let expected = ask(&|nns| nns.search_k(200));
                for recall in [f32::MIN_POSITIVE, 0.5, 0.99, 1.0] {
                    let got = ask(&|nns| nns.recall(recall).search_k(200));
                    assert_eq!(got, expected, "{what}: search_k and recall {recall}");
                }
            }
        });
        for world in [&world, &small, &World::empty(metric)] {
            world.read(|reader| {
                for recall in [0.0, -0.0, -0.5, 1.0 + f32::EPSILON, 2.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let nns = || reader.nns(10).recall(recall);
                    for refused in [nns(), nns().exact(), nns().search_k(50)].map(|nns| nns.by_vector(&queries[0])) {
                        let is_named = matches!(&refused, Err(Error::InvalidOption { name: "recall", .. }));
                        assert!(is_named, "{metric}, recall {recall}: {refused:?}");
                    }
                }
            });
        }
    }
}

/// Incremental builds keep the recall up while an index grows to four times its size.
#[test]
fn growth_keeps_the_recall() {
    let seed = support::seed("growth_keeps_the_recall", 3);
    for metric in FLOATS {
        let mut source = Source::new(metric, seed);
        let queries = source.rows(QUERIES);
        let world = World::of(&mut source, FEW_ITEMS);
        for from in (FEW_ITEMS..ITEMS).step_by(300) {
            world.grow(&mut source, from, 300, BuildMethod::Incremental);
        }
        let (recall, sketches) = world.recall(&world.truth(queries, None), 10, 0.95, None);
        println!("{metric}, grown: recall {recall:.4} by {:.0} sketches", sketches as f64 / QUERIES as f64);
        assert_reached(&format!("{metric}, grown"), (recall, 0.95), 0.07);
    }
}

/// Once it is measured on some of them, queries that are distributed unlike the items reach their targets, too.
#[test]
fn calibrated_queries_reach_their_targets() {
    let seed = support::seed("calibrated_queries_reach_their_targets", 4);
    for metric in FLOATS {
        let mut source = Source::new(metric, seed);
        let world = World::of(&mut source, ITEMS);
        for (name, queries) in [("between", source.between(2 * QUERIES)), ("shifted", source.shifted(2 * QUERIES))] {
            let (known, unknown) = queries.split_at(QUERIES);
            let truth = world.truth(unknown.to_vec(), None);
            let before = [0.8, 0.95].map(|target| world.recall(&truth, 10, target, None));
            assert!(world.calibrate(known), "{metric}, {name}: there is something to measure");
            for (target, before) in [0.8, 0.95].into_iter().zip(before) {
                let after = world.recall(&truth, 10, target, None);
                println!("{metric}, {name}, {target}: (recall, sketches) {before:?}, calibrated {after:?}");
                assert_reached(&format!("{metric}, {name}"), (after.0, target), TOLERANCE);
            }
        }
    }
}

/// A filter changes what is found, not how much of it.
#[test]
fn filters_keep_the_recall() {
    let seed = support::seed("filters_keep_the_recall", 5);
    for metric in FLOATS {
        let mut source = Source::new(metric, seed);
        let world = World::of(&mut source, ITEMS);
        let half: RoaringBitmap = (0..ITEMS as u32).filter(|_| source.rng.random()).collect();
        let truth = world.truth(source.rows(QUERIES), Some(&half));
        let (recall, sketches) = world.recall(&truth, 10, 0.95, Some(&half));
        println!("{metric}, half of the items: recall {recall:.4} by {:.0} sketches", sketches as f64 / QUERIES as f64);
        assert_reached(&format!("{metric}, half of the items"), (recall, 0.95), 0.1);
    }
}

fn record(content: &Content) -> &[u8] {
    content.values(0, 0)[0]
}

/// Queries that do not suit the index are refused, and nothing is written, whether there would be something to measure or not.
#[test]
fn unsuitable_queries_change_nothing() {
    let seed = support::seed("unsuitable_queries_change_nothing", 6);
    for metric in METRICS {
        let mut source = Source::new(metric, seed);
        let queries = source.rows(3).concat();
        let with = |value: f32| {
            let mut queries = queries.clone();
            queries[DIMS + 5] = value;
            queries
        };
        for world in [World::of(&mut source, FEW_ITEMS), World::empty(metric)] {
            let before = world.opened.content();
            let mut wtxn = world.opened.env.write_txn().unwrap();
            for cut in [1, DIMS - 1, DIMS + 1, 3 * DIMS - 1] {
                let refused = world.writer.calibrate(&mut wtxn, &queries[cut..]);
                assert!(matches!(refused, Err(Error::Dimensions { expected: DIMS, .. })), "{metric}: {refused:?}");
            }
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let refused = world.writer.calibrate(&mut wtxn, &with(value));
                assert!(matches!(refused, Err(Error::NonFinite { .. })), "{metric}, {value}: {refused:?}");
            }
            let refused = world.writer.calibrate(&mut wtxn, &with(1e30));
            let is_typed = match metric {
                Metric::Hamming => matches!(refused, Err(Error::NotABit { .. })),
                _ => matches!(refused, Err(Error::NormOverflow { .. })),
            };
            assert!(is_typed, "{metric}: {refused:?}");
            if metric == Metric::Cosine {
                let refused = world.writer.calibrate(&mut wtxn, &[0.0; DIMS]);
                assert!(matches!(refused, Err(Error::ZeroVector)), "{refused:?}");
            }
            wtxn.commit().unwrap();
            world.opened.content().assert_same(&before, &format!("{metric}, refused queries"));
        }
    }
}

/// Where searches do not go by measurements, nothing is measured.
#[test]
fn nothing_to_measure() {
    let seed = support::seed("nothing_to_measure", 7);
    for metric in METRICS {
        let mut source = Source::new(metric, seed);
        let queries = source.rows(50);
        let (unbuilt, rows) = (World::empty(metric), source.rows(FEW_ITEMS));
        let mut wtxn = unbuilt.opened.env.write_txn().unwrap();
        unbuilt.add(&mut wtxn, 0, &rows);
        wtxn.commit().unwrap();
        let built = World::of(&mut source, FEW_ITEMS);
        let cases = [
            ("without items", &World::empty(metric), &queries[..], false),
            ("never built", &unbuilt, &queries, false),
            ("small", &World::of(&mut source, 999), &queries, false),
            ("no queries", &built, &[], false),
            ("large", &built, &queries, metric != Metric::Hamming),
        ];
        for (name, world, queries, expected) in cases {
            let before = world.opened.content();
            assert_eq!(world.calibrate(queries), expected, "{metric}, {name}");
            let after = world.opened.content();
            assert_eq!(after != before, expected, "{metric}, {name}: whether something is written");
        }
    }
}

/// With items that wait for a build, and at any number of threads, the same queries give the same bytes of the record, and
/// no others change.
#[test]
fn pending_items_and_threads() {
    let seed = support::seed("pending_items_and_threads", 8);
    let pools = [pool(1), pool(2)];
    for metric in FLOATS {
        let mut source = Source::new(metric, seed);
        let (world, queries) = (World::of(&mut source, FEW_ITEMS), source.rows(QUERIES));
        let mut wtxn = world.opened.env.write_txn().unwrap();
        world.add(&mut wtxn, FEW_ITEMS - 100, &source.rows(300));
        assert!((0..100).all(|id| world.writer.del_item(&mut wtxn, id).unwrap()));
        wtxn.commit().unwrap();
        let before = world.opened.content();
        let calibrated = pools.each_ref().map(|pool| {
            let mut wtxn = world.opened.env.write_txn().unwrap();
            let done = pool.install(|| world.writer.calibrate(&mut wtxn, &queries.concat())).unwrap();
            assert!(done, "{metric}: there is something to measure");
            world.opened.raw.content(&wtxn)
        });
        calibrated[1].assert_same(&calibrated[0], &format!("{metric}, 2 threads"));
        world.opened.content().assert_same(&before, &format!("{metric}, calibrations that were aborted"));
        assert!(world.calibrate(&queries));
        let after = world.opened.content();
        after.assert_same(&calibrated[0], &format!("{metric}, the global pool"));
        let differing: Vec<usize> = (0..1024).filter(|at| record(&before)[*at] != record(&after)[*at]).collect();
        assert!(!differing.is_empty(), "{metric}: nothing was written");
        assert!(differing.iter().all(|at| CALIBRATION.contains(at)), "{metric}: bytes {differing:?} of the record");
        assert!(before.0[1..] == after.0[1..], "{metric}: something else than the record was written");
        assert!(world.read(|reader| reader.verify().unwrap()).is_sound(), "{metric}");
        let (recall, _) = world.recall(&world.truth(source.rows(QUERIES), None), 10, 0.95, None);
        println!("{metric}, pending items: recall {recall:.4}");
        assert_reached(&format!("{metric}, pending items"), (recall, 0.95), TOLERANCE);
    }
}

/// The same seed gives the same bytes, those of the calibration included.
#[test]
fn threads_do_not_show() {
    let seed = support::seed("threads_do_not_show", 9);
    let pools = [pool(1), pool(2)];
    for metric in METRICS {
        let rows = Source::new(metric, seed).rows(ITEMS);
        let world = World::empty(metric);
        let built = pools.each_ref().map(|pool| {
            let mut wtxn = world.opened.env.write_txn().unwrap();
            world.add(&mut wtxn, 0, &rows);
            world.writer.build(&mut wtxn, &BuildOptions::default().seed(seed).thread_pool(pool)).unwrap();
            world.opened.raw.content(&wtxn)
        });
        built[1].assert_same(&built[0], &format!("{metric}, 2 threads"));
        let is_measured = record(&built[0])[CALIBRATION].iter().any(|byte| *byte > 0);
        assert_eq!(is_measured, metric != Metric::Hamming, "{metric}: whether the record has a calibration");
    }
}
