//! What a write transaction has done so far, for the audit log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use heed::{RoTxn, RwTxn};

use crate::error::Result;
use crate::lmdb::opening::Table;
use crate::store::audit::entry::{
    AuditAction, AuditChange, AuditEntry, AuditKey, MAX_LEN, damaged,
};

/// How many keys of each action and name are kept.
const KEYS: usize = 100;
/// The key of the setting. It is before all entries.
pub(crate) const SETTING: [u8; 1] = [0];

/// What a write transaction has done, if somebody wants to know.
pub(crate) struct Draft {
    pub(crate) actor: Option<Arc<str>>,
    /// Whether the log is kept. What is done to the log itself is always told.
    pub(crate) is_kept: bool,
    /// The names of indexes that were changed.
    pub(crate) names: BTreeMap<u16, Arc<str>>,
    changes: BTreeMap<AuditAction, BTreeMap<Box<str>, Noted>>,
}

#[derive(Default)]
struct Noted {
    count: u64,
    keys: Vec<AuditKey>,
}

impl Draft {
    pub(crate) fn new(
        table: Table<'static>,
        rtxn: &RoTxn<'_>,
        actor: Option<Arc<str>>,
    ) -> Result<Self> {
        let is_kept = is_kept(table, rtxn)?;
        Ok(Self { actor, is_kept, names: BTreeMap::new(), changes: BTreeMap::new() })
    }

    /// What was noted so far. Nothing is left.
    pub(crate) fn take(&mut self) -> Self {
        let (actor, changes) = (self.actor.clone(), std::mem::take(&mut self.changes));
        Self { actor, changes, is_kept: self.is_kept, names: BTreeMap::new() }
    }

    /// Adds to what was done to this name.
    pub(crate) fn note(
        &mut self,
        action: AuditAction,
        name: &str,
        count: u64,
        keys: impl Iterator<Item = AuditKey>,
    ) {
        // Within a character there is no end of a text.
        let end = (0..=name.len().min(MAX_LEN)).rev().find(|end| name.is_char_boundary(*end));
        let name = end.and_then(|end| name.get(..end)).unwrap_or(name);
        let names = self.changes.entry(action).or_default();
        // A name that is there takes no allocation.
        if !names.contains_key(name) {
            names.insert(name.into(), Noted::default());
        }
        if let Some(noted) = names.get_mut(name) {
            noted.count = noted.count.saturating_add(count);
            noted.keys.extend(keys.take(KEYS - noted.keys.len().min(KEYS)));
        }
    }

    /// Writes the entry, if anything was done.
    pub(crate) fn append(self, table: Table<'static>, wtxn: &mut RwTxn<'_>) -> Result<()> {
        if self.changes.is_empty() {
            return Ok(());
        }
        let last = match table.last(wtxn)? {
            Some((key, _)) if key != SETTING => {
                u64::from_be_bytes(key.try_into().map_err(|_| damaged(key))?)
            }
            _ => 0,
        };
        let sequence = last.checked_add(1).ok_or_else(|| damaged(&last.to_be_bytes()))?;
        let changes = self.changes.into_iter().flat_map(|(action, names)| {
            names.into_iter().map(move |(name, Noted { count, keys })| AuditChange {
                action,
                name: name.into(),
                count,
                keys,
            })
        });
        let entry = AuditEntry {
            sequence,
            time_ms: milliseconds(SystemTime::now()),
            actor: self.actor.map(|actor| actor.as_ref().to_owned()),
            changes: changes.collect(),
        };
        Ok(table.put(wtxn, &sequence.to_be_bytes(), &entry.to_bytes())?)
    }
}

/// Whether the log is kept.
pub(crate) fn is_kept(table: Table<'static>, rtxn: &RoTxn<'_>) -> Result<bool> {
    match table.get(rtxn, &SETTING)? {
        None | Some([0]) => Ok(false),
        Some([1]) => Ok(true),
        Some(_) => Err(damaged(&SETTING)),
    }
}

/// Since 1970; 0 before.
pub(crate) fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
