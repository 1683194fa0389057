//! Keeping, reading and trimming the audit log.

use std::fmt;
use std::ops::Bound;
use std::time::SystemTime;

use heed::RoTxn;

use crate::error::Result;
use crate::lmdb::opening::Table;
use crate::store::audit::draft::{SETTING, is_kept, milliseconds};
use crate::store::audit::entry::{AuditAction, AuditEntry, damaged};
use crate::store::audit::notes::check_actor;
use crate::store::handle::Store;
use crate::store::snapshot::StoreSnapshot;

impl Store {
    /// Another handle, whose writes bear this name in the audit log.
    ///
    /// ```
    /// use spinney::{IndexOptions, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// store.set_audit(true)?;
    /// let anns = store.acting_as("ann")?;
    /// anns.index("docs", &IndexOptions::new(2, Metric::Euclidean))?;
    /// anns.delete_index("docs")?;
    /// assert_eq!(store.audit_log(1)?.last().unwrap()?.actor.as_deref(), Some("ann"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidOption`](crate::Error::InvalidOption) unless it has 1 to 255 bytes.
    pub fn acting_as(&self, actor: &str) -> Result<Self> {
        Ok(Self { actor: Some(check_actor(actor)?), ..self.clone() })
    }

    /// Whether each write transaction notes in the store who wrote, when, and what: the audit log.
    /// Kept in the store, for all processes. Default: no.
    ///
    /// An entry is part of the commit that it tells of: neither is there without the other. It has
    /// counts and the first 100 keys of each action and name. What is written through
    /// [`WriteTxn::as_heed_mut`](crate::WriteTxn::as_heed_mut) is noted as
    /// [`AuditAction::Raw`], without what it was; writes through [`env`](Self::env) are not.
    ///
    /// ```
    /// use spinney::{AuditAction, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// store.set_audit(true)?;
    /// assert!(store.is_audited()?);
    /// let first = store.audit_log(1)?.next().unwrap()?;
    /// assert_eq!(first.changes[0].action, AuditAction::Start);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cost
    /// One entry in each commit, of some 20 bytes and 5 for each id or key beside its own bytes.
    ///
    /// # Errors
    /// Those of [`write`](Self::write);
    /// [`Error::StoreCorrupted`](crate::Error::StoreCorrupted).
    pub fn set_audit(&self, yes: bool) -> Result<()> {
        let table = self.inner.tables.audit;
        self.write(|txn| {
            if txn.draft.is_kept == yes {
                return Ok(());
            }
            txn.run(|wtxn| Ok(table.put(wtxn, &SETTING, &[yes.into()])?))?;
            txn.draft.is_kept = true;
            let action = if yes { AuditAction::Start } else { AuditAction::Stop };
            txn.note(action, "", b"");
            Ok(())
        })
    }

    /// Whether the audit log is kept: see [`set_audit`](Self::set_audit).
    ///
    /// # Errors
    /// Those of [`read`](Self::read);
    /// [`Error::StoreCorrupted`](crate::Error::StoreCorrupted).
    pub fn is_audited(&self) -> Result<bool> {
        self.read(|txn| is_kept(self.inner.tables.audit, txn.as_heed()))
    }

    /// The audit log of the newest commit, from the entry of this number on, the oldest first. An
    /// entry that is damaged is an error, and the next one follows.
    ///
    /// ```
    /// use spinney::Store;
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// store.set_audit(true)?;
    /// for entry in store.audit_log(1)? {
    ///     let entry = entry?;
    ///     println!("{} {:?} {:?}", entry.sequence, entry.actor, entry.changes);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cost
    /// One look-up for each entry. Keeps a snapshot until it is dropped.
    ///
    /// # Errors
    /// Those of [`snapshot`](Self::snapshot).
    pub fn audit_log(&self, from: u64) -> Result<AuditLog> {
        let table = self.inner.tables.audit;
        Ok(AuditLog { snapshot: self.snapshot()?, table, next: Some(from) })
    }

    /// Deletes the oldest entries of the audit log, up to the first that is no older than this.
    /// Returns how many; if any, an entry says so.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    ///
    /// use spinney::Store;
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// store.set_audit(true)?;
    /// let ninety_days = Duration::from_secs(90 * 24 * 3600);
    /// assert_eq!(store.trim_audit(SystemTime::now() - ninety_days)?, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`write`](Self::write); [`Error::StoreCorrupted`](crate::Error::StoreCorrupted) if
    /// an entry cannot be read whose age matters.
    pub fn trim_audit(&self, before: SystemTime) -> Result<u64> {
        let (table, before) = (self.inner.tables.audit, milliseconds(before));
        self.write(|txn| {
            let (mut count, mut end) = (0u64, 0u64);
            for entry in entries(&table, txn.as_heed())? {
                let entry = entry?;
                if entry.time_ms >= before {
                    break;
                }
                (count, end) = (count + 1, entry.sequence);
            }
            if count > 0 {
                let (first, end) = (0u64.to_be_bytes(), end.to_be_bytes());
                let range = (Bound::Included(&first[..]), Bound::Included(&end[..]));
                // The entry that says so gets the next number, while the last one is still there.
                txn.draft.note(AuditAction::Trim, "", count, std::iter::empty());
                txn.append_entry()?;
                txn.run(|wtxn| Ok(table.delete_range(wtxn, &range)?))?;
            }
            Ok(count)
        })
    }

    /// Notes what was done in no write transaction of its own.
    pub(crate) fn note_alone(&self, action: AuditAction, name: &str) -> Result<()> {
        if !self.inner.environment.options.is_writable() || !self.is_audited()? {
            return Ok(());
        }
        self.write(|txn| {
            txn.note(action, name, b"");
            Ok(())
        })
    }
}

/// The entries of the audit log of one commit: see [`Store::audit_log`].
pub struct AuditLog {
    snapshot: StoreSnapshot,
    table: Table<'static>,
    /// The number of the next entry; none at the end.
    next: Option<u64>,
}

impl Iterator for AuditLog {
    type Item = Result<AuditEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        let (from, table) = (self.next.take()?.to_be_bytes(), self.table);
        let found = self.snapshot.with_txn(|rtxn| {
            let found = table.get_greater_than_or_equal_to(rtxn, &from)?;
            Ok(found.map(|(key, bytes)| (sequence(key), AuditEntry::parse(key, bytes))))
        });
        match found {
            Err(error) => Some(Err(error)),
            Ok(found) => found.map(|(sequence, entry)| {
                // Without a number there is no way on.
                self.next = sequence.ok().and_then(|sequence| sequence.checked_add(1));
                entry
            }),
        }
    }
}

fn sequence(key: &[u8]) -> Result<u64> {
    Ok(u64::from_be_bytes(key.try_into().map_err(|_| damaged(key))?))
}

/// All entries, the oldest first.
pub(crate) fn entries<'t>(
    table: &Table<'static>,
    rtxn: &'t RoTxn<'_>,
) -> Result<impl Iterator<Item = Result<AuditEntry>> + use<'t>> {
    let range = (Bound::Excluded(&SETTING[..]), Bound::Unbounded);
    let entries = table.range(rtxn, &range)?;
    Ok(entries.map(|entry| {
        entry.map_err(Into::into).and_then(|(key, bytes)| AuditEntry::parse(key, bytes))
    }))
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog").field("next", &self.next).finish_non_exhaustive()
    }
}
