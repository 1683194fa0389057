//! The items that were added, overwritten or deleted since the last build.

use roaring::RoaringBitmap;

use crate::error::Result;
use crate::format::item::PendingRef;
use crate::key::Kind;
use crate::lmdb::view::View;

/// The pending marks of a snapshot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending {
    /// Ids that changed since the last build: the forest lacks them, or has an older vector.
    pub(crate) ids: RoaringBitmap,
    /// Those of them that exist now.
    pub(crate) live: RoaringBitmap,
}

impl Pending {
    /// Reads all marks: O(pending).
    pub(crate) fn read(view: View<'_>) -> Result<Self> {
        let spec = view.spec;
        let mut pending = Self::default();
        for entry in view.iter(Kind::Pending)? {
            let (key, bytes) = entry?;
            let mark = PendingRef::parse(key, bytes, spec)?;
            pending.ids.insert(key.id());
            if mark.is_live {
                pending.live.insert(key.id());
            }
        }
        Ok(pending)
    }
}
