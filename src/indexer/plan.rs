//! What a build has computed, and writing it.

use heed::RwTxn;

use crate::calibrate::truth::Truth;
use crate::error::{Error, Result};
use crate::format::origin::origin_value;
use crate::format::record::Record;
use crate::indexer::nodes::Nodes;
use crate::key::{Key, Kind, trees_of};
use crate::lmdb::database::Database;

/// Everything a build will write.
pub(crate) struct BuildPlan {
    pub(crate) record: Record,
    /// A new origin, or `None` to keep the one there is.
    pub(crate) origin: Option<Vec<f32>>,
    /// Whether the old forest and all pending marks go first.
    pub(crate) is_anew: bool,
    pub(crate) nodes: Nodes,
    pub(crate) deletes: Vec<Key>,
    /// What the forest is calibrated with once it is written.
    pub(crate) truth: Option<Truth>,
}

/// Writes a plan, and deletes what builds in several commits may have left behind.
///
/// LMDB refuses to commit a transaction in which it failed. If a temporary file fails, the index is
/// left without a forest.
pub(super) fn write(
    db: Database,
    wtxn: &mut RwTxn<'_>,
    index: u16,
    plan: BuildPlan,
) -> Result<Option<Truth>> {
    let BuildPlan { record, origin, is_anew, nodes, deletes, truth } = plan;
    if is_anew {
        delete_forest(db, wtxn, index)?;
    } else {
        let remains = trees_of(record.other_generation());
        for kind in Kind::FOREST {
            db.delete_range(wtxn, Key::trees(index, kind, &remains))?;
        }
    }
    if let Some(origin) = &origin {
        db.put(wtxn, Key::origin(index, record.generation), &origin_value(origin))?;
    }
    for key in &deletes {
        db.delete(wtxn, *key)?;
    }
    let mut entries = nodes.into_entries();
    let put =
        |entry: Result<(Key, Vec<u8>)>| entry.and_then(|(key, value)| db.put(wtxn, key, &value));
    if let Err(error) = entries.try_for_each(put) {
        if matches!(error, Error::TemporaryFile { .. }) {
            delete_forest(db, wtxn, index)?;
            db.put(wtxn, Key::record(index), &record.without_forest().to_bytes())?;
        }
        return Err(error);
    }
    db.put(wtxn, Key::record(index), &record.to_bytes())?;
    Ok(truth)
}

/// Deletes the origin, all nodes and the pending marks.
fn delete_forest(db: Database, wtxn: &mut RwTxn<'_>, index: u16) -> Result<()> {
    db.delete_kind(wtxn, index, Kind::Pending)?;
    Kind::FOREST.into_iter().try_for_each(|kind| db.delete_kind(wtxn, index, kind))
}

#[cfg(test)]
mod tests {
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::indexer::bulk;
    use crate::indexer::shape::Shape;
    use crate::lmdb::database::temporary;
    use crate::lmdb::workers::Workers;
    use crate::{BuildOptions, IndexOptions, Metric, Reader, Writer};

    /// Some nodes are written when the file fails. None is left, searches find all items, and the
    /// next build makes the forest that this one should have made.
    #[test]
    fn a_temporary_file_that_fails_while_writing_leaves_an_index_without_a_forest() {
        let (seed, (_folder, env)) = (5, temporary(1));
        println!("seed {seed}");
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let db = Database::open_or_create(&env).unwrap();
        let mut wtxn = env.write_txn().unwrap();
        let options = IndexOptions::new(16, Metric::Euclidean);
        let writer = Writer::open_or_create(&mut wtxn, db, 0, &options).unwrap();
        for id in 0..3_000 {
            let vector: Vec<f32> = (0..16).map(|_| rng.random_range(-1.0..1.0)).collect();
            writer.add_item(&mut wtxn, id, &vector).unwrap();
            if id == 2_000 {
                writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
            }
        }
        let spec = options.spec(0).unwrap();
        let record = db.record(&wtxn, 0).unwrap();
        assert!(record.pending > 0);
        let build = BuildOptions::default().memory(0);
        let shape = Shape::new(&build, &record, spec.metric);
        let mut workers = Workers::new(&wtxn, None).unwrap();
        let plan = bulk::plan(db, &mut workers, spec, &record, shape, &build).unwrap();
        drop(workers);
        plan.nodes.cut();
        let outcome = write(db, &mut wtxn, 0, plan);
        assert!(matches!(outcome, Err(Error::TemporaryFile { .. })));

        for kind in [Kind::Pending, Kind::Branch, Kind::Leaf, Kind::Free, Kind::Origin] {
            assert_eq!(db.iter(&wtxn, 0, kind).unwrap().count(), 0, "{kind:?}");
        }
        wtxn.commit().unwrap();
        let mut wtxn = env.write_txn().unwrap();
        let sound = |wtxn: &RwTxn<'_>| {
            let reader = Reader::open(wtxn, db, 0).unwrap();
            assert!(reader.verify().unwrap().is_sound());
            let all = reader.nns(3_000).by_vector(&[0.0; 16]).unwrap();
            assert_eq!(all.len(), 3_000);
        };
        sound(&wtxn);
        writer.build(&mut wtxn, &BuildOptions::default()).unwrap();
        sound(&wtxn);
        assert_eq!(db.record(&wtxn, 0).unwrap().indexed, 3_000);
    }
}
