//! Options that are given twice: filters narrow each other, the first stop counts.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rand::RngExt;
use spinney::roaring::RoaringBitmap;
use spinney::{Hits, Metric, Nns, SearchPlan, SearchStats, Snapshot};

use crate::subject::*;
use crate::support::*;

#[test]
fn filters_that_are_added_leave_out_more() {
    let seed = Seed::new(131);
    let store = Store::new();
    for (m, metric) in METRICS.into_iter().enumerate() {
        let mut rng = seed.rng(m as u64);
        let subject = Subject::in_state(&store, metric, State::Changed, &mut rng);
        let reader = subject.reader();
        let mut some = |part: f64| -> RoaringBitmap {
            subject.items.keys().copied().filter(|_| rng.random_bool(part)).collect()
        };
        for (one, two) in
            [(some(0.5), some(0.7)), (some(0.9), some(0.02)), (some(0.3), RoaringBitmap::new())]
        {
            let both = &one & &two;
            let row = subject.items.values().next().unwrap();
            let ask = |nns: Nns<'_>| -> Hits { nns.by_vector(row).unwrap() };
            let expected = ask(reader.nns(10).filter(&both));
            assert_eq!(expected.len(), 10.min(both.len() as usize));
            assert_eq!(ask(reader.nns(10).filter(&one).filter(&two)), expected, "{metric}");
            assert_eq!(
                ask(reader.nns(10).filter(&two).filter(&one).filter(&two)),
                expected,
                "{metric}"
            );
            let expected = ask(reader.nns(10).filter_fn(|id| both.contains(id)));
            let twice =
                reader.nns(10).filter_fn(|id| one.contains(id)).filter_fn(|id| two.contains(id));
            assert_eq!(ask(twice), expected, "{metric}");
        }
    }
}

#[test]
fn filters_of_batches_narrow_each_other_too() {
    let store = Store::new();
    {
        let mut subject = Subject::new(&store, Metric::Euclidean, 2);
        let mut rng = Seed::new(132).rng(0);
        subject.add_rows((0..1_500).map(|id| (id, vec![rng.random(), rng.random()])).collect());
        subject.commit();
    }
    let (one, two) = ((0..900).collect::<RoaringBitmap>(), (600..1_500).collect::<RoaringBitmap>());
    let mut snapshot = Snapshot::open(&store.env, store.db, 0).unwrap();
    let rows = [0.1, 0.2, 0.3, 0.4];
    let by_sets = snapshot.nns(20).filter(&one).filter(&two).by_vectors(&rows).unwrap();
    let nns = snapshot.nns(20).filter_fn(|id| one.contains(id)).filter_fn(|id| two.contains(id));
    assert_eq!(nns.by_vectors(&rows).unwrap(), by_sets);
    assert!(
        by_sets.iter().flatten().all(|hit| (600..900).contains(&hit.id)) && by_sets[0].len() == 20
    );
}

#[test]
fn of_two_stops_the_first_counts() {
    let seed = Seed::new(133);
    let store = Store::new();
    let mut rng = seed.rng(0);
    let subject = Subject::in_state(&store, Metric::Euclidean, State::Bulk, &mut rng);
    let reader = subject.reader();
    let row = subject.items.values().next().unwrap();
    let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(3_600));
    for (a, b) in [(now, later), (later, now)] {
        assert!(reader.nns(10).deadline(a).deadline(b).by_vector(row).unwrap().is_partial());
    }
    // Without one, the others count, if there are any.
    for (a, b) in [(Some(now), None), (None, Some(now))] {
        assert!(reader.nns(10).deadline(a).deadline(b).by_vector(row).unwrap().is_partial());
    }
    let found = reader.nns(10).deadline(None).by_vector(row).unwrap();
    assert!(!found.is_partial() && found == reader.nns(10).by_vector(row).unwrap());
    let polled = [Cell::new(0), Cell::new(0)];
    let poll = |which: usize, ends: bool| {
        let polled = &polled[which];
        move || {
            polled.set(polled.get() + 1);
            if ends { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    };
    for (a, b) in [(true, false), (false, true)] {
        assert!(
            reader
                .nns(10)
                .cancel(poll(0, a))
                .cancel(poll(1, b))
                .by_vector(row)
                .unwrap()
                .is_partial()
        );
    }
    assert_eq!(
        polled.map(Cell::into_inner),
        [2, 1],
        "the first is asked first, and alone if it breaks"
    );
}

/// Who says how many sketches are scanned among a few items gets all of these compared.
#[test]
fn few_items_are_compared_rather_than_looked_for_in_all_leaves() {
    let seed = Seed::new(134);
    let store = Store::new();
    for (m, metric) in METRICS.into_iter().enumerate() {
        let mut rng = seed.rng(m as u64);
        let subject = Subject::in_state(&store, metric, State::Bulk, &mut rng);
        let reader = subject.reader();
        let row = subject.items.values().next().unwrap();
        let few: RoaringBitmap = subject.items.keys().copied().step_by(700).collect();
        let mut report = SearchStats::default();
        let hits =
            reader.nns(10).search_k(100).filter(&few).report(&mut report).by_vector(row).unwrap();
        assert_eq!((hits.len(), report.plan), (few.len() as usize, SearchPlan::Exact), "{metric}");
        let hits = reader.nns(10).search_k(100).report(&mut report).by_vector(row).unwrap();
        assert_eq!((hits.len(), report.plan), (10, SearchPlan::Forest), "{metric}");
    }
}
