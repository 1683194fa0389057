//! The law of all operations on a forest that is built incrementally: after every commit the store
//! is sound, holds what a map holds, and answers what the oracle answers.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::RngExt;
use rand::seq::IndexedRandom;
use spinney::heed::{RoTxn, RwTxn, WithoutTls};
use spinney::roaring::RoaringBitmap;
use spinney::{BuildMethod, BuildOptions, Error, Hits, IndexOptions, Metric, Reader, Writer};
use support::*;

const MAP_SIZE: usize = 512 << 20;
const INDEX: u16 = 5;

/// What the index should hold.
#[derive(Clone, Debug, Default)]
struct Model {
    items: Items,
    /// Vectors that were deleted, to be added again.
    deleted: Items,
    /// Ids added, overwritten or deleted since the last build.
    touched: BTreeSet<u32>,
}

/// A snapshot that is kept, what it should show, and what it answered when it was taken.
struct Held {
    rtxn: RoTxn<'static, WithoutTls>,
    items: Items,
    query: Vec<f32>,
    answers: [Hits; 2],
}

/// Builds by method, over all worlds.
#[derive(Default)]
struct Tally {
    incremental: AtomicU64,
    bulk: AtomicU64,
    cancelled: AtomicU64,
}

struct World<'a> {
    store: Store,
    dims: usize,
    metric: Metric,
    committed: Model,
    held: Vec<Held>,
    rng: Rng,
    operations: usize,
    tally: &'a Tally,
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}, {} dims, after {} operations", self.metric, self.dims, self.operations);
        }
    }
}

impl<'a> World<'a> {
    /// An index of 1,500 to 5,000 items, built in bulk.
    fn new(mut rng: Rng, tally: &'a Tally) -> Self {
        let store = Store::with_map_size(MAP_SIZE);
        let (dims, metric) = (rng.random_range(2..=24), *METRICS.choose(&mut rng).unwrap());
        let spread = *SPREADS.choose(&mut rng).unwrap();
        let n = if rng.random_bool(0.1) { 5000 } else { rng.random_range(1500..=2500) };
        let rows = vectors(&mut rng, metric, dims, n, spread);
        let items: Items = (0u32..).zip(rows).collect();
        let mut wtxn = store.env.write_txn().unwrap();
        let writer =
            Writer::open_or_create(&mut wtxn, store.db, INDEX, &IndexOptions::new(dims, metric))
                .unwrap();
        add_all(&writer, &mut wtxn, &items);
        let (trees, spill) = (rng.random_range(1..=3), rng.random());
        let options =
            BuildOptions::default().trees(trees).spill(spill).leaf_size(rng.random_range(32..=64));
        writer.build(&mut wtxn, &options.seed(rng.random())).unwrap();
        wtxn.commit().unwrap();
        let committed = Model { items, ..Model::default() };
        Self { store, dims, metric, committed, held: Vec::new(), rng, operations: 0, tally }
    }

    /// One write transaction, committed or dropped, and what may happen between two.
    fn session(&mut self) {
        let env = self.store.env.clone();
        let mut wtxn = env.write_txn().unwrap();
        let writer = Writer::open(&wtxn, self.store.db, INDEX).unwrap();
        let mut model = self.committed.clone();
        for _ in 0..self.rng.random_range(1..16) {
            self.operations += 1;
            self.operate(&writer, &mut wtxn, &mut model);
        }
        if self.rng.random_bool(0.4) {
            self.build(&writer, &mut wtxn, &mut model);
        }
        if self.rng.random_bool(0.9) {
            wtxn.commit().unwrap();
            self.committed = model;
        } else {
            wtxn.abort();
        }
        let rtxn = env.read_txn().unwrap();
        self.check(&rtxn);
        drop(rtxn);
        drop(env);
        if self.rng.random_bool(0.15) {
            self.hold();
        }
        if self.rng.random_bool(0.08) {
            self.release();
        }
    }

    fn operate(&mut self, writer: &Writer, wtxn: &mut RwTxn<'_>, model: &mut Model) {
        match self.rng.random_range(0..100) {
            0..30 => {
                let (id, row) = (self.rng.random_range(0..6000), self.vector(model));
                model.put(writer, wtxn, id, row);
            }
            30..38 => {
                // Overwritten by a new vector or by itself.
                let Some(id) = self.live(model) else { return };
                let row =
                    if self.rng.random() { model.items[&id].clone() } else { self.vector(model) };
                model.put(writer, wtxn, id, row);
            }
            38..58 => {
                let id = if self.rng.random_bool(0.8) { self.live(model) } else { None };
                let id = id.unwrap_or_else(|| self.rng.random_range(0..6000));
                model.delete(writer, wtxn, id);
            }
            58..62 => {
                // A whole region at once, so that leaves merge.
                let centre = self.vector(model);
                let n = self.rng.random_range(10..120);
                let region = ranked(self.metric, &model.items, &centre);
                region.iter().take(n).for_each(|near| model.delete(writer, wtxn, near.id));
            }
            62..68 => {
                // Many items in one place, so that leaves split.
                let centre = self.vector(model);
                for _ in 0..self.rng.random_range(10..100) {
                    let row = near(&mut self.rng, self.metric, &centre);
                    model.put(writer, wtxn, self.rng.random_range(0..6000), row);
                }
            }
            68..72 => {
                let deleted: Vec<u32> = model.deleted.keys().copied().collect();
                let again: Vec<u32> = deleted.sample(&mut self.rng, 40).copied().collect();
                for id in again {
                    let row = model.deleted[&id].clone();
                    model.put(writer, wtxn, id, row);
                }
            }
            72..86 => self.build(writer, wtxn, model),
            86..92 => self.cancel(writer, wtxn, model),
            _ => self.ask(wtxn, &model.items),
        }
    }

    fn vector(&mut self, model: &Model) -> Vec<f32> {
        match self.live(model) {
            Some(id) if self.rng.random_bool(0.1) => model.items[&id].clone(),
            Some(id) if self.rng.random_bool(0.6) => {
                near(&mut self.rng, self.metric, &model.items[&id])
            }
            _ => uniform(&mut self.rng, self.metric, self.dims),
        }
    }

    fn live(&mut self, model: &Model) -> Option<u32> {
        let from = self.rng.random_range(0..6000);
        model.items.range(from..).chain(&model.items).next().map(|(id, _)| *id)
    }

    fn build(&mut self, writer: &Writer, wtxn: &mut RwTxn<'_>, model: &mut Model) {
        let mut options = BuildOptions::default();
        if self.rng.random_bool(0.02) {
            options = options.trees(self.rng.random_range(1..=3)).spill(self.rng.random());
        }
        let stats = writer.build(wtxn, &options).unwrap();
        match stats.method {
            BuildMethod::Incremental => self.tally.incremental.fetch_add(1, Ordering::Relaxed),
            BuildMethod::Bulk => self.tally.bulk.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
        assert_eq!(stats.items, model.items.len() as u64);
        assert_eq!(writer.pending_len(wtxn).unwrap(), 0);
        model.touched.clear();
    }

    /// A build that is stopped at any poll leaves all that is pending.
    fn cancel(&mut self, writer: &Writer, wtxn: &mut RwTxn<'_>, model: &mut Model) {
        let pending = writer.pending_len(wtxn).unwrap();
        let (polls, stop) = (AtomicU64::new(0), self.rng.random_range(0..40));
        let callback = |_: &spinney::Progress| match polls.fetch_add(1, Ordering::Relaxed) {
            poll if poll >= stop => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        match writer.build(wtxn, &BuildOptions::default().progress(&callback)) {
            Err(Error::Cancelled) => {
                self.tally.cancelled.fetch_add(1, Ordering::Relaxed);
                assert_eq!(writer.pending_len(wtxn).unwrap(), pending);
            }
            Ok(_) => model.touched.clear(),
            Err(error) => panic!("{error}"),
        }
    }

    /// Everything that is committed agrees with the model, and is sound.
    fn check(&mut self, rtxn: &RoTxn<'_>) {
        let model = self.committed.clone();
        let reader = Reader::open(rtxn, self.store.db, INDEX).unwrap();
        assert_sound(&reader, "after a commit");
        assert_eq!(reader.len(), model.items.len() as u64);
        assert!(
            reader
                .items()
                .unwrap()
                .map(Result::unwrap)
                .eq(model.items.iter().map(|(id, row)| (*id, row.clone())))
        );
        let fresh = model.touched.iter().filter(|id| model.items.contains_key(id)).count() as u64;
        assert!((fresh..=model.touched.len() as u64).contains(&reader.pending_len()));
        self.ask(rtxn, &model.items);
    }

    /// Answers of every kind, those of k = n in the order of the oracle.
    fn ask(&mut self, rtxn: &RoTxn<'_>, items: &Items) {
        let reader = Reader::open(rtxn, self.store.db, INDEX).unwrap();
        let query = uniform(&mut self.rng, self.metric, self.dims);
        let ranked = ranked(self.metric, items, &query);
        let all = Ask::new(items.len());
        all.check_exact(self.metric, &ranked, &reader.nns(items.len()).by_vector(&query).unwrap());
        let part = self.rng.random_range(0.0..1.0);
        let filter: RoaringBitmap = (0..6000).filter(|_| self.rng.random_bool(part)).collect();
        for filter in [None, Some(filter)] {
            let k = self.rng.random_range(1..50);
            let search_k = self.rng.random_bool(0.5).then(|| self.rng.random_range(0..1000));
            let ask = Ask { filter, search_k, ..Ask::new(k) };
            ask.check(self.metric, &ranked, &ask.apply(reader.nns(k)).by_vector(&query).unwrap());
        }
        let id = self.rng.random_range(0..6000);
        let like = reader.nns(5).by_item(id).unwrap();
        assert_eq!(like.is_some(), items.contains_key(&id));
        if let Some(hits) = like {
            let ask = Ask { exclude: Some(id), ..Ask::new(5) };
            ask.check(self.metric, &support::ranked(self.metric, items, &items[&id]), &hits);
        }
    }

    /// Keeps a snapshot.
    fn hold(&mut self) {
        let rtxn = self.store.env.clone().static_read_txn().unwrap();
        let query = uniform(&mut self.rng, self.metric, self.dims);
        let answers = answers(&Reader::open(&rtxn, self.store.db, INDEX).unwrap(), &query);
        self.held.push(Held { rtxn, items: self.committed.items.clone(), query, answers });
    }

    /// Checks and drops all snapshots, and opens the environment anew or resizes its map.
    fn release(&mut self) {
        for Held { rtxn, items, query, answers: expected } in self.held.drain(..) {
            let reader = Reader::open(&rtxn, self.store.db, INDEX).unwrap();
            assert_sound(&reader, "a kept snapshot");
            assert!(reader.items().unwrap().map(Result::unwrap).eq(items));
            assert_eq!(answers(&reader, &query), expected, "a snapshot changed its answers");
        }
        let map_size = MAP_SIZE << self.rng.random_range(0..3);
        if self.rng.random_bool(0.5) {
            let store = std::mem::replace(&mut self.store, Store::with_map_size(1 << 20));
            self.store = store.reopen(map_size);
        } else {
            self.store.resize(map_size);
        }
    }
}

impl Model {
    fn put(&mut self, writer: &Writer, wtxn: &mut RwTxn<'_>, id: u32, row: Vec<f32>) {
        writer.add_item(wtxn, id, &row).unwrap();
        self.items.insert(id, row);
        self.touched.insert(id);
    }

    fn delete(&mut self, writer: &Writer, wtxn: &mut RwTxn<'_>, id: u32) {
        let row = self.items.remove(&id);
        assert_eq!(writer.del_item(wtxn, id).unwrap(), row.is_some(), "deleting item {id}");
        if let Some(row) = row {
            self.deleted.insert(id, row);
            self.touched.insert(id);
        }
    }
}

fn answers(reader: &Reader<'_>, query: &[f32]) -> [Hits; 2] {
    [reader.nns(10), reader.nns(100).search_k(1)].map(|nns| nns.by_vector(query).unwrap())
}

#[test]
fn any_operations_on_incremental_builds_leave_what_a_map_would_hold() {
    let tally = Tally::default();
    play_worlds(3000, if is_long() { 100_000 } else { 40 }, |rng| {
        let mut world = World::new(rng, &tally);
        while world.operations < 500 {
            world.session();
        }
        world.release();
    });
    let [incremental, bulk, cancelled] =
        [tally.incremental, tally.bulk, tally.cancelled].map(AtomicU64::into_inner);
    println!("{incremental} incremental builds, {bulk} in bulk, {cancelled} cancelled");
    assert!(
        incremental > 4 * bulk && cancelled * 20 > incremental,
        "{incremental}, {bulk}, {cancelled}"
    );
}
