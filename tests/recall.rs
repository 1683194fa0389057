//! Searches reach the recall they aim at: that of held-out queries, compared by distance, so that
//! ties count as found.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation
)]

#[path = "recall/calibration.rs"]
mod calibration;
mod support;
#[path = "recall/world.rs"]
mod world;

use rand::RngExt;
use spinney::roaring::RoaringBitmap;
use spinney::{BuildMethod, Error, Metric, Nns, Reader, SearchStats};
use support::*;
use world::{DIMS, Reached, Source, World, admit};

const ITEMS: usize = 12_000;
/// Enough for a calibration, where it does not matter how good it is.
const FEW_ITEMS: usize = 3_000;
const QUERIES: usize = 400;
const FLOATS: [Metric; 4] =
    [Metric::Euclidean, Metric::Cosine, Metric::DotProduct, Metric::Manhattan];
const KS: [usize; 3] = [1, 10, 100];
/// How far a recall may be below its target.
const TOLERANCE: f64 = 0.05;

/// Prints a recall, and asserts that it is at most so much below its target.
#[track_caller]
fn assert_reached(what: &str, target: f32, reached: Reached, tolerance: f64) {
    let Reached { recall, sketches } = reached;
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
                    reached.sketches >= before,
                    "{metric}, k {k}, {target}: less is scanned than for less recall"
                );
                before = reached.sketches;
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
                let mut searched = SearchStats::default();
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
    for Reached { recall, sketches } in reached {
        assert!(
            (recall - reached[0].recall).abs() < 0.005
                && (sketches / reached[0].sketches - 1.0).abs() < 0.01,
            "{reached:?}"
        );
    }
}

/// One build does not move the effort by much, however many items it asks.
#[test]
fn one_build_moves_the_effort_by_little() {
    let seed = Seed::new(109);
    let mut source = Source::new(Metric::Euclidean, &seed);
    let world = World::of(&mut source, ITEMS);
    let queries = source.rows(QUERIES / 2);
    let before = world.recall(&world.ask(&queries, None), 10, 0.95, None).sketches;
    // Some more would be a bulk build.
    let gone = (0..ITEMS as u32).step_by(10);
    world.write(|writer, wtxn| gone.for_each(|id| assert!(writer.del_item(wtxn, id).unwrap())));
    assert_eq!(world.build(), BuildMethod::Incremental);
    let Reached { recall, sketches: after } =
        world.recall(&world.ask(&queries, None), 10, 0.95, None);
    println!("{before:.0} sketches, {after:.0} after one build for recall {recall:.4}");
    assert!(after <= 1.3 * before, "{before:.0} sketches became {after:.0}");
}
