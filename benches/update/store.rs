//! The changes to the index that is measured.

use bench_kit::Result;
use bench_kit::changes::Change;
use bench_kit::meter::{Span, timed, written_bytes};
use bench_kit::store::Store;
use spinney::{BuildOptions, BuildStats};

/// What one transaction took.
pub struct Sample {
    /// The calls that change items, and the build.
    pub call: Span,
    pub commit: Span,
    /// Bytes handed to write calls from the begin to the end of the transaction.
    pub written: Option<u64>,
    pub built: BuildStats,
}

/// Makes these changes in one transaction, builds and commits.
pub fn apply(store: &Store, changes: &[Change]) -> Result<Sample> {
    let before = written_bytes();
    let mut wtxn = store.env.write_txn()?;
    let (built, call) = timed(|| {
        for change in changes {
            match change {
                Change::Put(id, vector) => store.writer.add_item(&mut wtxn, *id, vector)?,
                Change::Delete(id) => {
                    store.writer.del_item(&mut wtxn, *id)?;
                }
            }
        }
        store.writer.build(&mut wtxn, &BuildOptions::default())
    });
    let (committed, commit) = timed(|| wtxn.commit());
    committed?;
    let written = written_bytes().zip(before).map(|(after, before)| after.saturating_sub(before));
    Ok(Sample { call, commit, written, built: built? })
}
