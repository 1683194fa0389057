//! What the examples share: reading vectors from the file formats of nearest-neighbour benchmarks.

pub mod datasets;
mod npy;
