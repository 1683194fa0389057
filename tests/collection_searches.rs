//! Laws of searches for documents: pages, groups, and many at once by several threads.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

mod support;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use rand::RngExt;
use rand::seq::IndexedRandom;
use spinney::{
    BuildOptions, Collection, Document, DocumentHit, DocumentKey, Documents, Error, IndexOptions,
    Metric, Nns, Reads, SearchStats, Store,
};
use support::{Rng, play_worlds};

const DIMS: usize = 2;

/// The vectors and labels of each document.
type Model = BTreeMap<DocumentKey, (Vec<f32>, Vec<&'static str>)>;

fn point(rng: &mut Rng) -> [f32; DIMS] {
    // Few values, so that many are equally near.
    [rng.random_range(0..60u8).into(), rng.random_range(0..60u8).into()]
}

fn filled(store: &Store, rng: &mut Rng) -> (Collection, Model) {
    let docs = store.collection("docs", &IndexOptions::new(DIMS, Metric::Euclidean)).unwrap();
    store.set_build_after("docs", None).unwrap();
    let mut model = Model::new();
    let max_rows = *[1, 4, 60].choose(rng).unwrap();
    let count = rng.random_range(1..1500);
    for round in 0..2 {
        let documents: Vec<_> = (0..count / (1 + 4 * round))
            .map(|_| {
                let rows: Vec<f32> =
                    (0..rng.random_range(1..=max_rows)).flat_map(|_| point(rng)).collect();
                let labels = [vec![], vec!["a"], vec!["a", "b"]].choose(rng).unwrap().clone();
                (DocumentKey::from(rng.random_range(0..5000u64)), (rows, labels))
            })
            .collect();
        store
            .write(|txn| {
                docs.put_many(
                    txn,
                    documents.iter().map(|(key, (rows, labels))| {
                        let document = Document::with_vectors(rows.clone());
                        (key, document.labels(labels.iter().copied()).payload(key.as_bytes()))
                    }),
                )?;
                // Those of the second round wait for a build.
                if round == 0 {
                    docs.build(txn, &BuildOptions::default())?;
                }
                Ok::<_, Error>(())
            })
            .unwrap();
        model.extend(documents);
    }
    (docs, model)
}

/// A search with options that were drawn.
#[derive(Clone, Debug)]
struct Question {
    k: usize,
    label: Option<&'static str>,
    is_scoped: bool,
    within: Option<f32>,
    beyond: Option<f32>,
    modulus: Option<u64>,
    is_exact: bool,
    query: [f32; DIMS],
}

impl Question {
    fn new(rng: &mut Rng) -> Self {
        let label = [None, Some("a"), Some("b")].choose(rng).copied().unwrap();
        Self {
            k: *[1, 2, 7, 100, 5000].choose(rng).unwrap(),
            label,
            is_scoped: rng.random(),
            within: rng.random_bool(0.3).then(|| rng.random_range(0..40u8).into()),
            beyond: rng.random_bool(0.3).then(|| rng.random_range(0..20u8).into()),
            modulus: rng.random_bool(0.3).then(|| rng.random_range(1..5)),
            is_exact: rng.random(),
            query: point(rng),
        }
    }

    fn view(&self, docs: &Collection) -> Collection {
        match self.label {
            Some(label) if self.is_scoped => docs.scoped(label).unwrap(),
            _ => docs.clone(),
        }
    }

    fn ask<'a, S: Reads>(
        &self,
        view: &'a Collection,
        source: &'a S,
        k: usize,
    ) -> Nns<'a, Documents<'a, S>> {
        let mut nns = view.search(source, k).payload(true);
        if let Some(label) = self.label {
            nns = nns.labelled(label);
        }
        if let Some(within) = self.within {
            nns = nns.within(within);
        }
        if let Some(beyond) = self.beyond {
            nns = nns.beyond(beyond);
        }
        if let Some(modulus) = self.modulus {
            nns = nns.filter_fn(move |key| key.as_u64().unwrap() % modulus == 0);
        }
        if self.is_exact { nns.exact() } else { nns }
    }

    /// The documents that match, with the distances of their nearest vectors that do.
    fn matching(&self, model: &Model) -> HashMap<DocumentKey, f32> {
        let mut all = HashMap::new();
        for (key, (rows, labels)) in model {
            let is_meant = self.label.is_none_or(|label| labels.contains(&label))
                && self.modulus.is_none_or(|modulus| key.as_u64().unwrap() % modulus == 0);
            let distances = rows.chunks_exact(DIMS).map(|row| distance(row, &self.query));
            let is_between = |d: &f32| {
                self.within.is_none_or(|within| *d <= within)
                    && self.beyond.is_none_or(|beyond| *d >= beyond)
            };
            let nearest = distances.filter(is_between).min_by(f32::total_cmp);
            if let Some(nearest) = nearest.filter(|_| is_meant) {
                all.insert(key.clone(), nearest);
            }
        }
        all
    }
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt()
}

/// Every page of a question, in one list; each checked by itself.
fn paged<S: Reads>(question: &Question, docs: &Collection, source: &S) -> Vec<DocumentHit> {
    let view = question.view(docs);
    let mut pages = question.ask(&view, source, question.k).pages(&question.query).unwrap();
    let mut all = Vec::new();
    loop {
        let page = pages.next_page().unwrap();
        assert!(page.is_sorted_by(|a, b| a.distance <= b.distance), "{question:?}");
        assert!(page.len() <= question.k && !page.is_partial(), "{question:?}");
        let is_last = page.len() < question.k;
        all.extend(page);
        if is_last {
            break;
        }
    }
    assert!(pages.next_page().unwrap().is_empty(), "{question:?}");
    all
}

fn check_pages<S: Reads>(question: &Question, docs: &Collection, source: &S, model: &Model) {
    let all = paged(question, docs, source);
    let matching = question.matching(model);
    let mut came = HashMap::new();
    for hit in &all {
        assert_eq!(hit.payload.as_deref(), Some(hit.key.as_bytes()));
        assert!(came.insert(hit.key.clone(), hit.distance).is_none(), "twice: {question:?}");
    }
    let view = question.view(docs);
    let neighbours = question.ask(&view, source, usize::MAX).neighbours(&question.query).unwrap();
    let neighbours: Vec<DocumentHit> = neighbours.map(Result::unwrap).collect();
    if question.is_exact {
        assert_eq!(came.len(), matching.len(), "{question:?}");
        assert_eq!(came, matching, "{question:?}");
        let once = question.ask(&view, source, usize::MAX).by_vector(&question.query).unwrap();
        assert_eq!(once, all, "{question:?}");
        assert_eq!(neighbours, all, "{question:?}");
    } else {
        // What a search misses comes late. Within a distance it may not come at all.
        assert!(came.keys().all(|key| matching.contains_key(key)), "{question:?}");
        assert!(question.within.is_some() || came.len() == matching.len(), "{question:?}");
        assert!(question.within.is_some() || neighbours.len() == matching.len(), "{question:?}");
    }
    let some = question.ask(&view, source, question.k).neighbours(&question.query).unwrap();
    assert_eq!(some.count(), question.k.min(neighbours.len()), "{question:?}");
}

fn play_pages(mut rng: Rng) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (docs, model) = filled(&store, &mut rng);
    let snapshot = store.snapshot().unwrap();
    for _ in 0..6 {
        let question = Question::new(&mut rng);
        check_pages(&question, &docs, &store, &model);
        check_pages(&question, &docs, &snapshot, &model);
    }
    let question = Question::new(&mut rng);
    store
        .read(|txn| {
            check_pages(&question, &docs, txn, &model);
            Ok::<_, Error>(())
        })
        .unwrap();
    store
        .write(|txn| {
            let mut model = model.clone();
            docs.put(txn, 7u64, &Document::new(question.query).payload(7u64.to_be_bytes()))?;
            model.insert(7.into(), (question.query.to_vec(), Vec::new()));
            check_pages(&question, &docs, txn, &model);
            Err::<(), _>(Error::Cancelled)
        })
        .unwrap_err();
    // What is committed between two pages of a store is not seen.
    let expected = paged(&question, &docs, &store);
    let view = question.view(&docs);
    let mut pages = question.ask(&view, &store, question.k).pages(&question.query).unwrap();
    let mut all = pages.next_page().unwrap().into_vec();
    let keys: Vec<_> = model.keys().cloned().collect();
    loop {
        store
            .write(|txn| {
                docs.delete(txn, keys.choose(&mut rng).unwrap())?;
                let near = Document::new(question.query).labels(["a", "b"]);
                docs.put(txn, rng.random_range(0..5000u64), &near)
            })
            .unwrap();
        let page = pages.next_page().unwrap();
        if page.is_empty() {
            break;
        }
        all.extend(page);
    }
    assert_eq!(all, expected, "{question:?}");
}

#[test]
fn all_pages_together_are_all_documents_that_match() {
    play_worlds(0x20_9a6e, if support::is_long() { 200 } else { 12 }, play_pages);
}

#[test]
fn pages_of_what_cannot_be_paged_are_refused_and_stops_end_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (docs, model) = filled(&store, &mut support::rng(77));
    store
        .write(|txn| {
            docs.put(txn, "one", &Document::new([1.0, 1.0]))?;
            docs.put(txn, "two", &Document::with_vectors([1.0, 1.0, 2.0, 2.0]))
        })
        .unwrap();
    let search = || docs.search(&store, 5);
    let refused = search().pages("two").map(|_| ());
    assert!(matches!(refused, Err(Error::Incompatible { option: "pages", .. })), "{refused:?}");
    let refused = search().groups(1, |_| 0).pages(&[1.0, 1.0]).map(|_| ());
    assert!(matches!(refused, Err(Error::Incompatible { option: "groups", .. })), "{refused:?}");
    assert!(matches!(search().pages("none").map(|_| ()), Err(Error::DocumentNotFound(_))));
    assert!(matches!(search().pages(&[1.0]).map(|_| ()), Err(Error::Dimensions { .. })));
    // An example is left out of its own pages.
    let mut pages = search().exact().pages("one").unwrap();
    let mut came = 0;
    loop {
        let page = pages.next_page().unwrap();
        assert!(page.iter().all(|hit| hit.key != "one"));
        came += page.len();
        if page.is_empty() {
            break;
        }
    }
    assert_eq!(came, model.len() + 1);
    let calls = Cell::new(0);
    let stop = || {
        calls.set(calls.get() + 1);
        ControlFlow::Break(())
    };
    let mut pages = search().cancel(stop).exact().pages(&[1.0, 1.0]).unwrap();
    let (mut came, mut page) = (0, pages.next_page().unwrap());
    while !page.is_empty() {
        assert!(page.is_partial());
        came += page.len();
        page = pages.next_page().unwrap();
    }
    assert!(page.is_partial() && came < model.len() / 2 && calls.get() == 1, "{came}, {calls:?}");
    let mut pages = search().try_filter_fn(|_| Err("no")).pages(&[1.0, 1.0]).unwrap();
    assert!(matches!(pages.next_page(), Err(Error::Callback(_))));
    assert!(pages.next_page().unwrap().is_empty());
    let mut one_by_one = search().try_filter_fn(|_| Err("no")).neighbours(&[1.0, 1.0]).unwrap();
    assert!(matches!(one_by_one.next(), Some(Err(Error::Callback(_)))));
    assert!(one_by_one.next().is_none());
    let mut report = SearchStats::default();
    let mut pages = search().report(&mut report).pages(&[1.0, 1.0]).unwrap();
    pages.next_page().unwrap();
    drop(pages);
    assert!(report.reranked + report.scanned_exactly > 0);
}

/// At most so many documents of each group, each once, by its nearest vector.
fn play_groups(mut rng: Rng) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (docs, model) = filled(&store, &mut rng);
    for _ in 0..8 {
        let question = Question { is_exact: true, ..Question::new(&mut rng) };
        let (modulus, max_hits) = (rng.random_range(1..9u64), rng.random_range(1..4));
        let group = move |key: &DocumentKey| key.as_u64().unwrap() % modulus;
        let view = question.view(&docs);
        let ranked = question.ask(&view, &store, usize::MAX).by_vector(&question.query).unwrap();
        assert_eq!(ranked.len(), question.matching(&model).len());
        let (mut hits, mut of_groups) = (Vec::new(), Vec::new());
        let mut counts: HashMap<u64, usize> = HashMap::new();
        let mut chosen: Vec<u64> = Vec::new();
        for hit in &ranked {
            let of = group(&hit.key);
            if chosen.len() < question.k && !chosen.contains(&of) {
                chosen.push(of);
            }
            let count = counts.entry(of).or_default();
            *count += 1;
            if *count > max_hits {
                continue;
            }
            if hits.len() < question.k {
                hits.push(hit.clone());
            }
            if chosen.contains(&of) {
                of_groups.push(hit.clone());
            }
        }
        let ask = || question.ask(&view, &store, question.k);
        let found = ask().per_group(max_hits, group).by_vector(&question.query).unwrap();
        assert_eq!(found, hits, "{question:?}, {max_hits} of {modulus}");
        let found = ask().groups(max_hits, group).by_vector(&question.query).unwrap();
        assert_eq!(found, of_groups, "{question:?}, {max_hits} of {modulus}");
        let batch = ask().per_group(max_hits, group).by_vectors(&question.query).unwrap();
        assert_eq!(batch[0], hits);
    }
    let failed = docs.search(&store, 1).try_per_group(1, |_| Err("no")).by_vector(&[0.0; DIMS]);
    assert!(matches!(failed, Err(Error::Callback(error)) if error.to_string() == "no"));
    let none = docs.search(&store, 1).groups(0, |_| 0).by_vector(&[0.0; DIMS]);
    assert!(matches!(none, Err(Error::InvalidOption { name: "groups", .. })));
}

#[test]
fn groups_of_documents() {
    play_worlds(0x20_96b5, if support::is_long() { 200 } else { 12 }, play_groups);
}

type Answers = Vec<Vec<DocumentHit>>;

/// Many at once are answered as each alone.
fn batch<S: Reads>(docs: &Collection, source: &S, question: &Question, rows: &[f32]) -> Answers {
    let view = question.view(docs);
    let ask = || question.ask(&view, source, question.k);
    let mut report = SearchStats::default();
    let answers = ask().report(&mut report).by_vectors(rows).unwrap();
    for (row, answer) in rows.chunks_exact(DIMS).zip(&answers) {
        assert_eq!(ask().by_vector(row).unwrap(), *answer, "{question:?}");
    }
    let is_any = answers.iter().any(|answer| !answer.is_empty());
    assert!(!is_any || report.reranked + report.scanned_exactly > 0, "{question:?}");
    answers.into_iter().map(Vec::from).collect()
}

fn play_batches(mut rng: Rng) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (docs, _) = filled(&store, &mut rng);
    let snapshot = store.snapshot().unwrap();
    for _ in 0..4 {
        let question = Question::new(&mut rng);
        let rows: Vec<f32> =
            (0..*[0, 1, 30].choose(&mut rng).unwrap()).flat_map(|_| point(&mut rng)).collect();
        let expected = batch(&docs, &store, &question, &rows);
        let from_txn = store.read(|txn| Ok::<_, Error>(batch(&docs, txn, &question, &rows)));
        assert_eq!(from_txn.unwrap(), expected, "{question:?}");
        let from_txn = store.write(|txn| Ok::<_, Error>(batch(&docs, txn, &question, &rows)));
        assert_eq!(from_txn.unwrap(), expected, "{question:?}");
        for threads in [1, 2, 5] {
            let pool = spinney::rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let pool = pool.unwrap();
            let answers = pool.install(|| batch(&docs, &store, &question, &rows));
            assert_eq!(answers, expected, "{threads} threads: {question:?}");
            let answers = pool.install(|| batch(&docs, &snapshot, &question, &rows));
            assert_eq!(answers, expected, "{threads} threads: {question:?}");
            let parallel = pool.install(|| {
                let view = question.view(&docs);
                question.ask(&view, &store, question.k).parallel().by_vectors(&rows).unwrap()
            });
            assert!(parallel.into_iter().map(Vec::from).eq(expected.iter().cloned()));
        }
    }
}

#[test]
fn batches_are_answered_as_single_searches_at_any_number_of_threads() {
    play_worlds(0x20_ba7c, if support::is_long() { 200 } else { 8 }, play_batches);
}

#[test]
fn batches_are_shared_among_the_threads_of_the_pool() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::options().search_threads(7).open(dir.path()).unwrap();
    let (docs, _) = filled(&store, &mut support::rng(78));
    let rows: Vec<f32> = (0..2000u16).map(|i| f32::from(i % 60)).collect();
    // Each thread that searches has a reader slot.
    let pool = spinney::rayon::ThreadPoolBuilder::new().num_threads(7).build().unwrap();
    let answers = pool.install(|| docs.search(&store, 3).by_vectors(&rows)).unwrap();
    assert_eq!(answers.len(), 1000);
    assert!(store.env().info().number_of_readers >= 7);
}

#[test]
fn batches_fail_as_single_searches_do_and_stop() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (docs, _) = filled(&store, &mut support::rng(79));
    let search = || docs.search(&store, 3);
    assert!(matches!(search().by_vectors(&[1.0; 3]), Err(Error::QueriesShape { .. })));
    let infinite = search().by_vectors(&[1.0, 1.0, f32::NAN, 1.0]);
    assert!(matches!(infinite, Err(Error::NonFinite { position: 2, .. })), "{infinite:?}");
    let refused = search().recall(7.0).by_vectors(&[]);
    assert!(matches!(refused, Err(Error::InvalidOption { name: "recall", .. })), "{refused:?}");
    let refused = search().labelled("").by_vectors(&[1.0; 2]);
    assert!(matches!(refused, Err(Error::InvalidOption { name: "label", .. })), "{refused:?}");
    let failed = search().try_filter_fn(|_| Err("no")).by_vectors(&[1.0; 4]);
    assert!(matches!(failed, Err(Error::Callback(_))), "{failed:?}");
    let past = std::time::Instant::now();
    let late = search().exact().deadline(past).by_vectors(&[1.0; 400]).unwrap();
    assert!(late[1..].iter().all(|hits| hits.is_partial() && hits.is_empty()));
}
