//! Laws of care: a backup holds a whole commit and answers as the store did; compaction loses
//! nothing and never runs beside others; damage is named, and mended.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss
)]

#[path = "care/compaction.rs"]
mod compaction;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use spinney::heed::types::{Bytes, Str};
use spinney::{
    AuditAction, BackupOptions, BuildOptions, Error, Index, IndexOptions, Metric, Reads, Result,
    Store, StoreOptions,
};
use support::raw::{LEAF, Raw};
use support::world::InStore;
use support::*;

const SMALL: usize = 12;

/// Every answer of an index: its items, and exact, usual and hasty searches, as bytes.
fn answers(store: &Store, index: &Index, queries: &[Vec<f32>]) -> Vec<String> {
    let asked = store.with_reader(index, |reader| {
        let mut answers: Vec<String> =
            reader.items()?.map(|item| Ok(format!("{:?}", item?))).collect::<Result<_>>()?;
        for query in queries {
            let searches = [
                reader.nns(10).exact(),
                reader.nns(10),
                reader.nns(100).search_k(1),
                reader.nns(9999),
            ];
            for search in searches {
                let hits = search.by_vector(query)?;
                answers.extend(hits.iter().map(|hit| format!("{hit:?}")));
            }
        }
        answers.push(format!("{:?} {}", reader.stats()?, reader.pending_len()));
        Ok::<_, Error>(answers)
    });
    asked.unwrap()
}

/// A store of two indexes, with pending items and a table of the host's.
fn furnished(path: &Path, options: &StoreOptions, rng: &mut Rng) -> (Store, [Index; 2]) {
    let store = options.open(path).unwrap();
    let indexes = [("a", Metric::Euclidean), ("b", Metric::Cosine)].map(|(name, metric)| {
        let index = store.index(name, &IndexOptions::new(SMALL, metric)).unwrap();
        store.set_build_after(name, None).unwrap();
        for (from, to) in [(0..3000, true), (2900..3100, false)] {
            let ids: Vec<u32> = from.collect();
            let rows: Vec<f32> =
                ids.iter().flat_map(|_| clustered_row(metric, SMALL, rng)).collect();
            store
                .write(|txn| {
                    index.add_items(txn, &ids, &rows)?;
                    if to {
                        index.build(txn, &BuildOptions::default())?;
                    }
                    Ok::<_, Error>(())
                })
                .unwrap();
        }
        index
    });
    let table = store.table::<Str, Bytes>("mine").unwrap();
    store.write(|txn| Ok::<_, Error>(table.put(txn.as_heed_mut(), "key", b"value")?)).unwrap();
    (store, indexes)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn a_backup_under_writes_is_one_commit() {
    let seed = Seed::new(2001);
    let dir = tempfile::tempdir().unwrap();
    let world = InStore::new(Store::open(dir.path().join("store")).unwrap());
    let is_over = AtomicBool::new(false);
    let mut backups: Vec<(PathBuf, u32, u32)> = Vec::new();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut rng = seed.rng(0);
            while !is_over.load(Ordering::SeqCst) {
                world.advance(&mut rng);
            }
        });
        let reading = scope.spawn(|| {
            let mut rng = seed.rng(1);
            while !is_over.load(Ordering::SeqCst) {
                world.check(&mut rng);
            }
        });
        for number in 0..8 {
            let path = dir.path().join(format!("{number}.spinney"));
            let before = world.version();
            let options = BackupOptions::default().compact(number % 2 == 0);
            let backup = world.store.backup_with(&path, &options).unwrap();
            assert_eq!(backup.bytes, path.metadata().unwrap().len());
            backups.push((path, before, world.version()));
            std::thread::sleep(Duration::from_millis(20));
        }
        is_over.store(true, Ordering::SeqCst);
        writing.join().unwrap();
        reading.join().unwrap();
    });
    let moved = world.version();
    drop(world);
    fs::remove_dir_all(dir.path().join("store")).unwrap();
    assert_eq!(names(dir.path()), (0..8).map(|i| format!("{i}.spinney")).collect::<Vec<_>>());
    let mut rng = seed.rng(2);
    for (backup, before, after) in &backups {
        let path = dir.path().join("again");
        let restored = Store::restore(backup, &path, &Store::options()).unwrap();
        let world = InStore::new(restored);
        let version = world.check(&mut rng);
        assert!((*before..=*after).contains(&version), "{version}, of {before} to {after}");
        // It goes on from there.
        assert_eq!(world.advance(&mut rng), version + 1);
        assert_eq!(world.check(&mut rng), version + 1);
        assert!(world.store.verify().unwrap().is_sound());
        drop(world);
        fs::remove_dir_all(&path).unwrap();
    }
    println!("{moved} versions, backups of {:?}", backups.iter().map(|b| b.1).collect::<Vec<_>>());
    assert!(moved > 3, "the writer went on");
}

#[test]
fn what_is_restored_answers_as_the_original_did() {
    let seed = Seed::new(2002);
    let mut rng = seed.rng(0);
    let queries: Vec<Vec<f32>> =
        (0..20).map(|_| clustered_row(Metric::Euclidean, SMALL, &mut rng)).collect();
    for (is_single, is_compacted) in [(false, false), (false, true), (true, false), (true, true)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let options = Store::options().single_file(is_single);
        let (store, indexes) = furnished(&path, &options, &mut rng);
        let before = indexes.each_ref().map(|index| answers(&store, index, &queries));
        let copy = dir.path().join("copy");
        let backup = store.backup_with(&copy, &BackupOptions::default().compact(is_compacted));
        assert_eq!(backup.unwrap().txn_id, store.stats().unwrap().last_commit);
        drop(store);
        if is_single {
            fs::remove_file(&path).unwrap();
            // Somebody may still have the lock file open.
            let refused = Store::restore(&copy, &path, &options);
            assert!(matches!(refused, Err(Error::AlreadyThere(_))), "{refused:?}");
            fs::remove_file(dir.path().join("store-lock")).unwrap();
        } else {
            fs::remove_dir_all(&path).unwrap();
        }
        // As it is, sealed.
        let sealed = Store::options().single_file(true).sealed(true).open(&copy).unwrap();
        for (index, before) in indexes.iter().zip(&before) {
            assert!(answers(&sealed, index, &queries) == *before);
        }
        // It is open here.
        let refused = Store::restore(&copy, &path, &options);
        assert!(matches!(refused, Err(Error::InUse(..))), "{refused:?}");
        drop(sealed);
        let store = Store::restore(&copy, &path, &options).unwrap();
        for (index, before) in indexes.iter().zip(&before) {
            assert!(answers(&store, index, &queries) == *before);
        }
        let table = store.table::<Str, Bytes>("mine").unwrap();
        let value =
            store.read(|txn| Ok::<_, Error>(table.get(txn.as_heed(), "key")?.map(Vec::from)));
        assert_eq!(value.unwrap().as_deref(), Some(&b"value"[..]));
        assert_eq!(store.indexes().unwrap(), ["a", "b"]);
        // A path where something is.
        let refused = Store::restore(&copy, &path, &options);
        assert!(matches!(refused, Err(Error::AlreadyThere(_))), "{refused:?}");
    }
}

#[test]
fn a_backup_is_not_written_over_by_its_own_restore() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Seed::new(2004).rng(0);
    let (store, _) = furnished(&dir.path().join("store"), &Store::options(), &mut rng);
    // The name that the copy has until it is whole.
    let backup = dir.path().join("copy.spinney-part");
    store.backup(&backup).unwrap();
    let before = fs::read(&backup).unwrap();
    let options = Store::options().single_file(true);
    let refused = Store::restore(&backup, dir.path().join("copy"), &options);
    assert!(matches!(refused, Err(Error::InUse(..))), "{refused:?}");
    assert!(fs::read(&backup).unwrap() == before);
}

#[test]
fn a_backup_replaces_nothing_unless_asked_and_never_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Seed::new(2003).rng(0);
    let (store, _) = furnished(&dir.path().join("store"), &Store::options(), &mut rng);
    let copy = dir.path().join("copy");
    fs::write(&copy, "mine").unwrap();
    assert!(matches!(store.backup(&copy), Err(Error::AlreadyThere(_))));
    assert_eq!(fs::read(&copy).unwrap(), b"mine");
    let overwriting = BackupOptions::default().overwrite(true);
    let bytes = store.backup_with(&copy, &overwriting).unwrap().bytes;
    assert_eq!(copy.metadata().unwrap().len(), bytes);
    for own in ["data.mdb", "lock.mdb"] {
        let refused = store.backup_with(store.path().join(own), &overwriting);
        assert!(matches!(refused, Err(Error::InUse(..))), "{refused:?}");
    }
    #[cfg(unix)]
    {
        let device = dir.path().join("device");
        std::os::unix::fs::symlink("/dev/null", &device).unwrap();
        let refused = store.backup_with(&device, &overwriting);
        assert!(matches!(refused, Err(Error::AlreadyThere(_))), "{refused:?}");
        fs::remove_file(device).unwrap();
    }
    let within = store.write(|_| store.backup(dir.path().join("within")));
    assert!(matches!(within, Err(Error::NotWithinWrite(_))));
    assert!(matches!(store.backup(dir.path().join("no/copy")), Err(Error::File { .. })));
    assert_eq!(names(dir.path()), ["copy", "store"]);
    assert_eq!(names(store.path()), ["data.mdb", "lock.mdb"]);
}

#[test]
fn copies_that_are_no_sound_stores_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Seed::new(2004).rng(0);
    let (store, _) = furnished(&dir.path().join("store"), &Store::options(), &mut rng);
    let (copy, path) = (dir.path().join("copy"), dir.path().join("again"));
    let overwriting = BackupOptions::default().overwrite(true);
    let restored = || Store::restore(&copy, &path, &Store::options());
    assert!(matches!(restored(), Err(Error::StoreNotFound(_))));
    store.backup(&copy).unwrap();
    let whole = fs::read(&copy).unwrap();
    fs::write(&copy, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(restored(), Err(Error::Truncated { .. })));
    fs::write(&copy, "no store at all").unwrap();
    assert!(matches!(restored(), Err(Error::Heed(_))));
    // An environment of somebody else's.
    let env = open_env(dir.path(), 1 << 20);
    env.prepare_for_closing().wait();
    fs::rename(dir.path().join("data.mdb"), &copy).unwrap();
    assert!(matches!(restored(), Err(Error::StoreNotFound(_))));
    damage_a_leaf(&store);
    store.backup_with(&copy, &overwriting).unwrap();
    let refused = restored();
    assert!(matches!(refused, Err(Error::DamagedCopy(..))), "{refused:?}");
    // Nothing is left of it, so that another can be restored.
    assert!(names(&path).is_empty());
    store
        .repair("a", &IndexOptions::new(SMALL, Metric::Euclidean), &BuildOptions::default())
        .unwrap();
    store.backup_with(&copy, &overwriting).unwrap();
    // Nor does it matter what a killed one left.
    fs::write(path.join("data.mdb.spinney-part"), "half").unwrap();
    assert!(restored().unwrap().verify().unwrap().is_sound());
}

/// In the index of number 0. Returns its key.
fn damage_a_leaf(store: &Store) -> [u8; 8] {
    let raw = Raw::open(store.env());
    let all = store.read(|txn| Ok::<_, Error>(raw.all(txn.as_heed()))).unwrap();
    let (key, mut value) =
        all.into_iter().find(|(key, _)| key[..2] == [0, 0] && key[2] == LEAF).unwrap();
    let middle = value.len() / 2;
    value[middle] ^= 0xff;
    let damaged = store.write(|txn| {
        raw.put(txn.as_heed_mut(), key, &value);
        Ok::<_, Error>(())
    });
    damaged.unwrap();
    key
}

#[test]
fn damage_is_named_and_mended() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Seed::new(2005).rng(0);
    let (store, indexes) = furnished(dir.path(), &Store::options(), &mut rng);
    let queries = [clustered_row(Metric::Euclidean, SMALL, &mut rng)];
    let b = answers(&store, &indexes[1], &queries);
    let sound = store.verify().unwrap();
    assert!(sound.is_sound(), "{sound:?}");
    let named: Vec<_> = sound
        .indexes
        .iter()
        .map(|index| (index.number, index.name.as_deref(), index.found.items))
        .collect();
    assert_eq!(named, [(0, Some("a"), 3100), (1, Some("b"), 3100)]);
    let key = damage_a_leaf(&store);
    let found = store.verify().unwrap();
    assert!(!found.is_sound() && found.faults.is_empty());
    assert!(found.indexes[0].found.violations.iter().any(|violation| violation.key == key));
    assert!(found.indexes[1].found.is_sound());
    let options = IndexOptions::new(SMALL, Metric::Euclidean);
    let repair = |name: &str| store.repair(name, &options, &BuildOptions::default());
    assert!(matches!(repair("c"), Err(Error::NameNotFound(_))));
    assert!(matches!(repair("b"), Err(Error::MetricMismatch { .. })));
    store.set_audit(true).unwrap();
    // The log tells of a repair by which nothing was lost, and of none that did nothing.
    for _ in 0..2 {
        let is_sound = store.verify().unwrap().is_sound();
        assert_eq!(repair("a").unwrap().violations_found == 0, is_sound);
        let log: Vec<_> = store.audit_log(1).unwrap().map(Result::unwrap).collect();
        let [_, repaired] = &log[..] else { panic!("{log:?}") };
        let change = &repaired.changes[0];
        assert_eq!((change.action, &*change.name, change.count), (AuditAction::Repair, "a", 0));
    }
    assert!(store.verify().unwrap().is_sound());
    // A record that is gone, an index without a name, two names for one, and no name at all.
    let raw = Raw::open(store.env());
    let catalog = store.write(|txn| {
        let wtxn = txn.as_heed_mut();
        raw.0.delete(wtxn, &[0; 8])?;
        Ok::<_, Error>(())
    });
    catalog.unwrap();
    let found = store.verify().unwrap();
    assert_eq!(found.indexes[0].name.as_deref(), Some("a"));
    assert_eq!(found.indexes[0].found.violations.len(), 1);
    assert!(repair("a").unwrap().lost.is_empty());
    let table = spinney_catalog(&store);
    let entry = store
        .read(|txn| Ok::<_, Error>(table.get(txn.as_heed(), b"b")?.map(Vec::from).unwrap()))
        .unwrap();
    let put = |key: &[u8], value: &[u8]| {
        store.write(|txn| Ok::<_, Error>(table.put(txn.as_heed_mut(), key, value)?)).unwrap();
    };
    put(b"again", &entry);
    put(b"bad", b"");
    put(b"\xff", &entry);
    let found = store.verify().unwrap();
    assert_eq!(found.faults.len(), 3, "{found:?}");
    assert!(found.indexes.iter().all(|index| index.found.is_sound()));
    assert!(answers(&store, &indexes[1], &queries) == b);
    let warmed = store.warm(u64::MAX).unwrap();
    let some = store.warm(warmed.item_bytes / 2 + 100).unwrap();
    assert_eq!((some.branch_bytes, some.leaf_bytes), (warmed.branch_bytes, warmed.leaf_bytes));
    assert!(warmed.leaf_bytes > 0 && some.item_bytes > 0 && some.item_bytes < warmed.item_bytes);
}

fn spinney_catalog(store: &Store) -> spinney::heed::Database<'static, Bytes, Bytes> {
    let env = store.env();
    let opened = env.open_databases_and_commit(env.read_txn().unwrap(), |opener, rtxn| {
        let table = opener.open_database(rtxn, Some("spinney catalog"))?.unwrap();
        Ok::<_, Error>(spinney::heed::CommitOrAbort::<_, ()>::Commit(table))
    });
    opened.unwrap().unwrap_commit()
}

/// Each form of the copy, on a disk too small for it.
#[test]
fn a_backup_for_which_there_is_no_room_leaves_nothing() {
    let test = "a_backup_for_which_there_is_no_room_leaves_nothing";
    if let Some(dir) = process::given_folder() {
        let store = Store::open(dir.join("store")).unwrap();
        for is_compacted in [false, true] {
            let options = BackupOptions::default().compact(is_compacted);
            let refused = store.backup_with(dir.join("copy"), &options);
            assert!(matches!(refused, Err(Error::DiskFull(_))), "{refused:?}");
            assert_eq!(names(&dir), ["store"]);
        }
        drop(store);
        let refused = Store::open(dir.join("store")).unwrap().compact();
        assert!(matches!(refused, Err(Error::DiskFull(_))), "{refused:?}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Seed::new(2006).rng(0);
    let (store, indexes) = furnished(&dir.path().join("store"), &Store::options(), &mut rng);
    let queries = [clustered_row(Metric::Euclidean, SMALL, &mut rng)];
    let before = answers(&store, &indexes[0], &queries);
    drop(store);
    process::run(process::limited(
        "trap '' XFSZ; ulimit -f 300",
        &process::command(test, dir.path()),
    ));
    assert_eq!(names(&dir.path().join("store")), ["data.mdb", "lock.mdb"]);
    let store = Store::open(dir.path().join("store")).unwrap();
    assert!(answers(&store, &indexes[0], &queries) == before);
}
