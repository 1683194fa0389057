//! A build that is cancelled, panics or runs out of map at any point leaves everything as it was.
//! The next one makes up for it.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation
)]

#[path = "cancel/full_map.rs"]
mod full_map;
#[path = "cancel/interruptions.rs"]
mod interruptions;
#[path = "cancel/progress.rs"]
mod progress;
mod support;

use rand::RngExt;
use spinney::heed::RwTxn;
use spinney::{BuildOptions, Metric, Reader, Writer};
use support::*;

const DIMS: usize = 12;
const ITEMS: usize = 1_100;
const MAP_BYTES: usize = 256 << 20;

/// An index in an environment of its own.
struct Fixture {
    store: Store,
    writer: Writer,
    metric: Metric,
    seed: u64,
    /// Small leaves and changes that call for every phase of an incremental build; else every build
    /// is in bulk.
    is_incremental: bool,
}

impl Fixture {
    /// Items that are committed and not built.
    fn new(metric: Metric, seed: u64) -> Self {
        let store = Store::with_map_size(MAP_BYTES);
        let writer = store.create_index(DIMS, metric);
        let mut wtxn = store.env.write_txn().unwrap();
        let ids: Vec<u32> = (0..ITEMS as u32).collect();
        writer
            .add_items(&mut wtxn, &ids, &clustered_rows(metric, DIMS, ITEMS, &mut rng(seed)))
            .unwrap();
        wtxn.commit().unwrap();
        Self { store, writer, metric, seed, is_incremental: false }
    }

    /// A forest of small leaves.
    fn incremental(metric: Metric, seed: u64) -> Self {
        let fixture = Self { is_incremental: true, ..Self::new(metric, seed) };
        fixture.commit_build(&fixture.options());
        fixture
    }

    fn options(&self) -> BuildOptions<'static> {
        let options = options();
        if self.is_incremental {
            options.leaf_size(32).sketch_bits(2)
        } else {
            options.rebuild(true)
        }
    }

    fn wtxn(&self) -> RwTxn<'_> {
        self.store.env.write_txn().unwrap()
    }

    /// Adds, overwrites and deletes a few items; what exactly follows from `step`.
    fn change(&self, wtxn: &mut RwTxn<'_>, step: usize) {
        let mut rng = rng(self.seed ^ (step as u64 + 1) << 20);
        for _ in 0..6 {
            let id = rng.random_range(0..ITEMS as u32 + 100);
            self.writer.add_item(wtxn, id, &clustered_row(self.metric, DIMS, &mut rng)).unwrap();
            self.writer.del_item(wtxn, rng.random_range(0..ITEMS as u32 + 100)).unwrap();
        }
        if self.is_incremental {
            // A region goes, so that leaves merge, and another is filled, so that leaves split.
            let (gone, filled) = (
                clustered_row(self.metric, DIMS, &mut rng),
                clustered_row(self.metric, DIMS, &mut rng),
            );
            let reader = Reader::open(wtxn, self.store.db, 0).unwrap();
            let near = reader.nns(50).exact().by_vector(&gone).unwrap();
            near.iter().for_each(|hit| assert!(self.writer.del_item(wtxn, hit.id).unwrap()));
            for id in near.iter().map(|hit| hit.id) {
                let mut vector = filled.clone();
                let at = rng.random_range(0..DIMS);
                vector[at] = if self.metric == Metric::Hamming {
                    1.0 - vector[at]
                } else {
                    vector[at] + 0.1
                };
                self.writer.add_item(wtxn, id, &vector).unwrap();
            }
        }
    }

    fn commit_build(&self, options: &BuildOptions<'_>) {
        let mut wtxn = self.wtxn();
        self.writer.build(&mut wtxn, options).unwrap();
        wtxn.commit().unwrap();
    }
}

fn options() -> BuildOptions<'static> {
    BuildOptions::default().trees(2).leaf_size(500).sketch_bits(1)
}
