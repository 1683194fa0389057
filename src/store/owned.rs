//! A transaction together with the readers that borrow it.
//!
//! A reader remembers where the nodes and the items are that it has met. This makes the next search
//! faster. To outlive one call it has to be kept beside its transaction.

#![allow(unsafe_code)]

use std::collections::BTreeMap;

use heed::{RoTxn, WithoutTls};

use crate::error::Result;
use crate::lmdb::database::Database;
use crate::reader::Reader;
use crate::store::environment::OwnedTxn;
use crate::store::live::Counted;

type Txn = RoTxn<'static, WithoutTls>;

/// The readers of one transaction, by the numbers of their indexes.
#[derive(Default)]
struct Readers<'t> {
    open: BTreeMap<u16, Reader<'t>>,
}

self_cell::self_cell!(
    struct Kept {
        owner: Txn,
        #[not_covariant]
        dependent: Readers,
    }
);

/// A transaction with its readers: one thread at a time searches with it, any thread.
pub(crate) struct Lane {
    /// Ends before its count does.
    kept: Kept,
    _counted: Counted,
}

// SAFETY: the transaction is one that may move between threads, and `is_send` below holds it to
// that. The readers borrow it, and it is dropped with them: all of it moves at once. They hold
// cells, slices of the map and numbers, and nothing that knows its thread. No reference to a reader
// leaves a call of `with_reader`, whose work cannot give one away. The test
// `lanes_search_on_other_threads` moves one while it is warm.
unsafe impl Send for Lane {}

/// What `Lane` builds on.
#[allow(dead_code)]
fn is_send(txn: Txn, counted: Counted) -> impl Send {
    (txn, counted)
}

impl Lane {
    pub(crate) fn new(OwnedTxn { txn, counted }: OwnedTxn) -> Self {
        Self { kept: Kept::new(txn, |_| Readers::default()), _counted: counted }
    }

    /// LMDB's number of the commit that is read.
    pub(crate) fn commit(&self) -> usize {
        self.kept.borrow_owner().id()
    }

    pub(crate) fn with_txn<R>(&mut self, work: impl FnOnce(&RoTxn<'_>) -> R) -> R {
        work(self.kept.borrow_owner())
    }

    /// Opens the reader of an index, unless it is kept, and works with it.
    pub(crate) fn with_reader<R>(
        &mut self,
        db: Database,
        index: u16,
        work: impl FnOnce(&Reader<'_>) -> R,
    ) -> Result<R> {
        self.kept.with_dependent_mut(|txn, readers| {
            if let Some(reader) = readers.open.get(&index) {
                return Ok(work(reader));
            }
            let reader = Reader::open(txn, db, index)?;
            Ok(work(readers.open.entry(index).or_insert(reader)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IndexOptions, Metric, Store};

    /// What a lane has read on one thread, another reads on.
    #[test]
    fn lanes_search_on_other_threads() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let index = store.index("a", &IndexOptions::new(1, Metric::Euclidean)).unwrap();
        let vectors: Vec<f32> = (0..2000u16).map(f32::from).collect();
        let ids: Vec<u32> = (0..2000).collect();
        store.write(|txn| index.add_items(txn, &ids, &vectors)).unwrap();
        let db = store.database();
        let mut lane = Lane::new(store.inner.environment.read_owned().unwrap());
        for round in 0..8u16 {
            lane = std::thread::spawn(move || {
                for query in 0..100 {
                    let vector = [f32::from(round * 200 + query)];
                    let hits = lane.with_reader(db, 0, |reader| reader.nns(1).by_vector(&vector));
                    assert_eq!(hits.unwrap().unwrap()[0].id, u32::from(round * 200 + query));
                }
                lane
            })
            .join()
            .unwrap();
        }
        // It may be dropped anywhere, after the store.
        drop(store);
        std::thread::spawn(move || drop(lane)).join().unwrap();
    }
}
