//! Items that are cut in two are items like all others, at every length around the borders of
//! pages; and they take little more of the file than their bytes.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "cut/damage.rs"]
mod damage;
mod support;
#[path = "cut/whole.rs"]
mod whole;

use std::collections::BTreeSet;

use rand::RngExt;
use rand::seq::IndexedRandom;
use spinney::heed::{RoTxn, RwTxn};
use spinney::{BuildOptions, IndexOptions, Metric, Reader, Storage, Writer};
use support::raw::*;
use support::*;

/// Bytes of values: around the largest that share a page, around those that fill one or two pages,
/// and around the longest tail.
const LENGTHS: [usize; 15] =
    [2000, 2016, 2032, 4064, 4080, 4096, 4112, 4592, 4608, 8160, 8176, 8192, 8208, 8688, 8704];
const STORAGES: [Storage; 4] = [Storage::F32, Storage::F16, Storage::I8, Storage::Bits];
const MAX_DIMS: usize = 65_536;
const IDS: u32 = 60;

/// How long the tail of a value is that has so many bytes, 0 if it is not cut. See the
/// specification in `src/format`.
fn tail_bytes(len: usize) -> usize {
    let beyond = (len + 16) % 4096;
    if len >= 4096 && beyond <= 512 { beyond } else { 0 }
}

/// Dimensions of vectors whose values have so many bytes.
fn dims_of(storage: Storage, len: usize, rng: &mut Rng) -> usize {
    let unused: usize = rng.random_range(0..16);
    let bytes = len - 16;
    match storage {
        Storage::F32 => bytes / 4 - unused / 4,
        Storage::F16 => bytes / 2 - unused / 2,
        Storage::I8 => bytes - unused,
        _ => 8 * bytes - 4 * unused,
    }
}

/// One index, and what it should hold.
#[derive(Clone)]
struct Model {
    metric: Metric,
    storage: Storage,
    dims: usize,
    items: Items,
}

impl Model {
    fn new(storage: Storage, len: usize, rng: &mut Rng) -> Self {
        let metric = match storage {
            Storage::Bits => *[Metric::Hamming, Metric::Euclidean].choose(rng).unwrap(),
            _ => *METRICS[..4].choose(rng).unwrap(),
        };
        Self { metric, storage, dims: dims_of(storage, len, rng), items: Items::new() }
    }

    fn options(&self) -> IndexOptions {
        IndexOptions::new(self.dims, self.metric).storage(self.storage)
    }

    /// A vector that is kept as it is, whatever the storage.
    fn vector(&self, rng: &mut Rng) -> Vec<f32> {
        let mut component = || match self.storage {
            Storage::Bits if self.metric == Metric::Hamming => f32::from(rng.random::<bool>()),
            Storage::Bits => f32::from(rng.random::<bool>()) * 2.0 - 1.0,
            _ => f32::from(rng.random_range(-60i8..=60)),
        };
        (0..self.dims).map(|_| component()).collect()
    }

    fn value_bytes(&self) -> usize {
        let components = match self.storage {
            Storage::F32 => 4 * self.dims,
            Storage::F16 => 2 * self.dims,
            Storage::I8 => self.dims,
            _ => 8 * self.dims.div_ceil(64),
        };
        16 + components.next_multiple_of(16)
    }

    /// Everything that an index says of itself, and the keys it has.
    fn check(&self, store: &Store, rtxn: &RoTxn<'_>, index: u16, rng: &mut Rng) {
        let what = format!("{} {} of {} dims, index {index}", self.storage, self.metric, self.dims);
        let reader = Reader::open(rtxn, store.db, index).unwrap();
        assert_sound(&reader, &what);
        let items: Vec<_> = reader.items().unwrap().map(Result::unwrap).collect();
        assert!(items.into_iter().eq(self.items.clone()), "{what}");
        assert!(reader.ids().unwrap().map(Result::unwrap).eq(self.items.keys().copied()), "{what}");
        let (stats, bytes) = (reader.stats().unwrap(), self.items.len() * self.value_bytes());
        assert_eq!((stats.items, stats.item_bytes), (self.items.len() as u64, bytes as u64));
        assert_eq!(reader.warm(u64::MAX).unwrap().item_bytes, stats.item_bytes, "{what}");
        assert_eq!(reader.warm(stats.item_bytes / 2).unwrap().item_bytes, {
            let half = self.items.len() / 2 * self.value_bytes();
            half as u64
        });
        let id = rng.random_range(0..IDS);
        assert_eq!(reader.contains_item(id).unwrap(), self.items.contains_key(&id));
        assert_eq!(reader.item_vector(id).unwrap().as_ref(), self.items.get(&id), "{what}");
        let query = self.vector(rng);
        let ranked = ranked(self.metric, &self.items, &query);
        let ask = Ask { exact: true, ..Ask::new(10) };
        let hits = ask.apply(reader.nns(10)).by_vector(&query).unwrap();
        ask.check_nearest(self.metric, &ranked, &hits);
        let shared = reader.nns(10).exact().parallel().by_vector(&query).unwrap();
        assert_eq!(shared, hits, "{what}");
        if let Some(item) = self.items.get(&id) {
            let hits = reader.nns(5).by_item(id).unwrap().unwrap();
            let ask = Ask { exclude: Some(id), ..Ask::new(5) };
            ask.check_nearest(self.metric, &support::ranked(self.metric, &self.items, item), &hits);
        }
        self.check_keys(store, rtxn, index, &what);
    }

    /// Exactly the items that are to be cut have tails, of the right length.
    fn check_keys(&self, store: &Store, rtxn: &RoTxn<'_>, index: u16, what: &str) {
        let tail = tail_bytes(self.value_bytes());
        let of_kind = |kind: u8, len: usize| {
            let all = store.raw.all(rtxn);
            let entries = all.iter().filter(|(key, _)| {
                key[..2] == index.to_be_bytes() && key[2] == kind && key[3] == 0
            });
            let ids = entries.map(|(key, value)| {
                assert_eq!(value.len(), len, "{what}, kind {kind}");
                u32::from_be_bytes(key[4..].try_into().unwrap())
            });
            ids.collect::<BTreeSet<u32>>()
        };
        let ids: BTreeSet<u32> = self.items.keys().copied().collect();
        assert_eq!(of_kind(ITEM, self.value_bytes() - tail), ids, "{what}");
        let cut = if tail > 0 { ids } else { BTreeSet::new() };
        assert_eq!(of_kind(TAIL, tail), cut, "{what}");
    }
}

fn operate(model: &mut Model, store: &Store, wtxn: &mut RwTxn<'_>, index: u16, rng: &mut Rng) {
    let writer = Writer::open_or_create(wtxn, store.db, index, &model.options()).unwrap();
    match rng.random_range(0..100) {
        0..50 => {
            let (id, row) = (rng.random_range(0..IDS), model.vector(rng));
            writer.add_item(wtxn, id, &row).unwrap();
            model.items.insert(id, row);
        }
        50..60 => {
            let ids: Vec<u32> = (0..12).map(|_| rng.random_range(0..IDS)).collect();
            let rows: Vec<Vec<f32>> = ids.iter().map(|_| model.vector(rng)).collect();
            writer.add_items(wtxn, &ids, &rows.concat()).unwrap();
            model.items.extend(ids.into_iter().zip(rows));
        }
        60..82 => {
            let id = rng.random_range(0..IDS);
            let existed = model.items.remove(&id).is_some();
            assert_eq!(writer.del_item(wtxn, id).unwrap(), existed);
        }
        82..84 => {
            writer.clear(wtxn).unwrap();
            model.items.clear();
        }
        84..86 => {
            assert!(store.db.delete_index(wtxn, index).unwrap());
            model.items.clear();
            Writer::open_or_create(wtxn, store.db, index, &model.options()).unwrap();
        }
        86..90 if model.storage != Storage::Bits => {
            let storage = *STORAGES[..3].choose(rng).unwrap();
            let converted = if storage == model.storage { 0 } else { model.items.len() as u64 };
            assert_eq!(writer.convert(wtxn, storage).unwrap(), converted);
            model.storage = storage;
        }
        _ => {
            let options = BuildOptions::default().leaf_size(32).rebuild(rng.random());
            writer.build(wtxn, &options).unwrap();
        }
    }
}

#[test]
fn any_operations_at_any_length_leave_what_a_map_would_hold() {
    let seed = Seed::new(1900);
    for (part, len) in LENGTHS.into_iter().enumerate() {
        for (number, storage) in STORAGES.into_iter().enumerate() {
            let rng = &mut seed.rng((4 * part + number) as u64);
            if dims_of(storage, len, rng) > MAX_DIMS {
                continue;
            }
            // The index of this length lies between two others.
            let mut models = vec![
                Model::new(Storage::F32, *LENGTHS.choose(rng).unwrap(), rng),
                Model::new(storage, len, rng),
                Model::new(Storage::F32, *LENGTHS.choose(rng).unwrap(), rng),
            ];
            let store = Store::with_map_size(256 << 20);
            let mut wtxn = store.env.write_txn().unwrap();
            for (index, model) in (0..).zip(&models) {
                Writer::open_or_create(&mut wtxn, store.db, index, &model.options()).unwrap();
            }
            wtxn.commit().unwrap();
            for _ in 0..8 {
                let mut wtxn = store.env.write_txn().unwrap();
                let mut changed = models.clone();
                for _ in 0..rng.random_range(1..15) {
                    let index = *[0, 1, 1, 1, 2].choose(rng).unwrap();
                    operate(&mut changed[usize::from(index)], &store, &mut wtxn, index, rng);
                }
                if rng.random_bool(0.9) {
                    wtxn.commit().unwrap();
                    models = changed;
                } else {
                    wtxn.abort();
                }
                let rtxn = store.env.read_txn().unwrap();
                (0..).zip(&models).for_each(|(i, model)| model.check(&store, &rtxn, i, rng));
            }
        }
    }
}

/// In ascending order at once, in that order one by one, and in no order; with another index behind
/// this one or not.
#[test]
fn a_vector_just_longer_than_a_page_takes_little_more_than_a_page() {
    const ITEMS: u32 = 3000;
    let options = IndexOptions::new(1024, Metric::Euclidean);
    let row = |id: u32| (0..1024).map(|d| ((id + d) % 97) as f32).collect::<Vec<f32>>();
    let orders: [fn(u32) -> u32; 2] = [|i| i, |i| i * 1201 % ITEMS];
    for (order, is_last) in orders.into_iter().flat_map(|order| [(order, true), (order, false)]) {
        let store = Store::with_map_size(256 << 20);
        let mut wtxn = store.env.write_txn().unwrap();
        let writer = Writer::open_or_create(&mut wtxn, store.db, 0, &options).unwrap();
        if !is_last {
            Writer::open_or_create(&mut wtxn, store.db, 1, &options).unwrap();
        }
        let (at_once, one_by_one) = (0..ITEMS / 2, ITEMS / 2..ITEMS);
        let ids: Vec<u32> = at_once.map(order).collect();
        let rows: Vec<f32> = ids.iter().flat_map(|id| row(*id)).collect();
        writer.add_items(&mut wtxn, &ids, &rows).unwrap();
        for id in one_by_one.map(order) {
            writer.add_item(&mut wtxn, id, &row(id)).unwrap();
        }
        wtxn.commit().unwrap();
        let stat = store.raw.0.stat(&store.env.read_txn().unwrap()).unwrap();
        let pages = stat.branch_pages + stat.leaf_pages + stat.overflow_pages;
        let bytes = pages * stat.page_size as usize / ITEMS as usize;
        println!("{bytes} bytes a vector");
        // Elsewhere pages are larger.
        assert!(stat.page_size != 4096 || bytes <= 4300, "{bytes} bytes a vector");
    }
}
