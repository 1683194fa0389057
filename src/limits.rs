//! The numbers that options and stored records take. Each limit is written here once: checks,
//! messages and documentation take it from here.

/// The numbers from `low` to `high`.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Limit {
    pub(crate) low: usize,
    pub(crate) high: usize,
    /// For messages: "a number from 1 to 16".
    pub(crate) words: &'static str,
}

impl Limit {
    pub(crate) const fn contains(&self, value: usize) -> bool {
        self.low <= value && value <= self.high
    }
}

/// Defines limits, and for each a macro that gives its words as a literal, for documentation.
macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident, $words:ident: $low:literal to $high:literal;)*) => { $(
        macro_rules! $words {
            () => { concat!("a number from ", $low, " to ", $high) };
        }
        pub(crate) use $words;

        $(#[$doc])*
        pub(crate) const $name: Limit = Limit { low: $low, high: $high, words: $words!() };
    )* };
}

limits! {
    /// Dimensions of an index.
    DIMS, dims_words: 1 to 65536;
    /// Trees of a forest. A key has one byte for the tree.
    TREES, trees_words: 1 to 16;
    /// Entries that a leaf can be limited to.
    LEAF_SIZES, leaf_sizes_words: 32 to 4096;
}

/// Bits per dimension that sketches can have, and the words for them.
macro_rules! sketch_bits_words {
    () => {
        "1, 2 or 4"
    };
}
pub(crate) use sketch_bits_words;

/// Whether sketches can have this number of bits per dimension.
pub(crate) const fn is_sketch_bits(bits: u8) -> bool {
    matches!(bits, 1 | 2 | 4)
}
