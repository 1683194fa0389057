//! What the comparison of searches in little memory is made of.

pub mod args;
pub mod evict;
pub mod group;
pub mod measure;
pub mod setting;
