//! Rings and groups, by laws that need no oracle: a bound, a count or a group leaves out of the
//! whole answer what it should, and nothing else.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use spinney::{Example, Hit, Nns, SearchStats};

use crate::question::*;
use crate::subject::*;
use crate::support::*;

const MAX: usize = usize::MAX;

/// An exact search, by the calling thread, by several, and by its recall.
fn exactly(nns: Nns<'_>, way: usize) -> Nns<'_> {
    match way % 3 {
        0 => nns.exact(),
        1 => nns.exact().parallel(),
        _ => nns.recall(1.0),
    }
}

/// The bounds are included, whatever the number of hits, and even if they are those of hits.
#[test]
fn a_ring_is_what_lies_between_its_bounds() {
    let seed = Seed::new(151);
    let store = Store::new();
    for (m, metric) in METRICS.into_iter().enumerate() {
        for (s, state) in [State::Changed, State::Unbuilt, State::Small].into_iter().enumerate() {
            let mut rng = seed.rng((10 * m + s) as u64);
            let subject = Subject::in_state(&store, metric, state, &mut rng);
            let reader = subject.reader();
            for form in 0..3 {
                let what = any_what(&mut rng, metric, &subject.items, form);
                let question = Question::new(MAX, what);
                let all = question.put(question.apply(&reader).exact()).unwrap();
                let n = all.len();
                let bounds = [0, 5, 70, n / 3, n - 1].map(|rank| all[rank.min(n - 1)].distance);
                let limits = bounds.map(Some).into_iter().chain([None]);
                let pairs = limits.clone().flat_map(|a| limits.clone().map(move |b| (a, b)));
                for (way, (beyond, within)) in pairs.enumerate() {
                    let mut ring = all.to_vec();
                    ring.retain(|hit| {
                        is_beyond(metric, hit.distance, beyond)
                            && is_within(metric, hit.distance, within)
                    });
                    for k in [1, 64, 65, MAX] {
                        let question = Question { k, beyond, within, ..question.clone() };
                        let got = question.put(exactly(question.apply(&reader), way)).unwrap();
                        let expected = &ring[..k.min(ring.len())];
                        assert_eq!(got, expected, "{metric}, {state:?}: {question:?}");
                    }
                }
            }
        }
    }
}

/// Of a ring that is compared whole, all is compared once.
#[test]
fn an_exact_ring_takes_one_pass() {
    let seed = Seed::new(152);
    let store = Store::new();
    for metric in METRICS {
        let mut rng = seed.rng(metric as u64);
        let subject = Subject::in_state(&store, metric, State::Changed, &mut rng);
        let (reader, row) = (subject.reader(), subject.items.values().next().unwrap());
        let all = reader.nns(MAX).exact().by_vector(row).unwrap();
        let (beyond, within) = (all[100].distance, all[900].distance);
        for k in [10, 1_000] {
            let mut report = SearchStats::default();
            let nns = reader.nns(k).exact().beyond(beyond).within(within);
            nns.report(&mut report).by_vector(row).unwrap();
            assert_eq!(report.scanned_exactly, all.len() as u64, "{metric}");
        }
    }
}

/// The first `k` groups of sorted hits, with so many hits of each.
fn grouped(all: &[Hit], k: usize, most: usize, group: impl Fn(u32) -> u64) -> Vec<Hit> {
    let mut counts: HashMap<u64, usize> = HashMap::new();
    let mut kept = all.to_vec();
    kept.retain(|hit| {
        let group = group(hit.id);
        if counts.len() >= k && !counts.contains_key(&group) {
            return false;
        }
        let count = counts.entry(group).or_default();
        *count += 1;
        *count <= most
    });
    kept
}

/// Of items that are near another example, too: the nearest hits of each group are the nearest to
/// any example. They are not those of the examples to which the group is near.
#[test]
fn groups_have_their_nearest_hits() {
    let seed = Seed::new(153);
    let store = Store::new();
    for (m, metric) in METRICS.into_iter().enumerate() {
        let mut rng = seed.rng(m as u64);
        let subject = Subject::in_state(&store, metric, State::Changed, &mut rng);
        let reader = subject.reader();
        let whats = [0, 1, 2, 2, 2].map(|form| any_what(&mut rng, metric, &subject.items, form));
        for (way, what) in whats.into_iter().enumerate() {
            let question = Question::new(MAX, what);
            let all = question.put(question.apply(&reader).exact()).unwrap();
            for (groups, k, most) in [
                (1, 1, 3),
                (1, 3, MAX),
                (3, 5, 4),
                (3, MAX, MAX),
                (30, 1, 2),
                (30, 2, 5),
                (30, 40, 1),
            ] {
                let group = |id: u32| u64::from(id % groups);
                let question = Question { k, ..question.clone() };
                let nns = exactly(question.apply(&reader), way);
                let got = question.put(nns.per_group(1, u64::from).groups(most, group)).unwrap();
                let expected = grouped(&all, k, most, group);
                assert_eq!(got, expected, "{metric}: {k} of {groups} groups, {question:?}");
                // The last of the two counts.
                let nns = exactly(question.apply(&reader), way);
                let got = question.put(nns.groups(1, group).per_group(most, group)).unwrap();
                let mut expected = grouped(&all, MAX, most, group);
                expected.truncate(k);
                assert_eq!(got, expected, "{metric}: {k} of {groups} groups, {question:?}");
            }
        }
    }
}

/// The distance of a hit is that to the nearest example, so that no example has it too near.
#[test]
fn no_example_is_too_near_to_a_hit_beyond() {
    let seed = Seed::new(154);
    let store = Store::new();
    for (m, metric) in METRICS.into_iter().enumerate() {
        let mut rng = seed.rng(m as u64);
        let subject = Subject::in_state(&store, metric, State::Changed, &mut rng);
        let reader = subject.reader();
        let rows: Vec<&Vec<f32>> = subject.items.values().take(6).collect();
        let examples: Vec<Example<'_>> = rows.iter().map(|row| (*row).into()).collect();
        let all = reader.nns(MAX).exact().by_any(&examples).unwrap();
        let beyond = all[all.len() / 4].distance;
        for k in [1, 10, 200] {
            let mut far = all.to_vec();
            far.retain(|hit| is_beyond(metric, hit.distance, Some(beyond)));
            far.truncate(k);
            let got = reader.nns(k).exact().beyond(beyond).by_any(&examples).unwrap();
            assert_eq!(got, far, "{metric}: k {k}");
            let got = reader.nns(k).search_k(1).beyond(beyond).by_any(&examples).unwrap();
            assert_eq!(got.len(), far.len(), "{metric}: k {k}");
            assert!(got.iter().all(|hit| all.contains(hit)), "{metric}: k {k}");
            assert!(got.iter().all(|hit| is_beyond(metric, hit.distance, Some(beyond))));
        }
    }
}

/// Once the groups are known, a search that is stopped has them all.
#[test]
fn groups_that_were_found_outlast_a_stop() {
    let seed = Seed::new(155);
    let store = Store::new();
    for (m, metric) in METRICS.into_iter().enumerate() {
        let mut rng = seed.rng(m as u64);
        let subject = Subject::in_state(&store, metric, State::Changed, &mut rng);
        let reader = subject.reader();
        let rows: Vec<&Vec<f32>> = subject.items.values().take(3).collect();
        let examples: Vec<Example<'_>> = rows.iter().map(|row| (*row).into()).collect();
        let group = |id: u32| u64::from(id % 40);
        let ask = |most: usize, last_poll: usize| {
            let polls = Cell::new(0);
            let poll = || {
                polls.set(polls.get() + 1);
                if polls.get() > last_poll {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            };
            let hits = reader.nns(5).groups(most, group).cancel(poll).by_any(&examples).unwrap();
            (hits, polls.get())
        };
        let (known, total) = (ask(1, MAX).1, ask(4, MAX).1);
        assert!(known < total, "{metric}: {known} and {total} polls");
        for last_poll in known..total {
            let hits = ask(4, last_poll).0;
            let groups: HashSet<u64> = hits.iter().map(|hit| group(hit.id)).collect();
            assert_eq!((groups.len(), hits.is_partial()), (5, true), "{metric}: {last_poll}");
        }
    }
}
