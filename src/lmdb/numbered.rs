//! A cache of the nodes of trees, which have small numbers.

use crate::kernel::prefetch::prefetch;

/// Slots of a tree, at most: docs/trials.md, "choices that were not swept". It bounds what one
/// large number may take. Numbers beyond share slots.
const MAX_SLOTS: usize = 1 << 18;

/// Values by tree and number, up to as many as it may hold. Then each new one takes the place of
/// the oldest.
///
/// Numbers are given out in order. So they find their values without a search, and usual ones do
/// not contend for a slot.
#[derive(Debug)]
pub(crate) struct Numbered<T> {
    /// For each tree and slot, one more than the place of its value; 0 if it has none.
    slots: Vec<Vec<u32>>,
    values: Vec<(u8, u32, T)>,
    /// The place of the oldest value, once all are taken.
    oldest: usize,
    max: usize,
}

impl<T: Copy> Numbered<T> {
    /// A cache of at most so many values.
    pub(crate) fn new(max: usize) -> Self {
        Self { slots: Vec::new(), values: Vec::new(), oldest: 0, max }
    }

    /// The place that the slot of a number names.
    #[inline]
    fn place(&self, tree: u8, number: u32) -> Option<usize> {
        let slots = self.slots.get(usize::from(tree))?;
        Some(slots.get(number as usize % MAX_SLOTS)?.checked_sub(1)? as usize)
    }

    #[inline]
    pub(crate) fn get(&self, tree: u8, number: u32) -> Option<T> {
        let (of_tree, of_number, value) = self.values.get(self.place(tree, number)?)?;
        (*of_tree == tree && *of_number == number).then_some(*value)
    }

    /// Prefetches a value, if it is here.
    #[inline]
    pub(crate) fn prefetch(&self, tree: u8, number: u32) {
        let place = self.place(tree, number);
        prefetch(place.and_then(|place| self.values.get(place..=place)).unwrap_or_default());
    }

    pub(crate) fn put(&mut self, tree: u8, number: u32, value: T) {
        if self.max == 0 {
            return;
        }
        let place = self.place(tree, number).unwrap_or_else(|| self.free());
        *self.slot(tree, number) = u32::try_from(place + 1).unwrap_or_default();
        match self.values.get_mut(place) {
            Some(old) => *old = (tree, number, value),
            None => self.values.push((tree, number, value)),
        }
    }

    /// A place for another value.
    fn free(&mut self) -> usize {
        if self.values.len() < self.max {
            return self.values.len();
        }
        let oldest = self.oldest;
        self.oldest = (oldest + 1) % self.max;
        if let Some((tree, number, _)) = self.values.get(oldest) {
            *self.slot(*tree, *number) = 0;
        }
        oldest
    }

    fn slot(&mut self, tree: u8, number: u32) -> &mut u32 {
        let (tree, slot) = (usize::from(tree), number as usize % MAX_SLOTS);
        if self.slots.len() <= tree {
            self.slots.resize_with(tree + 1, Vec::new);
        }
        let slots = &mut self.slots[tree];
        if slots.len() <= slot {
            slots.resize((slot + 1).next_power_of_two(), 0);
        }
        &mut slots[slot]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_was_put_last(
            puts in prop::collection::vec((0u8..3, 0u32..100, 0u32..3, any::<u32>()), 0..1000),
            max in 0usize..200,
        ) {
            let mut cache = Numbered::new(max);
            let mut last = std::collections::HashMap::new();
            for (tree, slot, round, value) in puts {
                let number = slot + round * MAX_SLOTS as u32;
                cache.put(tree, number, value);
                last.insert((tree, number), value);
                prop_assert_eq!(cache.get(tree, number), (max > 0).then_some(value));
            }
            prop_assert!(cache.values.len() <= max);
            let is_held = |(tree, number): &(u8, u32)| cache.get(*tree, *number).is_some();
            let held = last.keys().filter(|key| is_held(key)).count();
            let slots: std::collections::HashSet<(u8, u32)> =
                last.keys().map(|(tree, number)| (*tree, number % MAX_SLOTS as u32)).collect();
            prop_assert_eq!(held, slots.len().min(max));
            for ((tree, number), value) in last {
                cache.prefetch(tree, number);
                prop_assert!(cache.get(tree, number).is_none_or(|found| found == value));
            }
        }
    }

    #[test]
    fn a_large_number_takes_bounded_room() {
        let mut cache = Numbered::new(8);
        cache.put(0, u32::MAX, 1);
        assert_eq!((cache.get(0, u32::MAX), cache.slots[0].len()), (Some(1), MAX_SLOTS));
        assert_eq!(cache.get(0, u32::MAX - MAX_SLOTS as u32), None);
    }
}
