//! The mark of a database: an entry before all others that says whose the table is, and which.

use std::hash::{BuildHasher, RandomState};

use crate::format::ALIGN;
use crate::format::record::MAGIC;

/// The key of the mark. It is shorter than the keys of indexes, so that it is none of them and
/// comes first.
pub(crate) const MARK_KEY: [u8; 2] = [0; 2];

const ID: usize = 14;
const LEN: usize = MAGIC.len() + ID;

/// What LMDB puts before each key. The nodes of a page follow each other, so that one of another
/// length would shift all.
const NODE_HEADER: usize = 8;
const _: () = assert!((NODE_HEADER + MARK_KEY.len() + LEN).is_multiple_of(ALIGN));

/// Identifies a database among all others.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mark {
    id: [u8; ID],
}

impl Mark {
    /// A mark that no other database has.
    pub(crate) fn unique() -> Self {
        // The keys of these hashers come from the operating system.
        let [high, low] = [0u8, 1].map(|half| RandomState::new().hash_one(half).to_le_bytes());
        let mut id = [0; ID];
        id.iter_mut().zip(high.into_iter().chain(low)).for_each(|(to, from)| *to = from);
        Self { id }
    }

    #[cfg(test)]
    pub(crate) const fn from_id(id: [u8; ID]) -> Self {
        Self { id }
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        [&MAGIC[..], &self.id].concat()
    }

    /// The mark that was written so, if it is one.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let id = bytes.strip_prefix(&MAGIC)?.try_into().ok()?;
        Some(Self { id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_back_and_differ() {
        let marks: Vec<Mark> = (0..100).map(|_| Mark::unique()).collect();
        for (i, mark) in marks.iter().enumerate() {
            let bytes = mark.to_bytes();
            assert_eq!(Mark::parse(&bytes), Some(*mark));
            assert!(!marks[..i].contains(mark));
            assert!((0..bytes.len()).all(|cut| Mark::parse(&bytes[..cut]).is_none()));
        }
    }
}
