//! Folders and names that are nobody else's.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A folder that is deleted with all in it, by the process that made it.
pub(crate) struct Folder {
    path: PathBuf,
    process: u32,
}

impl Folder {
    /// A new folder in this one, which its owner alone can enter.
    pub(crate) fn within(parent: &Path) -> io::Result<Self> {
        let path = unused(parent, "folder", |path| {
            let mut builder = fs::DirBuilder::new();
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.create(path)
        })?;
        Ok(Self { path, process: std::process::id() })
    }

    pub(crate) fn temporary() -> io::Result<Self> {
        Self::within(&std::env::temp_dir())
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A child of the process has it, too.
        if self.process == std::process::id() {
            // What cannot be deleted is left.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Makes something under a name that nothing has in this folder.
pub(crate) fn unused(
    parent: &Path,
    kind: &str,
    make: impl Fn(&Path) -> io::Result<()>,
) -> io::Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = parent.join(format!(".spinney-{kind}-{process}-{count}"));
        match make(&path) {
            Ok(()) => return Ok(path),
            // A killed process of the same number has left it.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// The folder that a file is in.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
