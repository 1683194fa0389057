//! What a repair leaves of a damaged collection.

use std::collections::{BTreeMap, BTreeSet};

use rand::seq::{IndexedRandom, IteratorRandom};
use spinney::{AuditAction, BuildOptions, CollectionRepair, DocumentKey, Reads, StoredDocument};

use super::*;
use crate::support::documents::edit_table;
use crate::support::raw::{ITEM, LEAF, RECORD, Raw};

/// Documents with their vectors.
type Content = BTreeMap<DocumentKey, (StoredDocument, Vec<f32>)>;

fn options() -> IndexOptions {
    IndexOptions::new(1, Metric::Euclidean)
}

fn content(docs: &Collection, source: &impl Reads) -> Content {
    docs.documents(source)
        .map(|document| {
            let document = document.unwrap();
            let vectors = docs.vectors(source, &document.key).unwrap().unwrap();
            (document.key.clone(), (document, vectors))
        })
        .collect()
}

/// The documents whose record is in an entry.
fn keys_in(entry: &[u8]) -> Vec<DocumentKey> {
    match (entry[2], entry.len()) {
        (2, 511) => (508..=511).map(|len| DocumentKey::from(&[b'k'; 511][..len])).collect(),
        (2, _) => vec![DocumentKey::from(&entry[3..])],
        _ => Vec::new(),
    }
}

/// Damages some entries: their bits, their length, whether they are there, whose value they have.
/// Returns the documents whose records are no longer what they were.
fn damage_some(path: &Path, rng: &mut Rng, count: usize) -> (BTreeSet<DocumentKey>, Vec<String>) {
    let (mut damaged, mut what) = (BTreeSet::new(), Vec::new());
    edit(path, |table, wtxn| {
        for _ in 0..count {
            let kind = *KINDS.choose(rng).unwrap();
            let all = entries(table, wtxn, kind);
            let Some((key, mut value)) = all.choose(rng).cloned() else { continue };
            if value.is_empty() {
                continue;
            }
            what.push(format!("{}: {}", key.escape_ascii(), value.escape_ascii()));
            damaged.extend(keys_in(&key));
            match rng.random_range(0..5) {
                0 => assert!(table.delete(wtxn, &key).unwrap()),
                1 => {
                    let (other, moved) = all.choose(rng).unwrap();
                    damaged.extend(keys_in(other));
                    table.put(wtxn, other, &value).unwrap();
                    table.put(wtxn, &key, moved).unwrap();
                }
                2 => {
                    for _ in 0..rng.random_range(1..3) {
                        let at = rng.random_range(0..value.len().min(30));
                        value[at] ^= 1 << rng.random_range(0..8);
                    }
                    table.put(wtxn, &key, &value).unwrap();
                }
                _ => {
                    damage(rng, &mut value);
                    table.put(wtxn, &key, &value).unwrap();
                }
            }
            what.push(format!("became {:?}", table.get(wtxn, &key).unwrap()));
        }
    });
    (damaged, what)
}

/// What was whole is there as it was, what is gone is named, and nothing disagrees.
fn check_repaired(
    store: &Store,
    before: &Content,
    damaged: &BTreeSet<DocumentKey>,
    repair: &CollectionRepair,
    is_one: bool,
) {
    let found = store.verify().unwrap();
    assert!(found.is_sound(), "{found:?}");
    let docs = store.open_collection("docs").unwrap().unwrap();
    let after = content(&docs, store);
    for (key, whole) in before.iter().filter(|(key, _)| !damaged.contains(key)) {
        assert_eq!(after.get(key), Some(whole), "{repair:?}");
    }
    assert!(repair.lost.is_sorted(), "{repair:?}");
    assert!(repair.lost.iter().all(|key| !after.contains_key(key)), "{repair:?}");
    if is_one {
        let lost: BTreeSet<_> = repair.lost.iter().collect();
        let gone: BTreeSet<_> = before.keys().filter(|key| !after.contains_key(key)).collect();
        assert_eq!(gone, lost);
    }
    // It serves like any other.
    store
        .write(|txn| {
            docs.put_many(txn, [("new", Document::with_vectors([1.0, 2.0]).labels(["l0"]))])
        })
        .unwrap();
    assert!(store.write(|txn| docs.delete(txn, "new")).unwrap());
    assert!(store.verify().unwrap().is_sound());
}

fn repair_all(mut rng: Rng) {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let before = {
        let store = Store::open(dir.path()).unwrap();
        let docs = store.open_collection("docs").unwrap().unwrap();
        if rng.random() {
            store.write(|txn| docs.build(txn, &BuildOptions::default())).unwrap();
        }
        content(&docs, &store)
    };
    let count = rng.random_range(1..5);
    let (damaged, what) = damage_some(dir.path(), &mut rng, count);
    let store = Store::open(dir.path()).unwrap();
    let is_sound = store.verify().unwrap().is_sound();
    store.set_audit(true).unwrap();
    let repaired = store.repair_collection("docs", &options(), &BuildOptions::default());
    match repaired {
        Ok(repair) => {
            let told = store.audit_log(2).unwrap().map(Result::unwrap).next();
            let told = told.map(|entry| (entry.changes[0].action, entry.changes[0].count));
            let lost = repair.lost.len() as u64;
            assert_eq!(told, (!is_sound).then_some((AuditAction::Repair, lost)), "{what:?}");
            assert_eq!(repair.found.is_empty(), is_sound, "{what:?}");
            assert_eq!(repair.index.violations_found, 0);
            check_repaired(&store, &before, &damaged, &repair, count == 1);
        }
        Err(error) => {
            // The counts are those of a newer version, as far as can be told.
            let is_of_counts = what.iter().any(|what| what.starts_with("\\x00\\x00\\x01:"));
            assert!(
                matches!(error, Error::FormatTooNew { .. }) && is_of_counts,
                "{error} {what:?}"
            );
        }
    }
}

#[test]
fn a_repair_keeps_what_was_whole() {
    let worlds = if support::is_long() { 3000 } else { 100 };
    play_worlds(0x20_4e9a, worlds, repair_all);
}

/// Bytes of a record before what is changed, after the entry's own.
const FIRST: usize = 3;
const VECTORS: usize = 7;

/// Changes one record, to what still looks like one or to what does not. At times it also changes
/// what an item says of another document.
fn repair_few(mut rng: Rng) {
    let dir = tempfile::tempdir().unwrap();
    fill_with(dir.path(), 12);
    let before = {
        let store = Store::open(dir.path()).unwrap();
        content(&store.open_collection("docs").unwrap().unwrap(), &store)
    };
    let mut damaged = BTreeSet::new();
    let mut is_named = true;
    edit(dir.path(), |table, wtxn| {
        let records = entries(table, wtxn, KINDS[1]);
        let (long, short): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|(entry, _)| entry.len() == 511);
        let (entry, mut value) = short.choose(&mut rng).unwrap().clone();
        match rng.random_range(0..6) {
            0 => {
                // The first byte of one of the records, which take as much, but for their keys.
                let (entry, mut value) = long[0].clone();
                let which = rng.random_range(0..4);
                let ends: usize = (0..which).map(|tail| value.len() / 4 - 1 + tail).sum();
                value[ends + 5 + which] = 0;
                table.put(wtxn, &entry, &value).unwrap();
                damaged.insert(keys_in(&entry)[which].clone());
            }
            1 => assert!(table.delete(wtxn, &entry).unwrap()),
            2 => {
                let (other, moved) = short.choose(&mut rng).unwrap();
                table.put(wtxn, other, &value).unwrap();
                table.put(wtxn, &entry, moved).unwrap();
                damaged.extend(keys_in(other));
            }
            3 => value[VECTORS] = rng.random_range(1..5),
            _ => value[FIRST] = rng.random_range(0..28),
        }
        if damaged.is_empty() {
            if table.get(wtxn, &entry).unwrap().is_some() {
                table.put(wtxn, &entry, &value).unwrap();
            }
            damaged.extend(keys_in(&entry));
        } else if damaged.iter().all(|key| key.as_u64().is_some()) {
            damaged.extend(keys_in(&entry));
        }
        let items = entries(table, wtxn, KINDS[5]);
        let (item, named) = items.choose(&mut rng).unwrap();
        match rng.random_range(0..3) {
            0 => assert!(table.delete(wtxn, item).unwrap()),
            1 => table.put(wtxn, item, b"nobody").unwrap(),
            _ => return,
        }
        is_named = !damaged.contains(&DocumentKey::from(&named[..]));
    });
    let store = Store::open(dir.path()).unwrap();
    let repaired = store.repair_collection("docs", &options(), &BuildOptions::default());
    check_repaired(&store, &before, &damaged, &repaired.unwrap(), is_named);
}

#[test]
fn a_damaged_record_takes_nothing_from_others() {
    play_worlds(0x20_4e9c, if support::is_long() { 3000 } else { 250 }, repair_few);
}

/// Damages vectors and the forest over them, and the documents beside them.
fn repair_index_and_documents(mut rng: Rng) {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let store = Store::open(dir.path()).unwrap();
    let docs = store.open_collection("docs").unwrap().unwrap();
    store.write(|txn| docs.build(txn, &BuildOptions::default())).unwrap();
    let before = content(&docs, &store);
    let snapshot = store.snapshot().unwrap();
    let raw = Raw::open(store.env());
    let all = store.read(|txn| Ok::<_, Error>(raw.all(txn.as_heed()))).unwrap();
    let items: Vec<_> = all.iter().filter(|(key, _)| key[2] == ITEM).collect();
    let count = rng.random_range(0..5);
    let lost_items = items.iter().sample(&mut rng, count);
    let other = rng.random_range(0..3);
    store
        .write(|txn| {
            let wtxn = txn.as_heed_mut();
            for (key, value) in &lost_items {
                match rng.random() {
                    true => assert!(raw.0.delete(wtxn, key)?),
                    false => raw.0.put(wtxn, key, &value[..8])?,
                }
            }
            let damaged = [RECORD, LEAF]
                .get(other)
                .and_then(|kind| all.iter().find(|(key, _)| key[2] == *kind));
            if let Some((key, _)) = damaged {
                raw.0.delete(wtxn, key)?;
            }
            Ok::<_, Error>(())
        })
        .unwrap();
    let ids: BTreeSet<u32> = lost_items
        .iter()
        .map(|(key, _)| u32::from_be_bytes(key[4..].try_into().unwrap()))
        .collect();
    // Ids were given out in the order of the keys: one to three for each.
    let mut damaged = BTreeSet::new();
    let mut next = 0;
    let short = (0..699u64).map(|i| (DocumentKey::from(i), i as u32 % 3 + 1));
    // Key 699 had one, and is deleted.
    let long = (508..=511).map(|len| (DocumentKey::from(&[b'k'; 511][..len]), 1));
    for (key, vectors) in short.chain([(DocumentKey::from(699u64), 1)]).chain(long) {
        if ids.range(next..next + vectors).next().is_some() {
            damaged.insert(key);
        }
        next += vectors;
    }
    let repair = store.repair_collection("docs", &options(), &BuildOptions::default()).unwrap();
    assert_eq!(repair.found.is_empty(), damaged.is_empty());
    assert_eq!(repair.index.violations_found == 0, lost_items.is_empty() && other == 2);
    assert_eq!(repair.lost, damaged.iter().cloned().collect::<Vec<_>>());
    let rows: usize = damaged.iter().map(|key| before[key].1.len()).sum();
    assert_eq!(repair.vectors_deleted as usize, rows - ids.len());
    check_repaired(&store, &before, &damaged, &repair, true);
    // What is left of the lost is there to be read from a snapshot taken before.
    for key in &damaged {
        assert_eq!(docs.get(&snapshot, key).unwrap().as_ref(), Some(&before[key].0));
    }
}

#[test]
fn documents_whose_vectors_are_lost_are_named() {
    play_worlds(0x20_4e9b, if support::is_long() { 500 } else { 30 }, repair_index_and_documents);
}

#[test]
fn a_repair_of_what_is_whole_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let bytes = |kind| {
        let mut all = Vec::new();
        edit(dir.path(), |table, wtxn| all = entries(table, wtxn, kind));
        all
    };
    let before = KINDS.map(bytes);
    let store = Store::open(dir.path()).unwrap();
    store.set_audit(true).unwrap();
    let repair = store.repair_collection("docs", &options(), &BuildOptions::default()).unwrap();
    assert_eq!(repair, CollectionRepair::default());
    assert_eq!(store.audit_log(0).unwrap().count(), 1);
    drop(store);
    assert!(before == KINDS.map(bytes));
}

#[test]
fn a_repair_is_refused_where_it_would_delete_what_is_another_s() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let store = Store::open(dir.path()).unwrap();
    store.index("index", &options()).unwrap();
    let repair = |name| store.repair_collection(name, &options(), &BuildOptions::default());
    assert!(matches!(repair("index"), Err(Error::NameTaken(_))));
    assert!(matches!(repair("none"), Err(Error::NameNotFound(_))));
    let other = IndexOptions::new(2, Metric::Euclidean);
    let other = store.repair_collection("docs", &other, &BuildOptions::default());
    assert!(matches!(other, Err(Error::DimensionsMismatch { .. })));
    // A damaged name that leads to the vectors of an index, which have no documents.
    let index = store.open_index("index").unwrap().unwrap();
    store.write(|txn| index.add_item(txn, 7, &[1.0])).unwrap();
    let number = index.number().to_le_bytes();
    drop(store);
    for is_named in [true, false] {
        edit_table(dir.path(), "spinney catalog", |table, wtxn| {
            let mut value = table.get(wtxn, b"docs").unwrap().unwrap().to_vec();
            value[2..4].copy_from_slice(&number);
            table.put(wtxn, b"docs", &value).unwrap();
            if !is_named {
                table.delete(wtxn, b"index").unwrap();
            }
        });
        let store = Store::open(dir.path()).unwrap();
        let refused = store.repair_collection("docs", &options(), &BuildOptions::default());
        if is_named {
            assert!(matches!(refused, Err(Error::NameTaken(name)) if name == "index"));
        } else {
            assert!(matches!(refused, Err(Error::StoreCorrupted { .. })), "{refused:?}");
        }
    }
}
