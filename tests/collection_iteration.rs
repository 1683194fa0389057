//! Laws of going through a collection: every document that can be read comes in its place, whatever
//! is damaged beside it, and a scope costs what is in it.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use rand::RngExt;
use rand::seq::IteratorRandom;
use spinney::{Collection, Document, Error, IndexOptions, Metric, Reads, Result, Store};
use support::documents::edit;
use support::{Rng, play_worlds};

/// The keys of entries, and whether the document bears the label of the scope.
type Model = BTreeMap<Vec<u8>, bool>;

fn open(path: &Path) -> (Store, Collection) {
    let store = Store::options().map_size(64 << 20).open(path).unwrap();
    let docs = store.collection("docs", &IndexOptions::new(1, Metric::Euclidean)).unwrap();
    (store, docs)
}

/// Documents whose ids are in another order than their keys, some of many vectors.
fn fill(path: &Path, rng: &mut Rng) -> Model {
    let (store, docs) = open(path);
    let mut model = Model::new();
    for _ in 0..rng.random_range(1..900) {
        let key = match rng.random_range(0..20) {
            0 => [&[7; 508][..], &[rng.random_range(0..9)][..rng.random_range(0..2)]].concat(),
            _ => (0..rng.random_range(1..4)).map(|_| rng.random_range(0..40)).collect(),
        };
        let is_inside = rng.random_bool(0.3);
        model.insert(key, is_inside);
    }
    let mut shuffled: Vec<_> = model.iter().collect();
    rand::seq::SliceRandom::shuffle(&mut shuffled[..], rng);
    store
        .write(|txn| {
            docs.put_many(
                txn,
                shuffled.iter().map(|(key, is_inside)| {
                    let rows = vec![1.0; key.len() % 3 + 1];
                    let labels = if **is_inside { vec!["in", "other"] } else { vec!["other"] };
                    (&key[..], Document::with_vectors(rows).payload(&key[..]).labels(labels))
                }),
            )
        })
        .unwrap();
    model
}

/// What comes, with `None` for errors. Every error is one of damage.
fn came(documents: impl Iterator<Item = Result<Vec<u8>>>) -> Vec<Option<Vec<u8>>> {
    documents
        .map(|found| match found {
            Ok(key) => Some(key),
            Err(error) => {
                assert!(matches!(error, Error::StoreCorrupted { .. }), "{error}");
                None
            }
        })
        .collect()
}

/// All ways of going through a view give these keys, and errors where there is none.
fn check(source: &impl Reads, docs: &Collection, prefix: &[u8], expected: &[(Vec<u8>, bool)]) {
    let keys = came(docs.keys(source).map(|key| Ok(key?.as_bytes().to_vec())));
    let whole = |found: Result<spinney::StoredDocument>| {
        let found = found?;
        assert_eq!(found.payload, found.key.as_bytes());
        Ok(found.key.as_bytes().to_vec())
    };
    let documents = came(docs.documents(source).map(whole));
    let begun = came(docs.documents_with_prefix(source, prefix).map(whole));
    let as_expected = |prefix: &[u8]| -> Vec<Option<Vec<u8>>> {
        let expected = expected.iter().filter(|(key, _)| key.starts_with(prefix));
        expected.map(|(key, is_sound)| is_sound.then(|| key.clone())).collect()
    };
    assert_eq!(keys, as_expected(&[]));
    assert_eq!(documents, as_expected(&[]));
    assert_eq!(begun, as_expected(prefix), "with {prefix:?}");
}

fn play(mut rng: Rng) {
    let dir = tempfile::tempdir().unwrap();
    let model = fill(dir.path(), &mut rng);
    // Those of short keys have an entry of their own.
    let count = rng.random_range(0..6);
    let damaged: Vec<Vec<u8>> =
        model.keys().filter(|key| key.len() < 508).cloned().sample(&mut rng, count);
    edit(dir.path(), |table, wtxn| {
        for key in &damaged {
            let entry = [&[0, 0, 2], &key[..]].concat();
            let mut value = table.get(wtxn, &entry).unwrap().unwrap().to_vec();
            if rng.random() {
                value.truncate(rng.random_range(0..11));
            } else {
                value[0] = 0;
            }
            table.put(wtxn, &entry, &value).unwrap();
        }
    });
    let (store, docs) = open(dir.path());
    let all: Vec<_> = model.keys().map(|key| (key.clone(), !damaged.contains(key))).collect();
    let inside: Vec<_> = all.iter().filter(|(key, _)| model[key]).cloned().collect();
    let view = docs.scoped("in").unwrap();
    let prefix = [vec![], vec![7], vec![7; 508], vec![rng.random_range(0..40)]];
    for prefix in &prefix {
        check(&store, &docs, prefix, &all);
        check(&store, &view, prefix, &inside);
        check(&store.snapshot().unwrap(), &view, prefix, &inside);
    }
    store
        .read(|txn| {
            check(txn, &view, &prefix[1], &inside);
            Ok::<_, Error>(())
        })
        .unwrap();
    // Of a scope, nothing outside is told, not even that it is damaged.
    if !inside.iter().any(|(_, is_sound)| !is_sound) {
        assert!(view.keys(&store).all(|key| key.is_ok()));
    }
    let first_error = docs.keys(&store).collect::<Result<Vec<_>>>();
    assert_eq!(first_error.is_err(), !damaged.is_empty());
}

#[test]
fn damage_is_an_error_in_its_place() {
    play_worlds(0x20_17e3, if support::is_long() { 500 } else { 40 }, play);
}

#[test]
fn records_of_long_keys_come_up_to_the_damage() {
    let dir = tempfile::tempdir().unwrap();
    let long = [b'k'; 511];
    let value_of = |last: u8| Document::new([1.0]).payload([last; 20]).labels(["in"]);
    let (store, docs) = open(dir.path());
    store
        .write(|txn| {
            docs.put(txn, "a", &value_of(0))?;
            docs.put(txn, "z", &value_of(0))?;
            (508..=511).try_for_each(|len| docs.put(txn, &long[..len], &value_of(len as u8)))
        })
        .unwrap();
    drop((store, docs));
    let entry = [&[0, 0, 2], &long[..508]].concat();
    let mut whole = Vec::new();
    edit(dir.path(), |table, wtxn| whole = table.get(wtxn, &entry).unwrap().unwrap().to_vec());
    for cut in 0..whole.len() {
        edit(dir.path(), |table, wtxn| table.put(wtxn, &entry, &whole[..cut]).unwrap());
        let (store, docs) = open(dir.path());
        let found: Vec<_> = docs.documents(&store).collect();
        // The lengths, a record of 34 bytes, and the rest of the key.
        let ends: Vec<usize> = (0..4)
            .scan(0, |end, tail| {
                *end += 39 + tail;
                Some(*end)
            })
            .collect();
        let sound = ends.iter().filter(|end| **end <= cut).count();
        let errors = found.iter().filter(|found| found.is_err()).count();
        // A cut between two records leaves a sound value.
        assert_eq!(errors, usize::from(!ends.contains(&cut)), "{cut}");
        let keys: Vec<_> = found.iter().flatten().map(|found| found.key.as_bytes()).collect();
        let long_keys = (508..).take(sound).map(|len| &long[..len]);
        let expected: Vec<&[u8]> =
            [&b"a"[..]].into_iter().chain(long_keys).chain([&b"z"[..]]).collect();
        assert_eq!(keys, expected, "{cut}");
        assert!(keys.iter().all(|key| docs.contains(&store, *key).unwrap()));
        assert!(!docs.verify(&store).unwrap().is_empty(), "{cut}");
    }
}

#[test]
fn a_scope_of_a_store_is_read_as_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (store, docs) = open(dir.path());
    let view = docs.scoped("in").unwrap();
    store
        .write(|txn| view.put_many(txn, (0..1000u64).map(|i| (i, Document::new([i as f32])))))
        .unwrap();
    let mut walk = view.keys(&store);
    assert_eq!(walk.next().unwrap().unwrap(), 0);
    store
        .write(|txn| {
            view.delete(txn, 900u64)?;
            docs.put(txn, 901u64, &Document::new([1.0]))
        })
        .unwrap();
    let rest: Vec<u64> = walk.map(|key| key.unwrap().as_u64().unwrap()).collect();
    assert_eq!(rest, (1..1000).filter(|i| ![900, 901].contains(i)).collect::<Vec<_>>());
    // What fails as a whole is the last item.
    store.delete_collection("docs").unwrap();
    let mut walk = view.keys(&store);
    assert!(matches!(walk.next(), Some(Err(Error::IndexNotFound { .. }))));
    assert!(walk.next().is_none() && walk.next().is_none());
}
