//! How the components of a vector are stored: the one place that says it.

use std::fmt;

use crate::metric::Metric;

/// What the components of an index's vectors are stored as.
///
/// Distances are exact with respect to what is stored: they are those of the vector that
/// [`item_vector`](crate::Reader::item_vector) gives back. A query by a vector is not rounded. The
/// forest, too, follows from what is stored, so that it can be made again at any time.
///
/// A vector is *decoded* as `code * scale + offset`, with a scale and an offset of its own, in
/// single precision.
///
/// ```
/// use spinney::{IndexOptions, Metric, Storage};
/// let options = IndexOptions::new(768, Metric::Cosine).storage(Storage::F16);
/// assert_eq!(Storage::F16.to_string(), "f16");
/// # let _ = options;
/// ```
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Storage {
    /// Four bytes a dimension: the vector as it was added. Distances are those of the vectors.
    #[default]
    F32,
    /// Two bytes a dimension: IEEE half precision, 11 significant bits.
    ///
    /// Each vector is scaled by a power of two, so that none is too long or too short. What was in
    /// half precision before comes back as it was. Distances are those of the vectors rounded to
    /// half precision.
    F16,
    /// One byte a dimension: 256 steps from the smallest to the largest component of each vector.
    ///
    /// Vectors of whole numbers that span no more than 255 are kept as they are: those from 0 to
    /// 255, and those from -128 to 127. Distances are those of the vectors rounded to their steps.
    I8,
    /// One bit a dimension: on which side of the vector's mean the component lies, like the binary
    /// quantised metrics of other stores.
    ///
    /// Two numbers are kept of each vector: the means of the components on either side. Distances
    /// are those of the vectors that have only these two, so that they order neighbours roughly:
    /// ask for several times as many, and compare those with vectors that are kept elsewhere. The
    /// bits of the Hamming metric are always stored so, and as they are.
    Bits,
}

impl Storage {
    pub(crate) const ALL: [Self; 4] = [Self::F32, Self::F16, Self::I8, Self::Bits];

    /// The storage for an index of this metric unless another is asked for.
    pub(crate) const fn default_for(metric: Metric) -> Self {
        if metric.is_of_bits() { Self::Bits } else { Self::F32 }
    }

    /// Whether vectors of this metric can be stored so.
    pub(crate) fn suits(self, metric: Metric) -> bool {
        !metric.is_of_bits() || self == Self::Bits
    }

    /// The byte that stands for this storage in the index record.
    pub(crate) const fn to_byte(self) -> u8 {
        match self {
            Self::F32 => 0,
            Self::Bits => 1,
            Self::F16 => 2,
            Self::I8 => 3,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|storage| storage.to_byte() == byte)
    }

    /// Bytes of the components of a vector.
    pub(crate) const fn bytes(self, dims: usize) -> usize {
        match self {
            Self::F32 => 4 * dims,
            Self::F16 => 2 * dims,
            Self::I8 => dims,
            Self::Bits => 8 * words(dims),
        }
    }

    /// Views the components of a vector at the start of `bytes`; fails with what is wrong.
    pub(crate) fn view(
        self,
        metric: Metric,
        scale: Scale,
        bytes: &[u8],
        dims: usize,
    ) -> Result<Components<'_>, &'static str> {
        let bytes = bytes.get(..self.bytes(dims)).ok_or("an item is too short")?;
        match self {
            Self::F32 => Ok(Components::Floats(cast(bytes)?)),
            Self::F16 => Ok(Components::Halves(cast(bytes)?, scale)),
            Self::I8 => Ok(Components::Bytes(cast(bytes)?, scale)),
            Self::Bits => {
                let words: &[u64] = cast(bytes)?;
                let has_more = |last| !dims.is_multiple_of(64) && last >> (dims % 64) != 0;
                if words.last().is_some_and(|last| has_more(*last)) {
                    return Err("an item has bits beyond its dimensions");
                }
                if metric.is_of_bits() {
                    Ok(Components::Bits(words))
                } else {
                    Ok(Components::Signs { words, dims, scale })
                }
            }
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::I8 => "i8",
            Self::Bits => "bits",
        }
    }
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Views bytes of the map as numbers; fails with what is wrong.
pub(crate) fn cast<T: bytemuck::Pod>(bytes: &[u8]) -> Result<&[T], &'static str> {
    bytemuck::try_cast_slice(bytes).map_err(|_| "a value is not aligned in the map")
}

/// `u64` words that hold `dims` bits.
pub(crate) const fn words(dims: usize) -> usize {
    dims.div_ceil(64)
}

/// What the codes of a vector stand for: `code * factor + offset`.
#[derive(Copy, Clone, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct Scale {
    pub(crate) factor: f32,
    pub(crate) offset: f32,
}

impl Scale {
    /// What a code, as a float, stands for. Rounded twice, as kernels do.
    #[inline(always)]
    pub(crate) fn decode(self, code: f32) -> f32 {
        code * self.factor + self.offset
    }
}

/// The components of a stored vector.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) enum Components<'t> {
    Floats(&'t [f32]),
    /// Codes in half precision.
    Halves(&'t [u16], Scale),
    Bytes(&'t [i8], Scale),
    /// Code i is 1 if bit `i % 64` of word `i / 64` is set, else -1.
    Signs {
        words: &'t [u64],
        dims: usize,
        scale: Scale,
    },
    /// Component i is bit `i % 64` of word `i / 64`.
    Bits(&'t [u64]),
}

impl<'t> Components<'t> {
    /// The bytes that are stored.
    pub(crate) fn as_bytes(self) -> &'t [u8] {
        match self {
            Self::Floats(floats) => bytemuck::cast_slice(floats),
            Self::Halves(codes, _) => bytemuck::cast_slice(codes),
            Self::Bytes(codes, _) => bytemuck::cast_slice(codes),
            Self::Signs { words, .. } | Self::Bits(words) => bytemuck::cast_slice(words),
        }
    }

    /// How many components there are; of bits, with those that fill the last word.
    pub(crate) const fn len(self) -> usize {
        match self {
            Self::Floats(floats) => floats.len(),
            Self::Halves(codes, _) => codes.len(),
            Self::Bytes(codes, _) => codes.len(),
            Self::Signs { dims, .. } => dims,
            Self::Bits(words) => 64 * words.len(),
        }
    }

    /// The scale that is stored; zeros where components are stored as they are.
    pub(crate) fn scale(self) -> Scale {
        match self {
            Self::Floats(_) | Self::Bits(_) => Scale::default(),
            Self::Halves(_, scale) | Self::Bytes(_, scale) | Self::Signs { scale, .. } => scale,
        }
    }
}
