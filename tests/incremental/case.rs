//! An index under change, with what it should hold.

use rand::RngExt;
use spinney::heed::RwTxn;
use spinney::{BuildMethod, BuildOptions, BuildStats, IndexOptions, Metric, Reader, Writer};

use crate::support::raw::{RECORD, key};
use crate::support::*;

pub const DIMS: usize = 12;

/// An index under change, what it should hold, and the one transaction in which everything happens.
pub struct Case<'a> {
    pub store: &'a Store,
    pub wtxn: RwTxn<'a>,
    pub writer: Writer,
    pub metric: Metric,
    pub items: Items,
    pub rng: Rng,
}

impl<'a> Case<'a> {
    pub fn new(store: &'a Store, metric: Metric, rng: Rng) -> Self {
        let mut wtxn = store.env.write_txn().unwrap();
        let writer =
            Writer::open_or_create(&mut wtxn, store.db, 3, &IndexOptions::new(DIMS, metric))
                .unwrap();
        Self { store, wtxn, writer, metric, items: Items::new(), rng }
    }

    /// `n` items, built in bulk.
    pub fn built(
        store: &'a Store,
        metric: Metric,
        rng: Rng,
        n: usize,
        options: &BuildOptions<'_>,
    ) -> Self {
        let mut case = Self::new(store, metric, rng);
        let rows = vectors(&mut case.rng, metric, DIMS, n, Spread::Clusters);
        case.items = (0u32..).zip(rows).collect();
        add_all(&case.writer, &mut case.wtxn, &case.items);
        assert_eq!(case.build_with(options).method, BuildMethod::Bulk);
        case
    }

    pub fn put(&mut self, id: u32, row: Vec<f32>) {
        self.writer.add_item(&mut self.wtxn, id, &row).unwrap();
        self.items.insert(id, row);
    }

    pub fn delete(&mut self, id: u32) {
        assert_eq!(
            self.writer.del_item(&mut self.wtxn, id).unwrap(),
            self.items.remove(&id).is_some()
        );
    }

    pub fn any(&mut self) -> u32 {
        *self.items.keys().nth(self.rng.random_range(0..self.items.len())).unwrap()
    }

    pub fn vector(&mut self) -> Vec<f32> {
        match self.rng.random_bool(0.7) && !self.items.is_empty() {
            true => {
                let id = self.any();
                near(&mut self.rng, self.metric, &self.items[&id])
            }
            false => uniform(&mut self.rng, self.metric, DIMS),
        }
    }

    pub fn build_with(&mut self, options: &BuildOptions<'_>) -> BuildStats {
        let stats = self.writer.build(&mut self.wtxn, options).unwrap();
        assert_eq!(stats.items, self.items.len() as u64);
        assert_eq!(self.writer.pending_len(&self.wtxn).unwrap(), 0);
        stats
    }

    pub fn build(&mut self) -> BuildStats {
        self.build_with(&BuildOptions::default())
    }

    /// Sound, of the right items, and right in all its answers.
    pub fn check(&mut self, what: &str) {
        let query = self.vector();
        let reader = Reader::open(&self.wtxn, self.store.db, 3).unwrap();
        assert_sound(&reader, &format!("{}, {what}", self.metric));
        assert_items(&reader, &self.items);
        let ranked = ranked(self.metric, &self.items, &query);
        for k in [10, self.items.len()] {
            Ask::new(k).check(self.metric, &ranked, &reader.nns(k).by_vector(&query).unwrap());
        }
    }

    /// Root, height, next leaf, next branch, leaves and branches of a tree.
    pub fn tree(&self, tree: usize) -> [u32; 6] {
        let record = self.store.raw.get(&self.wtxn, key(3, RECORD, 0, 0));
        let at = |field: usize| 64 + 32 * tree + 4 * field;
        [0, 1, 2, 3, 4, 5]
            .map(|field| u32::from_le_bytes(record[at(field)..at(field) + 4].try_into().unwrap()))
    }
}
