//! Pages and neighbours: disjoint, sorted, of the right sizes, and all together everything.

use std::collections::HashMap;

use rand::RngExt;
use rand::seq::IndexedRandom;
use spinney::{BuildOptions, Example, Hit, Hits, Metric, Reader, Writer};

use crate::question::*;
use crate::subject::*;
use crate::support::*;

fn example(what: &What) -> Example<'_> {
    match what {
        What::Vector(vector) => Example::Vector(vector),
        What::Item(id) => Example::Item(*id),
        _ => panic!("pages are of one example"),
    }
}

/// All pages, each checked; of the last, whether it ends where it should.
fn all_pages(question: &Question, metric: Metric, items: &Items, reader: &Reader<'_>) -> Vec<Hit> {
    let oracle = question.oracle(metric, items);
    let mut pages = question.apply(reader).pages(example(&question.what)).unwrap();
    let (mut all, mut is_over): (Vec<Hit>, bool) = (Vec::new(), question.k == 0);
    loop {
        let page = pages.next_page().unwrap();
        oracle.check_hits(question, &page);
        assert!(
            page.is_empty() || !is_over,
            "{metric}: a page after the last one for {question:?}"
        );
        let found = page.len();
        all.extend(page);
        is_over |= found < question.k;
        if found == 0 {
            break;
        }
    }
    assert!(pages.next_page().unwrap().is_empty(), "{metric}: a page after none for {question:?}");
    let everything =
        Question { k: if question.k == 0 { 0 } else { usize::MAX }, ..question.clone() };
    let mut sorted = all.clone();
    sorted.sort_by(|a, b| {
        score(metric, a.distance).total_cmp(&score(metric, b.distance)).then(a.id.cmp(&b.id))
    });
    if question.effort.is_exact() {
        assert_eq!(all, sorted, "{metric}: pages of an exact search are sorted, for {question:?}");
    }
    oracle.check(&everything, &sorted);
    all
}

/// What neighbours there are, one by one.
fn neighbours(question: &Question, reader: &Reader<'_>) -> Vec<Hit> {
    let mut neighbours = question.apply(reader).neighbours(example(&question.what)).unwrap();
    let all = neighbours.by_ref().map(|hit| hit.unwrap()).collect();
    assert!(neighbours.next().is_none(), "a neighbour after the last one");
    all
}

fn sorted_ids(hits: &[Hit]) -> Vec<u32> {
    let mut ids: Vec<u32> = hits.iter().map(|hit| hit.id).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn all_pages_together_are_all_that_matches() {
    let seed = Seed::new(111);
    let store = Store::new();
    for (m, metric) in METRICS.into_iter().enumerate() {
        for (s, state) in STATES.into_iter().enumerate() {
            let mut rng = seed.rng((100 * m + s) as u64);
            let subject = Subject::in_state(&store, metric, state, &mut rng);
            let (reader, n) = (subject.reader(), subject.items.len());
            for round in 0..12 {
                let form = rng.random_range(0..2);
                let what = any_what(&mut rng, metric, &subject.items, form);
                let mut question =
                    Question::new(*[1, 2, 7, 64, 500].choose(&mut rng).unwrap(), what);
                if rng.random_bool(0.2) {
                    question.k = *ks(n).choose(&mut rng).unwrap();
                }
                question.effort = crate::EFFORTS[round % crate::EFFORTS.len()];
                let ranked = question.oracle(metric, &subject.items).matching;
                if rng.random_bool(0.4) {
                    question.filter = sets(&mut rng, &ranked).choose(&mut rng).cloned();
                }
                if rng.random_bool(0.3) {
                    question.admits = sets(&mut rng, &ranked).choose(&mut rng).cloned();
                }
                if rng.random_bool(0.2) {
                    let oracle = question.oracle(metric, &subject.items);
                    question.within =
                        Some(oracle.radius(*[0, 20, n / 2].choose(&mut rng).unwrap()));
                }
                if rng.random_bool(0.2) {
                    let oracle = question.oracle(metric, &subject.items);
                    question.beyond =
                        Some(oracle.radius(*[0, 20, n / 2].choose(&mut rng).unwrap()));
                }
                let all = all_pages(&question, metric, &subject.items, &reader);
                check_neighbours(&question, metric, &subject.items, &reader, &all);
            }
        }
    }
}

/// Neighbours have the content of pages, and stop at `k`.
fn check_neighbours(
    question: &Question,
    metric: Metric,
    items: &Items,
    reader: &Reader<'_>,
    pages: &[Hit],
) {
    let oracle = question.oracle(metric, items);
    let everything = Question { k: usize::MAX, ..question.clone() };
    let all = neighbours(&everything, reader);
    let some = neighbours(question, reader);
    let is_prefix = all.get(..some.len()) == Some(&some[..]);
    assert!(
        is_prefix && some.len() == question.k.min(all.len()),
        "{metric}: the first neighbours of {question:?}"
    );
    let is_whole = question.within.is_none() || question.effort.is_exact();
    if question.k > 0 && is_whole {
        assert_eq!(
            sorted_ids(&all),
            sorted_ids(pages),
            "{metric}: neighbours and pages of {question:?}"
        );
    }
    let mut sorted = all;
    sorted.sort_by(|a, b| {
        score(metric, a.distance).total_cmp(&score(metric, b.distance)).then(a.id.cmp(&b.id))
    });
    oracle.check(&everything, &sorted);
}

/// One hit at a time with the least effort: leaves hold second copies of what has come already.
#[test]
fn copies_of_what_has_come_do_not_end_the_pages() {
    let seed = Seed::new(112);
    let store = Store::new();
    for (m, metric) in METRICS.into_iter().enumerate() {
        let mut rng = seed.rng(m as u64);
        let subject = Subject::in_state(&store, metric, State::Grove, &mut rng);
        let reader = subject.reader();
        for k in [1, 2, 3, 10] {
            let what = any_what(&mut rng, metric, &subject.items, 0);
            let question = Question { effort: Effort::Least, ..Question::new(k, what) };
            all_pages(&question, metric, &subject.items, &reader);
        }
    }
}

/// A descent that begins at a leaf opens no branch. What waits for a build comes once all the same.
#[test]
fn pages_of_a_forest_without_branches_give_nothing_twice() {
    let seed = Seed::new(115);
    let store = Store::new();
    for (m, metric) in METRICS.into_iter().enumerate() {
        let mut rng = seed.rng(m as u64);
        let subject = Subject::in_state(&store, metric, State::Sprout, &mut rng);
        let reader = subject.reader();
        for k in [1, 10] {
            let what = any_what(&mut rng, metric, &subject.items, 0);
            let question = Question { effort: Effort::Least, ..Question::new(k, what) };
            all_pages(&question, metric, &subject.items, &reader);
        }
    }
}

/// Pages of a snapshot, while a writer adds, deletes, builds and commits between them, are those of
/// a quiet store.
#[test]
fn pages_of_a_snapshot_do_not_see_what_is_committed() {
    let seed = Seed::new(113);
    for (m, metric) in METRICS.into_iter().enumerate() {
        let mut rng = seed.rng(m as u64);
        let store = Store::new();
        let items = Subject::in_state(&store, metric, State::Changed, &mut rng).commit();
        let what = any_what(&mut rng, metric, &items, m);
        let what = if matches!(what, What::Vector(_) | What::Item(_)) {
            what
        } else {
            any_what(&mut rng, metric, &items, 1)
        };
        let question = Question::new(150, what);
        let rtxn = store.env.read_txn().unwrap();
        let reader = Reader::open(&rtxn, store.db, 0).unwrap();
        let mut quiet = question.apply(&reader).pages(example(&question.what)).unwrap();
        let expected: Vec<Hits> = (0..12).map(|_| quiet.next_page().unwrap()).collect();
        let other = Reader::open(&rtxn, store.db, 0).unwrap();
        let mut pages = question.apply(&other).pages(example(&question.what)).unwrap();
        for (i, expected) in expected.iter().enumerate() {
            let mut wtxn = store.env.write_txn().unwrap();
            let writer = Writer::open(&wtxn, store.db, 0).unwrap();
            for id in items.keys().skip(i).step_by(12) {
                match rng.random::<bool>() {
                    true => drop(writer.del_item(&mut wtxn, *id).unwrap()),
                    false => {
                        writer.add_item(&mut wtxn, *id, &uniform(&mut rng, metric, DIMS)).unwrap()
                    }
                }
            }
            if i % 3 == 0 {
                writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
            }
            wtxn.commit().unwrap();
            assert_eq!(&pages.next_page().unwrap(), expected, "{metric}: page {i}");
        }
        let total: usize = expected.iter().map(|page| page.len()).sum();
        assert_eq!(total, question.oracle(metric, &items).matching.len(), "{metric}: all pages");
    }
}

/// Two streams and single searches of one reader, taking turns, do not disturb each other.
#[test]
fn pages_of_one_reader_take_turns() {
    let seed = Seed::new(114);
    let store = Store::new();
    let mut rng = seed.rng(0);
    let metric = Metric::Euclidean;
    let subject = Subject::in_state(&store, metric, State::Changed, &mut rng);
    let reader = subject.reader();
    let whats: Vec<What> = (0..4).map(|_| any_what(&mut rng, metric, &subject.items, 0)).collect();
    let one = |what: &What| -> Vec<Hits> {
        let mut pages = reader.nns(40).pages(example(what)).unwrap();
        (0..8).map(|_| pages.next_page().unwrap()).collect()
    };
    let alone: HashMap<usize, Vec<Hits>> = whats.iter().map(one).enumerate().collect();
    let single: Vec<Hits> =
        whats.iter().map(|what| Question::new(10, what.clone()).ask(&reader)).collect();
    let mut streams: Vec<_> =
        whats.iter().map(|what| reader.nns(40).pages(example(what)).unwrap()).collect();
    let turns = (0..8).flat_map(|page| (0..whats.len()).map(move |i| (page, i)));
    for (page, i) in turns {
        assert_eq!(streams[i].next_page().unwrap(), alone[&i][page], "stream {i}, page {page}");
        assert_eq!(
            Question::new(10, whats[i].clone()).ask(&reader),
            single[i],
            "a search between pages"
        );
    }
}
