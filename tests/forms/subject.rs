//! Indexes in all states that a question can meet.

use rand::seq::IndexedRandom;
use spinney::heed::RwTxn;
use spinney::{BuildMethod, BuildOptions, IndexOptions, Metric, Reader, Writer};

use crate::question::DIMS;
use crate::support::*;

/// What has happened to an index.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum State {
    Empty,
    One,
    /// Below the size up to which everything is compared.
    Small,
    SmallBuilt,
    /// Above it.
    Unbuilt,
    Bulk,
    /// Several trees, small leaves.
    Grove,
    /// Grown by builds of some items at a time.
    Grown,
    /// Built, then some items added, overwritten and deleted.
    Changed,
    /// Built while it had a few items, so that the root is a leaf, and grown since.
    Sprout,
    /// All items deleted since the build, but for the last few.
    Felled,
}

pub const STATES: [State; 11] = [
    State::Empty,
    State::One,
    State::Small,
    State::SmallBuilt,
    State::Unbuilt,
    State::Bulk,
    State::Grove,
    State::Grown,
    State::Changed,
    State::Sprout,
    State::Felled,
];

/// An index under test in a write transaction, and what it should hold.
pub struct Subject<'e> {
    wtxn: RwTxn<'e>,
    store: &'e Store,
    writer: Writer,
    pub metric: Metric,
    pub items: Items,
}

impl<'e> Subject<'e> {
    pub fn new(store: &'e Store, metric: Metric, dims: usize) -> Self {
        let mut wtxn = store.env.write_txn().unwrap();
        let writer =
            Writer::open_or_create(&mut wtxn, store.db, 0, &IndexOptions::new(dims, metric))
                .unwrap();
        Self { wtxn, store, writer, metric, items: Items::new() }
    }

    pub fn in_state(store: &'e Store, metric: Metric, state: State, rng: &mut Rng) -> Self {
        let mut subject = Self::new(store, metric, DIMS);
        let spread = *[Spread::Clusters, Spread::Clusters, Spread::Uniform, Spread::Duplicates]
            .choose(rng)
            .unwrap();
        let usual = BuildOptions::default().leaf_size(64);
        match state {
            State::Empty => {}
            State::One => subject.add(rng, 1, spread),
            State::Small => subject.add(rng, 90, spread),
            State::SmallBuilt => {
                subject.add(rng, 600, spread);
                subject.build(&usual);
            }
            State::Unbuilt => subject.add(rng, 1_100, spread),
            State::Bulk => {
                subject.add(rng, 2_000, spread);
                subject.build(&BuildOptions::default());
            }
            State::Grove => {
                subject.add(rng, 1_500, spread);
                subject.build(
                    &BuildOptions::default().trees(3).spill(true).leaf_size(32).sketch_bits(1),
                );
            }
            State::Grown => {
                for _ in 0..6 {
                    subject.add(rng, 300, spread);
                    subject.build(&usual);
                }
            }
            State::Changed => {
                subject.add(rng, 1_500, spread);
                subject.build(&usual);
                subject.change(rng, 150);
            }
            State::Sprout => {
                subject.add(rng, 30, spread);
                subject.build(&usual);
                subject.add(rng, 1_200, spread);
            }
            State::Felled => {
                subject.add(rng, 1_200, spread);
                subject.build(&usual);
                let ids: Vec<u32> = subject.items.keys().copied().skip(5).collect();
                ids.into_iter().for_each(|id| subject.delete(id));
            }
        }
        subject
    }

    pub fn add_rows(&mut self, rows: Items) {
        add_all(&self.writer, &mut self.wtxn, &rows);
        self.items.extend(rows);
    }

    /// Adds so many new items with ids anywhere.
    fn add(&mut self, rng: &mut Rng, n: usize, spread: Spread) {
        let rows = vectors(rng, self.metric, self.writer.dims(), n, spread);
        let fresh = ids(rng, n + 2, true).into_iter().filter(|id| !self.items.contains_key(id));
        let rows: Items = fresh.zip(rows).take(n).collect();
        self.add_rows(rows);
    }

    pub fn build(&mut self, options: &BuildOptions<'_>) -> BuildMethod {
        self.writer.build(&mut self.wtxn, options).unwrap().method
    }

    fn delete(&mut self, id: u32) {
        assert!(self.writer.del_item(&mut self.wtxn, id).unwrap());
        self.items.remove(&id);
    }

    /// Adds, overwrites and deletes so many items of each.
    pub fn change(&mut self, rng: &mut Rng, n: usize) {
        let old: Vec<u32> = self.items.keys().copied().collect();
        let touched: Vec<u32> = old.sample(rng, 2 * n).copied().collect();
        touched[..n].iter().for_each(|id| self.delete(*id));
        let rows = vectors(rng, self.metric, self.writer.dims(), n, Spread::Clusters);
        self.add_rows(touched[n..].iter().copied().zip(rows).collect());
        self.add(rng, n, Spread::Clusters);
    }

    pub fn reader(&self) -> Reader<'_> {
        Reader::open(&self.wtxn, self.store.db, 0).unwrap()
    }

    pub fn commit(self) -> Items {
        self.wtxn.commit().unwrap();
        self.items
    }
}
