//! Kinds of damage, each with the keys that a verification has to name.

use crate::support::patient::Patient;

/// Keys to be named, each with a part of what is said of it.
pub type Named = Vec<([u8; 8], &'static str)>;

/// Damages a patient; `None` if the metric does not know this kind of damage.
pub type Damage = fn(&mut Patient<'_>) -> Option<Named>;

pub const RECORD_KEY: [u8; 8] = [0; 8];
pub const TREE: usize = 64;

pub fn named(keys: impl IntoIterator<Item = [u8; 8]>) -> Option<Named> {
    Some(keys.into_iter().map(|key| (key, "")).collect())
}

/// Puts a value of zeros.
pub fn planted(p: &mut Patient<'_>, key: [u8; 8]) -> Option<Named> {
    p.put(key, &[0; 16]);
    named([key])
}
