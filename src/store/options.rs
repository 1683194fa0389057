//! How a store is opened.

use std::path::Path;
use std::time::Duration;

use crate::error::Result;
use crate::store::handle::Store;

/// What a commit outlives. A killed process loses nothing that was committed, whichever is chosen.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// A commit that returned is on the disk: neither a crash of the system nor a power cut takes
    /// it back.
    #[default]
    Full,
    /// A crash of the system may take back the last commit, and damages nothing. A commit waits for
    /// the disk once instead of twice.
    LoseLastCommit,
    /// A crash of the system may damage the file beyond repair: for files that can be made again.
    /// A commit does not wait for the disk.
    None,
}

/// Options for opening a [`Store`]. The defaults suit a file that is kept.
///
/// ```
/// use spinney::{Durability, Store};
/// # let dir = tempfile::tempdir()?;
/// let scratch = Store::options().durability(Durability::None).open(dir.path())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct StoreOptions {
    pub(crate) create: bool,
    pub(crate) read_only: bool,
    pub(crate) sealed: bool,
    pub(crate) single_file: bool,
    pub(crate) allow_remote: bool,
    pub(crate) map_size: usize,
    pub(crate) map_limit: usize,
    pub(crate) readers: u32,
    pub(crate) tables: u32,
    pub(crate) search_threads: usize,
    pub(crate) durability: Durability,
    pub(crate) read_ahead: Option<bool>,
    pub(crate) patience: Duration,
}

/// Address space costs nothing where there is plenty and the file grows with its pages alone.
const ROOMY: bool = cfg!(all(unix, target_pointer_width = "64"));
/// 1 TiB, or 1 GiB where the map takes what it is given.
const MAP: usize = if ROOMY { 1 << 40 } else { 1 << 30 };
const MAP_LIMIT: usize = if ROOMY { MAP } else { 1 << 31 };
/// LMDB's own smallest map is smaller than a store with its tables.
const MIN_MAP: usize = 1 << 18;

impl Default for StoreOptions {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            create: true,
            read_only: false,
            sealed: false,
            single_file: false,
            allow_remote: false,
            map_size: MAP,
            map_limit: MAP_LIMIT,
            readers: 1024,
            tables: 256,
            search_threads: threads.saturating_mul(2).max(4),
            durability: Durability::Full,
            read_ahead: None,
            patience: Duration::from_secs(5),
        }
    }
}

impl StoreOptions {
    /// Whether a store that is not there is created. Default: yes.
    pub fn create(mut self, yes: bool) -> Self {
        self.create = yes;
        self
    }

    /// Opens the store for reading alone. Others may write it meanwhile.
    pub fn read_only(mut self, yes: bool) -> Self {
        self.read_only = yes;
        self
    }

    /// Opens for reading a file that nobody writes as long as it is open, without a lock file: from
    /// a disk that cannot be written, or beside files that are none of this store's.
    ///
    /// If somebody does write it, searches may return anything. A child of a process that has it
    /// open may open it for itself, under another name of the file.
    pub fn sealed(mut self, yes: bool) -> Self {
        self.sealed = yes;
        self
    }

    /// The path is that of the file itself, with the lock file beside it under its name and
    /// `-lock`. By default it is that of a folder, in which both lie.
    pub fn single_file(mut self, yes: bool) -> Self {
        self.single_file = yes;
        self
    }

    /// Opens also what lies on a network file system. LMDB's locks do not hold there between
    /// machines, and often not between processes: make sure that one process alone has it open.
    pub fn allow_remote(mut self, yes: bool) -> Self {
        self.allow_remote = yes;
        self
    }

    /// Bytes of address space to begin with. Default: 1 TiB on 64-bit Unix, 1 GiB elsewhere.
    ///
    /// The map takes no memory and no room on the disk. When it is full, it grows by itself up to
    /// [`map_limit`](Self::map_limit), while no transaction of this process is open.
    pub fn map_size(mut self, bytes: usize) -> Self {
        self.map_size = bytes;
        self.map_limit = self.map_limit.max(bytes);
        self
    }

    /// The largest map in bytes, and so the largest file. Default: 1 TiB on 64-bit Unix, 2 GiB
    /// elsewhere.
    pub fn map_limit(mut self, bytes: usize) -> Self {
        self.map_limit = bytes;
        self.map_size = self.map_size.min(bytes);
        self
    }

    /// How many read transactions may be open at once, in all processes. The first process that
    /// opens the store decides. Default: 1,024.
    pub fn readers(mut self, slots: u32) -> Self {
        self.readers = slots;
        self
    }

    /// How many named tables of LMDB may be used at once, of which the store takes four. Each
    /// makes a transaction a little larger. Default: 256.
    pub fn tables(mut self, count: u32) -> Self {
        self.tables = count;
        self
    }

    /// How many threads can search one [`StoreSnapshot`](crate::StoreSnapshot) at once; others
    /// wait. Each takes a reader slot. Default: twice the number of processors, at least 4.
    pub fn search_threads(mut self, count: usize) -> Self {
        self.search_threads = count;
        self
    }

    /// What a commit outlives. Default: everything.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Whether the system reads ahead of page faults. By default the store decides at open, by
    /// [`is_read_ahead_useful`](crate::is_read_ahead_useful).
    pub fn read_ahead(mut self, yes: bool) -> Self {
        self.read_ahead = Some(yes);
        self
    }

    /// How long a call waits for what others of this process hold: the write transaction, all
    /// transactions when the map has to move, a free thread of a snapshot. Default: 5 seconds for
    /// all but the write transaction, which is waited for without end.
    pub fn patience(mut self, time: Duration) -> Self {
        self.patience = time;
        self
    }

    /// Opens the store at this path.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Store> {
        Store::open_with(path.as_ref(), self)
    }

    pub(crate) fn is_writable(&self) -> bool {
        !self.read_only && !self.sealed
    }

    /// Of a file that nobody writes, to be read and closed.
    pub(crate) fn of_copy() -> Self {
        Self::default().single_file(true).sealed(true).allow_remote(true)
    }

    pub(crate) fn check(&self) -> Result<()> {
        use crate::error::Error;
        if self.map_limit < MIN_MAP {
            return Err(Error::option("map_limit", "at least 256 KiB", self.map_limit));
        }
        if self.map_size < MIN_MAP {
            return Err(Error::option("map_size", "at least 256 KiB", self.map_size));
        }
        if self.readers == 0 {
            return Err(Error::option("readers", "at least 1", self.readers));
        }
        if self.tables < 8 {
            return Err(Error::option("tables", "at least 8", self.tables));
        }
        if self.search_threads == 0 {
            return Err(Error::option("search_threads", "at least 1", self.search_threads));
        }
        Ok(())
    }
}
