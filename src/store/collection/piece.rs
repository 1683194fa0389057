//! Pieces of sets of ids, changed in the form in which they are stored.

use std::ops::RangeInclusive;

use roaring::RoaringBitmap;

/// Ids that a piece is about: docs/trials.md, "collections".
pub(crate) const IDS: u32 = 8192;
/// The length of a piece that has a bit for each.
const BITS: usize = IDS as usize / 8;
/// So many ids are bits, and fewer are listed.
const MANY: usize = BITS / 2;

/// The number of the piece that an id belongs to, and the id's place in it.
pub(crate) fn place(id: u32) -> (u32, u16) {
    // A piece has fewer ids than two bytes can number.
    (id / IDS, (id % IDS) as u16)
}

/// The ids that a piece is about.
pub(crate) fn ids(number: u32) -> RangeInclusive<u32> {
    let first = number.saturating_mul(IDS);
    first..=first.saturating_add(IDS - 1)
}

/// Whether these are the bytes of a piece.
pub(crate) fn is_sound(piece: &[u8]) -> bool {
    match piece.len() {
        BITS => len(piece) >= MANY as u64,
        0 => false,
        bytes if bytes > BITS || bytes % 2 == 1 => false,
        _ => list(piece).is_sorted_by(|a, b| a < b) && list(piece).all(|at| u32::from(at) < IDS),
    }
}

/// How many ids a piece has.
pub(crate) fn len(piece: &[u8]) -> u64 {
    if piece.len() == BITS {
        piece.iter().map(|byte| u64::from(byte.count_ones())).sum()
    } else {
        piece.len() as u64 / 2
    }
}

/// Adds the ids of a piece that begins at `first` to a set, whose ids are all smaller.
pub(crate) fn append(piece: &[u8], first: u32, set: &mut RoaringBitmap) {
    if piece.len() == BITS {
        *set |= RoaringBitmap::from_lsb0_bytes(first, piece);
    } else {
        set.extend(list(piece).map(|at| first + u32::from(at)));
    }
}

/// Adds an id to a sound piece, or an empty one. Whether it is new.
pub(crate) fn insert(piece: &mut Vec<u8>, at: u16) -> bool {
    if piece.len() == BITS {
        return set_bit(piece, at, true);
    }
    let Err(position) = find(piece, at) else { return false };
    piece.splice(2 * position..2 * position, at.to_le_bytes());
    if piece.len() == BITS {
        let mut bits = vec![0; BITS];
        list(piece).for_each(|at| {
            set_bit(&mut bits, at, true);
        });
        *piece = bits;
    }
    true
}

/// Takes an id out of a sound piece. Whether it was there. What is left may be empty.
pub(crate) fn remove(piece: &mut Vec<u8>, at: u16) -> bool {
    if piece.len() != BITS {
        let Ok(position) = find(piece, at) else { return false };
        piece.drain(2 * position..2 * position + 2);
        return true;
    }
    let was_there = set_bit(piece, at, false);
    if len(piece) < MANY as u64 {
        let ids = RoaringBitmap::from_lsb0_bytes(0, piece);
        *piece = ids.iter().flat_map(|at| place(at).1.to_le_bytes()).collect();
    }
    was_there
}

fn list(piece: &[u8]) -> impl Iterator<Item = u16> {
    piece.as_chunks().0.iter().map(|at| u16::from_le_bytes(*at))
}

fn find(piece: &[u8], at: u16) -> Result<usize, usize> {
    piece.as_chunks().0.binary_search_by_key(&at, |at| u16::from_le_bytes(*at))
}

/// Sets or clears a bit. Whether that changed it.
fn set_bit(bits: &mut [u8], at: u16, value: bool) -> bool {
    let Some(byte) = bits.get_mut(usize::from(at / 8)) else { return false };
    let before = *byte;
    let bit = 1 << (at % 8);
    *byte = if value { before | bit } else { before & !bit };
    *byte != before
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn listed(piece: &[u8], first: u32) -> Vec<u32> {
        let mut set = RoaringBitmap::new();
        append(piece, first, &mut set);
        set.iter().collect()
    }

    proptest! {
        #[test]
        fn a_piece_is_a_set_in_one_form_only(
            changes in prop::collection::vec((0u16..8192, any::<bool>(), 1usize..700), 0..12),
        ) {
            let (mut piece, mut model) = (Vec::new(), BTreeSet::new());
            for (start, is_put, count) in changes {
                for at in (start..8192).step_by(3).take(count) {
                    if is_put {
                        prop_assert_eq!(insert(&mut piece, at), model.insert(at));
                    } else {
                        prop_assert_eq!(remove(&mut piece, at), model.remove(&at));
                    }
                    prop_assert!(piece.len() <= BITS);
                }
                prop_assert_eq!(is_sound(&piece), !model.is_empty());
                prop_assert_eq!(len(&piece), model.len() as u64);
                let first = u32::MAX - 8191;
                let expected: Vec<u32> = model.iter().map(|at| first + u32::from(*at)).collect();
                prop_assert_eq!(listed(&piece, first), expected);
                let mut anew = Vec::new();
                model.iter().rev().for_each(|at| assert!(insert(&mut anew, *at)));
                prop_assert_eq!(&anew, &piece);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..1100), at in 0u16..8192) {
            if is_sound(&bytes) {
                prop_assert_eq!(listed(&bytes, 8192).len() as u64, len(&bytes));
                let mut piece = bytes.clone();
                if insert(&mut piece, at) {
                    prop_assert!(remove(&mut piece, at));
                }
                prop_assert_eq!(piece, bytes);
            }
        }
    }
}
