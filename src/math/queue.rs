//! Nodes that have been met and not been looked at, nearest first.

/// A node that has been met.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) struct QueuedNode {
    pub(crate) estimate: f32,
    pub(crate) tree: u8,
    pub(crate) id: u32,
    /// The branch above it; its own id for a root.
    pub(crate) parent: u32,
}

/// Nodes that count as near the first time; each time that these run out, twice as many do.
const FIRST_SORTED: usize = 32;

/// A queue that sorts no more than what is taken out of it: most of what is met is never looked at.
///
/// Equal estimates come out in the order in which they were put in.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    met: Vec<QueuedNode>,
    /// Of each node its estimate, as a number in the same order, and its place in `met`. Those
    /// below the bound, nearest last if they are sorted:
    near: Vec<u64>,
    is_sorted: bool,
    bound: u64,
    /// The others.
    far: Vec<u64>,
    next_sorted: usize,
}

impl Queue {
    pub(crate) fn clear(&mut self) {
        self.met.clear();
        self.near.clear();
        self.far.clear();
        (self.is_sorted, self.bound, self.next_sorted) = (true, 0, 0);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.near.is_empty() && self.far.is_empty()
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, met: QueuedNode) {
        let place = self.met.len() as u64;
        let number = u64::from(ordered(met.estimate)) << 32 | place & u64::from(u32::MAX);
        if number < self.bound {
            self.near.push(number);
            self.is_sorted = false;
        } else {
            self.far.push(number);
        }
        self.met.push(met);
    }

    /// The nearest node.
    pub(crate) fn pop(&mut self) -> Option<QueuedNode> {
        self.sort();
        let next = self.near.pop()?;
        self.at(next)
    }

    /// The nearest node, which stays.
    pub(crate) fn peek(&mut self) -> Option<QueuedNode> {
        self.sort();
        self.near.last().and_then(|next| self.at(*next))
    }

    /// What a number of the order stands for.
    fn at(&self, order: u64) -> Option<QueuedNode> {
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is the place")]
        let place = order as u32 as usize;
        self.met.get(place).copied()
    }

    /// Makes the nearest node the last of those that are near.
    fn sort(&mut self) {
        if self.near.is_empty() && !self.far.is_empty() {
            let some = self.next_sorted.max(FIRST_SORTED);
            let rest = self.far.len().saturating_sub(some);
            if rest > 0 {
                self.far.select_nth_unstable_by(rest - 1, |a, b| b.cmp(a));
            }
            self.bound = if rest > 0 { self.far[rest - 1] } else { u64::MAX };
            self.near.extend(self.far.drain(rest..));
            self.next_sorted = some.saturating_mul(2);
            self.is_sorted = false;
        }
        if !self.is_sorted {
            self.near.sort_unstable_by(|a, b| b.cmp(a));
            self.is_sorted = true;
        }
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
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_gives_what_a_sorted_list_gives(steps in prop::collection::vec((-50i8..50, 0u8..4), 0..600), is_new: bool) {
            let (mut queue, mut list) = (Queue::default(), Vec::new());
            if !is_new {
                queue.push(QueuedNode { estimate: 0.0, tree: 0, id: 0, parent: 0 });
                queue.clear();
            }
            for (id, (estimate, action)) in (0u32..).zip(steps) {
                if action == 0 {
                    list.sort_by(|a: &QueuedNode, b: &QueuedNode| a.estimate.total_cmp(&b.estimate).then(a.id.cmp(&b.id)));
                    let expected = if list.is_empty() { None } else { Some(list.remove(0)) };
                    prop_assert_eq!(queue.peek(), expected);
                    prop_assert_eq!(queue.pop(), expected);
                } else {
                    let met = QueuedNode { estimate: f32::from(estimate), tree: 0, id, parent: id };
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
