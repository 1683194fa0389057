//! What collections promise at their edges: keys and labels at their limits, scopes, names, handles
//! of other stores, ids that run out.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::ops::ControlFlow;

use spinney::roaring::RoaringBitmap;
use spinney::{
    AuditAction, AuditKey, BuildOptions, Collection, Document, DocumentKey, Error, IndexOptions,
    Labels, Metric, Reads, Result, SearchStats, Store,
};
use support::documents::edit;

fn options() -> IndexOptions {
    IndexOptions::new(2, Metric::Euclidean)
}

fn opened() -> (tempfile::TempDir, Store, Collection) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let docs = store.collection("docs", &options()).unwrap();
    (dir, store, docs)
}

fn point(x: f32) -> Document {
    Document::new([x, 0.0])
}

fn keys(docs: &Collection, source: &impl Reads) -> Vec<DocumentKey> {
    docs.keys(source).collect::<Result<_>>().unwrap()
}

#[test]
fn collections_have_names_and_handles() {
    fn is_shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    let (_dir, store, docs) = opened();
    is_shared(&docs);
    store.index("index", &options()).unwrap();
    assert!(matches!(store.collection("index", &options()), Err(Error::NameTaken(_))));
    assert!(matches!(store.index("docs", &options()), Err(Error::NameTaken(_))));
    assert!(matches!(store.open_collection("index"), Err(Error::NameTaken(_))));
    assert!(matches!(store.delete_collection("index"), Err(Error::NameTaken(_))));
    assert!(matches!(store.delete_index("docs"), Err(Error::NameTaken(_))));
    let other = IndexOptions::new(3, Metric::Euclidean);
    assert!(matches!(store.collection("docs", &other), Err(Error::DimensionsMismatch { .. })));
    assert!(store.open_collection("none").unwrap().is_none());
    store.write(|txn| docs.put(txn, "a", &point(1.0))).unwrap();
    store.rename("docs", "pages").unwrap();
    assert_eq!(store.collections().unwrap(), ["pages"]);
    assert_eq!(docs.len(&store).unwrap(), 1);
    // What is deleted stays deleted for old handles, and leaves nothing to a new one.
    let snapshot = store.snapshot().unwrap();
    assert!(store.delete_collection("pages").unwrap());
    assert!(!store.delete_collection("pages").unwrap());
    assert!(matches!(docs.len(&store), Err(Error::IndexNotFound { .. })));
    let put = store.write(|txn| docs.put(txn, "a", &point(1.0)));
    assert!(matches!(put, Err(Error::IndexNotFound { .. })));
    assert_eq!(docs.len(&snapshot).unwrap(), 1);
    let docs = store.collection("pages", &options()).unwrap();
    assert!(docs.is_empty(&store).unwrap() && keys(&docs, &store).is_empty());
    assert!(matches!(docs.len(&snapshot), Err(Error::IndexNotFound { .. })));
}

#[test]
fn a_handle_is_good_for_its_own_store_alone() {
    let (dir, store, docs) = opened();
    let (_other_dir, other, _) = opened();
    assert!(matches!(docs.len(&other), Err(Error::OtherEnvironment)));
    let searched = docs.search(&other, 1).by_vector(&[0.0, 0.0]);
    assert!(matches!(searched, Err(Error::OtherEnvironment)));
    let put = other.write(|txn| docs.put(txn, "a", &point(1.0)));
    assert!(matches!(put, Err(Error::OtherEnvironment)));
    // It does not keep the store open, and is good when that is opened again.
    drop(store);
    let store = Store::options().read_only(true).open(dir.path()).unwrap();
    assert_eq!(docs.len(&store).unwrap(), 0);
}

#[test]
fn keys_and_labels_reach_their_limits() {
    let (_dir, store, docs) = opened();
    let key = |len: usize, last: u8| {
        let mut key = vec![0xFF; len];
        *key.last_mut().unwrap() = last;
        key
    };
    let mut all: Vec<Vec<u8>> = [1, 2, 506, 507, 508, 509, 510, 511]
        .iter()
        .flat_map(|len| [0, 1, 0xFE, 0xFF].map(|last| key(*len, last)))
        .collect();
    store
        .write(|txn| {
            for (i, key) in (0u8..).zip(&all) {
                docs.put(txn, &key[..], &point(f32::from(i)).payload(key.clone()))?;
            }
            Ok::<_, Error>(())
        })
        .unwrap();
    all.sort();
    all.dedup();
    assert!(
        keys(&docs, &store).iter().map(DocumentKey::as_bytes).eq(all.iter().map(Vec::as_slice))
    );
    for key in &all {
        assert_eq!(&docs.get(&store, &key[..]).unwrap().unwrap().payload, key);
        let hits = docs.search(&store, 1).payload(true).by_key(&key[..]).unwrap().unwrap();
        assert_eq!(hits[0].payload.as_deref(), Some(hits[0].key.as_bytes()));
    }
    for key in all.iter().step_by(2) {
        assert!(store.write(|txn| docs.delete(txn, &key[..])).unwrap());
    }
    let odd = all.iter().skip(1).step_by(2).map(Vec::as_slice);
    assert!(keys(&docs, &store).iter().map(DocumentKey::as_bytes).eq(odd));
    assert_eq!(docs.verify(&store).unwrap(), []);
    for key in [vec![], vec![1; 512]] {
        let refused = |result: Result<bool>| {
            assert!(matches!(result, Err(Error::InvalidOption { name: "key", .. })), "{result:?}");
        };
        refused(docs.contains(&store, &key[..]));
        refused(docs.get(&store, &key[..]).map(|found| found.is_some()));
        refused(store.write(|txn| docs.delete(txn, &key[..])));
        refused(store.write(|txn| docs.put(txn, &key[..], &point(1.0))).map(|()| true));
        refused(docs.search(&store, 1).by_key(&key[..]).map(|hits| hits.is_some()));
    }
    // Labels of the same beginning are not mixed up, and 256 are not too many.
    let labels: Vec<String> = (1..=200).map(|len| "x".repeat(len)).collect();
    let more: Vec<String> = (0..56).map(|i| format!("{i}")).collect();
    let document = point(1.0).labels(labels.iter().chain(&more)).labels(["x", "0"]);
    store.write(|txn| docs.put(txn, "labelled", &document)).unwrap();
    assert_eq!(docs.labels(&store).unwrap().len(), 256);
    assert_eq!(docs.count(&store, "x".repeat(200)).unwrap(), 1);
    assert_eq!(docs.get(&store, "labelled").unwrap().unwrap().labels.len(), 256);
    for label in ["", &"x".repeat(201)] {
        assert!(matches!(docs.count(&store, label), Err(Error::InvalidOption { .. })));
        assert!(matches!(docs.scoped(label), Err(Error::InvalidOption { .. })));
    }
}

#[test]
fn the_store_audits_and_verifies_documents() {
    let (dir, store, docs) = opened();
    store.set_audit(true).unwrap();
    store
        .write(|txn| {
            docs.put(txn, "a", &point(1.0).labels(["x"]))?;
            docs.put_many(txn, [("b", point(2.0).labels(["x"])), ("c", point(3.0))])?;
            assert!(docs.delete(txn, "c")? && !docs.delete(txn, "none")?);
            docs.delete_where(txn, "x")?;
            docs.put(txn, "a", &point(1.0))
        })
        .unwrap();
    let entry = store.audit_log(0).unwrap().last().unwrap().unwrap();
    let changes: Vec<_> = entry.changes.iter().map(|c| (c.action, &*c.name, c.count)).collect();
    assert_eq!(changes, [(AuditAction::Put, "docs", 4), (AuditAction::Delete, "docs", 3)]);
    assert_eq!(entry.changes[1].keys[0], AuditKey::Key(b"c".to_vec()));
    store.delete_collection("docs").unwrap();
    let entry = store.audit_log(0).unwrap().last().unwrap().unwrap();
    assert_eq!(entry.changes[0].action, AuditAction::Drop);
    let docs = store.collection("docs", &options()).unwrap();
    store.write(|txn| docs.put(txn, "a", &point(1.0).labels(["x"]))).unwrap();
    assert!(store.verify().unwrap().is_sound());
    drop((store, docs));
    edit(dir.path(), |table, wtxn| {
        let label = [&[0, 1, 0, 0, 0, 0, 0, 2][..], b"x"].concat();
        assert!(table.delete(wtxn, &label).unwrap());
    });
    let found = Store::open(dir.path()).unwrap().verify().unwrap();
    assert!(!found.is_sound() && found.faults.len() == 1, "{found:?}");
}

#[test]
fn numbers_are_in_order_and_keys_can_be_read() {
    let (_dir, store, docs) = opened();
    let numbers = [0, 1, 255, 256, 1 << 40, u64::MAX];
    store
        .write(|txn| docs.put_many(txn, numbers.iter().rev().map(|number| (*number, point(1.0)))))
        .unwrap();
    let found: Vec<_> = keys(&docs, &store).iter().map(|key| key.as_u64().unwrap()).collect();
    assert_eq!(found, numbers);
    let shown: Vec<String> =
        [DocumentKey::from("a b"), 7u64.into(), (&[1u8, 2][..]).into(), String::from("ü").into()]
            .iter()
            .map(|key| format!("{key:?}"))
            .collect();
    assert_eq!(shown, ["\"a b\"", "7", "b\"\\x01\\x02\"", "\"ü\""]);
}

#[test]
fn a_scope_shows_and_changes_nothing_else() {
    let (_dir, store, docs) = opened();
    let (a, b) = (docs.scoped("a").unwrap(), docs.scoped("b").unwrap());
    let ab = a.scoped("b").unwrap();
    assert_eq!(
        (ab.scope(), ab.scope()),
        (b.scoped("a").unwrap().scope(), ab.scoped("a").unwrap().scope())
    );
    store
        .write(|txn| {
            a.put(txn, "of a", &point(1.0).labels(["x"]).payload("secret"))?;
            b.put(txn, "of b", &point(2.0).labels(["x", "y"]))?;
            ab.put(txn, "of both", &Document::with_vectors([3.0, 0.0, 30.0, 0.0]))?;
            docs.put(txn, "of nobody", &point(4.0).labels(["x"]))
        })
        .unwrap();
    let everything = docs.documents(&store).collect::<Result<Vec<_>>>().unwrap();
    let lens = [&docs, &a, &b, &ab].map(|view| view.len(&store).unwrap());
    assert_eq!(lens, [4, 2, 2, 1]);
    assert_eq!(ab.vectors_len(&store).unwrap(), 2);
    assert_eq!(a.labels(&store).unwrap(), [("a".into(), 2), ("b".into(), 1), ("x".into(), 1)]);
    assert_eq!(a.count(&store, Labels::not("x")).unwrap(), 1);
    assert_eq!(a.count(&store, Labels::any(["y", "x"])).unwrap(), 1);
    // What is read, found, or taken as an example is of the scope.
    assert_eq!(keys(&a, &store), ["of a", "of both"]);
    for key in ["of b", "of nobody"] {
        assert!(!a.contains(&store, key).unwrap());
        assert!(a.vectors(&store, key).unwrap().is_none());
        assert!(a.search(&store, 9).by_key(key).unwrap().is_none());
        let found = a.search(&store, 9).by_any(&[key.into()]);
        assert!(matches!(found, Err(Error::DocumentNotFound(_))));
        let put = store.write(|txn| a.put(txn, key, &point(9.0)));
        assert!(matches!(put, Err(Error::OutOfScope(_))), "{put:?}");
        assert!(!store.write(|txn| a.delete(txn, key)).unwrap());
    }
    let hits =
        a.search(&store, 9).labelled(Labels::not("no label")).by_vector(&[4.0, 0.0]).unwrap();
    assert_eq!(hits.iter().map(|hit| &hit.key).collect::<Vec<_>>(), ["of both", "of a"]);
    // A set of all ids does not lead out of it either.
    let ids: RoaringBitmap = (0..100).collect();
    assert_eq!(a.search(&store, 9).filter(&ids).by_vector(&[4.0, 0.0]).unwrap().len(), 2);
    assert_eq!(docs.documents(&store).collect::<Result<Vec<_>>>().unwrap(), everything);
    // Not even a filter that means all deletes more.
    assert_eq!(store.write(|txn| a.delete_where(txn, Labels::all::<Labels>([]))).unwrap(), 2);
    assert_eq!(keys(&docs, &store), ["of b", "of nobody"]);
    // What was put through a scope stays in it when it is put again.
    store.write(|txn| b.put(txn, "of b", &point(5.0))).unwrap();
    assert_eq!(docs.get(&store, "of b").unwrap().unwrap().labels, ["b"]);
}

#[test]
fn searches_have_the_options_of_all_searches() {
    let (_dir, store, docs) = opened();
    store
        .write(|txn| {
            let all = (0..3000u64).map(|i| (i, point(i as f32).labels([format!("{}", i % 10)])));
            docs.put_many(txn, all)?;
            docs.build(txn, &BuildOptions::default()).map(|_| ())
        })
        .unwrap();
    let mut report = SearchStats::default();
    let hits = docs
        .search(&store, 5)
        .labelled("3")
        .recall(1.0)
        .within(40.0)
        .beyond(10.0)
        .report(&mut report)
        .by_vector(&[0.0, 0.0])
        .unwrap();
    assert_eq!(hits.iter().map(|hit| hit.key.as_u64().unwrap()).collect::<Vec<_>>(), [13, 23, 33]);
    assert!(report.reranked + report.scanned_exactly > 0);
    let stopped =
        docs.search(&store, 5).exact().cancel(|| ControlFlow::Break(())).by_vector(&[0.0; 2]);
    assert!(stopped.unwrap().is_partial());
    let failed = docs.search(&store, 5).try_filter_fn(|_| Err("no")).by_vector(&[0.0; 2]);
    assert!(matches!(failed, Err(Error::Callback(error)) if error.to_string() == "no"));
    // The same from all that can be read from, whether it remembers sets or not.
    let search = |docs: &Collection, source: &dyn Fn(&Collection) -> Vec<DocumentKey>| source(docs);
    let snapshot = store.snapshot().unwrap();
    let from_snapshot = |docs: &Collection| found(docs, &snapshot);
    let expected = search(&docs, &from_snapshot);
    assert_eq!(search(&docs, &|docs| found(docs, &store)), expected);
    assert_eq!(store.read(|txn| Ok::<_, Error>(found(&docs, txn))).unwrap(), expected);
    store
        .write(|txn| {
            assert_eq!(found(&docs, txn), expected);
            docs.put(txn, 7u64, &point(-1.0).labels(["3"]))?;
            assert_eq!(found(&docs, txn)[0], 7);
            Ok::<_, Error>(())
        })
        .unwrap();
    // A snapshot does not remember what a later commit has changed.
    assert_eq!(found(&docs, &snapshot), expected);
    assert_eq!(found(&docs, &store)[0], 7);
}

fn found(docs: &Collection, source: &impl Reads) -> Vec<DocumentKey> {
    let filter = Labels::any([Labels::from("3"), Labels::all(["4", "5"])]);
    let hits = docs.search(source, 3).labelled(filter).by_vector(&[0.0; 2]).unwrap();
    hits.iter().map(|hit| hit.key.clone()).collect()
}

#[test]
fn ids_are_given_out_again_when_they_have_run_out() {
    let (dir, store, docs) = opened();
    let rows =
        |count: u8| Document::with_vectors([[f32::from(count), 1.0]].repeat(count.into()).concat());
    store
        .write(|txn| {
            docs.put(txn, "a", &rows(3))?;
            docs.put(txn, "b", &rows(20))?;
            docs.put(txn, "c", &rows(1))?;
            docs.delete(txn, "b").map(|_| ())
        })
        .unwrap();
    drop((store, docs));
    // The next ids are the last that there are, and all between are free.
    let last = u32::MAX - 1;
    edit(dir.path(), |table, wtxn| {
        let counts = [0, 0, 1];
        let mut value = table.get(wtxn, &counts).unwrap().unwrap().to_vec();
        assert_eq!(value[17..25], 24u64.to_le_bytes());
        value[17..25].copy_from_slice(&u64::from(last).to_le_bytes());
        table.put(wtxn, &counts, &value).unwrap();
    });
    let store = Store::open(dir.path()).unwrap();
    let docs = store.open_collection("docs").unwrap().unwrap();
    store.write(|txn| docs.put(txn, "last", &rows(2))).unwrap();
    // Ids that `b` had are taken again, in one transaction and in the next.
    store
        .write(|txn| {
            docs.put(txn, "d", &rows(7))?;
            docs.put(txn, "e", &rows(7))?;
            assert!(docs.delete(txn, "d")?);
            docs.put_many(txn, [("f", rows(4)), ("g", rows(5)), ("h", rows(3)), ("i", rows(1))])
        })
        .unwrap();
    let full = store.write(|txn| docs.put(txn, "k", &rows(1)));
    assert!(matches!(full, Err(Error::InvalidOption { name: "vectors", .. })), "{full:?}");
    store.write(|txn| docs.put(txn, "c", &rows(1))).unwrap();
    store.write(|txn| docs.delete(txn, "last")).unwrap();
    store.write(|txn| docs.put(txn, "k", &rows(2))).unwrap();
    // Each has its own vectors, and no other's.
    for (key, count) in
        [("a", 3u8), ("c", 1), ("e", 7), ("f", 4), ("g", 5), ("h", 3), ("i", 1), ("k", 2)]
    {
        let vectors = docs.vectors(&store, key).unwrap().unwrap();
        assert_eq!(vectors, [[f32::from(count), 1.0]].repeat(count.into()).concat(), "{key}");
    }
    let hits = docs.search(&store, 100).by_vector(&[1.0, 1.0]).unwrap();
    assert_eq!((hits.len(), docs.vectors_len(&store).unwrap()), (8, 26));
}
