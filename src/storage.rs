//! How the components of a vector are stored: the one place that says it.

/// What the components of an index's vectors are stored as.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    F32,
    /// One bit for each component.
    Bits,
}

impl Storage {
    /// The byte that stands for this storage in the index record.
    pub(crate) const fn to_byte(self) -> u8 {
        match self {
            Self::F32 => 0,
            Self::Bits => 1,
        }
    }

    /// Bytes of the components of a vector.
    pub(crate) const fn bytes(self, dims: usize) -> usize {
        match self {
            Self::F32 => 4 * dims,
            Self::Bits => 8 * words(dims),
        }
    }

    /// Views the components of a vector at the start of `bytes`; fails with what is wrong.
    pub(crate) fn view(self, bytes: &[u8], dims: usize) -> Result<Components<'_>, &'static str> {
        let bytes = bytes.get(..self.bytes(dims)).ok_or("an item is too short")?;
        match self {
            Self::F32 => Ok(Components::Floats(cast(bytes)?)),
            Self::Bits => {
                let words: &[u64] = cast(bytes)?;
                let has_more = |last| !dims.is_multiple_of(64) && last >> (dims % 64) != 0;
                if words.last().is_some_and(|last| has_more(*last)) {
                    return Err("an item has bits beyond its dimensions");
                }
                Ok(Components::Bits(words))
            }
        }
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

/// The components of a stored vector.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) enum Components<'t> {
    Floats(&'t [f32]),
    /// Component i is bit `i % 64` of word `i / 64`.
    Bits(&'t [u64]),
}

impl<'t> Components<'t> {
    /// The bytes that are stored.
    pub(crate) fn as_bytes(self) -> &'t [u8] {
        match self {
            Self::Floats(floats) => bytemuck::cast_slice(floats),
            Self::Bits(words) => bytemuck::cast_slice(words),
        }
    }

    /// Writes the components as numbers to the start of `out`.
    pub(crate) fn write_to(self, out: &mut [f32]) {
        match self {
            Self::Floats(floats) => out.iter_mut().zip(floats).for_each(|(out, x)| *out = *x),
            Self::Bits(words) => {
                let bits = words.iter().flat_map(|word| (0..64).map(move |i| word >> i & 1 == 1));
                out.iter_mut().zip(bits).for_each(|(out, bit)| *out = f32::from(u8::from(bit)));
            }
        }
    }
}
