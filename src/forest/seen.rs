//! Which nodes a descent has opened, so that damaged trees do not keep it busy for ever.
//!
//! Each node of a tree has one parent. Damaged bytes may say otherwise. Let
//! there be twenty heights of four branches that all name the four below. Then 4^20 ways lead to
//! each leaf.

use roaring::RoaringTreemap;

/// Nodes that are opened before others are remembered. Most searches open fewer, and remember none.
const UNREMEMBERED: u32 = 256;

/// The nodes that a descent has opened, but for the first ones: each of these may come once more.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    unremembered: u32,
    nodes: RoaringTreemap,
}

impl Seen {
    pub(crate) fn clear(&mut self) {
        self.unremembered = 0;
        self.nodes.clear();
    }

    /// Notes a branch or a leaf; `false` if it is known to have been opened before.
    pub(crate) fn note(&mut self, tree: u8, is_leaf: bool, id: u32) -> bool {
        if self.unremembered < UNREMEMBERED {
            self.unremembered += 1;
            return true;
        }
        self.nodes.insert(u64::from(tree) << 33 | u64::from(is_leaf) << 32 | u64::from(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_comes_once_and_the_first_ones_twice() {
        let mut seen = Seen::default();
        for _ in 0..2 {
            let mut ways = 0;
            for _ in 0..10 {
                for (tree, is_leaf, id) in
                    (0..600).map(|i| ((i % 3) as u8, i % 2 == 0, i / 6 * 40_000_000))
                {
                    ways += usize::from(seen.note(tree, is_leaf, id));
                }
            }
            assert_eq!(ways, 600 + UNREMEMBERED as usize);
            seen.clear();
        }
    }
}
