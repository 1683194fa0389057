//! Ids in the order of their scores, which may be estimates. The smallest is the nearest.

use crate::kernel::insert::insert_all;
use crate::kernel::simd::Level;

/// A score with its id: ordered by score, then by id.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) struct Scored {
    pub(crate) score: f32,
    pub(crate) id: u32,
}

impl Eq for Scored {}

impl Ord for Scored {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.score.total_cmp(&other.score).then(self.id.cmp(&other.id))
    }
}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// An id with a score, in the order of [`Scored`].
pub(crate) trait Ranked: Copy + Ord {
    fn id(self) -> u32;
    fn score(self) -> f32;

    /// Puts elements in their places among the nearest, `max` of them at most, each id once.
    fn insert_all(
        simd: Level,
        nearest: &mut Vec<Self>,
        max: usize,
        elements: &[Self],
        may_repeat: bool,
    );
}

impl Ranked for Scored {
    fn id(self) -> u32 {
        self.id
    }

    fn score(self) -> f32 {
        self.score
    }

    fn insert_all(
        _: Level,
        nearest: &mut Vec<Self>,
        max: usize,
        elements: &[Self],
        may_repeat: bool,
    ) {
        for element in elements {
            let known = nearest.iter().position(|known| may_repeat && known.id == element.id);
            match known {
                Some(known) if nearest[known] <= *element => continue,
                Some(known) => _ = nearest.remove(known),
                None if nearest.len() == max && nearest.last() <= Some(element) => continue,
                None if nearest.len() == max => _ = nearest.pop(),
                None => {}
            }
            nearest.insert(nearest.partition_point(|known| known < element), *element);
        }
    }
}

/// A packed number: see [`packed`].
impl Ranked for u64 {
    fn id(self) -> u32 {
        id_of(self)
    }

    fn score(self) -> f32 {
        estimate_of(self)
    }

    fn insert_all(
        simd: Level,
        nearest: &mut Vec<Self>,
        max: usize,
        elements: &[Self],
        may_repeat: bool,
    ) {
        insert_all(simd, nearest, max, elements, may_repeat);
    }
}

/// An id below its estimate: such numbers sort as [`Scored`] does, and faster.
pub(crate) fn packed(id: u32, estimate: f32) -> u64 {
    u64::from(ordered(estimate)) << 32 | u64::from(id)
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is the id")]
pub(crate) fn id_of(packed: u64) -> u32 {
    packed as u32
}

pub(crate) fn estimate_of(packed: u64) -> f32 {
    unordered((packed >> 32) as u32)
}

/// A number that orders as `f32::total_cmp` does.
pub(crate) fn ordered(x: f32) -> u32 {
    let bits = x.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// The number that [`ordered`] makes this of.
fn unordered(number: u32) -> f32 {
    f32::from_bits(if number >> 31 == 1 { number & !(1 << 31) } else { !number })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn packed_numbers_order_as_scores_with_ids_do(a: u32, b: u32, ids: (u32, u32)) {
            let scored = |bits, id| Scored { score: f32::from_bits(bits), id };
            let (x, y) = (scored(a, ids.0), scored(b, ids.1));
            let [p, q] = [x, y].map(|scored| packed(scored.id, scored.score));
            prop_assert_eq!(p.cmp(&q), x.cmp(&y));
            prop_assert_eq!((p.score().to_bits(), p.id()), (a, ids.0));
        }
    }
}
