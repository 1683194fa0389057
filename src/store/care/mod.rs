//! Looking after a store: copies, their return, less room, and whether all is sound.

pub(crate) mod backup;
pub(crate) mod check;
pub(crate) mod compact;
pub(crate) mod compare;
pub(crate) mod lock;
pub(crate) mod part;
pub(crate) mod restore;
