//! An embedded, transactional store for nearest-neighbour search.
//!
//! Vectors live in LMDB. A forest of cluster trees over them, stored in the same place, makes
//! searches fast: each answer reads a few long runs of short codes instead of many vectors, and
//! compares the best candidates exactly.
//!
//! A [`Store`] runs LMDB for you. It has collections of documents, and indexes of vectors under ids
//! of yours:
//!
//! ```
//! use spinney::{Document, IndexOptions, Metric, Store};
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path();
//! let store = Store::open(path)?;
//! let docs = store.collection("docs", &IndexOptions::new(3, Metric::Cosine))?;
//! store.write(|txn| {
//!     docs.put(txn, "sea", &Document::new([1.0, 0.0, 0.1]).labels(["lang:en"]).payload("..."))?;
//!     docs.put(txn, "mer", &Document::new([0.9, 0.1, 0.1]).labels(["lang:fr"]))
//! })?;
//! let hits = docs.search(&store, 1).labelled("lang:en").by_vector(&[0.9, 0.1, 0.0])?;
//! assert_eq!(hits[0].key, "sea");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Beneath it, and without it, are a [`Database`] in an environment of your own and transactions of
//! your own, beside your own data:
//!
//! ```
//! use spinney::{BuildOptions, Database, IndexOptions, Metric, Reader, Writer, heed};
//!
//! # let dir = tempfile::tempdir()?;
//! // SAFETY: nobody else changes the files of this folder while they are mapped.
//! let env = unsafe { heed::EnvOpenOptions::new().map_size(1 << 30).max_dbs(1).open(dir.path())? };
//! let db = Database::open_or_create(&env)?; // once, at start-up
//!
//! let mut wtxn = env.write_txn()?;
//! let writer = Writer::open_or_create(&mut wtxn, db, 0, &IndexOptions::new(3, Metric::Cosine))?;
//! writer.add_item(&mut wtxn, 7, &[1.0, 0.0, 0.1])?; // found after the commit, built or not
//! writer.add_item(&mut wtxn, 8, &[0.0, 1.0, 0.0])?;
//! writer.build(&mut wtxn, &BuildOptions::default())?; // makes searches fast
//! wtxn.commit()?;
//!
//! let rtxn = env.read_txn()?; // never blocks, never blocked
//! let reader = Reader::open(&rtxn, db, 0)?;
//! let hits = reader.nns(1).by_vector(&[0.9, 0.1, 0.0])?;
//! assert_eq!(hits[0].id, 7);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Development builds
//! Compiled without optimisation, building and searching an index take some hundred times as long.
//! For `cargo run` and `cargo test` without `--release`, add to the `Cargo.toml` of your program or
//! workspace:
//! ```toml
//! [profile.dev.package."*"]
//! opt-level = 3
//! ```
//! Your own code is compiled as before.
//!
//! # Features
//! `serde` (off by default): [`IndexOptions`], statistics, hits, verifications and progress are
//! `Serialize` and `Deserialize`; a [`Metric`] is its name. Payloads of documents can be JSON.
//!
//! # Where things are
//! [`Store`] opens LMDB and names what is in it; a [`Collection`] of it has documents under keys,
//! and an [`Index`] vectors under ids. Beneath them, [`Database`] is the handle on the LMDB
//! database; [`Writer`] changes an index in it, [`Reader`] reads one; [`Reader::nns`] starts a
//! search; [`Snapshot`] searches from many threads, and [`Readers`] several indexes as one.
//! [`Metric`] says what distances mean, [`IndexOptions`] and [`BuildOptions`] what can be chosen,
//! and [`Error`] what can go wrong.
#![cfg_attr(
    test,
    allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)
)]

mod calibrate;
mod convert;
mod debug;
mod error;
mod forest;
mod format;
mod ids;
mod index_spec;
mod indexer;
mod kernel;
mod key;
mod limits;
mod lmdb;
mod math;
mod memory;
mod merged;
mod metric;
mod options;
mod progress;
mod query;
mod reader;
mod repair;
mod search;
mod sketch;
mod snapshot;
mod storage;
mod store;
mod vector;
mod verify;
mod warm;
mod writer;

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use error::{Error, Result};
pub use heed;
pub use lmdb::database::Database;
pub use lmdb::hosted::UncommittedDatabase;
pub use memory::is_read_ahead_useful;
pub use merged::{Merged, MergedHit, Readers};
pub use metric::{Metric, ParseMetricError};
pub use options::{BuildMethod, BuildOptions, BuildStats, IndexOptions};
pub use progress::{BuildPhase, Progress, ProgressCallback};
pub use query::{Example, Hits, Neighbours, Nns, Pages, Single};
pub use rayon;
pub use reader::{IndexStats, Reader};
pub use repair::Repair;
pub use roaring;
pub use search::{Hit, SearchPlan, SearchStats};
pub use snapshot::Snapshot;
pub use snapshot::batch::Many;
pub use storage::Storage;
pub use store::{
    AuditAction, AuditChange, AuditEntry, AuditKey, AuditLog, Backup, BackupOptions, Collection,
    CollectionRepair, Compacted, Disagreement, Document, DocumentExample, DocumentHit, DocumentKey,
    DocumentNeighbours, DocumentPages, Documents, Durability, Index, Labels, OldestReader, ReadTxn,
    Reads, Store, StoreOptions, StoreSnapshot, StoreStats, StoreVerification, StoredDocument,
    VerifiedIndex, WriteTxn,
};
pub use verify::{Verification, Violation};
pub use warm::Warmed;
pub use writer::Writer;
