//! Keys: 8 bytes whose byte order is (index, kind, tree, id).
//!
//! The tree byte holds the number of a tree and, in its highest bit, its *generation*. So a second
//! forest can be written beside the one that searches see.

use std::ops::RangeInclusive;

/// What the value under a key is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Record = 0,
    Origin = 1,
    Pending = 2,
    Branch = 3,
    Leaf = 4,
    Free = 5,
    /// After all others, so that items added in order of id fill the pages at the end of the
    /// database.
    Item = 6,
    /// The tail of an item that is cut. In a range of their own, tails share pages.
    Tail = 7,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Record,
        Self::Origin,
        Self::Pending,
        Self::Branch,
        Self::Leaf,
        Self::Free,
        Self::Item,
        Self::Tail,
    ];

    /// The kinds of which a forest is made. Their keys name a generation.
    pub(crate) const FOREST: [Self; 4] = [Self::Origin, Self::Branch, Self::Leaf, Self::Free];

    /// Whether the keys of this kind name a tree or its generation.
    pub(crate) const fn is_of_trees(self) -> bool {
        matches!(self, Self::Origin | Self::Branch | Self::Leaf | Self::Free)
    }
}

/// The bit of a tree byte that is the generation.
const GENERATION: u8 = 0x80;

/// The tree byte of a tree, by its generation (0 or 1) and its number.
pub(crate) const fn tree_byte(generation: u8, number: u8) -> u8 {
    if generation == 0 { number } else { number | GENERATION }
}

/// The number of the tree that a tree byte names.
pub(crate) const fn tree_number(tree: u8) -> u8 {
    tree & !GENERATION
}

/// All tree bytes of a generation.
pub(crate) const fn trees_of(generation: u8) -> RangeInclusive<u8> {
    tree_byte(generation, 0)..=tree_byte(generation, !GENERATION)
}

/// One key of the database.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key([u8; 8]);

impl Key {
    const fn new(index: u16, kind: Kind, tree: u8, id: u32) -> Self {
        let [i0, i1] = index.to_be_bytes();
        let [d0, d1, d2, d3] = id.to_be_bytes();
        Self([i0, i1, kind as u8, tree, d0, d1, d2, d3])
    }

    pub(crate) const fn record(index: u16) -> Self {
        Self::new(index, Kind::Record, 0, 0)
    }

    /// The origin of a generation.
    pub(crate) const fn origin(index: u16, generation: u8) -> Self {
        Self::new(index, Kind::Origin, tree_byte(generation, 0), 0)
    }

    pub(crate) const fn item(index: u16, id: u32) -> Self {
        Self::new(index, Kind::Item, 0, id)
    }

    pub(crate) const fn tail(index: u16, id: u32) -> Self {
        Self::new(index, Kind::Tail, 0, id)
    }

    pub(crate) const fn pending(index: u16, id: u32) -> Self {
        Self::new(index, Kind::Pending, 0, id)
    }

    pub(crate) const fn branch(index: u16, tree: u8, id: u32) -> Self {
        Self::new(index, Kind::Branch, tree, id)
    }

    pub(crate) const fn leaf(index: u16, tree: u8, id: u32) -> Self {
        Self::new(index, Kind::Leaf, tree, id)
    }

    /// The free node ids of a tree: of its leaves (`which` 0) or branches (1).
    pub(crate) const fn free(index: u16, tree: u8, which: u32) -> Self {
        Self::new(index, Kind::Free, tree, which)
    }

    /// The first and the last key that entries of this kind have in this index.
    pub(crate) const fn range(index: u16, kind: Kind) -> (Self, Self) {
        let last_tree = if kind.is_of_trees() { u8::MAX } else { 0 };
        (Self::new(index, kind, 0, 0), Self::new(index, kind, last_tree, u32::MAX))
    }

    /// The first and the last key that nodes of these trees have in this index.
    pub(crate) const fn trees(index: u16, kind: Kind, trees: &RangeInclusive<u8>) -> (Self, Self) {
        (Self::new(index, kind, *trees.start(), 0), Self::new(index, kind, *trees.end(), u32::MAX))
    }

    /// The first and the last key of this kind in this index. Keys that name a tree where no entry
    /// has one are within.
    pub(crate) const fn whole_range(index: u16, kind: Kind) -> (Self, Self) {
        (Self::new(index, kind, 0, 0), Self::new(index, kind, u8::MAX, u32::MAX))
    }

    pub(crate) const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn to_bytes(self) -> [u8; 8] {
        self.0
    }

    pub(crate) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) const fn index(self) -> u16 {
        let [i0, i1, ..] = self.0;
        u16::from_be_bytes([i0, i1])
    }

    pub(crate) fn kind(self) -> Option<Kind> {
        let [_, _, kind, ..] = self.0;
        Kind::ALL.into_iter().find(|k| *k as u8 == kind)
    }

    pub(crate) const fn tree(self) -> u8 {
        let [_, _, _, tree, ..] = self.0;
        tree
    }

    pub(crate) const fn id(self) -> u32 {
        let [.., d0, d1, d2, d3] = self.0;
        u32::from_be_bytes([d0, d1, d2, d3])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_is_index_kind_tree_id() {
        let keys = [
            Key::record(0),
            Key::origin(0, 0),
            Key::origin(0, 1),
            Key::pending(0, 7),
            Key::branch(0, 0, 9),
            Key::branch(0, 1, 2),
            Key::branch(0, tree_byte(1, 0), 0),
            Key::leaf(0, 0, 255),
            Key::leaf(0, 0, 256),
            Key::item(0, 0),
            Key::item(0, u32::MAX),
            Key::tail(0, 0),
            Key::tail(0, u32::MAX),
            Key::record(1),
            Key::item(u16::MAX, u32::MAX),
        ];
        assert!(keys.windows(2).all(|pair| pair[0].to_bytes() < pair[1].to_bytes()));
    }

    #[test]
    fn fields_come_back() {
        let key = Key::leaf(0xABCD, 3, 0x0102_0304);
        assert_eq!(
            (key.index(), key.kind(), key.tree(), key.id()),
            (0xABCD, Some(Kind::Leaf), 3, 0x0102_0304)
        );
        for (generation, number) in [(0, 0), (0, 15), (1, 0), (1, 15)] {
            let tree = tree_byte(generation, number);
            assert_eq!(tree_number(tree), number);
            assert!(trees_of(generation).contains(&tree));
            assert!(!trees_of(1 - generation).contains(&tree));
        }
        assert_eq!(Key::from_bytes([0, 0, 99, 0, 0, 0, 0, 0]).kind(), None);
    }
}
