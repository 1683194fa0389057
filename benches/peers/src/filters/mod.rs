//! What the comparison of filters is made of.

pub mod args;
pub mod cases;
pub mod stores;
