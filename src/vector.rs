//! Vectors from outside: checked before anything is done with them.

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::format::item::ItemRef;
use crate::index_spec::IndexSpec;
use crate::kernel::decode::decode;
use crate::kernel::{distance, encode, simd};
use crate::metric::Metric;
use crate::storage::{Components, Scale, Storage, words};

/// The greatest Euclidean length of a vector, 2^60. Squared distances between any two such vectors,
/// and their sketches' factors, fit `f32` with room to spare.
const MAX_NORM: f64 = (1u64 << 60) as f64;

/// A vector that suits an index: to search with, or as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct CheckedVector<'a> {
    squared_norm: f64,
    components: Form<'a>,
}

/// See [`Components`].
#[derive(Clone, Debug)]
enum Form<'a> {
    Floats(Cow<'a, [f32]>),
    Halves(Vec<u16>, Scale),
    Bytes(Vec<i8>, Scale),
    Signs { words: Vec<u64>, dims: usize, scale: Scale },
    Bits(Vec<u64>),
}

impl<'a> CheckedVector<'a> {
    /// A vector to search with: it is not rounded.
    pub(crate) fn new(vector: &'a [f32], spec: IndexSpec) -> Result<Self> {
        if vector.len() != spec.dims {
            return Err(Error::Dimensions { expected: spec.dims, got: vector.len() });
        }
        let mut numbers = vector.iter().copied().enumerate();
        if let Some((position, value)) = numbers.find(|(_, value)| !value.is_finite()) {
            return Err(Error::NonFinite { position, value });
        }
        let components = if spec.metric.is_of_bits() {
            Form::Bits(pack(vector)?)
        } else {
            Form::Floats(Cow::Borrowed(vector))
        };
        Self::measured(components, spec)
    }

    /// A vector to store, in the form in which the index stores it.
    pub(crate) fn to_store(vector: &'a [f32], spec: IndexSpec) -> Result<Self> {
        let checked = Self::new(vector, spec)?;
        let components = match spec.storage {
            _ if spec.metric.is_of_bits() => return Ok(checked),
            Storage::F32 => return Ok(checked),
            Storage::F16 => {
                let (codes, scale) = encode::halves(vector);
                Form::Halves(codes, scale)
            }
            Storage::I8 => {
                let (codes, scale) = encode::bytes(vector);
                Form::Bytes(codes, scale)
            }
            Storage::Bits => {
                let (words, scale) = encode::signs(vector);
                Form::Signs { words, dims: spec.dims, scale }
            }
        };
        // Rounding may shorten a vector to nothing, or lengthen it beyond what can be compared.
        Self::measured(components, spec)
    }

    fn measured(components: Form<'a>, spec: IndexSpec) -> Result<Self> {
        let mut checked = Self { squared_norm: 0.0, components };
        checked.squared_norm = squared_norm(checked.as_item().components);
        if checked.squared_norm > MAX_NORM * MAX_NORM {
            return Err(Error::NormOverflow { got: checked.squared_norm.sqrt(), max: MAX_NORM });
        }
        if spec.metric.normalizes() && checked.squared_norm == 0.0 {
            return Err(Error::ZeroVector);
        }
        Ok(checked)
    }

    /// The vector as an item.
    pub(crate) fn as_item(&self) -> ItemRef<'_> {
        let components = match &self.components {
            Form::Floats(floats) => Components::Floats(floats),
            Form::Halves(codes, scale) => Components::Halves(codes, *scale),
            Form::Bytes(codes, scale) => Components::Bytes(codes, *scale),
            Form::Signs { words, dims, scale } => {
                Components::Signs { words, dims: *dims, scale: *scale }
            }
            Form::Bits(bits) => Components::Bits(bits),
        };
        ItemRef { squared_norm: self.squared_norm, components }
    }

    /// A copy to search with.
    pub(crate) fn to_query(&self) -> CheckedVector<'static> {
        CheckedVector::of_item(&self.as_item())
    }
}

impl CheckedVector<'static> {
    /// A copy of an item to search with. It is decoded: the distances are the same.
    pub(crate) fn of_item(item: &ItemRef<'_>) -> Self {
        let components = match item.components {
            Components::Bits(bits) => Form::Bits(bits.to_vec()),
            components => {
                let mut floats = vec![0.0; components.len()];
                decode(simd::detect(), components, &mut floats);
                Form::Floats(Cow::Owned(floats))
            }
        };
        Self { squared_norm: item.squared_norm, components }
    }
}

/// Whether a stored item has the norm of its components, and one that this crate accepts: what is
/// found otherwise cannot be compared.
pub(crate) fn is_as_added(item: &ItemRef<'_>, metric: Metric) -> bool {
    let norm = squared_norm(item.components);
    let is_direction = !metric.normalizes() || norm > 0.0;
    norm == item.squared_norm && norm <= MAX_NORM * MAX_NORM && is_direction
}

/// The squared norm of stored components, if they are a vector that this crate accepts.
pub(crate) fn stored_norm(item: &ItemRef<'_>, spec: IndexSpec) -> Option<f64> {
    let vector = item.to_vector(spec.dims);
    CheckedVector::new(&vector, spec).ok().map(|checked| checked.squared_norm)
}

fn squared_norm(components: Components<'_>) -> f64 {
    distance::squared_norm(simd::detect(), components)
}

/// The rows of a matrix, each of which suits the index.
pub(crate) fn check_rows(vectors: &[f32], spec: IndexSpec) -> Result<Vec<CheckedVector<'_>>> {
    check_each(vectors, spec, |checked| checked)
}

/// Checks that each row of a matrix suits the index, and collects what is `kept` of them.
pub(crate) fn check_each<'a, T, C: FromIterator<T>>(
    vectors: &'a [f32],
    spec: IndexSpec,
    kept: impl Fn(CheckedVector<'a>) -> T,
) -> Result<C> {
    if !vectors.len().is_multiple_of(spec.dims) {
        return Err(Error::QueriesShape { dims: spec.dims, got: vectors.len() });
    }
    let rows = vectors.chunks_exact(spec.dims).enumerate();
    rows.map(|(row, vector)| {
        let offset = row * spec.dims;
        CheckedVector::new(vector, spec).map(&kept).map_err(|error| match error {
            Error::NonFinite { position, value } => {
                Error::NonFinite { position: offset + position, value }
            }
            Error::NotABit { position, value } => {
                Error::NotABit { position: offset + position, value }
            }
            error => error,
        })
    })
    .collect()
}

fn pack(vector: &[f32]) -> Result<Vec<u64>> {
    let mut bits = vec![0u64; words(vector.len())];
    for (position, value) in vector.iter().copied().enumerate() {
        if value == 1.0 {
            bits[position / 64] |= 1 << (position % 64);
        } else if value != 0.0 {
            return Err(Error::NotABit { position, value });
        }
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let check = |vector: &[f32], metric| {
            CheckedVector::new(vector, IndexSpec::plain(0, 3, metric)).map(|_| ())
        };
        for metric in Metric::ALL {
            assert!(check(&[1.0, 0.0, 1.0], metric).is_ok());
            assert!(matches!(
                check(&[1.0, 0.0], metric),
                Err(Error::Dimensions { expected: 3, got: 2 })
            ));
            assert!(matches!(
                check(&[1.0, f32::NAN, 1.0], metric),
                Err(Error::NonFinite { position: 1, .. })
            ));
            assert!(matches!(
                check(&[1.0, 0.0, f32::INFINITY], metric),
                Err(Error::NonFinite { position: 2, .. })
            ));
            assert_eq!(check(&[-0.0; 3], metric).is_ok(), !metric.normalizes());
        }
        for metric in [Metric::Euclidean, Metric::Cosine, Metric::DotProduct, Metric::Manhattan] {
            assert!(matches!(
                check(&[f32::MAX, 0.0, 0.0], metric),
                Err(Error::NormOverflow { .. })
            ));
            assert!(check(&[1e18, 0.0, 0.0], metric).is_ok());
            assert!(check(&[1e-45, 0.0, 0.0], metric).is_ok());
        }
        assert!(matches!(
            check(&[1.0, 0.5, 0.0], Metric::Hamming),
            Err(Error::NotABit { position: 1, .. })
        ));
    }
}
