//! The only SIMD of the crate. Each kernel is written once, generic over the level of the machine,
//! and has a plain scalar twin that its tests compare it with, at every level the test machine has.
//!
//! - [`distance`]: exact distances between stored vectors, in double precision, the same bits at
//!   every level.
//! - [`scan`]: estimates from packed sketches, the same bits at every level.
//! - [`tables`]: the look-up tables of a query, the same bits at every level.
//! - [`quantize`]: the codes of a vector, the same bits at every level.
//! - [`hadamard`]: the butterflies of the rotation, the same bits at every level.
//! - [`matrix`]: products of rows for clustering and routing, in single precision.
//! - [`select`]: the few of many scores that are below a limit, the same at every level.
//! - [`prefetch`]: no arithmetic, but as near to the machine.

pub(crate) mod distance;
pub(crate) mod gemm;
pub(crate) mod hadamard;
pub(crate) mod lut;
pub(crate) mod prefetch;
pub(crate) mod quantize;
pub(crate) mod scan;
pub(crate) mod threshold;

pub(crate) use fearless_simd::Level;

/// The level of this machine, detected once.
pub(crate) fn level() -> Level {
    static LEVEL: std::sync::OnceLock<Level> = std::sync::OnceLock::new();
    *LEVEL.get_or_init(Level::new)
}

/// Every level of this machine, for tests.
#[cfg(test)]
pub(crate) fn levels() -> Vec<Level> {
    let mut levels = vec![Level::baseline(), Level::new()];
    #[cfg(target_arch = "x86_64")]
    {
        levels.extend(Level::new().as_sse4_2().map(Level::Sse4_2));
        levels.extend(Level::new().as_avx2().map(Level::Avx2));
    }
    levels
}
