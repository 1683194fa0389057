//! How a forest is laid out: the caller's options, and what follows from the number of items.

use crate::format::record::Record;
use crate::format::width;
use crate::metric::Metric;
use crate::options::BuildOptions;
use crate::sketch::{default_branch_bits, default_leaf_bits};

/// Entries a leaf holds at most, unless the user says otherwise: with so many items or fewer, and
/// for each doubling beyond. Larger leaves take more sketches for a recall, and fewer branches.
/// Measured: docs/trials.md, "leaf size".
const LEAF_SIZE: usize = 256;
const FEW_ITEMS: u64 = 100_000;
const MORE_PER_DOUBLING: usize = 48;

fn default_leaf_size(items: u64) -> usize {
    LEAF_SIZE + MORE_PER_DOUBLING * (items / FEW_ITEMS).max(1).ilog2() as usize
}

/// Entries above which a leaf is split by builds that reach it. The rest of its size is room for
/// items that are reassigned to it while its neighbours are split.
pub(crate) fn split_above(leaf_size: usize) -> usize {
    leaf_size * 3 / 4
}

/// The shape of a forest.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) trees: u8,
    pub(crate) spill: bool,
    pub(crate) leaf_size: usize,
    /// Whether the user chose it, now or before.
    pub(crate) is_leaf_size_asked: bool,
    pub(crate) sketch_bits: u8,
    pub(crate) branch_bits: u8,
    pub(crate) seed: u64,
}

impl Shape {
    /// What is asked for, else what the index was built with, else the defaults.
    #[expect(clippy::cast_possible_truncation, reason = "options are checked: at most 16 trees")]
    pub(super) fn new(options: &BuildOptions<'_>, record: &Record, metric: Metric) -> Self {
        let width = width(record.dims());
        let built = (record.shape_trees > 0).then_some(record);
        let asked_before =
            built.filter(|r| r.is_leaf_size_asked == 1).map(|r| r.leaf_size as usize);
        let leaf_size = options.leaf_size.or(asked_before);
        // The size may grow step by step as items come, as leaves that are small for it are merged.
        // It does not shrink as items go: no leaf may be larger.
        let default = || {
            let default = default_leaf_size(record.items);
            built.map_or(default, |r| {
                default.clamp(r.leaf_size as usize, r.leaf_size as usize + MORE_PER_DOUBLING)
            })
        };
        let sketch_bits = built.map_or(default_leaf_bits(metric, width), |r| r.sketch_bits);
        // The sketches of bits are the bits: there is nothing to choose.
        let asked_bits = options.sketch_bits.filter(|_| !metric.is_of_bits());
        Self {
            trees: options.trees.map_or(built.map_or(1, |r| r.shape_trees), |trees| trees as u8),
            spill: options.spill.unwrap_or(built.is_none_or(|r| r.spill == 1)),
            leaf_size: leaf_size.unwrap_or_else(default),
            is_leaf_size_asked: leaf_size.is_some(),
            sketch_bits: asked_bits.unwrap_or(sketch_bits),
            branch_bits: built.map_or(default_branch_bits(metric, width), |r| r.branch_bits),
            seed: options.seed.unwrap_or(built.map_or(0, |r| r.seed)),
        }
    }

    /// Whether an index without a forest would be built in this shape anyway.
    pub(super) fn would_match(&self, record: &Record) -> bool {
        let mut of_this_shape = *record;
        of_this_shape.trees = record.shape_trees;
        record.shape_trees > 0 && self.matches(&of_this_shape)
    }

    /// The shape for a bulk build of so many items, which need not keep to the leaves there are.
    pub(super) fn for_bulk(self, items: u64) -> Self {
        let leaf_size =
            if self.is_leaf_size_asked { self.leaf_size } else { default_leaf_size(items) };
        Self { leaf_size, ..self }
    }

    pub(super) fn write_leaf_size(&self, record: &mut Record) {
        record.leaf_size = u32::try_from(self.leaf_size).unwrap_or(u32::MAX);
        record.is_leaf_size_asked = u8::from(self.is_leaf_size_asked);
    }

    /// Whether the forest of this record already has this shape.
    pub(super) fn matches(&self, record: &Record) -> bool {
        record.trees == self.trees
            && record.spill == u8::from(self.spill)
            && (record.leaf_size as usize == self.leaf_size || !self.is_leaf_size_asked)
            && record.sketch_bits == self.sketch_bits
            && record.branch_bits == self.branch_bits
            && record.seed == self.seed
    }
}
