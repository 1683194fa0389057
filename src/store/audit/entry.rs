//! The entries of the audit log.
//!
//! An entry of the table `spinney audit` has its number as its key (u64, big-endian, from 1), and
//! this value (numbers little-endian):
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version (1) |
//! | 8 | milliseconds since 1970 (u64) |
//! | 2 + n | who: length (u16; 0 for nobody) and UTF-8 |
//! | 4 | how many changes follow (u32), each as below |
//! | 1 | action: its place in [`AuditAction`], from 0 |
//! | 2 + n | name: length (u16) and UTF-8 |
//! | 8 | how many times (u64) |
//! | 2 | how many keys follow (u16), each as below |
//! | 1 | kind of key: 0 an id, 1 bytes |
//! | 4, or 2 + n | the id (u32); or length (u16) and bytes |
//!
//! Nothing follows the last change. The key of one zero byte has one byte: whether the log is kept
//! (0 no, 1 yes).

use std::time::{Duration, SystemTime};

use crate::error::{Error, Result};

/// What was done.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum AuditAction {
    /// Items or documents were added or replaced.
    Put,
    /// Items or documents were deleted.
    Delete,
    /// All items or documents were deleted.
    Clear,
    /// An index was built.
    Build,
    /// The vectors of an index were stored in another way.
    Convert,
    /// An index or a collection was repaired. Count and keys are of the items or documents lost.
    Repair,
    /// An index or a collection was created.
    Create,
    /// An index or a collection was deleted.
    Drop,
    /// An index or a collection got another name, which is the key.
    Rename,
    /// It was set when an index or a collection is built.
    Configure,
    /// A backup was written; the name is its path.
    Backup,
    /// The store was made of a backup; the name is its path.
    Restore,
    /// Something was exported.
    Export,
    /// The file was compacted.
    Compact,
    /// The log was cut at its beginning, by so many entries.
    Trim,
    /// The log was begun.
    Start,
    /// The log was ended.
    Stop,
    /// LMDB's transaction was asked for, and may have changed anything.
    Raw,
    /// What else the caller has noted.
    Other,
}

use AuditAction as A;
/// In the order of the stored numbers, which never change.
const ACTIONS: [AuditAction; 19] = [
    A::Put,
    A::Delete,
    A::Clear,
    A::Build,
    A::Convert,
    A::Repair,
    A::Create,
    A::Drop,
    A::Rename,
    A::Configure,
    A::Backup,
    A::Restore,
    A::Export,
    A::Compact,
    A::Trim,
    A::Start,
    A::Stop,
    A::Raw,
    A::Other,
];

/// One of the things that were changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum AuditKey {
    /// An item of an index.
    Id(u32),
    /// The key of a document, or whatever was noted.
    Key(Vec<u8>),
}

/// One thing that a commit did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct AuditChange {
    /// What.
    pub action: AuditAction,
    /// To the index or collection of this name, as it was called then.
    pub name: String,
    /// How many times.
    pub count: u64,
    /// To which keys: the first 100.
    pub keys: Vec<AuditKey>,
}

/// What a commit did, as [`Store::audit_log`](crate::Store::audit_log) gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct AuditEntry {
    /// The number of the entry: one more than that of the entry before, from 1.
    pub sequence: u64,
    /// When, by the clock of the system: milliseconds since 1970.
    pub time_ms: u64,
    /// Who, if somebody was named.
    pub actor: Option<String>,
    /// What was done, in the order of actions and names.
    pub changes: Vec<AuditChange>,
}

const VERSION: u8 = 1;
/// The longest name, key or actor that is kept, in bytes.
pub(crate) const MAX_LEN: usize = 4096;

impl AuditEntry {
    /// When, by the clock of the system.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        let time = Duration::from_millis(self.time_ms);
        SystemTime::UNIX_EPOCH.checked_add(time).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend(self.time_ms.to_le_bytes());
        put_bytes(&mut bytes, self.actor.as_deref().unwrap_or_default().as_bytes());
        bytes.extend(u32::try_from(self.changes.len()).unwrap_or(u32::MAX).to_le_bytes());
        for change in &self.changes {
            bytes.push(change.action as u8);
            put_bytes(&mut bytes, change.name.as_bytes());
            bytes.extend(change.count.to_le_bytes());
            bytes.extend(u16::try_from(change.keys.len()).unwrap_or(u16::MAX).to_le_bytes());
            for key in &change.keys {
                match key {
                    AuditKey::Id(id) => {
                        bytes.push(0);
                        bytes.extend(id.to_le_bytes());
                    }
                    AuditKey::Key(key) => {
                        bytes.push(1);
                        put_bytes(&mut bytes, key);
                    }
                }
            }
        }
        bytes
    }

    pub(crate) fn parse(key: &[u8], bytes: &[u8]) -> Result<Self> {
        let damaged = || damaged(key);
        let sequence = u64::from_be_bytes(key.try_into().map_err(|_| damaged())?);
        match bytes.first() {
            Some(&VERSION) => {}
            Some(&found) if found > VERSION => {
                return Err(Error::FormatTooNew { found: found.into(), supported: VERSION.into() });
            }
            _ => return Err(damaged()),
        }
        let mut rest = Rest(bytes.get(1..).unwrap_or_default());
        let entry = rest.entry(sequence).filter(|_| rest.0.is_empty());
        entry.ok_or_else(damaged)
    }
}

pub(crate) fn damaged(key: &[u8]) -> Error {
    Error::store_corrupted("the audit log", key)
}

/// What is longer is cut: lengths have two bytes.
fn put_bytes(bytes: &mut Vec<u8>, value: &[u8]) {
    let value = value.get(..MAX_LEN).unwrap_or(value);
    bytes.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend(value);
}

/// What is still to be read of a value. Whatever is cut off or wrong gives `None`.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = u16::from_le_bytes(self.array()?);
        self.take(len.into())
    }

    fn text(&mut self) -> Option<String> {
        Some(std::str::from_utf8(self.bytes()?).ok()?.to_owned())
    }

    fn entry(&mut self, sequence: u64) -> Option<AuditEntry> {
        let time_ms = u64::from_le_bytes(self.array()?);
        let actor = Some(self.text()?).filter(|actor| !actor.is_empty());
        let count = u32::from_le_bytes(self.array()?);
        // No count is trusted for an allocation: the bytes run out before the memory does.
        let mut changes = Vec::new();
        for _ in 0..count {
            changes.push(self.change()?);
        }
        Some(AuditEntry { sequence, time_ms, actor, changes })
    }

    fn change(&mut self) -> Option<AuditChange> {
        let [code] = self.array()?;
        let action = *ACTIONS.get(usize::from(code))?;
        let (name, count) = (self.text()?, u64::from_le_bytes(self.array()?));
        let mut keys = Vec::new();
        for _ in 0..u16::from_le_bytes(self.array()?) {
            keys.push(match self.array()? {
                [0] => AuditKey::Id(u32::from_le_bytes(self.array()?)),
                [1] => AuditKey::Key(self.bytes()?.to_vec()),
                _ => return None,
            });
        }
        Some(AuditChange { action, name, count, keys })
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn entry() -> AuditEntry {
        let keys = vec![AuditKey::Id(7), AuditKey::Key(b"a key".to_vec())];
        let change =
            |action| AuditChange { action, name: "é".to_owned(), count: 9, keys: keys.clone() };
        let changes = ACTIONS.map(change).to_vec();
        AuditEntry { sequence: 300, time_ms: 1_700_000_000_123, actor: Some("ann".into()), changes }
    }

    #[test]
    fn entries_come_back_and_any_bytes_are_read_to_an_end() {
        let (key, whole) = (300u64.to_be_bytes(), entry().to_bytes());
        assert_eq!(AuditEntry::parse(&key, &whole).unwrap(), entry());
        assert!(ACTIONS.iter().enumerate().all(|(place, action)| place == *action as usize));
        let is_damage = |error| matches!(error, Error::StoreCorrupted { .. });
        for len in 0..whole.len() {
            assert!(is_damage(AuditEntry::parse(&key, &whole[..len]).unwrap_err()), "{len}");
        }
        let longer = [&whole[..], &[0]].concat();
        assert!(is_damage(AuditEntry::parse(&key, &longer).unwrap_err()));
        assert!(is_damage(AuditEntry::parse(&key[1..], &whole).unwrap_err()));
        let newer = [&[2], &whole[1..]].concat();
        let refused = AuditEntry::parse(&key, &newer);
        assert!(matches!(refused, Err(Error::FormatTooNew { found: 2, supported: 1 })));
        let seed = 77;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        for trial in 0..20_000 {
            let mut bytes = whole.clone();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(1..bytes.len());
                bytes[at] = [0, 1, 255, rng.random()][rng.random_range(0..4)];
            }
            match AuditEntry::parse(&key, &bytes) {
                Ok(read) => assert_eq!(read.to_bytes(), bytes, "seed={seed}, trial {trial}"),
                Err(error) => assert!(is_damage(error), "seed={seed}, trial {trial}"),
            }
        }
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let changes = vec![AuditChange {
            action: AuditAction::Other,
            name: String::new(),
            count: 1,
            keys: vec![AuditKey::Key(vec![5; 100_000])],
        }];
        let long = AuditEntry { sequence: 1, time_ms: u64::MAX, actor: None, changes };
        let read = AuditEntry::parse(&1u64.to_be_bytes(), &long.to_bytes()).unwrap();
        assert_eq!(read.changes[0].keys, [AuditKey::Key(vec![5; MAX_LEN])]);
        assert_eq!(
            read.time().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis(),
            u64::MAX.into()
        );
    }
}
