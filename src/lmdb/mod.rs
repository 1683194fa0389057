//! The only room that reads and writes LMDB.

pub(crate) mod advise;
pub(crate) mod cache;
pub(crate) mod database;
pub(crate) mod extent;
pub(crate) mod hosted;
pub(crate) mod item;
pub(crate) mod items;
pub(crate) mod nodes;
pub(crate) mod numbered;
pub(crate) mod opening;
pub(crate) mod pending;
pub(crate) mod tasks;
pub(crate) mod view;
pub(crate) mod workers;
