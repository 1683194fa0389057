//! The nodes that a build will write, in the order of their keys.

use std::path::Path;

use crate::error::Result;
use crate::indexer::spool::Spool;
use crate::key::Key;

/// Nodes in the order of their keys, the last ones in a [`Spool`].
#[derive(Debug)]
pub(crate) struct Nodes {
    held: Vec<(Key, Vec<u8>)>,
    /// The key of each node in the spool, where it begins and its length.
    spooled: Vec<(Key, u64, usize)>,
    spool: Spool,
}

impl Nodes {
    /// No nodes yet. Holds up to `limit` bytes of leaves in memory.
    pub(crate) fn new(folder: &Path, limit: usize) -> Self {
        Self { held: Vec::new(), spooled: Vec::new(), spool: Spool::new(folder, limit) }
    }

    /// Nodes in any order.
    pub(crate) fn in_memory(mut held: Vec<(Key, Vec<u8>)>) -> Self {
        held.sort_unstable_by_key(|(key, _)| key.to_bytes());
        Self { held, ..Self::new(Path::new(""), 0) }
    }

    /// Adds branches, in any order.
    pub(crate) fn add_branches(&mut self, branches: Vec<(Key, Vec<u8>)>) {
        self.held.extend(branches);
        self.held.sort_unstable_by_key(|(key, _)| key.to_bytes());
    }

    /// Adds a leaf. Its key follows those of all leaves before it, and of all branches.
    pub(crate) fn push_leaf(&mut self, key: Key, value: &[u8]) -> Result<()> {
        let place = self.spool.append(value)?;
        self.spooled.push((key, place.start, value.len()));
        Ok(())
    }

    /// The keys and lengths of all nodes.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (Key, usize)> + '_ {
        let held = self.held.iter().map(|(key, value)| (*key, value.len()));
        held.chain(self.spooled.iter().map(|(key, _, len)| (*key, *len)))
    }

    /// All nodes in the order of their keys. What is in a temporary file can fail to be read.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = Result<(Key, Vec<u8>)>> {
        let mut spool = self.spool;
        let spooled = self.spooled.into_iter().map(move |(key, start, len)| {
            let mut value = vec![0; len];
            spool.read(start, &mut value).map(|()| (key, value))
        });
        self.held.into_iter().map(Ok).chain(spooled)
    }

    /// Cuts the temporary file, as a disk that fails would.
    #[cfg(test)]
    pub(crate) fn cut(&self) {
        self.spool.cut();
    }
}
