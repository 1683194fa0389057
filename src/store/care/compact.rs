//! Making the file of a store as small as what is in it.

use std::path::Path;

use crate::error::{Error, Result};
use crate::store::audit::entry::AuditAction;
use crate::store::care::compare;
use crate::store::care::lock::Alone;
use crate::store::care::part::Part;
use crate::store::care::restore::open_copy;
use crate::store::environment::Environment;
use crate::store::files::{Files, identity_at};
use crate::store::handle::Store;
use crate::store::options::StoreOptions;
use crate::store::registry::{self, Claim};

/// What [`Store::compact`] did.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Compacted {
    /// Bytes of the file before.
    pub bytes_before: u64,
    /// Bytes of the file now.
    pub bytes_after: u64,
}

impl Store {
    /// Replaces the file by a copy without free pages, and opens it again. Nobody else may have the
    /// store open.
    ///
    /// LMDB never gives pages back to the system: it uses them again. Compact after much was
    /// deleted for good, or to bring pages in order.
    ///
    /// The copy is written to `data.mdb.spinney-part` beside the file, synced, compared with the original
    /// entry by entry, and renamed: a crash at any point leaves the old file or the new one. Who
    /// opens the store meanwhile waits in another process, and gets [`Error::InUse`] in this one.
    /// Whatever fails, the store is closed and as it was; open it again. Numbers of commits begin
    /// anew. Processes that opened the file as
    /// [`sealed`](crate::StoreOptions::sealed) are not known of, and go on with the old one.
    ///
    /// ```
    /// use spinney::{IndexOptions, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let docs = store.index("docs", &IndexOptions::new(200, Metric::Euclidean))?;
    /// store.write(|txn| (0..500).try_for_each(|id| docs.add_item(txn, id, &[1.0; 200])))?;
    /// store.write(|txn| docs.clear(txn))?;
    /// let (store, compacted) = store.compact()?;
    /// assert!(compacted.bytes_after < compacted.bytes_before / 2);
    /// # store.snapshot()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cost
    /// Reads the file twice, and writes and reads what is in it. Needs room for both files.
    ///
    /// # Errors
    /// [`Error::InUse`] if other handles, snapshots or processes have the store open, for as long
    /// as the store is [patient](crate::StoreOptions::patience), or if its file has several names;
    /// [`Error::ReadOnly`]; [`Error::DiskFull`]; [`Error::File`]; [`Error::Heed`] with
    /// `Incompatible` if LMDB has lost free pages; those of [`open`](Self::open).
    pub fn compact(self) -> Result<(Self, Compacted)> {
        let Self { inner, actor } = self;
        inner.environment.check_process()?;
        inner.environment.check_writable()?;
        let (inner, mut claim) = registry::claim(inner)?;
        let (files, options) = inner.environment.close()?;
        let alone = Alone::take(&files.lock).map_err(|error| Error::file(&files.lock, error))?;
        let Some(mut alone) = alone else {
            return Err(Error::InUse(files.path, "another process"));
        };
        let compacted = rewrite(&files, &options, &mut alone, &mut claim)?;
        // The lock goes first: closing its file gives up all that this process has of it.
        drop(alone);
        drop(claim);
        let store = Self { actor, ..Self::open_with(&files.path, &options)? };
        store.note_alone(AuditAction::Compact, "")?;
        Ok((store, compacted))
    }
}

fn rewrite(
    files: &Files,
    options: &StoreOptions,
    alone: &mut Alone,
    claim: &mut Claim,
) -> Result<Compacted> {
    // A link to the file stays one: what it leads to is replaced.
    let data = files.data.canonicalize().map_err(|error| Error::file(&files.data, error))?;
    refuse_other_names(&data)?;
    let source = registry::open_alone(files.clone(), &options.clone().sealed(true))?;
    let bytes_before = files.bytes();
    let mut part = Part::begin(&data)?;
    let bytes_after = part.fill(source.environment.env(), true)?;
    part.take_rights_of(&data)?;
    let copy = open_copy(&part)?;
    if !compare::is_equal(source.environment.env(), copy.environment.env())? {
        return Err(Error::DamagedCopy(part.path.clone(), "it differs from the store".to_owned()));
    }
    drop((source, copy));
    identity_at(&part.path)?.into_iter().for_each(|file| claim.also(file));
    alone.invalidate().map_err(|error| Error::file(&files.lock, error))?;
    part.finish()?;
    // LMDB puts the lock file in order while nobody else can have it.
    drop(Environment::open(files.clone(), options)?);
    Ok(Compacted { bytes_before, bytes_after })
}

/// Another name would go on to lead to the old file.
#[cfg(unix)]
fn refuse_other_names(data: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let metadata = data.metadata().map_err(|error| Error::file(data, error))?;
    if metadata.nlink() == 1 {
        return Ok(());
    }
    Err(Error::InUse(data.to_owned(), "another name of the same file (a hard link)"))
}

#[cfg(not(unix))]
fn refuse_other_names(_: &Path) -> Result<()> {
    Ok(())
}
