//! An index whose items are whole where they would be cut now, as earlier versions wrote them. It
//! is beside a twin whose items are cut: both answer the same, whatever happens to them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use spinney::{
    BuildMethod, BuildOptions, Hit, IndexOptions, Metric, Progress, Reader, Readers, Snapshot,
    Storage, Writer,
};

use super::support::raw::*;
use super::support::*;

const MAP_SIZE: usize = 512 << 20;
const TOP: usize = 10;

/// Joins all items and says that version 2 wrote the index.
fn age(store: &Store, wtxn: &mut spinney::heed::RwTxn<'_>) {
    let all: BTreeMap<[u8; 8], Vec<u8>> = store.raw.all(wtxn).into_iter().collect();
    for (tail, end) in all.iter().filter(|(key, _)| key[2] == TAIL) {
        let mut item = *tail;
        item[2] = ITEM;
        store.raw.put(wtxn, item, &[&all[&item][..], end].concat());
        assert!(store.raw.0.delete(wtxn, tail).unwrap());
    }
    let record = key(0, RECORD, 0, 0);
    let mut bytes = all[&record].clone();
    bytes[8..10].copy_from_slice(&2u16.to_le_bytes());
    store.raw.put(wtxn, record, &bytes);
}

struct Twins {
    /// Items are cut in the first.
    stores: [Store; 2],
    metric: Metric,
    storage: Storage,
    dims: usize,
    queries: Vec<Vec<f32>>,
    /// An item that is never deleted.
    example: u32,
}

impl Twins {
    /// Does the same to both.
    fn change<R: PartialEq + std::fmt::Debug>(
        &self,
        change: impl Fn(&Writer, &mut spinney::heed::RwTxn<'_>) -> R,
    ) -> R {
        let [cut, whole] = self.stores.each_ref().map(|store| {
            let mut wtxn = store.env.write_txn().unwrap();
            let writer = Writer::open(&wtxn, store.db, 0).unwrap();
            let result = change(&writer, &mut wtxn);
            wtxn.commit().unwrap();
            result
        });
        assert_eq!(cut, whole);
        cut
    }

    /// How many tails there are.
    fn tails(&self) -> [usize; 2] {
        self.stores
            .each_ref()
            .map(|store| store.content().0.iter().filter(|(key, _)| key[2] == TAIL).count())
    }

    fn check(&self, when: &str) {
        let [cut, whole] = self.stores.each_ref().map(|store| self.answers(store, when));
        for ((how, cut), (_, whole)) in cut.iter().zip(&whole) {
            assert_eq!(cut, whole, "{how}, {when}");
        }
    }

    /// The answers of all forms of search.
    fn answers(&self, store: &Store, when: &str) -> Vec<(&'static str, Vec<Hit>)> {
        let rtxn = store.env.read_txn().unwrap();
        let reader = Reader::open(&rtxn, store.db, 0).unwrap();
        assert_sound(&reader, when);
        let ids = reader.id_set().unwrap();
        assert_eq!(ids.iter().collect::<Vec<_>>(), {
            reader.ids().unwrap().map(Result::unwrap).collect::<Vec<_>>()
        });
        let stats = reader.stats().unwrap();
        assert_eq!(reader.warm(u64::MAX).unwrap().item_bytes, stats.item_bytes);
        let even = ids.iter().filter(|id| id % 2 == 0).collect();
        let few = ids.iter().filter(|id| id % 40 == 0).collect();
        let (mut all, other) = (Vec::new(), Reader::open(&rtxn, store.db, 0).unwrap());
        for query in &self.queries {
            let nns = || reader.nns(TOP);
            let mut say = |how, hits: spinney::Hits| all.push((how, hits.into_vec()));
            say("forest", nns().by_vector(query).unwrap());
            say("again", nns().by_vector(query).unwrap());
            say("budget", nns().search_k(200).by_vector(query).unwrap());
            say("exact", nns().exact().by_vector(query).unwrap());
            say("parallel", nns().exact().parallel().by_vector(query).unwrap());
            say("half", nns().filter(&even).by_vector(query).unwrap());
            say("few", nns().filter(&few).by_vector(query).unwrap());
            say("predicate", nns().filter_fn(|id| id % 3 == 0).by_vector(query).unwrap());
            say("groups", nns().groups(2, |id| u64::from(id % 5)).by_vector(query).unwrap());
            say("item", nns().by_item(self.example).unwrap().unwrap());
            let examples = [self.example.into(), query.into()];
            say("any", nns().by_any(&examples).unwrap());
            if self.metric != Metric::Hamming {
                say("mean", nns().by_mean(&examples).unwrap());
            }
            let mut pages = nns().pages(self.example).unwrap();
            say("page", pages.next_page().unwrap());
            say("next page", pages.next_page().unwrap());
            let neighbours = nns().neighbours(query).unwrap().take(15);
            all.push(("neighbours", neighbours.map(Result::unwrap).collect()));
            let merged = Readers::new([&reader, &other]).unwrap().nns(TOP).by_vector(query);
            let merged = merged.unwrap().into_vec().into_iter();
            let hits = merged.map(|hit| Hit { id: hit.id, distance: hit.distance });
            all.push(("merged", hits.collect()));
        }
        let mut snapshot = Snapshot::open(&store.env, store.db, 0).unwrap();
        let many = snapshot.nns(TOP).by_items(&[self.example, u32::MAX]).unwrap();
        all.extend(many.into_iter().map(|hits| ("snapshot", hits.unwrap_or_default().into_vec())));
        let vectors = self.queries.concat();
        let many = snapshot.nns(TOP).by_vectors(&vectors).unwrap();
        all.extend(many.into_iter().map(|hits| ("snapshot", hits.into_vec())));
        all
    }
}

/// Builds in several commits. Meanwhile an item changes in its tail alone.
fn build_while_a_tail_changes(store: &Store, metric: Metric) {
    const ID: u32 = 21;
    let writer = Writer::open(&store.env.read_txn().unwrap(), store.db, 0).unwrap();
    let vector_of = |id| {
        let rtxn = store.env.read_txn().unwrap();
        Reader::open(&rtxn, store.db, 0).unwrap().item_vector(id).unwrap().unwrap()
    };
    let mut changed = vector_of(ID);
    let end = changed.len() - 8;
    if metric == Metric::Hamming {
        let at = |x| end - 200 + changed[end - 200..].iter().position(|y| *y == x).unwrap();
        let (zero, one) = (at(0.0), at(1.0));
        changed.swap(zero, one);
    } else {
        changed[end] = -changed[end];
    }
    let first = AtomicBool::new(true);
    let progress = |_: &Progress| {
        if first.swap(false, Ordering::Relaxed) {
            let mut wtxn = store.env.write_txn().unwrap();
            writer.add_item(&mut wtxn, ID, &changed).unwrap();
            wtxn.commit().unwrap();
        }
        ControlFlow::Continue(())
    };
    let options = BuildOptions::default().bytes_per_commit(1 << 20).progress(&progress);
    writer.build_in_commits(&store.env, &options).unwrap();
    assert_eq!(vector_of(ID), changed);
    let rtxn = store.env.read_txn().unwrap();
    assert_eq!(writer.pending_len(&rtxn).unwrap(), 1, "the forest has another tail");
}

/// A pair of indexes of so many items, built, with pending items of all kinds.
fn twins(metric: Metric, dims: usize, items: u32, rng: &mut Rng) -> Twins {
    let storage = if metric == Metric::Hamming { Storage::Bits } else { Storage::F32 };
    let stores = [(); 2].map(|()| Store::with_map_size(MAP_SIZE));
    let rows: Vec<Vec<f32>> = (0..items + 8).map(|_| clustered_row(metric, dims, rng)).collect();
    for store in &stores {
        let mut wtxn = store.env.write_txn().unwrap();
        let options = IndexOptions::new(dims, metric).storage(storage);
        let writer = Writer::open_or_create(&mut wtxn, store.db, 0, &options).unwrap();
        let ids: Vec<u32> = (0..items).map(|i| 3 * i).collect();
        writer.add_items(&mut wtxn, &ids, &rows[..items as usize].concat()).unwrap();
        writer.build(&mut wtxn, &BuildOptions::default().leaf_size(32)).unwrap();
        for (i, row) in (0..).zip(&rows[items as usize..]) {
            writer.add_item(&mut wtxn, 30 * i + i % 2, row).unwrap();
            writer.del_item(&mut wtxn, 30 * i + 3).unwrap();
        }
        wtxn.commit().unwrap();
    }
    let mut wtxn = stores[1].env.write_txn().unwrap();
    age(&stores[1], &mut wtxn);
    wtxn.commit().unwrap();
    let queries = (0..3).map(|_| clustered_row(metric, dims, rng)).collect();
    Twins { stores, metric, storage, dims, queries, example: 6 }
}

fn live_together(metric: Metric, dims: usize, items: u32, rng: &mut Rng) {
    let twins = twins(metric, dims, items, rng);
    // Each of eight was overwritten or added, and each of eight deleted.
    let [cut, whole] = twins.tails();
    assert_eq!((cut, whole), (items as usize + 4 - 8, 0));
    twins.check("with pending items");

    let build = BuildOptions::default();
    let method = twins.change(|writer, wtxn| writer.build(wtxn, &build).unwrap().method);
    assert_eq!(method, BuildMethod::Incremental);
    twins.check("built");
    let whole_bytes = twins.stores[1].content();
    assert!(whole_bytes.values(TAIL, 0).is_empty(), "a build writes no items");

    // What is written is cut, and what is deleted has no tail.
    let rows: Vec<Vec<f32>> = (0..6).map(|_| clustered_row(metric, dims, rng)).collect();
    twins.change(|writer, wtxn| {
        (0..).zip(&rows).for_each(|(i, row)| writer.add_item(wtxn, 6 * i, row).unwrap());
        [12, 300, 600].map(|id| writer.del_item(wtxn, id).unwrap())
    });
    assert_eq!(twins.tails()[1], 6 - 1);
    twins.check("overwritten");
    let calibrated =
        twins.change(|writer, wtxn| writer.calibrate(wtxn, &twins.queries.concat()).unwrap());
    assert_eq!(calibrated, items > 1000 && metric != Metric::Hamming);

    // Sorted runs go to temporary files.
    let folder = tempfile::tempdir().unwrap();
    let small = build.rebuild(true).memory(1).temp_dir(folder.path());
    twins.change(|writer, wtxn| writer.build(wtxn, &small).unwrap().items);
    twins.check("built anew");

    twins.change(|writer, wtxn| {
        writer.add_item(wtxn, 9, &rows[0]).unwrap();
        writer.del_item(wtxn, 15).unwrap()
    });
    for store in &twins.stores {
        build_while_a_tail_changes(store, metric);
    }
    twins.check("built in commits");

    if metric != Metric::Hamming {
        for storage in [Storage::I8, twins.storage] {
            twins.change(|writer, wtxn| writer.convert(wtxn, storage).unwrap());
            twins.check("converted");
            // Nothing tells any more which of them was whole.
            let [cut, whole] = twins.stores.each_ref().map(Store::content);
            cut.assert_same(&whole, "after a conversion");
        }
    }
    twins.change(|writer, wtxn| writer.clear(wtxn).unwrap());
    assert_eq!(twins.tails(), [0, 0]);
    assert!(twins.stores.iter().all(|store| store.content().0.len() == 1));
    assert!(twins.dims > 1000);
}

#[test]
fn whole_items_and_cut_ones_give_the_same_answers() {
    let seed = Seed::new(1910);
    for metric in [Metric::Euclidean, Metric::Cosine] {
        live_together(metric, 1024, 1300, &mut seed.rng(metric as u64));
    }
}

#[test]
fn whole_bits_and_cut_ones_give_the_same_answers() {
    live_together(Metric::Hamming, 32_768, 250, &mut Seed::new(1911).rng(0));
}
