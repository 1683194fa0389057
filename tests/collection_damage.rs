//! Damaged bytes of a collection are errors and no panics, `verify` tells of each, and a repair
//! leaves what was whole as it was.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "collection_damage/repair.rs"]
mod repair;
mod support;

use std::path::Path;

use rand::RngExt;
use rand::seq::IndexedRandom;
use spinney::heed::RwTxn;
use spinney::{Collection, Document, DocumentExample, Error, IndexOptions, Labels, Metric, Store};
use support::documents::{Table, edit};
use support::{Rng, play_worlds};

/// The kinds of entries, as their keys tell them apart: counts, documents, and what pieces have.
const KINDS: [(u8, Option<u8>); 6] =
    [(1, None), (2, None), (0, Some(0)), (0, Some(1)), (0, Some(2)), (0, Some(3))];

fn fill(path: &Path) {
    fill_with(path, 700);
}

/// So many documents of short keys, and four of long ones. The last of the short ones is deleted.
fn fill_with(path: &Path, count: u16) {
    let store = Store::open(path).unwrap();
    let docs = store.collection("docs", &IndexOptions::new(1, Metric::Euclidean)).unwrap();
    store
        .write(|txn| {
            for i in 0..count {
                let rows = vec![f32::from(i); usize::from(i % 3 + 1)];
                let document = Document::with_vectors(rows).payload([1; 30]);
                let label = format!("l{}", i % 2);
                docs.put(txn, u64::from(i), &document.labels([label.as_str(), "all"]))?;
            }
            let long = [b'k'; 511];
            for len in 508..=511 {
                docs.put(txn, &long[..len], &Document::new([3.0]).labels(["long"]))?;
            }
            docs.delete(txn, u64::from(count - 1))
        })
        .unwrap();
}

fn entries(
    table: Table<'_>,
    wtxn: &RwTxn<'_>,
    (kind, of_piece): (u8, Option<u8>),
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let all = table.iter(wtxn).unwrap().map(Result::unwrap);
    let of_kind =
        all.filter(|(key, _)| key[2] == kind && of_piece.is_none_or(|kind| key[7] == kind));
    of_kind.map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

/// Calls everything. What fails may, as long as nothing panics; writes are undone.
fn use_all(store: &Store, docs: &Collection, rng: &mut Rng) {
    let view = docs.scoped("l1").unwrap();
    for docs in [docs, &view] {
        let _ = docs.len(store);
        let _ = docs.vectors_len(store);
        let _ = docs.labels(store);
        let _ = docs.count(store, Labels::not("l0"));
        let _ = docs.keys(store).collect::<Result<Vec<_>, _>>();
        let _ = docs.documents_with_prefix(store, &[b'k'; 508]).collect::<Vec<_>>();
        let long = [b'k'; 511];
        let mut keys: Vec<Vec<u8>> = (508..=511).map(|len| long[..len].to_vec()).collect();
        keys.extend((0..9).map(|_| rng.random_range(0..800u64).to_be_bytes().to_vec()));
        for key in &keys {
            let _ = docs.get(store, &key[..]);
            let _ = docs.vectors(store, &key[..]);
            let _ = docs.search(store, 5).by_key(&key[..]);
        }
        let search = || docs.search(store, 900).payload(true);
        let _ = search().by_vector(&[0.0]);
        let _ = search().labelled("all").filter_fn(|key| key.as_u64() != Some(3)).by_vector(&[5.0]);
        let _ = search().by_mean(&[DocumentExample::from(4u64), 5u64.into()]);
        let _ = search().by_any(&[DocumentExample::from(4u64), (&[5.0]).into()]);
        let _ = search().by_vectors(&[0.0, 7.0]);
        let _ = search().labelled(Labels::not("l1")).by_vectors(&[0.0, 7.0]);
        let _ = search().per_group(2, |key| key.as_bytes().len() as u64).by_vector(&[5.0]);
        let _ = search().groups(2, |key| key.as_u64().unwrap_or(7) % 3).by_vectors(&[5.0]);
        if let Ok(mut pages) = docs.search(store, 200).payload(true).pages(&[3.0]) {
            while pages.next_page().is_ok_and(|page| !page.is_empty()) {}
        }
        for example in [DocumentExample::from(9u64), (&[3.0]).into()] {
            let _ = search().neighbours(example).map(|all| all.take(2000).count());
        }
        for key in &keys {
            let undone = store.write(|txn| {
                let put = docs.put(txn, &key[..], &Document::new([1.0]).labels(["l1", "new"]));
                let deleted = docs.delete(txn, &key[..]);
                let many = docs.put_many(txn, [(&key[..], Document::with_vectors([1.0, 2.0]))]);
                let _ = (put, deleted, many, docs.delete_where(txn, "l1"));
                Err::<(), _>(Error::Cancelled)
            });
            assert!(matches!(undone, Err(Error::Cancelled)));
        }
    }
}

#[test]
fn a_scope_deletes_and_shows_nothing_else_though_its_set_says_so() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    edit(dir.path(), |table, wtxn| {
        let sets = entries(table, wtxn, (0, Some(2)));
        let of = |label: &[u8]| sets.iter().find(|(key, _)| key.ends_with(label)).unwrap();
        table.put(wtxn, &of(b"l0").0, &of(b"all").1).unwrap();
    });
    let store = Store::open(dir.path()).unwrap();
    let docs = store.open_collection("docs").unwrap().unwrap();
    let view = docs.scoped("l0").unwrap();
    let before: Vec<_> = docs.documents(&store).map(Result::unwrap).collect();
    store
        .write(|txn| {
            let deleted = view.delete_where(txn, "all");
            assert!(matches!(deleted, Err(Error::StoreCorrupted { .. })), "{deleted:?}");
            Ok::<_, Error>(())
        })
        .unwrap();
    let after: Vec<_> = docs.documents(&store).map(Result::unwrap).collect();
    assert_eq!(before, after);
    let search = || view.search(&store, 9).payload(true);
    let payloads = search().by_vector(&[1.0]);
    assert!(matches!(payloads, Err(Error::StoreCorrupted { .. })), "{payloads:?}");
    let payloads = search().pages(&[1.0]).unwrap().next_page();
    assert!(matches!(payloads, Err(Error::StoreCorrupted { .. })), "{payloads:?}");
    assert!(docs.search(&store, 9).payload(true).by_vector(&[1.0]).is_ok());
}

/// Damages an entry so that it differs from what was there. Whether it does.
fn damage(rng: &mut Rng, value: &mut Vec<u8>) -> bool {
    let before = value.clone();
    match rng.random_range(0..4) {
        0 => value.truncate(rng.random_range(0..=value.len())),
        1 => value.push(rng.random()),
        _ => {
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..value.len().min(40));
                value[at] = rng.random();
            }
        }
    }
    *value != before
}

/// Whether a record differs in what only the caller knows: its payload.
fn is_payload_alone(before: &[u8], after: &[u8]) -> bool {
    // Version, counts, and labels come before it.
    let labels: usize = 11 + 4 + 3;
    before.len() >= labels && after.len() >= labels && before[..labels] == after[..labels]
}

fn play(mut rng: Rng) {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let kind = *KINDS.choose(&mut rng).unwrap();
    let (mut differs, mut what) = (false, String::new());
    edit(dir.path(), |table, wtxn| {
        let all = entries(table, wtxn, kind);
        assert!(!all.is_empty());
        let (key, mut value) = all.choose(&mut rng).unwrap().clone();
        if rng.random_bool(0.2) {
            table.delete(wtxn, &key).unwrap();
            differs = true;
        } else {
            let before = value.clone();
            let is_changed = damage(&mut rng, &mut value);
            let is_long = key.len() == 511;
            differs = is_changed && !(kind.0 == 2 && !is_long && is_payload_alone(&before, &value));
            table.put(wtxn, &key, &value).unwrap();
        }
        what = format!("kind {kind:?}, key {key:?}, value {value:?}");
    });
    let store = Store::open(dir.path()).unwrap();
    let docs = store.open_collection("docs").unwrap().unwrap();
    use_all(&store, &docs, &mut rng);
    match docs.verify(&store) {
        Ok(found) => assert_eq!(found.is_empty(), !differs, "{what}: {found:?}"),
        Err(error) => assert!(matches!(error, Error::FormatTooNew { .. }), "{what}: {error}"),
    }
}

#[test]
fn damage_is_told_and_no_panic() {
    let worlds = if support::is_long() { 3000 } else { 100 };
    play_worlds(0x20_da3a, worlds, play);
}

#[test]
fn a_failed_write_leaves_the_transaction_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    // The set of a label is damaged, which a put of that label meets late.
    edit(dir.path(), |table, wtxn| {
        let (key, _) = entries(table, wtxn, (0, Some(2)))
            .into_iter()
            .find(|(key, _)| key.ends_with(b"l0"))
            .unwrap();
        table.put(wtxn, &key, &[1, 2, 3]).unwrap();
    });
    let store = Store::open(dir.path()).unwrap();
    let docs = store.open_collection("docs").unwrap().unwrap();
    let before: Vec<_> = docs.documents(&store).map(Result::unwrap).collect();
    store
        .write(|txn| {
            let labelled = Document::with_vectors([1.0, 2.0, 3.0]).labels(["all", "l0", "new"]);
            let one = docs.put(txn, "new", &labelled);
            assert!(matches!(one, Err(Error::StoreCorrupted { .. })), "{one:?}");
            let many = [("newer", Document::new([1.0])), ("newest", labelled)];
            let many = docs.put_many(txn, many);
            assert!(matches!(many, Err(Error::Document(..))), "{many:?}");
            let deleted = docs.delete_where(txn, "all");
            assert!(matches!(deleted, Err(Error::StoreCorrupted { .. })), "{deleted:?}");
            Ok::<_, Error>(())
        })
        .unwrap();
    let after: Vec<_> = docs.documents(&store).map(Result::unwrap).collect();
    assert_eq!(before, after);
    let lens = (docs.len(&store).unwrap(), docs.vectors_len(&store).unwrap());
    assert_eq!(lens, (703, 4 + (0..699).map(|i| i % 3 + 1).sum::<u64>()));
    let found = docs.verify(&store).unwrap();
    assert!(!found.is_empty());
    for found in found {
        assert!(found.place.starts_with("Label") || found.what.contains("damaged"), "{found:?}");
    }
}
