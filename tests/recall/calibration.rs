//! Calibration with queries that are distributed unlike the items.

use rand::RngExt;
use spinney::{BuildMethod, BuildOptions, Error, Metric};

use crate::support::*;
use crate::world::{DIMS, Reached, Source, World};
use crate::{FEW_ITEMS, FLOATS, ITEMS, KS, QUERIES, TOLERANCE, assert_reached};

/// Where the calibration begins in the record: it goes on to its end.
const CALIBRATION: usize = 576;

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

/// Some queries are like the items, others lie far outside of all leaves. A calibration on both
/// knows what they take, so that a high recall does not mean to compare all items.
#[test]
fn calibrated_queries_near_and_far_are_searched_through_the_forest() {
    let seed = Seed::new(19);
    for metric in [Metric::Euclidean, Metric::Cosine] {
        let mut source = Source::new(metric, &seed);
        let world = World::of(&mut source, ITEMS);
        let (known, unknown) = (source.far(QUERIES), source.far(QUERIES));
        assert!(world.calibrate(&known).unwrap());
        let asked = world.ask(&unknown, None);
        for target in [0.95, 0.98, 0.99] {
            let reached = world.recall(&asked, 10, target, None);
            println!("{metric}, near and far: {target} -> {reached:.4?}");
            assert_reached(&format!("{metric}, near and far"), target, reached, TOLERANCE);
            assert!(reached.sketches < ITEMS as f64, "{metric}: {reached:?} of {ITEMS} items");
        }
    }
}

/// A calibration on queries that all lie near items has not seen far ones, and still finds what they
/// ask for.
#[test]
fn far_queries_reach_their_target_if_near_ones_were_measured() {
    let seed = Seed::new(21);
    for metric in [Metric::Euclidean, Metric::Cosine] {
        let mut source = Source::new(metric, &seed);
        let world = World::of(&mut source, ITEMS);
        assert!(world.calibrate(&source.rows(QUERIES)).unwrap());
        let asked = world.ask(&source.far(QUERIES), None);
        let reached = world.recall(&asked, 10, 0.95, None);
        assert_reached(&format!("{metric}, far, measured near"), 0.95, reached, TOLERANCE);
    }
}

/// One query among those that are measured lies far outside of all leaves. It may take all of the
/// forest, and the others do not.
#[test]
fn one_far_query_does_not_make_all_others_compare_all_items() {
    let seed = Seed::new(23);
    for metric in [Metric::Euclidean, Metric::Cosine] {
        let mut source = Source::new(metric, &seed);
        let world = World::of(&mut source, ITEMS);
        let mut known = source.rows(QUERIES);
        known.iter_mut().take(DIMS).for_each(|x| *x += source.rng.random_range(-50.0..50.0f32));
        assert!(world.calibrate(&known).unwrap());
        let asked = world.ask(&source.rows(QUERIES), None);
        let reached = world.recall(&asked, 10, 0.99, None);
        println!("{metric}, one far: {reached:?}");
        assert_reached(&format!("{metric}, one far"), 0.99, reached, TOLERANCE);
        assert!(reached.sketches < ITEMS as f64, "{metric}: {reached:?} of {ITEMS} items");
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
            // Only every fourth query is measured with the largest k.
            let every = if k == KS[2] { 4 } else { 1 };
            let measured: Vec<_> = asked.iter().step_by(every).cloned().collect();
            for target in [0.8, 0.9, 0.95, 0.99] {
                let Reached { recall, sketches } = world.recall(&measured, k, target, None);
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

/// With items that wait for a build, the same queries give the same bytes at any number of threads.
/// These are the bytes of the record.
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
    let before = world.recall(&world.ask(&queries, None), 10, 0.95, None).recall;
    for step in 0..8 {
        world.add(step * 1_000, &source.rows(1_000));
        assert_eq!(world.build(), BuildMethod::Incremental);
    }
    let Reached { recall: after, sketches } =
        world.recall(&world.ask(&queries, None), 10, 0.95, None);
    println!(
        "between clusters: {before:.4}, after 8,000 overwrites {after:.4} ({sketches:.0} sketches)"
    );
    assert!(after >= before - 0.04, "recall fell from {before:.4} to {after:.4}");
}
