//! A file that is written under another name, and gets its own when it is whole.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use heed::{CompactionOption, Env, WithoutTls};

use crate::error::{Error, Result};
use crate::store::files::{Files, sync_folder_of};

/// `PATH.spinney-part`, which is removed unless it is finished.
pub(crate) struct Part {
    file: File,
    /// Where it is until it is finished.
    pub(crate) path: PathBuf,
    target: PathBuf,
    is_finished: bool,
}

impl Part {
    /// Begins the file, in place of what a killed process may have left.
    pub(crate) fn begin(target: &Path) -> Result<Self> {
        let path = path_of(target);
        let failed = |error| Error::file(&path, error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        // What is stored may be anybody's documents.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(failed)?;
        // Some file systems have no locks: who copies to one path twice at once has to take care.
        let is_locked = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
        // Who had the lock may have given the file its name meanwhile.
        let is_gone = !Files::at(&path, true)?.is_at_path(&file)?;
        if is_locked || is_gone {
            return Err(Error::InUse(path, "another copy to the same place"));
        }
        file.set_len(0).map_err(failed)?;
        Ok(Self { file, path, target: target.to_owned(), is_finished: false })
    }

    /// Copies the newest commit of an environment, to the disk. Returns the bytes written.
    ///
    /// LMDB begins a read transaction for it, which the caller has to count.
    pub(crate) fn fill(&mut self, env: &Env<WithoutTls>, is_compacted: bool) -> Result<u64> {
        let compaction =
            if is_compacted { CompactionOption::Enabled } else { CompactionOption::Disabled };
        env.copy_to_file(&mut self.file, compaction)?;
        // A disk that is full may say so only now.
        self.file.sync_all().map_err(heed::Error::Io)?;
        // Where locks are mandatory, nobody else could read what is to be checked.
        if cfg!(windows) {
            self.file.unlock().map_err(|error| Error::file(&self.path, error))?;
        }
        let metadata = self.file.metadata().map_err(|error| Error::file(&self.path, error))?;
        Ok(metadata.len())
    }

    /// Gives the file the rights that another has.
    pub(crate) fn take_rights_of(&self, other: &Path) -> Result<()> {
        let metadata = other.metadata().map_err(|error| Error::file(other, error))?;
        let given = self.file.set_permissions(metadata.permissions());
        given.map_err(|error| Error::file(&self.path, error))
    }

    /// Gives the file its name, in place of what has it.
    pub(crate) fn finish(mut self) -> Result<()> {
        let renamed = std::fs::rename(&self.path, &self.target);
        renamed.map_err(|error| Error::file(&self.target, error))?;
        self.is_finished = true;
        sync_folder_of(&self.target)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_finished {
            // The error that led here matters more.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Where the file of this path is until it is finished.
pub(crate) fn path_of(target: &Path) -> PathBuf {
    let mut path = target.to_owned().into_os_string();
    path.push(".spinney-part");
    path.into()
}

/// An error if there is anything at this path.
pub(crate) fn refuse_existing(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::file(path, error)),
        Ok(_) => Err(Error::AlreadyThere(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("copy");
        let count = || std::fs::read_dir(dir.path()).unwrap().count();
        // What a killed process left.
        std::fs::write(path_of(&target), "half").unwrap();
        let part = Part::begin(&target).unwrap();
        assert_eq!(part.path.metadata().unwrap().len(), 0);
        assert!(matches!(Part::begin(&target), Err(Error::InUse(..))));
        assert!(part.path.exists());
        drop(part);
        assert_eq!(count(), 0);
        std::fs::write(&target, "old").unwrap();
        Part::begin(&target).unwrap().finish().unwrap();
        assert_eq!((count(), target.metadata().unwrap().len()), (1, 0));
        assert!(matches!(refuse_existing(&target), Err(Error::AlreadyThere(_))));
        assert!(Part::begin(&dir.path().join("no/folder")).is_err());
    }
}
