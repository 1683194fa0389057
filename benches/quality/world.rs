//! An index under change, with its items in memory, and a fresh one of the same items beside it.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use spinney::heed::{CompactionOption, Env, EnvFlags, EnvOpenOptions, WithoutTls};
use spinney::{BuildMethod, BuildOptions, Database, IndexOptions, Metric, Writer};
use tempfile::TempDir;

use crate::Result;

/// Address space of each environment; only what is written takes room.
const MAP_BYTES: usize = 16 << 30;

/// An index in an environment of its own.
pub struct World {
    pub env: Env<WithoutTls>,
    pub db: Database,
    writer: Writer,
    pub metric: Metric,
    pub live: BTreeMap<u32, Vec<f32>>,
    pub builds: Builds,
    dir: TempDir,
}

/// What the builds did.
#[derive(Copy, Clone, Default)]
pub struct Builds {
    pub bulk: u64,
    pub incremental: u64,
    pub changes: u64,
    pub split: u64,
    pub merged: u64,
    pub rehomed: u64,
    pub time: Duration,
}

impl World {
    #[expect(unsafe_code, reason = "opening a memory map is the one promise that the caller makes")]
    pub fn new(dims: usize, metric: Metric) -> Result<Self> {
        let dir = TempDir::new()?;
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(MAP_BYTES).max_dbs(1).max_readers(256);
        // SAFETY: without syncing, a crash of the machine may lose the folder, which goes with the
        // process anyway.
        unsafe { options.flags(EnvFlags::NO_SYNC) };
        // SAFETY: the folder is this world's alone.
        let env = unsafe { options.open(dir.path())? };
        let db = Database::open_or_create(&env)?;
        let mut wtxn = env.write_txn()?;
        let writer = Writer::open_or_create(&mut wtxn, db, 0, &IndexOptions::new(dims, metric))?;
        wtxn.commit()?;
        Ok(Self { env, db, writer, metric, live: BTreeMap::new(), builds: Builds::default(), dir })
    }

    /// Deletes and adds items, builds, commits.
    pub fn change(&mut self, deleted: &[u32], added: Vec<(u32, Vec<f32>)>) -> Result<()> {
        let mut wtxn = self.env.write_txn()?;
        self.builds.changes += (deleted.len() + added.len()) as u64;
        for id in deleted {
            self.live.remove(id);
            self.writer.del_item(&mut wtxn, *id)?;
        }
        for (id, row) in added {
            self.writer.add_item(&mut wtxn, id, &row)?;
            self.live.insert(id, row);
        }
        let start = Instant::now();
        let stats = self.writer.build(&mut wtxn, &BuildOptions::default())?;
        wtxn.commit()?;
        self.builds.time += start.elapsed();
        self.builds.bulk += u64::from(stats.method == BuildMethod::Bulk);
        self.builds.incremental += u64::from(stats.method == BuildMethod::Incremental);
        self.builds.split += stats.leaves_split;
        self.builds.merged += stats.leaves_merged;
        self.builds.rehomed += stats.items_reassigned;
        Ok(())
    }

    /// A bulk build of the items that live here.
    pub fn fresh(&self) -> Result<Self> {
        let dims = self.live.values().next().map_or(1, Vec::len);
        let mut fresh = Self::new(dims, self.metric)?;
        fresh.change(&[], self.live.iter().map(|(id, row)| (*id, row.clone())).collect())?;
        Ok(fresh)
    }

    /// The size of the file, and that of a compacted copy of it.
    pub fn file_bytes(&self) -> Result<(u64, u64)> {
        let copy = self.dir.path().join("copy.mdb");
        drop(self.env.copy_to_path(&copy, CompactionOption::Enabled)?);
        let bytes =
            (fs::metadata(self.dir.path().join("data.mdb"))?.len(), fs::metadata(&copy)?.len());
        fs::remove_file(copy)?;
        Ok(bytes)
    }
}
