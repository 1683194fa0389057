//! A search by a reader that has searched before allocates its answer and nothing else.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss
)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use spinney::roaring::RoaringBitmap;
use spinney::{
    BuildOptions, Error, Hits, IndexOptions, Metric, Nns, Reader, Result, SearchPlan, SearchStats,
    Writer,
};
use support::*;

const DIMS: usize = 32;
/// Of vectors that are cut when they are stored.
const CUT_DIMS: usize = 1024;
/// More than the size up to which indexes are scanned exactly.
const ITEMS: u32 = 3_000;
/// The vector of hits. It grows from the heap of the nearest, in place.
const ALLOCATIONS: usize = 1;

/// Counts what each thread asks the system's allocator for.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending is not counted any more.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

#[allow(unsafe_code)]
// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the promises of
// the trait; counting touches a number of the thread that needs no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: what the caller promises is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: what the caller promises is passed on: all memory is from the system's allocator.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as for `dealloc`.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = COUNT.get();
    let result = work();
    (result, COUNT.get() - before)
}

/// Asks everything three times, and counts at the last.
fn check(
    what: &str,
    reader: &Reader<'_>,
    queries: &[Vec<f32>],
    ask: impl Fn(Nns<'_>, &[f32]) -> Result<Hits>,
) {
    let mut counted = 0;
    for turn in 0..3 {
        for query in queries {
            let mut searched = SearchStats::default();
            let (hits, allocations) =
                allocations_of(|| ask(reader.nns(10).report(&mut searched), query));
            assert_eq!(hits.unwrap().len(), 10);
            // A walk over all items needs a cursor of LMDB.
            if turn == 2 && searched.plan != SearchPlan::ForestThenExact {
                counted += 1;
                assert_eq!(allocations, ALLOCATIONS, "{}, {what}", reader.metric());
            }
        }
    }
    assert!(
        counted > queries.len() / 2,
        "{}, {what}: {counted} searches by one plan",
        reader.metric()
    );
}

/// Buffers of the caller's take the answers of a batch, which are those of single searches.
fn check_buffers(reader: &Reader<'_>, queries: &[Vec<f32>], filter: &RoaringBitmap) {
    let rows = queries.concat();
    for k in [1, 10, 300] {
        let (mut ids, mut distances) = (vec![7; k * queries.len()], vec![7.0; k * queries.len()]);
        for turn in 0..3 {
            let nns = reader.nns(k).filter(filter);
            let into = || nns.by_vectors_into(&rows, &mut ids, &mut distances);
            let (written, allocations) = allocations_of(into);
            written.unwrap();
            // Whoever compares all items needs a cursor of LMDB for it.
            if turn == 2 && k < 300 {
                assert_eq!(allocations, 0, "{}, k = {k}", reader.metric());
            }
        }
        for (i, query) in queries.iter().enumerate() {
            let hits = reader.nns(k).filter(filter).by_vector(query).unwrap();
            let (ids, distances) = (&ids[i * k..][..k], &distances[i * k..][..k]);
            for (j, hit) in hits.iter().enumerate() {
                assert_eq!((ids[j], distances[j]), (hit.id, hit.distance));
            }
            assert!(distances[hits.len()..].iter().all(|distance| distance.is_nan()));
        }
    }
}

#[test]
fn buffers_have_to_fit() {
    let store = Store::with_map_size(1 << 20);
    let mut wtxn = store.env.write_txn().unwrap();
    let options = IndexOptions::new(2, Metric::Euclidean);
    let writer = Writer::open_or_create(&mut wtxn, store.db, 0, &options).unwrap();
    writer.add_item(&mut wtxn, 9, &[1.0, 1.0]).unwrap();
    let reader = Reader::open(&wtxn, store.db, 0).unwrap();
    let into = |k, vectors: &[f32], ids, distances| {
        let (mut ids, mut distances) = (vec![5; ids], vec![5.0; distances]);
        reader.nns(k).by_vectors_into(vectors, &mut ids, &mut distances).map(|()| ids)
    };
    assert_eq!(into(2, &[1.0; 4], 4, 4).unwrap(), [9, 0, 9, 0]);
    assert_eq!(into(2, &[], 0, 0).unwrap(), [0u32; 0]);
    assert_eq!(into(0, &[1.0; 4], 0, 0).unwrap(), [0u32; 0]);
    for (ids, distances) in [(3, 4), (4, 5), (0, 0)] {
        let refused = into(2, &[1.0; 4], ids, distances);
        assert!(matches!(refused, Err(Error::BufferShape { expected: 4, .. })));
    }
    assert!(matches!(into(usize::MAX, &[1.0; 4], 4, 4), Err(Error::BufferShape { .. })));
    assert!(matches!(into(2, &[1.0; 3], 2, 2), Err(Error::QueriesShape { .. })));
    let not_finite = into(1, &[1.0, 1.0, f32::NAN, 1.0], 2, 2);
    assert!(matches!(not_finite, Err(Error::NonFinite { position: 2, .. })));
}

#[test]
fn a_warmed_reader_allocates_its_answer_alone() {
    let seed = Seed::new(301);
    let store = Store::with_map_size(1 << 30);
    let metrics = [Metric::Euclidean, Metric::Cosine, Metric::DotProduct, Metric::Manhattan];
    let cases = metrics.map(|metric| (metric, DIMS)).into_iter();
    for (index, (metric, dims)) in (0..).zip(cases.chain([(Metric::Euclidean, CUT_DIMS)])) {
        let rng = &mut seed.rng(0);
        let mut wtxn = store.env.write_txn().unwrap();
        let options = IndexOptions::new(dims, metric);
        let writer = Writer::open_or_create(&mut wtxn, store.db, index, &options).unwrap();
        let ids: Vec<u32> = (0..ITEMS).collect();
        writer
            .add_items(&mut wtxn, &ids, &clustered_rows(metric, dims, ITEMS as usize, rng))
            .unwrap();
        writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
        wtxn.commit().unwrap();

        let queries: Vec<Vec<f32>> = (0..50).map(|_| clustered_row(metric, dims, rng)).collect();
        let filter: RoaringBitmap = (0..ITEMS).filter(|id| id % 3 > 0).collect();
        let check_all = |what: &str| {
            let rtxn = store.env.read_txn().unwrap();
            let reader = Reader::open(&rtxn, store.db, index).unwrap();
            check(what, &reader, &queries, |nns, query| nns.by_vector(query));
            check(what, &reader, &queries, |nns, query| nns.search_k(100).by_vector(query));
            check(what, &reader, &queries, |nns, query| nns.filter(&filter).by_vector(query));
            check_buffers(&reader, &queries, &filter);
        };
        check_all("built");

        let mut wtxn = store.env.write_txn().unwrap();
        (0..20).for_each(|id| assert!(writer.del_item(&mut wtxn, id).unwrap()));
        for id in ITEMS - 10..ITEMS + 10 {
            writer.add_item(&mut wtxn, id, &clustered_row(metric, dims, rng)).unwrap();
        }
        wtxn.commit().unwrap();
        check_all("with pending items");
    }
}
