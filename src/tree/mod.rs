//! The shape of a tree: which leaf an item belongs to, and how leaves hang under branches. Only [`nodes`] reads LMDB.

pub(crate) mod descent;
pub(crate) mod hierarchy;
pub(crate) mod nodes;
pub(crate) mod plant;
pub(crate) mod queue;
pub(crate) mod route;
