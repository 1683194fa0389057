//! Recall of the forms that do not compare everything, on clustered data, with fixed seeds.

use rand::RngExt;
use rand::seq::SliceRandom;
use spinney::roaring::RoaringBitmap;
use spinney::{BuildOptions, Hit, Metric};

use crate::question::*;
use crate::subject::*;
use crate::support::*;

const ROWS: usize = 6_000;
/// As many as make chance move a mean recall by a hundredth.
const QUERIES: usize = 60;
const WIDE: usize = 32;

/// A built index, some of whose items wait for a build, and queries like its items.
fn world<'e>(store: &'e Store, metric: Metric, seed: &Seed) -> (Subject<'e>, Vec<Vec<f32>>, Rng) {
    let mut rng = seed.rng(metric as u64);
    let mut rows = vectors(&mut rng, metric, WIDE, ROWS + QUERIES, Spread::Clusters);
    let queries = rows.split_off(ROWS);
    let mut subject = Subject::new(store, metric, WIDE);
    subject.add_rows((0..).zip(rows).collect());
    subject.build(&BuildOptions::default());
    subject.change(&mut rng, 50);
    (subject, queries, rng)
}

/// Prints recalls by name, and fails if one is too low.
fn assert_recalls(metric: Metric, what: &str, recalls: &[(String, f64)]) {
    eprintln!("{metric}, {what}: {recalls:.3?}");
    for (name, recall) in recalls {
        assert!(*recall >= 0.9, "{metric}, {what}, {name}: recall {recall}");
    }
}

/// The mean over all queries of the recall of what `question` makes of each.
fn mean_recall(
    subject: &Subject<'_>,
    queries: &[Vec<f32>],
    question: impl Fn(&[f32]) -> Question,
) -> f64 {
    let reader = subject.reader();
    let one = |query: &Vec<f32>| {
        let question = question(query);
        let oracle = question.oracle(subject.metric, &subject.items);
        let hits = question.ask(&reader);
        oracle.check(&question, &hits);
        oracle.recall(&question, &hits)
    };
    queries.iter().map(one).sum::<f64>() / queries.len() as f64
}

#[test]
fn pages_together_have_nine_of_ten() {
    let seed = Seed::new(131);
    let store = Store::new();
    for metric in METRICS {
        let (subject, queries, _) = world(&store, metric, &seed);
        let reader = subject.reader();
        let mut recalls = vec![0.0; 8];
        for query in &queries {
            let all = Question::new(usize::MAX, What::Vector(query.clone()))
                .oracle(metric, &subject.items);
            let mut pages = reader.nns(10).pages(query).unwrap();
            let mut met: Vec<Hit> = Vec::new();
            for (page, recall) in recalls.iter_mut().enumerate() {
                met.extend(pages.next_page().unwrap());
                let so_far = Question::new(10 * (page + 1), What::Vector(query.clone()));
                *recall += all.recall(&so_far, &met) / queries.len() as f64;
            }
        }
        let recalls: Vec<_> =
            recalls.into_iter().enumerate().map(|(i, r)| (format!("page {}", i + 1), r)).collect();
        assert_recalls(metric, "pages of 10", &recalls);
    }
}

/// Pages of what filters admit that have nothing to do with the queries, or leave out what is near.
#[test]
fn pages_under_filters_have_nine_of_ten() {
    let seed = Seed::new(134);
    let store = Store::new();
    for metric in METRICS {
        let (subject, queries, mut rng) = world(&store, metric, &seed);
        let (items, reader) = (&subject.items, subject.reader());
        for kind in ["5% random", "25% random", "50% farthest", "90% farthest"] {
            let (percent, what) = kind.split_once("% ").unwrap();
            let percent: usize = percent.parse().unwrap();
            let mut recalls = vec![0.0; 6];
            for query in &queries {
                let question = Question::new(usize::MAX, What::Vector(query.clone()));
                let mut ids: Vec<u32> =
                    question.oracle(metric, items).matching.iter().map(|it| it.id).collect();
                if what == "random" {
                    ids.shuffle(&mut rng);
                }
                let set: RoaringBitmap =
                    ids[ids.len() - ids.len() * percent / 100..].iter().copied().collect();
                let is_set = rng.random_bool(0.5);
                let filter = |k: usize| Question {
                    filter: is_set.then(|| set.clone()),
                    admits: (!is_set).then(|| set.clone()),
                    ..Question::new(k, What::Vector(query.clone()))
                };
                let all = filter(usize::MAX).oracle(metric, items);
                let asked = filter(10);
                let mut pages = asked.apply(&reader).pages(query).unwrap();
                let mut met: Vec<Hit> = Vec::new();
                for (page, recall) in recalls.iter_mut().enumerate() {
                    met.extend(pages.next_page().unwrap());
                    *recall += all.recall(&filter(10 * (page + 1)), &met) / queries.len() as f64;
                }
            }
            let recalls: Vec<_> = recalls
                .into_iter()
                .enumerate()
                .map(|(i, r)| (format!("page {}", i + 1), r))
                .collect();
            assert_recalls(metric, kind, &recalls);
        }
    }
}

#[test]
fn radii_groups_and_examples_have_nine_of_ten() {
    let seed = Seed::new(132);
    let store = Store::new();
    for metric in METRICS {
        let (subject, queries, _) = world(&store, metric, &seed);
        let items = &subject.items;
        let mut recalls = Vec::new();
        for rank in [0, 5, 40, 200] {
            for k in [usize::MAX, 50] {
                let recall = mean_recall(&subject, &queries, |query| {
                    let question = Question::new(k, What::Vector(query.to_vec()));
                    let radius = question.oracle(metric, items).radius(rank);
                    Question { within: Some(radius), ..question }
                });
                recalls.push((format!("within {rank}, k {k}"), recall));
            }
        }
        for (rank, k) in [(100, 10), (100, usize::MAX)] {
            let recall = mean_recall(&subject, &queries, |query| {
                let question = Question::new(k, What::Vector(query.to_vec()));
                let oracle = question.oracle(metric, items);
                let beyond = Some(oracle.radius(rank));
                let within = (k > 10).then(|| oracle.radius(rank + 100));
                Question { beyond, within, ..question }
            });
            recalls.push((format!("beyond {rank}, k {k}"), recall));
        }
        for (k, most, groups) in [(10, 1, 5), (10, 1, 1_000), (10, 3, 20), (4, 3, 20)] {
            let recall = mean_recall(&subject, &queries, |query| {
                let per_group = Some(PerGroup { most, groups, is_k_groups: k < 10 });
                Question { per_group, ..Question::new(k, What::Vector(query.to_vec())) }
            });
            recalls.push((format!("k {k}, {most} of each of {groups} groups"), recall));
        }
        // The last form is left out: what is unlike an example is unlike the queries that the
        // effort was measured with.
        for form in 1..FORMS - 1 {
            let recall = mean_recall(&subject, &queries, |query| {
                Question::new(10, near_each_other(query, metric, items, form))
            });
            recalls.push((format!("form {form}"), recall));
        }
        assert_recalls(metric, "forms", &recalls);
    }
}

/// Examples that belong together, as those of a user do: a query, and two of the items near it.
fn near_each_other(query: &[f32], metric: Metric, items: &Items, form: usize) -> What {
    let ranked = ranked(metric, items, query);
    let (a, b) = (ranked[3].id, ranked[17].id);
    let query = Given::Vector(query.to_vec());
    match form {
        2 => What::Any(vec![query, Given::Item(a), Given::Item(b)]),
        3 if metric != Metric::Hamming => What::Mean(vec![query, Given::Item(a)]),
        _ => What::Item(a),
    }
}

/// Filters of all sizes, as sets and as predicates, whatever they have to do with the queries.
#[test]
fn filters_of_all_kinds_have_nine_of_ten() {
    let seed = Seed::new(133);
    let store = Store::new();
    for metric in METRICS {
        let (subject, queries, mut rng) = world(&store, metric, &seed);
        let items = &subject.items;
        let mut recalls = Vec::new();
        for percent in [5, 25, 50, 90] {
            let random: RoaringBitmap = items
                .keys()
                .copied()
                .filter(|_| rng.random_bool(f64::from(percent) / 100.0))
                .collect();
            let first =
                Question::new(1, What::Vector(queries[0].clone())).oracle(metric, items).matching;
            let kept = first.len() * percent as usize / 100;
            // What is near one of the queries, and far from many others.
            let correlated: RoaringBitmap = first[..kept].iter().map(|ranked| ranked.id).collect();
            let opposite: RoaringBitmap =
                first[first.len() - kept..].iter().map(|ranked| ranked.id).collect();
            for (name, set) in
                [("random", random), ("correlated", correlated), ("opposite", opposite)]
            {
                let of_set = mean_recall(&subject, &queries, |query| {
                    let what = What::Vector(query.to_vec());
                    Question { filter: Some(set.clone()), ..Question::new(10, what) }
                });
                let of_predicate = mean_recall(&subject, &queries, |query| {
                    let what = What::Vector(query.to_vec());
                    Question { admits: Some(set.clone()), ..Question::new(10, what) }
                });
                recalls.push((format!("{percent}% {name}"), of_set));
                recalls.push((format!("{percent}% {name} fn"), of_predicate));
            }
        }
        assert_recalls(metric, "filters", &recalls);
    }
}
