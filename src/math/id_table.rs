//! A set of ids that is filled and emptied again and again.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::LazyLock;

/// It decides where tables put ids. Each process has another one, so that nobody can choose ids
/// that collide. No answer depends on it.
static KEY: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0) | 1);
/// No id: ids have 32 bits.
const NONE: u64 = u64::MAX;

/// A hash table of ids.
#[derive(Debug, Default)]
pub(crate) struct IdTable(Vec<u64>);

impl IdTable {
    /// Empties the table and makes room for so many ids.
    pub(crate) fn begin(&mut self, ids: usize) {
        self.0.clear();
        self.0.resize((2 * ids).next_power_of_two(), NONE);
    }

    /// Puts in an id, for which there must be room; `false` if it is there already.
    pub(crate) fn insert(&mut self, id: u32) -> bool {
        let mask = self.0.len() - 1;
        let mixed = u64::from(id).wrapping_mul(*KEY);
        let hash = (mixed ^ mixed >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let mut slot = hash as usize & mask;
        loop {
            match self.0[slot] {
                NONE => {
                    self.0[slot] = u64::from(id);
                    return true;
                }
                found if found == u64::from(id) => return false,
                _ => slot = (slot + 1) & mask,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever chooses ids knows this code, but not the key of the process.
    #[test]
    fn ids_that_are_chosen_to_collide_are_spread_over_the_table() {
        const IDS: usize = 2_000;
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        let collide =
            |by: fn(u64) -> u64| (0..=u32::MAX).filter(move |id| by(u64::from(*id)) & 0xFFFF == 0);
        let families: [Vec<u32>; 5] = [
            collide(|id| id.wrapping_mul(GOLDEN) >> 32).take(IDS).collect(),
            collide(|id| id.wrapping_mul(GOLDEN) >> 48).take(IDS).collect(),
            (0..).take(IDS).collect(),
            (0..).step_by(1 << 16).take(IDS).collect(),
            (0..).take(IDS).map(|id: u32| id.wrapping_mul(0x9E37_79B1)).collect(),
        ];
        for (family, ids) in families.iter().enumerate() {
            let mut table = IdTable::default();
            table.begin(ids.len());
            assert!(ids.iter().all(|id| table.insert(*id)));
            assert!(!ids.iter().any(|id| table.insert(*id)));
            // Who looks for an id walks to the end of its run of full slots at most.
            let longest = table.0.split(|slot| *slot == NONE).map(<[u64]>::len).max().unwrap();
            assert!(longest <= 200, "family {family}, key {:#x}: {longest} slots in a row", *KEY);
        }
    }
}
