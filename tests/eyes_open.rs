//! Faults that fresh eyes found and that are open.
#![allow(unused_imports)]
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use spinney::*;

fn one() -> IndexOptions {
    IndexOptions::new(1, Metric::Euclidean)
}

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
#[ignore = "an open fault"]
fn a08_a_foreign_index_handle() {
    let (a, b) = (temp(), temp());
    let (a, b) = (Store::open(a.path()).unwrap(), Store::open(b.path()).unwrap());
    let index = a.index("i", &one()).unwrap();
    let docs = b.collection("c", &one()).unwrap();
    b.write(|t| docs.put(t, "k", &Document::new([1.0]))).unwrap();
    let done = b.write(|t| index.add_item(t, 0, &[5.0]));
    println!("foreign add: {done:?}");
    let done = b.write(|t| index.add_item(t, 9, &[5.0]));
    println!("foreign add: {done:?}");
    let search = docs.search(&b, 5).by_vector(&[5.0]);
    println!("search {search:?}, verify {:?}", b.verify().unwrap().faults);
    assert!(done.is_err());
}

#[test]
#[ignore = "an open fault"]
fn a09_backup_when_the_log_has_no_room() {
    let dir = temp();
    let store = Store::options()
        .map_size(1 << 19)
        .map_limit(1 << 19)
        .durability(Durability::None)
        .open(dir.path().join("s"))
        .unwrap();
    let index = store.index("a", &IndexOptions::new(1000, Metric::Euclidean)).unwrap();
    store.set_audit(true).unwrap();
    let mut i = 0;
    while store.write(|t| index.add_item(t, i, &[1.0; 1000])).is_ok() {
        i += 1;
    }
    while store.write(|t| Ok::<_, Error>(t.note(AuditAction::Export, "x", b"y"))).is_ok() {}
    let copy = dir.path().join("copy");
    let done = store.backup(&copy);
    println!("{done:?}, there: {}", copy.exists());
    assert!(done.is_ok() || !copy.exists(), "failed, and left a file: {done:?}");
}

#[test]
#[ignore = "an open fault"]
fn a16_reads_within_reads_while_the_map_grows() {
    let dir = temp();
    let store = Store::options().map_size(1 << 19).search_threads(1).open(dir.path()).unwrap();
    let index = store.index("a", &IndexOptions::new(1000, Metric::Euclidean)).unwrap();
    let begin = Instant::now();
    let nested = store.with_reader(&index, |_| store.with_reader(&index, |_| Ok::<_, Error>(())));
    println!("nested: {nested:?} after {:?}", begin.elapsed());
    let begin = Instant::now();
    let (wrote, read) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            store.read(|_| {
                std::thread::sleep(Duration::from_millis(700));
                store.read(|_| Ok::<_, Error>(()))
            })
        });
        std::thread::sleep(Duration::from_millis(200));
        let wrote = store
            .write(|t| (0..1000).try_for_each(|i| index.add_item(t, i, &[1.0; 1000])));
        (wrote, reader.join().unwrap())
    });
    println!("{wrote:?} {read:?} after {:?}", begin.elapsed());
    assert!(wrote.is_ok());
}

#[test]
#[ignore = "an open fault"]
fn a17_writes_spawned_on_the_pool() {
    let dir = temp();
    let store = Store::options().durability(Durability::None).open(dir.path()).unwrap();
    let index = store.index("a", &IndexOptions::new(16, Metric::Euclidean)).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    let (done, errors) = (AtomicUsize::new(0), std::sync::Mutex::new(Vec::new()));
    let (done, errors, store, index) = (&done, &errors, &store, &index);
    let count = 300;
    std::thread::spawn(move || std::thread::sleep(Duration::from_secs(60)));
    pool.in_place_scope(|scope| {
        for i in 0..count {
            scope.spawn(move |_| {
                let ids: Vec<u32> = (i * 50..i * 50 + 300).collect();
                let rows: Vec<f32> =
                    (0..300 * 16).map(|j| ((i * 977 + j * 31) % 1009) as f32).collect();
                if let Err(error) = store.write(|t| index.add_items(t, &ids, &rows)) {
                    errors.lock().unwrap().push(error.to_string());
                }
                done.fetch_add(1, Ordering::SeqCst);
            });
            std::thread::sleep(Duration::from_millis(20));
        }
        let begin = Instant::now();
        while done.load(Ordering::SeqCst) < count as usize {
            std::thread::sleep(Duration::from_millis(10));
            if begin.elapsed() > Duration::from_secs(30) {
                println!("HANGS: {done:?} of {count} done, {:?}", errors.lock().unwrap());
                std::process::exit(77);
            }
        }
    });
    let errors = errors.lock().unwrap();
    assert!(errors.is_empty(), "{} failed: {:?}", errors.len(), errors.first());
}

