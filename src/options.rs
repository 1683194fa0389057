//! Options, their defaults, and the reasons for them.

use std::fmt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::index_spec::IndexSpec;
use crate::limits::{
    DIMS, LEAF_SIZES, TREES, dims_words, is_sketch_bits, leaf_sizes_words, sketch_bits_words,
    trees_words,
};
use crate::metric::Metric;
use crate::progress::ProgressCallback;
use crate::storage::Storage;

/// What an index is: fixed when it is created, checked whenever it is opened.
///
/// ```
/// use spinney::{IndexOptions, Metric};
/// let options = IndexOptions::new(384, Metric::Cosine);
/// assert_eq!((options.dims(), options.metric()), (384, Metric::Cosine));
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct IndexOptions {
    dims: usize,
    metric: Metric,
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    storage: Option<Storage>,
}

impl IndexOptions {
    #[doc = concat!("An index of vectors of `dims` components (", dims_words!(), "), compared by")]
    /// `metric`.
    #[must_use]
    pub fn new(dims: usize, metric: Metric) -> Self {
        Self { dims, metric, storage: None }
    }

    /// Components of each vector.
    #[must_use]
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// How vectors are compared.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// How vectors are stored. Default: as the index stores them; [`Storage::F32`] for a new one,
    /// and bits under the Hamming metric, which has no other.
    #[must_use]
    pub fn storage(mut self, storage: Storage) -> Self {
        self.storage = Some(storage);
        self
    }

    /// An error unless an index stores its vectors as was asked for, if it was.
    pub(crate) fn expect_storage(&self, spec: IndexSpec) -> Result<()> {
        match self.storage {
            Some(got) if got != spec.storage => {
                Err(Error::StorageMismatch { index: spec.index, expected: spec.storage, got })
            }
            _ => Ok(()),
        }
    }

    /// What the index of this number is, if it is new.
    pub(crate) fn spec(&self, index: u16) -> Result<IndexSpec> {
        if !DIMS.contains(self.dims) {
            return Err(Error::DimensionsOutOfRange { got: self.dims, max: DIMS.high });
        }
        let storage = self.storage.unwrap_or(Storage::default_for(self.metric));
        IndexSpec { index, dims: self.dims, metric: self.metric, storage }.check_storage()
    }
}

/// How a forest is built. The defaults suit nearly everyone.
///
/// The shape of the forest (trees, spill, leaf size, sketch bits, seed) is recorded in the index.
/// An option that is not set means "as the index was built last". For an index that was never
/// built, it means the default. A leaf size that was never set follows the number of items.
///
/// ```
/// use spinney::BuildOptions;
/// use std::ops::ControlFlow;
/// let progress = |p: &spinney::Progress| {
///     eprintln!("{}: {} of {}", p.phase, p.done, p.total);
///     ControlFlow::Continue(())
/// };
/// let options = BuildOptions::default().trees(2).seed(7).progress(&progress);
/// # let _ = options;
/// ```
#[derive(Copy, Clone, Default)]
pub struct BuildOptions<'a> {
    pub(crate) trees: Option<usize>,
    pub(crate) spill: Option<bool>,
    pub(crate) leaf_size: Option<usize>,
    pub(crate) sketch_bits: Option<u8>,
    pub(crate) seed: Option<u64>,
    pub(crate) is_anew: bool,
    pub(crate) bytes_per_commit: Option<usize>,
    pub(crate) thread_pool: Option<&'a rayon::ThreadPool>,
    pub(crate) progress: Option<ProgressCallback<'a>>,
    pub(crate) memory: Option<u64>,
    pub(crate) temp_dir: Option<&'a Path>,
}

impl<'a> BuildOptions<'a> {
    #[doc = concat!("How many trees the forest has, ", trees_words!(), ". Default 1:")]
    /// a second tree finds what the first misses, but spill does so for less.
    #[must_use]
    pub fn trees(mut self, trees: usize) -> Self {
        self.trees = Some(trees);
        self
    }

    /// Whether each item is put in a second leaf of each tree. Default on: for equal recall, one
    /// tree with spill scans fewer sketches than two trees without.
    // Measured: docs/trials.md, "Spill".
    #[must_use]
    pub fn spill(mut self, spill: bool) -> Self {
        self.spill = Some(spill);
        self
    }

    #[doc = concat!("How many entries a leaf holds at most, ", leaf_sizes_words!(), ".")]
    /// Default 256 for up to 100,000 items, and 48 more for each doubling beyond.
    ///
    /// The default follows an index that grows; only a bulk build makes it smaller again. A size
    /// that was given once is kept. Leaves are split above three quarters of it, and hold about
    /// half of it on average. Smaller leaves scan fewer sketches for the same recall and take less
    /// time to write when an item changes. They cost more look-ups and more branches.
    #[must_use]
    pub fn leaf_size(mut self, entries: usize) -> Self {
        self.leaf_size = Some(entries);
        self
    }

    #[doc = concat!("Bits per dimension of leaf sketches: ", sketch_bits_words!(), ".")]
    /// Default 4 for up to 64 dimensions, 2 up to 192, then 1 (Manhattan: 4 up to 128, then 2).
    /// Fewer bits scan faster and need more reranking. Hamming ignores it: its sketches are the
    /// bits themselves.
    #[must_use]
    pub fn sketch_bits(mut self, bits: u8) -> Self {
        self.sketch_bits = Some(bits);
        self
    }

    /// Fixes every random choice. The same seed and the same operations give the same bytes at any
    /// number of threads. This holds among machines of the same SIMD level. Default 0.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Builds the whole forest anew, whatever the change. After great changes it may recover some
    /// speed. Under the dot product, much longer vectors may have come. Then it recovers recall at
    /// once, and other builds do so step by step.
    #[must_use]
    pub fn rebuild(mut self, anew: bool) -> Self {
        self.is_anew = anew;
        self
    }

    /// After how many bytes of nodes [`Writer::build_in_commits`](crate::Writer::build_in_commits)
    /// commits. Default 64 MiB. LMDB holds about as much in memory. Other builds ignore it.
    #[must_use]
    pub fn bytes_per_commit(mut self, bytes: usize) -> Self {
        self.bytes_per_commit = Some(bytes);
        self
    }

    /// The pool whose threads compute. Default: the pool of the calling thread, else rayon's global
    /// pool.
    ///
    /// Do not open write transactions in several tasks of one rayon pool. A thread that waits for
    /// its build runs another task meanwhile. If that task opens a write transaction, it waits for
    /// ever: its own thread holds the other one.
    #[must_use]
    pub fn thread_pool(mut self, pool: &'a rayon::ThreadPool) -> Self {
        self.thread_pool = Some(pool);
        self
    }

    /// Called while the build computes, after each step.
    ///
    /// A step is some milliseconds of work. While the centroids of millions of items are computed,
    /// it may take some seconds. If the callback returns
    /// [`ControlFlow::Break`](std::ops::ControlFlow::Break), the build ends with
    /// [`Error::Cancelled`] and has changed nothing. It is not called any more once writing has
    /// begun, but by builds in several commits: these call it after each commit, while they hold no
    /// transaction that writes. A panic in it passes through the build and changes nothing either.
    #[must_use]
    pub fn progress(mut self, callback: ProgressCallback<'a>) -> Self {
        self.progress = Some(callback);
        self
    }

    /// How many bytes of memory a bulk build may take. Any number will do. Default: a quarter of
    /// what is available when the build begins, at least 256 MiB. Where the system does not tell,
    /// it is 256 MiB.
    ///
    /// What exceeds it goes to temporary files: see [`BuildOptions::temp_dir`]. The budget does not
    /// show in the index. It covers what the build allocates, up to some 64 MiB more. There are two
    /// things that it does not cover:
    ///
    /// - Pages of LMDB's map, which the system takes back when it needs memory.
    /// - Pages that LMDB holds until the commit, because the transaction has changed them. They have
    ///   about the size of the forest and of what else it has written.
    ///
    /// Some things are in memory whatever the budget: a sample of the vectors (at most 128 MiB), 4
    /// bytes for each item, and several copies of the centroids of all leaves. A leaf has some 200
    /// items, and a centroid 4 bytes for each dimension.
    ///
    /// Incremental builds ignore it: they hold the changes and the leaves concerned.
    ///
    /// # Cost
    /// Some of the time of a build, as sketches are written three times and read twice more.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// let options = spinney::BuildOptions::default().memory(512 << 20).temp_dir(folder.path());
    /// # let _ = options;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    // Measured: docs/trials.md, "Builds within a budget".
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// The folder for temporary files of bulk builds that exceed their [`memory`](Self::memory).
    /// Default: [`std::env::temp_dir`].
    ///
    /// They take about twice the size of the forest, and 48 bytes for each item. Under the Manhattan
    /// metric they also take the vectors, twice if there is spill. They have no names while
    /// they are in use. So none is left, however the build ends. If one fails, the build ends with
    /// [`Error::TemporaryFile`].
    #[must_use]
    pub fn temp_dir(mut self, folder: &'a Path) -> Self {
        self.temp_dir = Some(folder);
        self
    }

    /// Checks the ranges of all options that are set.
    pub(crate) fn check(&self) -> Result<()> {
        let limits = [("trees", self.trees, TREES), ("leaf_size", self.leaf_size, LEAF_SIZES)];
        for (name, value, limit) in limits {
            if let Some(got) = value.filter(|value| !limit.contains(*value)) {
                return Err(Error::option(name, limit.words, got));
            }
        }
        match self.sketch_bits {
            Some(got) if !is_sketch_bits(got) => {
                Err(Error::option("sketch_bits", sketch_bits_words!(), got))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for BuildOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildOptions")
            .field("trees", &self.trees)
            .field("spill", &self.spill)
            .field("leaf_size", &self.leaf_size)
            .field("sketch_bits", &self.sketch_bits)
            .field("seed", &self.seed)
            .field("rebuild", &self.is_anew)
            .field("bytes_per_commit", &self.bytes_per_commit)
            .field("thread_pool", &self.thread_pool)
            .field("progress", &self.progress.map(|_| "callback"))
            .field("memory", &self.memory)
            .field("temp_dir", &self.temp_dir)
            .finish()
    }
}

/// How a build went about its work.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum BuildMethod {
    /// There was nothing to do: no changes, or no items, neither now nor in the forest.
    Nothing,
    /// The whole forest was built anew, or deleted with its last item.
    Bulk,
    /// Only the leaves concerned were changed.
    Incremental,
}

/// What a build did.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct BuildStats {
    /// How it went about it.
    pub method: BuildMethod,
    /// Items in the forest now.
    pub items: u64,
    /// Trees of the forest.
    pub trees: usize,
    /// Items added to the forest, those that were overwritten included.
    pub items_added: u64,
    /// Items removed from the forest, those that were overwritten included.
    pub items_removed: u64,
    /// Leaves written, in all trees.
    pub leaves: u64,
    /// Branches written, in all trees.
    pub branches: u64,
    /// Leaves that were split because they were overfull (incremental builds).
    pub leaves_split: u64,
    /// Leaves that were merged into their neighbours because they were underfull (incremental
    /// builds).
    pub leaves_merged: u64,
    /// Items that changed over to another leaf because it is nearer now (incremental builds).
    pub items_reassigned: u64,
    /// Bytes of the nodes and lists written. The record (1 KiB) and, by bulk builds, the origin
    /// come on top.
    pub bytes_written: u64,
}
