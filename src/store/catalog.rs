//! The names of indexes and collections.
//!
//! An entry of the table `spinney catalog` has the name as its key, UTF-8 of 1 to 255 bytes, and
//! eight bytes as its value: a version (1), a kind (0 index, 1 collection), the number of the index
//! (u16, little-endian), and after how many pending items it is built (u32, little-endian; the
//! largest number for never). The key of one zero byte has the number that the next index gets
//! (u16, little-endian).

use heed::{RoTxn, RwTxn};

use crate::error::{Error, Result};
use crate::lmdb::opening::Table;

/// What a name stands for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum NameKind {
    Index,
    Collection,
}

/// What the catalog says of a name.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: NameKind,
    pub(crate) number: u16,
    /// A write that leaves more pending items builds before it commits.
    pub(crate) build_after: Option<u32>,
}

const VERSION: u8 = 1;
const NEXT: [u8; 1] = [0];
/// How many pending items searches compare without taking much longer: docs/trials.md, "Pending
/// items".
pub(crate) const BUILD_AFTER: u32 = 200;

impl Entry {
    fn to_bytes(self) -> [u8; 8] {
        let [low, high] = self.number.to_le_bytes();
        let [a, b, c, d] = self.build_after.unwrap_or(u32::MAX).to_le_bytes();
        [VERSION, u8::from(self.kind == NameKind::Collection), low, high, a, b, c, d]
    }

    fn parse(bytes: &[u8], name: &str) -> Result<Self> {
        let &[version, kind, low, high, a, b, c, d] = bytes else {
            return Err(damaged(name));
        };
        let kind = match (version, kind) {
            (VERSION, 0) => NameKind::Index,
            (VERSION, 1) => NameKind::Collection,
            (version, _) if version > VERSION => {
                return Err(Error::FormatTooNew {
                    found: version.into(),
                    supported: VERSION.into(),
                });
            }
            _ => return Err(damaged(name)),
        };
        let build_after = Some(u32::from_le_bytes([a, b, c, d])).filter(|count| *count != u32::MAX);
        Ok(Self { kind, number: u16::from_le_bytes([low, high]), build_after })
    }
}

/// The catalog of a store.
#[derive(Copy, Clone)]
pub(crate) struct Catalog {
    pub(crate) table: Table<'static>,
}

impl Catalog {
    pub(crate) fn get(&self, rtxn: &RoTxn<'_>, name: &str) -> Result<Option<Entry>> {
        check_name(name)?;
        let found = self.table.get(rtxn, name.as_bytes())?;
        found.map(|bytes| Entry::parse(bytes, name)).transpose()
    }

    pub(crate) fn put(&self, wtxn: &mut RwTxn<'_>, name: &str, entry: Entry) -> Result<()> {
        check_name(name)?;
        Ok(self.table.put(wtxn, name.as_bytes(), &entry.to_bytes())?)
    }

    pub(crate) fn delete(&self, wtxn: &mut RwTxn<'_>, name: &str) -> Result<bool> {
        check_name(name)?;
        Ok(self.table.delete(wtxn, name.as_bytes())?)
    }

    /// What has this number, which most likely has this name; it may have been renamed since.
    pub(crate) fn find(
        &self,
        rtxn: &RoTxn<'_>,
        number: u16,
        name: &str,
    ) -> Result<Option<(String, Entry)>> {
        match self.get(rtxn, name)? {
            Some(entry) if entry.number == number => Ok(Some((name.to_owned(), entry))),
            _ => Ok(self.entries(rtxn)?.into_iter().find(|(_, entry)| entry.number == number)),
        }
    }

    /// All names, in the order of their bytes.
    pub(crate) fn entries(&self, rtxn: &RoTxn<'_>) -> Result<Vec<(String, Entry)>> {
        self.iter(rtxn)?.collect()
    }

    /// As [`entries`](Self::entries). Damaged ones are errors, and others follow.
    pub(crate) fn iter<'t>(
        &self,
        rtxn: &'t RoTxn<'_>,
    ) -> Result<impl Iterator<Item = Result<(String, Entry)>> + use<'t>> {
        let names =
            self.table.iter(rtxn)?.filter(|entry| !matches!(entry, Ok((key, _)) if *key == NEXT));
        Ok(names.map(|entry| {
            let (key, value) = entry?;
            let name =
                std::str::from_utf8(key).map_err(|_| damaged(&String::from_utf8_lossy(key)))?;
            Ok((name.to_owned(), Entry::parse(value, name)?))
        }))
    }

    /// A number that neither a name nor an index has. Numbers are used again as late as can be, so
    /// that a handle on what was deleted finds nothing.
    pub(crate) fn take_number(&self, wtxn: &mut RwTxn<'_>, indexes: &[u16]) -> Result<u16> {
        let next = match self.table.get(wtxn, &NEXT)?.map(<[u8; 2]>::try_from) {
            None => 0,
            Some(Ok(bytes)) => u16::from_le_bytes(bytes),
            Some(Err(_)) => return Err(damaged("\0")),
        };
        let named: Vec<u16> = self.entries(wtxn)?.iter().map(|(_, entry)| entry.number).collect();
        let is_free = |number: &u16| !indexes.contains(number) && !named.contains(number);
        let number = (next..=u16::MAX).chain(0..next).find(is_free).ok_or(Error::NumbersFull)?;
        self.table.put(wtxn, &NEXT, &number.wrapping_add(1).to_le_bytes())?;
        Ok(number)
    }
}

pub(crate) fn check_name(name: &str) -> Result<()> {
    if (1..=255).contains(&name.len()) && !name.contains('\0') {
        return Ok(());
    }
    Err(Error::option("name", "1 to 255 bytes, none of them zero", format_args!("{name:?}")))
}

fn damaged(name: &str) -> Error {
    Error::store_corrupted("the catalog", name.as_bytes())
}
