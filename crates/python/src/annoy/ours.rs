//! Indexes in files of ours: a single-file store with one index, and what Annoy knows beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use spinney::heed::types::{Bytes, Str};
use spinney::roaring::RoaringBitmap;
use spinney::{
    BackupOptions, Durability, Error, Index, IndexOptions, Reader, Store, StoreOptions,
    StoreSnapshot, WriteTxn, heed,
};

use crate::annoy::folder::{Folder, parent, unused};
use crate::annoy::metric::{Metric, RIGHT_ANGLE, is_zero};

/// The index, and the table beside it.
const NAME: &str = "annoy";
/// The key of [`Facts`] in the table.
const FACTS: &str = "facts";
const VERSION: u8 = 1;

/// How long to wait for threads that read.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(1);

type Table = heed::Database<'static, Str, Bytes>;

/// What an index of vectors does not know.
#[derive(Clone, Default)]
pub(crate) struct Facts {
    /// One more than the highest id that there ever was.
    pub(crate) items: u64,
    /// As many as were asked for. There is one forest.
    pub(crate) trees: u32,
    /// Items without a direction, which the index cannot have under angular.
    pub(crate) zeros: RoaringBitmap,
}

/// A file that is open, as of one commit.
pub(crate) struct Ours {
    snapshot: StoreSnapshot,
    store: Store,
    index: Index,
    table: Table,
    pub(crate) metric: Metric,
    pub(crate) facts: Facts,
    /// Whether nobody writes the file, so that children of this process can open it, too.
    pub(crate) is_sealed: bool,
    path: PathBuf,
    identity: Option<(u64, u64)>,
    process: u32,
    /// Where it lies, if it is a temporary one.
    folder: Option<Arc<Folder>>,
}

/// How thorough a search is.
#[derive(Copy, Clone)]
pub(crate) enum Effort {
    Recall(f32),
    SearchK(usize),
    All,
}

/// What a search is for.
#[derive(Copy, Clone)]
pub(crate) enum Query<'a> {
    Vector(&'a [f32]),
    Item(u32),
}

impl Facts {
    fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![VERSION];
        bytes.extend(self.items.to_le_bytes());
        bytes.extend(self.trees.to_le_bytes());
        self.zeros.serialize_into(&mut bytes).map_err(heed::Error::Io)?;
        Ok(bytes)
    }

    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (&version, rest) = bytes.split_first()?;
        let (items, rest) = rest.split_first_chunk()?;
        let (trees, zeros) = rest.split_first_chunk()?;
        Some(Self {
            items: u64::from_le_bytes(*items),
            trees: u32::from_le_bytes(*trees),
            zeros: RoaringBitmap::deserialize_from(zeros).ok().filter(|_| version == VERSION)?,
        })
    }
}

/// For files that this process alone knows of.
fn scratch() -> StoreOptions {
    Store::options().single_file(true).allow_remote(true).durability(Durability::None)
}

/// An error about a file that is none of ours.
fn foreign(path: &Path, message: String) -> Error {
    let source = std::io::Error::new(std::io::ErrorKind::InvalidData, message);
    Error::File { path: path.to_owned(), source }
}

impl Ours {
    /// A new index in a folder, to be filled.
    pub(crate) fn create(folder: Arc<Folder>, metric: Metric, dims: usize) -> Result<Self, Error> {
        let path = folder.join("index");
        let store = scratch().open(&path)?;
        let index = store.index(NAME, &IndexOptions::new(dims, metric.native()))?;
        store.set_build_after(NAME, None)?;
        let table = store.table(NAME)?;
        Self::of(store, index, table, metric, Facts::default(), path, Some(folder), false)
    }

    /// A file that nobody writes as long as it is open. A temporary one lies in a folder of ours.
    ///
    /// LMDB's files go by their paths: this one is opened under a name of its own, so that another
    /// may take its place.
    pub(crate) fn open(
        path: &Path,
        metric: Metric,
        dims: usize,
        folder: Option<Arc<Folder>>,
    ) -> Result<Self, Error> {
        // Nothing is locked, which is what goes wrong between machines.
        let options = Store::options().single_file(true).sealed(true).allow_remote(true);
        let path = std::path::absolute(path).map_err(|error| file_error(path, error))?;
        let file = path.canonicalize().map_err(|source| file_error(&path, source))?;
        let link = unused(parent(&file), "link", |link| fs::hard_link(&file, link));
        // Some systems and folders have no links: its own name will do.
        let opened = options.open(link.as_ref().unwrap_or(&file));
        if let Ok(link) = &link {
            // What cannot be deleted is left.
            let _ = fs::remove_file(link);
        }
        let store = opened?;
        let none = || foreign(&path, "it holds no index of an AnnoyIndex".to_owned());
        let index = store.open_index(NAME)?.ok_or_else(none)?;
        if (index.metric(), index.dims()) != (metric.native(), dims) {
            let message = format!(
                "it holds vectors of {} numbers under {}, not of {dims} under {}",
                index.dims(),
                index.metric(),
                metric.native()
            );
            let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, message);
            return Err(file_error(&path, source));
        }
        let table: Table = store.table(NAME)?;
        let facts = store.read(|txn| {
            let bytes = table.get(txn.as_heed(), FACTS)?;
            Ok::<_, Error>(bytes.and_then(Facts::of_bytes))
        })?;
        Self::of(store, index, table, metric, facts.ok_or_else(none)?, path, folder, true)
    }

    fn of(
        store: Store,
        index: Index,
        table: Table,
        metric: Metric,
        facts: Facts,
        path: PathBuf,
        folder: Option<Arc<Folder>>,
        is_sealed: bool,
    ) -> Result<Self, Error> {
        let (snapshot, process) = (store.snapshot()?, std::process::id());
        let identity = identity(&path);
        let own = Self {
            snapshot,
            store,
            index,
            table,
            metric,
            facts,
            is_sealed,
            path,
            identity,
            process,
            folder,
        };
        Ok(own)
    }

    pub(crate) fn dims(&self) -> usize {
        self.index.dims()
    }

    pub(crate) fn is_of_this_process(&self) -> bool {
        self.process == std::process::id()
    }

    /// The same file, opened by a child of the process that has it open.
    pub(crate) fn reopen(&self) -> Result<Self, Error> {
        if !self.is_sealed || self.identity.is_none() || identity(&self.path) != self.identity {
            return Err(Error::Forked { parent: self.process });
        }
        Self::open(&self.path, self.metric, self.dims(), self.folder.clone())
    }

    /// A copy without free pages, written beside its place, synced and renamed.
    pub(crate) fn copy_to(&self, path: &Path) -> Result<(), Error> {
        let options = BackupOptions::default().compact(true).overwrite(true);
        self.store.backup_with(path, &options).map(drop)
    }

    /// A temporary copy that can be changed.
    pub(crate) fn to_edit(&self) -> Result<Self, Error> {
        let folder = Arc::new(Folder::temporary().map_err(heed::Error::Io)?);
        let path = folder.join("index");
        self.copy_to(&path)?;
        let store = scratch().open(&path)?;
        let table = store.table(NAME)?;
        let (index, facts) = (self.index_in(&store)?, self.facts.clone());
        Self::of(store, index, table, self.metric, facts, path, Some(folder), false)
    }

    fn index_in(&self, store: &Store) -> Result<Index, Error> {
        store.index(NAME, &IndexOptions::new(self.dims(), self.metric.native()))
    }

    /// Gives the file this place and syncs it. Nobody may write it any more.
    pub(crate) fn move_to(&self, place: &Path) -> Result<(), Error> {
        fs::File::open(&self.path)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&self.path, place))
            .and_then(|()| fs::File::open(parent(place))?.sync_all())
            .map_err(|source| file_error(place, source))
    }

    /// The same file, which nobody writes any more, at the place it was moved to.
    pub(crate) fn seal(self, place: Option<&Path>) -> Result<Self, Error> {
        let (metric, dims) = (self.metric, self.dims());
        let (path, folder) = match place {
            Some(place) => (place.to_owned(), None),
            None => (self.path.clone(), self.folder.clone()),
        };
        drop(self);
        let end = Instant::now() + PATIENCE;
        loop {
            match Self::open(&path, metric, dims, folder.clone()) {
                // A thread that reads has it open to be written, for a moment.
                Err(Error::OpenOtherwise(_)) if Instant::now() < end => thread::sleep(PAUSE),
                opened => return opened,
            }
        }
    }

    /// Changes items and facts in one commit, which the result shows.
    pub(crate) fn change<R>(
        &self,
        mut work: impl FnMut(&mut WriteTxn<'_>, &Index, &mut Facts) -> Result<R, Error>,
    ) -> Result<(Self, R), Error> {
        let (facts, result) = self.store.write(|txn| {
            let mut facts = self.facts.clone();
            let result = work(txn, &self.index, &mut facts)?;
            self.table.put(txn.as_heed_mut(), FACTS, &facts.to_bytes()?)?;
            Ok::<_, Error>((facts, result))
        })?;
        let (store, index) = (self.store.clone(), self.index.clone());
        let (path, folder) = (self.path.clone(), self.folder.clone());
        let changed = Self::of(store, index, self.table, self.metric, facts, path, folder, false)?;
        Ok((changed, result))
    }

    fn read<R>(&self, work: impl FnOnce(&Reader<'_>) -> Result<R, Error>) -> Result<R, Error> {
        self.snapshot.with_reader(&self.index, work)
    }

    /// The vector of an item; `None` if there is none.
    pub(crate) fn vector(&self, id: u32) -> Result<Option<Vec<f32>>, Error> {
        if self.facts.zeros.contains(id) {
            return Ok(Some(vec![0.0; self.dims()]));
        }
        self.read(|reader| reader.item_vector(id))
    }

    /// Bytes of the file as it was opened.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.store.stats().map_or(0, |stats| stats.file_bytes)
    }

    /// The ids of all items.
    pub(crate) fn ids(&self) -> Result<RoaringBitmap, Error> {
        Ok(self.read(|reader| reader.id_set())? | &self.facts.zeros)
    }

    /// The nearest items and their distances, the nearest first.
    pub(crate) fn nearest(
        &self,
        query: Query<'_>,
        n: usize,
        effort: Effort,
    ) -> Result<Vec<(u32, f64)>, Error> {
        self.read(|reader| self.nearest_in(reader, query, n, effort))
    }

    /// The nearest items to each of many vectors, found by the threads of the current pool.
    pub(crate) fn nearest_each(
        &self,
        rows: &[&[f32]],
        n: usize,
        effort: Effort,
        stop: &AtomicBool,
    ) -> Result<Vec<Vec<(u32, f64)>>, Error> {
        self.snapshot.each(&self.index, rows.len(), |reader, row| {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let vector = rows.get(row).copied().unwrap_or_default();
            self.nearest_in(reader, Query::Vector(vector), n, effort)
        })
    }

    fn nearest_in(
        &self,
        reader: &Reader<'_>,
        query: Query<'_>,
        n: usize,
        effort: Effort,
    ) -> Result<Vec<(u32, f64)>, Error> {
        if self.facts.trees == 0 || n == 0 {
            return Ok(Vec::new());
        }
        let (stored, own) = match query {
            Query::Vector(_) => (None, None),
            Query::Item(id) => {
                let found = reader.item_vector(id)?;
                // A hole reads as zeros.
                let own = found.is_some().then_some(id);
                (Some(found.unwrap_or_else(|| vec![0.0; self.dims()])), own)
            }
        };
        let vector = match (&stored, query) {
            (Some(stored), _) => stored,
            (None, Query::Vector(vector)) => vector,
            (None, Query::Item(_)) => &[][..],
        };
        if self.metric == Metric::Angular && is_zero(vector) {
            return self.lowest(reader, n);
        }
        let mut hits = Vec::new();
        let k = usize::try_from(reader.len()).unwrap_or(usize::MAX).min(n);
        if k > 0 {
            let nns = match effort {
                Effort::Recall(target) => reader.nns(k).recall(target),
                Effort::SearchK(sketches) => reader.nns(k).search_k(sketches),
                Effort::All => reader.nns(k).exact(),
            };
            let found = nns.by_vector(vector)?;
            hits.extend(found.iter().map(|hit| (hit.id, self.metric.of_hit(hit.distance))));
        }
        if let Some(id) = own {
            self.put_own(&mut hits, id, n);
        }
        if !self.facts.zeros.is_empty() {
            hits.extend(self.facts.zeros.iter().take(n).map(|id| (id, RIGHT_ANGLE)));
            hits.sort_by(|(a, x), (b, y)| x.total_cmp(y).then(a.cmp(b)));
            hits.truncate(n);
        }
        Ok(hits)
    }

    /// An item is its own neighbour, whether the search found it or not. Under the dot product
    /// others may be nearer.
    fn put_own(&self, hits: &mut Vec<(u32, f64)>, id: u32, n: usize) {
        if self.metric == Metric::Dot || hits.iter().any(|(hit, _)| *hit == id) {
            return;
        }
        let place = hits.partition_point(|&(hit, distance)| distance == 0.0 && hit < id);
        if place < n {
            hits.insert(place, (id, 0.0));
            hits.truncate(n);
        }
    }

    /// The lowest ids: all are equally far from a vector of zeros.
    fn lowest(&self, reader: &Reader<'_>, n: usize) -> Result<Vec<(u32, f64)>, Error> {
        let stored = reader.ids()?.take(n).collect::<Result<RoaringBitmap, Error>>()?;
        let ids = stored | &self.facts.zeros;
        Ok(ids.into_iter().take(n).map(|id| (id, RIGHT_ANGLE)).collect())
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        // Locks and slots are the parent's: a child never gives them back.
        if !self.is_of_this_process() {
            std::mem::forget((self.snapshot.clone(), self.store.clone()));
        }
    }
}

pub(crate) fn file_error(path: &Path, source: std::io::Error) -> Error {
    Error::File { path: path.to_owned(), source }
}

/// Device and inode of a file that is there.
#[cfg(unix)]
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Processes do not fork here.
#[cfg(not(unix))]
fn identity(_: &Path) -> Option<(u64, u64)> {
    None
}
