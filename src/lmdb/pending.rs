//! What was added, overwritten or deleted since the last build.

use heed::RoTxn;
use roaring::RoaringBitmap;

use crate::error::Result;
use crate::format::item::PendingRef;
use crate::index_spec::IndexSpec;
use crate::key::Kind;
use crate::lmdb::database::Database;
use crate::search::request::Request;

/// The pending marks of a snapshot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending {
    /// Ids of which the forest knows nothing, or something that is no longer true.
    pub(crate) ids: RoaringBitmap,
    /// Those of them that exist.
    pub(crate) live: RoaringBitmap,
}

impl Pending {
    /// Reads all marks: O(pending).
    pub(crate) fn read(db: Database, rtxn: &RoTxn<'_>, spec: IndexSpec) -> Result<Self> {
        let mut pending = Self::default();
        for entry in db.iter(rtxn, spec.index, Kind::Pending)? {
            let (key, bytes) = entry?;
            let mark = PendingRef::parse(key, bytes, spec)?;
            pending.ids.insert(key.id());
            if mark.is_live {
                pending.live.insert(key.id());
            }
        }
        Ok(pending)
    }

    /// Those that exist and that a request admits, until it is to stop.
    pub(crate) fn live_in<'r>(
        &'r self,
        request: &'r Request<'_>,
    ) -> impl Iterator<Item = u32> + 'r {
        request.stop.limit(self.live.iter()).filter(|id| request.admits(*id))
    }
}
