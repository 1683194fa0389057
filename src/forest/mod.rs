//! The shape of a tree: which leaf an item belongs to, and how leaves hang under branches. Only
//! [`nodes`](crate::lmdb::nodes) reads LMDB.
//!
//! By default there is one tree, and each item is in two of its leaves. Other shapes were measured:
//! docs/trials.md, "shapes of the forest".

pub(crate) mod context;
pub(crate) mod descent;

pub(crate) mod hierarchy;
pub(crate) mod open;
pub(crate) mod points;
pub(crate) mod route;
pub(crate) mod seen;
pub(crate) mod train;
