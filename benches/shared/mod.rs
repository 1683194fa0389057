//! What benches share that fill an index with as many rows as they are told to.

pub mod data;
pub mod store;
