//! A query, prepared once: its point in work space and the look-up tables that serve every node.

use crate::format::item::ItemRef;
use crate::format::node::NodeRef;
use crate::kernel::layout::{Code, Layout};
use crate::kernel::lut::Rounding;
use crate::kernel::scan::{Estimate, Scan, scan};
use crate::kernel::simd::{self, Level};
use crate::kernel::{gemm, lut};
use crate::sketch::transform::Transform;
use crate::storage::{Components, words};

/// How many bits are set in each nibble.
const COUNTS: [u8; 16] = [0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4];

/// Centroid plus origin counts as zero below this part of the origin's squared length.
const CANCELLED: f32 = 1e-8;

/// One byte per position and nibble, and what it stands for.
#[derive(Clone, Debug, Default)]
struct Tables {
    bytes: Vec<u8>,
    rounding: Rounding,
}

/// How a node is scanned.
#[derive(Copy, Clone, Debug)]
pub(crate) struct ScanOptions<'a> {
    /// See [`scan`].
    pub(crate) allowed: Option<&'a [u32]>,
    /// Estimates above this are not wanted.
    pub(crate) threshold: f32,
    /// What will be scanned next.
    pub(crate) ahead: &'a [u8],
}

impl ScanOptions<'_> {
    /// All entries, as precisely as it goes.
    pub(crate) const ALL: Self = Self { allowed: None, threshold: f32::INFINITY, ahead: &[] };
}

/// A query ready to scan nodes with. Its buffers serve the next query, too.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    simd: Level,
    is_dot: bool,
    /// See [`Transform::map_query`].
    point: Vec<f32>,
    /// -P origin, its product with the point and its squared length, for the dot product only.
    minus_origin: Vec<f32>,
    of_origin: f32,
    squared_origin: f32,
    /// For leaves with rotated codes or bits; made anew per node for grid codes.
    leaf: Tables,
    branch: Tables,
    /// Of the node that is scanned, if that has its own.
    local: Tables,
    offset: Vec<f32>,
    /// Whether both are the same, and those of branches serve leaves.
    is_shared: bool,
    /// Values of the tables before they are rounded to bytes.
    values: Vec<f32>,
}

impl Default for Prepared {
    fn default() -> Self {
        Self {
            simd: simd::detect(),
            is_dot: false,
            point: Vec::new(),
            minus_origin: Vec::new(),
            of_origin: 0.0,
            squared_origin: 0.0,
            leaf: Tables::default(),
            branch: Tables::default(),
            local: Tables::default(),
            offset: Vec::new(),
            is_shared: false,
            values: Vec::new(),
        }
    }
}

impl Prepared {
    /// Prepares a query. `leaf` and `branch` are the layouts of the forest's nodes.
    pub(crate) fn prepare(
        &mut self,
        transform: &Transform,
        query: &ItemRef<'_>,
        leaf: Layout,
        branch: Layout,
    ) {
        self.point.resize(transform.width, 0.0);
        transform.map_query(query, &mut self.point);
        self.make_branch_tables(transform, branch);
        self.is_shared = leaf == branch && leaf.code == Code::Rotated;
        match (leaf.code, query.components) {
            _ if self.is_shared => {}
            (Code::Rotated, _) => {
                self.leaf.rotated(transform.simd, &self.point, leaf.bits, &mut self.values)
            }
            (Code::Bits, Components::Bits(query)) => self.leaf.bits(query, leaf.width),
            _ => {}
        }
    }

    /// Prepares a point of work space that will scan branches only.
    pub(crate) fn prepare_for_branches(
        &mut self,
        transform: &Transform,
        point: &[f32],
        branch: Layout,
    ) {
        self.point.clear();
        self.point.extend_from_slice(point);
        self.is_shared = false;
        transform.move_back(&mut self.point);
        self.make_branch_tables(transform, branch);
    }

    /// A point of work space that will scan leaves only, of codes that come from points.
    pub(crate) fn for_leaves(transform: &Transform, point: Vec<f32>, leaf: Layout) -> Self {
        let mut prepared = Self { point, is_shared: true, ..Self::default() };
        transform.move_back(&mut prepared.point);
        prepared.make_branch_tables(transform, leaf);
        prepared
    }

    fn make_branch_tables(&mut self, transform: &Transform, branch: Layout) {
        (self.simd, self.is_dot) = (transform.simd, transform.metric.is_inner_product());
        if self.is_dot {
            self.minus_origin.clear();
            self.minus_origin.extend(transform.rotated_origin.iter().map(|m| -m));
            self.of_origin = gemm::dot(self.simd, &self.point, &self.minus_origin);
            self.squared_origin = gemm::dot(self.simd, &self.minus_origin, &self.minus_origin);
        }
        if branch.code == Code::Rotated {
            self.branch.rotated(transform.simd, &self.point, branch.bits, &mut self.values);
        }
    }

    /// Appends the entries of `node` whose estimate is wanted; see [`scan`].
    pub(crate) fn scan(
        &mut self,
        node: &NodeRef<'_>,
        options: ScanOptions<'_>,
        out: &mut Vec<Estimate>,
    ) {
        if node.layout.code == Code::Grid {
            self.leaf.grid(self.simd, &self.point, node, &mut self.values);
        }
        if node.is_local {
            self.offset.clear();
            self.offset.extend(self.point.iter().zip(node.centroid).map(|(q, c)| q - c));
            self.local.rotated(self.simd, &self.offset, node.layout.bits, &mut self.values);
        }
        let is_of_branches =
            node.layout.code == Code::Rotated && (node.height > 0 || self.is_shared);
        let tables = match is_of_branches {
            _ if node.is_local => &self.local,
            true => &self.branch,
            false => &self.leaf,
        };
        if tables.bytes.len() != 16 * node.layout.positions() {
            return; // Not a node of this forest; the caller has checked layouts.
        }
        let (base, along) = self.base(node);
        let input = Scan {
            layout: node.layout,
            blocks: node.blocks,
            len: node.len,
            tables: &tables.bytes,
            delta: tables.rounding.delta,
            bias: tables.rounding.bias,
            base,
            along,
            ahead: options.ahead,
        };
        scan(self.simd, &input, options.allowed, options.threshold, out);
    }

    /// The score of the centroid of a leaf, where items lie in the leaf whose centroid is nearest.
    pub(crate) fn score_of_centroid(&self, leaf: &NodeRef<'_>) -> Option<f32> {
        match leaf.layout.code {
            Code::Grid => Some(gemm::manhattan(self.simd, &self.point, leaf.centroid)),
            Code::Rotated if !self.is_dot => {
                Some(gemm::squared_euclidean(self.simd, &self.point, leaf.centroid))
            }
            _ => None,
        }
    }

    /// The base of a node, and what its entries' factor a is multiplied by.
    fn base(&self, node: &NodeRef<'_>) -> (f32, f32) {
        match (node.layout.code, self.is_dot) {
            (Code::Rotated, false) => {
                (gemm::squared_euclidean(self.simd, &self.point, node.centroid), 1.0)
            }
            (Code::Rotated, true) => {
                let product = gemm::dot(self.simd, &self.point, node.centroid);
                let squared = gemm::squared_euclidean(self.simd, &self.minus_origin, node.centroid);
                // What is left of a centroid and an origin that cancel has no direction.
                let has_direction =
                    squared > (CANCELLED * self.squared_origin).max(f32::MIN_POSITIVE);
                (-product, if has_direction { (product - self.of_origin) / squared } else { 0.0 })
            }
            _ => (0.0, 1.0),
        }
    }
}

impl Tables {
    /// Sums of `u_i q_i` over the dimensions of each nibble.
    fn rotated(&mut self, simd: Level, point: &[f32], bits: u8, values: &mut Vec<f32>) {
        self.rounding = lut::products(simd, point, bits, values, &mut self.bytes);
    }

    /// Sums of `|q_i - c_i - step_i u_i|` over the dimensions of each nibble.
    fn grid(&mut self, simd: Level, point: &[f32], node: &NodeRef<'_>, values: &mut Vec<f32>) {
        let slices = [point, node.centroid, node.steps];
        self.rounding = lut::differences(simd, slices, node.layout.bits, values, &mut self.bytes);
    }

    /// Counts of differing bits, which are bytes already.
    fn bits(&mut self, query: &[u64], width: usize) {
        self.bytes.clear();
        for word in query.iter().take(words(width)) {
            for i in 0..16 {
                let nibble = (word >> (4 * i) & 15) as u8;
                self.bytes.extend((0..16u8).map(|code| COUNTS[usize::from(code ^ nibble)]));
            }
        }
        self.rounding = Rounding { delta: 1.0, bias: 0.0 };
    }
}
