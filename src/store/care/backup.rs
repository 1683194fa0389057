//! Copies of a store that others read and write.

use std::path::Path;

use crate::error::{Error, Result};
use crate::store::audit::entry::AuditAction;
use crate::store::care::part::{Part, path_of, refuse_existing};
use crate::store::files::identity_at;
use crate::store::handle::Store;

/// Options of [`Store::backup_with`].
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct BackupOptions {
    compact: bool,
    overwrite: bool,
}

impl BackupOptions {
    /// Leaves out free pages, and writes the rest in order: a smaller file, for more processor
    /// time. Default: no.
    pub fn compact(mut self, yes: bool) -> Self {
        self.compact = yes;
        self
    }

    /// Replaces the file that is there, in one step when the copy is whole; a file alone, and no
    /// device. Default: no.
    pub fn overwrite(mut self, yes: bool) -> Self {
        self.overwrite = yes;
        self
    }
}

/// What [`Store::backup`] wrote.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Backup {
    /// Bytes of the file.
    pub bytes: u64,
    /// LMDB's number of a commit that is in it. Those made while it began may be, too.
    pub txn_id: u64,
}

impl Store {
    /// Writes a copy of the newest commit to a file, while others read and write.
    ///
    /// It is written to `PATH.spinney-part`, synced and renamed. If that fails, nothing is left. It is
    /// a store of a [`single_file`](crate::StoreOptions::single_file), and
    /// [`restore`](Self::restore) makes any other of it. In a store that keeps an audit log, the
    /// backup is noted after it: if the note fails, the copy is there.
    ///
    /// ```
    /// use spinney::{IndexOptions, Metric, Reads, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let (path, copy) = (dir.path().join("store"), dir.path().join("monday.spinney"));
    /// let store = Store::open(&path)?;
    /// let docs = store.index("docs", &IndexOptions::new(2, Metric::Euclidean))?;
    /// store.write(|txn| docs.add_item(txn, 7, &[3.0, 4.0]))?;
    /// store.backup(&copy)?;
    ///
    /// drop(store);
    /// std::fs::remove_dir_all(&path)?; // the accident
    /// let store = Store::restore(&copy, &path, &StoreOptions::default())?;
    /// let hits = store.with_reader(&docs, |reader| reader.nns(1).by_vector(&[3.0, 4.0]))?;
    /// assert_eq!(hits[0].id, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cost
    /// Reads and writes the file once. Until then LMDB cannot use the pages of its commit again.
    /// Waits for a write transaction that is under way, unless it compacts.
    ///
    /// # Errors
    /// [`Error::AlreadyThere`]; [`Error::InUse`] if another copy is being written to the path;
    /// [`Error::DiskFull`]; [`Error::File`]; [`Error::NotWithinWrite`] within a write transaction of
    /// this thread; those of [`read`](Self::read).
    pub fn backup(&self, path: impl AsRef<Path>) -> Result<Backup> {
        self.backup_with(path, &BackupOptions::default())
    }

    /// As [`backup`](Self::backup), with options.
    ///
    /// ```
    /// use spinney::{BackupOptions, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path().join("store"))?;
    /// let options = BackupOptions::default().compact(true).overwrite(true);
    /// let backup = store.backup_with(dir.path().join("newest.spinney"), &options)?;
    /// assert!(backup.bytes > 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`backup`](Self::backup). A compacted one gives [`Error::Heed`] with `Incompatible` if
    /// LMDB has lost free pages.
    pub fn backup_with(&self, path: impl AsRef<Path>, options: &BackupOptions) -> Result<Backup> {
        let environment = &self.inner.environment;
        environment.check_process()?;
        if environment.is_writing() {
            return Err(Error::NotWithinWrite("a backup"));
        }
        let target =
            std::path::absolute(&path).map_err(|error| Error::file(path.as_ref(), error))?;
        // What is written first is written over.
        self.refuse_own(&path_of(&target))?;
        // A device or a folder is no file that a copy could take the place of.
        let may_replace = target.metadata().is_ok_and(|found| found.is_file());
        if options.overwrite && may_replace {
            self.refuse_own(&target)?;
        } else {
            refuse_existing(&target)?;
        }
        let mut part = Part::begin(&target)?;
        // LMDB copies in a transaction of its own, which this one is counted for.
        let (txn, counted) = environment.read()?;
        let txn_id = txn.id() as u64;
        drop(txn);
        let bytes = part.fill(environment.env(), options.compact)?;
        drop(counted);
        part.finish()?;
        self.note_alone(AuditAction::Backup, &target.to_string_lossy())?;
        Ok(Backup { bytes, txn_id })
    }

    /// An error if this is a file of the store itself.
    fn refuse_own(&self, target: &Path) -> Result<()> {
        let Some(there) = identity_at(target)? else { return Ok(()) };
        let files = &self.inner.environment.files;
        for own in [&files.data, &files.lock] {
            if identity_at(own)? == Some(there.clone()) {
                return Err(Error::InUse(target.to_owned(), "the store itself"));
            }
        }
        Ok(())
    }
}
