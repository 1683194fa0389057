//! What the search comparison is made of.

pub mod args;
pub mod child;
pub mod plot;
pub mod report;
pub mod serve;
pub mod stores;
