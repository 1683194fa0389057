//! Batches answer as single queries do, whatever the number of threads, and all of one snapshot.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss
)]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rand::RngExt;
use spinney::roaring::RoaringBitmap;
use spinney::{
    BuildOptions, Error, Hits, IndexOptions, Metric, Reader, SearchStats, Snapshot, Writer,
};
use support::*;

const MAP_BYTES: usize = 1 << 30;
const DIMS: usize = 24;
/// More than the size up to which indexes are scanned exactly.
const ITEMS: u32 = 2_500;
const QUERIES: usize = 60;
const THREADS: [usize; 3] = [1, 2, 8];
/// Versions of a changing world that are seen, of those that are written meanwhile.
const VERSIONS: usize = 20;

/// An index that is built, and then changed: items are added, overwritten and deleted.
fn fill(store: &Store, metric: Metric, rng: &mut Rng) -> Writer {
    let mut wtxn = store.env.write_txn().unwrap();
    let writer =
        Writer::open_or_create(&mut wtxn, store.db, 0, &IndexOptions::new(DIMS, metric)).unwrap();
    let ids: Vec<u32> = (0..ITEMS).collect();
    writer.add_items(&mut wtxn, &ids, &clustered_rows(metric, DIMS, ITEMS as usize, rng)).unwrap();
    writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
    for id in (0..30).map(|i| i * 70) {
        writer.add_item(&mut wtxn, id, &clustered_row(metric, DIMS, rng)).unwrap();
        writer.add_item(&mut wtxn, 5_000 + id, &clustered_row(metric, DIMS, rng)).unwrap();
        assert!(writer.del_item(&mut wtxn, id + 1).unwrap());
    }
    wtxn.commit().unwrap();
    writer
}

/// Fails unless many queries at once are answered as one by one, by a reader and by a snapshot.
macro_rules! assert_same {
    ($reader:expr, $snapshot:expr, $k:expr, $queries:expr, $ids:expr $(, $option:ident($($value:expr),*))*) => {{
        let (reader, queries, ids): (&Reader<'_>, &[f32], &[u32]) = ($reader, $queries, $ids);
        let rows = queries.chunks_exact(DIMS);
        let one_by_one: Vec<Hits> =
            rows.map(|row| reader.nns($k)$(.$option($($value),*))*.by_vector(row).unwrap()).collect();
        assert_eq!(reader.nns($k)$(.$option($($value),*))*.by_vectors(queries).unwrap(), one_by_one);
        assert_eq!($snapshot.nns($k)$(.$option($($value),*))*.by_vectors(queries).unwrap(), one_by_one);
        let one_by_one: Vec<Option<Hits>> =
            ids.iter().map(|id| reader.nns($k)$(.$option($($value),*))*.by_item(*id).unwrap()).collect();
        assert_eq!(reader.nns($k)$(.$option($($value),*))*.by_items(ids).unwrap(), one_by_one);
        assert_eq!($snapshot.nns($k)$(.$option($($value),*))*.by_items(ids).unwrap(), one_by_one);
    }};
}

#[test]
fn batches_answer_as_single_queries_do() {
    let seed = Seed::new(401);
    for metric in METRICS {
        let rng = &mut seed.rng(0);
        let store = Store::with_map_size(MAP_BYTES);
        fill(&store, metric, rng);
        let queries = &clustered_rows(metric, DIMS, QUERIES, rng);
        // Items that are built, pending, deleted, and never were; some come twice.
        let ids = &[0, 1, 70, 72, 5_000, 5_140, 9_999, u32::MAX, 2_499, 70];
        let rtxn = store.env.read_txn().unwrap();
        let reader = &Reader::open(&rtxn, store.db, 0).unwrap();
        let third: &RoaringBitmap = &(0..9_000).filter(|id| id % 3 == 0).collect();
        let few: &RoaringBitmap = &[3, 70, 5_070, 9_000].into_iter().collect();
        let far = reader.nns(30).by_vector(&queries[..DIMS]).unwrap()[29].distance;
        for threads in THREADS {
            let pool = pool(threads);
            let snapshot = &mut Snapshot::open_in(&store.env, store.db, 0, &pool).unwrap();
            assert_eq!((snapshot.workers(), snapshot.txn_id()), (threads, rtxn.id()));
            assert_eq!((snapshot.len(), snapshot.dims()), (reader.len(), reader.dims()));
            assert_eq!(
                (snapshot.metric(), snapshot.index(), snapshot.is_empty()),
                (metric, 0, false)
            );
            assert_same!(reader, snapshot, 10, queries, ids);
            assert_same!(reader, snapshot, 0, queries, ids);
            assert_same!(reader, snapshot, 1, queries, ids, recall(0.5));
            assert_same!(reader, snapshot, 5, queries, ids, search_k(1), oversampling(1.0));
            assert_same!(reader, snapshot, 10, queries, ids, filter(third));
            assert_same!(reader, snapshot, 10, queries, ids, filter(few), recall(0.99));
            assert_same!(
                reader,
                snapshot,
                10,
                queries,
                ids,
                filter_fn(|id| id % 5 > 0),
                filter(third)
            );
            assert_same!(reader, snapshot, 10, queries, ids, exact());
            assert_same!(reader, snapshot, 9_999, &queries[..3 * DIMS], &ids[..3], within(far));
        }
    }
}

#[test]
fn nothing_is_asked_and_nothing_is_answered() {
    let store = Store::with_map_size(MAP_BYTES);
    let writer = fill(&store, Metric::Cosine, &mut rng(1));
    let mut snapshot = Snapshot::open(&store.env, store.db, 0).unwrap();
    assert_eq!(snapshot.workers(), rayon::current_num_threads());
    assert!(snapshot.nns(10).by_vectors(&[]).unwrap().is_empty());
    assert!(snapshot.nns(10).by_items(&[]).unwrap().is_empty());
    assert!(
        snapshot.each(0, |_, _| -> spinney::Result<()> { panic!("no task") }).unwrap().is_empty()
    );
    // What stands in a report is overwritten.
    let mut report = snapshot_report(&mut snapshot, &[1.0; DIMS]);
    assert_ne!(report, SearchStats::default());
    assert!(snapshot.nns(10).report(&mut report).by_vectors(&[]).unwrap().is_empty());
    assert_eq!(report, SearchStats::default());

    // An index without items answers, and finds nothing.
    let mut wtxn = store.env.write_txn().unwrap();
    writer.clear(&mut wtxn).unwrap();
    wtxn.commit().unwrap();
    let mut snapshot = Snapshot::open(&store.env, store.db, 0).unwrap();
    assert!(snapshot.is_empty());
    assert_eq!(snapshot.nns(10).by_vectors(&[1.0; 2 * DIMS]).unwrap(), vec![vec![]; 2]);
    assert_eq!(snapshot.nns(10).by_items(&[0]).unwrap(), [None]);
}

fn snapshot_report(snapshot: &mut Snapshot<'_>, queries: &[f32]) -> SearchStats {
    let mut report = SearchStats::default();
    snapshot.nns(10).report(&mut report).by_vectors(queries).unwrap();
    report
}

#[test]
fn a_report_tells_of_all_queries() {
    let store = Store::with_map_size(MAP_BYTES);
    let rng = &mut rng(2);
    fill(&store, Metric::Euclidean, rng);
    let queries = clustered_rows(Metric::Euclidean, DIMS, QUERIES, rng);
    let rtxn = store.env.read_txn().unwrap();
    let reader = Reader::open(&rtxn, store.db, 0).unwrap();
    let counts = |did: &SearchStats| {
        [
            did.branches,
            did.branch_sketches,
            did.leaves,
            did.sketches,
            did.reranked,
            did.scanned_exactly,
            did.bytes,
        ]
    };
    let mut sums = [0; 7];
    for row in queries.chunks_exact(DIMS) {
        let mut report = SearchStats::default();
        reader.nns(10).report(&mut report).by_vector(row).unwrap();
        sums.iter_mut().zip(counts(&report)).for_each(|(sum, count)| *sum += count);
    }
    assert!(sums[3] > 0);
    let mut report = SearchStats::default();
    reader.nns(10).report(&mut report).by_vectors(&queries).unwrap();
    assert_eq!(counts(&report), sums);
    for threads in THREADS {
        let pool = pool(threads);
        let mut snapshot = Snapshot::open_in(&store.env, store.db, 0, &pool).unwrap();
        let report = snapshot_report(&mut snapshot, &queries);
        assert_eq!(counts(&report), sums);
        assert!(report.scanning > Duration::ZERO);
    }
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_searched() {
    let store = Store::with_map_size(MAP_BYTES);
    fill(&store, Metric::Cosine, &mut rng(3));
    assert!(matches!(
        Snapshot::open(&store.env, store.db, 7),
        Err(Error::IndexNotFound { index: 7 })
    ));
    let rtxn = store.env.read_txn().unwrap();
    let reader = Reader::open(&rtxn, store.db, 0).unwrap();
    let mut snapshot = Snapshot::open(&store.env, store.db, 0).unwrap();
    let searched = AtomicU32::new(0);
    let mut ask = |queries: &[f32]| {
        let count = |_| searched.fetch_add(1, Ordering::SeqCst) < u32::MAX;
        let errors = [
            reader.nns(3).filter_fn(count).by_vectors(queries).unwrap_err(),
            snapshot.nns(3).filter_fn(count).by_vectors(queries).unwrap_err(),
        ];
        assert_eq!(searched.load(Ordering::SeqCst), 0);
        errors
    };
    for got in [1, DIMS - 1, DIMS + 1, 3 * DIMS - 1] {
        let is_right =
            |error| matches!(error, Error::QueriesShape { dims: DIMS, got: found } if found == got);
        assert!(ask(&vec![1.0; got]).into_iter().all(is_right));
    }
    let mut queries = vec![1.0; 4 * DIMS];
    queries[3 * DIMS..].fill(0.0);
    assert!(ask(&queries).iter().all(|error| matches!(error, Error::ZeroVector)));
    let wrong = 2 * DIMS + 5;
    queries[wrong] = f32::INFINITY;
    let is_right =
        |error: &Error| matches!(error, Error::NonFinite { position, .. } if *position == wrong);
    assert!(ask(&queries).iter().all(is_right));

    // Options are looked at even if there is nothing to search for.
    let is_refused = |error| matches!(error, Error::InvalidOption { .. });
    assert!(is_refused(reader.nns(3).recall(0.0).by_vectors(&[]).unwrap_err()));
    assert!(is_refused(reader.nns(3).recall(1.5).by_items(&[]).unwrap_err()));
    assert!(is_refused(snapshot.nns(3).recall(f32::NAN).by_vectors(&[]).unwrap_err()));
    assert!(is_refused(snapshot.nns(3).oversampling(0.5).by_items(&[]).unwrap_err()));
    assert!(is_refused(snapshot.nns(3).within(f32::NAN).by_vectors(&[]).unwrap_err()));
    for recall in [0.5, 0.95, 1.0] {
        let refused = [
            reader.nns(3).recall(recall).exact().by_vectors(&[]).map(|_| ()),
            snapshot.nns(3).recall(recall).exact().by_vectors(&[]).map(|_| ()),
            snapshot.nns(3).exact().recall(recall).by_items(&[]).map(|_| ()),
        ];
        let is_right = |error| {
            matches!(error, Err(Error::Incompatible { option: "recall", with: "exact", .. }))
        };
        assert!(refused.into_iter().all(is_right), "{recall}");
    }
}

#[test]
fn the_first_task_that_fails_says_why() {
    let store = Store::with_map_size(MAP_BYTES);
    fill(&store, Metric::Euclidean, &mut rng(4));
    for threads in THREADS {
        let pool = pool(threads);
        let mut snapshot = Snapshot::open_in(&store.env, store.db, 0, &pool).unwrap();
        for _ in 0..20 {
            let failed = snapshot.each(200, |reader, i| match i {
                37.. => reader.nns(1).by_vector(&vec![0.0; i]).map(|_| ()),
                _ => Ok(()),
            });
            assert!(matches!(failed, Err(Error::Dimensions { got: 37, .. })));
        }
        // A panic passes through, and the snapshot is as good as before.
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            snapshot.each(50, |_, i| if i == 20 { panic!("task 20") } else { Ok(()) })
        }));
        assert!(panicked.is_err());
        assert_eq!(snapshot.each(50, |_, i| Ok(i)).unwrap(), (0..50).collect::<Vec<_>>());
    }
}

/// While a writer commits without a pause, all workers of a snapshot see one version. They see it
/// for as long as it lives.
#[test]
fn all_workers_see_one_snapshot() {
    let seed = Seed::new(411);
    let store = Store::with_map_size(MAP_BYTES);
    let writer = world::create(&store.env, store.db);
    let (committed, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
    let mut versions = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _over = Over(&is_over);
            let mut rng = seed.rng(0);
            while !is_over.load(Ordering::SeqCst) {
                let mut wtxn = store.env.write_txn().unwrap();
                let version = world::advance(&writer, &mut wtxn, &mut rng);
                if rng.random_bool(0.3) {
                    world::build(&writer, &mut wtxn);
                }
                wtxn.commit().unwrap();
                committed.store(version, Ordering::SeqCst);
            }
        });
        // The writer ends even if this thread panics, and this thread if the writer does.
        let over = Over(&is_over);
        let (pool, mut different) = (pool(4), 0);
        while different < VERSIONS && !is_over.load(Ordering::SeqCst) {
            let before = committed.load(Ordering::SeqCst);
            let mut snapshot = Snapshot::open_in(&store.env, store.db, 0, &pool).unwrap();
            let rng = &mut rng(seed.number() + versions.len() as u64);
            let queries = clustered_rows(Metric::Euclidean, world::DIMS, 20, rng);
            let answers = snapshot.nns(10).by_vectors(&queries).unwrap();
            let seeds: Vec<u64> = (0..8).map(|_| rng.random()).collect();
            let seen = snapshot
                .each(8, |reader, i| Ok(world::check(reader, &mut support::rng(seeds[i]))))
                .unwrap();
            let version = seen[0];
            assert!(
                seen.iter().all(|other| *other == version),
                "versions {seen:?} in one snapshot"
            );
            assert!(version >= before, "version {version} was opened after the commit of {before}");
            assert!(
                versions
                    .last()
                    .is_none_or(|(last, id)| *last <= version && *id <= snapshot.txn_id())
            );
            assert_eq!(
                snapshot.nns(10).by_vectors(&queries).unwrap(),
                answers,
                "the same questions, later"
            );
            different += usize::from(versions.last().is_none_or(|(last, _)| *last < version));
            versions.push((version, snapshot.txn_id()));
        }
        drop(over);
    });
    println!(
        "{} snapshots, of versions {:?} to {:?}",
        versions.len(),
        versions.first(),
        versions.last()
    );
    assert!(versions.len() >= VERSIONS, "all ended before their time");
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
