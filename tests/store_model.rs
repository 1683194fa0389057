//! The law of a store: whatever is done to it through names, transactions and snapshots, it holds
//! what a map would hold, and everything that is kept answers as before.
#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use rand::RngExt;
use rand::seq::IteratorRandom;
use spinney::heed::types::{Str, U32};
use spinney::heed::{self, byteorder::BigEndian};
use spinney::{
    BuildOptions, Durability, Error, Hit, Index, IndexOptions, Metric, Reads, Store, StoreSnapshot,
};
use support::*;

const DIMS: usize = 6;
const STEPS: usize = 500;
const METRIC: Metric = Metric::Euclidean;

type Table = heed::Database<'static, U32<BigEndian>, Str>;

/// What a store should hold.
#[derive(Clone, Default)]
struct Model {
    indexes: BTreeMap<String, Items>,
    table: BTreeMap<u32, String>,
}

/// A snapshot, with what it has to show.
struct Held {
    snapshot: StoreSnapshot,
    model: Model,
    indexes: BTreeMap<String, Index>,
}

struct World<'d> {
    folder: &'d Path,
    store: Store,
    table: Table,
    handles: BTreeMap<String, Index>,
    model: Model,
    held: Vec<Held>,
    /// The map is too small, and grows: it cannot while a snapshot is held.
    grows: bool,
}

/// Opens with any options that keep the promises of the test.
fn open(folder: &Path, grows: bool, rng: &mut Rng) -> Store {
    let map = if grows { 1 << rng.random_range(18..22) } else { 1 << 30 };
    let durability = [Durability::Full, Durability::LoseLastCommit, Durability::None];
    Store::options()
        .map_size(map)
        .map_limit(1 << 30)
        .durability(durability[rng.random_range(0..3)])
        .search_threads(rng.random_range(1..4))
        .read_ahead(rng.random())
        .open(folder)
        .unwrap()
}

impl<'d> World<'d> {
    fn new(folder: &'d Path, rng: &mut Rng) -> Self {
        let grows = rng.random();
        let store = open(folder, grows, rng);
        let table = store.table("host").unwrap();
        let (handles, model, held) = Default::default();
        Self { folder, store, table, handles, model, held, grows }
    }

    fn step(&mut self, rng: &mut Rng) {
        match rng.random_range(0..100) {
            0..=59 => self.write(rng),
            60..=67 => self.create(rng),
            68..=70 => self.delete(rng),
            71..=73 => self.rename(rng),
            74..=79 => self.hold(),
            80..=89 => drop((!self.held.is_empty()).then(|| self.held.swap_remove(0))),
            90..=92 => self.reopen(rng),
            _ => self.check(rng),
        }
    }

    fn any(&self, rng: &mut Rng) -> Option<(String, Index)> {
        let (name, index) = self.handles.iter().choose(rng)?;
        Some((name.clone(), index.clone()))
    }

    /// One transaction of changes to an index and to the table, which may be given up.
    fn write(&mut self, rng: &mut Rng) {
        let Some((name, index)) = self.any(rng) else { return };
        if self.grows {
            self.held.clear();
        }
        let changes: Vec<(u32, Option<Vec<f32>>)> = (0..rng.random_range(1..60))
            .map(|_| {
                let row = rng.random_bool(0.7).then(|| clustered_row(METRIC, DIMS, rng));
                (rng.random_range(0..400), row)
            })
            .collect();
        let (gives_up, builds) = (rng.random_bool(0.15), rng.random_bool(0.2));
        let text = "x".repeat(rng.random_range(0..3000));
        let key = rng.random_range(0..50);
        let before = self.model.clone();
        let mut model = self.model.clone();
        let table = self.table;
        let done = self.store.write(|txn| {
            model = before.clone();
            let items = model.indexes.get_mut(&name).unwrap();
            for (id, row) in &changes {
                match row {
                    Some(row) => {
                        index.add_item(txn, *id, row)?;
                        items.insert(*id, row.clone());
                    }
                    None => assert_eq!(index.del_item(txn, *id)?, items.remove(id).is_some()),
                }
            }
            table.put(txn.as_heed_mut(), &key, &text)?;
            model.table.insert(key, text.clone());
            if builds {
                index.build(txn, &BuildOptions::default().leaf_size(32))?;
            }
            let len = txn.with_reader(&index, |reader| Ok::<_, Error>(reader.len()))?;
            assert_eq!(len, items.len() as u64);
            if gives_up { Err(Error::NestedWrite) } else { Ok(()) }
        });
        match done {
            Ok(()) => self.model = model,
            Err(Error::NestedWrite) if gives_up => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn create(&mut self, rng: &mut Rng) {
        let name = format!("index {}", rng.random_range(0..6));
        let index = self.store.index(&name, &IndexOptions::new(DIMS, METRIC)).unwrap();
        let limit = [None, Some(0), Some(30), Some(1000)][rng.random_range(0..4)];
        self.store.set_build_after(&name, limit).unwrap();
        self.model.indexes.entry(name.clone()).or_default();
        self.handles.insert(name, index);
    }

    fn delete(&mut self, rng: &mut Rng) {
        let Some((name, index)) = self.any(rng) else { return };
        assert!(self.store.delete_index(&name).unwrap());
        self.model.indexes.remove(&name);
        self.handles.remove(&name);
        let written = self.store.write(|txn| index.add_item(txn, 1, &[0.0; DIMS]));
        assert!(matches!(written, Err(Error::IndexNotFound { .. })));
    }

    fn rename(&mut self, rng: &mut Rng) {
        let Some((name, index)) = self.any(rng) else { return };
        let new = format!("index {}", rng.random_range(0..6));
        match self.store.rename(&name, &new) {
            Ok(()) => {
                let items = self.model.indexes.remove(&name).unwrap();
                self.handles.remove(&name);
                self.model.indexes.insert(new.clone(), items);
                self.handles.insert(new, index);
            }
            Err(Error::NameTaken(taken)) => {
                assert!(taken == new && new != name && self.model.indexes.contains_key(&new));
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn hold(&mut self) {
        let snapshot = self.store.snapshot().unwrap();
        let (model, indexes) = (self.model.clone(), self.handles.clone());
        self.held.push(Held { snapshot, model, indexes });
    }

    fn reopen(&mut self, rng: &mut Rng) {
        self.held.clear();
        let same = Store::options().open(self.folder);
        // As long as it is open, it is the same store, or refuses to be.
        assert!(matches!(same, Ok(_) | Err(Error::OpenOtherwise("durability"))));
        drop(same);
        let closed = Store::options().create(false).open(self.folder.join("elsewhere"));
        assert!(matches!(closed, Err(Error::StoreNotFound(_))));
        let file = self.folder.join("unused");
        self.store = Store::options().single_file(true).open(file).unwrap();
        self.grows = rng.random();
        self.store = open(self.folder, self.grows, rng);
        self.table = self.store.table("host").unwrap();
    }

    fn check(&self, rng: &mut Rng) {
        let names: Vec<&String> = self.model.indexes.keys().collect();
        assert!(self.store.indexes().unwrap().iter().eq(names));
        check(&self.store, &self.model, &self.handles, rng);
        for Held { snapshot, model, indexes } in &self.held {
            check(snapshot, model, indexes, rng);
        }
        self.store
            .read(|txn| {
                check(txn, &self.model, &self.handles, rng);
                let rows = self.table.iter(txn.as_heed())?.collect::<heed::Result<Vec<_>>>()?;
                let model = self.model.table.iter().map(|(key, text)| (*key, text.as_str()));
                assert!(rows.into_iter().eq(model));
                Ok::<_, Error>(())
            })
            .unwrap();
    }
}

fn check(source: &impl Reads, model: &Model, indexes: &BTreeMap<String, Index>, rng: &mut Rng) {
    let Some((name, index)) = indexes.iter().choose(rng) else { return };
    let items = &model.indexes[name];
    let query = clustered_row(METRIC, DIMS, rng);
    let ranked = ranked(METRIC, items, &query);
    source
        .with_reader(index, |reader| {
            assert_sound(reader, name);
            assert_items(reader, items);
            let all: Vec<Hit> = reader.nns(items.len().max(1)).by_vector(&query)?.into_vec();
            Ask::new(items.len().max(1)).check_exact(METRIC, &ranked, &all);
            Ask::new(5).check(METRIC, &ranked, &reader.nns(5).by_vector(&query)?);
            Ok::<_, Error>(())
        })
        .unwrap();
}

#[test]
fn a_store_holds_what_a_map_would() {
    let worlds = if is_long() { 10_000 } else { 40 };
    play_worlds(700, worlds, |mut rng| {
        let folder = tempfile::tempdir().unwrap();
        let mut world = World::new(folder.path(), &mut rng);
        for _ in 0..STEPS {
            world.step(&mut rng);
        }
        world.check(&mut rng);
    });
}
