//! Filters of any depth mean what their parts mean, in little stack and in proportion to their size.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::hash::{DefaultHasher, Hash, Hasher};

use rand::RngExt;
use rand::seq::IndexedRandom;
use spinney::{Collection, Document, IndexOptions, Labels, Metric, Reads, Store};
use support::{Rng, play_worlds};

/// Document `i` is bit `i` of a set, and bears the labels whose sets have it.
const LABELS: [(&str, u16); 5] = [
    ("a", 0b1010_1010_1010),
    ("b", 0b1100_1100_1100),
    ("c", 0b1111_0000),
    ("d", 0),
    ("e", EVERYTHING),
];
const EVERYTHING: u16 = 0xFFF;

fn filled(store: &Store) -> Collection {
    let docs = store.collection("docs", &IndexOptions::new(1, Metric::Euclidean)).unwrap();
    store
        .write(|txn| {
            (0..12u8).try_for_each(|i| {
                let labels = LABELS.iter().filter(|(_, set)| set >> i & 1 == 1);
                let rows = vec![f32::from(i); usize::from(i % 3 + 1)];
                let document = Document::with_vectors(rows).labels(labels.map(|(label, _)| *label));
                docs.put(txn, u64::from(i), &document)
            })
        })
        .unwrap();
    docs
}

/// A filter around a filter, and what it means.
fn around((inner, meant): (Labels, u16), rng: &mut Rng) -> (Labels, u16) {
    let one = |rng: &mut Rng| {
        let (label, set) = LABELS.choose(rng).unwrap();
        match rng.random_bool(0.2) {
            true => (Labels::not(*label), !set & EVERYTHING),
            false => (Labels::from(*label), *set),
        }
    };
    match rng.random_range(0..8) {
        0 | 1 => (Labels::not(inner), !meant & EVERYTHING),
        2 => (Labels::all([inner]), meant),
        3 => (Labels::any([inner]), meant),
        4 => (Labels::all([inner, Labels::all::<Labels>([])]), meant),
        5 => (Labels::any([Labels::any::<Labels>([]), inner]), meant),
        6 => {
            let (beside, set) = one(rng);
            // Enough stays in to be told apart.
            match (meant & set) == 0 {
                true => (Labels::all([Labels::not(beside), inner]), meant & !set),
                false => (Labels::all([beside, inner]), meant & set),
            }
        }
        _ => {
            let (beside, set) = one(rng);
            (Labels::any([inner, beside]), meant | set)
        }
    }
}

fn set_of(keys: impl Iterator<Item = u64>) -> u16 {
    keys.fold(0, |set, key| set | 1 << key)
}

fn check<S: Reads>(docs: &Collection, source: &S, filter: &Labels, meant: u16, what: &str) {
    assert_eq!(docs.count(source, filter).unwrap(), u64::from(meant.count_ones()), "{what}");
    let hits = docs.search(source, 99).labelled(filter).by_vector(&[0.0]).unwrap();
    assert_eq!(set_of(hits.iter().map(|hit| hit.key.as_u64().unwrap())), meant, "{what}");
    let view = docs.scoped("b").unwrap();
    let hits = view.search(source, 99).labelled(filter).by_vectors(&[0.0]).unwrap();
    let found = set_of(hits[0].iter().map(|hit| hit.key.as_u64().unwrap()));
    assert_eq!(found, meant & LABELS[1].1, "{what}");
}

/// Where sets are remembered, and where not.
fn check_all(docs: &Collection, store: &Store, filter: &Labels, meant: u16, what: &str) {
    check(docs, store, filter, meant, what);
    store
        .read(|txn| {
            check(docs, txn, filter, meant, what);
            Ok::<_, spinney::Error>(())
        })
        .unwrap();
}

fn play(mut rng: Rng) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let docs = filled(&store);
    let (label, set) = LABELS.choose(&mut rng).unwrap();
    let mut filter = (Labels::from(*label), *set);
    for depth in 0..rng.random_range(0..60) {
        filter = around(filter, &mut rng);
        let what = format!("{depth}: {:?}", filter.0);
        check_all(&docs, &store, &filter.0, filter.1, &what);
    }
}

#[test]
fn nested_filters_mean_what_their_parts_mean() {
    play_worlds(0x20_f117, if support::is_long() { 400 } else { 30 }, play);
}

#[test]
fn a_filter_may_be_very_deep() {
    let run = || {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let docs = filled(&store);
        let mut rng = support::rng(0xDEE9);
        let mut filter = (Labels::from("a"), LABELS[0].1);
        for _ in 0..1_000_000 {
            filter = around(filter, &mut rng);
        }
        let (filter, meant) = filter;
        check_all(&docs, &store, &filter, meant, "deep");
        let hash = |filter: &Labels| {
            let mut hasher = DefaultHasher::new();
            filter.hash(&mut hasher);
            hasher.finish()
        };
        let same = filter.clone();
        assert!(same == filter && hash(&same) == hash(&filter) && Labels::not(same) != filter);
        assert!(format!("{filter:?}").len() > 1_000_000);
        let deleted = store.write(|txn| docs.delete_where(txn, &filter)).unwrap();
        assert_eq!(deleted, u64::from(meant.count_ones()));
        assert!(matches!(
            docs.count(&store, Labels::all([filter, Labels::from("")])),
            Err(spinney::Error::InvalidOption { .. })
        ));
    };
    // A frame of the stack for each level would take many times as much.
    std::thread::Builder::new().stack_size(512 << 10).spawn(run).unwrap().join().unwrap();
}
