//! One search over several indexes is the merge of the answers of each.

use std::time::{Duration, Instant};

use spinney::roaring::RoaringBitmap;
use spinney::{
    Error, Hits, IndexOptions, MergedHit, Metric, Nns, Reader, Readers, SearchStats, Writer,
};

use crate::question::*;
use crate::subject::*;
use crate::support::*;

const STATES: [State; 5] =
    [State::Changed, State::Unbuilt, State::Empty, State::SmallBuilt, State::Bulk];
/// Ways of asking.
const WAYS: usize = 10;

/// A subject in each of the states, in a store of its own.
fn in_all_states<'a>(
    stores: &'a [Store; STATES.len()],
    metric: Metric,
    rng: &mut Rng,
) -> Vec<Subject<'a>> {
    let pairs = stores.iter().zip(STATES);
    pairs.map(|(store, state)| Subject::in_state(store, metric, state, rng)).collect()
}

/// The same options for any search.
fn with<'a, E>(
    nns: Nns<'a, E>,
    way: usize,
    (near, far): (f32, f32),
    set: &'a RoaringBitmap,
) -> Nns<'a, E> {
    match way {
        0 => nns,
        1 => nns.exact(),
        2 => nns.search_k(1).oversampling(1.0),
        3 => nns.filter(set),
        4 => nns.within(far),
        5 => nns.beyond(near),
        6 => nns.beyond(near).within(far).exact(),
        7 => nns.beyond(far).within(near),
        8 => nns.recall(0.7).filter(set).beyond(near),
        _ => nns.deadline(Instant::now() + Duration::from_secs(3600)).recall(1.0),
    }
}

/// The nearest of several answers, ties by reader and then by id.
fn merge(metric: Metric, k: usize, answers: &[Hits]) -> Vec<MergedHit> {
    let mut all: Vec<MergedHit> = Vec::new();
    for (reader, hits) in answers.iter().enumerate() {
        all.extend(hits.iter().map(|hit| MergedHit { reader, id: hit.id, distance: hit.distance }));
    }
    all.sort_by(|a, b| {
        let order = score(metric, a.distance).total_cmp(&score(metric, b.distance));
        order.then(a.reader.cmp(&b.reader)).then(a.id.cmp(&b.id))
    });
    all.truncate(k);
    all
}

/// Indexes of several environments, one of them given twice, so that each of its hits is a tie.
#[test]
fn a_merged_answer_is_the_merge_of_the_answers() {
    let seed = Seed::new(171);
    let stores = STATES.map(|_| Store::new());
    for (m, metric) in METRICS.into_iter().enumerate() {
        let mut rng = seed.rng(m as u64);
        let subjects = in_all_states(&stores, metric, &mut rng);
        let readers: Vec<Reader<'_>> = subjects.iter().map(|subject| subject.reader()).collect();
        let again = subjects[0].reader();
        let given: Vec<&Reader<'_>> = readers.iter().chain([&again]).collect();
        let merged = Readers::new(given.iter().copied()).unwrap();
        let set: RoaringBitmap =
            subjects.iter().flat_map(|subject| subject.items.keys().copied().step_by(3)).collect();
        let rows: Vec<Vec<f32>> = (0..3)
            .map(|_| match any_what(&mut rng, metric, &subjects[0].items, 0) {
                What::Vector(row) => row,
                other => panic!("{other:?} is no vector"),
            })
            .collect();
        let ranked = ranked(metric, &subjects[1].items, &rows[0]);
        let bounds = (ranked[30].distance as f32, ranked[300].distance as f32);
        for (way, k) in (0..WAYS).flat_map(|way| [0, 1, 10, 100, usize::MAX].map(|k| (way, k))) {
            let mut answers = Vec::new();
            for row in &rows {
                let (mut parts, mut report) = (Vec::new(), SearchStats::default());
                let mut compared = 0;
                for reader in &given {
                    let mut part = SearchStats::default();
                    let nns = with(reader.nns(k), way, bounds, &set).report(&mut part);
                    parts.push(nns.by_vector(row).unwrap());
                    compared += part.reranked + part.scanned_exactly;
                }
                let nns = with(merged.nns(k), way, bounds, &set).report(&mut report);
                let got = nns.by_vector(row).unwrap();
                assert!(!got.is_partial(), "{metric}, way {way}, k {k}");
                assert_eq!(got, merge(metric, k, &parts), "{metric}, way {way}, k {k}");
                assert_eq!(report.reranked + report.scanned_exactly, compared, "{metric}");
                answers.push(got);
            }
            let got = with(merged.nns(k), way, bounds, &set).by_vectors(&rows.concat()).unwrap();
            assert_eq!(got, answers, "{metric}, way {way}, k {k}");
        }
        assert_eq!(merged.nns(3).by_vectors(&[]).unwrap(), Vec::<Hits<MergedHit>>::new());
    }
}

/// A deadline leaves a part of the answer, and ends the searches after it.
#[test]
fn merged_searches_end_with_their_deadline() {
    let seed = Seed::new(172);
    let stores = STATES.map(|_| Store::new());
    for (m, metric) in METRICS.into_iter().enumerate() {
        let mut rng = seed.rng(m as u64);
        let subjects = in_all_states(&stores, metric, &mut rng);
        let readers: Vec<Reader<'_>> = subjects.iter().map(|subject| subject.reader()).collect();
        let merged = Readers::new(&readers).unwrap();
        let row = subjects[0].items.values().next().unwrap();
        let set = RoaringBitmap::new();
        let all = merged.nns(usize::MAX).exact().by_vector(row).unwrap();
        let past = Instant::now();
        for way in 0..3 {
            let nns = |n: usize| with(merged.nns(n), way, (0.0, 0.0), &set);
            let mut report = SearchStats::default();
            let got = nns(10).deadline(past).report(&mut report).by_vector(row).unwrap();
            assert!(got.is_partial() && report.is_partial, "{metric}");
            assert!(got.iter().all(|hit| all.contains(hit)), "{metric}: {got:?}");
            let rows = [&row[..], row, row].concat();
            let got = nns(10).deadline(past).by_vectors(&rows).unwrap();
            let is_over = |hits: &Hits<MergedHit>| hits.is_partial() && hits.is_empty();
            assert!(got.len() == 3 && got[1..].iter().all(is_over), "{metric}: {got:?}");
        }
    }
}

#[test]
fn indexes_of_different_kinds_are_not_merged() {
    let names = |error: &Error, option: &str| {
        assert!(matches!(error, Error::InvalidOption { name, .. } if *name == option), "{error}");
    };
    names(&Readers::new([]).map(|_| ()).unwrap_err(), "readers");
    // An index of each kind, with one item.
    let store = Store::new();
    let mut wtxn = store.env.write_txn().unwrap();
    let kinds: Vec<(Metric, usize)> = METRICS.into_iter().flat_map(|m| [(m, 2), (m, 3)]).collect();
    for (index, (metric, dims)) in (0..).zip(&kinds) {
        let options = IndexOptions::new(*dims, *metric);
        let writer = Writer::open_or_create(&mut wtxn, store.db, index, &options).unwrap();
        writer.add_item(&mut wtxn, 1, &vec![1.0; *dims]).unwrap();
    }
    let open = |index| Reader::open(&wtxn, store.db, index).unwrap();
    let readers: Vec<Reader<'_>> = (0..).zip(&kinds).map(|(index, _)| open(index)).collect();
    for ((metric, dims), one) in kinds.iter().zip(&readers) {
        for (kind, other) in kinds.iter().zip(&readers) {
            let merged = Readers::new([one, one, other]);
            if (metric, dims) == (&kind.0, &kind.1) {
                let hits = merged.unwrap().nns(9).by_vector(&vec![1.0; *dims]).unwrap();
                let found: Vec<_> = hits.iter().map(|hit| (hit.reader, hit.id)).collect();
                assert_eq!(found, [(0, 1), (1, 1), (2, 1)], "{metric}");
            } else {
                let error = merged.map(|_| ()).unwrap_err();
                names(&error, "readers");
                let said = error.to_string();
                let kinds = [format!("{dims} {metric}"), format!("{} {}", kind.1, kind.0)];
                assert!(kinds.iter().all(|kind| said.contains(kind)), "{said}");
            }
        }
        let merged = Readers::new([one, one]).unwrap();
        names(&merged.nns(3).within(f32::NAN).by_vector(&[]).unwrap_err(), "within");
        names(&merged.nns(0).recall(0.0).by_vectors(&[]).unwrap_err(), "recall");
        let both = merged.nns(3).exact().search_k(3).by_vector(&vec![1.0; *dims]).unwrap_err();
        assert!(matches!(both, Error::Incompatible { option: "search_k", .. }), "{both}");
        let error = merged.nns(0).by_vector(&[1.0]).unwrap_err();
        assert!(matches!(error, Error::Dimensions { got: 1, .. }), "{error}");
        let error = merged.nns(3).by_vector(&vec![f32::NAN; *dims]).unwrap_err();
        assert!(matches!(error, Error::NonFinite { position: 0, .. }), "{error}");
        let error = merged.nns(3).by_vectors(&vec![1.0; dims + 1]).unwrap_err();
        assert!(matches!(error, Error::QueriesShape { .. }), "{error}");
    }
}

/// Readers of transactions with lifetimes of their own, as a function gets them.
fn join<'a>(first: &'a Reader<'_>, second: &'a Reader<'_>) -> spinney::Result<Readers<'a>> {
    Readers::new([first])?.and(second)
}

#[test]
fn readers_of_any_lifetimes_go_together() {
    let seed = Seed::new(131);
    let stores = [Store::new(), Store::new()];
    let subjects = [0, 1].map(|i| {
        let mut rng = seed.rng(i as u64);
        Subject::in_state(&stores[i], Metric::Euclidean, State::Changed, &mut rng)
    });
    let (first, second) = (subjects[0].reader(), subjects[1].reader());
    let query = vec![0.5; first.dims()];
    let together = Readers::new([&first, &second]).unwrap().nns(7).by_vector(&query).unwrap();
    assert_eq!(join(&first, &second).unwrap().nns(7).by_vector(&query).unwrap(), together);
}
