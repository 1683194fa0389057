//! Callbacks that fail: the error of the first that does is what the search returns.

use std::cell::Cell;
use std::fmt;
use std::ops::ControlFlow;

use spinney::{Error, Hit, Nns, Reader, Result, Snapshot};

use crate::question::*;
use crate::stops::questions;
use crate::subject::*;
use crate::support::*;

/// An error of the caller's own, with the call that failed.
#[derive(Debug, PartialEq)]
struct Failed(usize);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {} failed", self.0)
    }
}

impl std::error::Error for Failed {}

/// Counts calls, and fails from one of them on.
struct Fragile {
    calls: Cell<usize>,
    fails_at: usize,
}

impl Fragile {
    fn new(fails_at: usize) -> Self {
        Self { calls: Cell::new(0), fails_at }
    }

    fn call<T>(&self, value: T) -> Result<T, Failed> {
        let call = self.calls.replace(self.calls.get() + 1);
        if call < self.fails_at { Ok(value) } else { Err(Failed(call)) }
    }
}

#[track_caller]
fn assert_failed<T>(answer: Result<T>, call: usize, what: &str) {
    match answer {
        Err(Error::Callback(error)) => {
            assert_eq!(*error.downcast::<Failed>().unwrap(), Failed(call), "{what}");
        }
        Err(other) => panic!("{what}: another error: {other}"),
        Ok(_) => panic!("{what}: the failure was lost"),
    }
}

/// What a question's callbacks are given to.
type Ask<'a> = &'a dyn for<'n> Fn(Nns<'n>, &'n Fragile) -> Nns<'n>;

/// Fails at several calls, of as many as there are without a failure.
fn check(question: &Question, reader: &Reader<'_>, ask: Ask<'_>, expected: &[Hit], what: &str) {
    let steady = Fragile::new(usize::MAX);
    assert_eq!(question.put(ask(question.apply(reader), &steady)).unwrap(), expected, "{what}");
    let total = steady.calls.get();
    for fails_at in [0, 1, 5, 40, 333, total.saturating_sub(1), total] {
        let fragile = Fragile::new(fails_at);
        let answer = question.put(ask(question.apply(reader), &fragile));
        if fails_at < total {
            assert_failed(answer, fails_at, what);
            assert_eq!(fragile.calls.get(), fails_at + 1, "{what}: called after it had failed");
        } else {
            assert_eq!(answer.unwrap(), expected, "{what}");
        }
        let fragile = Fragile::new(fails_at);
        let on = || ControlFlow::Continue(());
        let answer = question.put(ask(question.apply(reader), &fragile).cancel(on));
        if fails_at < total {
            assert_failed(answer, fails_at, what);
        }
    }
}

#[test]
fn the_first_failure_is_what_a_search_returns() {
    let seed = Seed::new(141);
    let store = Store::new();
    for (m, metric) in METRICS.into_iter().enumerate() {
        for (s, state) in
            [State::Changed, State::Unbuilt, State::Grove, State::Small].into_iter().enumerate()
        {
            let mut rng = seed.rng((10 * m + s) as u64);
            let subject = Subject::in_state(&store, metric, state, &mut rng);
            let reader = subject.reader();
            for question in questions(&mut rng, &subject) {
                let what = format!("{metric}, {state:?}: {question:?}");
                let odd = |id: u32| id % 5 != 1;
                let expected = question.put(question.apply(&reader).filter_fn(odd)).unwrap();
                let ask: Ask<'_> =
                    &|nns, fragile| nns.try_filter_fn(move |id| fragile.call(odd(id)));
                check(&question, &reader, ask, &expected, &what);
                // Beside one that does not fail, before it and after it.
                let ask: Ask<'_> = &|nns, fragile| {
                    nns.filter_fn(|id| id % 5 != 1)
                        .try_filter_fn(|id| fragile.call(id % 5 != 1))
                        .filter_fn(|_| true)
                };
                check(&question, &reader, ask, &expected, &what);

                let expected = question
                    .put(question.apply(&reader).per_group(2, |id| u64::from(id % 40)))
                    .unwrap();
                let ask: Ask<'_> = &|nns, fragile| {
                    nns.try_per_group(2, move |id| fragile.call(u64::from(id % 40)))
                };
                check(&question, &reader, ask, &expected, &what);
            }
        }
    }
}

/// Neither a predicate nor the groups are asked once the other has failed.
#[test]
fn a_failure_ends_the_other_callbacks_too() {
    let seed = Seed::new(142);
    let store = Store::new();
    for (m, metric) in METRICS.into_iter().enumerate() {
        let mut rng = seed.rng(m as u64);
        let subject = Subject::in_state(&store, metric, State::Changed, &mut rng);
        let reader = subject.reader();
        for question in questions(&mut rng, &subject) {
            let what = format!("{metric}: {question:?}");
            for (predicate, group) in [(3, usize::MAX), (usize::MAX, 2), (0, 0), (3_000, 1)] {
                let (predicate, group) = (Fragile::new(predicate), Fragile::new(group));
                let nns = question.apply(&reader).try_filter_fn(|id| predicate.call(id % 3 > 0));
                let nns = nns.try_per_group(1, |id| group.call(u64::from(id % 9)));
                let failed = |it: &Fragile| it.calls.get() > it.fails_at;
                match question.put(nns) {
                    Err(_) => {
                        assert!(failed(&predicate) != failed(&group), "{what}: one of them, once")
                    }
                    Ok(_) => assert!(!failed(&predicate) && !failed(&group), "{what}: lost"),
                }
            }
        }
    }
}

/// Pages, iterators and batches end with the failure, and nothing comes after it.
#[test]
fn searches_of_many_answers_end_with_the_failure() {
    let seed = Seed::new(143);
    for (m, metric) in METRICS.into_iter().enumerate() {
        let store = Store::new();
        let mut rng = seed.rng(m as u64);
        let subject = Subject::in_state(&store, metric, State::Changed, &mut rng);
        let what = metric.to_string();
        let ids: Vec<u32> = subject.items.keys().copied().take(20).collect();
        let rows: Vec<f32> = ids.iter().flat_map(|id| subject.items[id].clone()).collect();
        {
            let reader = subject.reader();
            let row = &subject.items[&ids[0]];
            for exact in [false, true] {
                let nns = || if exact { reader.nns(5).exact() } else { reader.nns(5) };
                let fragile = Fragile::new(2_500);
                let mut pages =
                    nns().try_filter_fn(|id| fragile.call(id % 7 > 0)).pages(row).unwrap();
                let mut failure = None;
                while failure.is_none() {
                    match pages.next_page() {
                        Ok(page) => assert_eq!(page.len(), 5, "{what}: the failure was lost"),
                        Err(error) => failure = Some(error),
                    }
                }
                assert_failed(Err::<(), _>(failure.unwrap()), 2_500, &what);
                assert!(pages.next_page().unwrap().is_empty(), "{what}");
                assert_eq!(fragile.calls.get(), 2_501, "{what}");

                let fragile = Fragile::new(2_500);
                let nns =
                    if exact { reader.nns(usize::MAX).exact() } else { reader.nns(usize::MAX) };
                let mut neighbours =
                    nns.try_filter_fn(|id| fragile.call(id % 7 > 0)).neighbours(row).unwrap();
                assert_failed(neighbours.find_map(Result::err).map_or(Ok(()), Err), 2_500, &what);
                assert!(neighbours.next().is_none(), "{what}");
            }
            let fragile = Fragile::new(700);
            let by_vectors =
                reader.nns(5).try_filter_fn(|id| fragile.call(id % 7 > 0)).by_vectors(&rows);
            assert_failed(by_vectors, 700, &what);
            let fragile = Fragile::new(700);
            let by_items =
                reader.nns(5).try_filter_fn(|id| fragile.call(id % 7 > 0)).by_items(&ids);
            assert_failed(by_items, 700, &what);
            assert_eq!(fragile.calls.get(), 701, "{what}");
        }
        subject.commit();
        let mut snapshot = Snapshot::open(&store.env, store.db, 0).unwrap();
        let all = snapshot.nns(5).filter_fn(|id| id % 7 > 0).by_vectors(&rows).unwrap();
        let tried = snapshot
            .nns(5)
            .try_filter_fn(|id| Ok::<_, Failed>(id % 7 > 0))
            .by_vectors(&rows)
            .unwrap();
        assert_eq!(tried, all, "{what}");
        let fails = |_: u32| Err::<bool, _>(Failed(7));
        assert_failed(snapshot.nns(5).try_filter_fn(fails).by_vectors(&rows), 7, &what);
        assert_failed(
            snapshot.nns(5).filter_fn(|_| true).try_filter_fn(fails).by_items(&ids),
            7,
            &what,
        );
    }
}
