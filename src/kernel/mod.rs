//! The only SIMD of the crate. Each kernel is written once, generic over the SIMD level. It has a
//! plain scalar twin. Tests compare the two at every level of the test machine.
//!
//! - [`simd`]: which instructions this machine has.
//! - [`distance`]: exact distances between stored vectors, in double precision, the same bits at
//!   every level.
//! - [`decode`]: components as numbers, however they are stored, the same bits at every level.
//! - [`encode`]: their codes, for vectors that are added. It has no SIMD.
//! - [`half`]: half precision.
//! - [`scan`]: estimates from packed sketches, the same bits at every level.
//! - [`layout`]: how packed sketches lie in memory.
//! - [`lut`]: the look-up tables of a query, the same bits at every level.
//! - [`quantize`]: the codes of a vector, the same bits at every level.
//! - [`hadamard`]: the butterflies of the rotation, the same bits at every level.
//! - [`gemm`]: products of rows for clustering and routing, in single precision.
//! - [`insert`]: numbers put in their place among a few, the same at every level.
//! - [`threshold`]: the few of many scores that are below a limit, the same at every level.
//! - [`prefetch`]: no arithmetic, but as near to the machine.

pub(crate) mod decode;
pub(crate) mod distance;
pub(crate) mod encode;
pub(crate) mod gemm;
pub(crate) mod hadamard;
pub(crate) mod half;
pub(crate) mod insert;
pub(crate) mod layout;
pub(crate) mod lut;
pub(crate) mod prefetch;
pub(crate) mod quantize;
pub(crate) mod scan;
pub(crate) mod simd;
pub(crate) mod threshold;
