//! What handles print: which index they are on, and nothing of their insides.

use std::fmt::{Debug, Formatter, Result};

use crate::lmdb::database::Database;
use crate::lmdb::hosted::UncommittedDatabase;
use crate::merged::{Merged, Readers};
use crate::query::{Neighbours, Pages, Single};
use crate::reader::Reader;
use crate::snapshot::Snapshot;
use crate::snapshot::batch::Many;
use crate::writer::Writer;

/// Types that print their names alone.
macro_rules! print_names {
    ($($name:literal: $handle:ty;)*) => { $(
        impl Debug for $handle {
            fn fmt(&self, f: &mut Formatter<'_>) -> Result {
                f.debug_struct($name).finish_non_exhaustive()
            }
        }
    )* };
}

print_names! {
    "Database": Database;
    "UncommittedDatabase": UncommittedDatabase<'_>;
    "Pages": Pages<'_>;
    "Neighbours": Neighbours<'_>;
    "Readers": Readers<'_>;
    "Single": Single<'_>;
    "Merged": Merged<'_>;
    "Many": Many<'_>;
}

impl Debug for Writer {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Writer")
            .field("index", &self.index())
            .field("dims", &self.dims())
            .field("metric", &self.metric())
            .finish_non_exhaustive()
    }
}

impl Debug for Reader<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Reader")
            .field("index", &self.index())
            .field("dims", &self.dims())
            .field("metric", &self.metric())
            .field("items", &self.len())
            .field("pending", &self.pending_len())
            .finish_non_exhaustive()
    }
}

impl Debug for Snapshot<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Snapshot")
            .field("index", &self.index())
            .field("dims", &self.dims())
            .field("metric", &self.metric())
            .field("items", &self.len())
            .field("workers", &self.workers())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::lmdb::database::temporary;
    use crate::{Database, IndexOptions, Metric, Reader, Snapshot, Writer};

    #[test]
    fn handles_print_which_index_they_are_on() {
        let (_folder, env) = temporary(200);
        let db = Database::open_or_create(&env).unwrap();
        let mut wtxn = env.write_txn().unwrap();
        let options = IndexOptions::new(2, Metric::Cosine);
        let writer = Writer::open_or_create(&mut wtxn, db, 3, &options).unwrap();
        writer.add_item(&mut wtxn, 1, &[1.0, 0.0]).unwrap();
        wtxn.commit().unwrap();
        let rtxn = env.read_txn().unwrap();
        let reader = Reader::open(&rtxn, db, 3).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let snapshot = Snapshot::open_in(&env, db, 3, &pool).unwrap();
        let printed = [
            format!("{db:?}"),
            format!("{writer:?}"),
            format!("{reader:?}"),
            format!("{snapshot:?}"),
        ];
        assert_eq!(
            printed,
            [
                "Database { .. }",
                "Writer { index: 3, dims: 2, metric: Cosine, .. }",
                "Reader { index: 3, dims: 2, metric: Cosine, items: 1, pending: 1, .. }",
                "Snapshot { index: 3, dims: 2, metric: Cosine, items: 1, workers: 2, .. }",
            ]
        );
    }
}
