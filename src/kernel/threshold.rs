//! The few of many scores that are below a limit.

use fearless_simd::prelude::*;
use fearless_simd::{Simd, dispatch, f32x16};
use fearless_simd_macros::simd;

use crate::kernel::simd::Level;

/// Scores that are compared at once.
const LANES: usize = 16;

/// Scores as products give them: `norms[i] + sign * products[i]`.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Scores<'a> {
    pub(crate) norms: &'a [f32],
    pub(crate) products: &'a [f32],
    pub(crate) sign: f32,
}

impl Scores<'_> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = f32> {
        self.norms.iter().zip(self.products).map(|(norm, product)| norm + product * self.sign)
    }
}

/// Calls `visit(index, score)` for each score below `limit`, in order. `visit` returns the new
/// limit, which may only fall. A score that is NaN is visited, and every score while the limit is
/// NaN.
///
/// Most scores are above the limit, so that 16 take one comparison. A limit that falls within 16
/// scores holds from the next 16 on: `visit` has to compare again.
pub(crate) fn below(
    simd: Level,
    scores: Scores<'_>,
    limit: f32,
    visit: impl FnMut(usize, f32) -> f32,
) {
    dispatch!(simd, simd => below_with(simd, scores, limit, visit));
}

#[simd]
fn below_with<S: Simd, F: FnMut(usize, f32) -> f32>(
    simd: S,
    scores: Scores<'_>,
    mut limit: f32,
    mut visit: F,
) {
    let (norms, rest_of_norms) = scores.norms.as_chunks::<LANES>();
    let (products, rest_of_products) = scores.products.as_chunks::<LANES>();
    let sign = f32x16::splat(simd, scores.sign);
    for (at, (norms, products)) in norms.iter().zip(products).enumerate() {
        let scores = f32x16::from_slice(simd, norms) + f32x16::from_slice(simd, products) * sign;
        let mut near = !scores.simd_ge(f32x16::splat(simd, limit)).to_bitmask() & 0xFFFF;
        while near != 0 {
            let lane = near.trailing_zeros() as usize % LANES;
            near &= near - 1;
            limit = visit(at * LANES + lane, scores.as_slice()[lane]);
        }
    }
    let first = norms.len() * LANES;
    for (at, (norm, product)) in rest_of_norms.iter().zip(rest_of_products).enumerate() {
        let score = norm + product * scores.sign;
        #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "either may be NaN")]
        if !(score >= limit) {
            limit = visit(first + at, score);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn all_that_are_below_are_visited_in_order(
            pairs in prop::collection::vec((-20i8..20, -20i8..20), 0..70),
            limit in -30i8..30,
            minus in any::<bool>(),
            without in prop::option::of(0usize..70),
        ) {
            let mut norms: Vec<f32> = pairs.iter().map(|pair| f32::from(pair.0)).collect();
            if let Some(norm) = without.and_then(|at| norms.get_mut(at)) {
                *norm = f32::NAN;
            }
            let products: Vec<f32> = pairs.iter().map(|pair| f32::from(pair.1)).collect();
            let sign = if minus { -1.0 } else { 1.0 };
            let score = |i: usize| norms[i] + sign * products[i];
            // The limit falls, as in a search for the least.
            let mut expected = Vec::new();
            let mut least = f32::from(limit);
            for i in 0..pairs.len() {
                if score(i).is_nan() || score(i) < least {
                    expected.push(i);
                    least = least.min(score(i));
                }
            }
            for simd in crate::kernel::simd::all() {
                let (mut visited, mut least) = (Vec::new(), f32::from(limit));
                below(simd, Scores { norms: &norms, products: &products, sign }, least, |i, found| {
                    assert!(found == score(i) || found.is_nan() && score(i).is_nan());
                    if found.is_nan() || found < least {
                        visited.push(i);
                        least = least.min(found);
                    }
                    least
                });
                prop_assert_eq!(&visited, &expected);
            }
        }
    }
}
