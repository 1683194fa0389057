//! A store opens, grows, names and ends what LMDB leaves to its user.

#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use spinney::heed::types::{Str, U32};
use spinney::heed::{self, byteorder::BigEndian};
use spinney::{Error, Index, IndexOptions, Metric, Reads, Result, Store, StoreSnapshot};

fn options() -> IndexOptions {
    IndexOptions::new(8, Metric::Euclidean)
}

fn vector(seed: u32) -> Vec<f32> {
    (0..8).map(|i| f32::from(u16::try_from(seed * 31 % 977 + i * seed % 13).unwrap())).collect()
}

fn add(store: &Store, index: &Index, ids: std::ops::Range<u32>) -> Result<()> {
    store.write(|txn| ids.clone().try_for_each(|id| index.add_item(txn, id, &vector(id))))
}

#[test]
fn indexes_have_names() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("new/store")).unwrap();
    let a = store.index("a", &options()).unwrap();
    let b = store.index("b", &options()).unwrap();
    assert_ne!(a.number(), b.number());
    assert_eq!(store.index("a", &options()).unwrap(), a);
    assert_eq!(store.open_index("b").unwrap(), Some(b.clone()));
    assert_eq!(store.open_index("c").unwrap(), None);
    assert_eq!(store.indexes().unwrap(), ["a", "b"]);
    let other = IndexOptions::new(9, Metric::Euclidean);
    assert!(matches!(store.index("a", &other), Err(Error::DimensionsMismatch { .. })));
    add(&store, &b, 0..3).unwrap();
    assert!(matches!(store.rename("b", "a"), Err(Error::NameTaken(_))));
    assert!(matches!(store.rename("x", "y"), Err(Error::NameNotFound(_))));
    store.rename("b", "c").unwrap();
    assert_eq!(store.indexes().unwrap(), ["a", "c"]);
    add(&store, &b, 3..4).unwrap();
    let len = |index: &Index| store.with_reader(index, |reader| Ok::<_, Error>(reader.len()));
    assert_eq!(len(&b).unwrap(), 4);
    assert!(store.delete_index("c").unwrap() && !store.delete_index("c").unwrap());
    assert!(matches!(len(&b), Err(Error::IndexNotFound { .. })));
    assert!(matches!(add(&store, &b, 0..1), Err(Error::IndexNotFound { .. })));
    // A handle on what was deleted does not lead to what came after it.
    let c = store.index("c", &options()).unwrap();
    assert_ne!(c.number(), b.number());
    for name in ["", "a\0", &"x".repeat(256)] {
        assert!(matches!(store.index(name, &options()), Err(Error::InvalidOption { .. })));
    }
}

#[test]
fn one_file_is_one_store_under_any_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = Store::open(&path).unwrap();
    let a = store.index("a", &options()).unwrap();
    let again = Store::open(dir.path().join("store/../store")).unwrap();
    add(&again, &a, 0..3).unwrap();
    #[cfg(unix)]
    {
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let hard = dir.path().join("hard");
        std::fs::create_dir(&hard).unwrap();
        std::fs::hard_link(path.join("data.mdb"), hard.join("data.mdb")).unwrap();
        for path in [link, hard] {
            let same = Store::open(&path).unwrap();
            // Within one store, a write in a write is known.
            let nested = store.write(|_| same.write(|_| Ok::<_, Error>(())));
            assert!(matches!(nested, Err(Error::NestedWrite)));
        }
    }
    let other = Store::options().read_only(true).open(&path);
    assert!(matches!(other, Err(Error::OpenOtherwise("read_only"))));
    drop((store, again));
    let read_only = Store::options().read_only(true).open(&path).unwrap();
    assert!(matches!(add(&read_only, &a, 5..6), Err(Error::ReadOnly)));
    assert_eq!(read_only.with_reader(&a, |reader| Ok::<_, Error>(reader.len())).unwrap(), 3);
    drop(read_only);
    // A host that has the environment open is no store.
    // SAFETY: the folder is ours alone.
    let env = unsafe { heed::EnvOpenOptions::new().max_dbs(3).open(&path) }.unwrap();
    let refused = std::thread::scope(|scope| scope.spawn(|| Store::open(&path)).join().unwrap());
    assert!(matches!(refused, Err(Error::OpenElsewhere(_))));
    drop(env);
    assert_eq!(Store::open(&path).unwrap().indexes().unwrap(), ["a"]);
}

#[test]
fn the_map_grows_and_the_write_runs_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::options().map_size(1 << 20).map_limit(64 << 20).open(dir.path()).unwrap();
    let index = store.index("a", &options()).unwrap();
    store.set_build_after("a", None).unwrap();
    let runs = AtomicUsize::new(0);
    store
        .write(|txn| {
            runs.fetch_add(1, Ordering::SeqCst);
            (0..20_000).try_for_each(|id| index.add_item(txn, id, &vector(id)))
        })
        .unwrap();
    assert!(runs.load(Ordering::SeqCst) > 1);
    // The host's own writes fill it, too.
    let table = store.table::<U32<BigEndian>, Str>("mine").unwrap();
    let text = "x".repeat(3000);
    store
        .write(|txn| {
            (0..5000).try_for_each(|key| table.put(txn.as_heed_mut(), &key, &text))?;
            Ok::<_, Error>(())
        })
        .unwrap();
    assert_eq!(store.read(|txn| Ok::<_, Error>(table.len(txn.as_heed())?)).unwrap(), 5000);
    let len = |store: &Store| store.with_reader(&index, |reader| Ok::<_, Error>(reader.len()));
    assert_eq!(len(&store).unwrap(), 20_000);
    // At the limit it is full, and nothing is lost.
    let full = store.write(|txn| {
        (0..50_000).try_for_each(|key| table.put(txn.as_heed_mut(), &key, &text))?;
        Ok::<_, Error>(())
    });
    assert!(matches!(full, Err(Error::MapFull)), "{full:?}");
    assert_eq!(len(&store).unwrap(), 20_000);
    // An error of the caller's own is no full map.
    let mut runs = 0;
    let refused = store.write(|txn| {
        runs += 1;
        index.add_item(txn, 1, &[f32::NAN; 8])
    });
    assert!(matches!(refused, Err(Error::NonFinite { .. })));
    assert_eq!(runs, 1);
}

#[test]
fn the_map_does_not_move_under_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Store::options().map_size(1 << 20).map_limit(64 << 20);
    options = options.patience(Duration::from_millis(50));
    let store = options.open(dir.path()).unwrap();
    let index = store.index("a", &self::options()).unwrap();
    add(&store, &index, 0..10).unwrap();
    let snapshot = store.snapshot().unwrap();
    let grown = add(&store, &index, 0..20_000);
    assert!(matches!(grown, Err(Error::MapInUse { transactions: 1 })), "{grown:?}");
    let len = snapshot.with_reader(&index, |reader| Ok::<_, Error>(reader.len())).unwrap();
    assert_eq!(len, 10);
    drop(snapshot);
    add(&store, &index, 0..20_000).unwrap();
}

#[test]
fn a_write_within_a_write_is_refused_and_others_wait() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let index = store.index("a", &options()).unwrap();
    store
        .write(|txn| {
            index.add_item(txn, 1, &vector(1))?;
            assert!(matches!(add(&store, &index, 0..3), Err(Error::NestedWrite)));
            assert!(matches!(store.index("new", &options()), Err(Error::NestedWrite)));
            assert!(matches!(store.table::<Str, Str>("t"), Err(Error::NotWithinWrite(_))));
            let waiting = std::thread::scope(|scope| {
                let write =
                    || store.write_within(Duration::from_millis(20), |_| Ok::<_, Error>(()));
                scope.spawn(write).join().unwrap()
            });
            assert!(matches!(waiting, Err(Error::Busy { .. })));
            // What is committed can be read meanwhile.
            assert_eq!(store.with_reader(&index, |reader| Ok::<_, Error>(reader.len()))?, 0);
            assert_eq!(txn.with_reader(&index, |reader| Ok::<_, Error>(reader.len()))?, 1);
            Ok::<_, Error>(())
        })
        .unwrap();
    // A panic gives the turn back and changes nothing.
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.write(|txn| {
            index.add_item(txn, 2, &vector(2)).unwrap();
            if true {
                panic!("of the caller");
            }
            Ok::<_, Error>(())
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(store.with_reader(&index, |reader| Ok::<_, Error>(reader.len())).unwrap(), 1);
    add(&store, &index, 5..6).unwrap();
}

#[test]
fn many_pending_items_are_built_by_the_write() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let index = store.index("a", &options()).unwrap();
    let pending =
        || store.with_reader(&index, |reader| Ok::<_, Error>(reader.pending_len())).unwrap();
    add(&store, &index, 0..200).unwrap();
    assert_eq!(pending(), 200);
    add(&store, &index, 200..201).unwrap();
    assert_eq!(pending(), 0);
    store.set_build_after("a", Some(10)).unwrap();
    add(&store, &index, 0..11).unwrap();
    assert_eq!(pending(), 0);
    store.set_build_after("a", None).unwrap();
    add(&store, &index, 0..5000).unwrap();
    assert_eq!(pending(), 5000);
}

#[test]
fn snapshots_outlive_commits_and_move_between_threads() {
    fn is_shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    let dir = tempfile::tempdir().unwrap();
    let store = Store::options().search_threads(3).open(dir.path()).unwrap();
    is_shared(&store);
    let index = store.index("a", &options()).unwrap();
    add(&store, &index, 0..2000).unwrap();
    let old = store.snapshot().unwrap();
    is_shared(&old);
    assert_eq!(old.txn_id(), store.snapshot().unwrap().txn_id());
    let answers = |snapshot: &StoreSnapshot| {
        snapshot.each(&index, 50, |reader, i| {
            reader.nns(5).by_vector(&vector(u32::try_from(i).unwrap() * 7))
        })
    };
    let before = answers(&old).unwrap();
    store.write(|txn| index.clear(txn)).unwrap();
    let new = store.snapshot().unwrap();
    assert!(new.txn_id() > old.txn_id());
    let (old, index) = (Arc::new(old), Arc::new(index.clone()));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (old, index) = (old.clone(), index.clone());
            std::thread::spawn(move || {
                (0..50u32)
                    .map(|i| old.with_reader(&index, |r| r.nns(5).by_vector(&vector(i * 7))))
                    .collect::<Result<Vec<_>>>()
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap().unwrap(), before);
    }
    assert!(new.with_reader(&index, |reader| Ok::<_, Error>(reader.is_empty())).unwrap());
    drop((store, new));
    // It keeps the store open.
    assert_eq!(old.with_reader(&index, |reader| Ok::<_, Error>(reader.len())).unwrap(), 2000);
}

#[test]
fn what_is_idle_is_let_go_after_a_newer_commit() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let index = store.index("a", &options()).unwrap();
    let len = || store.with_reader(&index, |reader| Ok::<_, Error>(reader.len())).unwrap();
    assert_eq!(len(), 0);
    add(&store, &index, 0..10).unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(60);
    // The reader that was kept took a slot of LMDB's table.
    while store.stats().unwrap().oldest_reader.is_some() {
        assert!(std::time::Instant::now() < end, "an idle reader was kept");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(len(), 10);
}

#[test]
fn damaged_and_missing_files_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    assert!(matches!(Store::options().create(false).open(&path), Err(Error::StoreNotFound(_))));
    assert!(!path.exists());
    let store = Store::open(&path).unwrap();
    let index = store.index("a", &options()).unwrap();
    add(&store, &index, 0..3000).unwrap();
    drop(store);
    let data = path.join("data.mdb");
    let whole = std::fs::read(&data).unwrap();
    for percent in 0..100 {
        std::fs::write(&data, &whole[..whole.len() * percent / 100]).unwrap();
        match Store::open(&path) {
            Err(Error::Truncated { .. } | Error::Heed(_)) => {}
            other => panic!("{percent} %: {other:?}"),
        }
    }
    std::fs::write(&data, &whole).unwrap();
    let store = Store::open(&path).unwrap();
    assert_eq!(store.with_reader(&index, |reader| Ok::<_, Error>(reader.len())).unwrap(), 3000);
}

#[test]
fn files_may_be_single_sealed_and_unsynced() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("one.spinney");
    let options = Store::options().single_file(true).durability(spinney::Durability::None);
    let store = options.open(&file).unwrap();
    let index = store.index("a", &self::options()).unwrap();
    add(&store, &index, 0..20).unwrap();
    drop(store);
    std::fs::remove_file(dir.path().join("one.spinney-lock")).unwrap();
    let sealed = Store::options().single_file(true).sealed(true).open(&file).unwrap();
    assert_eq!(sealed.with_reader(&index, |reader| Ok::<_, Error>(reader.len())).unwrap(), 20);
    assert!(!dir.path().join("one.spinney-lock").exists());
}
