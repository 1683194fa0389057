//! From the components of a vector to the codes that are stored: see
//! [`Storage`](crate::storage::Storage).

use crate::kernel::half::narrow;
use crate::storage::{Scale, words};

/// The exponent of the longest halves, and the least of a scale.
const MAX_HALF_EXPONENT: i32 = 15;
const MIN_EXPONENT: i32 = -126;
/// The distance of the lowest and the highest code of a byte.
const BYTE_SPAN: f64 = 255.0;
/// Below it, whole numbers and their differences are exact.
const MAX_WHOLE: f64 = (1u32 << 23) as f64;

/// Codes in half precision. The scale is a power of two, by which the longest component is as long
/// as a half can be. So what was in half precision stays as it is.
pub(crate) fn halves(vector: &[f32]) -> (Vec<u16>, Scale) {
    let longest = vector.iter().fold(0.0f32, |longest, x| longest.max(x.abs()));
    let codes_by = |exponent: i32| {
        let factor = 2f32.powi(exponent);
        let codes: Vec<u16> = vector.iter().map(|x| narrow(x / factor)).collect();
        (codes, Scale { factor, offset: 0.0 })
    };
    if longest == 0.0 {
        return codes_by(0);
    }
    #[expect(clippy::cast_possible_wrap, reason = "8 bits of exponent")]
    let exponent = (longest.to_bits() >> 23) as i32 - 127 - MAX_HALF_EXPONENT;
    // Just below the next power of two, the longest would be rounded to an infinite one.
    let is_infinite = narrow(longest / 2f32.powi(exponent.max(MIN_EXPONENT))) == 0x7C00;
    codes_by((exponent + i32::from(is_infinite)).max(MIN_EXPONENT))
}

/// Codes of a byte, in equal steps from the smallest component to the largest. The step is 1 for
/// whole numbers that allow it.
#[expect(clippy::cast_possible_truncation, reason = "codes are clamped, scales are rounded once")]
pub(crate) fn bytes(vector: &[f32]) -> (Vec<i8>, Scale) {
    let all = || vector.iter().map(|x| f64::from(*x));
    let low = all().fold(f64::INFINITY, f64::min);
    let high = all().fold(f64::NEG_INFINITY, f64::max);
    let is_whole = high - low <= BYTE_SPAN
        && low.abs().max(high.abs()) < MAX_WHOLE
        && vector.iter().all(|x| x.fract() == 0.0);
    let scale = if low >= high {
        Scale { factor: 0.0, offset: low as f32 }
    } else {
        let step = if is_whole { 1.0 } else { (high - low) / BYTE_SPAN };
        let factor = (step as f32).max(f32::MIN_POSITIVE);
        Scale { factor, offset: (low - f64::from(i8::MIN) * f64::from(factor)) as f32 }
    };
    let (factor, offset) = (f64::from(scale.factor), f64::from(scale.offset));
    // Where all components are equal, this is 0 / 0, which becomes 0.
    let codes = all().map(|x| ((x - offset) / factor).round() as i8).collect();
    (codes, scale)
}

/// Codes of a bit: whether a component is above the mean. The two levels are the means of those
/// that are and of those that are not.
#[expect(clippy::cast_possible_truncation, reason = "rounded once")]
#[expect(clippy::cast_precision_loss, reason = "at most 65,536 components")]
pub(crate) fn signs(vector: &[f32]) -> (Vec<u64>, Scale) {
    let mean = |keep: &dyn Fn(f64) -> bool| {
        let kept = vector.iter().map(|x| f64::from(*x)).filter(|x| keep(*x));
        let (sum, count) = kept.fold((0.0, 0usize), |(sum, count), x| (sum + x, count + 1));
        (count > 0).then(|| sum / count as f64)
    };
    let middle = mean(&|_| true).unwrap_or(0.0);
    let low = mean(&|x| x <= middle).unwrap_or(middle);
    let high = mean(&|x| x > middle).unwrap_or(low);
    let mut codes = vec![0u64; words(vector.len())];
    for (word, chunk) in codes.iter_mut().zip(vector.chunks(64)) {
        let bits = chunk.iter().enumerate();
        *word = bits.map(|(i, x)| u64::from(f64::from(*x) > middle) << i).sum();
    }
    let scale = Scale { factor: ((high - low) / 2.0) as f32, offset: ((high + low) / 2.0) as f32 };
    (codes, scale)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::decode::{decode, decode_one};
    use crate::kernel::half::widen;
    use crate::kernel::simd;
    use crate::storage::Components;

    fn decoded(components: Components<'_>) -> Vec<f32> {
        let mut out = vec![0.0; components.len()];
        decode(simd::detect(), components, &mut out);
        out
    }

    fn through(vector: &[f32]) -> [Vec<f32>; 3] {
        let ((halves, of_halves), (bytes, of_bytes)) = (halves(vector), bytes(vector));
        let (words, scale) = signs(vector);
        [
            decoded(Components::Halves(&halves, of_halves)),
            decoded(Components::Bytes(&bytes, of_bytes)),
            decoded(Components::Signs { words: &words, dims: vector.len(), scale }),
        ]
    }

    proptest! {
        #[test]
        fn all_levels_decode_as_the_scalar_twin(
            vector in prop::collection::vec(-1e6f32..1e6, 1..300),
            power in -60i32..40,
        ) {
            let vector: Vec<f32> = vector.iter().map(|x| x * 2f32.powi(power)).collect();
            let ((halves, of_halves), (bytes, of_bytes)) = (halves(&vector), bytes(&vector));
            let (words, scale) = signs(&vector);
            let all = [
                Components::Floats(&vector),
                Components::Halves(&halves, of_halves),
                Components::Bytes(&bytes, of_bytes),
                Components::Signs { words: &words, dims: vector.len(), scale },
                Components::Bits(&words),
            ];
            for components in all {
                let twin: Vec<f32> =
                    (0..components.len()).map(|i| decode_one(components, i)).collect();
                for simd in simd::all() {
                    for room in [0, 1, vector.len() / 2, vector.len()] {
                        let mut out = vec![0.0; room];
                        decode(simd, components, &mut out);
                        prop_assert_eq!(&out[..], &twin[..room]);
                    }
                }
            }
        }

        #[test]
        fn errors_are_within_half_a_step(
            vector in prop::collection::vec(-1.0f32..1.0, 2..200),
            power in -100i32..59,
        ) {
            let vector: Vec<f32> = vector.iter().map(|x| x * 2f32.powi(power)).collect();
            let longest = vector.iter().fold(0.0f32, |longest, x| longest.max(x.abs()));
            let low = vector.iter().copied().fold(f32::INFINITY, f32::min);
            let high = vector.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let [of_halves, of_bytes, of_signs] = through(&vector);
            for ((x, half), byte) in vector.iter().zip(of_halves).zip(of_bytes) {
                prop_assert!((x - half).abs() <= x.abs() / 2048.0 + longest * 2f32.powi(-39));
                prop_assert!((x - byte).abs() <= (high - low) / 509.0 + longest * 1e-6);
            }
            // The levels keep the sum, and lie within what they stand for.
            let sum = |values: &[f32]| values.iter().map(|x| f64::from(*x)).sum::<f64>();
            let error = (sum(&vector) - sum(&of_signs)).abs();
            prop_assert!(error <= 1e-6 * f64::from(longest) * vector.len() as f64);
            prop_assert!(of_signs.iter().all(|x| *x >= low - longest * 1e-6 && *x <= high + longest * 1e-6));
        }

        #[test]
        fn halves_come_back(halves in prop::collection::vec(any::<u16>(), 1..100)) {
            let vector: Vec<f32> =
                halves.into_iter().map(widen).filter(|x| x.is_finite()).collect();
            prop_assert_eq!(&through(&vector)[0], &vector);
        }

        #[test]
        fn whole_numbers_come_back(
            low in prop::sample::select(vec![0.0f32, -128.0, -8_388_000.0, 8_388_000.0]),
            steps in prop::collection::vec(any::<u8>(), 1..100),
        ) {
            let vector: Vec<f32> = steps.iter().map(|step| low + f32::from(*step)).collect();
            prop_assert_eq!(&through(&vector)[1], &vector);
        }
    }

    #[test]
    fn extremes_stay_finite() {
        let vectors = [
            vec![0.0; 3],
            vec![-7.5; 65],
            vec![1e-45, 0.0],
            vec![f32::MIN_POSITIVE, -1e-45],
            vec![65_519.99, -65_520.0, 1e-8],
            vec![2f32.powi(60), -2f32.powi(60)],
            vec![1e18, 1e-18],
            vec![-1.0, 1.0, 1.0],
        ];
        for vector in vectors {
            let [halves, bytes, signs] = through(&vector);
            for decoded in [&halves, &bytes, &signs] {
                assert!(decoded.iter().all(|x| x.is_finite()), "{vector:?}: {decoded:?}");
            }
            assert_eq!(halves.iter().all(|x| *x == 0.0), vector.iter().all(|x| *x == 0.0));
        }
        // A vector of two values is kept as it is.
        assert_eq!(through(&[-1.0, 1.0, 1.0])[2], [-1.0, 1.0, 1.0]);
        assert_eq!(through(&[0.0, 1.0, 1.0])[2], [0.0, 1.0, 1.0]);
        assert_eq!(through(&[-7.5; 65])[1], [-7.5; 65]);
    }
}
