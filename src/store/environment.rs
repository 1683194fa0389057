//! The LMDB environment of a store: opened once, grown when it is full, entered by counted
//! transactions.

#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use heed::{Env, EnvFlags, EnvOpenOptions, MdbError, RoTxn, RwTxn, WithoutTls};

use crate::error::{Error, Result};
use crate::memory::is_read_ahead_useful;
use crate::store::care::lock::is_invalidated;
use crate::store::files::Files;
use crate::store::idle::Kept;
use crate::store::live::{Counted, Live, after};
use crate::store::options::{Durability, StoreOptions};

/// An open environment with what LMDB leaves to its user.
pub(crate) struct Environment {
    env: Env<WithoutTls>,
    pub(crate) files: Files,
    pub(crate) options: StoreOptions,
    pub(crate) live: Arc<Live>,
    /// What the last snapshot left.
    pub(crate) kept: Kept,
    /// The thread that has the write transaction of this process.
    writer: Mutex<Option<ThreadId>>,
    written: Condvar,
    /// Whether the host has it, too, and may begin transactions that are not counted.
    is_shared: AtomicBool,
    /// The process that opened it.
    process: u32,
}

/// The right to begin a write transaction, until this is dropped.
pub(crate) struct Turn<'e>(&'e Environment);

/// A read transaction that ends no later than its count. It outlives the caller.
pub(crate) struct OwnedTxn {
    pub(crate) txn: RoTxn<'static, WithoutTls>,
    pub(crate) counted: Counted,
}

/// How long to wait for an environment of this path that is being closed.
const CLOSING: Duration = Duration::from_secs(5);
/// How long to wait for who puts the lock file in order.
const ORDER: Duration = Duration::from_secs(30);

impl Environment {
    pub(crate) fn open(files: Files, options: &StoreOptions) -> Result<Self> {
        let env = loop {
            let env = open_mapped(&files, options)?;
            // A compaction may have put another file in its place before LMDB had its lock.
            if files.is_at_path(&env.try_clone_inner_file()?)? {
                break env;
            }
        };
        Ok(Self {
            env,
            files,
            options: options.clone(),
            live: Arc::default(),
            kept: Kept::default(),
            writer: Mutex::default(),
            written: Condvar::new(),
            is_shared: AtomicBool::new(false),
            process: std::process::id(),
        })
    }

    /// For calls that begin no transaction, or none that outlives its count.
    pub(crate) fn env(&self) -> &Env<WithoutTls> {
        &self.env
    }

    /// For the host, who may begin transactions that are not counted: the map stays where it is
    /// from now on.
    pub(crate) fn share(&self) -> &Env<WithoutTls> {
        self.is_shared.store(true, Ordering::SeqCst);
        &self.env
    }

    /// Closes the environment. An error if the host has it, too, and does not let it go in time.
    pub(crate) fn close(self) -> Result<(Files, StoreOptions)> {
        let Self { env, files, options, kept, .. } = self;
        drop(kept);
        if env.prepare_for_closing().wait_timeout(options.patience) {
            return Ok((files, options));
        }
        Err(Error::InUse(files.path, "somebody in this process who keeps what `Store::env` gave"))
    }

    /// An error if it was opened for reading alone.
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.options.is_writable() { Ok(()) } else { Err(Error::ReadOnly) }
    }

    /// LMDB's number of the last commit.
    pub(crate) fn last_commit(&self) -> usize {
        // LMDB reads it in the map.
        self.live.still(|| self.env.info().last_txn_id)
    }

    /// An error in a child of the process that opened it: LMDB's locks are the parent's.
    pub(crate) fn check_process(&self) -> Result<()> {
        let here = std::process::id();
        if here == self.process { Ok(()) } else { Err(Error::Forked { parent: self.process }) }
    }

    /// Begins a read transaction.
    pub(crate) fn read(&self) -> Result<(RoTxn<'_, WithoutTls>, Counted)> {
        self.enter(|env| Ok(env.read_txn()?), |txn| Some(txn.id()))
    }

    /// As [`read`](Self::read), for a transaction that keeps the environment open.
    pub(crate) fn read_owned(&self) -> Result<OwnedTxn> {
        let (txn, counted) =
            self.enter(|env| Ok(env.clone().static_read_txn()?), |txn| Some(txn.id()))?;
        Ok(OwnedTxn { txn, counted })
    }

    /// As [`read_owned`](Self::read_owned), for who has a transaction already. `None` while the map
    /// moves, or has to.
    pub(crate) fn read_again(&self) -> Result<Option<OwnedTxn>> {
        let Some(counted) = self.live.enter_again() else { return Ok(None) };
        match self.env.clone().static_read_txn().map_err(Error::from) {
            Ok(txn) => {
                counted.reads(txn.id());
                Ok(Some(OwnedTxn { txn, counted }))
            }
            Err(Error::MapResized) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Begins a write transaction. The turn has to outlive it.
    pub(crate) fn write<'e>(&'e self, _turn: &Turn<'e>) -> Result<(RwTxn<'e>, Counted)> {
        self.check_writable()?;
        self.enter(|env| Ok(env.write_txn()?), |_| None)
    }

    fn enter<'e, T>(
        &'e self,
        begin: impl Fn(&'e Env<WithoutTls>) -> Result<T>,
        commit: impl Fn(&T) -> Option<usize>,
    ) -> Result<(T, Counted)> {
        self.check_process()?;
        let mut may_mend = true;
        loop {
            let counted = self.live.enter();
            match begin(&self.env) {
                Ok(txn) => {
                    if let Some(commit) = commit(&txn) {
                        counted.reads(commit);
                    }
                    return Ok((txn, counted));
                }
                Err(Error::MapResized) if may_mend => {
                    drop(counted);
                    // LMDB takes the size of the file's map for nothing.
                    self.resize(0)?;
                }
                Err(Error::ReadersFull) if may_mend => {
                    drop(counted);
                    self.env.clear_stale_readers()?;
                }
                Err(error) => return Err(error),
            }
            may_mend = false;
        }
    }

    /// Waits for the turn to write, up to `limit` if there is one.
    pub(crate) fn turn(&self, limit: Option<Duration>) -> Result<Turn<'_>> {
        self.check_process()?;
        let end = limit.map(after);
        let here = std::thread::current().id();
        let mut writer = self.writer();
        while let Some(holder) = *writer {
            if holder == here {
                return Err(Error::NestedWrite);
            }
            let Some(end) = end else {
                writer = self.written.wait(writer).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Busy { waited: limit.unwrap_or_default() });
            }
            let waited = self.written.wait_timeout(writer, left);
            writer = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *writer = Some(here);
        Ok(Turn(self))
    }

    fn writer(&self) -> MutexGuard<'_, Option<ThreadId>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this thread has the write transaction.
    pub(crate) fn is_writing(&self) -> bool {
        *self.writer() == Some(std::thread::current().id())
    }

    /// Enlarges the map, twice at least. An error if it is as large as it may be.
    ///
    /// No transaction of the calling thread may be open.
    pub(crate) fn grow(&self) -> Result<()> {
        let (size, limit) = (self.live.still(|| self.env.info().map_size), self.options.map_limit);
        if self.is_shared.load(Ordering::SeqCst) || size >= limit {
            return Err(Error::MapFull);
        }
        self.resize(size.saturating_mul(2).min(limit))
    }

    fn resize(&self, bytes: usize) -> Result<()> {
        if self.is_shared.load(Ordering::SeqCst) {
            return Err(Error::MapResized);
        }
        self.live.alone(
            self.options.patience,
            || self.kept.clear(),
            || {
                // SAFETY: `alone` keeps transactions out, and the host was given none of his own.
                Ok(unsafe { self.env.resize(whole_pages(bytes)) }?)
            },
        )
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.writer() = None;
        self.0.written.notify_one();
    }
}

/// LMDB's pages have the size of the system's, which is at most so much anywhere.
const LARGEST_PAGE: usize = 1 << 16;

fn whole_pages(bytes: usize) -> usize {
    bytes.next_multiple_of(LARGEST_PAGE).max(bytes)
}

/// Opens the environment with the largest map that the system grants.
fn open_mapped(files: &Files, options: &StoreOptions) -> Result<Env<WithoutTls>> {
    let smallest = usize::try_from(files.bytes()).unwrap_or(usize::MAX).max(1 << 20);
    let mut map_size = whole_pages(options.map_size);
    let end = Instant::now() + ORDER;
    loop {
        match open_once(files, options, map_size) {
            // A limit on address space: less may be had, and the map grows later.
            Err(heed::Error::Io(error))
                if error.kind() == std::io::ErrorKind::OutOfMemory && map_size / 2 >= smallest =>
            {
                map_size = whole_pages(map_size / 2);
            }
            // Whoever is alone for a moment puts the file in order.
            Err(heed::Error::Mdb(MdbError::Invalid))
                if is_invalidated(&files.lock) && Instant::now() < end =>
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(heed::Error::EnvAlreadyOpened) => {
                let path = files.path.canonicalize().unwrap_or_else(|_| files.path.clone());
                match heed::env_closing_event(&path) {
                    Some(closing) if !closing.wait_timeout(CLOSING) => {
                        return Err(Error::OpenElsewhere(path));
                    }
                    _ => {}
                }
            }
            Err(error) => return Err(error.into()),
            Ok(env) if options.sealed || !is_begun(&env)? => return Ok(env),
            // As above. Whoever opens it alone puts it in order.
            Ok(env) => {
                env.prepare_for_closing().wait();
                if Instant::now() >= end {
                    return Err(Error::Busy { waited: ORDER });
                }
                std::thread::sleep(Duration::from_millis(1 + u64::from(std::process::id() % 5)));
            }
        }
    }
}

/// Whether the lock file is one that a killed process had begun to put in order.
///
/// Until it is, it names no commit, and LMDB would take the file for an empty one.
fn is_begun(env: &Env<WithoutTls>) -> Result<bool> {
    // Processes that were killed keep their slots, and with them the pages of old commits.
    env.clear_stale_readers()?;
    let rtxn = env.read_txn()?;
    Ok(rtxn.id() == 0 && env.info().last_txn_id > 0)
}

fn open_once(
    files: &Files,
    options: &StoreOptions,
    map_size: usize,
) -> heed::Result<Env<WithoutTls>> {
    let mut flags = EnvFlags::empty();
    flags.set(EnvFlags::NO_SUB_DIR, options.single_file);
    flags.set(EnvFlags::READ_ONLY, options.read_only || options.sealed);
    flags.set(EnvFlags::NO_LOCK, options.sealed);
    flags.set(EnvFlags::NO_META_SYNC, options.durability == Durability::LoseLastCommit);
    flags.set(EnvFlags::NO_SYNC, options.durability == Durability::None);
    let read_ahead = options.read_ahead.unwrap_or_else(|| is_read_ahead_useful(files.bytes()));
    flags.set(EnvFlags::NO_READ_AHEAD, !read_ahead);
    let mut opening = EnvOpenOptions::new().read_txn_without_tls();
    opening.map_size(map_size).max_readers(options.readers).max_dbs(options.tables);
    // SAFETY: the flags do not make the map writable. They turn locks off for sealed files alone,
    // and who seals a file says that nobody writes it.
    unsafe { opening.flags(flags) };
    // SAFETY: the registry opens a file once in a process. Locks keep other processes off. Network
    // file systems, where they do not, are refused unless the caller answers for them.
    unsafe { opening.open(&files.path) }
}
