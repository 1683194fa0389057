//! Where errors come from, and how they name what they mean.

use std::io;
use std::path::Path;

use heed::MdbError;

use super::Error;
use crate::key::{Key, Kind, tree_number};

impl Error {
    pub(crate) fn corrupted(key: Key, what: &'static str) -> Self {
        Self::Corrupted { key: key.to_bytes(), what }
    }

    pub(crate) fn file(path: &Path, source: io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }

    /// Of a table that a store keeps beside its indexes.
    pub(crate) fn store_corrupted(what: &'static str, key: &[u8]) -> Self {
        Self::StoreCorrupted { what, key: String::from_utf8_lossy(key).into_owned() }
    }

    pub(crate) fn option(name: &'static str, expected: &'static str, got: impl ToString) -> Self {
        Self::InvalidOption { name, expected, got: got.to_string() }
    }
}

impl From<heed::Error> for Error {
    fn from(error: heed::Error) -> Self {
        match error {
            heed::Error::Mdb(MdbError::MapFull) => Self::MapFull,
            heed::Error::Mdb(MdbError::DbsFull) => Self::DbsFull,
            heed::Error::Mdb(MdbError::ReadersFull) => Self::ReadersFull,
            heed::Error::Mdb(MdbError::MapResized) => Self::MapResized,
            heed::Error::Io(ref failure) if is_disk_full(failure) => Self::DiskFull(error),
            other => Self::Heed(other),
        }
    }
}

/// What LMDB gives for a write of which only a part was taken.
const EIO: i32 = 5;

fn is_disk_full(failure: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    // Elsewhere this number has another meaning.
    let is_partial = cfg!(unix) && failure.raw_os_error() == Some(EIO);
    is_partial || matches!(failure.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// "leaf 12 of tree 0 of index 3", for messages.
pub(super) fn describe(bytes: &[u8; 8]) -> String {
    let key = Key::from_bytes(*bytes);
    let (index, tree) = (key.index(), tree_number(key.tree()));
    match key.kind() {
        Some(Kind::Record) => format!("the record of index {index}"),
        Some(Kind::Origin) => format!("the origin of index {index}"),
        Some(Kind::Item) => format!("item {} of index {index}", key.id()),
        Some(Kind::Tail) => format!("the tail of item {} of index {index}", key.id()),
        Some(Kind::Pending) => format!("the pending mark of item {} of index {index}", key.id()),
        Some(Kind::Branch) => {
            format!("branch {} of tree {tree} of index {index}", key.id())
        }
        Some(Kind::Leaf) => format!("leaf {} of tree {tree} of index {index}", key.id()),
        Some(Kind::Free) => format!("the free node ids of tree {tree} of index {index}"),
        None => format!("the unknown key {bytes:02x?}"),
    }
}
