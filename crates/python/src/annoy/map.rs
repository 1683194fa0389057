//! A file in memory, read where it lies.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;

/// The bytes of a file, as they were when it was opened. Processes that map it share its pages.
pub(crate) struct Map(memmap2::Mmap);

impl Map {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        // SAFETY: the map is read alone, byte by byte, and no byte of it is trusted. Who saves an
        // index gives it a new inode, so that this one stays as it is. Who cuts it in place ends
        // the process with a signal, as with Annoy: no program can map a file and rule that out.
        unsafe { memmap2::Mmap::map(file) }.map(Self)
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
