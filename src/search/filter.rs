//! Which items may be in an answer.

use roaring::RoaringBitmap;

/// A set and a predicate, either of which may be missing. An item has to be admitted by both.
#[derive(Copy, Clone, Default)]
pub(crate) struct Filter<'a> {
    pub(crate) allowed: Option<&'a RoaringBitmap>,
    pub(crate) predicate: Option<&'a dyn Fn(u32) -> bool>,
}

impl Filter<'_> {
    pub(crate) fn is_none(&self) -> bool {
        self.allowed.is_none() && self.predicate.is_none()
    }

    pub(crate) fn admits(&self, id: u32) -> bool {
        self.allowed.is_none_or(|allowed| allowed.contains(id))
            && self.predicate.is_none_or(|predicate| predicate(id))
    }
}
