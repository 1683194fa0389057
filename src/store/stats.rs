//! Figures of a store.

use std::time::Duration;

use crate::error::Result;
use crate::lmdb::extent;
use crate::store::handle::Store;

/// Figures of a [`Store`], as [`Store::stats`] gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct StoreStats {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Pages that later commits use again, once no reader sees them.
    pub free_pages: u64,
    /// Bytes of the map: the file cannot be larger until it grows.
    pub map_bytes: u64,
    /// LMDB's number of the last commit.
    pub last_commit: u64,
    /// The items of all indexes that wait for a build.
    pub pending: u64,
    /// Reader slots in use, in all processes.
    pub readers: u32,
    /// The oldest commit that this process still reads, if it reads any.
    pub oldest_reader: Option<OldestReader>,
}

/// The oldest reader of a store in this process.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct OldestReader {
    /// For how long it has kept pages from being used again.
    pub age: Duration,
    /// How many commits have been made since the one it reads.
    pub lag: u64,
}

impl Store {
    /// Figures of the newest commit, and of the readers of this process.
    ///
    /// # Cost
    /// Reads the list of free pages and one record of each index.
    ///
    /// # Errors
    /// Those of [`read`](Self::read); [`Error::Corrupted`](crate::Error::Corrupted).
    pub fn stats(&self) -> Result<StoreStats> {
        let environment = &self.inner.environment;
        // Before this call reads anything itself.
        let oldest = environment.live.oldest();
        self.read(|txn| {
            let mut pending = 0;
            for index in self.database().indexes(txn.as_heed())? {
                pending += txn.reader_of(index)?.pending_len();
            }
            let info = environment.env().info();
            let last_commit = info.last_txn_id as u64;
            Ok(StoreStats {
                file_bytes: environment.env().real_disk_size()?,
                page_bytes: environment.env().unnamed_database_stat().page_size.into(),
                free_pages: extent::free_pages(environment.env())?,
                map_bytes: info.map_size as u64,
                last_commit,
                pending,
                readers: info.number_of_readers,
                oldest_reader: oldest.map(|oldest| OldestReader {
                    age: oldest.age,
                    lag: last_commit.saturating_sub(oldest.commit as u64),
                }),
            })
        })
    }
}
