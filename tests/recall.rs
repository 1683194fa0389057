//! Searches reach the recall they aim at: that of held-out queries, compared by distance, so that
//! ties count as found.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation
)]

mod support;

use rand::RngExt;
use spinney::heed::RwTxn;
use spinney::roaring::RoaringBitmap;
use spinney::{
    BuildMethod, BuildOptions, Error, IndexOptions, Metric, Nns, Reader, Searched, Writer,
};
use support::*;

const DIMS: usize = 48;
const ITEMS: usize = 12_000;
/// Enough for a calibration, where it does not matter how good it is.
const FEW_ITEMS: usize = 3_000;
const QUERIES: usize = 400;
const FLOATS: [Metric; 4] =
    [Metric::Euclidean, Metric::Cosine, Metric::DotProduct, Metric::Manhattan];
const KS: [usize; 3] = [1, 10, 100];
/// How far a recall may be below its target.
const TOLERANCE: f64 = 0.05;
/// Directions in which rows vary around their centre, and how many centres there are.
const LATENT: usize = 12;
const CENTRES: usize = 40;
/// Where the calibration begins in the record: it goes on to its end.
const CALIBRATION: usize = 576;

/// Where rows come from: clusters of unequal size, each spread along few directions. Rows are one
/// after the other.
struct Source {
    metric: Metric,
    centres: Vec<f32>,
    bases: Vec<f32>,
    rng: Rng,
}

impl Source {
    fn new(metric: Metric, seed: &Seed) -> Self {
        let mut rng = seed.rng(0);
        let (centres, bases) =
            (normal(CENTRES * DIMS, &mut rng), normal(4 * LATENT * DIMS, &mut rng));
        Self { metric, centres, bases, rng }
    }

    fn rows(&mut self, count: usize) -> Vec<f32> {
        let mut rows = normal(count * DIMS, &mut self.rng);
        for row in rows.chunks_exact_mut(DIMS) {
            let skewed = self.rng.random::<f32>() * self.rng.random::<f32>();
            let centre = ((skewed * CENTRES as f32) as usize).min(CENTRES - 1);
            let middle = &self.centres[centre * DIMS..];
            row.iter_mut().zip(middle).for_each(|(x, centre)| *x = centre + 0.1 * *x);
            let basis = self.bases[centre % 4 * LATENT * DIMS..].chunks_exact(DIMS);
            for (weight, direction) in normal(LATENT, &mut self.rng).into_iter().zip(basis) {
                row.iter_mut().zip(direction).for_each(|(x, y)| *x += 0.25 * weight * y);
            }
        }
        if self.metric == Metric::Hamming {
            rows.iter_mut().for_each(|x| *x = f32::from(u8::from(*x > 0.0)));
        }
        rows
    }

    /// Rows half way between two of the source, mostly of different clusters.
    fn between(&mut self, count: usize) -> Vec<f32> {
        self.rows(count).iter().zip(self.rows(count)).map(|(a, b)| 0.5 * (a + b)).collect()
    }
}

/// Nearly normal numbers: sums of uniform ones.
fn normal(count: usize, rng: &mut Rng) -> Vec<f32> {
    (0..count)
        .map(|_| (0..6).map(|_| rng.random_range(-1.0..1.0f32)).sum::<f32>() / 2f32.sqrt())
        .collect()
}

/// A query with the distances of its true neighbours.
type Asked = (Vec<f32>, Vec<f32>);

struct World {
    store: Store,
    writer: Writer,
}

impl World {
    fn empty(metric: Metric) -> Self {
        let store = Store::with_map_size(256 << 20);
        let mut wtxn = store.env.write_txn().unwrap();
        let writer =
            Writer::open_or_create(&mut wtxn, store.db, 0, &IndexOptions::new(DIMS, metric))
                .unwrap();
        wtxn.commit().unwrap();
        Self { store, writer }
    }

    /// A world of so many items from a source, built in bulk.
    fn of(source: &mut Source, count: usize) -> Self {
        let world = Self::empty(source.metric);
        world.add(0, &source.rows(count));
        assert_eq!(
            world.build(),
            if count == 0 { BuildMethod::Nothing } else { BuildMethod::Bulk }
        );
        world
    }

    fn write<R>(&self, work: impl FnOnce(&Writer, &mut RwTxn<'_>) -> R) -> R {
        let mut wtxn = self.store.env.write_txn().unwrap();
        let done = work(&self.writer, &mut wtxn);
        wtxn.commit().unwrap();
        done
    }

    /// Adds rows under the ids from one on.
    fn add(&self, from: usize, rows: &[f32]) {
        let ids: Vec<u32> = (from as u32..).take(rows.len() / DIMS).collect();
        self.write(|writer, wtxn| writer.add_items(wtxn, &ids, rows).unwrap());
    }

    fn build(&self) -> BuildMethod {
        self.write(|writer, wtxn| writer.build(wtxn, &BuildOptions::default()).unwrap().method)
    }

    fn calibrate(&self, queries: &[f32]) -> Result<bool, Error> {
        self.write(|writer, wtxn| writer.calibrate(wtxn, queries))
    }

    fn read<R>(&self, work: impl FnOnce(&Reader<'_>) -> R) -> R {
        let rtxn = self.store.env.read_txn().unwrap();
        work(&Reader::open(&rtxn, self.store.db, 0).unwrap())
    }

    /// Asks for the true neighbours of queries.
    fn ask(&self, queries: &[f32], filter: Option<&RoaringBitmap>) -> Vec<Asked> {
        let exact = |reader: &Reader<'_>, query: &[f32]| {
            let hits = admit(reader.nns(KS[2]), filter).exact().by_vector(query).unwrap();
            (query.to_vec(), hits.iter().map(|hit| hit.distance).collect())
        };
        self.read(|reader| queries.chunks_exact(DIMS).map(|query| exact(reader, query)).collect())
    }

    /// Recall of `k` neighbours when a recall is aimed at, and how many sketches a query scans for
    /// it.
    fn recall(
        &self,
        asked: &[Asked],
        k: usize,
        target: f32,
        filter: Option<&RoaringBitmap>,
    ) -> (f64, f64) {
        let sign = if self.writer.metric() == Metric::DotProduct { -1.0 } else { 1.0 };
        let (mut found, mut sketches) = (0, 0);
        self.read(|reader| {
            for (query, distances) in asked {
                let mut searched = Searched::default();
                let hits = admit(reader.nns(k), filter)
                    .recall(target)
                    .report(&mut searched)
                    .by_vector(query)
                    .unwrap();
                assert!(
                    filter.is_none_or(|filter| hits.iter().all(|hit| filter.contains(hit.id))),
                    "filtered out"
                );
                assert!(
                    searched.sketches > 0 || searched.is_out_of_reach,
                    "the forest was not searched: {searched:?}"
                );
                found += hits
                    .iter()
                    .filter(|hit| sign * hit.distance <= sign * distances[k - 1])
                    .count();
                // Comparing all takes more than any scan.
                sketches +=
                    if searched.sketches == 0 { 2 * ITEMS as u64 } else { searched.sketches };
            }
        });
        (found as f64 / (k * asked.len()) as f64, sketches as f64 / asked.len() as f64)
    }
}

fn admit<'a>(nns: Nns<'a>, filter: Option<&'a RoaringBitmap>) -> Nns<'a> {
    filter.into_iter().fold(nns, Nns::filter)
}

/// Prints a recall, and asserts that it is at most so much below its target.
#[track_caller]
fn assert_reached(what: &str, target: f32, (recall, sketches): (f64, f64), tolerance: f64) {
    println!("{what}: {target} -> {recall:.4} ({sketches:.0} sketches)");
    assert!(recall >= f64::from(target) - tolerance, "{what}: recall {recall:.4}, target {target}");
}

/// After a bulk build: for few and many neighbours, a higher target never scans less, and a filter
/// costs little recall.
#[test]
fn targets_are_reached() {
    let seed = Seed::new(1);
    for metric in FLOATS {
        let mut source = Source::new(metric, &seed);
        let (world, queries) = (World::of(&mut source, ITEMS), source.rows(QUERIES));
        let asked = world.ask(&queries, None);
        for k in KS {
            // The nearest alone is only one look for each query.
            let tolerance = if k == 1 { 0.08 } else { TOLERANCE };
            let mut before = 0.0;
            for target in [0.8, 0.9, 0.95, 0.99] {
                let reached = world.recall(&asked, k, target, None);
                assert_reached(&format!("{metric}, k {k}"), target, reached, tolerance);
                assert!(
                    reached.1 >= before,
                    "{metric}, k {k}, {target}: less is scanned than for less recall"
                );
                before = reached.1;
            }
        }
        let half: RoaringBitmap = (0..ITEMS as u32).filter(|_| source.rng.random()).collect();
        let reached = world.recall(&world.ask(&queries, Some(&half)), 10, 0.95, Some(&half));
        assert_reached(&format!("{metric}, half of the items"), 0.95, reached, 0.1);
    }
}

/// The default is a recall of .95; that of 1 is exact; `exact` and `search_k` leave nothing to aim
/// at.
#[test]
fn recall_among_the_other_options() {
    let seed = Seed::new(2);
    for metric in METRICS {
        let mut source = Source::new(metric, &seed);
        let (world, queries) = (World::of(&mut source, FEW_ITEMS), source.rows(20));
        let odd: RoaringBitmap = (0..FEW_ITEMS as u32).filter(|id| id % 2 == 1).collect();
        let asked = queries.chunks_exact(DIMS).flat_map(|query| KS.map(|k| (query, k)));
        for ((query, k), filter) in asked.flat_map(|asked| [(asked, None), (asked, Some(&odd))]) {
            let ask = |with: &dyn for<'n> Fn(Nns<'n>) -> Nns<'n>| {
                let mut searched = Searched::default();
                let search = |r: &Reader<'_>| {
                    with(admit(r.nns(k), filter).report(&mut searched)).by_vector(query)
                };
                let hits = world.read(search).unwrap();
                // Times differ from run to run.
                (searched.preparing, searched.scanning, searched.comparing) = Default::default();
                (hits, searched)
            };
            let what = format!("{metric}, k {k}, filter {}", filter.is_some());
            assert_eq!(ask(&|nns| nns), ask(&|nns| nns.recall(0.95)), "{what}: default and .95");
            let exact = ask(&|nns| nns.exact());
            assert_eq!(ask(&|nns| nns.recall(1.0)), exact, "{what}: recall 1 and exact");
            let expected = ask(&|nns| nns.search_k(200));
            for recall in [f32::MIN_POSITIVE, 0.5, 0.99, 1.0] {
                let got = ask(&|nns| nns.recall(recall).search_k(200));
                assert_eq!(got, expected, "{what}: search_k and recall {recall}");
            }
        }
    }
}

/// Whether there is a forest or not.
#[test]
fn recalls_out_of_range_are_refused() {
    let seed = Seed::new(3);
    let mut source = Source::new(Metric::Cosine, &seed);
    for count in [0, 10, FEW_ITEMS] {
        let (world, query) = (World::of(&mut source, count), source.rows(1));
        for recall in
            [0.0, -0.0, -0.5, 1.0 + f32::EPSILON, 2.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY]
        {
            world.read(|reader| {
                let nns = || reader.nns(10).recall(recall);
                for refused in
                    [nns(), nns().exact(), nns().search_k(50)].map(|nns| nns.by_vector(&query))
                {
                    let is_named =
                        matches!(&refused, Err(Error::InvalidOption { name: "recall", .. }));
                    assert!(is_named, "{count} items, recall {recall}: {refused:?}");
                }
            });
        }
    }
}

/// Incremental builds keep the recall up while an index grows to four times its size.
#[test]
fn growth_keeps_the_recall() {
    let seed = Seed::new(4);
    for (metric, tolerance) in [(Metric::Euclidean, 0.07), (Metric::DotProduct, 0.15)] {
        let mut source = Source::new(metric, &seed);
        let world = World::of(&mut source, FEW_ITEMS);
        for from in (FEW_ITEMS..ITEMS).step_by(300) {
            world.add(from, &source.rows(300));
            assert_eq!(world.build(), BuildMethod::Incremental, "{metric}, from {from}");
        }
        let reached = world.recall(&world.ask(&source.rows(QUERIES), None), 10, 0.95, None);
        assert_reached(&format!("{metric}, grown"), 0.95, reached, tolerance);
    }
}

/// An inner product ranks the same for queries of every length, and so do its estimates.
#[test]
fn the_length_of_a_query_does_not_change_the_recall_of_a_dot_product() {
    let seed = Seed::new(12);
    let mut source = Source::new(Metric::DotProduct, &seed);
    let (world, queries) = (World::of(&mut source, ITEMS), source.rows(QUERIES));
    let reached = [1.0, 1e-6, 0.03, 30.0, 1e6].map(|length: f32| {
        let scaled: Vec<f32> = queries.iter().map(|x| length * x).collect();
        world.recall(&world.ask(&scaled, None), 10, 0.95, None)
    });
    assert_reached("dot product", 0.95, reached[0], TOLERANCE);
    for (recall, sketches) in reached {
        assert!(
            (recall - reached[0].0).abs() < 0.005 && (sketches / reached[0].1 - 1.0).abs() < 0.01,
            "{reached:?}"
        );
    }
}

/// Once it is measured on some of them, queries that are distributed unlike the items reach their
/// targets, too.
#[test]
fn calibrated_queries_reach_their_targets() {
    let seed = Seed::new(5);
    for metric in FLOATS {
        let mut source = Source::new(metric, &seed);
        let (world, queries) = (World::of(&mut source, ITEMS), source.between(2 * QUERIES));
        let (known, unknown) = queries.split_at(QUERIES * DIMS);
        let asked = world.ask(unknown, None);
        println!("{metric}, not calibrated: 0.95 -> {:.4?}", world.recall(&asked, 10, 0.95, None));
        assert!(world.calibrate(known).unwrap(), "{metric}: there is something to measure");
        for target in [0.8, 0.95] {
            let reached = world.recall(&asked, 10, target, None);
            assert_reached(&format!("{metric}, calibrated"), target, reached, TOLERANCE);
        }
    }
}

/// On the very queries it was measured on, a calibration says what recall they get: not less, and
/// more by no more than their standard error, since that is paid for. No chance is in it, so that
/// any other difference is a bias.
#[test]
fn calibrations_reproduce_what_they_measured() {
    let seed = Seed::new(10);
    for metric in FLOATS {
        let mut source = Source::new(metric, &seed);
        let (world, queries) = (World::of(&mut source, ITEMS), source.rows(2 * QUERIES));
        assert!(world.calibrate(&queries).unwrap());
        let asked = world.ask(&queries, None);
        for k in KS {
            // Only every fourth query tells of the largest k.
            let every = if k == KS[2] { 4 } else { 1 };
            let measured: Vec<_> = asked.iter().step_by(every).cloned().collect();
            for target in [0.8, 0.9, 0.95, 0.99] {
                let (recall, sketches) = world.recall(&measured, k, target, None);
                println!(
                    "{metric}, k {k}, measured on these: {target} -> {recall:.4} ({sketches:.0} sketches)"
                );
                let target = f64::from(target);
                let error =
                    (target * (1.0 - target) / (measured.len() as f64 * (k as f64).sqrt())).sqrt();
                assert!(
                    (-0.02..=0.02 + error).contains(&(recall - target)),
                    "{metric}, k {k}: recall {recall:.4}, target {target}"
                );
            }
        }
    }
}

/// Queries that do not suit the index are refused, and nothing is measured where searches do not go
/// by measurements; nothing is written then.
#[test]
fn calibrations_that_change_nothing() {
    let seed = Seed::new(6);
    for metric in METRICS {
        let mut source = Source::new(metric, &seed);
        let (queries, unbuilt) = (source.rows(50), World::empty(metric));
        unbuilt.add(0, &source.rows(FEW_ITEMS));
        let [none, small, built] = [0, 999, FEW_ITEMS].map(|count| World::of(&mut source, count));
        let cases = [
            ("without items", &none, &queries[..], false),
            ("never built", &unbuilt, &queries, false),
            ("small", &small, &queries, false),
            ("no queries", &built, &[], false),
            ("large", &built, &queries, true),
        ];
        for (name, world, suitable, expected) in cases {
            let before = world.store.content();
            for refused in [1, DIMS - 1, DIMS + 1].map(|cut| world.calibrate(&queries[cut..])) {
                assert!(
                    matches!(refused, Err(Error::QueriesShape { dims: DIMS, .. })),
                    "{metric}, {name}: {refused:?}"
                );
            }
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let refused = world.calibrate(&[&queries[1..], &[value]].concat());
                assert!(
                    matches!(refused, Err(Error::NonFinite { .. })),
                    "{metric}, {name}: {refused:?}"
                );
            }
            world.store.content().assert_same(&before, &format!("{metric}, {name}, refused"));
            let (done, is_written) =
                (world.calibrate(suitable).unwrap(), world.store.content() != before);
            assert_eq!(
                (done, is_written),
                (expected, expected),
                "{metric}, {name}: measured and written"
            );
        }
    }
}

/// With items that wait for a build, the same queries give the same bytes at any number of threads,
/// those of the record.
#[test]
fn pending_items_and_threads() {
    let (seed, pools) = (Seed::new(8), [pool(1), pool(2)]);
    for metric in FLOATS {
        let mut source = Source::new(metric, &seed);
        let (world, queries) = (World::of(&mut source, FEW_ITEMS), source.rows(QUERIES));
        world.add(FEW_ITEMS - 100, &source.rows(300));
        assert!(world.write(|writer, wtxn| (0..100).all(|id| writer.del_item(wtxn, id).unwrap())));
        let before = world.store.content();
        let calibrated = pools.each_ref().map(|pool| {
            let mut wtxn = world.store.env.write_txn().unwrap();
            assert!(
                pool.install(|| world.writer.calibrate(&mut wtxn, &queries)).unwrap(),
                "{metric}"
            );
            world.store.raw.content(&wtxn)
        });
        calibrated[1].assert_same(&calibrated[0], &format!("{metric}, 2 threads"));
        world.store.content().assert_same(&before, &format!("{metric}, aborted"));
        assert!(world.calibrate(&queries).unwrap(), "{metric}");
        let after = world.store.content();
        after.assert_same(&calibrated[0], &format!("{metric}, the global pool"));
        let [old, new] = [&before, &after].map(|content| content.values(0, 0)[0]);
        assert!(
            old != new && old[..CALIBRATION] == new[..CALIBRATION],
            "{metric}: {old:?} became {new:?}"
        );
        assert!(
            before.0[1..] == after.0[1..],
            "{metric}: something else than the record was written"
        );
        assert!(world.read(|reader| reader.verify().unwrap()).is_sound(), "{metric}");
        let reached = world.recall(&world.ask(&source.rows(QUERIES), None), 10, 0.95, None);
        assert_reached(&format!("{metric}, pending items"), 0.95, reached, TOLERANCE);
    }
}

/// The same seed gives the same bytes, those of the calibration included.
#[test]
fn threads_do_not_show() {
    let (seed, pools) = (Seed::new(9), [pool(1), pool(2)]);
    for metric in [Metric::Euclidean, Metric::DotProduct, Metric::Manhattan] {
        let world = World::empty(metric);
        world.add(0, &Source::new(metric, &seed).rows(ITEMS));
        let built = pools.each_ref().map(|pool| {
            let mut wtxn = world.store.env.write_txn().unwrap();
            world
                .writer
                .build(&mut wtxn, &BuildOptions::default().seed(seed.number()).thread_pool(pool))
                .unwrap();
            world.store.raw.content(&wtxn)
        });
        built[1].assert_same(&built[0], &format!("{metric}, 2 threads"));
        let calibration = &built[0].values(0, 0)[0][CALIBRATION..];
        assert!(calibration.iter().any(|byte| *byte > 0), "{metric}: there is a calibration");
    }
}

/// Builds that ask items now and then do not lower what queries unlike them need.
#[test]
fn calibrated_queries_keep_their_recall_under_churn() {
    let seed = Seed::new(108);
    let mut source = Source::new(Metric::Euclidean, &seed);
    let world = World::of(&mut source, ITEMS);
    assert!(world.calibrate(&source.between(1_000)).unwrap());
    let queries = source.between(QUERIES / 2);
    let (before, _) = world.recall(&world.ask(&queries, None), 10, 0.95, None);
    for step in 0..8 {
        world.add(step * 1_000, &source.rows(1_000));
        assert_eq!(world.build(), BuildMethod::Incremental);
    }
    let (after, sketches) = world.recall(&world.ask(&queries, None), 10, 0.95, None);
    println!(
        "between clusters: {before:.4}, after 8,000 overwrites {after:.4} ({sketches:.0} sketches)"
    );
    assert!(after >= before - 0.04, "recall fell from {before:.4} to {after:.4}");
}

/// One build does not move the effort by much, however many items it asks.
#[test]
fn one_build_moves_the_effort_by_little() {
    let seed = Seed::new(109);
    let mut source = Source::new(Metric::Euclidean, &seed);
    let world = World::of(&mut source, ITEMS);
    let queries = source.rows(QUERIES / 2);
    let (_, before) = world.recall(&world.ask(&queries, None), 10, 0.95, None);
    // Some more would be a bulk build.
    let gone = (0..ITEMS as u32).step_by(10);
    world.write(|writer, wtxn| gone.for_each(|id| assert!(writer.del_item(wtxn, id).unwrap())));
    assert_eq!(world.build(), BuildMethod::Incremental);
    let (recall, after) = world.recall(&world.ask(&queries, None), 10, 0.95, None);
    println!("{before:.0} sketches, {after:.0} after one build for recall {recall:.4}");
    assert!(after <= 1.3 * before, "{before:.0} sketches became {after:.0}");
}
