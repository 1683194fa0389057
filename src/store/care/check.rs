//! Whether all of a store is sound, and what to do if it is not.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::key::Key;
use crate::options::{BuildOptions, IndexOptions};
use crate::repair::Repair;
use crate::store::audit::entry::AuditKey;
use crate::store::audit::log;
use crate::store::catalog::NameKind;
use crate::store::collection::verify_collection;
use crate::store::handle::{Inner, Store, not_found};
use crate::store::txn::ReadTxn;
use crate::verify::{Verification, Violation};
use crate::warm::Warmed;
use crate::writer::Writer;

/// What [`Store::verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct StoreVerification {
    /// The indexes, those of collections among them, in the order of their numbers.
    pub indexes: Vec<VerifiedIndex>,
    /// What is wrong with what the store keeps beside them: names, documents and the audit log.
    pub faults: Vec<String>,
}

/// What [`Store::verify`] found of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct VerifiedIndex {
    /// Its number.
    pub number: u16,
    /// Its name, or that of the collection; none if it was made through
    /// [`Database`](crate::Database).
    pub name: Option<String>,
    /// What is wrong with it.
    pub found: Verification,
}

impl StoreVerification {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty() && self.indexes.iter().all(|index| index.found.is_sound())
    }

    /// The first thing that is wrong, in words.
    pub(crate) fn first_fault(&self) -> Option<String> {
        let of_index = |index: &VerifiedIndex| {
            let violation = index.found.violations.first()?;
            Some(format!("{} in index {:?}", violation.what, index.name))
        };
        self.faults.first().cloned().or_else(|| self.indexes.iter().find_map(of_index))
    }
}

impl Store {
    /// Checks every invariant of all indexes and of what the store keeps beside them, in one
    /// commit.
    ///
    /// ```
    /// use spinney::{IndexOptions, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let docs = store.index("docs", &IndexOptions::new(2, Metric::Euclidean))?;
    /// store.write(|txn| docs.add_item(txn, 7, &[3.0, 4.0]))?;
    /// let found = store.verify()?;
    /// assert!(found.is_sound());
    /// assert_eq!(found.indexes[0].found.items, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cost
    /// Reads the whole store once, and encodes all vectors again: see
    /// [`Reader::verify`](crate::Reader::verify).
    ///
    /// # Errors
    /// Those of [`read`](Self::read). Damage is no error.
    pub fn verify(&self) -> Result<StoreVerification> {
        verify(&self.inner)
    }

    /// Rebuilds a damaged index from the items that can still be read. `options` says what it is,
    /// because that may be among what is damaged.
    ///
    /// ```
    /// use spinney::{BuildOptions, IndexOptions, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let options = IndexOptions::new(2, Metric::Euclidean);
    /// store.index("docs", &options)?;
    /// let repair = store.repair("docs", &options, &BuildOptions::default())?;
    /// assert_eq!(repair.violations_found, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cost
    /// As [`Writer::repair`], within one write transaction.
    ///
    /// # Errors
    /// [`Error::NameNotFound`]; [`Error::NameTaken`] if the name is a collection's, for which there
    /// is [`repair_collection`](Self::repair_collection); those of
    /// [`Writer::repair`] and [`write`](Self::write).
    pub fn repair(
        &self,
        name: &str,
        options: &IndexOptions,
        build: &BuildOptions<'_>,
    ) -> Result<Repair> {
        let tables = self.inner.tables;
        self.write(|txn| {
            let entry = tables.catalog.get(txn.as_heed(), name)?.ok_or_else(|| not_found(name))?;
            if entry.kind != NameKind::Index {
                return Err(Error::NameTaken(name.to_owned()));
            }
            let repair =
                txn.run(|wtxn| Writer::repair(wtxn, tables.db, entry.number, options, build))?;
            if repair.violations_found > 0 {
                let lost = repair.lost.iter().map(|id| AuditKey::Id(*id));
                txn.note_repair(entry.number, name, lost);
            }
            Ok(repair)
        })
    }

    /// Reads the forests of all indexes into memory, then vectors, of no more than so many bytes in
    /// all. Returns the bytes read. For one index alone there is
    /// [`Reader::warm`](crate::Reader::warm).
    ///
    /// ```
    /// use spinney::{IndexOptions, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let docs = store.index("docs", &IndexOptions::new(2, Metric::Euclidean))?;
    /// store.write(|txn| docs.add_item(txn, 7, &[3.0, 4.0]))?;
    /// assert!(store.warm(1 << 20)?.item_bytes > 0);
    /// assert_eq!(store.warm(0)?.item_bytes, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cost
    /// Reads what it returns the bytes of, from the disk where it is not in memory.
    ///
    /// # Errors
    /// Those of [`read`](Self::read) and [`Reader::warm`](crate::Reader::warm).
    pub fn warm(&self, max_item_bytes: u64) -> Result<Warmed> {
        self.read(|txn| {
            let mut warmed = Warmed::default();
            for number in self.database().indexes(txn.as_heed())? {
                let left = max_item_bytes.saturating_sub(warmed.item_bytes);
                let more = txn.reader_of(number)?.warm(left)?;
                warmed.branch_bytes += more.branch_bytes;
                warmed.leaf_bytes += more.leaf_bytes;
                warmed.item_bytes += more.item_bytes;
            }
            Ok(warmed)
        })
    }
}

pub(crate) fn verify(store: &Inner) -> Result<StoreVerification> {
    let txn = ReadTxn::begin(store)?;
    let tables = store.tables;
    let mut verification = StoreVerification::default();
    let faults = &mut verification.faults;
    let mut names = BTreeMap::new();
    let mut numbers = tables.db.indexes(txn.as_heed())?;
    for entry in tables.catalog.iter(txn.as_heed())? {
        let Some((name, entry)) = sound(entry, faults)? else { continue };
        if let Some(other) = names.insert(entry.number, name.clone()) {
            faults.push(format!("{other:?} and {name:?} name the same index"));
        }
        if entry.kind == NameKind::Collection {
            let documents = txn
                .reader_of(entry.number)
                .and_then(|reader| verify_collection(&reader, tables.documents));
            let documents = match documents {
                // An index that cannot be read is told of below.
                Err(Error::Corrupted { .. } | Error::IndexNotFound { .. }) => Vec::new(),
                documents => documents?,
            };
            for found in documents {
                faults.push(format!("{} of {name:?}: {}", found.place, found.what));
            }
        }
        numbers.push(entry.number);
    }
    for entry in log::entries(&tables.audit, txn.as_heed())? {
        sound(entry, faults)?;
    }
    numbers.sort_unstable();
    numbers.dedup();
    for number in numbers {
        let found = match txn.reader_of(number).and_then(|reader| reader.verify()) {
            Err(error @ (Error::Corrupted { .. } | Error::IndexNotFound { .. })) => {
                let key = Key::record(number).to_bytes();
                let violations = vec![Violation { key, what: error.to_string() }];
                Verification { violations, ..Verification::default() }
            }
            found => found?,
        };
        verification.indexes.push(VerifiedIndex { number, name: names.remove(&number), found });
    }
    Ok(verification)
}

/// Makes a fault of damage. Other errors stay what they are.
fn sound<T>(found: Result<T>, faults: &mut Vec<String>) -> Result<Option<T>> {
    match found {
        Err(error @ Error::StoreCorrupted { .. }) => {
            faults.push(error.to_string());
            Ok(None)
        }
        found => found.map(Some),
    }
}
