//! What the programs of this package share: spinney and other stores, on the same work.

pub mod database;
pub mod filters;
pub mod input;
pub mod larger;
pub mod search;

pub use bench_kit::Result;
