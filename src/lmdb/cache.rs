//! A small cache of what has been looked up in one snapshot.

use crate::kernel::prefetch::prefetch;

/// Slots in which a key may be. This and the next: docs/trials.md, "look-ups".
const WAYS: usize = 8;
/// A cache has at least so many slots for each value that it holds, up to its largest size. So
/// nearly every key finds one that is free.
const ROOM: usize = 4;
/// Slots of a cache that holds something, at first.
const FIRST_SLOTS: usize = 256;
/// The key of an empty slot: none of ours are so large.
const EMPTY: u64 = u64::MAX;

/// Values by key, each in one of the slots that its key has; a later key takes the slot of an
/// earlier one.
///
/// It grows with what it holds, up to a number of slots. So a reader for one search pays for
/// little, and the memory of a long-lived one is bounded.
#[derive(Debug)]
pub(crate) struct Cache<T> {
    keys: Vec<u64>,
    /// One for each key; that of an empty slot is left over or was never there.
    values: Vec<Option<T>>,
    held: usize,
    /// Zero, or a power of two.
    max_slots: usize,
}

impl<T: Copy> Cache<T> {
    /// A cache of at most so many slots: a power of two, or 0 for a cache that keeps nothing.
    pub(crate) fn new(max_slots: usize) -> Self {
        Self { keys: Vec::new(), values: Vec::new(), held: 0, max_slots }
    }

    /// The value of a key, if one of its slots still has it.
    #[inline]
    pub(crate) fn get(&self, key: u64) -> Option<T> {
        let first = first_slot(key, self.keys.len());
        let ways = self.keys.get(first..first + WAYS)?;
        let way = ways.iter().position(|slot| *slot == key)?;
        self.values[first + way]
    }

    /// Prefetches the slots of a key.
    #[inline]
    pub(crate) fn prefetch(&self, key: u64) {
        let first = first_slot(key, self.keys.len());
        prefetch(self.keys.get(first..first + WAYS).unwrap_or_default());
        prefetch(self.values.get(first..first + WAYS).unwrap_or_default());
    }

    pub(crate) fn put(&mut self, key: u64, value: T) {
        if ROOM * self.held >= self.keys.len() && self.keys.len() < self.max_slots {
            self.grow();
        }
        let first = first_slot(key, self.keys.len());
        let Some(ways) = self.keys.get(first..first + WAYS) else { return };
        let way = ways.iter().position(|slot| *slot == key || *slot == EMPTY);
        // Any victim will do, and this one takes no list of who was used when.
        #[expect(clippy::cast_possible_truncation, reason = "one of a few")]
        let way = way.unwrap_or((key % WAYS as u64) as usize);
        self.held += usize::from(ways[way] == EMPTY);
        self.keys[first + way] = key;
        self.values[first + way] = Some(value);
    }

    fn grow(&mut self) {
        let len = (2 * self.keys.len()).max(FIRST_SLOTS).min(self.max_slots.max(WAYS));
        let keys = std::mem::replace(&mut self.keys, vec![EMPTY; len]);
        let values = std::mem::replace(&mut self.values, vec![None; len]);
        self.held = 0;
        for (key, value) in keys.into_iter().zip(values) {
            if let Some(value) = value.filter(|_| key != EMPTY) {
                self.put(key, value);
            }
        }
    }
}

/// The first slot of a key among `len`, a power of two (Fibonacci hashing: Knuth, The Art of
/// Computer Programming, 6.4).
#[inline]
fn first_slot(key: u64, len: usize) -> usize {
    let hash = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    // The high bits are the best mixed ones.
    (hash >> 40) as usize & len.wrapping_sub(1) & !(WAYS - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_it_holds_is_what_was_put_last(
            puts in prop::collection::vec((0u64..500, any::<u32>()), 0..2000),
            log in 0u32..12,
        ) {
            let mut cache = Cache::new(1 << log);
            let mut last = std::collections::HashMap::new();
            for (key, value) in puts {
                cache.put(key, value);
                last.insert(key, value);
                prop_assert_eq!(cache.get(key), Some(value));
            }
            prop_assert!(cache.keys.len() <= WAYS.max(1 << log));
            prop_assert_eq!(cache.held, cache.keys.iter().filter(|key| **key != EMPTY).count());
            for (key, value) in last {
                prop_assert!(cache.get(key).is_none_or(|found| found == value));
            }
        }
    }

    #[test]
    fn without_slots_it_keeps_nothing() {
        let mut cache = Cache::new(0);
        assert_eq!(cache.get(0), None);
        cache.put(0, 1);
        assert_eq!(cache.get(0), None);
    }
}
