//! Laws of all forms of queries: whatever is asked, of an index in whatever state, agrees with a
//! brute-force oracle.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "forms/bounds.rs"]
mod bounds;
#[path = "forms/examples.rs"]
mod examples;
#[path = "forms/failures.rs"]
mod failures;
#[path = "forms/hits.rs"]
mod hits;
#[path = "forms/merged.rs"]
mod merged;
#[path = "forms/narrowing.rs"]
mod narrowing;
#[path = "forms/pages.rs"]
mod pages;
#[path = "forms/question.rs"]
mod question;
#[path = "forms/recalls.rs"]
mod recalls;
#[path = "forms/refusals.rs"]
mod refusals;
#[path = "forms/serialized.rs"]
mod serialized;
#[path = "forms/stops.rs"]
mod stops;
#[path = "forms/subject.rs"]
mod subject;
mod support;

use question::*;
use rand::RngExt;
use rand::seq::IndexedRandom;
use spinney::Metric;
use subject::*;
use support::*;

const EFFORTS: [Effort; 6] = [
    Effort::Usual,
    Effort::Least,
    Effort::Recall(70),
    Effort::Recall(100),
    Effort::Exact,
    Effort::Parallel,
];
const PATIENCES: [Patience; 4] =
    [Patience::Endless, Patience::FarDeadline, Patience::Callback, Patience::Both];

/// A question of all forms and options, at random.
pub fn any_question(rng: &mut Rng, subject: &Subject<'_>) -> Question {
    let n = subject.items.len();
    let form = rng.random_range(0..FORMS);
    let what = any_what(rng, subject.metric, &subject.items, form);
    let mut question = Question::new(*ks(n).choose(rng).unwrap(), what);
    question.effort = *EFFORTS.choose(rng).unwrap();
    let ranked = question.oracle(subject.metric, &subject.items).matching;
    if rng.random_bool(0.4) {
        question.filter = sets(rng, &ranked).choose(rng).cloned();
    }
    if rng.random_bool(0.3) {
        question.admits = sets(rng, &ranked).choose(rng).cloned();
    }
    if rng.random_bool(0.3) {
        let groups = *[1, 2, 7, 100, u64::MAX].choose(rng).unwrap();
        let most = *[1, 2, 5, usize::MAX].choose(rng).unwrap();
        question.per_group = Some(PerGroup { most, groups, is_k_groups: rng.random() });
    }
    if rng.random_bool(0.3) {
        let oracle = question.oracle(subject.metric, &subject.items);
        let rank = *[0, 1, 9, 70, n / 2, n].choose(rng).unwrap();
        let radius = oracle.radius(rank);
        question.within =
            Some(*[radius, radius, radius, 0.0, -1.0, f32::INFINITY].choose(rng).unwrap());
        if matches!(question.what, What::Mean(_) | What::Examples(..))
            && question.within == Some(0.0)
        {
            question.within = Some(radius);
        }
    }
    if rng.random_bool(0.3) {
        let oracle = question.oracle(subject.metric, &subject.items);
        let radius = oracle.radius(*[0, 1, 9, 70, n / 2, n].choose(rng).unwrap());
        let bounds = [radius, radius, radius, -1.0, f32::NEG_INFINITY, f32::INFINITY];
        question.beyond = Some(*bounds.choose(rng).unwrap());
    }
    question
}

/// Questions at random of an index in every state.
fn sweep(metric: Metric) {
    let seed = Seed::new(101);
    let store = Store::new();
    for (s, state) in STATES.into_iter().enumerate() {
        let mut rng = seed.rng(10 * s as u64);
        let subject = Subject::in_state(&store, metric, state, &mut rng);
        let reader = subject.reader();
        for _ in 0..if is_long() { 2_000 } else { 60 } {
            let question = any_question(&mut rng, &subject);
            let patience = *PATIENCES.choose(&mut rng).unwrap();
            let oracle = question.oracle(metric, &subject.items);
            let hits = question.ask_with(&reader, patience);
            oracle.check(&question, &hits);
            assert_eq!(
                question.ask(&reader),
                hits,
                "{metric}, {state:?}: asked twice, {question:?}"
            );
        }
    }
}

#[test]
fn all_forms_keep_their_contract_under_euclidean() {
    sweep(Metric::Euclidean);
}

#[test]
fn all_forms_keep_their_contract_under_cosine() {
    sweep(Metric::Cosine);
}

#[test]
fn all_forms_keep_their_contract_under_dot_product() {
    sweep(Metric::DotProduct);
}

#[test]
fn all_forms_keep_their_contract_under_manhattan() {
    sweep(Metric::Manhattan);
}

#[test]
fn all_forms_keep_their_contract_under_hamming() {
    sweep(Metric::Hamming);
}

/// Every k with every filter, by each form, as a set and as a predicate.
#[test]
fn every_form_with_every_k_and_every_filter() {
    let seed = Seed::new(102);
    let store = Store::new();
    for (m, metric) in METRICS.into_iter().enumerate() {
        let mut rng = seed.rng(m as u64);
        let subject = Subject::in_state(&store, metric, State::Changed, &mut rng);
        let reader = subject.reader();
        for form in 0..FORMS {
            let what = any_what(&mut rng, metric, &subject.items, form);
            let ranked = Question::new(1, what.clone()).oracle(metric, &subject.items).matching;
            for set in sets(&mut rng, &ranked) {
                let effort = *EFFORTS[..3].choose(&mut rng).unwrap();
                let as_set = Question {
                    filter: Some(set.clone()),
                    effort,
                    ..Question::new(0, what.clone())
                };
                let as_predicate =
                    Question { admits: Some(set), effort, ..Question::new(0, what.clone()) };
                for question in [as_set, as_predicate] {
                    let oracle = question.oracle(metric, &subject.items);
                    for k in ks(subject.items.len()) {
                        let question = Question { k, ..question.clone() };
                        oracle.check(&question, &question.ask(&reader));
                    }
                }
            }
        }
    }
}

/// `nns(usize::MAX).per_group(m, g)` gives the sum over all groups of min(m, size), however little
/// effort is asked for.
#[test]
fn all_of_each_group_are_found_in_the_end() {
    let seed = Seed::new(103);
    let store = Store::new();
    for (m, metric) in METRICS.into_iter().enumerate() {
        let mut rng = seed.rng(m as u64);
        for state in
            [State::Unbuilt, State::Bulk, State::Grove, State::Grown, State::Changed, State::Sprout]
        {
            let subject = Subject::in_state(&store, metric, state, &mut rng);
            let reader = subject.reader();
            let form = rng.random_range(0..FORMS);
            let what = any_what(&mut rng, metric, &subject.items, form);
            for (most, groups) in [(1, 1), (1, 40), (3, 300), (2, u64::MAX), (usize::MAX, 7)] {
                for (k, effort) in [
                    (usize::MAX, Effort::Usual),
                    (usize::MAX, Effort::Least),
                    (25, Effort::Least),
                    (2, Effort::Least),
                ] {
                    for is_k_groups in [false, true] {
                        let per_group = Some(PerGroup { most, groups, is_k_groups });
                        let question =
                            Question { per_group, effort, ..Question::new(k, what.clone()) };
                        question
                            .oracle(metric, &subject.items)
                            .check(&question, &question.ask(&reader));
                    }
                }
            }
        }
    }
}
