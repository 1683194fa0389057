//! Laws of the audit log: what a commit did is told by the same commit, and nothing else is; no
//! stored bytes make reading it panic.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::{Duration, SystemTime};

use rand::RngExt;
use spinney::heed::types::Bytes;
use spinney::heed::{self, CommitOrAbort};
use spinney::{
    AuditAction as A, AuditEntry, AuditKey, BuildOptions, Error, IndexOptions, Metric, Result,
    Storage, Store,
};
use support::Seed;
use support::process::{command, given_folder, run};

const DIMS: usize = 3;

fn options() -> IndexOptions {
    IndexOptions::new(DIMS, Metric::Euclidean)
}

fn log(store: &Store) -> Vec<AuditEntry> {
    store.audit_log(1).unwrap().collect::<Result<_>>().unwrap()
}

/// Who, and what to what how often.
type Told = (Option<String>, Vec<(A, String, u64)>);

fn told(entry: &AuditEntry) -> Told {
    let changes = entry.changes.iter().map(|c| (c.action, c.name.clone(), c.count));
    (entry.actor.clone(), changes.collect())
}

/// The entries after the first so many.
fn told_since(store: &Store, count: usize) -> Vec<Told> {
    log(store)[count..].iter().map(told).collect()
}

fn one(actor: Option<&str>, action: A, name: &str, count: u64) -> Told {
    (actor.map(str::to_owned), vec![(action, name.to_owned(), count)])
}

fn note(store: &Store, name: &str) {
    let noted = store.write(|txn| {
        txn.note(A::Other, name, b"key");
        Ok::<_, Error>(())
    });
    noted.unwrap();
}

fn table(store: &Store) -> heed::Database<'static, Bytes, Bytes> {
    let env = store.env();
    let opened = env.open_databases_and_commit(env.read_txn().unwrap(), |opener, rtxn| {
        let table = opener.open_database(rtxn, Some("spinney audit"))?.unwrap();
        Ok::<_, Error>(CommitOrAbort::<_, ()>::Commit(table))
    });
    opened.unwrap().unwrap_commit()
}

#[test]
fn each_write_tells_what_it_did() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    let index = store.index("a", &options()).unwrap();
    store.write(|txn| index.add_item(txn, 1, &[1.0; DIMS])).unwrap();
    assert!(log(&store).is_empty() && !store.is_audited().unwrap());
    store.set_audit(true).unwrap();
    store.set_audit(true).unwrap();
    assert_eq!(told_since(&store, 0), [one(None, A::Start, "", 1)]);
    let ann = store.acting_as("ann").unwrap();
    let before = SystemTime::now() - Duration::from_millis(1);
    ann.write(|txn| {
        index.add_items(txn, &[5, 6, 7], &[2.0; 3 * DIMS])?;
        index.add_item(txn, 5, &[3.0; DIMS])?;
        assert!(index.del_item(txn, 6)? && !index.del_item(txn, 99)?);
        assert!(index.add_item(txn, 8, &[f32::NAN; DIMS]).is_err());
        index.build(txn, &BuildOptions::default()).map(|_| ())
    })
    .unwrap();
    let entry = &log(&store)[1];
    let many = [(A::Put, "a", 4), (A::Delete, "a", 1), (A::Build, "a", 1)];
    let many = many.map(|(action, name, count)| (action, name.to_owned(), count)).to_vec();
    assert_eq!(told(entry), (Some("ann".to_owned()), many));
    assert_eq!(entry.changes[0].keys, [5, 6, 7, 5].map(AuditKey::Id));
    assert_eq!((entry.sequence, &entry.changes[1].keys[..]), (2, &[AuditKey::Id(6)][..]));
    assert!(entry.time() >= before && entry.time() <= SystemTime::now());
    // Reading leaves nothing, nor does what is aborted.
    ann.read(|txn| txn.reader(&index).map(|_| ())).unwrap();
    ann.write(|txn| txn.reader(&index).map(|_| ())).unwrap();
    let aborted = ann.write(|txn| {
        index.add_item(txn, 1, &[1.0; DIMS])?;
        Err::<(), _>(Error::Cancelled)
    });
    assert!(aborted.is_err());
    assert_eq!(log(&store).len(), 2);
    // The store's own operations; who is named within has the last word.
    ann.index("b", &options()).unwrap();
    ann.index("b", &options()).unwrap();
    ann.rename("b", "c").unwrap();
    ann.set_build_after("c", Some(3)).unwrap();
    assert!(ann.delete_index("c").unwrap() && !ann.delete_index("c").unwrap());
    ann.rename("a", "z").unwrap();
    ann.write(|txn| {
        txn.set_actor("bob")?;
        index.add_items(txn, &[1, 2, 3, 4, 5], &[2.0; 5 * DIMS])
    })
    .unwrap();
    store.set_build_after("z", Some(3)).unwrap();
    store.write(|txn| index.add_items(txn, &[1, 2, 3, 4], &[2.0; 4 * DIMS])).unwrap();
    store.write(|txn| index.convert(txn, Storage::F16).map(|_| ())).unwrap();
    store.write(|txn| index.clear(txn)).unwrap();
    store.repair("z", &options().storage(Storage::F16), &BuildOptions::default()).unwrap();
    store.write(|txn| Ok::<_, Error>(_ = txn.as_heed_mut())).unwrap();
    store.backup(dir.path().join("copy")).unwrap();
    let a = Some("ann");
    let copy = dir.path().join("copy").to_string_lossy().into_owned();
    let built = vec![(A::Put, "z".to_owned(), 4), (A::Build, "z".to_owned(), 1)];
    // All of what is converted waits for a build.
    let converted = vec![(A::Build, "z".to_owned(), 1), (A::Convert, "z".to_owned(), 6)];
    let expected = [
        one(a, A::Create, "b", 1),
        one(a, A::Rename, "b", 1),
        one(a, A::Configure, "c", 1),
        one(a, A::Drop, "c", 1),
        one(a, A::Rename, "a", 1),
        one(Some("bob"), A::Put, "z", 5),
        one(None, A::Configure, "z", 1),
        (None, built),
        (None, converted),
        one(None, A::Clear, "z", 6),
        one(None, A::Raw, "", 1),
        one(None, A::Backup, &copy, 1),
    ];
    assert_eq!(told_since(&store, 2), expected);
    assert_eq!(log(&store)[3].changes[0].keys, [AuditKey::Key(b"c".to_vec())]);
    // The copy has what was told before it, and tells of its own coming.
    let again = Store::restore(&copy, dir.path().join("again"), &Store::options()).unwrap();
    assert_eq!(told_since(&again, 13), [one(None, A::Restore, &copy, 1)]);
    store.set_audit(false).unwrap();
    store.write(|txn| index.add_item(txn, 1, &[1.0; DIMS])).unwrap();
    assert_eq!(told_since(&store, 14), [one(None, A::Stop, "", 1)]);
    for name in ["", &"x".repeat(256)] {
        assert!(matches!(store.acting_as(name), Err(Error::InvalidOption { .. })));
    }
}

#[test]
fn only_so_many_keys_are_told_and_all_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    // The log, too, fills the map, and what is run again is told once.
    let store = Store::options().map_size(1 << 20).map_limit(64 << 20).open(dir.path()).unwrap();
    let index = store.index("a", &options()).unwrap();
    store.set_audit(true).unwrap();
    let mut runs = 0;
    store
        .write(|txn| {
            runs += 1;
            (0..20_000).try_for_each(|id| index.add_item(txn, id, &[1.0; DIMS]))?;
            txn.note(A::Export, &"é".repeat(5000), &[7; 10_000]);
            Ok::<_, Error>(())
        })
        .unwrap();
    assert!(runs > 1);
    assert_eq!(log(&store).len(), 2);
    let entry = log(&store).pop().unwrap();
    let put = &entry.changes[0];
    assert_eq!((put.action, put.count), (A::Put, 20_000));
    assert_eq!(put.keys, Vec::from_iter((0..100).map(AuditKey::Id)));
    let export = entry.changes.iter().find(|change| change.action == A::Export).unwrap();
    assert_eq!(export.name, "é".repeat(2048));
    assert_eq!(export.keys, [AuditKey::Key(vec![7; 4096])]);
}

#[test]
fn old_entries_are_trimmed_and_that_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.set_audit(true).unwrap();
    let note_later = |name: &str| {
        std::thread::sleep(Duration::from_millis(3));
        note(&store, name);
    };
    (0..20).for_each(|i| note_later(&i.to_string()));
    let middle = log(&store)[11].time();
    assert_eq!(store.trim_audit(SystemTime::UNIX_EPOCH).unwrap(), 0);
    assert_eq!(store.acting_as("ann").unwrap().trim_audit(middle).unwrap(), 11);
    let left = log(&store);
    assert_eq!(Vec::from_iter(left.iter().map(|entry| entry.sequence)), Vec::from_iter(12..=22));
    assert_eq!(told(left.last().unwrap()), one(Some("ann"), A::Trim, "", 11));
    let later = store.audit_log(20).unwrap().map(|entry| entry.unwrap().sequence);
    assert_eq!(later.collect::<Vec<_>>(), [20, 21, 22]);
    // Also when the log is no longer kept; numbers are never given twice.
    store.set_audit(false).unwrap();
    std::thread::sleep(Duration::from_millis(3));
    assert_eq!(store.trim_audit(SystemTime::now()).unwrap(), 12);
    let left = log(&store);
    assert_eq!(Vec::from_iter(left.iter().map(|entry| entry.sequence)), [24]);
}

#[test]
fn all_processes_keep_the_log() {
    let test = "all_processes_keep_the_log";
    if let Some(dir) = given_folder() {
        let store = Store::open(&dir).unwrap().acting_as("other").unwrap();
        store.index("b", &options()).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.set_audit(true).unwrap();
    run(command(test, dir.path()));
    assert_eq!(told_since(&store, 1), [one(Some("other"), A::Create, "b", 1)]);
}

#[test]
fn damaged_entries_are_told_and_others_follow() {
    let seed = Seed::new(2031);
    let mut rng = seed.rng(0);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::options().durability(spinney::Durability::None).open(dir.path()).unwrap();
    store.set_audit(true).unwrap();
    for i in 0..30 {
        note(&store, &format!("name {i}"));
    }
    store.set_audit(false).unwrap();
    let table = table(&store);
    let whole = store
        .read(|txn| {
            Ok::<_, Error>(table.get(txn.as_heed(), &9u64.to_be_bytes())?.unwrap().to_vec())
        })
        .unwrap();
    let plant = |key: &[u8], value: &[u8]| {
        store.write(|txn| Ok::<_, Error>(table.put(txn.as_heed_mut(), key, value)?)).unwrap();
    };
    let mut refused = 0;
    for _ in 0..300 {
        let mut value = whole.clone();
        value.truncate(rng.random_range(0..=value.len()));
        for _ in 0..rng.random_range(0..4) {
            let at = rng.random_range(0..value.len().max(1));
            value.get_mut(at).into_iter().for_each(|byte| *byte = rng.random());
        }
        plant(&9u64.to_be_bytes(), &value);
        let read: Vec<_> = store.audit_log(1).unwrap().collect();
        assert_eq!(read.len(), 32);
        let wrong = read.iter().filter(|entry| entry.is_err()).count();
        assert!(wrong == usize::from(read[8].is_err()));
        refused += wrong;
        let is_damage = matches!(&read[8], Err(Error::StoreCorrupted { .. }));
        assert!(wrong == 0 || !is_damage || store.verify().unwrap().faults.len() == 1);
    }
    assert!(refused > 100, "{refused}");
    plant(&9u64.to_be_bytes(), b"");
    assert!(matches!(store.trim_audit(SystemTime::now()), Err(Error::StoreCorrupted { .. })));
    plant(&9u64.to_be_bytes(), &whole);
    // Keys that are no numbers, and a setting that is none.
    plant(&[255; 9], &whole);
    assert_eq!(store.audit_log(1).unwrap().filter(Result::is_err).count(), 1);
    assert!(matches!(store.set_audit(true), Err(Error::StoreCorrupted { .. })));
    plant(&[0], b"no setting");
    assert!(matches!(store.is_audited(), Err(Error::StoreCorrupted { .. })));
    assert!(matches!(store.set_audit(true), Err(Error::StoreCorrupted { .. })));
}
