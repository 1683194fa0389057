//! What a store keeps beside its indexes is frozen: a file that this version wrote is read by every
//! later one, with the same answers.
//!
//! `tests/golden/store-1.mdb` holds names, a collection with every kind of entry, and an audit log.
//! `tests/golden/store-1.txt` has what it says. A later format comes with files of its own; these
//! stay.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use spinney::{
    BackupOptions, Collection, Document, Error, Index, IndexOptions, Labels, Metric, Reads, Store,
};

fn path(extension: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/store-1.{extension}"))
}

fn open(file: &Path) -> Store {
    Store::options().single_file(true).open(file).unwrap()
}

fn point(i: u64) -> [f32; 2] {
    [(i * 7 % 101) as f32, (i * 3 % 89) as f32]
}

/// A key of 508 to 511 bytes: those of the same first 508 bytes share an entry.
fn long_key(i: usize) -> String {
    format!("{}{}", "k".repeat(508), "x".repeat(i))
}

/// Everything that the format has: see `src/store/collection/mod.rs`, `src/store/catalog.rs` and
/// `src/store/audit/`.
fn fill(store: &Store) -> spinney::Result<()> {
    store.set_audit(true)?;
    let ann = store.acting_as("ann")?;
    let options = IndexOptions::new(2, Metric::Euclidean);
    let old = ann.index("old name", &options)?;
    ann.write(|txn| (0..50).try_for_each(|id| old.add_item(txn, id, &point(id.into()))))?;
    ann.rename("old name", "index")?;
    ann.set_build_after("index", None)?;
    let docs = ann.collection("docs", &options)?;
    // Forests are in the files of the formats of indexes.
    ann.set_build_after("docs", None)?;
    ann.write(|txn| {
        // Sets of more than 512 ids of a piece, and of fewer.
        docs.put_many(
            txn,
            (0..700u64).map(|i| {
                let size = if i % 9 == 0 { "few" } else { "many" };
                (i, Document::new(point(i)).labels([size]).payload(i.to_string()))
            }),
        )?;
        for i in 0..4 {
            let rows = [point(i), point(i + 500)].concat();
            let document = Document::with_vectors(rows).labels(["long key", "few"]);
            docs.put(txn, long_key(i as usize), &document)?;
        }
        // Ids of the next piece, too.
        let rows: Vec<f32> = (0..7600u16).flat_map(|i| [9000.0, f32::from(i % 7)]).collect();
        docs.put(txn, "many vectors", &Document::with_vectors(rows).labels(["few"]))?;
        docs.put(txn, "last", &Document::new([600.0, 500.0]).labels(["few", "moved"]))?;
        docs.put(txn, "large", &Document::new(point(1)).payload(vec![7; 10_000]))
    })?;
    ann.write(|txn| {
        docs.delete(txn, 450u64)?;
        docs.put(txn, 17u64, &Document::new([500.0, 500.0]).labels(["moved"]))?;
        assert_eq!(docs.delete_where(txn, Labels::all(["moved", "many"]))?, 0);
        assert!(docs.delete(txn, long_key(2))?);
        Ok::<_, Error>(())
    })?;
    store.delete_index("not there").map(|_| ())
}

/// What the store says, as text.
fn answers(store: &Store) -> String {
    let mut text = String::new();
    assert!(store.verify().unwrap().is_sound(), "{:?}", store.verify().unwrap());
    let names = (store.indexes().unwrap(), store.collections().unwrap());
    writeln!(text, "{names:?}").unwrap();
    let (index, docs) = handles(store);
    let hits = store.with_reader(&index, |reader| reader.nns(3).exact().by_vector(&[1.0, 2.0]));
    writeln!(text, "index {:?}", hits.unwrap().into_vec()).unwrap();
    let counts = (docs.len(store).unwrap(), docs.vectors_len(store).unwrap());
    writeln!(text, "docs {counts:?} {:?}", docs.labels(store).unwrap()).unwrap();
    let filters = [Labels::from("few"), Labels::not("many"), Labels::any(["moved", "long key"])];
    for filter in filters {
        let search = docs.search(store, 6).labelled(filter).payload(true).exact();
        for hit in search.by_vector(&[3.0, 4.0]).unwrap().iter() {
            let payload = hit.payload.as_deref().unwrap_or_default();
            let (key, payload) = (hit.key.as_bytes(), String::from_utf8_lossy(payload));
            let end = &key[key.len().saturating_sub(8)..];
            writeln!(text, "  {} {end:?} {:?} {payload}", key.len(), hit.distance).unwrap();
        }
    }
    let large = docs.get(store, "large").unwrap().unwrap();
    writeln!(text, "large {:?}", (large.payload.len(), large.payload.last())).unwrap();
    assert_eq!(docs.vectors(store, long_key(3)).unwrap().map(|rows| rows.len()), Some(4));
    for entry in store.audit_log(0).unwrap() {
        let entry = entry.unwrap();
        let changes = entry.changes.iter().map(|change| {
            format!("{:?} {} {} {}", change.action, change.name, change.count, change.keys.len())
        });
        let changes: Vec<String> = changes.collect();
        writeln!(text, "{} {:?} {changes:?}", entry.sequence, entry.actor).unwrap();
    }
    text
}

fn handles(store: &Store) -> (Index, Collection) {
    let index = store.open_index("index").unwrap().unwrap();
    (index, store.open_collection("docs").unwrap().unwrap())
}

/// Writes the files of a format that has none yet.
#[test]
#[ignore = "writes the golden files"]
fn write() {
    if path("mdb").exists() {
        println!("{} is there, and stays", path("mdb").display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    fill(&store).unwrap();
    let text = answers(&store);
    // A backup is itself noted, after it was made.
    store.backup_with(path("mdb"), &BackupOptions::default().compact(true)).unwrap();
    std::fs::write(path("txt"), text).unwrap();
}

#[test]
fn what_an_earlier_version_wrote_says_the_same_and_can_be_changed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store");
    std::fs::copy(path("mdb"), &file).unwrap();
    let store = open(&file);
    let expected = std::fs::read_to_string(path("txt")).unwrap();
    for (found, expected) in answers(&store).lines().zip(expected.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(answers(&store).len(), expected.len());
    let (index, docs) = handles(&store);
    let last = store.audit_log(0).unwrap().last().unwrap().unwrap().sequence;
    store
        .write(|txn| {
            index.add_item(txn, 99, &[0.0, 0.0])?;
            docs.put(txn, long_key(2), &Document::new([9.0, 9.0]).labels(["few"]))?;
            docs.delete_where(txn, "many").map(|_| ())
        })
        .unwrap();
    assert!(store.verify().unwrap().is_sound());
    assert_eq!(docs.count(&store, "many").unwrap(), 0);
    assert!(docs.contains(&store, long_key(2)).unwrap());
    assert_eq!(store.audit_log(0).unwrap().last().unwrap().unwrap().sequence, last + 1);
}
