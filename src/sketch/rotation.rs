//! The random rotation: signs and Hadamard transforms, in O(width log width) and without a matrix.

use crate::kernel::hadamard;
use crate::kernel::simd::Level;

/// Rounds of random signs and a transform. Three mix well in theory; the fourth reaches both ends
/// once more when the width is not a power of two.
const ROTATION_ROUNDS: usize = 4;

/// An orthogonal map of `width` floats, fixed by a seed.
///
/// Each round flips random signs. Then it applies a normalised Walsh-Hadamard transform to the
/// largest power of two of the components. The rounds take these from alternate ends of the vector,
/// the first one from the front.
///
/// The rotation is part of the format: stored centroids and sketches hold for this one only.
/// Component i of round r is flipped if bit `j % 64` of word `j / 64` is set, with
///
/// ```text
/// j = r width + i
/// ```
///
/// The words are those of SplitMix64 (Steele, Lea, Flood 2014), started from the seed.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    /// `ROTATION_ROUNDS` x `width` signs, 1 or -1.
    signs: Vec<f32>,
    width: usize,
}

impl Rotation {
    pub(crate) fn new(width: usize, seed: u64) -> Self {
        let words = (0..ROTATION_ROUNDS * width / 64).scan(seed, |state, _| Some(split_mix(state)));
        let signs = words
            .flat_map(|word| (0..64).map(move |bit| if word >> bit & 1 == 1 { -1.0 } else { 1.0 }))
            .collect();
        Self { signs, width }
    }

    /// The largest power of two that is not greater than the width.
    fn span(&self) -> usize {
        1 << self.width.ilog2()
    }

    /// Rotates `x`, of length `width`, in place.
    pub(crate) fn apply(&self, simd: Level, x: &mut [f32]) {
        let span = self.span();
        #[expect(clippy::cast_precision_loss, reason = "a power of two up to 65,536 is exact")]
        let scale = 1.0 / (span as f32).sqrt();
        for (round, signs) in self.signs.chunks_exact(self.width).enumerate() {
            let start = if round % 2 == 0 { 0 } else { self.width - span };
            hadamard::round(simd, x, signs, start..start + span, scale);
        }
    }
}

/// The next number of SplitMix64.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::simd;

    #[test]
    fn signs_are_those_of_the_published_generator() {
        // The first outputs of SplitMix64 for the seed 1234567.
        let mut state = 1_234_567;
        let first = [(); 3].map(|()| split_mix(&mut state));
        assert_eq!(
            first,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn lengths_and_angles_survive_and_single_axes_spread() {
        for width in [64, 128, 192, 384, 448, 1536] {
            let rotation = Rotation::new(width, 7);
            let mut axis = vec![0.0f32; width];
            axis[width - 1] = 1.0;
            let mut other: Vec<f32> = (0..width).map(|i| (i as f32).sin()).collect();
            let (norm, product) = (other.iter().map(|x| x * x).sum::<f32>(), other[width - 1]);
            rotation.apply(simd::detect(), &mut axis);
            rotation.apply(simd::detect(), &mut other);
            assert!((axis.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-4);
            assert!((other.iter().map(|x| x * x).sum::<f32>() / norm - 1.0).abs() < 1e-4);
            assert!(
                (axis.iter().zip(&other).map(|(x, y)| x * y).sum::<f32>() - product).abs() < 1e-3
            );
            let largest = axis.iter().fold(0.0f32, |max, x| max.max(x.abs()));
            assert!(
                largest < 6.0 / (width as f32).sqrt(),
                "width {width}: one component keeps {largest}"
            );
        }
    }
}
