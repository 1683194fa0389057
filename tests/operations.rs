//! Laws of change: after any operations, in any transactions, an index holds and answers what a
//! plain map would.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rand::RngExt;
use rand::seq::IndexedRandom;
use spinney::heed::{RoTxn, RwTxn, WithoutTls};
use spinney::roaring::RoaringBitmap;
use spinney::{
    BuildMethod, BuildOptions, Database, Error, Hits, IndexOptions, Metric, Reader, Writer,
};
use support::*;

const MAP_SIZE: usize = 256 << 20;
const INDEXES: [u16; 4] = [0, 1, 258, u16::MAX];

/// What one index should be.
#[derive(Clone, Debug)]
struct Model {
    dims: usize,
    metric: Metric,
    items: Items,
    /// Ids added, overwritten or deleted since the last build.
    touched: BTreeSet<u32>,
}

type Models = BTreeMap<u16, Model>;

/// A snapshot that is kept, what it should show, and what it answered when it was taken.
struct Held {
    rtxn: RoTxn<'static, WithoutTls>,
    models: Models,
    answers: Vec<(u16, Vec<f32>, Hits)>,
}

/// A database under random operations.
struct World {
    store: Store,
    committed: Models,
    held: Vec<Held>,
    rng: Rng,
    /// New ids are below this.
    ids: u32,
    steps: usize,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("after {} operations", self.steps);
        }
    }
}

impl World {
    fn new(rng: Rng, ids: u32) -> Self {
        let store = Store::with_map_size(MAP_SIZE);
        Self { store, committed: Models::new(), held: Vec::new(), rng, ids, steps: 0 }
    }

    /// One write transaction, committed or dropped, and what may happen between two.
    fn session(&mut self) {
        let env = self.store.env.clone();
        let mut wtxn = env.write_txn().unwrap();
        let mut models = self.committed.clone();
        for _ in 0..self.rng.random_range(1..8) {
            self.steps += 1;
            self.operate(&mut wtxn, &mut models);
        }
        if self.rng.random_bool(0.3) {
            check_all(&wtxn, self.store.db, &models, &mut self.rng);
        }
        if self.rng.random_bool(0.8) {
            wtxn.commit().unwrap();
            self.committed = models;
        } else {
            drop(wtxn);
        }
        let rtxn = env.read_txn().unwrap();
        check_all(&rtxn, self.store.db, &self.committed, &mut self.rng);
        drop(rtxn);
        drop(env);
        if self.rng.random_bool(0.2) {
            self.hold();
        }
        if self.rng.random_bool(0.1) {
            self.release();
        }
    }

    /// Keeps a snapshot.
    fn hold(&mut self) {
        let rtxn = self.store.env.clone().static_read_txn().unwrap();
        let mut answers = Vec::new();
        for (index, model) in &self.committed {
            let query = uniform(&mut self.rng, model.metric, model.dims);
            let hits = Reader::open(&rtxn, self.store.db, *index)
                .unwrap()
                .nns(5)
                .by_vector(&query)
                .unwrap();
            answers.push((*index, query, hits));
        }
        self.held.push(Held { rtxn, models: self.committed.clone(), answers });
    }

    /// Checks and drops all snapshots, and sometimes opens the environment anew.
    fn release(&mut self) {
        for Held { rtxn, models, answers } in self.held.drain(..) {
            check_all(&rtxn, self.store.db, &models, &mut self.rng);
            for (index, query, hits) in answers {
                let reader = Reader::open(&rtxn, self.store.db, index).unwrap();
                assert_eq!(
                    reader.nns(5).by_vector(&query).unwrap(),
                    hits,
                    "a snapshot changed its answer"
                );
            }
        }
        if self.rng.random_bool(0.5) {
            let store = std::mem::replace(&mut self.store, Store::with_map_size(1 << 20));
            self.store = store.reopen(MAP_SIZE);
        }
    }

    fn operate(&mut self, wtxn: &mut RwTxn<'_>, models: &mut Models) {
        let db = self.store.db;
        let rng = &mut self.rng;
        let index = *INDEXES.choose(rng).unwrap();
        let Some(model) = models.get_mut(&index) else {
            assert!(
                matches!(Writer::open(wtxn, db, index), Err(Error::IndexNotFound { index: i }) if i == index)
            );
            let (dims, metric) = (rng.random_range(1..=20), *METRICS.choose(rng).unwrap());
            Writer::open_or_create(wtxn, db, index, &IndexOptions::new(dims, metric)).unwrap();
            models.insert(
                index,
                Model { dims, metric, items: Items::new(), touched: BTreeSet::new() },
            );
            return;
        };
        let writer = Writer::open(wtxn, db, index).unwrap();
        match rng.random_range(0..100) {
            0..35 => model.add(&writer, wtxn, rng, self.ids),
            35..55 => model.add_many(&writer, wtxn, rng, self.ids),
            55..75 => model.delete(&writer, wtxn, rng, self.ids),
            75..90 => model.build(&writer, wtxn, rng),
            90..94 => model.cancel(&writer, wtxn, rng),
            94..97 => model.refuse(&writer, wtxn, rng),
            97..99 => {
                writer.clear(wtxn).unwrap();
                model.items.clear();
                model.touched.clear();
            }
            _ => {
                assert!(db.delete_index(wtxn, index).unwrap());
                assert!(!db.delete_index(wtxn, index).unwrap());
                models.remove(&index);
            }
        }
    }
}

impl Model {
    fn vector(&self, rng: &mut Rng) -> Vec<f32> {
        let rows: Vec<&Vec<f32>> = self.items.values().collect();
        match rows.choose(rng) {
            Some(row) if rng.random_bool(0.1) => row.to_vec(),
            Some(row) if rng.random_bool(0.4) => near(rng, self.metric, row),
            _ => uniform(rng, self.metric, self.dims),
        }
    }

    /// An id that may exist.
    fn id(&self, rng: &mut Rng, ids: u32) -> u32 {
        if rng.random_bool(0.05) {
            u32::MAX - rng.random_range(0..3)
        } else {
            rng.random_range(0..ids)
        }
    }

    fn put(&mut self, id: u32, row: Vec<f32>) {
        self.items.insert(id, row);
        self.touched.insert(id);
    }

    fn add(&mut self, writer: &Writer, wtxn: &mut RwTxn<'_>, rng: &mut Rng, ids: u32) {
        let (id, row) = (self.id(rng, ids), self.vector(rng));
        writer.add_item(wtxn, id, &row).unwrap();
        self.put(id, row);
    }

    fn add_many(&mut self, writer: &Writer, wtxn: &mut RwTxn<'_>, rng: &mut Rng, ids: u32) {
        let n = rng.random_range(0..=ids / 3);
        let ids: Vec<u32> = (0..n).map(|_| self.id(rng, ids)).collect();
        let rows: Vec<Vec<f32>> = ids.iter().map(|_| self.vector(rng)).collect();
        writer.add_items(wtxn, &ids, &rows.concat()).unwrap();
        ids.into_iter().zip(rows).for_each(|(id, row)| self.put(id, row));
    }

    fn delete(&mut self, writer: &Writer, wtxn: &mut RwTxn<'_>, rng: &mut Rng, ids: u32) {
        let id = self.id(rng, ids);
        let existed = self.items.remove(&id).is_some();
        assert_eq!(writer.del_item(wtxn, id).unwrap(), existed, "deleting item {id}");
        if existed {
            self.touched.insert(id);
        }
    }

    fn build(&mut self, writer: &Writer, wtxn: &mut RwTxn<'_>, rng: &mut Rng) {
        let stats = writer.build(wtxn, &any_build(rng)).unwrap();
        assert_eq!(stats.items, self.items.len() as u64);
        assert_eq!(writer.pending_len(wtxn).unwrap(), 0);
        self.touched.clear();
    }

    /// A build that is stopped at any poll leaves everything as it was.
    fn cancel(&mut self, writer: &Writer, wtxn: &mut RwTxn<'_>, rng: &mut Rng) {
        let pending = writer.pending_len(wtxn).unwrap();
        let (polls, stop) = (AtomicU64::new(0), rng.random_range(0..8));
        let callback = |_: &spinney::Progress| match polls.fetch_add(1, Ordering::Relaxed) {
            poll if poll >= stop => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        match writer.build(wtxn, &any_build(rng).progress(&callback)) {
            Err(Error::Cancelled) => assert_eq!(writer.pending_len(wtxn).unwrap(), pending),
            Ok(stats) => {
                assert!(stats.method == BuildMethod::Nothing || polls.into_inner() <= stop);
                self.touched.clear();
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Vectors that do not suit the index change nothing.
    fn refuse(&self, writer: &Writer, wtxn: &mut RwTxn<'_>, rng: &mut Rng) {
        let mut bad = self.vector(rng);
        let last = bad.len() - 1;
        bad[last] = f32::NAN;
        assert!(matches!(writer.add_item(wtxn, 1, &bad), Err(Error::NonFinite { .. })));
        let rows = [self.vector(rng), self.vector(rng), bad].concat();
        assert!(matches!(writer.add_items(wtxn, &[1, 2, 3], &rows), Err(Error::Row { .. })));
    }

    /// Everything a reader and a writer return agrees with the model.
    fn check(&self, rtxn: &RoTxn<'_>, db: Database, index: u16, rng: &mut Rng) {
        let reader = Reader::open(rtxn, db, index).unwrap();
        let writer = Writer::open(rtxn, db, index).unwrap();
        let n = self.items.len();
        assert_eq!(
            (reader.dims(), reader.metric(), reader.index()),
            (self.dims, self.metric, index)
        );
        assert_eq!(
            (writer.dims(), writer.metric(), writer.index()),
            (self.dims, self.metric, index)
        );
        assert_eq!((reader.len(), reader.is_empty()), (n as u64, n == 0));
        assert_eq!((writer.len(rtxn).unwrap(), writer.is_empty(rtxn).unwrap()), (n as u64, n == 0));
        let pending = reader.pending_len();
        let fresh = self.touched.iter().filter(|id| self.items.contains_key(id)).count() as u64;
        assert!(
            (fresh..=self.touched.len() as u64).contains(&pending),
            "{pending} pending, {:?}",
            self.touched
        );
        assert_eq!(writer.pending_len(rtxn).unwrap(), pending);
        assert_eq!(reader.stats().unwrap().items, n as u64);
        assert!(reader.ids().unwrap().map(Result::unwrap).eq(self.items.keys().copied()));
        assert_items(&reader, &self.items);
        for id in [self.id(rng, 100), self.id(rng, 1000), u32::MAX] {
            let expected = self.items.get(&id).cloned();
            assert_eq!(reader.contains_item(id).unwrap(), expected.is_some());
            assert_eq!(writer.contains_item(rtxn, id).unwrap(), expected.is_some());
            assert_eq!(reader.item_vector(id).unwrap(), expected);
            assert_eq!(writer.item_vector(rtxn, id).unwrap(), expected);
        }
        self.check_answers(&reader, rng);
    }

    fn check_answers(&self, reader: &Reader<'_>, rng: &mut Rng) {
        let n = self.items.len();
        let query = self.vector(rng);
        let ranked = ranked(self.metric, &self.items, &query);
        let all = Ask::new(n);
        all.check_exact(self.metric, &ranked, &reader.nns(n).by_vector(&query).unwrap());
        let filter: RoaringBitmap =
            (0..rng.random_range(0..3000)).filter(|_| rng.random_bool(0.7)).collect();
        for filter in [None, Some(filter)] {
            let ask = Ask { filter, search_k: Some(rng.random_range(0..500)), ..Ask::new(5) };
            ask.check(self.metric, &ranked, &ask.apply(reader.nns(5)).by_vector(&query).unwrap());
        }
        let id = self.id(rng, 50);
        let like = reader.nns(3).by_item(id).unwrap();
        assert_eq!(like.is_some(), self.items.contains_key(&id));
        if let Some(hits) = like {
            let ask = Ask { exclude: Some(id), ..Ask::new(3) };
            ask.check(
                self.metric,
                &support::ranked(self.metric, &self.items, &self.items[&id]),
                &hits,
            );
        }
    }
}

fn any_build(rng: &mut Rng) -> BuildOptions<'static> {
    let mut options = BuildOptions::default();
    if rng.random_bool(0.3) {
        options = options.trees(rng.random_range(1..=4));
    }
    if rng.random_bool(0.3) {
        options = options.spill(rng.random()).seed(rng.random());
    }
    if rng.random_bool(0.3) {
        options = options
            .leaf_size(rng.random_range(32..=128))
            .sketch_bits(*[1, 2, 4].choose(rng).unwrap());
    }
    options
}

fn check_all(rtxn: &RoTxn<'_>, db: Database, models: &Models, rng: &mut Rng) {
    assert!(db.indexes(rtxn).unwrap().iter().eq(models.keys()));
    for (index, model) in models {
        model.check(rtxn, db, *index, rng);
    }
    for index in INDEXES.into_iter().filter(|index| !models.contains_key(index)) {
        assert!(matches!(Reader::open(rtxn, db, index), Err(Error::IndexNotFound { .. })));
    }
}

#[test]
fn any_operations_leave_what_a_map_would_hold() {
    play_worlds(1000, 60, |rng| {
        let mut world = World::new(rng, 40);
        while world.steps < 200 {
            world.session();
        }
        world.release();
    });
}

/// With more than a thousand items, searches go through the forest.
#[test]
fn any_operations_on_a_forest_leave_what_a_map_would_hold() {
    play_worlds(2000, 12, |mut rng| {
        let (dims, metric) = (rng.random_range(2..=24), *METRICS.choose(&mut rng).unwrap());
        let mut world = World::new(rng, 1600);
        let rows = vectors(&mut world.rng, metric, dims, 1400, Spread::Clusters);
        let items: Items = (0u32..).zip(rows).collect();
        let env = world.store.env.clone();
        let mut wtxn = env.write_txn().unwrap();
        let writer =
            Writer::open_or_create(&mut wtxn, world.store.db, 0, &IndexOptions::new(dims, metric))
                .unwrap();
        add_all(&writer, &mut wtxn, &items);
        writer.build(&mut wtxn, &BuildOptions::default().leaf_size(64)).unwrap();
        wtxn.commit().unwrap();
        drop(env);
        world.committed.insert(0, Model { dims, metric, items, touched: BTreeSet::new() });
        while world.steps < 80 {
            world.session();
        }
        world.release();
    });
}

/// One writer replaces all items again and again; readers see all of one version and never an older
/// one than before.
#[test]
fn readers_see_one_version_whole_while_the_next_is_written() {
    const ITEMS: u32 = 1100;
    let store = Store::with_map_size(MAP_SIZE);
    let write = |version: u16| {
        let mut wtxn = store.env.write_txn().unwrap();
        let options = IndexOptions::new(2, Metric::Euclidean);
        let writer = Writer::open_or_create(&mut wtxn, store.db, 0, &options).unwrap();
        let ids: Vec<u32> = (0..ITEMS).map(|i| u32::from(version) * 100 + i).collect();
        writer.clear(&mut wtxn).unwrap();
        let rows: Vec<f32> = ids.iter().flat_map(|id| [f32::from(version), *id as f32]).collect();
        writer.add_items(&mut wtxn, &ids, &rows).unwrap();
        if !version.is_multiple_of(3) {
            writer.build(&mut wtxn, &BuildOptions::default().leaf_size(32)).unwrap();
        }
        wtxn.commit().unwrap();
    };
    write(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    let rtxn = store.env.read_txn().unwrap();
                    let reader = Reader::open(&rtxn, store.db, 0).unwrap();
                    let ids: Vec<u32> = reader.ids().unwrap().map(Result::unwrap).collect();
                    let version = ids[0] / 100;
                    assert!(version >= last, "version {version} after version {last}");
                    assert!(ids.iter().copied().eq((0..ITEMS).map(|i| version * 100 + i)));
                    for k in [10, ITEMS as usize] {
                        let query = [version as f32, ids[500] as f32];
                        let hits = reader.nns(k).by_vector(&query).unwrap();
                        assert_eq!((hits.len(), hits[0].id, hits[0].distance), (k, ids[500], 0.0));
                        assert_eq!(reader.nns(k).by_vector(&query).unwrap(), hits);
                    }
                    last = version;
                }
            });
        }
        let written = std::panic::catch_unwind(|| (1..60).for_each(write));
        done.store(true, Ordering::Relaxed);
        written.unwrap();
    });
}

/// The count that is O(1) and the one that walks the index are of the same things.
#[test]
fn pending_is_counted_alike_everywhere() {
    let store = Store::with_map_size(MAP_SIZE);
    let mut wtxn = store.env.write_txn().unwrap();
    let writer =
        Writer::open_or_create(&mut wtxn, store.db, 0, &IndexOptions::new(1, Metric::Euclidean))
            .unwrap();
    for build in [false, true] {
        if build {
            writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
        }
        writer.add_items(&mut wtxn, &[1, 2, 3], &[1.0, 2.0, 3.0]).unwrap();
        writer.del_item(&mut wtxn, 2).unwrap();
        let reader = Reader::open(&wtxn, store.db, 0).unwrap();
        let counts = (reader.pending_len(), writer.pending_len(&wtxn).unwrap());
        assert_eq!(counts.0, counts.1);
        assert_eq!(reader.stats().unwrap().pending, counts.0, "built before: {build}");
    }
}
