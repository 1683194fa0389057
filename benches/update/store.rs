//! The changes to the index that is measured.

use spinney::{BuildOptions, BuildStats};

use crate::Result;
use crate::changes::Change;
use crate::meter::{Span, timed, written_bytes};
use crate::shared::store::Store;

/// What one transaction took.
pub struct Sample {
    /// The calls that change items, and the build.
    pub call: Span,
    pub commit: Span,
    /// Bytes handed to write calls from the begin to the end of the transaction.
    pub written: Option<u64>,
    pub built: BuildStats,
}

impl Store {
    /// Makes these changes in one transaction, builds and commits.
    pub fn apply(&self, changes: &[Change]) -> Result<Sample> {
        let before = written_bytes();
        let mut wtxn = self.env.write_txn()?;
        let (built, call) = timed(|| {
            for change in changes {
                match change {
                    Change::Put(id, vector) => self.writer.add_item(&mut wtxn, *id, vector)?,
                    Change::Delete(id) => {
                        self.writer.del_item(&mut wtxn, *id)?;
                    }
                }
            }
            self.writer.build(&mut wtxn, &BuildOptions::default())
        });
        let (committed, commit) = timed(|| wtxn.commit());
        committed?;
        let written =
            written_bytes().zip(before).map(|(after, before)| after.saturating_sub(before));
        Ok(Sample { call, commit, written, built: built? })
    }
}
