//! What a bulk build may hold in memory, and where the rest goes.

use std::path::PathBuf;

use crate::memory;
use crate::options::BuildOptions;

/// What a build may take by default, at least.
const LEAST_DEFAULT: u64 = 256 << 20;

/// The least that is held of anything, so that files are not written byte by byte.
const LEAST: usize = 64 << 10;
/// What the tasks of a batch hold, at most. More would make no build faster.
const MOST_AT_ONCE: usize = 64 << 20;
/// Parts of what the sample leaves. At the same time there are at most two of leaves that are
/// encoded, one each of pairs of items and leaves, of entries and of tasks, and two of lists. The
/// rest is for centroids, and for what the allocator keeps. Measured: docs/trials.md, "Builds within
/// a budget".
const PARTS: usize = 12;

/// The memory for a bulk build, and its folder of temporary files.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    bytes: usize,
    pub(super) folder: PathBuf,
}

impl Budget {
    /// What is left when this many bytes are in memory all the time.
    pub(super) fn new(options: &BuildOptions<'_>, in_memory: usize) -> Self {
        let bytes = options.memory.unwrap_or_else(|| {
            memory::available().map_or(0, |available| available / 4).max(LEAST_DEFAULT)
        });
        Self {
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX).saturating_sub(in_memory),
            folder: options.temp_dir.map_or_else(std::env::temp_dir, ToOwned::to_owned),
        }
    }

    /// Bytes of one part.
    pub(super) fn part(&self) -> usize {
        (self.bytes / PARTS).max(LEAST)
    }

    /// How many things of so many bytes are held at once, for all threads.
    pub(super) fn at_once(&self, bytes_each: usize) -> usize {
        let bytes = self.part().min(MOST_AT_ONCE);
        (bytes / bytes_each.max(1)).max(rayon::current_num_threads())
    }
}
