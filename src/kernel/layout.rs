//! How the codes of a node's entries lie in memory: what the scan, the sketches and the format of
//! nodes agree on.

/// Entries in a block of sketches.
pub(crate) const BLOCK: usize = 32;

/// How the codes of a node's entries are read.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Offsets from the centroid in rotated space, on a b-bit grid scaled per entry by two factors.
    Rotated,
    /// Offsets from the centroid on a b-bit grid with one step per dimension (Manhattan).
    Grid,
    /// The bits of the item itself (Hamming).
    Bits,
}

/// What the kernels need to know of packed sketches.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) code: Code,
    pub(crate) bits: u8,
    pub(crate) width: usize,
}

impl Layout {
    /// Nibbles per entry: one holds `4 / bits` dimensions.
    pub(crate) const fn positions(&self) -> usize {
        self.width * self.bits as usize / 4
    }

    /// Bytes of the codes of a block of 32 entries.
    pub(crate) const fn code_bytes(&self) -> usize {
        self.positions() * 16
    }

    /// Bytes of a block: its codes and, if the code has them, its factors.
    pub(crate) const fn block_bytes(&self) -> usize {
        self.code_bytes() + if matches!(self.code, Code::Rotated) { 2 * 2 * BLOCK } else { 0 }
    }
}
