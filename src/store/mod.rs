//! A store that runs LMDB for its user.
//!
//! [`Store`] opens the environment, sizes the map, ends what is stale, and names indexes. What it
//! gives out is the same as beneath: a [`Reader`](crate::Reader) and a
//! [`Writer`](crate::Writer) in LMDB transactions.

pub(crate) mod audit;
pub(crate) mod care;
pub(crate) mod catalog;
pub(crate) mod collection;
pub(crate) mod environment;
pub(crate) mod files;
pub(crate) mod handle;
pub(crate) mod idle;
pub(crate) mod index;
pub(crate) mod live;
pub(crate) mod options;
pub(crate) mod owned;
pub(crate) mod reads;
pub(crate) mod registry;
pub(crate) mod snapshot;
pub(crate) mod stats;
pub(crate) mod tables;
pub(crate) mod txn;

pub use audit::entry::{AuditAction, AuditChange, AuditEntry, AuditKey};
pub use audit::log::AuditLog;
pub use care::backup::{Backup, BackupOptions};
pub use care::check::{StoreVerification, VerifiedIndex};
pub use care::compact::Compacted;
pub use collection::{
    Collection, CollectionRepair, Disagreement, Document, DocumentExample, DocumentHit,
    DocumentKey, DocumentNeighbours, DocumentPages, Documents, Labels, StoredDocument,
};
pub use handle::Store;
pub use index::Index;
pub use options::{Durability, StoreOptions};
pub use reads::Reads;
pub use snapshot::StoreSnapshot;
pub use stats::{OldestReader, StoreStats};
pub use txn::{ReadTxn, WriteTxn};
