//! Searches that are stopped, that panic, and that search within a search.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use spinney::roaring::RoaringBitmap;
use spinney::{Example, Hits, Metric, Reader, SearchPlan, SearchStats};

use crate::question::*;
use crate::subject::*;
use crate::support::*;

/// One question of each form and plan.
pub fn questions(rng: &mut Rng, subject: &Subject<'_>) -> Vec<Question> {
    let (metric, items) = (subject.metric, &subject.items);
    let what = |rng: &mut Rng, form| any_what(rng, metric, items, form);
    let plain: Vec<Question> = (0..FORMS).map(|form| Question::new(10, what(rng, form))).collect();
    let base = plain[0].clone();
    let oracle = base.oracle(metric, items);
    let sets = sets(rng, &oracle.matching);
    let (few, half, far) = (&sets[2], &sets[3], &sets[4]);
    let per_group = Some(PerGroup { most: 2, groups: 9, is_k_groups: false });
    let groups = Some(PerGroup { most: 2, groups: 8, is_k_groups: true });
    let (beyond, within) = (Some(oracle.radius(5)), Some(oracle.radius(80)));
    let any = what_any(rng, metric, items);
    let beyond_any = Some(any.oracle(metric, items).radius(4));
    let exact = Effort::Exact;
    let mut all = plain;
    all.extend([
        Question { filter: Some(few.clone()), ..base.clone() },
        Question { filter: Some(half.clone()), ..base.clone() },
        Question { admits: Some(far.clone()), filter: Some(half.clone()), ..base.clone() },
        Question { within: Some(oracle.radius(300)), k: usize::MAX, ..base.clone() },
        Question { within: Some(oracle.radius(30)), k: 20, ..base.clone() },
        Question { per_group, k: 15, ..base.clone() },
        Question {
            per_group,
            k: usize::MAX,
            within: Some(oracle.radius(200)),
            ..what_any(rng, metric, items)
        },
        Question { beyond, within, k: 70, ..base.clone() },
        Question { beyond, effort: exact, ..base.clone() },
        Question { beyond: beyond_any, k: 3, ..any.clone() },
        Question { per_group: groups, k: 3, ..base.clone() },
        Question { per_group: groups, k: 2, ..any },
        Question { effort: exact, ..base.clone() },
        Question { effort: exact, filter: Some(half.clone()), per_group, ..base.clone() },
        Question { effort: Effort::Parallel, ..base.clone() },
        Question { effort: Effort::Least, ..base },
    ]);
    all
}

fn what_any(rng: &mut Rng, metric: Metric, items: &Items) -> Question {
    Question::new(10, any_what(rng, metric, items, 2))
}

/// How often a search asks whether to stop.
fn polls(question: &Question, subject: &Subject<'_>) -> (usize, Hits) {
    let count = Cell::new(0);
    let found = question.ask_until(&subject.reader(), || {
        count.set(count.get() + 1);
        ControlFlow::Continue(())
    });
    (count.get(), found)
}

/// A search may be stopped at any poll, once or from then on. It gives a part of the answer and
/// says so.
#[test]
fn a_search_stopped_at_any_time_gives_what_it_has() {
    let seed = Seed::new(121);
    let store = Store::new();
    for (m, metric) in METRICS.into_iter().enumerate() {
        for (s, state) in [State::Changed, State::Unbuilt, State::Grove].into_iter().enumerate() {
            let mut rng = seed.rng((10 * m + s) as u64);
            let subject = Subject::in_state(&store, metric, state, &mut rng);
            let reader = subject.reader();
            for question in questions(&mut rng, &subject) {
                let oracle = question.oracle(metric, &subject.items);
                let whole = question.ask(&reader);
                let (total, found) = polls(&question, &subject);
                assert!(!whole.is_partial() && !found.is_partial(), "{metric}: {question:?}");
                assert_eq!(found, whole, "{metric}: {question:?}");
                for (stop, only_once) in (0..=total).flat_map(|stop| [(stop, false), (stop, true)])
                {
                    let count = Cell::new(0);
                    let found = question.ask_until(&reader, || {
                        let now = count.replace(count.get() + 1);
                        let is_now = if only_once { now == stop } else { now >= stop };
                        if is_now { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                    });
                    oracle.check_hits(&question, &found);
                    assert_eq!(
                        found.is_partial(),
                        stop < total,
                        "{metric}: poll {stop} of {total}, {question:?}"
                    );
                    if !found.is_partial() {
                        assert_eq!(found, whole, "{metric}: poll {stop} of {total}, {question:?}");
                    }
                }
            }
        }
    }
}

/// A deadline that has passed ends a search where a callback ends it that breaks at once.
#[test]
fn deadlines_end_searches_at_the_next_poll() {
    let seed = Seed::new(122);
    let store = Store::new();
    for (m, metric) in METRICS.into_iter().enumerate() {
        let mut rng = seed.rng(m as u64);
        let subject = Subject::in_state(&store, metric, State::Changed, &mut rng);
        let reader = subject.reader();
        for question in questions(&mut rng, &subject) {
            let oracle = question.oracle(metric, &subject.items);
            let (total, found) = polls(&question, &subject);
            let whole = found;
            for patience in [Patience::FarDeadline, Patience::Both] {
                assert_eq!(question.ask_with(&reader, patience), whole, "{metric}: {question:?}");
            }
            let mut reports = [SearchStats::default(); 2];
            let [by_deadline, by_callback] = &mut reports;
            let past = question.apply(&reader).report(by_deadline).deadline(Instant::now());
            let at_once =
                question.apply(&reader).report(by_callback).cancel(|| ControlFlow::Break(()));
            let found = question.put(past).unwrap();
            assert_eq!(found, question.put(at_once).unwrap(), "{metric}: {question:?}");
            assert_eq!(found.is_partial(), total > 0, "{metric}: {question:?}");
            oracle.check_hits(&question, &found);
            let work = reports.map(|report| {
                (report.leaves, report.reranked, report.scanned_exactly, report.bytes)
            });
            assert_eq!(work[0], work[1], "{metric}: {question:?}");
            // Whichever of two limits comes first.
            let later = Instant::now() + Duration::from_secs(3600);
            let stop = || ControlFlow::Break(());
            let found = question.put(question.apply(&reader).deadline(later).cancel(stop)).unwrap();
            assert_eq!(found.is_partial(), total > 0, "{metric}: {question:?}");
        }
    }
}

/// Callbacks of the user that panic at their i-th call.
fn panics_at(i: usize) -> impl Fn() {
    let count = Cell::new(0);
    move || {
        count.set(count.get() + 1);
        assert!(count.get() <= i, "as the test wants it");
    }
}

#[test]
fn callbacks_that_panic_leave_later_searches_alone() {
    let seed = Seed::new(123);
    let store = Store::new();
    // Panics of the callbacks need no message; others do.
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload_as_str().is_none_or(|message| !message.contains("as the test wants it")) {
            quiet(info);
        }
    }));
    for (m, metric) in METRICS.into_iter().enumerate() {
        let mut rng = seed.rng(m as u64);
        let subject = Subject::in_state(&store, metric, State::Changed, &mut rng);
        let reader = subject.reader();
        let questions = questions(&mut rng, &subject);
        let expected: Vec<Hits> = questions.iter().map(|question| question.ask(&reader)).collect();
        let mut panicked = 0;
        for (question, expected) in questions.iter().zip(&expected) {
            for i in [0, 1, 5, 40] {
                let (tick, group, poll) = (panics_at(i), panics_at(i), panics_at(i));
                let in_predicate = || {
                    let admits = |_: u32| {
                        tick();
                        true
                    };
                    question.put(question.apply(&reader).filter_fn(admits))
                };
                let in_group = || {
                    let group = |id: u32| {
                        group();
                        u64::from(id)
                    };
                    question.put(question.apply(&reader).per_group(1, group))
                };
                let in_poll = || {
                    let poll = || {
                        poll();
                        ControlFlow::Continue(())
                    };
                    question.put(question.apply(&reader).cancel(poll))
                };
                panicked += u32::from(catch_unwind(AssertUnwindSafe(in_predicate)).is_err());
                assert_eq!(
                    &question.ask(&reader),
                    expected,
                    "{metric}: after a predicate, {question:?}"
                );
                panicked += u32::from(catch_unwind(AssertUnwindSafe(in_group)).is_err());
                assert_eq!(
                    &question.ask(&reader),
                    expected,
                    "{metric}: after a group, {question:?}"
                );
                panicked += u32::from(catch_unwind(AssertUnwindSafe(in_poll)).is_err());
                assert_eq!(
                    &question.ask(&reader),
                    expected,
                    "{metric}: after a poll, {question:?}"
                );
            }
        }
        assert!(panicked > 50, "{metric}: {panicked} panics");
    }
}

/// Predicates, groups and polls that search themselves, by all forms, in the same reader.
#[test]
fn searches_within_searches_answer_as_they_do_alone() {
    let seed = Seed::new(124);
    let store = Store::new();
    for (m, metric) in METRICS.into_iter().enumerate() {
        let mut rng = seed.rng(m as u64);
        let subject = Subject::in_state(&store, metric, State::Changed, &mut rng);
        let reader = subject.reader();
        let questions = questions(&mut rng, &subject);
        let alone: Vec<Hits> = questions.iter().map(|question| question.ask(&reader)).collect();
        for (question, alone_outer) in questions.iter().zip(&alone) {
            let (calls, failures) = (Cell::new(0), RefCell::new(Vec::new()));
            let inner = || {
                // A search for each call would take long.
                let call = calls.replace(calls.get() + 1);
                let at = call % 97;
                if at < questions.len() && questions[at].ask(&reader) != alone[at] {
                    failures.borrow_mut().push(at);
                }
            };
            let admits = |id: u32| {
                inner();
                question.admits.as_ref().is_none_or(|set| set.contains(id))
            };
            let poll = || {
                inner();
                ControlFlow::Continue(())
            };
            let by_poll = question.ask_until(&reader, poll);
            assert_eq!(&by_poll, alone_outer, "{metric}: {question:?}");
            // A predicate may lead to another plan, and then to other hits than none has.
            let hits = question.put(question.apply(&reader).filter_fn(admits)).unwrap();
            let quiet = |id: u32| question.admits.as_ref().is_none_or(|set| set.contains(id));
            let expected = question.put(question.apply(&reader).filter_fn(quiet)).unwrap();
            assert_eq!(hits, expected, "{metric}: {question:?}");
            let group = |id: u32| {
                inner();
                u64::from(id)
            };
            let hits = question.put(question.apply(&reader).per_group(1, group)).unwrap();
            let expected = question.put(question.apply(&reader).per_group(1, u64::from)).unwrap();
            assert_eq!(hits, expected, "{metric}: {question:?}");
            assert!(
                calls.get() > 0 && failures.borrow().is_empty(),
                "{metric}: {failures:?} within {question:?}"
            );
        }
    }
}

/// As many candidates as are compared after a stop, at most.
const LAST: usize = 64;

/// The nearest of what was scanned is compared first. So a search that is stopped late nearly
/// always has the same first hit.
#[test]
fn what_is_compared_after_a_stop_is_the_nearest() {
    let seed = Seed::new(125);
    let store = Store::new();
    let (mut same, mut asked) = (0, 0);
    for (m, metric) in METRICS.into_iter().enumerate() {
        let mut rng = seed.rng(m as u64);
        let subject = Subject::in_state(&store, metric, State::Bulk, &mut rng);
        let reader = subject.reader();
        let most: RoaringBitmap = subject.items.keys().copied().filter(|id| id % 10 > 0).collect();
        for i in 0..20 {
            let what = any_what(&mut rng, metric, &subject.items, 0);
            let filter = (i % 2 == 1).then(|| most.clone());
            // More candidates than are compared at once.
            let question = Question { filter, ..Question::new(100, what) };
            let mut report = SearchStats::default();
            question.put(question.apply(&reader).report(&mut report)).unwrap();
            if report.plan != SearchPlan::Forest {
                continue;
            }
            let (total, whole) = polls(&question, &subject);
            for stop in total / 2..total {
                let late = question.ask_until(&reader, stops_at(stop, || {}));
                assert!(late.is_partial(), "{metric}: {question:?}");
                same += usize::from(late[0].distance == whole[0].distance);
                asked += 1;
            }
        }
    }
    assert!(asked > 200 && same * 100 >= 95 * asked, "{same} of {asked} have the same first hit");
}

/// Goes on for so many polls, and then breaks and says so.
fn stops_at(poll: usize, stopped: impl Fn()) -> impl Fn() -> ControlFlow<()> {
    let count = Cell::new(0);
    move || {
        if count.replace(count.get() + 1) < poll {
            return ControlFlow::Continue(());
        }
        stopped();
        ControlFlow::Break(())
    }
}

/// After a stop, a predicate that refuses everything is hardly asked any more, whatever the plan.
/// Nothing is polled again.
#[test]
fn refusing_predicates_do_not_outlast_a_stop() {
    let seed = Seed::new(126);
    let store = Store::new();
    for (m, metric) in METRICS.into_iter().enumerate() {
        let mut rng = seed.rng(m as u64);
        for state in [State::Bulk, State::Unbuilt, State::Changed] {
            let subject = Subject::in_state(&store, metric, state, &mut rng);
            let reader = subject.reader();
            let most: RoaringBitmap =
                subject.items.keys().copied().filter(|id| id % 10 > 0).collect();
            let questions = questions(&mut rng, &subject).into_iter().enumerate();
            let questions = questions.map(|(i, question)| match i % 2 {
                0 => {
                    Question { filter: question.filter.clone().or(Some(most.clone())), ..question }
                }
                _ => question,
            });
            for (question, stop) in
                questions.flat_map(|it| [0, 1, 2, 5, 9].map(|stop| (it.clone(), stop)))
            {
                let (asked, late, stopped) = (Cell::new(0), Cell::new(0), Cell::new(0));
                let refuse = |_: u32| {
                    let count = if stopped.get() == 0 { &asked } else { &late };
                    count.set(count.get() + 1);
                    false
                };
                let stops = stops_at(stop, || stopped.set(stopped.get() + 1));
                let found =
                    question.put(question.apply(&reader).filter_fn(refuse).cancel(stops)).unwrap();
                assert!(
                    found.is_empty() && stopped.get() <= 1,
                    "{metric}: {} stops, {question:?}",
                    stopped.get()
                );
                assert!(
                    late.get() <= 2 * LAST,
                    "{metric}: asked {} times after a stop, {question:?}",
                    late.get()
                );
                // Several leaves may be scanned from poll to poll; threads are given some thousands
                // of items.
                let many =
                    if question.effort == Effort::Parallel { 16_384 } else { 300 * (stop + 1) };
                assert!(
                    asked.get() <= many,
                    "{metric}: asked {} times in {stop} polls, {question:?}",
                    asked.get()
                );
            }
        }
    }
}

/// Of several searches in one, those that were not begun when the first was stopped find nothing.
/// Nothing is polled again.
#[test]
fn a_stop_ends_all_searches_of_a_batch() {
    let seed = Seed::new(127);
    let store = Store::new();
    let states = [State::Bulk, State::Unbuilt].into_iter();
    for (m, (metric, state)) in
        states.flat_map(|state| METRICS.map(|metric| (metric, state))).enumerate()
    {
        let mut rng = seed.rng(m as u64);
        let subject = Subject::in_state(&store, metric, state, &mut rng);
        let reader = subject.reader();
        let ids: Vec<u32> = subject.items.keys().copied().take(20).collect();
        let rows: Vec<f32> = ids.iter().flat_map(|id| subject.items[id].clone()).collect();
        let polled = Cell::new(0);
        // The second search, whatever it is, is stopped at its first poll.
        let first = Cell::new(0);
        let count = || {
            first.set(first.get() + 1);
            ControlFlow::Continue(())
        };
        assert!(!reader.nns(10).cancel(count).by_item(ids[0]).unwrap().unwrap().is_partial());
        let stop = || {
            polled.set(polled.get() + 1);
            if polled.get() > first.get() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let by_items = reader.nns(10).cancel(stop).by_items(&ids).unwrap();
        let found: Vec<Hits> = by_items.into_iter().map(Option::unwrap).collect();
        assert_eq!(polled.get(), first.get() + 1, "{metric}");
        assert!(
            !found[0].is_partial() && found[1..].iter().all(|found| found.is_partial()),
            "{metric}"
        );
        assert!(found[2..].iter().all(|found| found.is_empty()), "{metric}");

        let past = Instant::now();
        let found = reader.nns(10).deadline(past).by_vectors(&rows).unwrap();
        assert!(found[1..].iter().all(|found| found.is_partial() && found.is_empty()), "{metric}");
        // Searches that are too short to ask, either.
        let few: RoaringBitmap = ids.iter().copied().collect();
        let found = reader.nns(5).filter(&few).deadline(past).by_vectors(&rows).unwrap();
        assert!(found[1..].iter().all(|found| found.is_partial() && found.is_empty()), "{metric}");
        let examples: Vec<Example<'_>> =
            rows.chunks(rows.len() / ids.len()).map(Example::Vector).collect();
        check_examples(&reader, &examples, metric);
    }
}

/// Distances to the nearest of many examples are exact, though not all hits are returned.
fn check_examples(reader: &Reader<'_>, examples: &[Example<'_>], metric: Metric) {
    let whole = reader.nns(200).by_any(examples).unwrap();
    let (total, seen) = (Cell::new(0), Cell::new(0));
    let count = || {
        total.set(total.get() + 1);
        ControlFlow::Continue(())
    };
    assert_eq!(reader.nns(200).cancel(count).by_any(examples).unwrap(), whole, "{metric}");
    let late = || {
        seen.set(seen.get() + 1);
        if seen.get() + 3 > total.get() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let late = reader.nns(200).cancel(late).by_any(examples).unwrap();
    // One example has nothing to be compared with: what was found is kept.
    let alone =
        reader.nns(usize::MAX).exact().cancel(stops_at(20, || {})).by_any(&examples[..1]).unwrap();
    assert!(alone.is_partial() && alone.len() > 500, "{metric}: {} hits", alone.len());
    assert!(late.is_partial() && late.len() >= LAST, "{metric}: {}", late.len());
    let exact = reader.nns(usize::MAX).exact().by_any(examples).unwrap();
    assert!(late.iter().all(|hit| exact.contains(hit)), "{metric}");
}
