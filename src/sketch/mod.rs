//! Sketches: short codes of a node's entries relative to its centroid, and the estimates they give.
//!
//! # Euclidean, cosine and dot product: rotated codes
//! This is RaBitQ (Gao, Long: RaBitQ, SIGMOD 2024; Gao et al.: Practical and asymptotically optimal
//! quantization, SIGMOD 2025). Let y be an entry in work space, c the centroid of the node, and
//! r = y - c. Let u be the point of the b-bit grid (levels centred on 0) that fits r best. Then
//!
//! ```text
//! s <u, q - c>, with s = |r|^2 / <u, r>
//! ```
//!
//! is an unbiased estimate of <r, q - c>. Two factors a and b are stored per entry. Beside these,
//! an estimate needs only the node's base and <u, q>. Look-up tables that are made once per query
//! give <u, q> for every node of every tree:
//!
//! | score (smaller is nearer) | a | b | base |
//! |---|---|---|---|
//! | \|y - q\|^2 (Euclidean, cosine) | \|r\|^2 + 2 s <u, c> | -2 s | \|q - c\|^2 |
//! | -<x, p> + <m, p> (dot product, m the origin, p the query) | s <u, d> - <r, d> | -s | -<c, P p> |
//!
//! The estimate is base + a + b <u, q>, with q = P(query - m) as for items. The dot product is that
//! of the vectors as they were added. Its estimate is
//!
//! ```text
//! base + t a + b <u, P p>, with d = c + P m and t = <P p, d> / |d|^2
//! ```
//!
//! Here d is the centroid before it was moved. P p holds t times d, and a is the error of the code
//! in the direction of d. What is left to estimate is <r, P p - t d>. The vector P p - t d is as
//! short as it can be, for queries of every length. The term <m, p> is the same for every item, so
//! it is left out.
//!
//! # Manhattan: grid codes
//! The sum of absolute differences does not survive a rotation, so work space is not rotated. Each
//! dimension of a node has a step that suits the spread of its entries. A look-up table per visited
//! node sums |q_i - c_i - step_i u_i|. So a = 0, b = 1 and base = 0.
//!
//! # Hamming: the bits themselves
//! A leaf's codes are its items' bits, and the estimate is the distance. Branches hold rotated
//! codes of the centroids of the 0/1 vectors, whose squared Euclidean distance is the Hamming
//! distance.

use crate::metric::Metric;

pub(crate) mod codes;
pub(crate) mod loose;
pub(crate) mod prepared;
pub(crate) mod quantizer;
pub(crate) mod rotation;
pub(crate) mod transform;

#[cfg(test)]
mod tests;

/// Bits per dimension of leaf sketches: 256 to 512 bits in all suit most data, and one bit per
/// dimension at least.
///
/// A Manhattan grid has one step per dimension for all entries instead of a scale per entry. It
/// needs twice the bits for the same precision. Measured: docs/trials.md, "Sketch bits".
pub(crate) fn default_leaf_bits(metric: Metric, width: usize) -> u8 {
    match (metric.is_rotated(), width) {
        _ if metric.is_of_bits() => 1,
        (false, ..=128) | (true, ..=64) => 4,
        (false, _) | (true, ..=192) => 2,
        (true, _) => 1,
    }
}

/// Bits per dimension of branch sketches. Ranking leaves needs more precision than ranking
/// candidates, which are reranked anyway. Measured: docs/trials.md, "Sketch bits".
pub(crate) fn default_branch_bits(metric: Metric, width: usize) -> u8 {
    match (metric.is_rotated(), width) {
        (false, ..=384) | (true, ..=64) => 4,
        (false, _) | (true, ..=768) => 2,
        (true, _) => 1,
    }
}
