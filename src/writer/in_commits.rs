//! Building in several commits, outside of any write transaction of the caller.

use heed::{Env, WithoutTls};

#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::indexer::commits;
use crate::options::{BuildOptions, BuildStats};
use crate::writer::Writer;

impl Writer {
    /// Builds the whole forest anew in many small commits, beside the one that searches use: for an
    /// index that is too large for one transaction.
    ///
    /// LMDB keeps what one transaction writes in memory. [`Writer::build`] writes all leaves in one,
    /// and holds the lock of the writer meanwhile. This call takes the lock for each of its commits
    /// alone, so others can change items between them. The forest is that of the newest snapshot
    /// when the call began. Searches use the old one until the last commit; then what has changed
    /// since that snapshot is pending. So every search finds every item at any time.
    ///
    /// No write transaction may be open in this thread: LMDB has one writer at a time. If there is
    /// nothing to do, nothing is built. Else the forest is built in bulk, however few the changes:
    /// for some changes, [`Writer::build`] is faster.
    ///
    /// A call that fails or is cancelled has changed nothing that searches or other builds see. Nor
    /// has one whose process is killed. What that has written takes up space until the next call, or
    /// until another build finds something to do. Any other build or repair that changes the index
    /// takes the place of this one, and so do [`Writer::clear`] and [`Writer::convert`]: see
    /// [`Error::BuildSuperseded`].
    ///
    /// ```
    /// # use spinney::{heed, BuildOptions, Database, IndexOptions, Metric, Reader, Writer};
    /// # let dir = tempfile::tempdir()?;
    /// # let mut options = heed::EnvOpenOptions::new().read_txn_without_tls();
    /// # // SAFETY: the folder is ours alone.
    /// # let env = unsafe { options.map_size(10 << 20).max_dbs(1).open(dir.path())? };
    /// # let db = Database::open_or_create(&env)?;
    /// let mut wtxn = env.write_txn()?;
    /// let writer = Writer::open_or_create(&mut wtxn, db, 0, &IndexOptions::new(1, Metric::Euclidean))?;
    /// writer.add_items(&mut wtxn, &[1, 2, 3], &[1.0, 2.0, 5.0])?;
    /// wtxn.commit()?;
    /// writer.build_in_commits(&env, &BuildOptions::default().bytes_per_commit(16 << 20))?;
    /// let rtxn = env.read_txn()?;
    /// assert_eq!(Reader::open(&rtxn, db, 0)?.pending_len(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cost
    /// That of a bulk build, and a commit, which waits for the disk, for each
    /// [`BuildOptions::bytes_per_commit`]. Both forests are in the file for a while. LMDB does not
    /// reuse pages that the snapshot shows, so the file grows by what others write meanwhile, too.
    /// A reader slot for each thread, and two more. The last commit reads all pending marks.
    ///
    /// # Errors
    /// As [`Writer::build`]; [`Error::BuildSuperseded`]; [`Error::ReadersFull`];
    /// [`Error::IndexNotFound`].
    pub fn build_in_commits(
        &self,
        env: &Env<WithoutTls>,
        options: &BuildOptions<'_>,
    ) -> Result<BuildStats> {
        commits::build(env, self.db, self.spec, options)
    }
}
