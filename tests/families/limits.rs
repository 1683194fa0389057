//! What is known not to hold yet: docs/limits.md. Whatever holds again is taken out of this list.

use spinney::Metric::{self, Cosine, DotProduct};

use super::family::Mode::{self, Bulk, Grown};

/// Families that miss a target, or more than one item in a thousand by its own vector.
const FAMILIES: &[(&str, Metric, Mode)] = &[
    // Queries opposite to all items: few comparisons do not always show that sketches say nothing.
    ("negative products with one axis", Cosine, Bulk),
    ("negative products with one axis", Cosine, Grown),
    // One neighbour at a target of .9, short by up to .05, in small indexes that have grown.
    ("11 copies of 100", Cosine, Grown),
    ("clusters 1/1000", DotProduct, Grown),
];

pub fn is_known(name: &str, metric: Metric, mode: Mode) -> bool {
    FAMILIES.contains(&(name, metric, mode))
}
