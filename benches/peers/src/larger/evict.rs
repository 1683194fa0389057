//! Puts the pages of a file out of the system's cache.

use std::fs::File;
use std::path::Path;

use crate::Result;

/// Drops what the system has cached of a file, which nobody may have mapped. Other files, such as
/// those of programs, stay. The next process that reads a page pays for it with its own memory.
///
/// # Errors
/// What the system says.
pub fn evict(path: &Path) -> Result<()> {
    let file = File::open(path)?;
    // Pages that are not yet on the disk would stay.
    file.sync_all()?;
    forget(&file).map_err(|error| format!("{}: {error}", path.display()).into())
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn forget(file: &File) -> std::io::Result<()> {
    use std::ffi::c_int;
    use std::os::fd::AsRawFd;

    const DONT_NEED: c_int = 4;
    unsafe extern "C" {
        fn posix_fadvise(file: c_int, offset: i64, len: i64, advice: c_int) -> c_int;
    }
    // SAFETY: the descriptor is open; the call takes no addresses. No length: up to the end.
    match unsafe { posix_fadvise(file.as_raw_fd(), 0, 0, DONT_NEED) } {
        0 => Ok(()),
        error => Err(std::io::Error::from_raw_os_error(error)),
    }
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn forget(_: &File) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
