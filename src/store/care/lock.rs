//! LMDB's lock file, locked against everybody else.
//!
//! LMDB locks its first byte as long as an environment is open: alone while it puts the file in
//! order, then shared. Who gets the lock alone knows that nobody has the environment open. Whoever
//! comes waits in LMDB until it is given back.

#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

/// The lock, until this is dropped.
///
/// The system gives up a process's locks when it closes the file once: no environment of this
/// process may have it open.
pub(crate) struct Alone(File);

impl Alone {
    /// Takes the lock, unless another process has the environment open.
    pub(crate) fn take(lock: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().read(true).write(true).open(lock)?;
        Ok(try_lock(&file)?.then_some(Self(file)))
    }

    /// Makes LMDB refuse the file until who has the lock alone puts it in order. It names a commit
    /// of the file that is being replaced. Processes that wait for the lock would believe it.
    pub(crate) fn invalidate(&mut self) -> io::Result<()> {
        // LMDB's magic number.
        self.0.write_all(&[0; 4])
    }
}

/// Whether a compaction was killed before LMDB put the lock file in order. No environment of this
/// process may have it open.
pub(crate) fn is_invalidated(lock: &Path) -> bool {
    let mut magic = [1; 4];
    let read = File::open(lock).and_then(|mut file| file.read_exact(&mut magic));
    read.is_ok() && magic == [0; 4]
}

#[cfg(unix)]
#[allow(clippy::cast_possible_truncation)]
fn try_lock(file: &File) -> io::Result<bool> {
    use std::os::fd::AsRawFd;
    // SAFETY: numbers alone, for which zero is a value. The fields differ between systems.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    // Small numbers, of a type that differs, too.
    lock.l_type = libc::F_WRLCK as _;
    lock.l_whence = libc::SEEK_SET as _;
    lock.l_len = 1;
    loop {
        // SAFETY: the file is open, and the system reads the lock during the call alone. The tests
        // of compaction beside other processes fail without it.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const lock) } == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EAGAIN | libc::EACCES) => return Ok(false),
            _ => return Err(error),
        }
    }
}

/// There LMDB locks by the same call.
#[cfg(not(unix))]
fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(std::fs::TryLockError::WouldBlock) => Ok(false),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}
