//! The one error of this crate. Every variant says what was expected, what was got, and what to do
//! next.

mod convert;
mod result;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use self::result::BoxedError;
pub use self::result::Result;
use crate::limits::DIMS;
use crate::metric::Metric;
use crate::storage::Storage;

/// Why an operation failed, and what to do about it.
///
/// An operation that fails with anything but [`Error::Heed`], [`Error::MapFull`] or
/// [`Error::DiskFull`] has changed nothing: the transaction may go on and be committed. After those
/// three LMDB itself refuses the transaction, so that nothing half-done can be committed: drop it
/// and start again. [`Writer::repair`](crate::Writer::repair) alone has two steps, and the second
/// can be cancelled after the first. See [`Error::TemporaryFile`] for the one other exception.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// LMDB or the operating system refused an operation, for a reason that no other variant names.
    #[error("LMDB refused the operation: {0}")]
    Heed(#[source] heed::Error),

    /// The environment's memory map is full. Nothing is lost: the last commit stands.
    ///
    /// The transaction in which this happened cannot be committed any more: LMDB refuses it.
    #[error(
        "the LMDB map is full, and this transaction cannot be committed any more: drop it, enlarge the map \
         (`EnvOpenOptions::map_size` at the next open, or `Env::resize` while no transaction is alive) and run the transaction again"
    )]
    MapFull,

    /// The environment has no room for another named database.
    #[error("no room for another named database: open with a larger `EnvOpenOptions::max_dbs`")]
    DbsFull,

    /// As many read transactions are open, in all processes, as the environment was opened for.
    #[error(
        "all slots for read transactions are taken: end some, open the environment with more `EnvOpenOptions::max_readers`, or \
         call `Env::clear_stale_readers` if a process with open ones was killed"
    )]
    ReadersFull,

    /// Another process has enlarged the environment beyond the memory map of this one.
    #[error(
        "another process has enlarged the environment beyond the map of this one: call `Env::resize(0)` while no transaction is \
         alive, or open it with a larger `EnvOpenOptions::map_size`, and begin the transaction again"
    )]
    MapResized,

    /// The disk did not take what was to be written. Nothing is lost: the last commit stands.
    ///
    /// The disk is full, a quota or the greatest size of a file is reached, or the disk fails: LMDB
    /// says `EIO` both when a part of a write was taken and when the disk refused. It refuses to
    /// commit a transaction in which this happened.
    #[error(
        "the disk did not take what was to be written ({0}): drop this transaction, make room or raise the quota, and run it \
         again; if there is room, look after the disk"
    )]
    DiskFull(#[source] heed::Error),

    /// The file of the environment ends before its last commit does, as after a copy that was
    /// broken off.
    #[error(
        "the file of the environment was cut: it has {have} bytes, and its last commit takes {need}. Write nothing to it, and go \
         back to a whole copy; if it was never used, remove it"
    )]
    Truncated {
        /// The length of the file in bytes.
        have: u64,
        /// The length it should have at least, in bytes.
        need: u64,
    },

    /// The LMDB table of this name is not one of this crate's.
    #[error(
        "the table {name:?} belongs to somebody else: {what}. Choose another name with `Database::open_or_create_named`"
    )]
    ForeignTable {
        /// The name of the table.
        name: String,
        /// How it is known.
        what: &'static str,
    },

    /// A database was used with a transaction that does not show it.
    #[error(
        "this transaction does not show the database: it is of another environment than the database, or of one that was closed \
         and opened again, or it began before the database was opened, or somebody emptied the table. Open the database in the \
         environment of the transaction, then begin the transaction"
    )]
    OtherEnvironment,

    /// An index stores its vectors in another way than was asked for.
    #[error(
        "index {index} stores its vectors as {expected}, asked for {got}: leave the storage out to open it as it is, or \
         change it with `Writer::convert`"
    )]
    StorageMismatch {
        /// The number of the index.
        index: u16,
        /// How it stores its vectors.
        expected: Storage,
        /// What was asked for.
        got: Storage,
    },

    /// A vector has another length than the index.
    #[error(
        "the index holds vectors of {expected} dimensions, got one of {got}: pass a slice of {expected} numbers"
    )]
    Dimensions {
        /// The dimensions of the index.
        expected: usize,
        /// The length of the slice that was passed.
        got: usize,
    },

    /// An index cannot have this number of dimensions.
    #[error("the dimensions of an index are {}, got {got}: choose a number in that range", DIMS.words)]
    DimensionsOutOfRange {
        /// What was asked for.
        got: usize,
        /// The largest number of dimensions an index can have.
        max: usize,
    },

    /// A matrix of vectors does not fit the list of its ids.
    #[error(
        "{ids} ids of {dims} dimensions need a matrix of {expected} numbers (row after row), got {got}: pass one row for each id"
    )]
    VectorsShape {
        /// How many ids were passed.
        ids: usize,
        /// The dimensions of the index.
        dims: usize,
        /// `ids * dims`.
        expected: usize,
        /// The length of the slice that was passed.
        got: usize,
    },

    /// A vector among many does not suit the index. Nothing was changed.
    #[error("row {row}, the vector for item {id}: {source}")]
    Row {
        /// The row of the matrix that was passed, from 0; in a conversion, of all items by id.
        row: usize,
        /// Its id.
        id: u32,
        /// What is wrong with the vector; positions are those in the row.
        source: Box<Self>,
    },

    /// A matrix of queries does not consist of whole rows.
    #[error(
        "queries in an index of {dims} dimensions are rows of {dims} numbers, one after the other, and {got} numbers are no \
         whole number of rows: pass a multiple of {dims}"
    )]
    QueriesShape {
        /// The dimensions of the index.
        dims: usize,
        /// The length of the slice that was passed.
        got: usize,
    },

    /// Buffers for the hits of many queries have another length than the hits need.
    #[error(
        "{queries} queries for {k} hits each need buffers of {expected} places, got {got}: pass `k` places for each query"
    )]
    BufferShape {
        /// The rows of the matrix.
        queries: usize,
        /// Hits for each.
        k: usize,
        /// `queries * k`.
        expected: usize,
        /// The length of one of the buffers that were passed.
        got: usize,
    },

    /// A component is NaN or infinite.
    #[error(
        "component {position} of the vector is {value}, and only finite numbers can be compared: replace it or leave the vector out"
    )]
    NonFinite {
        /// Where in the slice that was passed.
        position: usize,
        /// What stands there.
        value: f32,
    },

    /// A vector of zeros has no direction.
    #[error(
        "every component of the vector is zero, and the cosine distance needs a direction: leave the vector out, or choose another metric"
    )]
    ZeroVector,

    /// The vector is so long that its distances would overflow.
    #[error(
        "the length of the vector is {got:e}, and distances are computed for lengths up to {max:e}: scale the vectors down"
    )]
    NormOverflow {
        /// The vector's Euclidean length.
        got: f64,
        /// The greatest length that is accepted.
        max: f64,
    },

    /// A component of a bit vector is neither 0 nor 1.
    #[error(
        "component {position} of the vector is {value}, and the Hamming metric compares bits: pass exactly 0.0 or 1.0"
    )]
    NotABit {
        /// Where in the slice that was passed.
        position: usize,
        /// What stands there.
        value: f32,
    },

    /// There is no index of this number in this transaction's snapshot.
    #[error(
        "there is no index {index} here: create it with `Writer::open_or_create` and commit, or check the number"
    )]
    IndexNotFound {
        /// The number that was asked for.
        index: u16,
    },

    /// There is no item of this id in this transaction's snapshot.
    #[error("there is no item {id}: check the id with `contains_item`, or search by its vector")]
    ItemNotFound {
        /// The id that was given as an example.
        id: u32,
    },

    /// This form of a query has no meaning under the metric of the index.
    #[error(
        "{form} has no meaning under the {metric} metric: search by each of the vectors, or any"
    )]
    NotForMetric {
        /// What was asked for.
        form: &'static str,
        /// The metric recorded in the index.
        metric: Metric,
    },

    /// The index was created with another metric.
    #[error(
        "index {index} was created with the metric {expected}, got {got}: open it with {expected}, or use another index number"
    )]
    MetricMismatch {
        /// The number of the index.
        index: u16,
        /// The metric recorded in the index.
        expected: Metric,
        /// The metric that was asked for.
        got: Metric,
    },

    /// The index was created with other dimensions.
    #[error(
        "index {index} was created with {expected} dimensions, got {got}: open it with {expected}, or use another index number"
    )]
    DimensionsMismatch {
        /// The number of the index.
        index: u16,
        /// The dimensions recorded in the index.
        expected: usize,
        /// The dimensions that were asked for.
        got: usize,
    },

    /// An index, or what a store keeps beside it, was written by a newer version of this crate.
    #[error(
        "format version {found} was found, and this program reads up to {supported}: update the program"
    )]
    FormatTooNew {
        /// The version that was found.
        found: u16,
        /// The newest version this program reads.
        supported: u16,
    },

    /// Stored bytes are not what this crate writes.
    #[error(
        "the value under {} is damaged ({what}): `Reader::verify` finds what else is, and `Writer::repair` rebuilds the index from \
         the vectors that can still be read; or go back to a backup",
        convert::describe(key)
    )]
    Corrupted {
        /// The 8 bytes of the key whose value is damaged.
        key: [u8; 8],
        /// What is wrong with it.
        what: &'static str,
    },

    /// A bulk build could not make, write or read a temporary file.
    ///
    /// If the file could not be read back while the forest was written, the index is left without a
    /// forest: searches compare all items until the next build.
    #[error(
        "the temporary file {path:?} of the build failed ({source}): make room there, name another folder with \
         `BuildOptions::temp_dir`, or give more memory with `BuildOptions::memory`, and build again"
    )]
    TemporaryFile {
        /// Where the file was made. Its name is gone.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },

    /// The progress callback asked to stop. The build has written nothing; one in several commits,
    /// nothing that searches see.
    #[error(
        "the build was cancelled by its callback, and searches see nothing of it: call it again whenever it suits"
    )]
    Cancelled,

    /// Another build of the index, a repair, a conversion or [`Writer::clear`](crate::Writer::clear)
    /// has taken the place of this build in several commits, or the index was deleted. Nothing is
    /// lost: the other has its way.
    #[error(
        "another build, a repair, a conversion or a deletion has taken the place of this build in several commits, which ends here: if the \
         index still has many pending changes, call `build_in_commits` again, and let no other build of this index run meanwhile"
    )]
    BuildSuperseded,

    /// A function that the caller gave to a search has failed, and the search ended there: its own
    /// error, as it was.
    ///
    /// ```
    /// # let error = spinney::Error::Callback(std::io::Error::other("away").into());
    /// let spinney::Error::Callback(error) = error else { panic!("{error}") };
    /// assert_eq!(error.downcast::<std::io::Error>()?.to_string(), "away");
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// ```
    #[error(
        "a function that was given to the search has failed, and ended it: {0}; correct that and search again"
    )]
    Callback(#[source] Box<dyn std::error::Error + Send + Sync>),

    /// An option has a value outside its range.
    #[error("the option {name} takes {expected}, got {got}: choose a value in that range")]
    InvalidOption {
        /// The name of the option.
        name: &'static str,
        /// The values it takes.
        expected: &'static str,
        /// The value that was given.
        got: String,
    },

    /// Two things were asked for that cannot both be meant.
    #[error("{option} does not go together with {with}: {instead}")]
    Incompatible {
        /// The one.
        option: &'static str,
        /// The other.
        with: &'static str,
        /// Why, and what to do.
        instead: &'static str,
    },

    /// The system refused a file or a folder of a store.
    #[error("{path:?} cannot be used ({source}): look after the path and its rights, and retry")]
    File {
        /// Where it is.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },

    /// There is no store at this path, and none was to be created.
    #[error("there is no file {0:?}: check the path, or open the store for writing with `create`")]
    StoreNotFound(PathBuf),

    /// The path lies on a network file system, where LMDB's locks do not hold. Its kind follows.
    #[error(
        "{0:?} lies on {1}, where the locks of LMDB do not hold: move it to a disk of this machine, or answer for it with \
         `StoreOptions::allow_remote`"
    )]
    RemoteFileSystem(PathBuf, String),

    /// The store is open in this process with another value of this option.
    #[error(
        "the store is open in this process with another value of {0}: open it with the same, or close the other handles first"
    )]
    OpenOtherwise(&'static str),

    /// The environment is open in this process, and not by a [`Store`](crate::Store).
    #[error(
        "the environment {0:?} is open in this process, and not by a store: close it, or use it through the store alone"
    )]
    OpenElsewhere(PathBuf),

    /// The store was opened by the parent of this process, and LMDB's locks are the parent's.
    #[error(
        "the store was opened by process {parent}, and this is a child of it: open stores after the fork, or start the process by \
         `exec`"
    )]
    Forked {
        /// The process that opened it.
        parent: u32,
    },

    /// This thread has the write transaction already, and would wait for itself.
    #[error("this thread is within `Store::write` already: use the transaction that it was given")]
    NestedWrite,

    /// What takes a transaction of its own was called within the write transaction of its thread.
    #[error("{0} takes a transaction of its own: do it before `Store::write`, and use it within")]
    NotWithinWrite(&'static str),

    /// Others did not give free in time what they hold.
    #[error("others held what is needed for all of {waited:?}: try again, or wait longer")]
    Busy {
        /// How long was waited.
        waited: Duration,
    },

    /// The map has to move, and transactions of this process stay open in it.
    #[error(
        "the map has to grow, and {transactions} transactions of this process are open in it: drop snapshots, and end read \
         transactions before writing, or open the store with a larger `StoreOptions::map_size`"
    )]
    MapInUse {
        /// How many.
        transactions: usize,
    },

    /// The store was opened for reading alone.
    #[error("the store was opened for reading alone: open it without `read_only` and `sealed`")]
    ReadOnly,

    /// The name stands for something else in the store.
    #[error("the name {0:?} is taken in this store: choose another, or rename what has it")]
    NameTaken(String),

    /// Nothing in the store has this name.
    #[error("nothing here has the name {0:?}: see `Store::indexes` and `Store::collections`")]
    NameNotFound(String),

    /// All 65,536 numbers of indexes are taken.
    #[error("all 65,536 numbers of indexes are taken: delete some, or use another store")]
    NumbersFull,

    /// What a store keeps beside its indexes is not what this crate writes.
    #[error(
        "{what} of the store is damaged under the key {key:?}: `Store::repair_collection` keeps the documents that can still be \
         read; or go back to a backup"
    )]
    StoreCorrupted {
        /// The table.
        what: &'static str,
        /// The key, as text where it is some.
        key: String,
    },

    /// Others have the store open: who, follows.
    #[error("{0:?} is in use by {1}: close it there, and try again")]
    InUse(PathBuf, &'static str),

    /// Something is where a new file was to be made.
    #[error("{0:?} is there already: name a path that is free, or see `BackupOptions::overwrite`")]
    AlreadyThere(PathBuf),

    /// A copy of a store was refused, for what follows.
    #[error("the copy {0:?} is damaged ({1}): take another, or open it and call `Store::repair`")]
    DamagedCopy(PathBuf, String),

    /// This key has a document outside the scope of a view, which must not overwrite it.
    #[error("the key {0} has a document outside this scope: choose another key")]
    OutOfScope(String),

    /// No document, at least none in the scope, has this key.
    #[error("there is no document {0} here: check the key, or search by a vector")]
    DocumentNotFound(String),

    /// The document of this key, one of many, cannot be put. Nothing was changed.
    #[error("document {0}: {1}")]
    Document(String, #[source] Box<Self>),

    /// A value has no form in JSON, or a payload is not JSON of the type asked for.
    #[error("the value and JSON do not fit ({0}): ask for the payload and for the type it has")]
    Json(#[source] BoxedError),
}
