//! An index to be built with options.

use spinney::heed::RwTxn;
use spinney::{BuildMethod, BuildOptions, Error, IndexOptions, IndexStats, Metric, Reader, Writer};

use crate::support::*;

const DIMS: usize = 20;

/// An index of `n` items in a transaction that is never committed.
pub struct Subject<'e> {
    pub wtxn: RwTxn<'e>,
    store: &'e Store,
    pub writer: Writer,
    pub items: Items,
}

impl<'e> Subject<'e> {
    pub fn new(store: &'e Store, metric: Metric, n: usize) -> Self {
        let rows = vectors(&mut Seed::new(50).rng(n as u64), metric, DIMS, n, Spread::Clusters);
        let mut wtxn = store.env.write_txn().unwrap();
        let writer =
            Writer::open_or_create(&mut wtxn, store.db, 0, &IndexOptions::new(DIMS, metric))
                .unwrap();
        let items: Items = (0u32..).zip(rows).collect();
        add_all(&writer, &mut wtxn, &items);
        Self { wtxn, store, writer, items }
    }

    pub fn build(&mut self, options: &BuildOptions<'_>) -> Result<BuildMethod, Error> {
        self.writer.build(&mut self.wtxn, options).map(|stats| stats.method)
    }

    /// Makes the next build necessary.
    pub fn touch(&mut self) {
        let (id, row) = self.items.iter().next().expect("there are items");
        self.writer.add_item(&mut self.wtxn, *id, row).unwrap();
    }

    pub fn reader(&self) -> Reader<'_> {
        Reader::open(&self.wtxn, self.store.db, 0).unwrap()
    }

    pub fn stats(&self) -> IndexStats {
        self.reader().stats().unwrap()
    }

    /// The shape of the forest as it was recorded.
    pub fn shape(&self) -> (usize, bool, usize, u8) {
        let stats = self.stats();
        (stats.trees, stats.spill, stats.leaf_size, stats.sketch_bits)
    }

    /// Asks with all knobs of a search at their ends.
    pub fn check_answers(&self) {
        let reader = self.reader();
        let metric = reader.metric();
        let query = uniform(&mut Seed::new(51).rng(0), metric, DIMS);
        let ranked = ranked(metric, &self.items, &query);
        for search_k in [None, Some(0), Some(1), Some(usize::MAX)] {
            for oversampling in [None, Some(1.0), Some(1000.0)] {
                let ask = Ask { search_k, oversampling, ..Ask::new(10) };
                ask.check(metric, &ranked, &ask.apply(reader.nns(10)).by_vector(&query).unwrap());
            }
        }
        let ask = Ask { search_k: Some(usize::MAX), oversampling: Some(50.0), ..Ask::new(10) };
        ask.check_nearest(metric, &ranked, &ask.apply(reader.nns(10)).by_vector(&query).unwrap());
    }
}
