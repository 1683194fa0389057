//! The shape of a tree: which leaf an item belongs to, and how leaves hang under branches. Only [`descent`] reads LMDB.

pub(crate) mod descent;
pub(crate) mod hierarchy;
pub(crate) mod plant;
pub(crate) mod route;
