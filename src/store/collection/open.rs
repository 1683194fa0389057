//! Collections of a store.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::options::IndexOptions;
use crate::store::audit::entry::AuditAction;
use crate::store::catalog::{Entry, NameKind, check_name};
use crate::store::collection::handle::Collection;
use crate::store::collection::layout::Layout;
use crate::store::collection::record::Meta;
use crate::store::handle::{Store, create, taken};
use crate::store::txn::WriteTxn;

/// Collections.
impl Store {
    /// The collection of this name, created if it is not there: see [`Collection`].
    ///
    /// # Errors
    /// As [`index`](Self::index); [`Error::NameTaken`] if the name is an
    /// index's.
    pub fn collection(&self, name: &str, options: &IndexOptions) -> Result<Collection> {
        check_name(name)?;
        let tables = self.inner.tables;
        let found = self.read(|txn| match tables.catalog.get(txn.as_heed(), name)? {
            Some(entry) => {
                expect_collection(entry, name)?;
                tables.expect(txn.as_heed(), entry.number, options)?;
                Ok::<_, Error>(Some(entry.number))
            }
            None => Ok(None),
        })?;
        let number = match found {
            Some(number) => number,
            None => self.write(|txn| create_collection(txn, name, options))?,
        };
        Ok(self.handle(name, number, options.dims(), options.metric()))
    }

    /// The collection of this name, if it is there.
    ///
    /// # Errors
    /// [`Error::NameTaken`] if the name is an index's; those of
    /// [`read`](Self::read).
    pub fn open_collection(&self, name: &str) -> Result<Option<Collection>> {
        let tables = self.inner.tables;
        self.read(|txn| {
            let Some(entry) = tables.catalog.get(txn.as_heed(), name)? else { return Ok(None) };
            expect_collection(entry, name)?;
            let reader = txn.reader_of(entry.number)?;
            Ok(Some(self.handle(name, entry.number, reader.dims(), reader.metric())))
        })
    }

    /// The names of all collections, in the order of their bytes.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub fn collections(&self) -> Result<Vec<String>> {
        self.names(NameKind::Collection)
    }

    /// Deletes a collection and all in it. Whether it was there.
    ///
    /// ```
    /// use spinney::{IndexOptions, Metric, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// store.collection("docs", &IndexOptions::new(1, Metric::Euclidean))?;
    /// store.rename("docs", "pages")?;
    /// assert_eq!(store.collections()?, ["pages"]);
    /// assert!(store.delete_collection("pages")? && store.open_collection("pages")?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NameTaken`] if the name is an index's; those of
    /// [`write`](Self::write).
    pub fn delete_collection(&self, name: &str) -> Result<bool> {
        let tables = self.inner.tables;
        self.write(|txn| {
            let was_there = txn.run(|wtxn| {
                let Some(entry) = tables.catalog.get(wtxn, name)? else { return Ok(false) };
                expect_collection(entry, name)?;
                tables.db.delete_index(wtxn, entry.number)?;
                let (first, end) = Layout { number: entry.number }.whole();
                let range = (as_slice(&first), as_slice(&end));
                tables.documents.delete_range(wtxn, &range)?;
                tables.catalog.delete(wtxn, name)
            })?;
            if was_there {
                txn.note(AuditAction::Drop, name, b"");
            }
            Ok(was_there)
        })
    }

    fn handle(
        &self,
        name: &str,
        number: u16,
        dims: usize,
        metric: crate::metric::Metric,
    ) -> Collection {
        let mark = self.inner.tables.db.mark();
        Collection { name: name.into(), number, dims, metric, mark, scope: Arc::default() }
    }
}

fn create_collection(txn: &mut WriteTxn<'_>, name: &str, options: &IndexOptions) -> Result<u16> {
    let tables = txn.store().tables;
    let is_new = txn.run(|wtxn| tables.catalog.get(wtxn, name))?.is_none();
    let number = create(txn, name, NameKind::Collection, options)?;
    if is_new {
        let key = Layout { number }.meta();
        txn.run(|wtxn| Ok(tables.documents.put(wtxn, &key, &Meta::NEW.to_bytes())?))?;
    }
    Ok(number)
}

pub(crate) fn expect_collection(entry: Entry, name: &str) -> Result<()> {
    if entry.kind == NameKind::Collection { Ok(()) } else { Err(taken(name)) }
}

fn as_slice(bound: &std::ops::Bound<Vec<u8>>) -> std::ops::Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}
