//! Who did what to a store, and when: a log in the store itself, written by the commits it tells
//! of.

pub(crate) mod draft;
pub(crate) mod entry;
pub(crate) mod log;
pub(crate) mod notes;
