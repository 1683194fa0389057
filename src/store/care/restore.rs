//! Making a store of a copy.

use std::path::Path;

use crate::error::{Error, Result};
use crate::store::audit::entry::AuditAction;
use crate::store::care::check;
use crate::store::care::part::{Part, path_of, refuse_existing};
use crate::store::files::{Files, identity_at};
use crate::store::handle::{Inner, Store};
use crate::store::options::StoreOptions;
use crate::store::registry;

impl Store {
    /// Makes a store of a backup, at a path where nothing is, and opens it with these options.
    ///
    /// The backup is copied to `data.mdb.spinney-part` in the folder, or beside the single file. It
    /// gets its name only if [`verify`](Self::verify) finds nothing wrong with it. The backup stays
    /// as it is; nobody may write it meanwhile. A folder with the files of a store that is not open
    /// will do as well. See [`backup`](Self::backup) for an example.
    ///
    /// # Cost
    /// That of [`verify`](Self::verify), and a copy of the file.
    ///
    /// # Errors
    /// [`Error::StoreNotFound`] if the backup is none; [`Error::Truncated`]; [`Error::DamagedCopy`]
    /// if something is wrong with it; [`Error::AlreadyThere`]; [`Error::InUse`] if the backup is
    /// open as a store in this process, or is where the copy would be written first; [`Error::DiskFull`]; [`Error::File`]; those of
    /// [`open`](Self::open).
    pub fn restore(
        backup: impl AsRef<Path>,
        path: impl AsRef<Path>,
        options: &StoreOptions,
    ) -> Result<Self> {
        let (backup, path) = (backup.as_ref(), path.as_ref());
        options.check()?;
        let source = Files::at(backup, !backup.is_dir())?;
        let target = Files::at(path, options.single_file)?;
        refuse_occupied(&target)?;
        // What is written first would be written over the backup.
        let part = path_of(&target.data);
        if source.identity()?.is_some_and(|there| identity_at(&part).ok().flatten() == Some(there))
        {
            return Err(Error::InUse(part, "the backup itself"));
        }
        if registry::is_open(&source)? {
            return Err(Error::InUse(source.path, "a store of this process"));
        }
        let as_copy = StoreOptions::of_copy().single_file(source.data == source.path);
        let source = registry::open_alone(source, &as_copy)?;
        target.prepare(&options.clone().create(true).read_only(false).sealed(false))?;
        let mut part = Part::begin(&target.data)?;
        part.fill(source.environment.env(), false)?;
        let copy = open_copy(&part)?;
        let found = check::verify(&copy)?;
        drop(copy);
        if let Some(fault) = found.first_fault() {
            return Err(Error::DamagedCopy(backup.to_owned(), fault));
        }
        part.finish()?;
        let store = Self::open_with(path, options)?;
        store.note_alone(AuditAction::Restore, &backup.to_string_lossy())?;
        Ok(store)
    }
}

/// Opens what was copied so far.
pub(crate) fn open_copy(part: &Part) -> Result<Inner> {
    registry::open_alone(Files::at(&part.path, true)?, &StoreOptions::of_copy())
}

/// An error if anything is where a store is to be made. A lock file, too: who has it open would not
/// see the new file.
fn refuse_occupied(target: &Files) -> Result<()> {
    refuse_existing(&target.data)?;
    refuse_existing(&target.lock)?;
    if target.path == target.data {
        return Ok(());
    }
    let entries = match target.path.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::file(&target.path, error)),
    };
    let left = path_of(&target.data);
    for entry in entries {
        let found = entry.map_err(|error| Error::file(&target.path, error))?.path();
        // What a killed restore left is none of anybody's.
        if found.file_name() != left.file_name() {
            return Err(Error::AlreadyThere(found));
        }
    }
    Ok(())
}
