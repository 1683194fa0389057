//! Laws of a store that is used in odd ways: waits without end, moving maps, names that collide,
//! many threads at once.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use spinney::*;

fn one() -> IndexOptions {
    IndexOptions::new(1, Metric::Euclidean)
}

/// A small map that grows, and an index in it that is never built.
fn growing(dir: &std::path::Path, patience: Duration) -> (Store, Index) {
    let options = Store::options().map_size(1 << 18).map_limit(1 << 30).patience(patience);
    let store = options.durability(Durability::None).open(dir).unwrap();
    let index = store.index("a", &IndexOptions::new(256, Metric::Euclidean)).unwrap();
    store.set_build_after("a", None).unwrap();
    (store, index)
}

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn patience_may_be_without_end() {
    let dir = temp();
    let store = Store::options().patience(Duration::MAX).open(dir.path().join("a")).unwrap();
    let index = store.index("a", &one()).unwrap();
    store.write_within(Duration::MAX, |txn| index.add_item(txn, 1, &[1.0])).unwrap();
    let hits = store.with_reader(&index, |r| r.nns(1).by_vector(&[1.0])).unwrap();
    assert_eq!(hits[0].id, 1);
    store.compact().unwrap();
}

#[test]
fn the_map_grows_while_others_take_snapshots() {
    let mut failures = Vec::new();
    for round in 0..25 {
        let dir = temp();
        let (store, index) = growing(dir.path(), Duration::from_secs(5));
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    while !over.load(Ordering::SeqCst) {
                        let snapshot = store.snapshot().unwrap();
                        snapshot.with_reader(&index, |r| Ok::<_, Error>(r.len())).unwrap();
                    }
                });
            }
            for i in 0..3000u32 {
                let begin = Instant::now();
                let done = store.write(|t| {
                    (0..10).try_for_each(|j| index.add_item(t, i * 10 + j, &[1.0; 256]))
                });
                if let Err(error) = done {
                    failures.push(format!("{round}/{i}: {error} after {:?}", begin.elapsed()));
                    break;
                }
            }
            over.store(true, Ordering::SeqCst);
        });
        if failures.len() > 1 {
            break;
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
}

#[test]
fn the_map_grows_while_others_search_one_snapshot() {
    for _ in 0..400 {
        let dir = temp();
        let (store, index) = growing(dir.path(), Duration::from_secs(5));
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while !over.load(Ordering::SeqCst) {
                        // Whoever comes while this lasts needs a transaction of his own.
                        let snapshot = store.snapshot().unwrap();
                        let read = snapshot.with_reader(&index, |reader| {
                            std::thread::sleep(Duration::from_micros(20));
                            Ok::<_, Error>(reader.len())
                        });
                        read.unwrap();
                    }
                });
            }
            let written = (0..60u32).try_for_each(|i| {
                store
                    .write(|t| (0..50).try_for_each(|j| index.add_item(t, i * 50 + j, &[1.0; 256])))
            });
            over.store(true, Ordering::SeqCst);
            written.unwrap();
        });
    }
}

#[test]
fn a_function_in_a_scope_sees_no_foreign_key() {
    let dir = temp();
    let store = Store::open(dir.path()).unwrap();
    let docs = store.collection("a", &one()).unwrap();
    let (ann, bob) = (docs.scoped("ann").unwrap(), docs.scoped("bob").unwrap());
    store
        .write(|t| {
            for i in 0..3000u32 {
                let rows = if i % 10 == 0 { vec![i as f32, 0.5] } else { vec![i as f32] };
                ann.put(
                    t,
                    format!("ann{i}"),
                    &Document::with_vectors(rows.clone()).labels(["secret"]),
                )?;
                bob.put(t, format!("bob{i}"), &Document::with_vectors(rows))?;
            }
            Ok::<_, Error>(())
        })
        .unwrap();
    let seen = RefCell::new(Vec::new());
    for k in [1, 10, 5000, usize::MAX] {
        let hits = bob
            .search(&store, k)
            .filter_fn(|key| {
                if key.as_str().unwrap().starts_with("ann") {
                    seen.borrow_mut().push(key.clone())
                };
                true
            })
            .by_vector(&[7.0])
            .unwrap();
        assert_eq!(hits.len(), k.min(3000));
        let hits = bob.search(&store, k).by_key("bob10").unwrap().unwrap();
        assert_eq!(hits.len(), k.min(2999));
        assert!(
            hits.iter().all(|h| h.key.as_str().unwrap().starts_with("bob") && h.key != "bob10")
        );
        let hits = docs.search(&store, k).by_key("bob10").unwrap().unwrap();
        assert_eq!(hits.len(), k.min(5999));
    }
    assert!(seen.borrow().is_empty(), "{} foreign keys seen", seen.borrow().len());
    assert_eq!(bob.labels(&store).unwrap(), [("bob".to_owned(), 3000)]);
    assert!(bob.search(&store, 3).by_any(&["ann1".into()]).is_err());
    assert!(bob.search(&store, 3).by_key("ann1").unwrap().is_none());
    assert_eq!(bob.documents_with_prefix(&store, b"ann").count(), 0);
    assert_eq!(bob.count(&store, Labels::not("secret")).unwrap(), 3000);
    assert_eq!(bob.vectors(&store, "ann1").unwrap(), None);
    assert_eq!(store.write(|t| bob.delete_where(t, Labels::not("secret"))).unwrap(), 3000);
    assert_eq!(ann.len(&store).unwrap(), 3000);
    assert!(store.verify().unwrap().is_sound());
}

#[test]
fn a_backup_spares_a_store_of_the_name_of_its_part() {
    let dir = temp();
    let at = dir.path().join("x.spinney-part");
    let store = Store::options().single_file(true).open(&at).unwrap();
    let index = store.index("a", &one()).unwrap();
    store.write(|t| index.add_item(t, 1, &[1.0])).unwrap();
    let before = at.metadata().unwrap().len();
    let done = store.backup(dir.path().join("x"));
    println!("{done:?} {before}");
    assert!(at.exists() && at.metadata().unwrap().len() == before, "the store was destroyed");
}

#[test]
fn many_threads_open_and_close_one_store() {
    let dir = temp();
    let path = dir.path().join("s");
    let link = dir.path().join("l");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    drop(Store::open(&path).unwrap());
    std::thread::scope(|scope| {
        for n in 0..8u32 {
            let (path, link) = (&path, &link);
            scope.spawn(move || {
                for i in 0..60 {
                    let store = Store::open(if (n + i) % 2 == 0 { path } else { link }).unwrap();
                    let docs = store.collection("c", &one()).unwrap();
                    store
                        .write(|t| docs.put(t, u64::from(n * 1000 + i), &Document::new([1.0])))
                        .unwrap();
                    let snapshot = store.snapshot().unwrap();
                    drop(store);
                    docs.search(&snapshot, 1).by_vector(&[1.0]).unwrap();
                }
            });
        }
    });
    let store = Store::open(&path).unwrap();
    assert_eq!(store.collection("c", &one()).unwrap().len(&store).unwrap(), 480);
}

#[test]
fn of_equal_keys_in_one_call_the_last_counts() {
    let dir = temp();
    let store = Store::open(dir.path()).unwrap();
    let docs = store.collection("c", &one()).unwrap();
    for len in 505..=511usize {
        let key = "k".repeat(len);
        let puts = [
            (key.clone(), Document::new([1.0]).labels(["a"])),
            (key.clone(), Document::with_vectors([1.0, 2.0, 3.0]).labels(["b"])),
            ("k".repeat(len.max(509) - 1), Document::new([4.0])),
            (key.clone(), Document::with_vectors([5.0, 6.0]).labels(["a", "c"]).payload("last")),
        ];
        store.write(|t| docs.put_many(t, puts.iter().map(|(k, d)| (k.clone(), d)))).unwrap();
        let got = docs.get(&store, &key).unwrap().unwrap();
        assert_eq!((got.labels.len(), got.vectors, &*got.payload), (2, 2, &b"last"[..]));
    }
    assert_eq!(docs.count(&store, "b").unwrap(), 0);
    let found = store.verify().unwrap();
    assert!(found.is_sound(), "{:?}", found.faults);
    assert!(matches!(docs.get(&store, "k".repeat(512)), Err(Error::InvalidOption { .. })));
    let keys: Vec<_> = docs.keys(&store).collect::<Result<_>>().unwrap();
    assert!(keys.is_sorted() && keys.len() as u64 == docs.len(&store).unwrap());
    assert_eq!(docs.documents_with_prefix(&store, "k".repeat(510).as_bytes()).count(), 2);
}

#[test]
fn closures_run_again_for_a_full_map_alone() {
    let dir = temp();
    let store = Store::options().map_size(1 << 19).open(dir.path()).unwrap();
    let index = store.index("a", &IndexOptions::new(1000, Metric::Euclidean)).unwrap();
    let mut runs = 0;
    let refused = store.write(|t| {
        runs += 1;
        let _ = index.add_item(t, 1, &[1.0]);
        Err::<(), Error>(Error::ReadOnly)
    });
    assert!(refused.is_err() && runs == 1);
    // Swallowed errors of a full map.
    runs = 0;
    store
        .write(|t| {
            runs += 1;
            for i in 0..1000 {
                let _ = index.add_item(t, i, &[1.0; 1000]);
            }
            Ok::<_, Error>(())
        })
        .unwrap();
    assert!(runs > 1);
    assert_eq!(store.with_reader(&index, |r| Ok::<_, Error>(r.len())).unwrap(), 1000);
    // A panic gives the turn back.
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.write(|t| {
            index.add_item(t, 5000, &[1.0; 1000])?;
            if t.as_heed().id() > 0 {
                panic!("as planned")
            }
            Ok::<_, Error>(())
        })
    }));
    assert!(panicked.is_err());
    store.write(|t| index.add_item(t, 1, &[1.0; 1000])).unwrap();
    assert_eq!(store.with_reader(&index, |r| Ok::<_, Error>(r.len())).unwrap(), 1000);
}

#[test]
fn the_map_moves_while_others_ask_for_the_newest_commit() {
    for _ in 0..20 {
        let dir = temp();
        let (store, index) = growing(dir.path(), Duration::from_millis(100));
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !over.load(Ordering::SeqCst) {
                        drop(store.snapshot());
                    }
                });
            }
            for i in 0..1000u32 {
                let work = |t: &mut WriteTxn<'_>| {
                    (0..20).try_for_each(|j| index.add_item(t, i * 20 + j, &[1.0; 256]))
                };
                for _ in 0..20 {
                    if !matches!(store.write(work), Err(Error::MapInUse { .. })) {
                        break;
                    }
                }
            }
            over.store(true, Ordering::SeqCst);
        });
    }
}

#[test]
fn a_handle_is_of_its_own_store() {
    let (a, b) = (temp(), temp());
    let (a, b) = (Store::open(a.path()).unwrap(), Store::open(b.path()).unwrap());
    let index = a.index("i", &one()).unwrap();
    // What has the same number there is a collection.
    let docs = b.collection("c", &one()).unwrap();
    b.write(|txn| docs.put(txn, "k", &Document::new([1.0]))).unwrap();
    let written = b.write(|txn| index.add_item(txn, 0, &[5.0]));
    assert!(matches!(written, Err(Error::OtherEnvironment)));
    let len = |source: &Store| source.with_reader(&index, |reader| Ok::<_, Error>(reader.len()));
    assert!(matches!(len(&b), Err(Error::OtherEnvironment)));
    let read = b.read(|txn| txn.reader(&index).map(|reader| reader.len()));
    assert!(matches!(read, Err(Error::OtherEnvironment)));
    assert!(b.verify().unwrap().is_sound());
    a.write(|txn| index.add_item(txn, 0, &[5.0])).unwrap();
    assert_eq!(len(&a).unwrap(), 1);
}

/// A build waits for tasks of the pool, which may be writes that wait for it.
#[test]
fn writes_in_tasks_of_a_pool_come_to_an_end() {
    let dir = temp();
    let options = Store::options().durability(Durability::None);
    let store = options.patience(Duration::from_millis(50)).open(dir.path()).unwrap();
    let index = store.index("a", &IndexOptions::new(16, Metric::Euclidean)).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    let (done, store_of, index_of) = (&AtomicUsize::new(0), &store, &index);
    pool.in_place_scope(|scope| {
        for i in 0..200u32 {
            scope.spawn(move |_| {
                let ids: Vec<u32> = (i * 50..i * 50 + 300).collect();
                let rows: Vec<f32> =
                    (0..300 * 16).map(|j| ((i * 977 + j * 31) % 1009) as f32).collect();
                match store_of.write(|txn| index_of.add_items(txn, &ids, &rows)) {
                    Ok(()) => drop(done.fetch_add(1, Ordering::SeqCst)),
                    Err(Error::NestedWrite | Error::Busy { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            });
            // While a build waits, and not before it.
            std::thread::sleep(Duration::from_millis(15));
        }
    });
    assert!(done.load(Ordering::SeqCst) > 0);
    store.write(|txn| index.add_item(txn, 1, &[0.0; 16])).unwrap();
    assert!(store.verify().unwrap().is_sound());
}
