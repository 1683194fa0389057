//! Nodes that have been met and not been looked at, nearest first.

/// A node that has been met.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) struct Met {
    pub(crate) estimate: f32,
    pub(crate) tree: u8,
    pub(crate) id: u32,
    /// The branch above it; its own id for a root.
    pub(crate) parent: u32,
}

/// Nodes that are sorted the first time; each time that these run out, twice as many are.
const FIRST_SORTED: usize = 32;

/// A queue that sorts no more than what is taken out of it: most of what is met is never looked at.
///
/// Equal estimates come out in the order in which they were put in.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    met: Vec<Met>,
    /// Of each node its estimate, as a number in the same order, and its place in `met`: first those that are not sorted,
    /// then the nearest ones, nearest last.
    order: Vec<u64>,
    /// Where the sorted part begins.
    sorted: usize,
    next_sorted: usize,
}

impl Queue {
    pub(crate) fn clear(&mut self) {
        self.met.clear();
        self.order.clear();
        (self.sorted, self.next_sorted) = (0, FIRST_SORTED);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(crate) fn push(&mut self, met: Met) {
        // What is put in may come before what is sorted already.
        self.sorted = self.order.len() + 1;
        let place = self.met.len() as u64;
        self.order.push(u64::from(ordered(met.estimate)) << 32 | place & u64::from(u32::MAX));
        self.met.push(met);
    }

    /// The nearest node.
    pub(crate) fn pop(&mut self) -> Option<Met> {
        if self.sorted >= self.order.len() {
            self.sort_some();
        }
        let next = self.order.pop()?;
        self.at(next)
    }

    /// The nearest node, which stays.
    pub(crate) fn peek(&mut self) -> Option<Met> {
        if self.sorted >= self.order.len() {
            self.sort_some();
        }
        self.order.last().and_then(|next| self.at(*next))
    }

    /// What a number of the order stands for.
    fn at(&self, order: u64) -> Option<Met> {
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is the place")]
        let place = order as u32 as usize;
        self.met.get(place).copied()
    }

    fn sort_some(&mut self) {
        if self.order.is_empty() {
            return;
        }
        let some = self.next_sorted.min(self.order.len());
        self.sorted = self.order.len() - some;
        self.next_sorted = self.next_sorted.saturating_mul(2);
        if self.sorted > 0 {
            self.order.select_nth_unstable_by(self.sorted - 1, |a, b| b.cmp(a));
        }
        self.order[self.sorted..].sort_unstable_by(|a, b| b.cmp(a));
    }
}

/// A number that orders as `f32::total_cmp` does.
pub(crate) fn ordered(x: f32) -> u32 {
    let bits = x.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// The number that [`ordered`] makes this of.
pub(crate) fn unordered(number: u32) -> f32 {
    f32::from_bits(if number >> 31 == 1 { number & !(1 << 31) } else { !number })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_gives_what_a_sorted_list_gives(steps in prop::collection::vec((-50i8..50, 0u8..4), 0..600)) {
            let (mut queue, mut list) = (Queue::default(), Vec::new());
            queue.clear();
            for (id, (estimate, action)) in (0u32..).zip(steps) {
                if action == 0 {
                    list.sort_by(|a: &Met, b: &Met| a.estimate.total_cmp(&b.estimate).then(a.id.cmp(&b.id)));
                    let expected = if list.is_empty() { None } else { Some(list.remove(0)) };
                    prop_assert_eq!(queue.peek(), expected);
                    prop_assert_eq!(queue.pop(), expected);
                } else {
                    let met = Met { estimate: f32::from(estimate), tree: 0, id, parent: id };
                    queue.push(met);
                    list.push(met);
                }
                prop_assert_eq!(queue.is_empty(), list.is_empty());
            }
        }

        #[test]
        fn ordered_numbers_order_as_floats_do(a: u32, b: u32) {
            let (x, y) = (f32::from_bits(a), f32::from_bits(b));
            prop_assert_eq!(ordered(x).cmp(&ordered(y)), x.total_cmp(&y));
            prop_assert_eq!(unordered(ordered(x)).to_bits(), a);
        }
    }
}
