//! Environments.

use std::path::Path;

use spinney::heed::{self, EnvFlags, EnvOpenOptions, WithoutTls};
use spinney::{Database, Metric, Writer};
use tempfile::TempDir;

use super::raw::{Content, Raw, create};

pub type Env = heed::Env<WithoutTls>;

/// An environment, the database in it, and the same database as raw bytes.
pub struct Store {
    pub env: Env,
    pub db: Database,
    pub raw: Raw,
    /// Unless the folder belongs to the test.
    dir: Option<TempDir>,
}

impl Store {
    pub fn new() -> Self {
        Self::with_map_size(1 << 30)
    }

    /// In a folder of its own.
    pub fn with_map_size(bytes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Self::at(dir.path(), bytes);
        Self { dir: Some(dir), ..store }
    }

    /// In a folder of the test.
    pub fn at(path: &Path, map_size: usize) -> Self {
        let env = open_env(path, map_size);
        let db = Database::open_or_create(&env).unwrap();
        let raw = Raw::open(&env);
        Self { env, db, raw, dir: None }
    }

    /// Makes index 0 and commits it.
    pub fn create_index(&self, dims: usize, metric: Metric) -> Writer {
        let mut wtxn = self.env.write_txn().unwrap();
        let writer = create(self, &mut wtxn, dims, metric);
        wtxn.commit().unwrap();
        writer
    }

    /// What is committed.
    pub fn content(&self) -> Content {
        self.raw.content(&self.env.read_txn().unwrap())
    }

    /// Gives the map another size. No transaction may be alive.
    #[allow(unsafe_code)]
    pub fn resize(&self, map_size: usize) {
        // SAFETY: the caller has no transaction, and the environment is in the hands of one thread.
        unsafe { self.env.resize(map_size).unwrap() };
    }

    /// Closes the environment, so that it can be opened again.
    pub fn close(self) {
        self.env.prepare_for_closing().wait();
    }

    /// Closes the environment and opens it again.
    pub fn reopen(self, map_size: usize) -> Self {
        let path = self.env.path().to_path_buf();
        let Self { env, dir, .. } = self;
        env.prepare_for_closing().wait();
        Self { dir, ..Self::at(&path, map_size) }
    }
}

pub fn open_env(path: &Path, map_size: usize) -> Env {
    open_env_with(path, map_size, 2, EnvFlags::empty())
}

/// An environment with room for so many tables.
#[allow(unsafe_code)]
pub fn open_env_with(path: &Path, map_size: usize, tables: u32, flags: EnvFlags) -> Env {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(map_size).max_dbs(tables);
    // SAFETY: no test relies on what these flags give up: a commit that outlives the machine.
    unsafe { options.flags(flags) };
    // SAFETY: the folder belongs to one test, which changes its files through LMDB alone while they
    // are open.
    unsafe { options.open(path).unwrap() }
}
