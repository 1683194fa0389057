//! The law of collections: after any operations, commits, aborts, failed calls, full maps and
//! openings, a collection holds and answers what a map of documents does.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::RngExt;
use rand::seq::IndexedRandom;
use spinney::{
    BuildOptions, Collection, Document, DocumentExample, DocumentHit, DocumentKey, Error,
    IndexOptions, Labels, Metric, Progress, Reads, Result, Store, StoreSnapshot, WriteTxn,
};
use support::{Rng, play_worlds};
use tempfile::TempDir;

const DIMS: usize = 3;
/// Operations of a world.
const OPS: usize = 500;

#[derive(Clone, Debug, PartialEq)]
struct Doc {
    rows: Vec<Vec<f32>>,
    payload: Vec<u8>,
    labels: BTreeSet<String>,
}

type Docs = BTreeMap<Vec<u8>, Doc>;
type Means = Box<dyn Fn(&Doc) -> bool>;

#[derive(Clone, Debug)]
enum Op {
    Put(Vec<u8>, Doc),
    PutMany(Vec<(Vec<u8>, Doc)>),
    Delete(Vec<u8>),
    DeleteWhere(u64),
    /// A build, which is cancelled when it asks for the so-manieth time, if it does.
    Build(usize),
    /// What has to fail and change nothing.
    Refused(usize, Vec<u8>, Doc),
}

fn document(doc: &Doc) -> Document {
    let document = match &doc.rows[..] {
        [row] => Document::new(row.clone()),
        rows => Document::with_vectors(rows.concat()),
    };
    document.payload(doc.payload.clone()).labels(doc.labels.iter().rev())
}

/// Short and long keys, some of which begin alike, and numbers.
fn random_key(rng: &mut Rng) -> Vec<u8> {
    match rng.random_range(0..6) {
        0 => rng.random_range(0..9u64).to_be_bytes().to_vec(),
        1 => vec![rng.random_range(0..3) * 127 + 1],
        2 => {
            let len = *[506, 507, 508, 509, 510, 511].choose(rng).unwrap();
            let mut key = vec![b'k'; len];
            *key.last_mut().unwrap() = rng.random_range(b'j'..=b'l');
            key
        }
        _ => format!("{}/{}", ["a", "b", "ab"].choose(rng).unwrap(), rng.random_range(0..12))
            .into_bytes(),
    }
}

fn label_pool() -> Vec<String> {
    let mut pool: Vec<String> = (0..5).map(|i| format!("l{i}")).collect();
    pool.extend(["l".to_owned(), "tenant:a".to_owned(), "tenant:b".to_owned(), "ü".repeat(100)]);
    pool
}

fn random_row(rng: &mut Rng) -> Vec<f32> {
    (0..DIMS).map(|_| f32::from(rng.random_range(-40..40i8))).collect()
}

fn random_doc(rng: &mut Rng) -> Doc {
    let rows = if rng.random_bool(0.6) { 1 } else { rng.random_range(2..6) };
    let bytes = *[0, 5, 100, 3000].choose(rng).unwrap();
    let labels = label_pool().into_iter().filter(|_| rng.random_bool(0.3)).collect();
    Doc {
        rows: (0..rows).map(|_| random_row(rng)).collect(),
        payload: (0..bytes).map(|_| rng.random()).collect(),
        labels,
    }
}

fn random_op(rng: &mut Rng) -> Op {
    match rng.random_range(0..11) {
        0..5 => Op::Put(random_key(rng), random_doc(rng)),
        5 => {
            let count = rng.random_range(0..30);
            Op::PutMany((0..count).map(|_| (random_key(rng), random_doc(rng))).collect())
        }
        6 | 7 => Op::Delete(random_key(rng)),
        8 => Op::DeleteWhere(rng.random()),
        9 => Op::Build(*[0, 1, 3, 10, usize::MAX].choose(rng).unwrap()),
        _ => Op::Refused(rng.random_range(0..8), random_key(rng), random_doc(rng)),
    }
}

/// A filter, and what it means.
fn random_filter(rng: &mut Rng, depth: usize) -> (Labels, Means) {
    let kind = if depth == 0 { 0 } else { rng.random_range(0..4) };
    if kind == 0 {
        let label = label_pool().choose(rng).cloned().unwrap();
        let label = if rng.random_bool(0.1) { "of nobody".to_owned() } else { label };
        return (Labels::from(&label), Box::new(move |doc| doc.labels.contains(&label)));
    }
    if kind == 1 {
        let (filter, means) = random_filter(rng, depth - 1);
        return (Labels::not(filter), Box::new(move |doc| !means(doc)));
    }
    let count = rng.random_range(0..4);
    let (filters, means): (Vec<_>, Vec<_>) =
        (0..count).map(|_| random_filter(rng, depth - 1)).unzip();
    if kind == 2 {
        (Labels::all(filters), Box::new(move |doc| means.iter().all(|means| means(doc))))
    } else {
        (Labels::any(filters), Box::new(move |doc| means.iter().any(|means| means(doc))))
    }
}

fn scopes() -> [&'static [&'static str]; 5] {
    [&[], &[], &["tenant:a"], &["tenant:b"], &["tenant:b", "tenant:a"]]
}

fn scoped(docs: &Collection, scope: &[&str]) -> Collection {
    scope.iter().fold(docs.clone(), |docs, label| docs.scoped(*label).unwrap())
}

fn is_in(doc: &Doc, scope: &[&str]) -> bool {
    scope.iter().all(|label| doc.labels.contains(*label))
}

/// What a put through a scope does to the model, or that it is refused.
fn put(model: &mut Docs, scope: &[&str], key: &[u8], doc: &Doc) -> bool {
    if model.get(key).is_some_and(|old| !is_in(old, scope)) {
        return false;
    }
    let mut doc = doc.clone();
    doc.labels.extend(scope.iter().map(|label| (*label).to_owned()));
    model.insert(key.to_vec(), doc);
    true
}

fn apply(
    txn: &mut WriteTxn<'_>,
    docs: &Collection,
    model: &mut Docs,
    (scope, op): &(&[&str], Op),
) -> Result<()> {
    let view = scoped(docs, scope);
    match op {
        Op::Put(key, doc) => match view.put(txn, key.clone(), &document(doc)) {
            Ok(()) => assert!(put(model, scope, key, doc)),
            Err(Error::OutOfScope(_)) => assert!(!put(model, scope, key, doc)),
            Err(error) => return Err(error),
        },
        Op::PutMany(all) => {
            let mut after = model.clone();
            let fits = all.iter().all(|(key, doc)| put(&mut after, scope, key, doc));
            match view.put_many(txn, all.iter().map(|(key, doc)| (&key[..], document(doc)))) {
                Ok(()) => *model = after,
                Err(Error::Document(_, source)) => {
                    assert!(matches!(*source, Error::OutOfScope(_)));
                    assert!(!fits);
                }
                Err(error) => return Err(error),
            }
        }
        Op::Delete(key) => {
            let is_there = model.get(key).is_some_and(|doc| is_in(doc, scope));
            assert_eq!(view.delete(txn, key.clone())?, is_there);
            if is_there {
                model.remove(key);
            }
        }
        Op::DeleteWhere(seed) => {
            let (filter, means) = random_filter(&mut support::rng(*seed), 2);
            let (filter, before) = (Labels::all([filter, Labels::from("l1")]), model.len());
            model.retain(|_, doc| !(is_in(doc, scope) && means(doc) && doc.labels.contains("l1")));
            assert_eq!(view.delete_where(txn, filter)?, (before - model.len()) as u64);
        }
        Op::Build(last) => {
            let asked = AtomicUsize::new(0);
            let stop = |_: &Progress| match asked.fetch_add(1, Ordering::Relaxed) == *last {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            };
            let options = BuildOptions::default().leaf_size(32).progress(&stop);
            match view.build(txn, &options) {
                Ok(_) => assert!(asked.into_inner() <= *last),
                Err(Error::Cancelled) => assert_eq!(asked.into_inner(), *last + 1),
                Err(error) => return Err(error),
            }
        }
        Op::Refused(kind, key, doc) => refuse(txn, &view, *kind, key, doc)?,
    }
    Ok(())
}

/// Bad puts of each kind, alone and among good ones.
fn refuse(
    txn: &mut WriteTxn<'_>,
    view: &Collection,
    kind: usize,
    key: &[u8],
    doc: &Doc,
) -> Result<()> {
    let good = document(doc);
    let (key, bad) = match kind {
        0 => (vec![], good.clone()),
        1 => (vec![7; 512], good.clone()),
        2 => (key.to_vec(), good.clone().labels(["x".repeat(201)])),
        3 => (key.to_vec(), good.clone().labels([""])),
        4 => (key.to_vec(), good.clone().labels((0..257).map(|i| i.to_string()))),
        5 => (key.to_vec(), Document::new([1.0, f32::NAN, 2.0])),
        6 => (key.to_vec(), Document::with_vectors([1.0, 2.0, 3.0, 4.0])),
        _ => (key.to_vec(), Document::with_vectors([])),
    };
    let is_expected = |error: &Error| {
        matches!(error, Error::InvalidOption { .. } | Error::NonFinite { .. } | Error::MapFull)
    };
    let error = view.put(txn, key.clone(), &bad).unwrap_err();
    assert!(is_expected(&error), "{error:?}");
    let many = [(b"new".to_vec(), &good), (key, &bad)];
    match view.put_many(txn, many).unwrap_err() {
        Error::Document(_, source) => {
            let is_other = matches!(*source, Error::OutOfScope(_));
            assert!(is_other || is_expected(&source), "{source:?}");
        }
        error => return Err(error),
    }
    Ok(())
}

/// What was found, with ties in the order of their keys.
fn sorted(hits: &[DocumentHit]) -> Vec<(u32, Vec<u8>)> {
    let mut all: Vec<_> =
        hits.iter().map(|hit| (hit.distance as u32, hit.key.as_bytes().to_vec())).collect();
    assert!(hits.is_sorted_by(|a, b| a.distance <= b.distance));
    all.sort();
    all
}

fn distance(a: &[f32], b: &[f32]) -> u32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs() as u32).sum()
}

/// All documents of a model by their distance to the nearest of several queries.
fn ranked(model: &Docs, queries: &[Vec<f32>], means: impl Fn(&Doc) -> bool) -> Vec<(u32, Vec<u8>)> {
    let nearest = |doc: &Doc| {
        let all = doc.rows.iter().flat_map(|row| queries.iter().map(|query| distance(row, query)));
        all.min().unwrap()
    };
    let all = model.iter().filter(|(_, doc)| means(doc));
    let mut all: Vec<_> = all.map(|(key, doc)| (nearest(doc), key.clone())).collect();
    all.sort();
    all
}

fn check<S: Reads>(source: &S, docs: &Collection, model: &Docs, rng: &mut Rng) {
    assert_eq!(docs.verify(source).unwrap(), []);
    for scope in scopes().into_iter().skip(1) {
        let view = scoped(docs, scope);
        let mut inside = model.clone();
        inside.retain(|_, doc| is_in(doc, scope));
        check_reads(source, &view, model, &inside, rng);
        check_filters(source, &view, &inside, rng);
        check_searches(source, &view, &inside, rng);
    }
}

fn check_reads<S: Reads>(
    source: &S,
    view: &Collection,
    model: &Docs,
    inside: &Docs,
    rng: &mut Rng,
) {
    let keys: Vec<DocumentKey> = view.keys(source).collect::<Result<_>>().unwrap();
    assert!(keys.iter().map(DocumentKey::as_bytes).eq(inside.keys().map(Vec::as_slice)));
    assert_eq!(view.len(source).unwrap(), inside.len() as u64);
    assert_eq!(view.is_empty(source).unwrap(), inside.is_empty());
    let vectors: usize = inside.values().map(|doc| doc.rows.len()).sum();
    assert_eq!(view.vectors_len(source).unwrap(), vectors as u64);
    for document in view.documents(source) {
        let document = document.unwrap();
        let doc = &inside[document.key.as_bytes()];
        assert_eq!((&document.payload, document.vectors), (&doc.payload, doc.rows.len()));
        assert!(document.labels.iter().eq(&doc.labels));
    }
    for key in model.keys().cloned().chain((0..9).map(|_| random_key(rng))) {
        let expected = inside.get(&key);
        assert_eq!(view.contains(source, &key[..]).unwrap(), expected.is_some());
        let found = view.get(source, &key[..]).unwrap();
        assert_eq!(found.map(|found| found.payload), expected.map(|doc| doc.payload.clone()));
        let rows = view.vectors(source, &key[..]).unwrap();
        assert_eq!(rows, expected.map(|doc| doc.rows.concat()));
    }
    let long = [b'k'; 511];
    for prefix in
        [&b"a"[..], b"a/", b"ab/1", &[0], &[128], &long[..507], &long[..508], &long[..510]]
    {
        let found: Vec<_> = view
            .documents_with_prefix(source, prefix)
            .map(|document| document.unwrap().key.as_bytes().to_vec())
            .collect();
        let expected = inside.keys().filter(|key| key.starts_with(prefix));
        assert!(found.iter().eq(expected), "{prefix:?}");
    }
}

fn check_filters<S: Reads>(source: &S, view: &Collection, inside: &Docs, rng: &mut Rng) {
    let mut labels: BTreeMap<String, u64> = BTreeMap::new();
    for label in inside.values().flat_map(|doc| &doc.labels) {
        *labels.entry(label.clone()).or_default() += 1;
    }
    assert!(view.labels(source).unwrap().into_iter().eq(labels));
    for _ in 0..8 {
        let (filter, means) = random_filter(rng, 3);
        let expected = inside.values().filter(|doc| means(doc)).count() as u64;
        assert_eq!(view.count(source, &filter).unwrap(), expected, "{filter:?}");
    }
}

fn check_searches<S: Reads>(source: &S, view: &Collection, inside: &Docs, rng: &mut Rng) {
    let (filter, means) = random_filter(rng, 2);
    let query = random_row(rng);
    let queries = [query.clone()];
    let all = ranked(inside, &queries, |_| true);
    let hits = view.search(source, 1000).exact().payload(true).by_vector(&query).unwrap();
    assert_eq!(sorted(&hits), all);
    for hit in &hits {
        assert_eq!(hit.payload.as_ref(), Some(&inside[hit.key.as_bytes()].payload));
    }
    let filtered = ranked(inside, &queries, &means);
    let search = || view.search(source, 1000).labelled(filter.clone());
    assert_eq!(sorted(&search().by_vector(&query).unwrap()), filtered);
    let answers = search().by_vectors(&[query.clone(), query.clone()].concat()).unwrap();
    assert!(answers.iter().all(|hits| sorted(hits) == filtered));
    let even = search().filter_fn(|key| key.as_bytes().len() % 2 == 0).by_vector(&query).unwrap();
    assert!(sorted(&even).iter().eq(filtered.iter().filter(|(_, key)| key.len() % 2 == 0)));
    let few = view.search(source, 3).recall(1.0).by_vector(&query).unwrap();
    let distances = sorted(&few).into_iter().map(|(distance, _)| distance);
    assert!(distances.eq(all.iter().take(3).map(|(distance, _)| *distance)));

    let Some(key) = inside.keys().collect::<Vec<_>>().choose(rng).copied().cloned() else {
        assert!(search().by_key("a/1").unwrap().is_none());
        return;
    };
    let mut others = inside.clone();
    let doc = others.remove(&key).unwrap();
    let hits = view.search(source, 1000).by_key(&key[..]).unwrap().unwrap();
    assert_eq!(sorted(&hits), ranked(&others, &doc.rows, |_| true));
    let examples = [DocumentExample::from(&query), DocumentKey::from(&key[..]).into()];
    let rows = [&doc.rows[..], &queries].concat();
    let hits = search().by_any(&examples).unwrap();
    assert_eq!(sorted(&hits), ranked(&others, &rows, &means));
    let hits = view.search(source, 1000).by_mean(&examples[1..]).unwrap();
    assert_eq!(hits.len(), others.len());
    let missing = [DocumentExample::from("nobody's")];
    let error = view.search(source, 5).by_any(&missing).unwrap_err();
    assert!(matches!(error, Error::DocumentNotFound(_)));
}

fn options() -> IndexOptions {
    IndexOptions::new(DIMS, Metric::Manhattan)
}

/// A collection, and snapshots of it with what they have to show.
struct World {
    dir: TempDir,
    store: Store,
    docs: Collection,
    committed: Docs,
    held: Vec<(StoreSnapshot, Docs)>,
    /// The map is too small, and grows: it cannot while a snapshot is held.
    grows: bool,
}

fn open(dir: &Path, grows: bool) -> (Store, Collection) {
    let map = if grows { 1 << 18 } else { 1 << 28 };
    let store = Store::options().map_size(map).map_limit(1 << 30).open(dir).unwrap();
    let docs = store.collection("docs", &options()).unwrap();
    (store, docs)
}

impl World {
    fn new(rng: &mut Rng) -> Self {
        let (dir, grows) = (tempfile::tempdir().unwrap(), rng.random());
        // Others lie around it.
        let first = Store::open(dir.path()).unwrap();
        first.collection("first", &options()).unwrap();
        drop(first);
        let (store, docs) = open(dir.path(), grows);
        for name in ["first", "last"] {
            let other = store.collection(name, &options()).unwrap();
            let document = Document::new([1.0; DIMS]).labels(["l1"]);
            store.write(|txn| other.put(txn, "a/1", &document)).unwrap();
        }
        store.set_build_after("docs", Some(rng.random_range(0..60))).unwrap();
        Self { dir, store, docs, committed: Docs::new(), held: Vec::new(), grows }
    }

    /// One transaction, which may be given up.
    fn write(&mut self, ops: &[(&[&str], Op)], rng: &mut Rng) {
        let (is_aborted, is_checked) = (rng.random_bool(0.2), rng.random_bool(0.3));
        let seed = rng.random();
        let written = self.store.write(|txn| {
            let mut model = self.committed.clone();
            ops.iter().try_for_each(|op| apply(txn, &self.docs, &mut model, op))?;
            if is_checked {
                check(txn, &self.docs, &model, &mut support::rng(seed));
            }
            if is_aborted { Err(Error::NestedWrite) } else { Ok(model) }
        });
        match written {
            Ok(model) => self.committed = model,
            Err(Error::NestedWrite) if is_aborted => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn hold(&mut self, rng: &mut Rng) {
        if self.held.len() > rng.random_range(0..5) {
            self.held.swap_remove(0);
        } else if !self.grows {
            self.held.push((self.store.snapshot().unwrap(), self.committed.clone()));
        }
    }

    fn reopen(self) -> Self {
        let Self { dir, store, docs, committed, held, grows } = self;
        drop((store, docs, held));
        let (store, docs) = open(dir.path(), grows);
        Self { dir, store, docs, committed, held: Vec::new(), grows }
    }

    fn check(&self, rng: &mut Rng) {
        match rng.random_range(0..4) {
            0 => check(&self.store, &self.docs, &self.committed, rng),
            1 => check(&self.store.snapshot().unwrap(), &self.docs, &self.committed, rng),
            2 => {
                let checked = self.store.read(|txn| {
                    check(txn, &self.docs, &self.committed, rng);
                    Ok::<_, Error>(())
                });
                checked.unwrap();
            }
            _ => {
                if let Some((snapshot, model)) = self.held.choose(rng) {
                    check(snapshot, &self.docs, model, rng);
                }
            }
        }
    }
}

fn play(mut rng: Rng) {
    let mut world = World::new(&mut rng);
    let mut left = OPS;
    while left > 0 {
        let count = rng.random_range(1..25).min(left);
        left -= count;
        let ops: Vec<(&[&str], Op)> = (0..count)
            .map(|_| (*scopes().choose(&mut rng).unwrap(), random_op(&mut rng)))
            .collect();
        world.write(&ops, &mut rng);
        world.hold(&mut rng);
        if rng.random_bool(0.1) {
            world = world.reopen();
        }
        world.check(&mut rng);
    }
    check(&world.store, &world.docs, &world.committed, &mut rng);
    for name in ["first", "last"] {
        let other = world.store.open_collection(name).unwrap().unwrap();
        assert_eq!(other.labels(&world.store).unwrap(), [("l1".to_owned(), 1)]);
        assert_eq!(other.verify(&world.store).unwrap(), []);
    }
}

#[test]
fn a_collection_is_a_map_of_documents() {
    let worlds = if support::is_long() { 10_000 } else { 40 };
    play_worlds(0x20_5eed, worlds, play);
}
