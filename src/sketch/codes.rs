//! Packing codes into blocks of 32 entries, as the specification of [`format`](crate::format) says,
//! and unpacking them.

use crate::format::item::ItemRef;
use crate::format::node::{EncodedNode, NodeRef};
use crate::kernel::layout::{BLOCK, Code, Layout};
use crate::sketch::quantizer::{Factors, NO_FACTORS, Quantizer};
use crate::sketch::transform::Transform;

/// The codes of a node's entries outside of their blocks, where entries can be added and removed.
#[derive(Clone, Debug)]
pub(crate) struct Sketches {
    pub(crate) quantizer: Quantizer,
    /// One byte per nibble, entry after entry.
    nibbles: Vec<u8>,
    factors: Vec<Factors>,
}

impl Sketches {
    pub(crate) fn new(quantizer: Quantizer) -> Self {
        Self { quantizer, nibbles: Vec::new(), factors: Vec::new() }
    }

    /// The sketches of `points` (rows in work space) around `centroid`.
    pub(crate) fn of_points(
        transform: &Transform,
        layout: Layout,
        centroid: Vec<f32>,
        points: &[f32],
    ) -> Self {
        let mut sketches = Self::new(Quantizer::new(transform, layout, centroid, points));
        for (i, point) in points.chunks_exact(layout.width).enumerate() {
            sketches.insert(i, transform, point, None);
        }
        sketches
    }

    /// The sketches of entries whose nibbles and factors are made already, entry after entry.
    pub(crate) fn of_parts(quantizer: Quantizer, nibbles: Vec<u8>, factors: Vec<Factors>) -> Self {
        Self { quantizer, nibbles, factors }
    }

    /// Takes the sketches out of a node.
    pub(crate) fn unpack(node: &NodeRef<'_>) -> Self {
        let quantizer = Quantizer {
            layout: node.layout,
            is_local: node.is_local,
            spread: node.spread,
            centroid: node.centroid.to_vec(),
            steps: node.steps.to_vec(),
        };
        let (positions, code_bytes) = (node.layout.positions(), node.layout.code_bytes());
        let mut sketches = Self {
            quantizer,
            nibbles: vec![0; positions * node.len],
            factors: vec![NO_FACTORS; node.len],
        };
        let blocks = node.blocks.chunks_exact(node.layout.block_bytes());
        let entries =
            sketches.nibbles.chunks_mut(positions * BLOCK).zip(sketches.factors.chunks_mut(BLOCK));
        for (block, (nibbles, factors)) in blocks.zip(entries) {
            let (codes, rest) = block.split_at(code_bytes);
            for (entry, nibbles) in nibbles.chunks_exact_mut(positions).enumerate() {
                let (byte, shift) = place(entry);
                nibbles
                    .iter_mut()
                    .zip(codes.chunks_exact(16))
                    .for_each(|(nibble, codes)| *nibble = codes[byte] >> shift & 15);
            }
            if node.layout.code == Code::Rotated {
                let factor = |i: usize| u16::from_le_bytes([rest[2 * i], rest[2 * i + 1]]);
                factors
                    .iter_mut()
                    .enumerate()
                    .for_each(|(i, factors)| *factors = [factor(i), factor(BLOCK + i)]);
            }
        }
        sketches
    }

    pub(crate) fn len(&self) -> usize {
        self.factors.len()
    }

    /// Adds an entry at a position: see [`Quantizer::encode`].
    pub(crate) fn insert(
        &mut self,
        position: usize,
        transform: &Transform,
        point: &[f32],
        item: Option<&ItemRef<'_>>,
    ) {
        let positions = self.quantizer.layout.positions();
        let mut code = Vec::with_capacity(positions);
        let factors = self.quantizer.encode(transform, point, item, &mut code);
        code.resize(positions, 0);
        let at = position * positions;
        self.nibbles.splice(at..at, code);
        self.factors.insert(position, factors);
    }

    pub(crate) fn remove(&mut self, position: usize) {
        let positions = self.quantizer.layout.positions();
        self.nibbles.drain(position * positions..(position + 1) * positions);
        self.factors.remove(position);
    }

    /// The nibbles and factors of an entry.
    pub(crate) fn entry(&self, position: usize) -> (&[u8], Factors) {
        let positions = self.quantizer.layout.positions();
        (&self.nibbles[position * positions..(position + 1) * positions], self.factors[position])
    }

    pub(crate) fn pack(&self) -> EncodedNode {
        let mut blocks = Blocks::new(self.quantizer.layout, self.len());
        for position in 0..self.len() {
            let (nibbles, factors) = self.entry(position);
            blocks.push(nibbles.iter().copied(), factors);
        }
        EncodedNode {
            layout: self.quantizer.layout,
            is_local: self.quantizer.is_local,
            spread: self.quantizer.spread,
            len: self.len(),
            centroid: self.quantizer.centroid.clone(),
            steps: self.quantizer.steps.clone(),
            blocks: blocks.into_bytes(),
        }
    }
}

/// The byte of its position, and the bits of that byte, that hold an entry's nibble.
fn place(entry: usize) -> (usize, usize) {
    (2 * (entry % 8) + entry / 8 % 2, 4 * (entry / 16))
}

/// Blocks under construction.
#[derive(Debug)]
pub(crate) struct Blocks {
    layout: Layout,
    bytes: Vec<u8>,
    len: usize,
}

impl Blocks {
    pub(crate) fn new(layout: Layout, entries: usize) -> Self {
        Self { layout, bytes: vec![0; entries.div_ceil(BLOCK) * layout.block_bytes()], len: 0 }
    }

    /// Adds the next entry: its nibbles in order of position, and its factors if the code has them.
    pub(crate) fn push(&mut self, nibbles: impl Iterator<Item = u8>, [a, b]: Factors) {
        let (index, entry) = (self.len / BLOCK, self.len % BLOCK);
        let Some(block) = self.bytes.chunks_exact_mut(self.layout.block_bytes()).nth(index) else {
            return;
        };
        let (codes, rest) = block.split_at_mut(self.layout.code_bytes());
        let (byte, shift) = place(entry);
        for (position, nibble) in codes.chunks_exact_mut(16).zip(nibbles) {
            position[byte] |= nibble << shift;
        }
        if self.layout.code == Code::Rotated {
            rest[2 * entry..][..2].copy_from_slice(&a.to_le_bytes());
            rest[2 * (BLOCK + entry)..][..2].copy_from_slice(&b.to_le_bytes());
        }
        self.len += 1;
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
