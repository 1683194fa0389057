//! Many changes of items at once.

use std::collections::BTreeMap;

use heed::{RoTxn, RwTxn};

use super::{Buffers, Writer};
use crate::error::Result;
use crate::index_spec::IndexSpec;
use crate::key::Key;
use crate::vector::CheckedVector;

impl Writer {
    /// What the index is in this transaction.
    pub(crate) fn spec(&self, rtxn: &RoTxn<'_>) -> Result<IndexSpec> {
        Ok(self.spec_of(&self.record(rtxn)?))
    }

    /// Puts items, and deletes those without a vector. The vectors have been checked.
    ///
    /// What cannot be read is found out before anything is written.
    pub(crate) fn change_items(
        &self,
        wtxn: &mut RwTxn<'_>,
        items: &BTreeMap<u32, Option<&[f32]>>,
    ) -> Result<()> {
        let mut record = self.record(wtxn)?;
        let spec = self.spec_of(&record);
        for id in items.keys() {
            self.old(wtxn, &record, *id)?;
        }
        let mut buffers = Buffers::default();
        for (id, vector) in items {
            if let Some(vector) = vector {
                let checked = CheckedVector::to_store(vector, spec)?;
                self.put_item(wtxn, &mut record, *id, &checked, &mut buffers)?;
            } else if self.mark(wtxn, &mut record, *id, false, &mut buffers)? {
                self.db.delete(wtxn, Key::item(self.spec.index, *id))?;
                record.items = record.items.saturating_sub(1);
            }
        }
        if items.is_empty() { Ok(()) } else { self.put_record(wtxn, &record) }
    }
}
