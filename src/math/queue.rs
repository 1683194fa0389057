//! A queue that gives the nearest first.

use crate::math::scored::ordered;

/// Elements that are sorted the first time. Each time that these run out, twice as many are.
const FIRST_SORTED: usize = 32;

/// A queue that sorts no more than what is taken out of it: most elements of a search never are.
///
/// Elements of equal estimates come out in the order in which they were put in.
#[derive(Debug)]
pub(crate) struct LazyQueue<T> {
    elements: Vec<T>,
    /// The estimate of each element, as a number in the same order, above its place in `elements`:
    /// those below the bound, nearest last if they are sorted.
    near: Vec<u64>,
    is_sorted: bool,
    bound: u64,
    /// The others.
    far: Vec<u64>,
    next_sorted: usize,
}

impl<T> Default for LazyQueue<T> {
    fn default() -> Self {
        let (elements, near, far) = Default::default();
        Self { elements, near, is_sorted: true, bound: 0, far, next_sorted: 0 }
    }
}

impl<T: Copy> LazyQueue<T> {
    pub(crate) fn clear(&mut self) {
        self.elements.clear();
        self.near.clear();
        self.far.clear();
        (self.is_sorted, self.bound, self.next_sorted) = (true, 0, 0);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.near.is_empty() && self.far.is_empty()
    }

    pub(crate) fn push(&mut self, estimate: f32, element: T) {
        self.extend(std::iter::once((estimate, element)));
    }

    /// Puts elements with their estimates in.
    #[inline]
    pub(crate) fn extend(&mut self, elements: impl ExactSizeIterator<Item = (f32, T)>) {
        let first = self.elements.len() as u64;
        self.elements.reserve(elements.len());
        self.far.reserve(elements.len());
        for (place, (estimate, element)) in (first..).zip(elements) {
            let number = u64::from(ordered(estimate)) << 32 | place & u64::from(u32::MAX);
            if number < self.bound {
                self.near.push(number);
                self.is_sorted = false;
            } else {
                self.far.push(number);
            }
            self.elements.push(element);
        }
    }

    /// Takes the nearest element out.
    pub(crate) fn pop(&mut self) -> Option<T> {
        self.sort();
        let next = self.near.pop()?;
        self.element(next)
    }

    /// The nearest element, which stays.
    pub(crate) fn peek(&mut self) -> Option<T> {
        self.sort();
        self.near.last().and_then(|next| self.element(*next))
    }

    /// The nearest elements, which stay: at most so many, and fewer when others are not sorted yet.
    pub(crate) fn nearest(&mut self, count: usize) -> impl Iterator<Item = T> {
        self.sort();
        self.near.iter().rev().take(count).filter_map(|next| self.element(*next))
    }

    /// The element that a number of the order stands for.
    fn element(&self, number: u64) -> Option<T> {
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is the place")]
        let place = number as u32 as usize;
        self.elements.get(place).copied()
    }

    /// Makes the nearest element the last of those that are near.
    fn sort(&mut self) {
        if self.near.is_empty() && !self.far.is_empty() {
            let count = self.next_sorted.max(FIRST_SORTED);
            let rest = self.far.len().saturating_sub(count);
            if rest > 0 {
                self.far.select_nth_unstable_by(rest - 1, |a, b| b.cmp(a));
            }
            self.bound = if rest > 0 { self.far[rest - 1] } else { u64::MAX };
            self.near.extend(self.far.drain(rest..));
            self.next_sorted = count.saturating_mul(2);
            self.is_sorted = false;
        }
        if !self.is_sorted {
            self.near.sort_unstable_by(|a, b| b.cmp(a));
            self.is_sorted = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_gives_what_a_sorted_list_gives(steps in prop::collection::vec((-50i8..50, 0u8..4), 0..600), is_new: bool) {
            let (mut queue, mut list) = (LazyQueue::default(), Vec::new());
            if !is_new {
                queue.push(0.0, (0.0, 0));
                queue.clear();
            }
            for (id, (estimate, action)) in (0u32..).zip(steps) {
                if action == 0 {
                    list.sort_by(|a: &(f32, u32), b: &(f32, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                    let expected = if list.is_empty() { None } else { Some(list.remove(0)) };
                    prop_assert_eq!(queue.peek(), expected);
                    prop_assert_eq!(queue.nearest(1).next(), expected);
                    let rest = expected.iter().chain(&list);
                    prop_assert!(queue.nearest(9).zip(rest).all(|(near, next)| near == *next));
                    prop_assert_eq!(queue.pop(), expected);
                } else {
                    let element = (f32::from(estimate), id);
                    queue.push(element.0, element);
                    list.push(element);
                }
                prop_assert_eq!(queue.is_empty(), list.is_empty());
            }
        }
    }
}
