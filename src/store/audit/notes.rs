//! What transactions note for the audit log.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::store::audit::entry::{AuditAction, AuditKey};
use crate::store::index::Index;
use crate::store::txn::WriteTxn;

impl WriteTxn<'_> {
    /// Names who writes, for the audit log: in place of the name that the store was given by
    /// [`Store::acting_as`](crate::Store::acting_as).
    ///
    /// ```
    /// use spinney::{AuditAction, IndexOptions, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let docs = store.index("docs", &IndexOptions::new(2, Metric::Euclidean))?;
    /// store.set_audit(true)?;
    /// store.write(|txn| {
    ///     txn.set_actor("ann")?;
    ///     docs.add_item(txn, 7, &[3.0, 4.0])
    /// })?;
    /// let last = store.audit_log(1)?.last().unwrap()?;
    /// assert_eq!(last.actor.as_deref(), Some("ann"));
    /// assert_eq!(last.changes[0].action, AuditAction::Put);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidOption`] unless it has 1 to 255 bytes.
    pub fn set_actor(&mut self, actor: &str) -> Result<()> {
        self.draft.actor = Some(check_actor(actor)?);
        Ok(())
    }

    /// Notes in the audit log, if it is kept, what the store does not know of: an export, or what
    /// was done to a table of your own. Indexes and collections note what is done to them.
    ///
    /// ```
    /// use spinney::{AuditAction, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// store.set_audit(true)?;
    /// store.write(|txn| {
    ///     txn.note(AuditAction::Export, "docs", b"docs.csv");
    ///     Ok::<_, spinney::Error>(())
    /// })?;
    /// assert_eq!(store.audit_log(1)?.last().unwrap()?.changes[0].name, "docs");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// An empty key is none. Names and keys are cut after 4,096 bytes.
    pub fn note(&mut self, action: AuditAction, name: &str, key: &[u8]) {
        if self.draft.is_kept {
            let key = (!key.is_empty()).then(|| AuditKey::Key(key.to_vec()));
            self.draft.note(action, name, 1, key.into_iter());
        }
    }

    /// As [`note`](Self::note), for items of an index, of which the handle had this name.
    pub(crate) fn note_ids(&mut self, action: AuditAction, index: u16, name: &str, ids: &[u32]) {
        if self.draft.is_kept && !ids.is_empty() {
            let name = self.name_of(index, name);
            let keys = ids.iter().map(|id| AuditKey::Id(*id));
            self.draft.note(action, &name, ids.len() as u64, keys);
        }
    }

    /// As [`note`](Self::note), for documents of a collection.
    pub(crate) fn note_documents<'k>(
        &mut self,
        action: AuditAction,
        collection: u16,
        name: &str,
        keys: impl ExactSizeIterator<Item = &'k [u8]>,
    ) {
        if self.draft.is_kept && keys.len() > 0 {
            let name = self.name_of(collection, name);
            let count = keys.len() as u64;
            self.draft.note(action, &name, count, keys.map(|key| AuditKey::Key(key.to_vec())));
        }
    }

    /// Notes a repair, and what was lost by it: perhaps nothing.
    pub(crate) fn note_repair(
        &mut self,
        index: u16,
        name: &str,
        lost: impl ExactSizeIterator<Item = AuditKey>,
    ) {
        if self.draft.is_kept {
            let name = self.name_of(index, name);
            self.draft.note(AuditAction::Repair, &name, lost.len() as u64, lost);
        }
    }

    /// Notes what was done to an index as a whole.
    pub(crate) fn note_index(&mut self, action: AuditAction, index: &Index, count: u64) {
        self.note_whole(action, index.number, &index.name, count);
    }

    /// Notes what was done to an index or a collection as a whole.
    pub(crate) fn note_whole(&mut self, action: AuditAction, index: u16, name: &str, count: u64) {
        if self.draft.is_kept {
            let name = self.name_of(index, name);
            self.draft.note(action, &name, count, std::iter::empty());
        }
    }

    /// The name that an index has now; the one given if it is not known.
    fn name_of(&mut self, index: u16, name: &str) -> Arc<str> {
        if let Some(known) = self.draft.names.get(&index) {
            return known.clone();
        }
        let catalog = self.store().tables.catalog;
        // A catalog that cannot be read is told where it matters.
        let found = catalog.find(self.as_heed(), index, name).ok().flatten();
        let found: Arc<str> = found.map_or_else(|| name.into(), |(name, _)| name.into());
        self.draft.names.insert(index, found.clone());
        found
    }
}

pub(crate) fn check_actor(actor: &str) -> Result<Arc<str>> {
    if (1..=255).contains(&actor.len()) {
        return Ok(actor.into());
    }
    Err(Error::option("actor", "1 to 255 bytes", format_args!("{actor:?}")))
}
