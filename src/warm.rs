//! Reading an index into memory before it is asked.

use crate::error::Result;
use crate::format::record::Record;
use crate::key::{Key, Kind, trees_of};
use crate::lmdb::advise::{Ask, PAGE};
use crate::lmdb::database::Entries;
use crate::lmdb::item::ItemBytes;
use crate::lmdb::view::View;

/// Entries whose pages are asked for before the first of them is read.
const AT_ONCE: usize = 256;

/// What [`Reader::warm`](crate::Reader::warm) read, in bytes of values.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Warmed {
    /// Bytes of branches.
    pub branch_bytes: u64,
    /// Bytes of leaves.
    pub leaf_bytes: u64,
    /// Bytes of items.
    pub item_bytes: u64,
}

pub(crate) fn warm(view: View<'_>, record: &Record, max_item_bytes: u64) -> Result<Warmed> {
    let trees = trees_of(record.generation);
    Ok(Warmed {
        branch_bytes: read(whole(view.iter_trees(Kind::Branch, &trees)?), u64::MAX)?,
        leaf_bytes: read(whole(view.iter_trees(Kind::Leaf, &trees)?), u64::MAX)?,
        item_bytes: read(view.items()?, max_item_bytes)?,
    })
}

/// Entries that are not cut.
fn whole<'t>(entries: Entries<'t>) -> impl Iterator<Item = Result<(Key, ItemBytes<'t>)>> {
    entries.map(|entry| entry.map(|(key, head)| (key, ItemBytes { head, tail: &[] })))
}

/// Reads entries while their values have no more than so many bytes in all. Returns how many they
/// have.
fn read<'t>(entries: impl Iterator<Item = Result<(Key, ItemBytes<'t>)>>, max: u64) -> Result<u64> {
    let mut bytes = 0u64;
    let mut entries = entries.map(|entry| entry.map(|(_, value)| value)).peekable();
    loop {
        let mut values = Vec::with_capacity(AT_ONCE);
        let (mut heads, mut tails) = (Ask::default(), Ask::default());
        while values.len() < AT_ONCE
            && let Some(value) = entries.next_if(|entry| match entry {
                Ok(value) => bytes.saturating_add(value.len() as u64) <= max,
                Err(_) => true,
            })
        {
            let value = value?;
            heads.value(value.head);
            tails.value(value.tail);
            bytes += value.len() as u64;
            values.push(value);
        }
        drop((heads, tails));
        if values.is_empty() {
            return Ok(bytes);
        }
        for value in values {
            touch(value.head);
            touch(value.tail);
        }
    }
}

/// Reads a byte of each page of a value.
fn touch(value: &[u8]) {
    for byte in value.iter().step_by(PAGE).chain(value.last()) {
        std::hint::black_box(*byte);
    }
}
