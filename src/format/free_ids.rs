//! The list of free node ids.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::format::{MAX_FREE, pad};
use crate::key::Key;

/// Numbers before the first id: the count, and zeros.
const FRONT: usize = 4;

/// The bytes of a list of free ids.
pub(crate) fn free_ids_value(ids: &BTreeSet<u32>) -> Vec<u8> {
    let count = u32::try_from(ids.len()).unwrap_or(u32::MAX);
    let numbers: Vec<u32> = [count, 0, 0, 0].into_iter().chain(ids.iter().copied()).collect();
    let mut value: Vec<u8> = bytemuck::cast_slice(&numbers).to_vec();
    value.resize(pad(value.len()), 0);
    value
}

/// Reads the free ids of a tree whose ids from `next` on were never given out.
pub(crate) fn parse_free_ids(key: Key, bytes: &[u8], next: u32) -> Result<BTreeSet<u32>> {
    let bad = |what| Error::corrupted(key, what);
    let numbers: &[u32] =
        bytemuck::try_cast_slice(bytes).map_err(|_| bad("free ids that are not aligned"))?;
    let count = numbers.first().map_or(0, |count| *count as usize);
    let listed = if count == 0 { Some(&[][..]) } else { numbers.get(FRONT..FRONT + count) };
    let listed = listed.filter(|listed| listed.len() <= MAX_FREE);
    let listed = listed.ok_or_else(|| bad("fewer free ids than it says, or more than are kept"))?;
    let ids: BTreeSet<u32> = listed.iter().copied().collect();
    if ids.len() != count || ids.last().is_some_and(|last| *last >= next) {
        return Err(bad("free ids that are listed twice or were never given out"));
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: Key = Key::free(3, 0, 1);

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let value = free_ids_value(&[5, 258].into());
        let ids =
            [[2, 0, 0, 0], [0; 4], [0; 4], [0; 4], [5, 0, 0, 0], [2, 1, 0, 0], [0; 4], [0; 4]];
        assert_eq!(value, ids.concat());
        assert_eq!(free_ids_value(&BTreeSet::new()), [0; 16]);
    }

    /// A value at an address that is aligned, as those of LMDB are.
    fn parse(value: &[u8], next: u32) -> Result<BTreeSet<u32>> {
        let mut words = vec![0u64; value.len().div_ceil(8)];
        let aligned = &mut bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..value.len()];
        aligned.copy_from_slice(value);
        parse_free_ids(KEY, aligned, next)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_if_it_was_given_out(
            ids in prop::collection::btree_set(0u32..10_000, 0..=MAX_FREE),
            next in 0u32..10_000,
        ) {
            let read = parse(&free_ids_value(&ids), next);
            match ids.last().is_none_or(|last| *last < next) {
                true => prop_assert_eq!(read.unwrap(), ids),
                false => prop_assert!(read.is_err()),
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(0u8..4, 0..80), next: u32) {
            if let Ok(ids) = parse(&bytes, next) {
                prop_assert!(ids.last().is_none_or(|last| *last < next));
            }
        }
    }
}
