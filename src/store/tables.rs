//! The tables of a store in its environment.

use heed::types::Bytes;
use heed::{CommitOrAbort, RoTxn};

use crate::error::{Error, Result};
use crate::lmdb::database::Database;
use crate::lmdb::extent;
use crate::lmdb::opening::Table;
use crate::options::IndexOptions;
use crate::store::catalog::Catalog;
use crate::store::environment::Environment;

/// Names that begin so are the store's.
pub(crate) const PREFIX: &str = "spinney";
const VECTORS: &str = "spinney";
const CATALOG: &str = "spinney catalog";
const DOCUMENTS: &str = "spinney documents";
const AUDIT: &str = "spinney audit";

/// Handles on the tables that every store has.
#[derive(Copy, Clone)]
pub(crate) struct Tables {
    /// Vectors and forests of all indexes.
    pub(crate) db: Database,
    pub(crate) catalog: Catalog,
    /// What collections know of their documents.
    pub(crate) documents: Table<'static>,
    pub(crate) audit: Table<'static>,
}

impl Tables {
    /// Opens the tables, and creates those that are missing.
    pub(crate) fn open(environment: &Environment) -> Result<Self> {
        let env = environment.env();
        {
            let (_rtxn, _counted) = environment.read()?;
            extent::check(env)?;
        }
        if let Some(tables) = Self::open_existing(environment)? {
            return Ok(tables);
        }
        if !environment.options.is_writable() {
            return Err(Error::StoreNotFound(environment.files.data.clone()));
        }
        let turn = environment.turn(None)?;
        let (wtxn, _counted) = environment.write(&turn)?;
        let created = env.create_databases_and_commit(wtxn, |opener, wtxn| {
            let db = Database::open_or_create_with(opener, wtxn, VECTORS)?;
            let catalog = opener.create_database::<Bytes, Bytes>(wtxn, Some(CATALOG))?;
            let documents = opener.create_database::<Bytes, Bytes>(wtxn, Some(DOCUMENTS))?;
            let audit = opener.create_database::<Bytes, Bytes>(wtxn, Some(AUDIT))?;
            Ok::<_, Error>(CommitOrAbort::<_, ()>::Commit((db, (catalog, documents), audit)))
        })?;
        let (db, (catalog, documents), audit) = created.commit().ok_or(Error::OtherEnvironment)?;
        Ok(Self { db, catalog: Catalog { table: catalog }, documents, audit })
    }

    /// An error if the index of this number has other options.
    pub(crate) fn expect(
        &self,
        rtxn: &RoTxn<'_>,
        number: u16,
        options: &IndexOptions,
    ) -> Result<()> {
        let record = self.db.record_of(rtxn, options.spec(number)?)?;
        options.expect_storage(record.spec(number))
    }

    /// The tables, if all are there.
    fn open_existing(environment: &Environment) -> Result<Option<Self>> {
        let (rtxn, _counted) = environment.read()?;
        let opened = environment.env().open_databases_and_commit(rtxn, |opener, rtxn| {
            let db = Database::open_with(opener, rtxn, VECTORS)?;
            let table = |name| opener.open_database::<Bytes, Bytes>(rtxn, Some(name));
            Ok::<_, Error>(match (db, table(CATALOG)?, table(DOCUMENTS)?, table(AUDIT)?) {
                (Some(db), Some(catalog), Some(documents), Some(audit)) => {
                    CommitOrAbort::Commit((db, (catalog, documents), audit))
                }
                _ => CommitOrAbort::Abort(()),
            })
        })?;
        Ok(opened.commit().map(|(db, (catalog, documents), audit)| Self {
            db,
            catalog: Catalog { table: catalog },
            documents,
            audit,
        }))
    }
}
